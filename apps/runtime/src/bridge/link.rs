//! Decides how one relay is spoken to: a web socket with bounds on time and size, events out, `OK` back (NIP-01). What
//! else a relay says is passed over; one that talks nonsense, falls silent or hangs up costs a little time.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::{Sink, Stream, StreamExt as _};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use url::Url;

/// Until a connection stands, with TLS and the web socket's greeting.
const CONNECT: Duration = Duration::from_secs(10);
/// Until the next word of a relay that owes one.
const ANSWER: Duration = Duration::from_secs(5);
/// For everything that is sent at one time.
const EXCHANGE: Duration = Duration::from_secs(30);
/// The largest message of a relay that is read.
const LARGEST: usize = 64 * 1024;
/// Messages that are no answers, until a relay is taken not to listen.
const NOISE: usize = 256;

static TRUST: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
});

trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Wire for T {}

/// What a relay says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// Whether asking again later may help, whether it wants to be asked less, and what it said.
    Refused {
        hopeless: bool,
        slower: bool,
        why: String,
    },
}

/// A connection to a relay.
pub struct Link(WebSocketStream<Box<dyn Wire>>);

/// What came of sending some events.
pub struct Exchange {
    /// By event id. Who is not here was not answered.
    pub answers: HashMap<String, Answer>,
    /// Why the connection is of no more use.
    pub broken: Option<String>,
}

impl Link {
    pub async fn connect(url: &str) -> Result<Self, String> {
        match timeout(CONNECT, connect(url)).await {
            Ok(done) => done.map(Link),
            Err(_) => Err("no connection within ten seconds".into()),
        }
    }

    /// Sends events and waits until each is answered or the relay's time is over.
    pub async fn exchange(&mut self, events: &[(&str, &str)]) -> Exchange {
        let mut answers = HashMap::new();
        let end = Instant::now() + EXCHANGE;
        let broken = converse(&mut self.0, events, &mut answers, end).await.err();
        Exchange { answers, broken }
    }
}

async fn connect(url: &str) -> Result<WebSocketStream<Box<dyn Wire>>, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    // An IPv6 address stands in brackets in a URL and nowhere else.
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = parsed.port_or_known_default().unwrap_or(443);
    let socket = TcpStream::connect((host.as_str(), port)).await.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let wire: Box<dyn Wire> = match parsed.scheme() {
        "wss" => {
            let trust = TRUST.as_ref().map_err(ToString::to_string)?;
            let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
            let private = TlsConnector::from(trust.clone()).connect(name, socket).await;
            Box::new(private.map_err(|error| error.to_string())?)
        }
        _ => Box::new(socket),
    };
    let bounds = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let greeted = client_async_with_config(url, wire, Some(bounds)).await;
    greeted.map(|(stream, _)| stream).map_err(|error| error.to_string())
}

async fn converse<S, E>(
    link: &mut S,
    events: &[(&str, &str)],
    answers: &mut HashMap<String, Answer>,
    end: Instant,
) -> Result<(), String>
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
    E: std::fmt::Display,
{
    use futures_util::SinkExt as _;
    let sending = async {
        for (_, event) in events {
            link.feed(Message::text(format!("[\"EVENT\",{event}]"))).await?;
        }
        link.flush().await
    };
    let sent = timeout(ANSWER, sending).await.map_err(|_| "it takes nothing".to_owned())?;
    sent.map_err(|error| error.to_string())?;
    let mut noise = 0;
    while answers.len() < events.len() {
        let patience = (Instant::now() + ANSWER).min(end);
        let said = timeout_at(patience, link.next()).await.map_err(|_| "it does not answer".to_owned())?;
        let said = said.ok_or("it hung up")?.map_err(|error| error.to_string())?;
        let answer = match &said {
            Message::Text(text) => read(text.as_str()),
            Message::Close(_) => return Err("it hung up".into()),
            _ => None,
        };
        match answer.filter(|(id, _)| events.iter().any(|(known, _)| known == id)) {
            Some((id, answer)) => {
                answers.insert(id, answer);
            }
            None => noise += 1,
        }
        if noise > NOISE {
            return Err("it talks of something else".into());
        }
    }
    Ok(())
}

/// An `OK`, if it is one.
fn read(text: &str) -> Option<(String, Answer)> {
    let said: Vec<Value> = serde_json::from_str(text).ok()?;
    let [verb, id, accepted, rest @ ..] = said.as_slice() else { return None };
    if verb != "OK" {
        return None;
    }
    let why = rest.first().and_then(Value::as_str).unwrap_or_default();
    let prefix = why.split(':').next().unwrap_or_default();
    let answer = match (accepted.as_bool()?, prefix) {
        // It has this event already, or a later one of the same address.
        (true, _) | (false, "duplicate" | "replaced") => Answer::Accepted,
        (false, _) => Answer::Refused {
            hopeless: !matches!(prefix, "rate-limited" | "error"),
            slower: prefix == "rate-limited",
            why: why.chars().take(200).collect(),
        },
    };
    Some((id.as_str()?.to_owned(), answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ok_is_an_answer() {
        let answer = |text: &str| read(text).map(|(_, answer)| answer);
        assert_eq!(answer(r#"["OK","a",true,""]"#), Some(Answer::Accepted));
        assert_eq!(answer(r#"["OK","a",true]"#), Some(Answer::Accepted));
        assert_eq!(answer(r#"["OK","a",false,"duplicate: have it"]"#), Some(Answer::Accepted));
        assert_eq!(answer(r#"["OK","a",false,"replaced: have newer event"]"#), Some(Answer::Accepted));
        let refused = |text: &str| match answer(text) {
            Some(Answer::Refused { hopeless, .. }) => hopeless,
            other => panic!("{other:?}"),
        };
        assert!(!refused(r#"["OK","a",false,"rate-limited: slow down"]"#));
        assert!(!refused(r#"["OK","a",false,"error: disk full"]"#));
        for hopeless in ["blocked: you", "invalid: no", "pow: 28", "auth-required: who", ""] {
            assert!(refused(&format!(r#"["OK","a",false,"{hopeless}"]"#)), "{hopeless}");
        }
        for noise in [
            "",
            "{}",
            "[]",
            "[1]",
            "null",
            r#"["OK"]"#,
            r#"["OK","a"]"#,
            r#"["OK",1,true,""]"#,
            r#"["OK","a","yes",""]"#,
            r#"["NOTICE","OK","a",true]"#,
            "\u{0}",
        ] {
            assert_eq!(read(noise), None, "{noise}");
        }
    }
}
