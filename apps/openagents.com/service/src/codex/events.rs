//! Decides what happens when somebody posts an event to a worker's feed: it is kept under the next number, the worker
//! moves, a request ends, a question is answered, or a thread learns what codex said (control §14.2-§14.4). What comes
//! again under its id changes nothing.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::CodexEvents,
    operation::Data,
    wire::codex::{CodexEvent, IN_MEMORY, TakenCodexEvent, TakenCodexEventReply},
};
use oa_store::{
    Key, Tx,
    tables::{
        codex::{self as rows, Request, Worker},
        threads,
    },
};
use serde_json::Value;

use super::{
    TOUCH_EVERY_MS, approval, fresh, ingest, is_attached, log, owned_if_any,
    payload::{self, Kind, Parsed},
    receipt, save, state, worker_id,
};
use crate::{Control, identity::signed_in};

impl Handle<CodexEvents> for Control {
    async fn handle(&self, ask: Ask<CodexEvents>) -> Result<Answer<TakenCodexEventReply>, Stop> {
        let asked = Asked {
            user_id: signed_in(&ask.caller)?.user_id.clone(),
            worker_id: worker_id(&ask.path.worker_id)?,
            event: payload::parse(ask.body.event)?,
            message_id: format!("msg_{}", self.ids.uuid32()),
            now: self.clock.now(),
            keep: self.config.codex.event_retention,
        };
        let (keys, worker_id) = (asked.keys(), asked.worker_id.clone());
        let (event, idempotent_replay) = self.store.write("codex.event", keys, asked, take).await?;
        Ok(Data { data: TakenCodexEvent { worker_id, event, idempotent_replay } }.into())
    }
}

struct Asked {
    user_id: String,
    worker_id: String,
    event: Parsed,
    /// For the message that the event may become.
    message_id: String,
    now: Timestamp,
    keep: u64,
}

impl Asked {
    /// The worker, and the thread that may learn something.
    fn keys(&self) -> Vec<Key> {
        let thread = match &self.event.kind {
            Kind::Notification(notification) => notification.thread_id.as_deref().map(str::trim),
            _ => None,
        };
        [Some(rows::key(&self.worker_id)), thread.map(threads::key)].into_iter().flatten().collect()
    }
}

/// What an event meets that is to be taken.
enum Meets {
    Nothing,
    Request(Box<Request>),
    Question(oa_store::tables::codex::Approval),
}

/// The event as it is kept, and whether it was kept before.
async fn take(tx: &mut Tx, asked: &Asked) -> Result<(CodexEvent, bool), Stop> {
    let known = owned_if_any(tx, &asked.worker_id, &asked.user_id).await?;
    if let Some(before) = taken_before(tx, asked).await? {
        return Ok((before, true));
    }
    let meets = match &asked.event.kind {
        Kind::Receipt(given) => {
            match receipt::meet(tx, &asked.worker_id, given, asked.event.fingerprint).await? {
                receipt::Meets::Open(request) => Meets::Request(request),
                receipt::Meets::Itself(seq) => return Ok((again(tx, asked, seq).await?, true)),
            }
        }
        Kind::Approval { approval_id, decision } => {
            match approval::meet(tx, &asked.worker_id, approval_id, decision).await? {
                approval::Meets::Open(question) => Meets::Question(question),
                approval::Meets::Itself(seq) => return Ok((again(tx, asked, seq).await?, true)),
            }
        }
        Kind::Plain | Kind::Notification(_) => Meets::Nothing,
    };
    let mut worker = known.unwrap_or_else(|| fresh(&asked.worker_id, &asked.user_id, asked.now));
    let event = keep(tx, &mut worker, asked).await?;
    match meets {
        Meets::Nothing => {}
        Meets::Request(request) => end(tx, &worker, *request, asked, event.seq).await?,
        Meets::Question(question) => answer(tx, question, asked, event.seq).await?,
    }
    if let Kind::Notification(notification) = &asked.event.kind {
        let approval_id = notification.approval_id.as_deref().map(str::trim);
        if let Some(approval_id) = approval_id.filter(|id| !id.is_empty()) {
            approval::ask(tx, &worker.worker_id, approval_id, event.seq).await?;
        }
        ingest::notification(tx, &worker, notification, &asked.message_id, asked.now).await?;
    }
    save(tx, &mut worker).await?;
    Ok((event, false))
}

/// The event that was taken under this id, if it is the same.
async fn taken_before(tx: &mut Tx, asked: &Asked) -> Result<Option<CodexEvent>, Stop> {
    let Some(event_id) = &asked.event.event_id else { return Ok(None) };
    let Some(before) = rows::event_by_id(tx, &asked.worker_id, event_id).await? else { return Ok(None) };
    let document: Value = serde_json::from_str(before.payload.get()).unwrap_or_default();
    match payload::print(&before.event_type, &document) == asked.event.fingerprint {
        true => Ok(Some(before)),
        false => {
            let message =
                format!("event_id {event_id:?} names event {}, which says something else", before.seq);
            Err(Refusal::conflict(message).into())
        }
    }
}

/// The event that this one repeats; when it is no longer kept, what it was.
async fn again(tx: &mut Tx, asked: &Asked, seq: u64) -> Result<CodexEvent, Stop> {
    let kept = rows::event(tx, &asked.worker_id, seq).await?;
    Ok(kept.unwrap_or_else(|| CodexEvent {
        seq,
        event_type: asked.event.event_type.clone(),
        payload: asked.event.payload.clone(),
        occurred_at: asked.event.occurred_at.unwrap_or(asked.now),
        received_at: asked.now,
        event_id: asked.event.event_id.clone(),
    }))
}

/// Moves the worker and appends the event. Coming to rest ends first whatever the worker was still asked. When it was
/// received drives the state; when it occurred is only told.
async fn keep(tx: &mut Tx, worker: &mut Worker, asked: &Asked) -> Result<CodexEvent, Stop> {
    let Asked { event, now, .. } = asked;
    let next = state::after(worker.status, &event.event_type)?;
    if next.is_at_rest() {
        receipt::end_all(tx, worker, "the worker ended before it answered", *now, asked.keep).await?;
    }
    if event.event_type == state::HEARTBEAT {
        beat(tx, worker, *now).await?;
    }
    let new = log::New {
        event_type: &event.event_type,
        payload: event.payload.clone(),
        occurred_at: event.occurred_at.unwrap_or(*now),
        event_id: event.event_id.as_deref(),
    };
    let kept = log::append(tx, worker, new, *now, asked.keep).await?;
    state::enter(worker, next, *now);
    Ok(kept)
}

/// A heartbeat keeps a worker attached that is; it attaches nobody, because whoever only beats hears nothing.
async fn beat(tx: &mut Tx, worker: &mut Worker, now: Timestamp) -> Result<(), Stop> {
    worker.last_heartbeat_at = Some(now);
    match worker.adapter != IN_MEMORY && is_attached(worker, now) {
        true => rows::touch(tx, &worker.worker_id, now, now.plus_millis(-TOUCH_EVERY_MS)).await,
        false => Ok(()),
    }
}

async fn end(tx: &mut Tx, worker: &Worker, request: Request, asked: &Asked, seq: u64) -> Result<(), Stop> {
    if let Kind::Receipt(given) = &asked.event.kind {
        let request = receipt::end(tx, request, &given.outcome, asked.event.fingerprint, seq).await?;
        ingest::response(tx, worker, &request, &given.outcome, asked.now).await?;
    }
    Ok(())
}

async fn answer(
    tx: &mut Tx,
    question: oa_store::tables::codex::Approval,
    asked: &Asked,
    seq: u64,
) -> Result<(), Stop> {
    if let Kind::Approval { decision, .. } = &asked.event.kind {
        approval::decide(tx, question, decision, seq).await?;
    }
    Ok(())
}
