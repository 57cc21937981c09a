//! Decides what a question may look like, so that it is safe on a live system: whatever is not a GET carries a
//! body that is no JSON at all, and rows that act without reading a body are asked without a credential only.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use oa_contract::Service;
use reqwest::header::{ALLOW, CONTENT_TYPE};
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinSet;

use super::Pair;
use crate::{data_dir::reveal, failure::Failure};

/// How many questions are open at one time.
const WIDTH: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);
/// A stream is not read to its end, and nothing else is longer.
const ENOUGH: usize = 8 * 1024 * 1024;
/// The body of every question that could otherwise change something: it is cut off behind its first byte.
const BROKEN: &str = "[";

/// What the asker shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The token that opens the service's rows.
    Token,
    Nothing,
    /// A bearer token that nobody made.
    Unknown,
    /// A signed header that nobody signed.
    Forged,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub port: Service,
    pub method: &'static str,
    pub path: String,
    pub show: Show,
    pub body: Option<&'static str>,
}

impl Probe {
    pub fn get(port: Service, path: impl Into<String>) -> Self {
        Probe { port, method: "GET", path: path.into(), show: Show::Token, body: None }
    }

    /// A question with this method; whatever is not a GET carries a broken body.
    pub fn of(port: Service, method: &'static str, path: impl Into<String>) -> Self {
        let body = (method != "GET").then_some(BROKEN);
        Probe { port, method, path: path.into(), show: Show::Token, body }
    }

    pub fn showing(self, show: Show) -> Self {
        Probe { show, ..self }
    }

    /// JSON whose members the row refuses.
    pub fn saying(self, body: &'static str) -> Self {
        Probe { body: Some(body), ..self }
    }

    pub fn is_broken(&self) -> bool {
        self.body == Some(BROKEN)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        f.write_str(match self.show {
            Show::Token => "",
            Show::Nothing => " without a credential",
            Show::Unknown => " with an unknown token",
            Show::Forged => " with a forged signature",
        })
    }
}

/// What came back, or why nothing did.
#[derive(Clone, Debug)]
pub enum Heard {
    Answer(Answer),
    Nothing(String),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The methods of the `allow` header, sorted.
    pub allow: Vec<String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of a refusal, as either service writes it.
    pub fn code(&self) -> Option<String> {
        let body = self.json();
        body["error"].as_str().or_else(|| body["error"]["code"].as_str()).map(str::to_owned)
    }

    /// Whether the service says that nothing stands at this path.
    pub fn is_unserved(&self) -> bool {
        self.status == 404
            && self.json()["detail"].as_str().is_some_and(|detail| detail.starts_with("nothing is served"))
    }
}

impl Heard {
    pub fn status(&self) -> Option<u16> {
        self.answer().map(|answer| answer.status)
    }

    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Heard::Answer(answer) => Some(answer),
            Heard::Nothing(_) => None,
        }
    }

    pub fn json(&self) -> Value {
        self.answer().map(Answer::json).unwrap_or_default()
    }

    pub fn code(&self) -> Option<String> {
        self.answer().and_then(Answer::code)
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Nothing(why) => write!(f, "no answer: {why}"),
            Heard::Answer(answer) => {
                write!(f, "{}", answer.status)?;
                if let Some(code) = answer.code() {
                    write!(f, " {code}")?;
                }
                match answer.allow.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", allow {}", answer.allow.join(",")),
                }
            }
        }
    }
}

/// Asks both services. Clones share one pool of connections.
#[derive(Clone)]
pub struct Asker {
    http: reqwest::Client,
    control: String,
    runtime: String,
    personal_token: SecretString,
    service_token: Option<SecretString>,
    /// A segment that names nothing, different in every run.
    nothing: Arc<str>,
}

impl Asker {
    pub fn new(pair: &Pair) -> Result<Self, Failure> {
        // Fails when the process has chosen a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .map_err(|error| Failure::wrong(error.to_string()))?;
        let random = oa_contract::credential::hex(&crate::system::random()[..8]);
        Ok(Asker {
            http,
            control: pair.control.clone(),
            runtime: pair.runtime.clone(),
            personal_token: pair.personal_token.clone(),
            service_token: pair.service_token.clone(),
            nothing: format!("oa-conformance-{random}").into(),
        })
    }

    /// A segment that names nothing.
    pub fn nothing(&self) -> &str {
        &self.nothing
    }

    pub fn base(&self, service: Service) -> &str {
        match service {
            Service::Control => &self.control,
            Service::Runtime => &self.runtime,
        }
    }

    pub async fn ask(&self, probe: &Probe) -> Heard {
        match self.answer(probe).await {
            Ok(answer) => Heard::Answer(answer),
            Err(error) => Heard::Nothing(error.to_string()),
        }
    }

    /// Asks everything, a few at a time, and gives what was heard in the order of the questions.
    pub async fn all(&self, probes: &[Probe]) -> Vec<Heard> {
        let (probes, next) = (Arc::new(probes.to_vec()), Arc::new(AtomicUsize::new(0)));
        let mut askers = JoinSet::new();
        for _ in 0..WIDTH.min(probes.len()) {
            let (asker, probes, next) = (self.clone(), probes.clone(), next.clone());
            askers.spawn(async move {
                let mut heard = Vec::new();
                while let Some((at, probe)) = take(&probes, &next) {
                    heard.push((at, asker.ask(probe).await));
                }
                heard
            });
        }
        let broke_off = || Heard::Nothing("the question broke off".to_owned());
        let mut all: Vec<Heard> = probes.iter().map(|_| broke_off()).collect();
        while let Some(some) = askers.join_next().await {
            for (at, heard) in some.unwrap_or_default() {
                all[at] = heard;
            }
        }
        all
    }

    async fn answer(&self, probe: &Probe) -> Result<Answer, reqwest::Error> {
        let url = format!("{}{}", self.base(probe.port), probe.path);
        let method = reqwest::Method::from_bytes(probe.method.as_bytes()).unwrap_or_default();
        let mut request = self.http.request(method, url);
        request = match (probe.show, probe.port) {
            (Show::Nothing, _) => request,
            (Show::Token, Service::Control) => request.bearer_auth(reveal(&self.personal_token)),
            (Show::Token, Service::Runtime) => match &self.service_token {
                Some(token) => request.bearer_auth(reveal(token)),
                None => request,
            },
            (Show::Unknown, Service::Control) => request.bearer_auth(format!("oa_pat_{}", self.nothing)),
            (Show::Unknown, Service::Runtime) => request.bearer_auth(format!("oa_st_{}", self.nothing)),
            (Show::Forged, _) => request.header(
                oa_contract::credential::SIGNATURE_HEADER,
                format!("v1.{}.{}", self.nothing, self.nothing),
            ),
        };
        if let Some(body) = probe.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let endless = text(CONTENT_TYPE).starts_with("text/event-stream");
        let mut allow: Vec<String> =
            text(ALLOW).split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
        allow.sort_unstable();
        allow.dedup();
        let body = if endless { Vec::new() } else { read(response).await? };
        Ok(Answer { status, allow, body })
    }
}

fn take<'a>(probes: &'a [Probe], next: &AtomicUsize) -> Option<(usize, &'a Probe)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    probes.get(at).map(|probe| (at, probe))
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ENOUGH {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_has_no_body() {
        assert!(Probe::of(Service::Control, "GET", "/x").body.is_none());
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let probe = Probe::of(Service::Control, method, "/x");
            assert!(serde_json::from_str::<Value>(probe.body.expect("a body")).is_err());
        }
    }

    #[test]
    fn a_refusal_is_read_in_both_shapes() {
        let answer = |body: &str| Answer { status: 404, allow: Vec::new(), body: body.into() };
        assert_eq!(answer(r#"{"error":"not_built"}"#).code().as_deref(), Some("not_built"));
        assert_eq!(answer(r#"{"error":{"code":"not_found"}}"#).code().as_deref(), Some("not_found"));
        assert!(answer(r#"{"detail":"nothing is served at /x"}"#).is_unserved());
        assert!(!answer("<html>").is_unserved());
    }
}
