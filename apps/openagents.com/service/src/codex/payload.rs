//! Decides which events a worker's feed takes, and what each of them means (control §14.3, §14.4): an event says its
//! type, carries an object, and where others rely on members of it, has them.

use oa_contract::{
    Code, Refusal, Timestamp,
    canonical::normalise,
    wire::codex::{CODEX_APP_SERVER, CodexRequestError, DECISIONS, ERROR_CODES, NewCodexEvent, Notification},
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{fingerprint, opt_str, state};

const TYPE_MAX: usize = 160;
const EVENT_ID_MAX: usize = 160;
const THREAD_ID_MAX: usize = 255;
const PAYLOAD_MAX: usize = 64 * 1024;
const RESPONSE_MAX: usize = 1024 * 1024;

/// An event that may be taken.
pub struct Parsed {
    pub event_type: String,
    /// As sent, in its stored form.
    pub payload: Box<RawValue>,
    /// The payload's own word, if it has one.
    pub occurred_at: Option<Timestamp>,
    pub event_id: Option<String>,
    /// What this event is recognised by when it comes again.
    pub fingerprint: [u8; 32],
    pub kind: Kind,
}

/// What control has to do with an event beyond keeping it.
pub enum Kind {
    Plain,
    Receipt(Receipt),
    Approval { approval_id: String, decision: String },
    Notification(Box<Notification>),
}

/// A worker's word on how a request ended.
pub struct Receipt {
    pub request_id: String,
    pub method: String,
    pub outcome: Outcome,
}

/// How a request ended.
pub enum Outcome {
    Done(Value),
    Failed(CodexRequestError),
}

/// What an event of this type and content is recognised by.
pub fn print(event_type: &str, payload: &Value) -> [u8; 32] {
    fingerprint(&json!([event_type, payload]))
}

pub fn parse(event: NewCodexEvent) -> Result<Parsed, Refusal> {
    let event_type = event_type(event.event_type.as_deref().unwrap_or_default())?;
    let payload = stored(&event_type, event.payload)?;
    let document: Value = serde_json::from_str(payload.get())
        .map_err(|error| Refusal::field("event.payload", error.to_string()))?;
    let Value::Object(members) = &document else {
        return Err(Refusal::field("event.payload", "event.payload must be an object"));
    };
    let kind = kind(&event_type, &document, members)?;
    let event_id = event.event_id.as_deref().map(event_id).transpose()?;
    let occurred_at = members.get("occurred_at").and_then(Value::as_str).and_then(Timestamp::parse);
    let fingerprint = print(&event_type, &document);
    Ok(Parsed { event_type, payload, occurred_at, event_id, fingerprint, kind })
}

fn event_type(text: &str) -> Result<String, Refusal> {
    const FIELD: &str = "event.event_type";
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::field(FIELD, "event.event_type must not be blank"));
    }
    if text.chars().count() > TYPE_MAX || !text.starts_with("worker.") || text.contains(char::is_control) {
        let message =
            format!("event.event_type must begin with `worker.` and hold at most {TYPE_MAX} characters");
        return Err(Refusal::field(FIELD, message));
    }
    if text == state::REQUEST {
        let message = "worker.request is written by control only; POST …/requests makes a request";
        return Err(Refusal::field(FIELD, message));
    }
    Ok(text.to_owned())
}

fn stored(event_type: &str, payload: Option<Box<RawValue>>) -> Result<Box<RawValue>, Refusal> {
    let text = payload.as_ref().map_or("{}", |payload| payload.get());
    let most = if event_type == state::RESPONSE { RESPONSE_MAX } else { PAYLOAD_MAX };
    if text.len() > most {
        let message = format!("event.payload must be at most {most} bytes");
        return Err(Refusal {
            field: Some("event.payload".into()),
            ..Refusal::new(Code::PayloadTooLarge, message)
        });
    }
    match text.starts_with('{') {
        true => normalise(text).map_err(|error| Refusal::field("event.payload", error.to_string())),
        false => Err(Refusal::field("event.payload", "event.payload must be an object")),
    }
}

fn event_id(text: &str) -> Result<String, Refusal> {
    let plain = (1..=EVENT_ID_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    match plain {
        true => Ok(text.to_owned()),
        false => {
            let message = format!("event.event_id must hold 1 to {EVENT_ID_MAX} letters, digits and . _ : -");
            Err(Refusal::field("event.event_id", message))
        }
    }
}

fn kind(event_type: &str, document: &Value, members: &Map<String, Value>) -> Result<Kind, Refusal> {
    match event_type {
        state::EVENT => {
            handshake(members)?;
            notification(document, members)
        }
        state::RESPONSE => response(members).map(Kind::Receipt),
        state::ERROR => error(members).map(Kind::Receipt),
        state::APPROVAL => approval(members),
        _ => Ok(Kind::Plain),
    }
}

/// A member of the payload that must be a text with something in it.
fn text<'a>(members: &'a Map<String, Value>, name: &str, field: &str) -> Result<&'a str, Refusal> {
    let text = members.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    text.ok_or_else(|| Refusal::field(field, format!("{name} must be a text that is not blank")))
}

fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    text(members, name, &format!("event.payload.{name}"))
}

fn moment(members: &Map<String, Value>) -> Result<Timestamp, Refusal> {
    const FIELD: &str = "event.payload.occurred_at";
    let text = members.get("occurred_at").and_then(Value::as_str).unwrap_or_default();
    Timestamp::parse(text).ok_or_else(|| Refusal::field(FIELD, "occurred_at must be an RFC 3339 timestamp"))
}

/// The two halves by which a phone and a desktop find each other.
fn handshake(members: &Map<String, Value>) -> Result<(), Refusal> {
    let own = match members.get("method").and_then(Value::as_str) {
        Some("ios/handshake") => "device_id",
        Some("desktop/handshake_ack") => "desktop_session_id",
        _ => return Ok(()),
    };
    for name in ["source", "method", "handshake_id", "occurred_at"] {
        text(members, name, "event.payload")?;
    }
    moment(members)?;
    member(members, own)?;
    Ok(())
}

/// What codex said. An event that only looks like it is kept like any other.
fn notification(document: &Value, members: &Map<String, Value>) -> Result<Kind, Refusal> {
    if members.get("source").and_then(Value::as_str) != Some(CODEX_APP_SERVER) {
        return Ok(Kind::Plain);
    }
    let said: Notification = serde_json::from_value(document.clone()).map_err(|error| {
        let message = format!("a notification of {CODEX_APP_SERVER} must have its members: {error}");
        Refusal::field("event.payload", message)
    })?;
    opt_str("event.payload.thread_id", said.thread_id.as_deref(), THREAD_ID_MAX)?;
    opt_str("event.payload.approval_id", said.approval_id.as_deref(), EVENT_ID_MAX)?;
    Ok(Kind::Notification(Box::new(said)))
}

fn response(members: &Map<String, Value>) -> Result<Receipt, Refusal> {
    let (request_id, method) = (member(members, "request_id")?, member(members, "method")?);
    if members.get("ok") != Some(&Value::Bool(true)) {
        return Err(Refusal::field("event.payload.ok", "ok must be true; a failure is a worker.error"));
    }
    let response = members
        .get("response")
        .ok_or_else(|| Refusal::field("event.payload.response", "response must be there"))?;
    moment(members)?;
    Ok(Receipt {
        request_id: request_id.to_owned(),
        method: method.to_lowercase(),
        outcome: Outcome::Done(response.clone()),
    })
}

fn error(members: &Map<String, Value>) -> Result<Receipt, Refusal> {
    let (request_id, method) = (member(members, "request_id")?, member(members, "method")?);
    let code = member(members, "code")?;
    if !ERROR_CODES.contains(&code) {
        let message = format!("code must be one of {}", ERROR_CODES.join(", "));
        return Err(Refusal::field("event.payload.code", message));
    }
    let message = member(members, "message")?;
    let retryable = match members.get("retryable") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(retryable)) => Some(*retryable),
        Some(_) => {
            return Err(Refusal::field("event.payload.retryable", "retryable must be true or false"));
        }
    };
    moment(members)?;
    let error = CodexRequestError {
        code: code.to_owned(),
        message: message.to_owned(),
        retryable,
        details: members.get("details").cloned(),
    };
    Ok(Receipt {
        request_id: request_id.to_owned(),
        method: method.to_lowercase(),
        outcome: Outcome::Failed(error),
    })
}

fn approval(members: &Map<String, Value>) -> Result<Kind, Refusal> {
    let approval_id = member(members, "approval_id")?;
    opt_str("event.payload.approval_id", Some(approval_id), EVENT_ID_MAX)?;
    let decision = member(members, "decision")?;
    if !DECISIONS.contains(&decision) {
        let message = format!("decision must be one of {}", DECISIONS.join(", "));
        return Err(Refusal::field("event.payload.decision", message));
    }
    if members.contains_key("occurred_at") {
        moment(members)?;
    }
    Ok(Kind::Approval { approval_id: approval_id.to_owned(), decision: decision.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, payload: Value) -> Result<Parsed, Refusal> {
        let event = json!({"event_type": event_type, "payload": payload}).to_string();
        parse(serde_json::from_str(&event).expect("an event"))
    }

    fn refused(event_type: &str, payload: Value) -> String {
        event(event_type, payload).err().expect("refused").field.expect("a field")
    }

    /// `whole` without one member, or with another value of it.
    fn with(whole: &Value, name: &str, value: Value) -> Value {
        let mut changed = whole.clone();
        match value {
            Value::Null => drop(changed.as_object_mut().expect("an object").remove(name)),
            value => changed[name] = value,
        }
        changed
    }

    #[test]
    fn a_type_begins_with_worker_and_is_not_control_s_own() {
        for bad in
            ["", "  ", "run.started", "worker", "worker.request", &format!("worker.{}", "x".repeat(154))]
        {
            assert_eq!(refused(bad, json!({})), "event.event_type", "{bad}");
        }
        assert_eq!(event(" worker.note ", json!({})).expect("taken").event_type, "worker.note");
    }

    #[test]
    fn a_payload_is_an_object_of_bounded_size() {
        for bad in [json!([]), json!("x"), json!(1), json!({"a": "x".repeat(PAYLOAD_MAX)})] {
            assert_eq!(refused("worker.note", bad), "event.payload");
        }
        let absent: NewCodexEvent =
            serde_json::from_value(json!({"event_type": "worker.note"})).expect("event");
        assert_eq!(parse(absent).expect("taken").payload.get(), "{}");
    }

    #[test]
    fn a_handshake_has_its_members_in_the_specified_order_of_complaint() {
        let ios = json!({"source": "autopilot-ios", "method": "ios/handshake", "handshake_id": "hs_1",
            "occurred_at": "2026-02-22T00:00:00Z", "device_id": "ios:device"});
        assert!(event(state::EVENT, ios.clone()).is_ok());
        for name in ["source", "handshake_id", "occurred_at"] {
            assert_eq!(refused(state::EVENT, with(&ios, name, Value::Null)), "event.payload");
        }
        let late = with(&with(&ios, "occurred_at", json!("today")), "device_id", Value::Null);
        assert_eq!(refused(state::EVENT, late), "event.payload.occurred_at");
        assert_eq!(refused(state::EVENT, with(&ios, "device_id", json!(" "))), "event.payload.device_id");
        let desktop = with(&ios, "method", json!("desktop/handshake_ack"));
        assert_eq!(refused(state::EVENT, desktop), "event.payload.desktop_session_id");
        assert!(event(state::EVENT, json!({"method": "something/else"})).is_ok());
    }

    #[test]
    fn a_malformed_receipt_is_refused_under_the_member_at_fault() {
        let done = json!({"request_id": "r", "method": "turn/start", "ok": true, "response": {},
            "occurred_at": "2026-02-22T00:00:00Z"});
        assert!(matches!(event(state::RESPONSE, done.clone()).expect("taken").kind, Kind::Receipt(_)));
        for name in ["request_id", "method", "ok", "response", "occurred_at"] {
            assert_eq!(
                refused(state::RESPONSE, with(&done, name, Value::Null)),
                format!("event.payload.{name}")
            );
        }
        assert_eq!(refused(state::RESPONSE, with(&done, "ok", json!(false))), "event.payload.ok");
        let failed = json!({"request_id": "r", "method": "turn/start", "code": "timeout", "message": "late",
            "occurred_at": "2026-02-22T00:00:00Z"});
        assert!(matches!(event(state::ERROR, failed.clone()).expect("taken").kind, Kind::Receipt(_)));
        for name in ["request_id", "method", "code", "message", "occurred_at"] {
            assert_eq!(
                refused(state::ERROR, with(&failed, name, Value::Null)),
                format!("event.payload.{name}")
            );
        }
        assert_eq!(refused(state::ERROR, with(&failed, "code", json!("tired"))), "event.payload.code");
        assert_eq!(refused(state::ERROR, with(&failed, "retryable", json!(1))), "event.payload.retryable");
    }

    #[test]
    fn an_approval_names_its_question_and_a_known_decision() {
        let approval = json!({"approval_id": "ap_1", "decision": "acceptForSession"});
        assert!(matches!(
            event(state::APPROVAL, approval.clone()).expect("taken").kind,
            Kind::Approval { .. }
        ));
        for (name, value) in
            [("approval_id", json!("")), ("decision", json!("yes")), ("occurred_at", json!("now"))]
        {
            assert_eq!(
                refused(state::APPROVAL, with(&approval, name, value)),
                format!("event.payload.{name}")
            );
        }
    }

    #[test]
    fn an_event_id_is_plain_and_short() {
        let id = |id: &str| {
            let event = json!({"event_type": "worker.note", "event_id": id});
            parse(serde_json::from_value(event).expect("an event")).map(|parsed| parsed.event_id)
        };
        assert_eq!(id("spool.1:2_3-4").expect("taken").as_deref(), Some("spool.1:2_3-4"));
        for bad in ["", "a b", "ü", &"x".repeat(161)] {
            assert_eq!(id(bad).expect_err("refused").field.as_deref(), Some("event.event_id"));
        }
    }
}
