//! Decides whether a provider may be called for a job: nobody else is at it, it was not done before, the provider
//! still is what it was when it was chosen, and its price can be held. Then the call is written down.

use std::sync::Arc;

use oa_contract::{
    Caller, Code, Fault, Refusal, Stop, Timestamp,
    wire::marketplace::{DispatchHold, DispatchReply, Quote},
};
use oa_ledger::{State, TransferId, budget::Place};
use oa_market::{AllIn, Candidate, price::all_in};
use oa_store::{
    Key, Tx,
    tables::{
        ledger,
        market_dispatches::{self as dispatches, CallRow, DispatchRow, DispatchState, JobKey},
        market_quotes::{self, QuoteRow},
        reserve_pool, workers,
    },
};
use serde::{Deserialize, Serialize};

use super::{Call, Desk, GRACE_SECONDS, Job, evidence::Document, tier_name};
use crate::{
    marketplace::{
        job_key, market, place, quote_sandbox_run as quotes, reserve,
        telemetry::{self, Note},
    },
    runs::visible_head,
};

/// What is looked for before anything is chosen.
#[derive(Clone, Debug)]
pub struct Look {
    pub key: JobKey,
    pub caller: Caller,
    pub quote_id: Option<String>,
    pub quote_sha256: Option<String>,
    pub asked_at: Timestamp,
    pub now: Timestamp,
}

#[derive(Debug)]
pub enum Looked {
    Reply(Box<DispatchReply>),
    Busy { dispatch_id: String },
    Free { quote: Option<Box<QuoteRow>> },
}

/// Whether the job was done before, is being done, or may be done now at the price that was promised.
pub async fn look(tx: &mut Tx, look: &Look) -> Result<Looked, Stop> {
    run_is_theirs(tx, &look.key, &look.caller).await?;
    let known = dispatches::find(tx, &look.key).await?;
    if let Some(row) = &known {
        match stands(row, look.asked_at, look.now)? {
            Some(Opened::Replay(reply)) => return Ok(Looked::Reply(reply)),
            Some(Opened::Busy { dispatch_id }) => return Ok(Looked::Busy { dispatch_id }),
            _ => {}
        }
    }
    let Some(quote_id) = &look.quote_id else { return Ok(Looked::Free { quote: None }) };
    let quote = market_quotes::get(tx, &look.key.owner, quote_id).await?;
    let quote = quote.ok_or_else(|| Refusal::not_found(format!("no quote {quote_id}")))?;
    promised(&quote, look, known.as_ref().map(|row| row.dispatch_id.as_str()))?;
    Ok(Looked::Free { quote: Some(Box::new(quote)) })
}

/// Whether the quote is for this job and still binds. A dispatch that took it in time keeps it, however often it has
/// to be tried.
fn promised(quote: &QuoteRow, look: &Look, ours: Option<&str>) -> Result<(), Refusal> {
    if look.quote_sha256.as_ref().is_some_and(|said| *said != quote.quote_sha256) {
        return Err(Refusal::conflict("quote_sha256 is not the hash of the quote with this id"));
    }
    if quote.job_hash != look.key.job_hash {
        return Err(Refusal::invalid("quote.objective_hash does not match job_hash"));
    }
    match quote.dispatch_id.as_deref() {
        Some(taken) if ours == Some(taken) => Ok(()),
        Some(_) => Err(Refusal::conflict(format!("quote {} was taken by another dispatch", quote.quote_id))),
        None if quote.valid_until_unix < look.now.unix_seconds() => {
            Err(Refusal::invalid("quote has expired"))
        }
        None => Ok(()),
    }
}

/// A run that is named is the owner's own, and the caller may see it.
async fn run_is_theirs(tx: &mut Tx, key: &JobKey, caller: &Caller) -> Result<(), Stop> {
    let Some(run_id) = key.run_id else { return Ok(()) };
    let head = visible_head(tx, run_id, caller).await?;
    match head.owner_key.is_none_or(|owner| owner == key.owner.to_string()) {
        true => Ok(()),
        false => Err(Refusal::not_found(format!("no run {run_id}")).into()),
    }
}

/// What came of opening a call.
#[derive(Debug)]
pub(super) enum Opened {
    Call(Box<Call>),
    Replay(Box<DispatchReply>),
    Busy {
        dispatch_id: String,
    },
    /// The candidate is not what it was, or there is none.
    Changed(String),
}

/// Everything the transaction needs, decided before it.
pub(super) struct Opening {
    job: Arc<Job>,
    candidate: Option<Candidate>,
    /// The dispatch that is ours already, and its last call.
    continuing: Option<(String, u64)>,
    fresh_id: String,
    request: Result<Document, String>,
    stale_after_ms: i64,
    busy_until: Timestamp,
    hold_until: Timestamp,
    asked_at: Timestamp,
    now: Timestamp,
}

impl Opening {
    pub(super) fn new(
        desk: &Desk,
        job: &Arc<Job>,
        candidate: &Candidate,
        continuing: Option<(String, u64)>,
    ) -> Self {
        let now = desk.now();
        Opening { candidate: Some(candidate.clone()), continuing, ..Opening::bare(desk, job, now) }
    }

    fn bare(desk: &Desk, job: &Arc<Job>, now: Timestamp) -> Self {
        Opening {
            job: job.clone(),
            candidate: None,
            continuing: None,
            fresh_id: format!("dsp_{}", desk.ids.uuid32()),
            request: Document::of(&job.request).map_err(|error| error.to_string()),
            stale_after_ms: desk.stale_after_ms,
            // Longer than the call can take: whoever finds it over may take it over.
            busy_until: now.plus_seconds(job.call_seconds() + 2 * GRACE_SECONDS),
            // No hold ends while the job may still run.
            hold_until: now.plus_seconds(desk.hold_seconds.max(super::WALL_CALLS * job.call_seconds() + 60)),
            asked_at: job.asked_at,
            now,
        }
    }

    fn keys(&self) -> Vec<Key> {
        let key = &self.job.key;
        match self.candidate.is_some() {
            true => vec![job_key(key), quotes::key(&key.owner)],
            false => vec![job_key(key), telemetry::key(&key.owner)],
        }
    }
}

/// The price at which this one is called, bound to this dispatch: the promised one where it was promised, otherwise
/// that of now.
async fn quoted(
    tx: &mut Tx,
    opening: &Opening,
    candidate: &Candidate,
    dispatch_id: &str,
) -> Result<Option<(Quote, QuoteRow)>, Stop> {
    let job = &opening.job;
    let worker_id = &candidate.offer.standing.worker_id;
    if let Some(row) = job.quote.as_ref().filter(|row| row.worker_id == *worker_id) {
        let kept = market_quotes::keep(tx, row).await?;
        let bound = market_quotes::bind(tx, kept, dispatch_id).await?;
        let quote = serde_json::from_str(bound.quote.get());
        return Ok(Some((quote.map_err(|error| Fault::new("reading a kept quote", error))?, bound)));
    }
    for second in 0..quotes::SECONDS {
        let at = opening.now.plus_seconds(second);
        let Some(quote) = quotes::promised(candidate, &job.key.job_hash, at) else { return Ok(None) };
        // A price that somebody was promised is left to them.
        let known = market_quotes::get(tx, &job.key.owner, &quote.quote_id).await?;
        let ours = known.as_ref().is_none_or(|known| known.dispatch_id.as_deref() == Some(dispatch_id));
        if ours {
            let row = quotes::row(&job.key.owner, &quote, opening.now)?;
            let kept = market_quotes::keep(tx, &row).await?;
            return Ok(Some((quote, market_quotes::bind(tx, kept, dispatch_id).await?)));
        }
    }
    Err(quotes::too_many().into())
}

pub(super) async fn run(desk: &Desk, opening: Opening) -> Result<Opened, Stop> {
    let keys = opening.keys();
    desk.store.write("market.open", keys, opening, open).await
}

/// Nobody can do it: notes that, unless it was done before.
pub(super) async fn nobody(desk: &Desk, job: &Arc<Job>) -> Result<Opened, Stop> {
    run(desk, Opening::bare(desk, job, desk.now())).await
}

async fn open(tx: &mut Tx, opening: &Opening) -> Result<Opened, Stop> {
    let key = &opening.job.key;
    run_is_theirs(tx, key, &opening.job.caller).await?;
    let known = dispatches::find(tx, key).await?;
    if let Some(row) = &known {
        let ours = opening.continuing.as_ref().is_some_and(|(id, call_no)| {
            row.dispatch_id == *id && row.calls == *call_no && row.state == DispatchState::Calling
        });
        if !ours {
            if let Some(stands) = stands(row, opening.asked_at, opening.now)? {
                return Ok(stands);
            }
            abandon(tx, row, opening.now).await?;
        }
    }
    let Some(candidate) = &opening.candidate else {
        telemetry::note(tx, &key.owner, Note::NotFound, opening.now).await?;
        return Ok(Opened::Changed("no eligible provider".into()));
    };
    if let Some(why) = changed(tx, opening, candidate).await? {
        return Ok(Opened::Changed(why));
    }
    write(tx, opening, candidate, known).await.map(|call| Opened::Call(Box::new(call)))
}

async fn write(
    tx: &mut Tx,
    opening: &Opening,
    candidate: &Candidate,
    known: Option<DispatchRow>,
) -> Result<Call, Stop> {
    let (job, now) = (&opening.job, opening.now);
    let worker_id = &candidate.offer.standing.worker_id;
    let dispatch_id = known.as_ref().map_or_else(|| opening.fresh_id.clone(), |row| row.dispatch_id.clone());
    let call_no = known.as_ref().map_or(0, |row| row.calls) + 1;
    let request = opening.request.as_ref().map_err(|error| Fault::msg(error.clone()))?;
    let place = match &known {
        // Where it was begun is where it lies, whoever goes on with it.
        Some(row) => place::agreed(&row.place, &job.place, "the dispatch")?,
        None => place::around(tx, job.key.run_id, &job.place).await?,
    };
    dispatches::keep_document(tx, &request.sha256, &request.text, now).await?;
    let quoted = quoted(tx, opening, candidate, &dispatch_id).await?;
    let hold = match &quoted {
        Some((_, row)) => Some(held(tx, opening, worker_id, (&dispatch_id, call_no), &place, row).await?),
        None => None,
    };
    let quote = quoted.map(|(quote, _)| quote);
    let quote_id = quote.as_ref().map(|quote| quote.quote_id.clone());
    let hold_id = hold.as_ref().map(|hold: &DispatchHold| hold.transfer_id.clone());
    let call = CallRow {
        dispatch_id: dispatch_id.clone(),
        call_no,
        worker_id: worker_id.clone(),
        provider_id: candidate.offer.provider_id.clone(),
        tier: tier_name(candidate.tier).to_owned(),
        quote_id: quote_id.clone(),
        hold_id: hold_id.clone(),
        outcome: "calling".into(),
        detail: None,
        response_sha256: None,
        latency_ms: None,
        began_at: now,
        ended_at: None,
    };
    dispatches::put_call(tx, &call).await?;
    let row = DispatchRow {
        dispatch_id: dispatch_id.clone(),
        job: job.key.clone(),
        state: DispatchState::Calling,
        calls: call_no,
        worker_id: Some(worker_id.clone()),
        provider_id: Some(candidate.offer.provider_id.clone()),
        quote_id,
        hold_id,
        request_sha256: request.sha256.clone(),
        response_sha256: None,
        signed_by: None,
        signature: None,
        reply: None,
        busy_until: Some(opening.busy_until),
        opened_at: known.map_or(now, |row| row.opened_at),
        changed_at: now,
        answered_at: None,
        place,
    };
    dispatches::put(tx, &row).await?;
    Ok(Call { dispatch_id, call_no, candidate: candidate.clone(), quote, hold, began_at: now })
}

async fn held(
    tx: &mut Tx,
    opening: &Opening,
    worker_id: &str,
    (dispatch_id, call_no): (&str, u64),
    place: &Place,
    row: &QuoteRow,
) -> Result<DispatchHold, Stop> {
    let price = AllIn {
        provider: row.provider_price,
        operator_fee: row.operator_fee,
        policy_adder: row.policy_adder,
    };
    let wanted = reserve::Wanted {
        id: reserve::hold_id(dispatch_id, call_no)?,
        owner: opening.job.key.owner.clone(),
        place: place.clone(),
        worker_id: worker_id.to_owned(),
        price,
        expires_at: opening.hold_until,
        reference: format!("dispatch {dispatch_id} of job {}", opening.job.key.job_hash),
    };
    let booked = reserve::hold(tx, &wanted, opening.now).await?;
    Ok(DispatchHold {
        transfer_id: booked.transfer.id.to_string(),
        amount_msats: price.total()?,
        expires_at: booked.transfer.expires_at.unwrap_or(opening.hold_until),
    })
}

/// Whether the worker is not any more what the index says of it. Prices that were not promised count.
async fn changed(tx: &mut Tx, opening: &Opening, candidate: &Candidate) -> Result<Option<String>, Stop> {
    let worker_id = &candidate.offer.standing.worker_id;
    let gone = || Some(format!("provider {} is not to be had any more", candidate.offer.provider_id));
    let Some(row) = workers::get(tx, worker_id).await? else { return Ok(gone()) };
    let reserved = reserve_pool::since(tx, worker_id).await?.is_some();
    let Some(offer) = market::offer(&row, reserved)? else { return Ok(gone()) };
    let fresh = offer.liveness(opening.now, opening.stale_after_ms).0
        == oa_contract::wire::workers::HeartbeatState::Fresh;
    let promised = opening.job.quote.as_ref().is_some_and(|quote| quote.worker_id == *worker_id);
    let capability = oa_contract::wire::jobs::SANDBOX_RUN;
    let priced = promised || all_in(&offer, capability) == candidate.price;
    let same = fresh && priced && market::still_stands(&candidate.offer, &offer, &opening.job.key.owner);
    Ok(if same { None } else { gone() })
}

/// What stands already, unless the job may be tried now. What failed or was not served after this request had
/// come is its answer too: it was there to see it happen.
fn stands(row: &DispatchRow, asked_at: Timestamp, now: Timestamp) -> Result<Option<Opened>, Stop> {
    let seen = row.changed_at >= asked_at;
    match row.state {
        DispatchState::Answered | DispatchState::Settled => Ok(Some(Opened::Replay(reply(row)?))),
        DispatchState::Unserved if seen => Ok(Some(Opened::Replay(reply(row)?))),
        DispatchState::Failed if seen => match &row.reply {
            Some(kept) => Err(KeptRefusal::read(kept.get())?.into()),
            None => Ok(None),
        },
        DispatchState::Calling if row.busy_until.is_some_and(|until| until > now) => {
            Ok(Some(Opened::Busy { dispatch_id: row.dispatch_id.clone() }))
        }
        _ => Ok(None),
    }
}

fn reply(row: &DispatchRow) -> Result<Box<DispatchReply>, Fault> {
    let kept = row.reply.as_ref().map(|reply| serde_json::from_str(reply.get()));
    let kept = kept.ok_or_else(|| Fault::msg(format!("dispatch {} has no answer", row.dispatch_id)))?;
    kept.map_err(|error| Fault::new("reading a kept answer", error))
}

/// A refusal that is kept for those who waited for it too.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptRefusal {
    code: String,
    message: String,
    reason_code: Option<String>,
}

/// Reasons that a dispatch may be refused with.
const REASONS: [&str; 5] =
    ["provider_unreachable", "provider_timeout", "provider_status", "provider_bad_body", "budget_exceeded"];

impl KeptRefusal {
    pub(super) fn of(refusal: &Refusal) -> Self {
        KeptRefusal {
            code: refusal.code.name().to_owned(),
            message: refusal.message.clone(),
            reason_code: refusal.reason_code.map(str::to_owned),
        }
    }

    fn read(text: &str) -> Result<Refusal, Fault> {
        let kept: KeptRefusal =
            serde_json::from_str(text).map_err(|error| Fault::new("reading a kept refusal", error))?;
        let code = Code::ALL.iter().copied().find(|code| code.name() == kept.code);
        let mut refusal = Refusal::new(code.unwrap_or(Code::InvalidRequest), kept.message);
        refusal.reason_code = REASONS.into_iter().find(|reason| Some(*reason) == kept.reason_code.as_deref());
        Ok(refusal)
    }
}

/// Takes over from somebody who is not heard of any more: its call is written off, what it held is free.
async fn abandon(tx: &mut Tx, row: &DispatchRow, now: Timestamp) -> Result<(), Stop> {
    if row.state != DispatchState::Calling {
        return Ok(());
    }
    let calls = dispatches::calls(tx, &row.dispatch_id).await?;
    for call in calls.into_iter().filter(|call| call.outcome == "calling") {
        if let Some(hold_id) = &call.hold_id {
            release(tx, hold_id, now).await?;
        }
        let ended = CallRow { outcome: "abandoned".into(), ended_at: Some(now), ..call };
        dispatches::put_call(tx, &ended).await?;
    }
    let failed = DispatchRow {
        state: DispatchState::Failed,
        hold_id: None,
        reply: None,
        busy_until: None,
        changed_at: now,
        ..row.clone()
    };
    dispatches::put(tx, &failed).await
}

/// Gives back what is held, if it still is.
pub(super) async fn release(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<(), Stop> {
    let id = TransferId::new(hold_id)?;
    let Some(held) = ledger::get(tx, &id).await? else { return Ok(()) };
    if held.state != State::Pending {
        return Ok(());
    }
    match held.expires_at.is_some_and(|at| at <= now) {
        true => ledger::expire(tx, &id, now).await?,
        false => ledger::void(tx, &id, now).await?,
    };
    Ok(())
}
