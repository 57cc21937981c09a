//! Decides how a whole answer is fetched over plain HTTP: on a connection that is kept, and driven by whoever waits
//! for the answer, so that no other task has to be woken on the way out and back.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header, response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use url::{Host, Url};

use super::{LARGEST, chain, too_large};

/// Our services close a connection that says nothing for 15 seconds; one of ours is not used again when it could
/// be closed while the request is on its way.
const IDLE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Connections that are kept; more are made when they are needed.
const KEPT: usize = 512;

/// Connections to one server.
pub struct Pool {
    host: String,
    port: u16,
    header: HeaderValue,
    /// How long a connection may lie unused.
    patience: Duration,
    /// Bytes of an answer, at most.
    largest: usize,
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}:{})", self.host, self.port)
    }
}

/// A connection that nobody uses.
struct Idle {
    wire: Wire,
    since: Instant,
}

struct Wire {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    ended: bool,
}

/// Why an exchange failed.
enum Failed {
    /// Nothing of the request has left.
    Unsent(Box<Request<Full<Bytes>>>),
    /// It may have arrived.
    Lost(String),
}

type Answer = (response::Parts, Bytes);

impl Pool {
    /// A pool for the server of a plain address; TLS is not ours to speak.
    pub fn new(base: &Url) -> Option<Self> {
        let host = match base.host().filter(|_| base.scheme() == "http")? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let header = match base.port() {
            Some(port) => format!("{}:{port}", base.host_str()?),
            None => base.host_str()?.to_owned(),
        };
        let header = HeaderValue::from_str(&header).ok()?;
        Some(Pool {
            host,
            port: base.port_or_known_default()?,
            header,
            patience: IDLE,
            largest: LARGEST,
            idle: Mutex::default(),
        })
    }

    /// Sends the request once and gives the whole answer, or says why there is none.
    pub async fn fetch(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
        request.headers_mut().insert(header::HOST, self.header.clone());
        while let Some(mut wire) = self.take() {
            match wire.exchange(request, self.largest).await {
                Ok(answer) => {
                    self.keep(wire);
                    return Ok(answer);
                }
                // It was closed while it lay here: nothing is lost by asking on another.
                Err(Failed::Unsent(again)) => request = *again,
                Err(Failed::Lost(why)) => return Err(why),
            }
        }
        let mut wire = self.connect().await?;
        match wire.exchange(request, self.largest).await {
            Ok(answer) => {
                self.keep(wire);
                Ok(answer)
            }
            Err(Failed::Unsent(_)) => Err("the connection was closed before the request was sent".to_owned()),
            Err(Failed::Lost(why)) => Err(why),
        }
    }

    async fn connect(&self) -> Result<Wire, String> {
        let address = (self.host.as_str(), self.port);
        let refused =
            |why: &dyn fmt::Display| format!("{}:{} cannot be reached: {why}", self.host, self.port);
        let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(refused(&error)),
            Err(late) => return Err(refused(&late)),
        };
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
        Ok(Wire { sender, connection, ended: false })
    }

    /// The connection that was used last, if it is still one.
    fn take(&self) -> Option<Wire> {
        loop {
            let mut kept = self.lock();
            let Idle { mut wire, since } = kept.pop()?;
            if since.elapsed() >= self.patience {
                // Those below it have waited longer.
                kept.clear();
                return None;
            }
            drop(kept);
            if wire.is_open() {
                return Some(wire);
            }
        }
    }

    fn keep(&self, mut wire: Wire) {
        if wire.is_open() {
            let mut kept = self.lock();
            if kept.len() < KEPT {
                kept.push(Idle { wire, since: Instant::now() });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Whether the other end has not closed it and it takes a request. Nobody is woken by what happens later.
    fn is_open(&mut self) -> bool {
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        self.drive(&mut nobody);
        !self.ended && self.sender.is_ready()
    }

    /// Moves what was asked and answered as far as it goes.
    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.ended && Pin::new(&mut self.connection).poll(context).is_ready() {
            self.ended = true;
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>, largest: usize) -> Result<Answer, Failed> {
        let Wire { sender, connection, ended } = self;
        let mut answer = pin!(answer(sender, request, largest));
        poll_fn(|context| {
            // The request goes to the connection, the connection to the server, and what is there comes back.
            if let Poll::Ready(answered) = answer.as_mut().poll(context) {
                return Poll::Ready(answered);
            }
            if !*ended && Pin::new(&mut *connection).poll(context).is_ready() {
                *ended = true;
            }
            answer.as_mut().poll(context)
        })
        .await
    }
}

/// What goes beyond `largest` is not read; the connection is not used again.
async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    largest: usize,
) -> Result<Answer, Failed> {
    let response =
        sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => Failed::Unsent(Box::new(request)),
            None => Failed::Lost(chain(&error.into_error())),
        })?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, largest).collect().await.map_err(|error| {
        Failed::Lost(match error.is::<LengthLimitError>() {
            true => too_large(largest),
            false => chain(&*error),
        })
    })?;
    Ok((parts, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
    };

    use super::*;

    /// A server that answers each request of a connection with the number of the connection, and closes it after
    /// `requests` of them; it says when it has.
    async fn server(requests: usize) -> (Pool, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (closed, told) = mpsc::channel(16);
        tokio::spawn(async move {
            for number in 1.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let closed = closed.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4_096];
                    for _ in 0..requests {
                        if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                        stream.write_all(answer.as_bytes()).await.expect("sent");
                    }
                    drop(stream);
                    let _ = closed.send(()).await;
                });
            }
        });
        (Pool::new(&Url::parse(&base).expect("a url")).expect("a pool"), told)
    }

    async fn ask(pool: &Pool) -> String {
        let request = Request::builder().method("POST").uri("/x").body(Full::default()).expect("a request");
        let (parts, body) = pool.fetch(request).await.expect("an answer");
        assert_eq!(parts.status, 200);
        String::from_utf8_lossy(&body).into_owned()
    }

    #[tokio::test]
    async fn one_connection_serves_one_request_after_the_other() {
        let (pool, _told) = server(100).await;
        for _ in 0..20 {
            assert_eq!(ask(&pool).await, "1");
        }
        let (one, two) = tokio::join!(ask(&pool), ask(&pool));
        assert_eq!((one.as_str(), two.as_str()), ("1", "2"), "two at a time take two connections");
        assert_eq!(pool.lock().len(), 2);
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used_even_for_an_act() {
        let (pool, mut told) = server(1).await;
        for number in 1..=5 {
            assert_eq!(ask(&pool).await, number.to_string());
            told.recv().await.expect("closed");
            // Until the close has arrived here: nothing but the other end decides when.
            while pool.lock().last_mut().is_some_and(|idle| idle.wire.is_open()) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn an_answer_beyond_the_limit_is_not_collected_and_its_connection_is_left() {
        let (pool, _told) = server(100).await;
        assert_eq!(ask(&pool).await, "1");
        let pool = Pool { largest: 0, ..pool };
        let request = Request::builder().uri("/x").body(Full::default()).expect("a request");
        let said = pool.fetch(request).await.expect_err("too large");
        assert!(said.contains("larger than 0 bytes"), "{said}");
        let pool = Pool { largest: 1, ..pool };
        assert_eq!(ask(&pool).await, "2", "what is left of the answer is nobody's next answer");
    }

    #[tokio::test]
    async fn a_connection_is_left_before_the_other_end_gets_tired_of_it() {
        let (pool, _told) = server(100).await;
        assert_eq!(ask(&pool).await, "1");
        let pool = Pool { patience: Duration::ZERO, ..pool };
        assert_eq!(ask(&pool).await, "2");
        assert_eq!(ask(&pool).await, "3");
        assert_eq!(pool.lock().len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_nobody_listens_on_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let pool = Pool::new(&Url::parse(&format!("http://{address}")).expect("a url")).expect("a pool");
        let request = Request::builder().uri("/x").body(Full::default()).expect("a request");
        let why = pool.fetch(request).await.expect_err("nobody");
        assert!(why.contains(&address.to_string()), "{why}");
        assert!(Pool::new(&Url::parse("https://example.com").expect("a url")).is_none());
    }
}
