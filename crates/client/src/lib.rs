//! Calls any operation of the table: the row gives method and path, the types give the rest. There is one call
//! for all of them, and no list of routes.

mod pool;

use std::{fmt, sync::Arc, time::Duration};

use bytes::BytesMut;
use http_body_util::Full;
use oa_contract::{
    Clock, Ids, Method, Operation, Owner,
    credential::{self, Bound, SIGNATURE_HEADER},
    operation::{Body as _, Call, PathParams, Query as _},
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use self::pool::Pool;

/// Bytes of a whole answer that are collected at most: twice what a service of ours says at once. Whoever wants more
/// reads it page by page, or as a stream.
const LARGEST: usize = 64 * 1024 * 1024;

/// How the client says who it is.
#[derive(Clone)]
pub enum Identity {
    Nobody,
    /// A service token, a session or a personal token.
    Bearer(String),
    /// A signed header that binds each request (docs/security.md, Who may call).
    Signed(Signing),
}

/// What a signature is made of.
#[derive(Clone)]
pub struct Signing {
    pub secret: Vec<u8>,
    pub ttl_seconds: i64,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Identity::Nobody => "Nobody",
            Identity::Bearer(_) => "Bearer(…)",
            Identity::Signed(_) => "Signed(…)",
        })
    }
}

/// A service to be called. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    /// Where nothing but plain HTTP is spoken, whole answers come this way: it is shorter.
    plain: Option<Arc<Pool>>,
    identity: Identity,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The service refused. `code` and `message` are its own words.
    Refused { status: u16, code: String, message: String, retry_after_seconds: Option<u64> },
    /// No answer arrived. The service may have done the work all the same: look it up, or repeat with the same key.
    NoAnswer(String),
    /// The answer is not of the promised shape.
    Unreadable(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Refused { status, code, message, .. } => {
                write!(f, "refused with {status} {code}: {message}")
            }
            CallError::NoAnswer(why) => write!(f, "no answer: {why}"),
            CallError::Unreadable(why) => write!(f, "the answer cannot be read: {why}"),
        }
    }
}

impl std::error::Error for CallError {}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Raw {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// A call that is written down: where it goes and what it says, but not yet signed.
#[derive(Clone, Debug)]
pub struct Prepared {
    method: Method,
    url: Url,
    body: Option<bytes::Bytes>,
}

/// What a single call adds to the client's usual manners.
#[derive(Clone, Debug, Default)]
pub struct Manner<'a> {
    pub headers: &'a [(&'static str, &'a str)],
    /// Binds a signed credential to one owner.
    pub owner: Option<Owner>,
    pub timeout: Option<Duration>,
}

impl Client {
    /// `base` is the address of a service, without a path.
    pub fn new(base: &str, identity: Identity) -> Result<Self, String> {
        let base = Url::parse(base).map_err(|error| format!("{base:?} is not a URL: {error}"))?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(format!("{base} is not an http or https address"));
        }
        // Fails when the process has chosen a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            // Our services close a connection that says nothing for 15 seconds.
            .pool_idle_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| error.to_string())?;
        let plain = Pool::new(&base).map(Arc::new);
        Ok(Client { base, http, plain, identity })
    }

    /// The address that this client calls.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Calls an operation and reads its reply.
    pub async fn call<O: Operation>(&self, call: Call<O>) -> Result<O::Reply, CallError>
    where
        O::Reply: DeserializeOwned,
    {
        self.call_with(call, Manner::default()).await
    }

    /// Calls an operation in a certain manner and reads its reply.
    pub async fn call_with<O: Operation>(
        &self,
        call: Call<O>,
        manner: Manner<'_>,
    ) -> Result<O::Reply, CallError>
    where
        O::Reply: DeserializeOwned,
    {
        let raw = self.send(call, manner).await?.accepted()?;
        serde_json::from_slice(&raw.body)
            .map_err(|error| CallError::Unreadable(format!("{}: {error}", O::ROW.name)))
    }

    /// Calls an operation and gives the whole answer as it came, whatever its status.
    pub async fn send<O: Operation>(&self, call: Call<O>, manner: Manner<'_>) -> Result<Raw, CallError> {
        let prepared = self.prepare(&call)?;
        self.send_prepared(&prepared, manner).await
    }

    /// Calls an operation whose answer is a stream, and gives the response once its head has come.
    pub async fn open<O: Operation>(
        &self,
        call: Call<O>,
        manner: Manner<'_>,
    ) -> Result<reqwest::Response, CallError> {
        let prepared = self.prepare(&call)?;
        self.open_prepared(&prepared, manner).await
    }

    /// Writes a call down, so that it can be sent more than once.
    pub fn prepare<O: Operation>(&self, call: &Call<O>) -> Result<Prepared, CallError> {
        let body = match O::Body::NONE {
            true => None,
            false => Some(
                serde_json::to_vec(&call.body).map_err(|error| CallError::Unreadable(error.to_string()))?,
            ),
        };
        Ok(Prepared { method: O::ROW.method, url: self.url::<O>(call)?, body: body.map(bytes::Bytes::from) })
    }

    /// Writes a call down for a service that serves it at another path than the table says.
    pub fn prepare_at<O: Operation>(&self, call: &Call<O>, path: &str) -> Result<Prepared, CallError> {
        let mut prepared = self.prepare(call)?;
        prepared.url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        Ok(prepared)
    }

    /// Sends a call once, with a signature of its own, and gives the whole answer as it came.
    pub async fn send_prepared(&self, prepared: &Prepared, manner: Manner<'_>) -> Result<Raw, CallError> {
        if let Some(plain) = &self.plain {
            return self.fetch(plain, prepared, manner).await;
        }
        let mut response = self.open_prepared(prepared, manner).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(more) = response.chunk().await.map_err(|error| CallError::NoAnswer(chain(&error)))? {
            if body.len() + more.len() > LARGEST {
                return Err(CallError::NoAnswer(too_large(LARGEST)));
            }
            body.extend_from_slice(&more);
        }
        Ok(Raw { status, headers, body: body.freeze() })
    }

    async fn fetch(&self, plain: &Pool, prepared: &Prepared, manner: Manner<'_>) -> Result<Raw, CallError> {
        let unwritable = |error: http::Error| CallError::Unreadable(error.to_string());
        let mut request = http::Request::builder()
            .method(prepared.method.name())
            .uri(prepared.target())
            .header(ACCEPT, "*/*");
        request = match self.credential(prepared, manner.owner.as_ref()) {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        for (name, value) in manner.headers {
            request = request.header(*name, *value);
        }
        if prepared.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(prepared.body.clone().unwrap_or_default());
        let fetched = plain.fetch(request.body(body).map_err(unwritable)?);
        let fetched = match manner.timeout {
            None => fetched.await,
            Some(limit) => tokio::time::timeout(limit, fetched)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis()))),
        };
        let (parts, body) = fetched.map_err(CallError::NoAnswer)?;
        Ok(Raw { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// The header that says who we are.
    fn credential(&self, prepared: &Prepared, owner: Option<&Owner>) -> Option<(&'static str, String)> {
        match &self.identity {
            Identity::Nobody => None,
            Identity::Bearer(token) => Some(("authorization", format!("Bearer {token}"))),
            Identity::Signed(signing) => Some((SIGNATURE_HEADER, signature(signing, prepared, owner))),
        }
    }

    async fn open_prepared(
        &self,
        prepared: &Prepared,
        manner: Manner<'_>,
    ) -> Result<reqwest::Response, CallError> {
        let method = match prepared.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = self.http.request(method, prepared.url.clone());
        request = match self.credential(prepared, manner.owner.as_ref()) {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        for (name, value) in manner.headers {
            request = request.header(*name, *value);
        }
        if let Some(timeout) = manner.timeout {
            request = request.timeout(timeout);
        }
        if let Some(body) = &prepared.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        request.send().await.map_err(|error| CallError::NoAnswer(chain(&error)))
    }

    /// The row's path with its parameters, each of them one encoded segment whatever it holds.
    fn url<O: Operation>(&self, call: &Call<O>) -> Result<Url, CallError> {
        let mut url = self.base.clone();
        let mut values = call.path.values().into_iter();
        {
            let mut segments = url
                .path_segments_mut()
                .map_err(|()| CallError::Unreadable("the base is not an address".into()))?;
            segments.pop_if_empty();
            for pattern in O::ROW.path.split('/').skip(1) {
                if !pattern.starts_with(':') {
                    segments.push(pattern);
                    continue;
                }
                let value = values.next().unwrap_or_default();
                if matches!(value.as_str(), "" | "." | "..") {
                    // These would take a segment away instead of being one.
                    return Err(CallError::Unreadable(format!("{value:?} cannot stand in a path")));
                }
                segments.push(&value);
            }
        }
        debug_assert_eq!(<O::Path as PathParams>::NAMES.len(), call.path.values().len());
        if !O::Query::NONE {
            let query = serde_json::to_value(&call.query)
                .map_err(|error| CallError::Unreadable(error.to_string()))?;
            append_query(&mut url, &query);
        }
        Ok(url)
    }
}

impl Prepared {
    /// Path and query, as they are sent and signed.
    fn target(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

impl Raw {
    /// The usual words for the status, e.g. `Not Found`.
    pub fn reason(&self) -> &'static str {
        reqwest::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("")
    }

    /// This answer if it is one of success, otherwise the refusal that it carries.
    pub fn accepted(self) -> Result<Raw, CallError> {
        match (200..300).contains(&self.status) {
            true => Ok(self),
            false => Err(refusal(&self)),
        }
    }
}

fn append_query(url: &mut Url, query: &Value) {
    for (name, value) in query.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        url.query_pairs_mut().append_pair(name, &text);
    }
}

fn signature(signing: &Signing, prepared: &Prepared, owner: Option<&Owner>) -> String {
    let bound = Bound {
        method: prepared.method.name(),
        path: prepared.target(),
        body: prepared.body.as_deref().unwrap_or_default(),
    };
    let nonce = format!("nonce-{}", signing.ids.uuid32());
    credential::sign(&signing.secret, bound, owner, nonce, signing.clock.now(), signing.ttl_seconds)
}

/// Reads the flat body of the runtime or the envelope of control.
fn refusal(raw: &Raw) -> CallError {
    let body: Value = serde_json::from_slice(&raw.body).unwrap_or(Value::Null);
    let code = body["error"].as_str().or_else(|| body["error"]["code"].as_str()).unwrap_or("unknown");
    let message = body["message"].as_str().or_else(|| body["detail"].as_str()).unwrap_or("no message");
    let retry_after_seconds =
        raw.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    CallError::Refused {
        status: raw.status,
        code: code.to_owned(),
        message: message.to_owned(),
        retry_after_seconds,
    }
}

fn too_large(most: usize) -> String {
    format!("the answer is larger than {most} bytes: ask for less at a time")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        out = format!("{out}: {error}");
        next = error.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        Nothing,
        matrix::{WorkersGet, WorkersList},
        wire::{
            paths::WorkerPath,
            workers::{ListWorkers, NameOwner},
        },
    };

    use super::*;

    #[test]
    fn a_path_parameter_stays_one_segment_whatever_it_holds() {
        let client = Client::new("http://127.0.0.1:4100/", Identity::Nobody).expect("a client");
        for id in ["../credit/health?z=", "a/b c", "%2e%2e", "x#y", "ü"] {
            let call = Call::<WorkersGet> {
                path: WorkerPath { worker_id: id.into() },
                query: NameOwner::default(),
                body: Nothing {},
            };
            let url = client.url(&call).expect("a url");
            assert_eq!(url.path_segments().expect("segments").count(), 4, "{url}");
            assert!(url.path().starts_with("/internal/v1/workers/"), "{url}");
        }
        for id in ["", ".", ".."] {
            let path = WorkerPath { worker_id: id.into() };
            let call = Call::<WorkersGet> { path, query: NameOwner::default(), body: Nothing {} };
            assert!(client.url(&call).is_err(), "{id:?} would take a segment away");
        }
    }

    #[test]
    fn a_query_carries_large_integers_exactly_and_leaves_out_what_is_absent() {
        let client = Client::new("http://127.0.0.1:4100", Identity::Nobody).expect("a client");
        let query = ListWorkers { owner_user_id: Some(u64::MAX), ..ListWorkers::default() };
        let url =
            client.url(&Call::<WorkersList> { path: Nothing {}, query, body: Nothing {} }).expect("a url");
        assert_eq!(url.query(), Some("owner_user_id=18446744073709551615"));
    }
}
