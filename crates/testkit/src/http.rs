//! Requests as a stranger would send them: any method, path, header and bytes.

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// A caller of one service, over a real socket.
#[derive(Clone, Debug)]
pub struct Http {
    pub base: String,
    pub bearer: Option<String>,
    client: reqwest::Client,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answered {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client that follows no redirects and uses no proxy.
fn plain_client() -> reqwest::Client {
    // Making one of ours chooses the TLS provider of the process.
    let _ = oa_client::Client::new("http://127.0.0.1:1", oa_client::Identity::Nobody);
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

impl Http {
    pub fn new(base: impl Into<String>, bearer: Option<String>) -> Self {
        Http { base: base.into(), bearer, client: plain_client() }
    }

    /// Whether the service answers this path with 200, if it answers at all.
    pub async fn is_ok(&self, path: &str) -> bool {
        let sent = self.client.get(format!("{}{path}", self.base)).send().await;
        sent.is_ok_and(|response| response.status() == 200)
    }

    /// The same caller without its credential.
    pub fn anonymous(&self) -> Self {
        Http { bearer: None, ..self.clone() }
    }

    pub fn with_bearer(&self, token: &str) -> Self {
        Http { bearer: Some(token.to_owned()), ..self.clone() }
    }

    /// Sends exactly this.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answered {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.bearer {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answered { status, headers, bytes: response.bytes().await.expect("a body").to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.send("GET", path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answered {
        self.post_with(path, body, &[]).await
    }

    pub async fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answered {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send("POST", path, &all, Some(body.to_string().into_bytes())).await
    }

    /// Opens a response without reading its body, for streams.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(token) = &self.bearer {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }
}
