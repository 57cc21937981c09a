//! Decides what a request of control means for codex, what of it is passed on, and how its answer reads.
//!
//! Where codex works, what it may touch and when it asks is said by whoever started the worker. A request that wants
//! to say it is refused rather than quietly done otherwise.

use oa_contract::wire::codex::{CodexRequestError, DeliveredRequest};
use serde_json::{Map, Value, json};

use super::app_server::RpcError;

/// Members of `params` that codex gets with a turn, and with a new thread.
const TURN_MEMBERS: [&str; 7] =
    ["model", "effort", "summary", "personality", "outputSchema", "clientUserMessageId", "serviceTier"];
const THREAD_MEMBERS: [&str; 6] =
    ["model", "personality", "baseInstructions", "developerInstructions", "ephemeral", "serviceTier"];
/// Members that belong to whoever runs the worker, without regard to case and `_`.
const NOT_FOR_CALLERS: [&str; 9] = [
    "cwd",
    "sandbox",
    "sandboxpolicy",
    "approvalpolicy",
    "approvalsreviewer",
    "config",
    "permissions",
    "modelprovider",
    "runtimeworkspaceroots",
];

/// Why a request is not handed to codex.
pub type Refused = Box<CodexRequestError>;

/// A request that can be handed to codex.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub request_id: String,
    pub method: String,
    /// Control's id.
    pub thread_id: Option<String>,
    pub wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A thread that is open, with what a new one begins with.
    Thread(Map<String, Value>),
    Turn(Map<String, Value>),
    Interrupt(Option<String>),
    List(Map<String, Value>),
    Read,
}

impl Request {
    pub fn read(asked: &DeliveredRequest) -> Result<Self, Refused> {
        let params = match &asked.params {
            Value::Null => Map::new(),
            Value::Object(params) => params.clone(),
            _ => return Err(fault("invalid_request", "params must be an object").into()),
        };
        let theirs = |name: &&String| {
            let plain = name.replace('_', "").to_lowercase();
            NOT_FOR_CALLERS.contains(&plain.as_str())
        };
        if let Some(name) = params.keys().find(theirs) {
            let why = format!("params.{name} is decided by whoever runs the worker, not by a request");
            return Err(fault("forbidden", &why).into());
        }
        let wanted = match asked.method.as_str() {
            "thread/start" => Wanted::Thread(pass(&params, &THREAD_MEMBERS)),
            "thread/resume" => Wanted::Thread(Map::new()),
            "turn/start" => {
                let mut turn = pass(&params, &TURN_MEMBERS);
                turn.insert("input".to_owned(), input(&params)?);
                Wanted::Turn(turn)
            }
            "turn/interrupt" => Wanted::Interrupt(
                ["turn_id", "turnId"].iter().find_map(|name| params.get(*name)?.as_str()).map(str::to_owned),
            ),
            "thread/list" => Wanted::List(pass(&params, &["cursor", "limit", "archived", "searchTerm"])),
            "thread/read" => Wanted::Read,
            method => {
                let why = format!("this worker does not know the method {method}");
                return Err(fault("unsupported_method", &why).into());
            }
        };
        if asked.thread_id.is_none() && !matches!(wanted, Wanted::List(_)) {
            return Err(fault("invalid_request", "the request names no thread").into());
        }
        Ok(Request {
            request_id: asked.request_id.clone(),
            method: asked.method.clone(),
            thread_id: asked.thread_id.clone(),
            wanted,
        })
    }
}

fn pass(params: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    params
        .iter()
        .filter(|(name, value)| names.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What the user says in a turn: the text, and what else stands in `input`.
fn input(params: &Map<String, Value>) -> Result<Value, Refused> {
    let text = ["text", "message", "prompt"]
        .iter()
        .find_map(|name| params.get(*name)?.as_str().map(str::trim).filter(|text| !text.is_empty()));
    let given = params.get("input").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut parts = Vec::new();
    parts.extend(text.map(|text| json!({"type": "text", "text": text})));
    for part in given {
        match part["type"].as_str() {
            Some("text") if text.is_some() => {}
            Some("text") | Some("image") => parts.push(part),
            kind => {
                let kind = kind.unwrap_or("unknown");
                let why = format!("params.input: parts of type {kind} are not passed on");
                return Err(fault("invalid_request", &why).into());
            }
        }
    }
    match parts.is_empty() {
        true => Err(fault("invalid_request", "a turn needs params.text or params.input").into()),
        false => Ok(Value::Array(parts)),
    }
}

pub fn fault(code: &str, message: &str) -> CodexRequestError {
    CodexRequestError { code: code.to_owned(), message: message.to_owned(), retryable: None, details: None }
}

/// The request never reached codex, so that asking again (under another id) is safe.
pub fn unavailable(message: &str) -> CodexRequestError {
    CodexRequestError { retryable: Some(true), ..fault("worker_unavailable", message) }
}

/// The request was with codex when it was lost: what became of it is not known.
pub fn lost(message: &str) -> CodexRequestError {
    CodexRequestError { retryable: Some(false), ..fault("worker_unavailable", message) }
}

/// What codex's refusal is called by control.
pub fn refused(error: &RpcError) -> CodexRequestError {
    let code = match error.code {
        // Another codex has the thread open.
        -32600 if error.message.contains("active writer") => "conflict",
        -32601 => "unsupported_method",
        -32600 | -32602 => "invalid_request",
        // It is overloaded.
        -32001 => "worker_unavailable",
        _ => "internal_error",
    };
    CodexRequestError {
        retryable: (error.code == -32001).then_some(true),
        details: Some(json!({"codex_code": error.code, "codex_data": error.data})),
        ..fault(code, &crate::output::shortened(&error.message, 2_000))
    }
}

/// The answer to `thread/list`: threads of codex in this workspace, under control's ids where they have one.
pub fn listed(result: &Value, thread_of: impl Fn(&str) -> Option<String>) -> Value {
    let threads: Vec<Value> = result["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|thread| {
            let codex = thread["id"].as_str().unwrap_or_default();
            json!({
                "thread_id": thread_of(codex),
                "codex_thread_id": codex,
                "preview": crate::output::shortened(thread["preview"].as_str().unwrap_or_default(), 500),
                "name": thread["name"],
                "model": thread["model"],
                "status": thread["status"]["type"],
                "created_at": moment(&thread["createdAt"]),
                "updated_at": moment(&thread["updatedAt"]),
            })
        })
        .collect();
    json!({"threads": threads, "next_cursor": result["nextCursor"]})
}

/// The answer to `thread/read`: what was said, the last of it if it is long.
pub fn read(thread_id: &str, result: &Value) -> Value {
    const LONGEST: usize = 500_000;
    let thread = &result["thread"];
    let mut messages = Vec::new();
    for turn in thread["turns"].as_array().into_iter().flatten() {
        for item in turn["items"].as_array().into_iter().flatten() {
            let said = match item["type"].as_str() {
                Some("userMessage") => {
                    let parts = item["content"].as_array().into_iter().flatten();
                    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
                    Some(("user", texts.join("\n")))
                }
                Some("agentMessage") => {
                    Some(("assistant", item["text"].as_str().unwrap_or_default().to_owned()))
                }
                _ => None,
            };
            if let Some((role, text)) = said {
                messages
                    .push(json!({"role": role, "text": text, "turn_id": turn["id"], "item_id": item["id"]}));
            }
        }
    }
    let all = messages.len();
    let mut bytes = 0;
    let kept = messages.iter().rev().take_while(|message| {
        bytes += message.to_string().len();
        bytes <= LONGEST
    });
    let first = all - kept.count();
    json!({
        "thread_id": thread_id,
        "codex_thread_id": thread["id"],
        "status": thread["status"]["type"],
        "messages": messages.split_off(first),
        "truncated": first > 0,
    })
}

fn moment(seconds: &Value) -> Option<String> {
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds.as_i64()?).ok()?;
    moment.format(&time::format_description::well_known::Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use oa_contract::Timestamp;

    use super::*;

    fn asked(method: &str, params: Value) -> DeliveredRequest {
        DeliveredRequest {
            request_id: "r".into(),
            method: method.into(),
            params,
            request_version: None,
            sent_at: Timestamp::from_micros(0),
            source: None,
            session_id: None,
            thread_id: Some("t".into()),
        }
    }

    fn input_of(params: Value) -> Result<Value, String> {
        match Request::read(&asked("turn/start", params)) {
            Ok(Request { wanted: Wanted::Turn(turn), .. }) => Ok(turn["input"].clone()),
            Ok(other) => panic!("{other:?}"),
            Err(fault) => Err(fault.code),
        }
    }

    #[test]
    fn the_text_of_a_turn_stands_where_control_looks_for_it() {
        let said = Ok(json!([{"type": "text", "text": "hi"}]));
        for params in [
            json!({"text": " hi ", "prompt": "no"}),
            json!({"text": " ", "message": "hi"}),
            json!({"prompt": "hi"}),
            json!({"input": [{"type": "text", "text": "hi"}]}),
            json!({"text": "hi", "input": [{"type": "text", "text": "no"}]}),
        ] {
            assert_eq!(input_of(params.clone()), said, "{params}");
        }
        let image = json!({"type": "image", "url": "https://x/y.png"});
        let both = input_of(json!({"text": "hi", "input": [image]})).expect("passed on");
        assert_eq!(both[1], image);
        assert_eq!(input_of(json!({})), Err("invalid_request".into()));
        let path = json!({"text": "hi", "input": [{"type": "localImage", "path": "/etc/passwd"}]});
        assert_eq!(input_of(path), Err("invalid_request".into()));
    }

    #[test]
    fn a_request_cannot_widen_what_codex_may_do() {
        for name in ["sandboxPolicy", "sandbox_policy", "approvalPolicy", "cwd", "config"] {
            let refused = Request::read(&asked("turn/start", json!({"text": "x", name: "y"})));
            assert_eq!(refused.expect_err("not theirs").code, "forbidden", "{name}");
        }
        let turn = Request::read(&asked("turn/start", json!({"text": "x", "model": "m", "whatever": 1})));
        let Ok(Request { wanted: Wanted::Turn(turn), .. }) = turn else { panic!("{turn:?}") };
        assert_eq!(turn.keys().collect::<Vec<_>>(), ["model", "input"]);
    }

    #[test]
    fn an_unknown_method_and_a_missing_thread_are_refused() {
        let code = |request| Request::read(&request).expect_err("refused").code;
        assert_eq!(code(asked("thread/delete", json!({}))), "unsupported_method");
        assert_eq!(code(asked("turn/start", json!("x"))), "invalid_request");
        let nowhere = DeliveredRequest { thread_id: None, ..asked("turn/interrupt", json!({})) };
        assert_eq!(code(nowhere.clone()), "invalid_request");
        let list = DeliveredRequest { method: "thread/list".into(), ..nowhere };
        assert!(Request::read(&list).is_ok());
    }

    #[test]
    fn every_method_of_the_contract_is_understood() {
        for method in oa_contract::wire::codex::METHODS {
            let request = Request::read(&asked(method, json!({"text": "x"})));
            assert!(request.is_ok(), "{method}: {request:?}");
        }
    }

    #[test]
    fn a_thread_is_read_as_what_was_said_in_it() {
        let result = json!({"thread": {"id": "c", "status": {"type": "idle"}, "turns": [{"id": "u", "items": [
            {"type": "userMessage", "id": "1", "content": [{"type": "text", "text": "do it"}]},
            {"type": "commandExecution", "id": "2"},
            {"type": "agentMessage", "id": "3", "text": "done"},
        ]}]}});
        let read = read("t", &result);
        assert_eq!(
            read["messages"][1],
            json!({"role": "assistant", "text": "done", "turn_id": "u", "item_id": "3"})
        );
        assert_eq!((read["messages"].as_array().map(Vec::len), &read["truncated"]), (Some(2), &json!(false)));
    }

    #[test]
    fn what_codex_refuses_has_a_code_of_the_contract() {
        for code in [-32600, -32601, -32602, -32603, -32001, 7] {
            let fault = refused(&RpcError { code, message: "no".into(), data: None });
            assert!(oa_contract::wire::codex::ERROR_CODES.contains(&fault.code.as_str()));
        }
    }
}
