//! Decides how a request reaches the program that is the worker: its target is found, what the user says enters the
//! thread, and the event `worker.request` enters the feed, in the commit that reserves the request (control §14.4).

use oa_contract::{
    Fault, Refusal, Stop,
    wire::codex::{Delivered, DeliveredRequest},
};
use oa_store::{
    Tx,
    tables::{
        codex::{self as rows, Request, Worker},
        threads::{self as thread_rows, Before, Turn, TurnStatus},
    },
};
use serde_json::{Value, json};

use super::{answer, log, requests::Asked, state};
use crate::threads;

/// Turns that are looked at for one that runs.
const RECENT_TURNS: u32 = 20;

/// Reserves the request and puts it into the feed. The caller saves the worker.
pub async fn send(tx: &mut Tx, worker: &mut Worker, asked: &Asked) -> Result<Request, Stop> {
    let session_id = session(asked.wanted.session_id.as_deref(), &metadata(worker))?;
    let thread_id = target(tx, worker, asked).await?;
    let mut params = asked.wanted.params.clone();
    if asked.wanted.method == "turn/interrupt"
        && let Some(thread_id) = &thread_id
    {
        let turn_id = running_turn(tx, thread_id, asked.wanted.turn_id()).await?;
        name_turn(&mut params, turn_id);
    }
    let wanted = &asked.wanted;
    let delivered = Delivered {
        request: DeliveredRequest {
            request_id: wanted.request_id.clone(),
            method: wanted.method.to_owned(),
            params,
            request_version: wanted.request_version.clone(),
            sent_at: asked.now,
            source: wanted.source.clone(),
            session_id: session_id.clone(),
            thread_id: thread_id.clone(),
        },
    };
    let payload = serde_json::to_value(delivered).map_err(|error| Fault::new("writing a request", error))?;
    log::append_own(tx, worker, state::REQUEST, &payload, asked.now, asked.keep).await?;
    let request = Request { session_id, ..asked.row(thread_id) };
    rows::put_request(tx, &request).await?;
    Ok(request)
}

/// The thread that the request is about, once the user may use it and what they say stands in it.
async fn target(tx: &mut Tx, worker: &Worker, asked: &Asked) -> Result<Option<String>, Stop> {
    let (wanted, user_id) = (&asked.wanted, &asked.user.user_id);
    if wanted.method == "thread/list" {
        return Ok(None);
    }
    if wanted.method == "thread/start" {
        let thread_id = wanted.thread_id.as_ref().unwrap_or(&asked.new_thread_id);
        answer::open(tx, asked, thread_id).await?;
        return Ok(Some(thread_id.clone()));
    }
    let thread_id = match &wanted.thread_id {
        Some(thread_id) => thread_id.clone(),
        None => thread_of_worker(worker, asked)?,
    };
    match wanted.method {
        "turn/start" => drop(answer::say(tx, asked, &thread_id, wanted.needed_text()?).await?),
        _ => drop(threads::owned(tx, &thread_id, user_id).await?),
    }
    Ok(Some(thread_id))
}

/// The thread that the worker says it is about.
pub fn thread_of(worker: &Worker) -> Option<String> {
    let metadata = metadata(worker);
    threads::thread_id("metadata.thread_id", metadata["thread_id"].as_str()?).ok()
}

/// The same, as long as it is the one whose key is held.
fn thread_of_worker(worker: &Worker, asked: &Asked) -> Result<String, Refusal> {
    match (thread_of(worker), &asked.known_thread) {
        (Some(now), Some(then)) if now == *then => Ok(now),
        (None, None) => Err(asked.wanted.thread().err().unwrap_or_else(moved)),
        _ => Err(moved()),
    }
}

fn moved() -> Refusal {
    Refusal::conflict("the worker turned to another thread meanwhile; ask again")
}

fn metadata(worker: &Worker) -> Value {
    worker.metadata.as_ref().and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
}

/// The session that is meant: the named one, the worker's own, or the only one of a worker that serves several
/// (`metadata.active_sessions`). A worker that speaks of no sessions needs none.
fn session(named: Option<&str>, metadata: &Value) -> Result<Option<String>, Refusal> {
    let own = metadata["session_id"].as_str().map(str::trim).filter(|id| !id.is_empty());
    if let Some(session_id) = named.or(own) {
        return Ok(Some(session_id.to_owned()));
    }
    let Some(active) = metadata["active_sessions"].as_array() else { return Ok(None) };
    let mut ids = active.iter().filter_map(|one| one.as_str().or_else(|| one["session_id"].as_str()));
    match (ids.next(), ids.next()) {
        (Some(only), None) => Ok(Some(only.to_owned())),
        (Some(_), Some(_)) => {
            Err(Refusal::conflict("the worker serves several sessions; name one with request.session_id"))
        }
        (None, _) => Err(Refusal::unavailable("the worker serves no session now (worker_unavailable)")),
    }
}

/// The turn to interrupt: the named one unless it is known to have ended, otherwise the one that runs.
async fn running_turn(tx: &mut Tx, thread_id: &str, named: Option<&str>) -> Result<String, Stop> {
    let Some(turn_id) = named else {
        let turns = thread_rows::turns(tx, thread_id, &Before::newest(), RECENT_TURNS).await?;
        let running = turns.into_iter().find(|turn| turn.status == TurnStatus::Running);
        let none = || Refusal::conflict("no turn runs in this thread");
        return Ok(running.map(|turn| turn.turn_id).ok_or_else(none)?);
    };
    match thread_rows::turn(tx, thread_id, turn_id).await? {
        Some(Turn { status, .. }) if status != TurnStatus::Running => {
            Err(Refusal::conflict(format!("the turn is {} already", status.name())).into())
        }
        // A turn may run before it was told; the worker knows.
        _ => Ok(turn_id.to_owned()),
    }
}

fn name_turn(params: &mut Value, turn_id: String) {
    match params {
        Value::Object(members) => drop(members.insert("turn_id".into(), turn_id.into())),
        other => *other = json!({"turn_id": turn_id}),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Code;

    use super::*;

    #[test]
    fn a_session_is_named_or_the_workers_own_or_the_only_one() {
        let found = |named, metadata| session(named, &metadata);
        assert_eq!(found(Some("s1"), json!({"session_id": "s2"})), Ok(Some("s1".into())));
        assert_eq!(found(None, json!({"session_id": "s2"})), Ok(Some("s2".into())));
        assert_eq!(found(None, json!({"active_sessions": ["s3"]})), Ok(Some("s3".into())));
        assert_eq!(found(None, json!({"active_sessions": [{"session_id": "s4"}]})), Ok(Some("s4".into())));
        assert_eq!(found(None, Value::Null), Ok(None));
        assert_eq!(
            found(None, json!({"active_sessions": ["a", "b"]})).expect_err("several").code,
            Code::Conflict
        );
        let none = found(None, json!({"active_sessions": []})).expect_err("none");
        assert_eq!(none.code, Code::ServiceUnavailable);
    }

    #[test]
    fn the_turn_is_named_in_whatever_parameters_there_are() {
        for (mut params, wanted) in [
            (Value::Null, json!({"turn_id": "t"})),
            (json!({"a": 1}), json!({"a": 1, "turn_id": "t"})),
            (json!([1]), json!({"turn_id": "t"})),
        ] {
            name_turn(&mut params, "t".into());
            assert_eq!(params, wanted);
        }
    }
}
