//! Decides how each chunk of the AI SDK's UI message stream is written. Its strictest readers refuse members that they do
//! not know, so what is ours (thread, turn, model, status) travels as message metadata:
//! `docs/decisions/0009-ui-message-stream.md`.

use bytes::Bytes;
use serde_json::{Value, json};

/// The model of a turn that does not name one.
pub const MODEL: &str = "gpt-5.2-codex";

/// The end of every stream.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// One chunk as a server-sent event.
pub fn sse(chunk: &Value) -> Bytes {
    Bytes::from(format!("data: {chunk}\n\n"))
}

pub fn start(thread_id: &str) -> Value {
    json!({"messageMetadata": {"source": "codex", "threadId": thread_id}, "type": "start"})
}

/// A step and, beside it, whose it is.
pub fn start_step(thread_id: &str, turn_id: &str, model: &str) -> [Value; 2] {
    let metadata = json!({"model": model, "threadId": thread_id, "turnId": turn_id});
    [json!({"type": "start-step"}), json!({"messageMetadata": metadata, "type": "message-metadata"})]
}

pub fn text_start(id: &str) -> Value {
    json!({"id": id, "type": "text-start"})
}

pub fn text_delta(id: &str, delta: &str) -> Value {
    json!({"delta": delta, "id": id, "type": "text-delta"})
}

pub fn text_end(id: &str) -> Value {
    json!({"id": id, "type": "text-end"})
}

pub fn reasoning_start(id: &str) -> Value {
    json!({"id": id, "type": "reasoning-start"})
}

pub fn reasoning_delta(id: &str, delta: &str) -> Value {
    json!({"delta": delta, "id": id, "type": "reasoning-delta"})
}

pub fn reasoning_end(id: &str) -> Value {
    json!({"id": id, "type": "reasoning-end"})
}

/// A tool that the worker calls, not the reader.
pub fn tool_input(call_id: &str, tool: &str, input: &Value) -> Value {
    json!({"dynamic": true, "input": input, "providerExecuted": true, "toolCallId": call_id, "toolName": tool, "type": "tool-input-available"})
}

/// What a tool has put out since the last time. The reader keeps none of it: the whole comes at the end.
pub fn tool_progress(call_id: &str, delta: &str) -> Value {
    json!({"data": {"delta": delta, "toolCallId": call_id}, "transient": true, "type": "data-tool-output"})
}

pub fn tool_output(call_id: &str, status: &str, output: &str) -> Value {
    let mut said = json!({"status": status});
    if !output.is_empty() {
        said["text"] = json!(output);
    }
    json!({"dynamic": true, "output": said, "providerExecuted": true, "toolCallId": call_id, "type": "tool-output-available"})
}

pub fn finish_step() -> Value {
    json!({"type": "finish-step"})
}

/// The end of a turn that ended by itself.
pub fn finish(turn_id: &str, status: &str) -> Value {
    let reason = if status == "completed" { "stop" } else { "other" };
    json!({"finishReason": reason, "messageMetadata": {"status": status, "turnId": turn_id}, "type": "finish"})
}

pub fn error(message: &str) -> Value {
    json!({"errorText": message, "type": "error"})
}

/// The end of a turn, or of a stream, that went wrong.
pub fn finish_with_error(code: &str, retryable: bool) -> Value {
    let metadata = json!({"error": {"code": code, "retryable": retryable}, "status": "error"});
    json!({"finishReason": "error", "messageMetadata": metadata, "type": "finish"})
}

/// The whole stream of a message that was taken while nothing runs that could answer it.
pub fn accepted(thread_id: &str, turn_id: &str) -> Vec<Value> {
    let [step, whose] = start_step(thread_id, turn_id, MODEL);
    vec![start(thread_id), step, whose, finish_step(), finish(turn_id, "accepted")]
}

/// The whole stream of a request that the worker would not do.
pub fn refused(thread_id: &str, code: &str, message: &str, retryable: bool) -> Vec<Value> {
    vec![start(thread_id), error(message), finish_with_error(code, retryable)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_message_is_five_chunks_on_five_lines() {
        let written: String = accepted("thread-1", "turn_f4c4")
            .iter()
            .map(|chunk| String::from_utf8_lossy(&sse(chunk)).into_owned())
            .collect();
        assert_eq!(
            written,
            concat!(
                "data: {\"messageMetadata\":{\"source\":\"codex\",\"threadId\":\"thread-1\"},\"type\":\"start\"}\n\n",
                "data: {\"type\":\"start-step\"}\n\n",
                "data: {\"messageMetadata\":{\"model\":\"gpt-5.2-codex\",\"threadId\":\"thread-1\",\"turnId\":\"turn_f4c4\"},\"type\":\"message-metadata\"}\n\n",
                "data: {\"type\":\"finish-step\"}\n\n",
                "data: {\"finishReason\":\"other\",\"messageMetadata\":{\"status\":\"accepted\",\"turnId\":\"turn_f4c4\"},\"type\":\"finish\"}\n\n",
            )
        );
    }

    #[test]
    fn a_line_break_in_a_text_does_not_end_its_event() {
        assert_eq!(
            sse(&text_delta("i", "a\n\nb")),
            "data: {\"delta\":\"a\\n\\nb\",\"id\":\"i\",\"type\":\"text-delta\"}\n\n"
        );
    }
}
