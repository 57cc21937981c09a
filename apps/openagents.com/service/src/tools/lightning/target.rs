//! Decides what is fetched: a URL that is one, its own host and nobody else's, and headers that are the caller's to
//! set (control §11.5).

use std::time::Duration;

use oa_contract::Refusal;
use oa_fetch::Request;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::tools::fields::{Members, number};

/// A well-formed request to somebody else. Kept sealed while it waits for approval.
#[derive(Clone, Serialize, Deserialize)]
pub struct Target {
    pub given_url: String,
    pub method: String,
    headers: Vec<(String, String)>,
    /// As it is sent.
    body: Option<String>,
    pub given_host: Option<String>,
    pub given_scope: Option<String>,
    timeout_ms: u64,
    /// Scheme, host and port: a credential is good for no other.
    pub origin: String,
    pub host: String,
    pub scope: String,
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
/// Ours to set, or between us and the next hop.
const NOT_THEIRS: [&str; 12] = [
    "authorization",
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

impl Target {
    pub fn read(members: &Members<'_>) -> Result<Self, Refusal> {
        let given_url = members.required("url", 4_096)?;
        let wrong =
            || members.refuse("url", "must be an http or https URL with a host and without credentials");
        let url = Url::parse(given_url).map_err(|_| wrong())?;
        let bare = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !bare {
            return Err(wrong());
        }
        let host = url.host_str().ok_or_else(wrong)?.trim_end_matches('.').to_lowercase();
        let method = members.text("method", 20)?.unwrap_or("GET").to_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return Err(members.refuse("method", format!("must be one of {}", METHODS.join(", "))));
        }
        let headers = headers(members)?;
        let (body, json) = body(members.get("body"));
        let given_host = members.text("host", 255)?;
        let bracketless = |host: &str| host.trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
        if given_host.is_some_and(|given| bracketless(given) != bracketless(&host)) {
            return Err(members.refuse("host", "must be the host of the URL"));
        }
        let given_scope = members.text("scope", 300)?;
        let scope = match given_scope {
            Some(scope) => scope.to_lowercase(),
            None if matches!(url.path(), "" | "/") => "root".into(),
            None => url.path().to_lowercase(),
        };
        let timeout_ms = match members.get("timeout_ms") {
            None => 20_000,
            Some(value) => number(value)
                .ok_or_else(|| members.refuse("timeout_ms", "must be a whole number that is not negative"))?
                .clamp(1_000, 120_000),
        };
        let mut target = Target {
            given_url: given_url.to_owned(),
            method,
            headers,
            body,
            given_host: given_host.map(str::to_owned),
            given_scope: given_scope.map(str::to_owned),
            timeout_ms,
            origin: url.origin().ascii_serialization(),
            host,
            scope,
        };
        if json && !target.headers.iter().any(|(name, _)| name == "content-type") {
            target.headers.push(("content-type".into(), "application/json".into()));
        }
        Ok(target)
    }

    /// The request, with a credential that was bought for it.
    pub fn request(&self, credential: Option<&str>) -> Request {
        let mut headers = self.headers.clone();
        headers
            .extend(credential.map(|credential| ("authorization".to_owned(), format!("L402 {credential}"))));
        Request {
            method: self.method.clone(),
            url: self.given_url.clone(),
            headers,
            body: self.body.clone().unwrap_or_default().into_bytes(),
            timeout: Some(Duration::from_millis(self.timeout_ms)),
        }
    }
}

fn headers(members: &Members<'_>) -> Result<Vec<(String, String)>, Refusal> {
    let wrong = |why: &str| members.refuse("headers", why);
    let Some(value) = members.get("headers") else { return Ok(Vec::new()) };
    let given = value.as_object().ok_or_else(|| wrong("must be an object"))?;
    if given.len() > 40 {
        return Err(wrong("must hold at most 40 headers"));
    }
    let mut headers = Vec::new();
    for (name, value) in given {
        let value = value.as_str().ok_or_else(|| wrong("must hold strings"))?;
        let name = name.trim().to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 120 || !name.bytes().all(token) {
            return Err(wrong("must have names of 1 to 120 characters that are good for a header"));
        }
        if value.chars().count() > 1_024 || value.chars().any(char::is_control) {
            return Err(wrong("must have values of at most 1024 characters, on one line"));
        }
        if !value.trim().is_empty() && !NOT_THEIRS.contains(&name.as_str()) {
            headers.push((name, value.trim().to_owned()));
        }
    }
    Ok(headers)
}

/// The text that is sent, and whether it is JSON of ours.
fn body(value: Option<&Value>) -> (Option<String>, bool) {
    match value {
        None => (None, false),
        Some(Value::String(text)) => (Some(text.clone()), false),
        Some(other) => (Some(other.to_string()), true),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(request: Value) -> Result<Target, Refusal> {
        Target::read(&Members::of(request.as_object().expect("an object"), "request."))
    }

    fn field(request: Value) -> String {
        read(request).err().expect("refused").field.expect("a field")
    }

    #[test]
    fn host_scope_and_origin_come_from_the_url() {
        let target = read(json!({"url": " https://API.Example.com:8443/V1/Answer?q=1 "})).expect("a target");
        assert_eq!((target.host.as_str(), target.scope.as_str()), ("api.example.com", "/v1/answer"));
        assert_eq!((target.origin.as_str(), target.method.as_str()), ("https://api.example.com:8443", "GET"));
        let root =
            read(json!({"url": "http://a.test", "method": "post", "scope": "Demo.Scope", "host": "A.TEST"}));
        let root = root.expect("a target");
        assert_eq!((root.scope.as_str(), root.method.as_str()), ("demo.scope", "POST"));
        assert_eq!(read(json!({"url": "http://a.test/"})).expect("a target").scope, "root");
    }

    #[test]
    fn a_host_that_is_not_the_urls_is_refused() {
        assert_eq!(field(json!({"url": "http://127.0.0.1/", "host": "sats4ai.com"})), "request.host");
    }

    #[test]
    fn what_cannot_be_fetched_is_refused_by_its_field() {
        for url in [
            json!(""),
            json!(7),
            json!("example.com"),
            json!("ftp://a.test/"),
            json!("http://"),
            json!("http://u:p@a.test/"),
            json!("file:///etc/passwd"),
        ] {
            assert_eq!(field(json!({"url": url})), "request.url");
        }
        assert_eq!(field(json!({"url": "http://a.test", "method": "TRACE"})), "request.method");
        assert_eq!(field(json!({"url": "http://a.test", "timeout_ms": "soon"})), "request.timeout_ms");
        let many: serde_json::Map<_, _> = (0..41).map(|n| (format!("x-{n}"), json!("v"))).collect();
        for headers in [
            json!([]),
            json!(many),
            json!({"": "v"}),
            json!({"a b": "v"}),
            json!({"x": 1}),
            json!({"x": "a\r\nb: c"}),
            json!({"x": "v".repeat(1_025)}),
            json!({"x".repeat(121): "v"}),
        ] {
            assert_eq!(field(json!({"url": "http://a.test", "headers": headers})), "request.headers");
        }
    }

    #[test]
    fn headers_that_are_not_the_callers_are_left_out() {
        let headers = json!({"Authorization": "Bearer x", "HOST": "b", "content-length": "9", "Connection": "upgrade", "x-blank": " ", "X-Mine": " v "});
        let target =
            read(json!({"url": "http://a.test", "headers": headers, "body": {"a": 1}, "timeoutMs": 5}))
                .expect("a target");
        let sent = target.request(Some("m:p"));
        assert_eq!(
            sent.headers,
            [("x-mine", "v"), ("content-type", "application/json"), ("authorization", "L402 m:p")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!((sent.body.as_slice(), sent.timeout), (&b"{\"a\":1}"[..], Some(Duration::from_secs(1))));
        assert_eq!(
            read(json!({"url": "http://a.test", "body": "raw"})).expect("a target").request(None).body,
            b"raw"
        );
        assert_eq!(
            read(json!({"url": "http://a.test", "body": 7})).expect("a target").request(None).body,
            b"7"
        );
    }
}
