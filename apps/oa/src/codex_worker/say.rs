//! Decides how what codex says, and what the worker itself has to say, becomes an event.

use oa_contract::{Timestamp, wire::codex::CODEX_APP_SERVER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{app_server::Message, bounds::fit};

/// The source of events that are about the worker and not codex's own words.
pub const OWN_SOURCE: &str = "oa_codex_worker";
/// Control takes 64 KiB; this leaves room for what stands around the params.
const LONGEST_PARAMS: usize = 60_000;
/// Control takes 1 MiB.
const LONGEST_RESPONSE: usize = 1_000_000;

/// The moment, as it is written in events.
pub fn now() -> Timestamp {
    let nanos = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    Timestamp::from_micros(i64::try_from(nanos / 1_000).unwrap_or_default())
}

/// Where in codex a message belongs.
#[derive(Debug, Default, Deserialize)]
pub struct Belongs {
    #[serde(default, rename = "threadId")]
    thread_id: Option<String>,
    #[serde(default, rename = "turnId")]
    turn_id: Option<String>,
    #[serde(default)]
    thread: Option<Named>,
    #[serde(default)]
    turn: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    id: String,
}

impl Belongs {
    /// A message that has none of it belongs nowhere.
    pub fn of(params: Option<&RawValue>) -> Self {
        params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default()
    }

    pub fn thread(&self) -> Option<&str> {
        self.thread_id.as_deref().or(self.thread.as_ref().map(|thread| thread.id.as_str()))
    }

    pub fn turn(&self) -> Option<&str> {
        self.turn_id.as_deref().or(self.turn.as_ref().map(|turn| turn.id.as_str()))
    }
}

/// The payload of a `worker.event`.
#[derive(Debug, Serialize)]
pub struct Passed {
    pub source: &'static str,
    pub method: String,
    pub params: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
    /// Who says so, where it is said in codex's name and was not codex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said_by: Option<&'static str>,
    /// What was cut from params that control would not take: `{bytes, sha256}` of the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Value>,
    pub occurred_at: Timestamp,
}

impl Passed {
    /// What codex said.
    pub fn on(message: &Message, method: &str) -> Self {
        let text = message.params.as_deref().map_or("{}", RawValue::get);
        let (params, cut) = match fit(text, LONGEST_PARAMS) {
            None => (raw_text(text), None),
            Some((shorter, cut)) => (raw_text(&shorter.to_string()), Some(cut)),
        };
        let occurred_at =
            message.emitted_at_ms.map_or_else(now, |millis| Timestamp::EPOCH.plus_millis(millis));
        Passed {
            source: CODEX_APP_SERVER,
            method: method.to_owned(),
            params,
            thread_id: None,
            turn_id: None,
            request_id: None,
            approval_id: None,
            said_by: None,
            cut,
            occurred_at,
        }
    }

    /// What the worker says.
    pub fn own(method: &str, params: &Value) -> Self {
        Passed {
            source: OWN_SOURCE,
            method: method.to_owned(),
            params: raw_text(&params.to_string()),
            thread_id: None,
            turn_id: None,
            request_id: None,
            approval_id: None,
            said_by: None,
            cut: None,
            occurred_at: now(),
        }
    }
}

fn raw_text(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A response that control takes.
pub fn response(value: Value) -> Value {
    match fit(&value.to_string(), LONGEST_RESPONSE) {
        None => value,
        Some((mut shorter, cut)) => {
            if let Value::Object(members) = &mut shorter {
                members.insert("cut".to_owned(), cut);
            }
            shorter
        }
    }
}

/// The end of a turn that will not end by itself any more. Control takes only codex's word for the end of a turn, so it
/// is said in codex's name and shape, and that it is not codex's own word.
pub fn turn_failed(codex_thread_id: &str, turn_id: &str, why: &str) -> Passed {
    let params = json!({"threadId": codex_thread_id, "turn": {"id": turn_id, "items": [], "status": "failed", "error": {"message": why}}});
    let own = Passed::own("turn/completed", &params);
    Passed { source: CODEX_APP_SERVER, said_by: Some(OWN_SOURCE), turn_id: Some(turn_id.to_owned()), ..own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        serde_json::from_str(text).expect("a message")
    }

    #[test]
    fn what_codex_says_passes_unchanged_and_whatever_it_is_called() {
        let said = message(r#"{"method":"never/heard/of","params":{"z":1.0,"a":[1,2]},"emittedAtMs":1500}"#);
        let passed = Passed::on(&said, "never/heard/of");
        let text = serde_json::to_string(&passed).expect("JSON");
        assert!(text.contains(r#""params":{"z":1.0,"a":[1,2]}"#), "{text}");
        assert_eq!((passed.occurred_at.millis(), passed.cut), (1500, None));
        assert_eq!(Passed::on(&message(r#"{"method":"x"}"#), "x").params.get(), "{}");
    }

    #[test]
    fn a_message_belongs_where_either_form_says() {
        let belongs = |text: &str| Belongs::of(message(text).params.as_deref());
        let flat = belongs(r#"{"method":"x","params":{"threadId":"t","turnId":"u"}}"#);
        assert_eq!((flat.thread(), flat.turn()), (Some("t"), Some("u")));
        let nested = belongs(r#"{"method":"x","params":{"threadId":"t","turn":{"id":"u","items":[]}}}"#);
        assert_eq!((nested.thread(), nested.turn()), (Some("t"), Some("u")));
        assert_eq!(belongs(r#"{"method":"x","params":{"threadId":7}}"#).thread(), None);
    }

    #[test]
    fn a_message_that_is_too_long_for_control_is_cut_and_says_so() {
        let long = "x".repeat(200_000);
        let said = message(&format!(r#"{{"method":"x","params":{{"threadId":"t","output":"{long}"}}}}"#));
        let passed = Passed::on(&said, "x");
        assert!(serde_json::to_string(&passed).expect("JSON").len() < 64 * 1024);
        assert!(passed.cut.is_some());
    }
}
