//! Decides what of a request is well formed: path, query and body become typed values here, or a 4xx that says
//! what is wrong (runtime-core §1, control §2.9).

use std::{borrow::Cow, time::Duration};

use axum::body::Body as HttpBody;
use bytes::Bytes;
use http::{HeaderMap, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use oa_contract::{
    Code, Refusal,
    operation::{Body, PathParams, Query},
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

/// The parameters of `path`, found where `template` has `:name`.
pub fn path<P: PathParams>(template: &str, path: &str) -> Result<P, Refusal> {
    let mut values: Vec<Cow<'_, str>> = Vec::with_capacity(P::NAMES.len());
    if !P::NAMES.is_empty() {
        for (pattern, segment) in template.split('/').zip(path.split('/')) {
            if pattern.starts_with(':') {
                values.push(decoded(pattern, segment)?);
            }
        }
    }
    P::parse(&values)
}

fn decoded<'a>(pattern: &str, segment: &'a str) -> Result<Cow<'a, str>, Refusal> {
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| {
        Refusal::invalid(format!("Invalid URL: `{}` is not valid UTF-8 after decoding", &pattern[1..]))
            .with_status(400)
    })?;
    match text.contains('\0') {
        true => Err(Refusal::invalid(format!("Invalid URL: `{}` holds a NUL character", &pattern[1..]))
            .with_status(400)),
        false => Ok(text),
    }
}

/// What stands behind the `?`.
pub fn query<Q: Query>(uri: &Uri) -> Result<Q, Refusal> {
    let text = if Q::NONE { "" } else { uri.query().unwrap_or_default() };
    axum::extract::Query::<Q>::try_from_uri(&Uri::try_from(format!("/?{text}")).unwrap_or_default())
        .map(|axum::extract::Query(query)| query)
        .map_err(|rejection| Refusal::invalid(sentence(&rejection.body_text())).with_status(400))
}

/// The whole body, at most `limit` bytes, within `patience`.
pub async fn bytes(body: HttpBody, limit: usize, patience: Duration) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Err(_) => Err(Refusal::invalid("the body did not arrive in time").with_status(408)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("Failed to buffer the request body: length limit exceeded ({limit} bytes)");
            Err(Refusal::new(Code::PayloadTooLarge, message))
        }
        Ok(Err(_)) => Err(Refusal::invalid("the connection ended inside the body").with_status(400)),
    }
}

/// Refuses what does not say that it is JSON.
pub fn json_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"));
    match json {
        true => Ok(()),
        false => {
            Err(Refusal::invalid("Expected request with `Content-Type: application/json`").with_status(415))
        }
    }
}

/// The typed body: 400 for what is not JSON, 422 for JSON of another shape. Every body is an object; a list that
/// happens to hold the members in order is none.
pub fn json<B: Body>(bytes: &[u8]) -> Result<B, Refusal> {
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins.is_some_and(|byte| *byte != b'{') {
        return Err(match typed::<serde::de::IgnoredAny>(bytes) {
            Ok(_) => shape("expected an object"),
            Err(error) => syntax(&error),
        });
    }
    typed(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => shape(error),
        _ => syntax(&error),
    })
}

fn shape(detail: impl std::fmt::Display) -> Refusal {
    Refusal::invalid(format!("Failed to deserialize the JSON body into the target type: {detail}"))
        .with_status(422)
}

fn syntax(error: &serde_json::Error) -> Refusal {
    Refusal::invalid(format!("Failed to parse the request body as JSON: {error}")).with_status(400)
}

fn typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// One line, whatever the library wrote.
fn sentence(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        Service,
        wire::{
            paths::{RunPath, WorkerPath},
            runs::{AppendEvent, EventWindow},
        },
    };

    use super::*;

    #[test]
    fn a_path_parameter_is_decoded_once() {
        let path: WorkerPath =
            path("/internal/v1/workers/:worker_id/status", "/internal/v1/workers/a%2Fb:c%20d/status")
                .expect("path");
        assert_eq!(path.worker_id, "a/b:c d");
    }

    #[test]
    fn a_malformed_path_is_400() {
        for segment in ["%ff", "x", "%00"] {
            let refused =
                path::<RunPath>("/internal/v1/runs/:run_id", &format!("/internal/v1/runs/{segment}"))
                    .expect_err(segment);
            assert_eq!(refused.status(Service::Control), 400);
        }
    }

    #[test]
    fn a_query_that_does_not_parse_or_repeats_a_key_is_400() {
        for text in ["limit=abc", "limit=-1", "limit=1&limit=2"] {
            let uri = Uri::try_from(format!("/x?{text}")).expect("uri");
            assert_eq!(query::<EventWindow>(&uri).expect_err(text).status(Service::Runtime), 400);
        }
    }

    #[test]
    fn syntax_is_400_and_shape_is_422() {
        let status =
            |text: &str| json::<AppendEvent>(text.as_bytes()).expect_err(text).status(Service::Runtime);
        assert_eq!(status(""), 400);
        assert_eq!(status("{"), 400);
        assert_eq!(status(r#"{"event_type":"a"} x"#), 400);
        assert_eq!(status("{}"), 422);
        assert_eq!(status(r#" ["a"]"#), 422);
        assert_eq!(status("[1,"), 400);
        assert_eq!(status(r#"{"event_type":1}"#), 422);
        assert_eq!(status(r#"{"event_type":"a","event_type":"b"}"#), 422);
        assert_eq!(status(r#"{"event_type":"a","expected_previous_seq":-1}"#), 422);
        assert_eq!(status(r#"{"event_type":"a","payload":}"#), 400);
    }
}
