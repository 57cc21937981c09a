//! Decides what is answered for a worker that nobody is: the thread store alone knows, and the answer is its own receipt
//! (control §14.3).

use oa_contract::{Fault, Stop, wire::threads::PAGE_MAX};
use oa_store::{
    Tx,
    tables::{
        codex::{Request, Worker},
        threads::{Before, Message},
    },
};
use serde_json::{Value, json};

use super::{
    log,
    payload::{Outcome, print},
    receipt,
    requests::Asked,
    state,
};
use crate::threads::{self, From, Said};

/// Messages in an answer, which is also kept and told as an event.
const READ_MAX: u32 = 200;

/// Does what was asked, tells it, and keeps the answer.
pub async fn in_process(tx: &mut Tx, worker: &mut Worker, asked: &Asked) -> Result<Request, Stop> {
    let (thread_id, response) = execute(tx, asked).await?;
    let payload = json!({
        "request_id": asked.wanted.request_id,
        "method": asked.wanted.method,
        "ok": true,
        "response": response,
        "occurred_at": asked.now,
    });
    let event = log::append_own(tx, worker, state::RESPONSE, &payload, asked.now, asked.keep).await?;
    let fingerprint = print(state::RESPONSE, &payload);
    receipt::end(tx, asked.row(thread_id), &Outcome::Done(response), fingerprint, event.seq).await
}

/// The thread that it was about, and the response.
async fn execute(tx: &mut Tx, asked: &Asked) -> Result<(Option<String>, Value), Stop> {
    let (wanted, user_id) = (&asked.wanted, &asked.user.user_id);
    match wanted.method {
        "thread/start" => start(tx, asked).await,
        "thread/list" => {
            let page = threads::page(tx, &asked.user, &Before::newest(), PAGE_MAX).await?;
            Ok((None, document(serde_json::to_value(page))?))
        }
        "thread/resume" => {
            let thread = threads::owned(tx, wanted.thread()?, user_id).await?;
            Ok((Some(thread.thread_id.clone()), json!({"thread_id": thread.thread_id})))
        }
        "thread/read" => {
            let thread = threads::owned(tx, wanted.thread()?, user_id).await?;
            let page = threads::message_page(tx, &thread, From::After(0), READ_MAX).await?;
            Ok((Some(thread.thread_id), document(serde_json::to_value(page))?))
        }
        "turn/start" => {
            let thread_id = wanted.thread()?;
            let message = say(tx, asked, thread_id, wanted.needed_text()?).await?;
            let response = json!({
                "thread_id": thread_id,
                "turn": {"id": asked.turn_id},
                "message": brief(&message),
            });
            Ok((Some(thread_id.to_owned()), response))
        }
        // Nothing runs here that could be interrupted.
        _ => {
            let response = json!({
                "thread_id": wanted.thread_id,
                "turn_id": wanted.turn_id(),
                "status": "interrupted",
            });
            Ok((wanted.thread_id.clone(), response))
        }
    }
}

async fn start(tx: &mut Tx, asked: &Asked) -> Result<(Option<String>, Value), Stop> {
    let thread_id = asked.wanted.thread_id.as_ref().unwrap_or(&asked.new_thread_id);
    let response = match open(tx, asked, thread_id).await? {
        Some(message) => json!({"thread_id": thread_id, "message": brief(&message)}),
        None => json!({"thread_id": thread_id}),
    };
    Ok((Some(thread_id.clone()), response))
}

/// Begins a thread, with what the user says if anything.
pub async fn open(tx: &mut Tx, asked: &Asked, thread_id: &str) -> Result<Option<Message>, Stop> {
    if let Some(text) = asked.wanted.text()? {
        return say(tx, asked, thread_id, text).await.map(Some);
    }
    let org_id = threads::active_org(tx, &asked.user).await?;
    threads::owned_or_new(tx, thread_id, &asked.user.user_id, &org_id, asked.now).await?;
    Ok(None)
}

/// What the user says enters the thread.
pub async fn say(tx: &mut Tx, asked: &Asked, thread_id: &str, text: String) -> Result<Message, Stop> {
    let said = Said::by_user(asked.message_id.clone(), text);
    let (_, message) = threads::append_by_user(tx, &asked.user, thread_id, said, asked.now).await?;
    Ok(message)
}

fn brief(message: &Message) -> Value {
    json!({
        "id": message.message_id,
        "thread_id": message.thread_id,
        "role": message.role,
        "text": message.text,
    })
}

fn document(written: serde_json::Result<Value>) -> Result<Value, Fault> {
    written.map_err(|error| Fault::new("writing a response", error))
}
