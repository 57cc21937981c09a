//! Decides what a call comes to: the response is kept under its digest with our statement about it, the price stays
//! held or is free again, the provider is struck or not, and the owner's telemetry moves. All of it, or nothing.

use oa_contract::{
    Fault, Refusal, Stop, Timestamp,
    wire::{
        jobs::SandboxRunResponse,
        marketplace::{DispatchEvidence, DispatchReply, ProviderCall},
    },
};
use oa_market::index::Ranked;
use oa_store::{
    Tx,
    tables::market_dispatches::{self as dispatches, CallRow, DispatchRow, DispatchState, JobKey},
};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Call, Desk, Job,
    evidence::{self, Document, Statement},
    open::{KeptRefusal, release},
    provider::Outcome,
    tier_name,
};
use crate::{
    marketplace::{
        job_key,
        route_provider::selected,
        telemetry::{self, Note},
    },
    workers::{
        self,
        reputation::{self, Seen, Signal},
        snapshot::Moment,
    },
};

/// A call that has ended.
pub(super) struct Closing {
    pub call: Call,
    pub outcome: Outcome,
    /// Somebody else is asked next.
    pub more: bool,
    /// Whom the first call went to, if that was another one.
    pub fallback_from: Option<String>,
    /// Every call so far.
    pub made: Vec<ProviderCall>,
}

pub(super) enum Closed {
    Done(Box<DispatchReply>),
    Failed(Stop),
    Next(Stop),
    /// The dispatch has moved on without this call.
    Late {
        dispatch_id: String,
    },
}

/// Everything the transaction writes, decided before it.
struct Written {
    job: JobKey,
    call: CallRow,
    state: DispatchState,
    /// The price stays held.
    keeps_hold: bool,
    document: Option<Document>,
    evidence: Option<DispatchEvidence>,
    reply: Option<Box<RawValue>>,
    signal: Option<Seen>,
    note: Option<Note>,
    moment: Moment,
}

pub(super) async fn run(desk: &Desk, job: &Job, ranked: &Ranked, closing: Closing) -> Result<Closed, Stop> {
    let moment = desk.moment();
    let dispatch_id = closing.call.dispatch_id.clone();
    let worker_id = closing.call.candidate.offer.standing.worker_id.clone();
    let reply = match &closing.outcome.result {
        Ok(response) => Some(answered(desk, job, ranked, &closing, response, moment)?),
        Err(_) => None,
    };
    let written = decide(job, &closing, reply.as_ref(), moment)?;
    let mut keys = vec![job_key(&job.key), telemetry::key(&job.key.owner)];
    keys.extend(written.signal.as_ref().map(|_| workers::key(&worker_id)));
    let late = desk.store.write("market.close", keys, written, close).await?;
    if late {
        return Ok(Closed::Late { dispatch_id });
    }
    let failed = |closing: Closing| match closing.outcome.result {
        Err(failure) => Stop::from(failure.refusal),
        Ok(response) => Refusal::invalid(format!("the provider answered {}", response.status.word())).into(),
    };
    if closing.more {
        return Ok(Closed::Next(failed(closing)));
    }
    desk.calls.ended(&dispatch_id);
    match reply {
        Some(reply) => Ok(Closed::Done(Box::new(reply.reply))),
        None => Ok(Closed::Failed(failed(closing))),
    }
}

/// An answer, and the document in it.
struct Answered {
    reply: DispatchReply,
    document: Document,
}

fn answered(
    desk: &Desk,
    job: &Job,
    ranked: &Ranked,
    closing: &Closing,
    response: &SandboxRunResponse,
    moment: Moment,
) -> Result<Answered, Fault> {
    let call = &closing.call;
    let document = evidence::document(response)?;
    let statement = Statement {
        dispatch_id: &call.dispatch_id,
        job: &job.key,
        provider_id: &call.candidate.offer.provider_id,
        worker_id: &call.candidate.offer.standing.worker_id,
        request_sha256: &job.key.job_hash,
        response_sha256: &document.sha256,
        answered_at: moment.now,
    };
    let reply = DispatchReply {
        job_hash: job.key.job_hash.clone(),
        selection: selected(&call.candidate, ranked, moment),
        response: response.clone(),
        latency_ms: closing.outcome.latency_ms,
        fallback_from_provider_id: closing.fallback_from.clone(),
        dispatch_id: call.dispatch_id.clone(),
        run_id: job.key.run_id,
        attempt: job.key.attempt,
        quote: call.quote.clone(),
        hold: call.hold.clone().filter(|_| closing.outcome.is_final()),
        calls: closing.made.clone(),
        evidence: statement.evidence(desk.signer.as_ref()),
    };
    Ok(Answered { reply, document })
}

fn decide(
    job: &Job,
    closing: &Closing,
    answered: Option<&Answered>,
    moment: Moment,
) -> Result<Written, Fault> {
    let (call, outcome) = (&closing.call, &closing.outcome);
    let state = match (&outcome.result, closing.more) {
        (_, true) => DispatchState::Calling,
        (Ok(response), false) if response.status.was_run() => DispatchState::Answered,
        (Ok(_), false) => DispatchState::Unserved,
        (Err(_), false) => DispatchState::Failed,
    };
    let fell_back = closing.made.len() > 1;
    let note = match (&outcome.result, closing.more) {
        (_, true) => None,
        (Ok(_), false) => Some(Note::Answered { latency_ms: outcome.latency_ms, fell_back }),
        (Err(_), false) => Some(Note::Failed),
    };
    let reply = match (answered, &outcome.result) {
        (Some(answered), _) => Some(to_raw_value(&answered.reply)),
        (None, Err(failure)) => Some(to_raw_value(&KeptRefusal::of(&failure.refusal))),
        (None, Ok(_)) => None,
    };
    let seen = |reason| Seen {
        worker_id: call.candidate.offer.standing.worker_id.clone(),
        subject_id: call.dispatch_id.clone(),
        job_hash: job.key.job_hash.clone(),
        signal: Signal::DispatchFailure { reason },
    };
    Ok(Written {
        job: job.key.clone(),
        call: CallRow {
            dispatch_id: call.dispatch_id.clone(),
            call_no: call.call_no,
            worker_id: call.candidate.offer.standing.worker_id.clone(),
            provider_id: call.candidate.offer.provider_id.clone(),
            tier: tier_name(call.candidate.tier).to_owned(),
            quote_id: call.quote.as_ref().map(|quote| quote.quote_id.clone()),
            hold_id: call.hold.as_ref().map(|hold| hold.transfer_id.clone()),
            outcome: outcome.word().to_owned(),
            detail: outcome.detail(),
            response_sha256: answered.map(|answered| answered.document.sha256.clone()),
            latency_ms: Some(outcome.latency_ms),
            began_at: call.began_at,
            ended_at: Some(moment.now),
        },
        state,
        keeps_hold: outcome.is_final(),
        document: answered.map(|answered| answered.document.clone()),
        evidence: answered.map(|answered| answered.reply.evidence.clone()),
        reply: reply.transpose().map_err(|error| Fault::new("keeping an answer", error))?,
        signal: outcome.strike().map(seen),
        note,
        moment,
    })
}

/// Says whether it came too late: the dispatch has gone on to another call, or was taken over.
async fn close(tx: &mut Tx, written: &Written) -> Result<bool, Stop> {
    let now = written.moment.now;
    if let Some(document) = &written.document {
        dispatches::keep_document(tx, &document.sha256, &document.text, now).await?;
    }
    let row = dispatches::find(tx, &written.job).await?;
    let row = row.ok_or_else(|| Fault::msg(format!("dispatch {} is gone", written.call.dispatch_id)))?;
    let ours = row.dispatch_id == written.call.dispatch_id
        && row.calls == written.call.call_no
        && row.state == DispatchState::Calling;
    if !ours {
        let late = CallRow {
            outcome: "late".into(),
            detail: Some(format!("it answered {} when nobody waited any more", written.call.outcome)),
            ..written.call.clone()
        };
        dispatches::put_call(tx, &late).await?;
        return Ok(true);
    }
    dispatches::put_call(tx, &written.call).await?;
    if !written.keeps_hold
        && let Some(hold_id) = &written.call.hold_id
    {
        release(tx, hold_id, now).await?;
    }
    dispatches::put(tx, &after(row, written)).await?;
    if let Some(seen) = &written.signal {
        reputation::count(tx, seen, written.moment).await?;
    }
    if let Some(note) = written.note {
        telemetry::note(tx, &written.job.owner, note, now).await?;
    }
    Ok(false)
}

fn after(row: DispatchRow, written: &Written) -> DispatchRow {
    let evidence = written.evidence.as_ref();
    let ended = written.state != DispatchState::Calling;
    DispatchRow {
        state: written.state,
        hold_id: row.hold_id.clone().filter(|_| written.keeps_hold),
        response_sha256: evidence.map(|evidence| evidence.response_sha256.clone()),
        signed_by: evidence.and_then(|evidence| evidence.signed_by.clone()),
        signature: evidence.and_then(|evidence| evidence.signature.clone()),
        reply: written.reply.clone(),
        busy_until: row.busy_until.filter(|_| !ended),
        changed_at: written.moment.now,
        answered_at: evidence.filter(|_| ended).map(|_| written.moment.now),
        ..row
    }
}

/// Nobody is asked any more although somebody could be: the budget is used up, or the rest has changed.
pub(super) async fn give_up(desk: &Desk, job: &Job, dispatch_id: &str, call_no: u64) -> Result<(), Stop> {
    let ask = GiveUp { job: job.key.clone(), dispatch_id: dispatch_id.to_owned(), call_no, now: desk.now() };
    let keys = [job_key(&job.key), telemetry::key(&job.key.owner)];
    desk.store.write("market.give_up", keys, ask, end).await?;
    desk.calls.ended(dispatch_id);
    Ok(())
}

struct GiveUp {
    job: JobKey,
    dispatch_id: String,
    call_no: u64,
    now: Timestamp,
}

async fn end(tx: &mut Tx, ask: &GiveUp) -> Result<(), Stop> {
    let Some(row) = dispatches::find(tx, &ask.job).await? else { return Ok(()) };
    let ours = row.dispatch_id == ask.dispatch_id && row.calls == ask.call_no;
    if !ours || row.state != DispatchState::Calling {
        return Ok(());
    }
    let failed = DispatchRow {
        state: DispatchState::Failed,
        hold_id: None,
        busy_until: None,
        changed_at: ask.now,
        // What the last one answered is not this dispatch's answer: whoever waited asks again.
        reply: None,
        ..row
    };
    dispatches::put(tx, &failed).await?;
    telemetry::note(tx, &ask.job.owner, Note::Failed, ask.now).await
}
