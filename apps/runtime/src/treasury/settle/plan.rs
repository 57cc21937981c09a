//! Decides what a settlement is to be, from what was asked and what is known: every refusal comes from here,
//! before anything is written.

use oa_contract::{
    Code, Msats, Refusal, Stop, Timestamp,
    wire::{
        jobs::{SANDBOX_RUN, reservation_id},
        marketplace::Tier,
        runs::Actor,
        treasury::{JobStatus, ReexecutionOutcome, RoutePolicy},
        verifications::SandboxVerdict,
    },
};
use oa_market::Offer;
use oa_store::{
    Tx,
    tables::{
        market_dispatches::{self, DispatchRow, DispatchState},
        market_quotes::{self, QuoteRow},
        reserve_pool,
        runs::{self, Head},
        treasury::{self as table, SettlementRow},
        workers,
    },
};

use super::{
    asked::Asked,
    credit,
    price::{self, Integrity},
    reexecution::{self, Seen},
};
use crate::{
    marketplace::{market, reserve::AllIn},
    runs::visible_head,
    treasury::{job_name, told},
    verifications::sandbox_run::{judge, unsound_evidence},
};

/// Violations of one settlement that are kept; two commands of the longest kind fit into each.
const MOST_VIOLATIONS: usize = 50;
const LONGEST_VIOLATION: usize = 10_000;

/// What the policy of this instance adds to what is asked.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What the caller says is believed as in the specification (ARCHITECTURE.md, Trust).
    pub lenient: bool,
    /// Of 10000 jobs, so many are run once more.
    pub sample_bps: u32,
    pub seed: String,
}

/// What is known.
pub struct Facts {
    pub known: Option<SettlementRow>,
    /// Unless the caller may not see the run, or the run is another's.
    pub head: Option<Head>,
    /// What the worker offers, if it offers work at all.
    pub offer: Option<Offer>,
    pub dispatch: Option<DispatchRow>,
    /// What the dispatch was made at.
    pub promised: Option<QuoteRow>,
    /// A settlement of what that dispatch received.
    pub twin: Option<SettlementRow>,
    /// Another owner has settled this job in this run: the events of the run have its name.
    pub taken: bool,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    pub price: AllIn,
    pub integrity: Option<Integrity>,
    pub verdict: SandboxVerdict,
    pub dispatch: Option<DispatchRow>,
    /// The provider is paid by a pool, through an envelope of an agent's credit.
    pub credit: Option<credit::Terms>,
    /// The job has to be run once more before it is paid.
    pub rerun: bool,
    /// Without that nobody is paid at all.
    pub rerun_or_nothing: bool,
    /// The others came to something else, and nobody can tell who is right.
    pub disputed: bool,
}

impl Plan {
    pub fn price_kept(&self) -> bool {
        self.integrity.as_ref().is_none_or(Integrity::passed)
    }

    pub fn released(&self) -> bool {
        self.verdict.passed && self.price_kept()
    }

    pub fn withheld_reason(&self) -> Option<&'static str> {
        match (self.verdict.passed, self.price_kept()) {
            (true, true) => None,
            (false, _) => Some("verification_failed"),
            (true, false) => Some("price_integrity_failed"),
        }
    }
}

pub async fn read(tx: &mut Tx, asked: &Asked) -> Result<Facts, Stop> {
    let known = table::get(tx, &asked.settlement_id).await?;
    let head = match visible_head(tx, asked.run_id, &asked.caller).await {
        Ok(head) => {
            let owner = asked.owner.to_string();
            Some(head).filter(|head| head.owner_key.as_ref().is_none_or(|key| *key == owner))
        }
        Err(Stop::Refusal(_)) => None,
        Err(stop) => return Err(stop),
    };
    let dispatch = dispatch(tx, asked).await?;
    let quote_id = dispatch.as_ref().and_then(|dispatch| dispatch.quote_id.clone());
    let promised = match quote_id {
        Some(quote_id) => market_quotes::get(tx, &asked.owner, &quote_id).await?,
        None => None,
    };
    let twin = match &dispatch {
        Some(dispatch) => table::by_dispatch(tx, &dispatch.dispatch_id).await?,
        None => None,
    };
    let offer = match workers::get(tx, &asked.worker_id).await? {
        Some(row) => market::offer(&row, reserve_pool::since(tx, &row.worker_id).await?.is_some())?,
        None => None,
    };
    let taken = match (&known, &head) {
        (None, Some(head)) => {
            let key = told::BUDGET_RESERVED.key(job_name(&asked.job_hash, asked.attempt));
            runs::key(tx, head.run_id, Actor::Service, &key).await?.is_some()
        }
        _ => false,
    };
    Ok(Facts { known, head, offer, dispatch, promised, twin, taken })
}

/// The dispatch that is named, or else the one of this job: in this run, or outside of any. The one that received
/// the response comes before one that did not.
async fn dispatch(tx: &mut Tx, asked: &Asked) -> Result<Option<DispatchRow>, Stop> {
    let mut first = None;
    for in_run in [true, false] {
        let Some(found) = market_dispatches::find(tx, &asked.job(in_run)).await? else { continue };
        if asked.dispatch_id.as_ref().is_some_and(|id| *id != found.dispatch_id) {
            continue;
        }
        if found.response_sha256.as_ref() == Some(&asked.response_sha256) {
            return Ok(Some(found));
        }
        first = first.or(Some(found));
    }
    match &asked.dispatch_id {
        Some(id) if first.is_none() => {
            Err(Refusal::invalid(format!("dispatch_id {id} is no dispatch of this job")).into())
        }
        _ => Ok(first),
    }
}

/// What stands, when this was asked before: looked at before anything else is judged.
pub fn replay(asked: &Asked, facts: &Facts) -> Result<Option<Box<serde_json::value::RawValue>>, Refusal> {
    let Some(known) = &facts.known else { return Ok(None) };
    if known.fingerprint != asked.fingerprint {
        let message = match known.amount == asked.settle_amount() {
            true => "job already settled with conflicting outcome",
            false => "job already reserved with a different amount",
        };
        return Err(Refusal::conflict(message));
    }
    Ok(known.reply.clone())
}

/// `seen`: what running the job once more showed, if that was done.
pub fn decide(
    asked: &Asked,
    facts: &Facts,
    rules: &Rules,
    seen: Option<&Seen>,
    now: Timestamp,
) -> Result<Plan, Stop> {
    let bound = facts.promised.as_ref();
    if let Some(quote) = &asked.quote {
        price::is_about(quote, asked)?;
        // A price that was accepted in time stays accepted, however long the rest takes.
        if facts.known.is_none() && bound.is_none_or(|bound| bound.quote_id != quote.quote_id) {
            price::is_in_time(quote, now)?;
        }
        if facts.offer.is_none() {
            let message = format!("unknown provider_worker_id {}", asked.worker_id);
            return Err(Refusal::invalid(message).into());
        }
    }
    if facts.head.is_none() {
        return Err(Refusal::not_found(format!("no run {}", asked.run_id)).into());
    }
    if facts.taken {
        return Err(Refusal::conflict("job already reserved for a different owner").into());
    }
    let unknown = || Refusal::invalid(format!("unknown provider worker_id {}", asked.worker_id));
    let offer = facts.offer.as_ref().ok_or_else(unknown)?;
    if offer.provider_id != asked.provider_id {
        let message = format!("provider_id does not match what {} is enrolled as", asked.worker_id);
        return Err(Refusal::invalid(message).into());
    }
    let foreign = offer.standing.owner != asked.owner;
    let dispatch = received(asked, facts, rules.lenient, foreign, now)?;
    let (price, integrity) = owed(asked, facts, bound.filter(|_| dispatch.is_some()), offer, rules.lenient)?;
    let credit = route(asked, price.provider.get(), rules.lenient)?;
    let named = offer.lightning_node_id.as_deref();
    let credit = match credit {
        Some(terms) if !rules.lenient => Some(credit::paid_where(terms, named, foreign)?),
        credit => credit,
    };
    let mut verdict = judge(&asked.request, &asked.response);
    if !rules.lenient {
        // A provider of one's own may name its outputs as it likes; no provider may contradict itself.
        verdict.violations.extend(unsound_evidence(&asked.response, !foreign));
    }
    let verdict = settled_verdict(verdict);
    let mut plan = Plan {
        price,
        integrity,
        verdict,
        dispatch,
        credit,
        rerun: false,
        rerun_or_nothing: false,
        disputed: false,
    };
    let untrusted = offer.tier == Tier::Provisional;
    let sampled = || reexecution::sampled(&rules.seed, &asked.settlement_id, rules.sample_bps);
    let redundant = asked.request.verification.redundancy > 1;
    // What others were asked counts, whatever made us ask.
    if plan.released() && (seen.is_some() || untrusted || asked.reexecute || redundant || sampled()) {
        plan.rerun = seen.is_none();
        plan.rerun_or_nothing = untrusted && foreign && !rules.lenient;
        if let Some(seen) = seen {
            told_by_others(&mut plan, seen)?;
        }
    }
    Ok(plan)
}

/// Violations that were found later leave nothing passed; and what is kept for ever of them is bounded, however
/// much a provider has got wrong.
fn settled_verdict(verdict: SandboxVerdict) -> SandboxVerdict {
    if verdict.violations.is_empty() {
        return verdict;
    }
    let exit_code = if verdict.exit_code == 0 { 1 } else { verdict.exit_code };
    let more = verdict.violations.len().saturating_sub(MOST_VIOLATIONS);
    let kept = verdict.violations.into_iter().take(MOST_VIOLATIONS);
    let mut violations: Vec<String> = kept.map(|one| one.chars().take(LONGEST_VIOLATION).collect()).collect();
    if more > 0 {
        violations.push(format!("and {more} more"));
    }
    SandboxVerdict { passed: false, exit_code, violations }
}

fn told_by_others(plan: &mut Plan, seen: &Seen) -> Result<(), Refusal> {
    match seen.report.outcome {
        ReexecutionOutcome::Confirmed => {}
        ReexecutionOutcome::Unavailable if plan.rerun_or_nothing => {
            let message = "nobody else can run the job once more, which this provider's standing asks for; the reservation stands, settle again later";
            return Err(Refusal::new(Code::DependencyUnavailable, message));
        }
        ReexecutionOutcome::Unavailable => {}
        ReexecutionOutcome::Disputed => {
            plan.disputed = true;
            plan.verdict = SandboxVerdict { passed: false, exit_code: 1, violations: Vec::new() };
        }
        ReexecutionOutcome::Refuted => {
            let what = seen.report.differences.join(", ");
            let violations = vec![format!("re-execution refutes the response: {what}")];
            plan.verdict = SandboxVerdict { passed: false, exit_code: 1, violations };
        }
    }
    Ok(())
}

/// The response must be the one that our own dispatch received. Without a dispatch, a caller's word is taken
/// where it can harm nobody but the caller: for its own provider.
fn received(
    asked: &Asked,
    facts: &Facts,
    lenient: bool,
    foreign: bool,
    now: Timestamp,
) -> Result<Option<DispatchRow>, Refusal> {
    let inline = |why: String| match (&asked.dispatch_id, lenient || !foreign) {
        (None, true) => Ok(None),
        _ => Err(Refusal::invalid(why)),
    };
    let Some(dispatch) = &facts.dispatch else {
        return inline(
            "another owner's provider is paid for what dispatch received, and this job was not dispatched"
                .into(),
        );
    };
    let id = &dispatch.dispatch_id;
    if dispatch.state == DispatchState::Calling {
        // Whoever called has been gone for longer than the call could take.
        return match dispatch.busy_until.is_some_and(|until| until <= now) {
            true => inline(format!("dispatch {id} received no response; dispatch the job again")),
            false => Err(Refusal::conflict(format!("dispatch {id} is still under way"))),
        };
    }
    let Some(response) =
        dispatch.response_sha256.as_ref().filter(|_| dispatch.state != DispatchState::Failed)
    else {
        return inline(format!("dispatch {id} received no response"));
    };
    let by_us = dispatch.worker_id.as_deref() == Some(asked.worker_id.as_str());
    if !by_us || *response != asked.response_sha256 {
        return match lenient && asked.dispatch_id.is_none() {
            true => Ok(None),
            false => Err(Refusal::conflict(format!("response is not the one that dispatch {id} received"))),
        };
    }
    if facts.twin.as_ref().is_some_and(|twin| twin.settlement_id != asked.settlement_id) {
        return Err(Refusal::conflict(format!(
            "what dispatch {id} received is settled in another run already"
        )));
    }
    Ok(Some(dispatch.clone()))
}

/// What is owed to whom. Fees are due where somebody agreed to them. At which price our own dispatch was made is
/// known: a payer that names another amount is wrong, and it is no mark against the provider.
fn owed(
    asked: &Asked,
    facts: &Facts,
    bound: Option<&QuoteRow>,
    offer: &Offer,
    lenient: bool,
) -> Result<(AllIn, Option<Integrity>), Stop> {
    let named_right = |bound: &QuoteRow| match bound.provider_price == asked.amount {
        true => Ok(()),
        false => Err(Refusal::invalid(format!(
            "amount_msats does not match the {} msats that the job was dispatched at",
            bound.provider_price.get()
        ))),
    };
    let kept = |bound: &QuoteRow| AllIn {
        provider: bound.provider_price,
        operator_fee: bound.operator_fee,
        policy_adder: bound.policy_adder,
    };
    let Some(quote) = &asked.quote else {
        return match bound {
            Some(bound) => {
                named_right(bound)?;
                Ok((kept(bound), None))
            }
            None => {
                let none = Msats::ZERO;
                Ok((AllIn { provider: asked.amount, operator_fee: none, policy_adder: none }, None))
            }
        };
    };
    match bound {
        Some(bound) => {
            price::is_of_dispatch(quote, bound)?;
            if !lenient {
                named_right(bound)?;
            }
        }
        None if facts.known.is_some() => {}
        None => price::is_current(quote, oa_market::price::all_in(offer, SANDBOX_RUN))?,
    }
    if quote.provider_price_msats == Msats::ZERO {
        return Err(Refusal::invalid("a quote of nothing pays for nothing").into());
    }
    let price = AllIn {
        provider: quote.provider_price_msats,
        operator_fee: quote.operator_fee_msats,
        policy_adder: quote.policy_adder_msats,
    };
    Ok((price, Some(price::compare(quote, asked.amount))))
}

/// Over which rail (§10.4 step 3): none is the ledger itself.
fn route(asked: &Asked, settle_msats: u64, lenient: bool) -> Result<Option<credit::Terms>, Refusal> {
    let sats = settle_msats.div_ceil(1_000);
    let direct = match asked.route {
        RoutePolicy::DirectOnly => true,
        RoutePolicy::ForceCep => false,
        RoutePolicy::PreferAgentBalance { agent_balance_sats, min_reserve_sats, direct_allowed } => {
            direct_allowed && agent_balance_sats.saturating_sub(min_reserve_sats) >= sats
        }
    };
    if direct {
        return Ok(None);
    }
    let missing = || Refusal::invalid("route_policy selected CEP but cep config is missing");
    let cep = asked.cep.as_ref().ok_or_else(missing)?;
    credit::terms(cep, &asked.provider_id, &asked.job_hash, settle_msats, lenient).map(Some)
}

/// The row of a reservation that has just been made.
pub fn reserved(
    asked: &Asked,
    facts: &Facts,
    plan: &Plan,
    hold_id: &str,
    fresh: bool,
    now: Timestamp,
) -> SettlementRow {
    let reservations = facts.known.as_ref().map_or(0, |known| known.reservations) + u32::from(fresh);
    let standing = facts.known.as_ref().filter(|known| known.status == JobStatus::Reserved && !fresh);
    SettlementRow {
        settlement_id: asked.settlement_id.clone(),
        owner: asked.owner.clone(),
        run_id: asked.run_id,
        job_hash: asked.job_hash.clone(),
        attempt: asked.attempt,
        provider_id: asked.provider_id.clone(),
        worker_id: asked.worker_id.clone(),
        amount: plan.price.provider,
        operator_fee: plan.price.operator_fee,
        policy_adder: plan.price.policy_adder,
        status: JobStatus::Reserved,
        verification_passed: None,
        exit_code: None,
        withheld_reason: None,
        dispatch_id: plan.dispatch.as_ref().map(|dispatch| dispatch.dispatch_id.clone()),
        quote_sha256: asked.quote.as_ref().map(|quote| quote.quote_sha256.clone()),
        hold_id: hold_id.to_owned(),
        reservations,
        fingerprint: asked.fingerprint.to_vec(),
        receipt_sha256: None,
        reply: None,
        reserved_at: standing.map_or(now, |known| known.reserved_at),
        settled_at: None,
        updated_at: now,
    }
}

/// The id that the reservation of a job is told by.
pub fn reservation(asked: &Asked) -> String {
    reservation_id(&asked.job_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_violations_is_bounded_and_never_passes() {
        let verdict = |violations: Vec<String>, exit_code| {
            settled_verdict(SandboxVerdict { passed: exit_code == 0, exit_code, violations })
        };
        assert!(verdict(vec![], 0).passed);
        let few = verdict(vec!["a".into()], -7);
        assert_eq!((few.passed, few.exit_code, few.violations), (false, -7, vec!["a".to_owned()]));
        let many = verdict(vec!["x".repeat(2_000_000); 60], 0);
        assert_eq!((many.exit_code, many.violations.len()), (1, 51));
        assert_eq!((many.violations[0].len(), many.violations[50].as_str()), (10_000, "and 10 more"));
    }
}
