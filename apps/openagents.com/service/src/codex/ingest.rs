//! Decides what a thread learns from what codex says (control §21.3.4): turns begin and end, finished agent messages and
//! tool calls become messages, once each. Only threads of the worker's owner learn; what else is said stays an event.

use oa_contract::{
    Stop, Timestamp,
    wire::{codex::Notification, threads::Role},
};
use oa_store::{
    Tx,
    tables::{
        codex::{Request, Worker},
        threads::{self as rows, Thread, Turn, TurnStatus},
    },
};
use serde_json::Value;

use super::{key_of, payload::Outcome};
use crate::threads::{Said, append};

/// Characters of what a tool call is told in.
const TOOL_TEXT_MAX: usize = 2_000;
/// Characters of codex's own ids and names, as far as they are kept.
const NAME_MAX: usize = 255;

/// Lets the thread of a notification learn from it.
pub async fn notification(
    tx: &mut Tx,
    worker: &Worker,
    said: &Notification,
    message_id: &str,
    now: Timestamp,
) -> Result<(), Stop> {
    let Some(thread_id) = said.thread_id.as_deref().map(str::trim) else { return Ok(()) };
    let meaning = meaning(said);
    if matches!(meaning, Meaning::Nothing) {
        return Ok(());
    }
    let thread = rows::get(tx, thread_id).await?;
    let Some(mut thread) = thread.filter(|thread| thread.user_id == worker.user_id) else { return Ok(()) };
    match meaning {
        Meaning::Nothing => Ok(()),
        Meaning::TurnBegan { turn_id, model } => {
            let request_id = said.request_id.clone();
            let turn = Begun { turn_id, model, request_id };
            begin(tx, worker, &thread.thread_id, turn, now).await
        }
        Meaning::TurnEnded { turn_id, status } => {
            let known = rows::turn(tx, &thread.thread_id, &turn_id).await?;
            let turn = known.unwrap_or_else(|| Turn {
                request_id: said.request_id.clone(),
                ..running(worker, &thread.thread_id, turn_id, now)
            });
            match turn.ended_at {
                Some(_) => Ok(()),
                None => rows::put_turn(tx, &Turn { status, ended_at: Some(now), ..turn }).await,
            }
        }
        Meaning::Item { role, text, item_id } => {
            let turn_id = turn_id(said);
            let item = format!("{}\0{item_id}", turn_id.as_deref().unwrap_or_default());
            let said = Said {
                message_id: message_id.to_owned(),
                role,
                text,
                turn_id,
                item_key: Some(key_of(&item)),
            };
            once(tx, &mut thread, said, now).await
        }
    }
}

/// An item that was told before is not told again.
async fn once(tx: &mut Tx, thread: &mut Thread, said: Said, now: Timestamp) -> Result<(), Stop> {
    if let Some(item_key) = &said.item_key
        && rows::message_of_item(tx, &thread.thread_id, item_key).await?.is_some()
    {
        return Ok(());
    }
    append(tx, thread, said, now).await?;
    Ok(())
}

/// A turn that began belongs to its request, whichever of the two is heard of first.
pub async fn response(
    tx: &mut Tx,
    worker: &Worker,
    request: &Request,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), Stop> {
    let (Outcome::Done(response), "turn/start", Some(thread_id)) =
        (outcome, request.method.as_str(), request.thread_id.as_deref())
    else {
        return Ok(());
    };
    let Some(turn_id) = name(&response["turn"]["id"]) else { return Ok(()) };
    let begun = Begun { turn_id, model: None, request_id: Some(request.request_id.clone()) };
    begin(tx, worker, thread_id, begun, now).await
}

struct Begun {
    turn_id: String,
    model: Option<String>,
    request_id: Option<String>,
}

async fn begin(
    tx: &mut Tx,
    worker: &Worker,
    thread_id: &str,
    begun: Begun,
    now: Timestamp,
) -> Result<(), Stop> {
    let known = rows::turn(tx, thread_id, &begun.turn_id).await?;
    let turn = known.unwrap_or_else(|| running(worker, thread_id, begun.turn_id, now));
    let (model, request_id) =
        (turn.model.clone().or(begun.model), turn.request_id.clone().or(begun.request_id));
    rows::put_turn(tx, &Turn { model, request_id, ..turn }).await
}

fn running(worker: &Worker, thread_id: &str, turn_id: String, now: Timestamp) -> Turn {
    Turn {
        thread_id: thread_id.to_owned(),
        turn_id,
        worker_id: worker.worker_id.clone(),
        request_id: None,
        status: TurnStatus::Running,
        model: None,
        started_at: now,
        ended_at: None,
    }
}

/// What a notification means for its thread.
#[derive(Debug, PartialEq)]
enum Meaning {
    Nothing,
    TurnBegan { turn_id: String, model: Option<String> },
    TurnEnded { turn_id: String, status: TurnStatus },
    Item { role: Role, text: String, item_id: String },
}

fn meaning(said: &Notification) -> Meaning {
    let params = &said.params;
    let ended = |status| match turn_id(said) {
        Some(turn_id) => Meaning::TurnEnded { turn_id, status },
        None => Meaning::Nothing,
    };
    match said.method.as_str() {
        "turn/started" => match turn_id(said) {
            Some(turn_id) => {
                let model = name(&params["model"]).or_else(|| name(&params["turn"]["model"]));
                Meaning::TurnBegan { turn_id, model }
            }
            None => Meaning::Nothing,
        },
        // Newer servers end every turn with this, and say how inside.
        "turn/completed" => ended(match params["turn"]["status"].as_str().or(params["status"].as_str()) {
            Some("failed") => TurnStatus::Failed,
            Some("interrupted" | "aborted") => TurnStatus::Interrupted,
            _ => TurnStatus::Completed,
        }),
        "turn/failed" => ended(TurnStatus::Failed),
        "turn/interrupted" | "turn/aborted" => ended(TurnStatus::Interrupted),
        "item/completed" => item(&params["item"]),
        _ => Meaning::Nothing,
    }
}

fn item(item: &Value) -> Meaning {
    let kind = item["type"].as_str().or(item["kind"].as_str()).unwrap_or_default();
    let kind: String = kind.chars().filter(|c| *c != '_').collect::<String>().to_lowercase();
    let (role, text) = match kind.as_str() {
        "agentmessage" => (Role::Assistant, item["text"].as_str().map(|text| text.trim().to_owned())),
        "commandexecution" => (Role::Tool, Some(command(item))),
        "filechange" => (Role::Tool, Some(files(item))),
        "mcptoolcall" => (Role::Tool, Some(tool(item))),
        _ => return Meaning::Nothing,
    };
    let text = text.map(|text| text.replace('\0', "\u{fffd}")).filter(|text| !text.is_empty());
    match (text, name(&item["id"])) {
        (Some(text), Some(item_id)) => Meaning::Item { role, text, item_id },
        _ => Meaning::Nothing,
    }
}

fn command(item: &Value) -> String {
    let command = match &item["command"] {
        Value::String(command) => command.clone(),
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    };
    let exit = item["exitCode"].as_i64().or(item["exit_code"].as_i64());
    let ended = exit.map(|code| format!("exit {code}")).or_else(|| name(&item["status"]));
    compact(&format!("$ {command}"), ended)
}

fn files(item: &Value) -> String {
    let paths: Vec<&str> = match &item["changes"] {
        Value::Array(changes) => changes.iter().filter_map(|change| change["path"].as_str()).collect(),
        Value::Object(changes) => changes.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    compact(&format!("changed {}", paths.join(", ")), name(&item["status"]))
}

fn tool(item: &Value) -> String {
    let tool = [&item["tool"], &item["tool_name"], &item["toolName"]].into_iter().find_map(name);
    let words: Vec<String> = [name(&item["server"]), tool].into_iter().flatten().collect();
    compact(&format!("called {}", words.join(".")), name(&item["status"]))
}

/// What was done and how it ended, in bounded length.
fn compact(what: &str, ended: Option<String>) -> String {
    let what: String = what.trim().chars().take(TOOL_TEXT_MAX).collect();
    match ended {
        Some(ended) => format!("{what} ({ended})"),
        None => what,
    }
}

fn turn_id(said: &Notification) -> Option<String> {
    let params = &said.params;
    let given = said.turn_id.as_deref().map(str::trim).filter(|id| !id.is_empty()).map(bounded);
    given
        .or_else(|| [&params["turn"]["id"], &params["turnId"], &params["turn_id"]].into_iter().find_map(name))
}

/// A text that says something, in bounded length.
fn name(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(bounded)
}

fn bounded(text: &str) -> String {
    text.replace('\0', "\u{fffd}").chars().take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(method: &str, params: Value) -> Meaning {
        let notification = json!({"source": "codex_app_server", "method": method, "params": params,
            "occurred_at": "2026-02-22T00:00:00Z"});
        meaning(&serde_json::from_value(notification).expect("a notification"))
    }

    #[test]
    fn finished_items_become_messages_in_either_spelling() {
        for kind in ["agent_message", "agentMessage"] {
            let item = json!({"item": {"id": "i1", "type": kind, "text": " Hello. "}});
            let wanted = Meaning::Item { role: Role::Assistant, text: "Hello.".into(), item_id: "i1".into() };
            assert_eq!(said("item/completed", item), wanted);
        }
        for (item, wanted) in [
            (
                json!({"id": "i", "type": "commandExecution", "command": "ls -l", "exitCode": 0}),
                "$ ls -l (exit 0)",
            ),
            (
                json!({"id": "i", "type": "command_execution", "command": ["ls"], "status": "failed"}),
                "$ ls (failed)",
            ),
            (
                json!({"id": "i", "type": "fileChange", "changes": [{"path": "a"}, {"path": "b"}]}),
                "changed a, b",
            ),
            (json!({"id": "i", "kind": "mcp_tool_call", "server": "s", "tool_name": "t"}), "called s.t"),
        ] {
            let Meaning::Item { role, text, .. } = said("item/completed", json!({"item": item})) else {
                panic!("no message: {item}");
            };
            assert_eq!((role, text.as_str()), (Role::Tool, wanted));
        }
    }

    #[test]
    fn what_is_unfinished_empty_or_strange_means_nothing() {
        for (method, params) in [
            ("item/agentMessage/delta", json!({"delta": "H"})),
            ("item/started", json!({"item": {"id": "i", "type": "agentMessage", "text": "x"}})),
            ("item/completed", json!({"item": {"id": "i", "type": "agentMessage", "text": "  "}})),
            ("item/completed", json!({"item": {"type": "agentMessage", "text": "x"}})),
            ("item/completed", json!({"item": {"id": "i", "type": "reasoning", "text": "x"}})),
            ("item/completed", json!([1])),
            ("item/completed", json!(null)),
            ("turn/started", json!({})),
            ("turn/completed", json!({"turn": 7})),
        ] {
            assert_eq!(said(method, params), Meaning::Nothing, "{method}");
        }
    }

    #[test]
    fn a_turn_ends_as_it_is_said_to_end() {
        let ended = |method, params| match said(method, params) {
            Meaning::TurnEnded { status, .. } => status,
            other => panic!("{other:?}"),
        };
        let turn = |status: &str| json!({"turn": {"id": "t", "status": status}});
        assert_eq!(ended("turn/completed", turn("completed")), TurnStatus::Completed);
        assert_eq!(ended("turn/completed", turn("interrupted")), TurnStatus::Interrupted);
        assert_eq!(ended("turn/completed", turn("failed")), TurnStatus::Failed);
        assert_eq!(ended("turn/failed", json!({"turnId": "t"})), TurnStatus::Failed);
        assert_eq!(ended("turn/aborted", json!({"turn_id": "t"})), TurnStatus::Interrupted);
        let began = said("turn/started", json!({"turn": {"id": "t"}, "model": "m"}));
        assert_eq!(began, Meaning::TurnBegan { turn_id: "t".into(), model: Some("m".into()) });
    }
}
