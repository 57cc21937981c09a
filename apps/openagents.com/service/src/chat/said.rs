//! Decides what a body of any shape says: which thread, which worker, and what the user's text is (control §15.1, and the
//! `parts` that today's clients send).

use oa_contract::Refusal;
use serde_json::Value;

use crate::threads;

const SHARED_WORKER: &str = "desktopw:shared";

/// The thread that the body names, if it names one.
pub fn thread_id(body: &Value) -> Result<Option<String>, Refusal> {
    let named = ["thread_id", "threadId", "conversation_id", "conversationId", "id"]
        .iter()
        .find_map(|name| line(&body[*name]));
    named.map(|id| threads::thread_id("thread_id", id)).transpose()
}

pub fn worker_id(body: &Value) -> &str {
    line(&body["worker_id"]).or_else(|| line(&body["workerId"])).unwrap_or(SHARED_WORKER)
}

/// What the user says, trimmed.
pub fn text(body: &Value) -> Result<String, Refusal> {
    let found = line(&body["text"]).or_else(|| line(&body["message"])).or_else(|| last_of_user(body));
    let text = found.ok_or_else(|| Refusal::field("messages", "messages must hold a text of the user"))?;
    threads::text("request.params.text", text)
}

fn last_of_user(body: &Value) -> Option<&str> {
    let messages = body["messages"].as_array()?;
    messages.iter().rev().filter(|message| is_of_user(message)).find_map(text_of)
}

fn is_of_user(message: &Value) -> bool {
    message["role"].as_str().is_none_or(|role| role.trim().eq_ignore_ascii_case("user"))
}

fn text_of(message: &Value) -> Option<&str> {
    let content = &message["content"];
    line(&message["text"])
        .or_else(|| line(&message["message"]))
        .or_else(|| line(content))
        .or_else(|| line(&content["text"]))
        .or_else(|| content.as_array()?.iter().find_map(text_of_part))
        .or_else(|| message["parts"].as_array()?.iter().find_map(text_of_part))
}

fn text_of_part(part: &Value) -> Option<&str> {
    let is_text = part["type"] == "text";
    let other = |name: &str| line(&part[name]).filter(|_| is_text);
    line(&part["text"]).or_else(|| other("value")).or_else(|| other("content"))
}

/// A text that says something.
fn line(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_found_in_every_form_that_clients_have_sent() {
        let hello = |body: Value| assert_eq!(text(&body), Ok("hello".to_owned()), "{body}");
        hello(json!({"text": " hello ", "message": "x"}));
        hello(json!({"message": "hello", "messages": [{"content": "x"}]}));
        hello(json!({"messages": [{"role": "user", "text": "hello"}]}));
        hello(json!({"messages": [{"message": "hello"}]}));
        hello(json!({"messages": [{"role": "USER", "content": "hello"}]}));
        hello(json!({"messages": [{"content": {"text": "hello"}}]}));
        hello(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}));
        hello(json!({"messages": [{"content": [{"type": "image"}, {"type": "text", "value": "hello"}]}]}));
        hello(json!({"messages": [{"content": [{"type": "text", "content": "hello"}]}]}));
        hello(
            json!({"messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]}),
        );
        hello(json!({"messages": [
            {"role": "user", "content": "x"},
            {"role": "user", "content": "hello"},
            {"role": "user", "content": " "},
            {"role": "assistant", "content": "y"},
        ]}));
    }

    #[test]
    fn a_body_without_a_text_of_the_user_is_refused_by_its_field() {
        for body in [
            json!(null),
            json!([1]),
            json!("hello"),
            json!({"text": 7, "messages": {"role": "user"}}),
            json!({"messages": [{"role": "assistant", "content": "x"}]}),
            json!({"messages": [{"content": [{"type": "image", "value": "x"}]}]}),
        ] {
            assert_eq!(text(&body).expect_err("refused").field.as_deref(), Some("messages"), "{body}");
        }
        let long = json!({"text": "x".repeat(20_001)});
        assert_eq!(text(&long).expect_err("refused").field.as_deref(), Some("request.params.text"));
    }

    #[test]
    fn the_thread_and_the_worker_are_those_named_first() {
        let body = json!({"thread_id": " ", "conversationId": "c", "id": "i", "workerId": "w"});
        assert_eq!((thread_id(&body), worker_id(&body)), (Ok(Some("c".to_owned())), "w"));
        assert_eq!((thread_id(&json!([])), worker_id(&json!(7))), (Ok(None), SHARED_WORKER));
        let long = json!({"id": "x".repeat(256)});
        assert_eq!(thread_id(&long).expect_err("refused").field.as_deref(), Some("thread_id"));
    }
}
