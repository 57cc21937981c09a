//! Decides what is asked of a worker: which request, which method, which thread, which text (control §14.3).

use oa_contract::{
    Code, Refusal,
    wire::codex::{METHODS, NewCodexRequest},
};
use serde_json::{Value, json};

use crate::{
    codex::{fingerprint, key_of, opt_str},
    threads,
};

/// Bytes of a request's parameters.
const PARAMS_MAX: usize = 256 * 1024;
/// Characters of what is echoed.
const ECHO_MAX: usize = 255;
const WAIT_MAX_MS: u64 = 30_000;

/// A request that may be made.
#[derive(Debug)]
pub struct Wanted {
    pub request_id: String,
    pub request_key: [u8; 32],
    /// Over method, parameters and thread: what makes it the same request.
    pub fingerprint: [u8; 32],
    pub method: &'static str,
    pub params: Value,
    pub thread_id: Option<String>,
    pub source: Option<String>,
    pub request_version: Option<String>,
    pub session_id: Option<String>,
    pub wait_ms: Option<u64>,
}

impl Wanted {
    pub fn read(request: NewCodexRequest) -> Result<Self, Refusal> {
        let request_id = request.request_id.as_deref().map(str::trim).unwrap_or_default();
        if request_id.is_empty() || request_id.contains('\0') {
            return Err(Refusal::field("request.request_id", "request.request_id must not be blank"));
        }
        let method = method(request.method.as_deref().unwrap_or_default())?;
        let params = request.params;
        if params.to_string().len() > PARAMS_MAX {
            let message = format!("request.params must be at most {PARAMS_MAX} bytes");
            return Err(Refusal {
                field: Some("request.params".into()),
                ..Refusal::new(Code::PayloadTooLarge, message)
            });
        }
        let thread_id =
            [request.thread_id.as_deref(), params["thread_id"].as_str(), params["threadId"].as_str()]
                .into_iter()
                .flatten()
                .find(|id| !id.trim().is_empty())
                .map(|id| threads::thread_id("request.params.thread_id", id))
                .transpose()?;
        if request.wait_ms.is_some_and(|wait_ms| wait_ms > WAIT_MAX_MS) {
            let message = format!("request.wait_ms must be at most {WAIT_MAX_MS}");
            return Err(Refusal::field("request.wait_ms", message));
        }
        let echo = |field, text: Option<String>| opt_str(field, text.as_deref(), ECHO_MAX);
        Ok(Wanted {
            request_id: request_id.to_owned(),
            request_key: key_of(request_id),
            fingerprint: fingerprint(&json!([method, params, thread_id])),
            method,
            params,
            thread_id,
            source: echo("request.source", request.source)?,
            request_version: echo("request.request_version", request.request_version)?,
            session_id: echo("request.session_id", request.session_id)?,
            wait_ms: request.wait_ms,
        })
    }

    /// Whether the method means nothing without a thread that exists or is named.
    pub fn needs_thread(&self) -> bool {
        matches!(self.method, "thread/resume" | "turn/start" | "turn/interrupt" | "thread/read")
    }

    pub fn thread(&self) -> Result<&str, Refusal> {
        let missing = || Refusal::field("request.params.thread_id", "request.params.thread_id must be given");
        self.thread_id.as_deref().ok_or_else(missing)
    }

    /// What the user says, if anything: `text`, `message`, `prompt`, otherwise the first text of `input`.
    pub fn text(&self) -> Result<Option<String>, Refusal> {
        let params = &self.params;
        let plain = ["text", "message", "prompt"].into_iter().map(|name| params[name].as_str());
        let parts = params["input"].as_array().into_iter().flatten();
        let parts = parts.filter(|part| part["type"] == "text").map(|part| part["text"].as_str());
        let said = plain.chain(parts).flatten().find(|text| !text.trim().is_empty());
        said.map(|text| threads::text("request.params.text", text)).transpose()
    }

    pub fn needed_text(&self) -> Result<String, Refusal> {
        let missing =
            || Refusal::field("request.params.text", "request.params.text must hold what the user says");
        self.text()?.ok_or_else(missing)
    }

    /// The turn that is meant, in either spelling.
    pub fn turn_id(&self) -> Option<&str> {
        let given = [self.params["turn_id"].as_str(), self.params["turnId"].as_str()];
        given.into_iter().flatten().map(str::trim).find(|id| !id.is_empty())
    }
}

fn method(text: &str) -> Result<&'static str, Refusal> {
    let wanted = text.trim().to_lowercase();
    METHODS.into_iter().find(|method| *method == wanted).ok_or_else(|| {
        Refusal::field("request.method", format!("request.method must be one of {}", METHODS.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: Value) -> Result<Wanted, Refusal> {
        Wanted::read(serde_json::from_value(request).expect("a request"))
    }

    fn refused(request: Value) -> String {
        read(request).expect_err("refused").field.expect("a field")
    }

    #[test]
    fn the_id_is_complained_about_before_the_method() {
        assert_eq!(refused(json!({"method": "rm"})), "request.request_id");
        assert_eq!(refused(json!({"request_id": "  ", "method": "turn/start"})), "request.request_id");
        assert_eq!(refused(json!({"request_id": "r"})), "request.method");
        assert_eq!(refused(json!({"request_id": "r", "method": "thread/delete"})), "request.method");
        assert_eq!(
            read(json!({"request_id": " r ", "method": " Turn/Start "})).expect("read").method,
            "turn/start"
        );
        assert!(read(json!({"request_id": "r".repeat(100_000), "method": "thread/list"})).is_ok());
    }

    #[test]
    fn a_thread_is_named_at_the_top_or_in_the_parameters() {
        let thread = |request: Value| {
            let mut whole = json!({"request_id": "r", "method": "thread/read"});
            whole.as_object_mut().expect("an object").extend(request.as_object().expect("one").clone());
            read(whole).expect("read").thread_id
        };
        let both = json!({"thread_id": "top", "params": {"thread_id": "in", "threadId": "camel"}});
        assert_eq!(thread(both).as_deref(), Some("top"));
        assert_eq!(thread(json!({"params": {"thread_id": " in "}})).as_deref(), Some("in"));
        assert_eq!(
            thread(json!({"thread_id": " ", "params": {"threadId": "camel"}})).as_deref(),
            Some("camel")
        );
        assert_eq!(thread(json!({"params": [1]})), None);
    }

    #[test]
    fn the_text_is_found_in_the_specified_order_and_bounded() {
        let text = |params: Value| {
            read(json!({"request_id": "r", "method": "turn/start", "params": params})).expect("read").text()
        };
        assert_eq!(text(json!({"prompt": "p", "message": "m", "text": " t "})), Ok(Some("t".into())));
        assert_eq!(text(json!({"prompt": "p", "message": " "})), Ok(Some("p".into())));
        let input = json!({"input": [{"type": "image"}, {"type": "text", "text": " "}, {"type": "text", "text": "i"}]});
        assert_eq!(text(input), Ok(Some("i".into())));
        assert_eq!(text(json!(null)), Ok(None));
        let long = text(json!({"text": "x".repeat(20_001)})).expect_err("refused");
        assert_eq!(long.field.as_deref(), Some("request.params.text"));
    }

    #[test]
    fn what_makes_the_same_request_is_method_parameters_and_thread() {
        let print = |request: Value| read(request).expect("read").fingerprint;
        let one = json!({"request_id": "r", "method": "turn/start", "params": {"a": 1, "b": 2}});
        let same =
            json!({"request_id": "r", "method": "TURN/START", "params": {"b": 2, "a": 1}, "wait_ms": 5});
        let other = json!({"request_id": "r", "method": "turn/start", "params": {"a": 1, "b": 3}});
        assert_eq!(print(one.clone()), print(same));
        assert_ne!(print(one), print(other));
    }

    #[test]
    fn nobody_waits_longer_than_half_a_minute() {
        let wait = |ms: u64| json!({"request_id": "r", "method": "thread/list", "wait_ms": ms});
        assert_eq!(read(wait(30_000)).expect("read").wait_ms, Some(30_000));
        assert_eq!(refused(wait(30_001)), "request.wait_ms");
    }
}
