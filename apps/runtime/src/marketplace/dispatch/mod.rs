//! How a job gets to a provider and back (marketplace §7): an opening transaction holds the price and writes the
//! call down, the provider is called outside of any, a closing one writes down what came back. Candidates are
//! tried in turn, with a budget of calls and of time; what nobody waits for any more is still brought to its end.

mod close;
mod desk;
mod evidence;
mod open;
mod provider;

pub use desk::{Calls, Desk};
pub use evidence::Document;
pub use open::{Look, Looked, look};
pub use provider::provider_key;

use std::sync::Arc;

use oa_contract::{
    Caller, Refusal, Stop, Timestamp,
    wire::{
        jobs::{SANDBOX_RUN, SandboxRunRequest},
        marketplace::{DispatchHold, DispatchReply, ProviderCall, Quote, SelectionTier},
    },
};
use oa_ledger::budget::Place;
use oa_market::{Candidate, Need, index::Ranked};
use oa_store::tables::{market_dispatches::JobKey, market_quotes::QuoteRow};

use super::route_provider::nobody;
use crate::workers::snapshot::Moment;
use open::{Opened, Opening};
use provider::Outcome;

/// Providers that are asked for one dispatch, at most.
const MOST_CALLS: usize = 4;
/// Candidates that are looked at; beyond those that are called, they tell why they were not chosen.
const LOOKED_AT: usize = 8;
/// What a provider has beyond the time that the job may take.
const GRACE_SECONDS: i64 = 5;
/// After so many times what one call may take, no further one is begun.
const WALL_CALLS: i64 = 2;

/// A job on its way.
#[derive(Clone, Debug)]
pub struct Job {
    pub key: JobKey,
    pub caller: Caller,
    /// Where the request says that it lies, beyond its run.
    pub place: Place,
    pub request: SandboxRunRequest,
    /// The price that its owner was promised and wants kept.
    pub quote: Option<Box<QuoteRow>>,
    /// When the request for it came.
    pub asked_at: Timestamp,
}

impl Job {
    /// What the owner gives it.
    fn seconds(&self) -> i64 {
        i64::from(self.request.sandbox.resources.timeout_secs)
    }

    fn call_seconds(&self) -> i64 {
        self.seconds() + GRACE_SECONDS
    }
}

/// What became of an attempt to have a job done.
#[derive(Debug)]
pub enum Dispatched {
    Done(Box<DispatchReply>),
    /// Somebody else is at it.
    Busy {
        dispatch_id: String,
    },
}

/// A call that is written down and may be made.
#[derive(Clone, Debug)]
struct Call {
    dispatch_id: String,
    call_no: u64,
    candidate: Candidate,
    quote: Option<Quote>,
    hold: Option<DispatchHold>,
    began_at: Timestamp,
}

/// Has a job done: to its end, whoever still waits for it.
pub async fn drive(desk: Desk, job: Arc<Job>) -> Result<Dispatched, Stop> {
    let begun = desk.now();
    let ranked = desk.ranked(&job).await?;
    let mut made: Vec<ProviderCall> = Vec::new();
    let mut dispatch: Option<(String, u64)> = None;
    let mut left = in_turn(&job, &ranked).into_iter().take(MOST_CALLS).peekable();
    if left.peek().is_none() {
        return nobody_there(&desk, &job, nobody(&ranked).into()).await;
    }
    let (mut last, mut full) = (None, None);
    while let Some(candidate) = left.next() {
        let Some(_place) = desk.calls.place(&candidate.offer).await else {
            full = full.or_else(|| Some(busy(&candidate)));
            continue;
        };
        let opening = Opening::new(&desk, &job, &candidate, dispatch.clone());
        let call = match open::run(&desk, opening).await {
            Ok(Opened::Call(call)) => *call,
            Ok(Opened::Replay(reply)) => return Ok(Dispatched::Done(reply)),
            Ok(Opened::Busy { dispatch_id }) => return Ok(Dispatched::Busy { dispatch_id }),
            // It has changed since it was chosen: whoever comes next is asked.
            Ok(Opened::Changed(why)) => {
                last = last.or_else(|| Some(Stop::from(Refusal::not_found(why))));
                continue;
            }
            Err(stop) => {
                if let Some((dispatch_id, call_no)) = &dispatch {
                    close::give_up(&desk, &job, dispatch_id, *call_no).await?;
                }
                return Err(stop);
            }
        };
        dispatch = Some((call.dispatch_id.clone(), call.call_no));
        let outcome = provider::ask(&desk, &job, &call).await;
        let in_time = desk.now().millis_since(begun) < job.call_seconds() * WALL_CALLS * 1_000;
        let more = left.peek().is_some() && in_time && !outcome.is_final() && !outcome.took_all_its_time;
        let first = made.first().map(|first| first.provider_id.clone());
        made.push(told(&call.candidate, &outcome));
        let closing = close::Closing { call, outcome, more, fallback_from: first, made: made.clone() };
        match close::run(&desk, &job, &ranked, closing).await? {
            close::Closed::Done(reply) => return Ok(Dispatched::Done(reply)),
            close::Closed::Failed(stop) => return Err(stop),
            close::Closed::Late { dispatch_id } => return Ok(Dispatched::Busy { dispatch_id }),
            close::Closed::Next(stop) => last = Some(stop),
        }
    }
    let last = last.unwrap_or_else(|| nobody(&ranked).into());
    match (&dispatch, full) {
        (Some((dispatch_id, call_no)), _) => {
            close::give_up(&desk, &job, dispatch_id, *call_no).await?;
            Err(last)
        }
        (None, Some(full)) => Err(full.into()),
        // Nobody is any more what it was chosen for: nobody was found.
        (None, None) => nobody_there(&desk, &job, last).await,
    }
}

/// Whoever could do it has its hands full.
fn busy(candidate: &Candidate) -> Refusal {
    let mut refusal = Refusal::unavailable(format!(
        "provider {} has as many jobs as it does at one time; send the same request again",
        candidate.offer.provider_id
    ));
    refusal.reason_code = Some("providers_busy");
    refusal.retry_after_ms = Some(1_000);
    refusal
}

/// Nobody can do it; unless it was done before.
async fn nobody_there(desk: &Desk, job: &Arc<Job>, why: Stop) -> Result<Dispatched, Stop> {
    match open::nobody(desk, job).await? {
        Opened::Replay(reply) => Ok(Dispatched::Done(reply)),
        Opened::Busy { dispatch_id } => Ok(Dispatched::Busy { dispatch_id }),
        Opened::Changed(_) | Opened::Call(_) => Err(why),
    }
}

/// Who is asked, in turn. A promised price is asked for first where it was promised, and nobody who costs more is
/// asked after that.
fn in_turn(job: &Job, ranked: &Ranked) -> Vec<Candidate> {
    let mut turn = ranked.candidates.clone();
    if let Some(quote) = &job.quote {
        let promised = [quote.provider_price, quote.operator_fee, quote.policy_adder];
        let promised: u64 = promised.iter().map(|part| part.get()).fold(0, u64::saturating_add);
        let is_promised = |one: &Candidate| one.offer.standing.worker_id == quote.worker_id;
        turn.retain(|one| is_promised(one) || one.total().is_some_and(|total| total <= promised));
        turn.sort_by_key(|one| !is_promised(one));
    }
    turn
}

fn told(candidate: &Candidate, outcome: &Outcome) -> ProviderCall {
    ProviderCall {
        provider_id: candidate.offer.provider_id.clone(),
        worker_id: candidate.offer.standing.worker_id.clone(),
        tier: candidate.tier,
        outcome: outcome.word().to_owned(),
        detail: outcome.detail(),
        latency_ms: Some(outcome.latency_ms),
    }
}

impl Desk {
    /// Who can do the job now, best first.
    async fn ranked(&self, job: &Job) -> Result<Ranked, Stop> {
        self.market.refresh(&self.store, &self.hub).await?;
        let moment = self.moment();
        let need = Need {
            capability: SANDBOX_RUN,
            owner: &job.key.owner,
            resources: Some(&job.request.sandbox.resources),
            now: moment.now,
            stale_after_ms: moment.stale_after_ms,
        };
        let mut ranked = self.market.rank(need, LOOKED_AT);
        if let Some(quote) = &job.quote {
            // Whom a price was promised at is looked at, however many are better by now.
            self.market.with_named(&mut ranked, need, &quote.worker_id);
        }
        Ok(ranked)
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now(), stale_after_ms: self.stale_after_ms }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

const fn tier_name(tier: SelectionTier) -> &'static str {
    tier.name()
}
