//! `POST /internal/v1/treasury/compute/settle/sandbox-run`: pays for verified work, once (§10.4).
//!
//! What can be decided from what is known is one transaction: the money, the provider's standing, every event of
//! the run, the incidents and the answer that is given for ever. A job that is to be run once more first needs
//! somebody else's time: it is reserved in one transaction, run again outside of any, and settled in another,
//! which decides everything anew.

pub mod asked;
pub mod credit;
pub mod events;
mod incidents;
pub mod observer;
pub mod paying;
pub mod plan;
pub mod price;
pub mod reexecution;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Stop, Timestamp,
    bridge::ReceiptPointer,
    matrix::TreasurySettleSandboxRun,
    receipt::VerifierPolicy,
    refusal::Refusal,
    signer::Signer,
    wire::treasury::{JobStatus, Settlement, SettlementRoute},
};
use oa_ledger::{Capture, State, TransferId, budget::Place};
use oa_store::{
    Tx,
    tables::{
        ledger, market_dispatches,
        market_dispatches::DispatchState,
        runs as run_table,
        treasury::{self as table, Counted},
        treasury_paying as table_paying,
    },
};
use serde_json::value::RawValue;

use self::{
    asked::Asked,
    plan::{Facts, Plan, Rules},
    reexecution::Seen,
};
use super::receipts_will_be_believed;
use crate::{
    Runtime, bridge,
    config::TrustMode,
    credit::evidence,
    marketplace::{
        dispatch::{Document, provider_key},
        place,
        reserve::{self, Wanted},
    },
    runs::log::{self, Entry},
    workers::{
        reputation::{self, Signal},
        snapshot::Moment,
    },
};

/// The edge gives a request a minute; a job may take five.
const PATIENCE: Duration = Duration::from_secs(50);

fn still_running() -> Refusal {
    let mut refusal = Refusal::unavailable(
        "the job is still being run once more; send the same request again, the reservation stands",
    );
    refusal.reason_code = Some("reexecution_running");
    refusal.retry_after_ms = Some(1_000);
    refusal
}

/// One turn of a settlement: everything that its transaction needs.
struct Turn {
    asked: Arc<Asked>,
    rules: Rules,
    signer: Option<Signer>,
    verifier: VerifierPolicy,
    reservation_ttl_seconds: i64,
    /// How long an offer of credit may be good.
    offer_ttl_seconds: i64,
    moment: Moment,
    seen: Option<Seen>,
    /// What came of the credit leg, where there was one.
    credit: Option<credit::Done>,
}

/// What a turn came to.
enum Turned {
    /// Settled, now or before.
    Settled(Box<Settlement>),
    /// The money is reserved; the job of this owner's provider is to be run once more.
    Reserved(Owner),
    /// The money is reserved; a pool is to pay the provider.
    Credit(Box<credit::Leg>),
}

impl Handle<TreasurySettleSandboxRun> for Runtime {
    async fn handle(&self, ask: Ask<TreasurySettleSandboxRun>) -> Result<Answer<Settlement>, Stop> {
        let asked = Arc::new(asked::admit(ask.body, ask.caller)?);
        let mut turned = self.settle(&asked, None, None).await?;
        if let Turned::Reserved(claimant) = &turned {
            if asked.reexecute {
                // It is work that others do because the payer wishes it, as a dispatch is.
                self.rate.admit(&asked.owner, self.clock.now())?;
            }
            // Whoever runs it goes on, and has the answer when it is asked again.
            let run = tokio::time::timeout(PATIENCE, self.run_again(&asked, claimant)).await;
            let seen = Some(run.map_err(|_| still_running())?);
            turned = self.settle(&asked, seen, None).await?;
        }
        if let Turned::Credit(leg) = turned {
            // From here on it is decided; whoever goes away is not needed to finish it.
            let done = self.pay_by_credit(&leg).await?;
            turned = self.settle(&asked, None, Some(done)).await?;
        }
        match turned {
            Turned::Settled(settlement) => Ok((*settlement).into()),
            Turned::Reserved(_) | Turned::Credit(_) => {
                Err(Fault::msg("a settlement that had everything it needs was only reserved").into())
            }
        }
    }
}

impl Runtime {
    async fn settle(
        &self,
        asked: &Arc<Asked>,
        seen: Option<Seen>,
        credit: Option<credit::Done>,
    ) -> Result<Turned, Stop> {
        let mut keys = asked.keys();
        keys.extend(credit.iter().map(|done| crate::credit::loans::key(&done.settlement.settlement_id)));
        let turn = Turn {
            asked: asked.clone(),
            rules: Rules {
                lenient: self.config.trust_mode == TrustMode::Lenient,
                sample_bps: self.config.reexecution_sample_bps,
                seed: self.reexecution_seed.to_string(),
            },
            signer: self.signer.clone(),
            verifier: self.verifier.clone(),
            reservation_ttl_seconds: self.config.reservation_ttl_seconds,
            offer_ttl_seconds: i64::try_from(self.config.credit.max_offer_ttl_seconds).unwrap_or(i64::MAX),
            moment: Moment::of(self),
            seen,
            credit,
        };
        self.store.write("treasury.settle", keys, turn, commit).await
    }

    async fn run_again(&self, asked: &Asked, claimant: &Owner) -> Seen {
        let claim = reexecution::Claim {
            settlement_id: &asked.settlement_id,
            payer: &asked.owner,
            request: &asked.request,
            job_key: &provider_key(&asked.job_hash, asked.attempt),
            response: &asked.response,
            worker_id: &asked.worker_id,
            owner: claimant,
        };
        reexecution::observe(self, claim).await
    }
}

/// Idempotency before everything: what was settled is answered, whatever has expired or changed since.
async fn commit(tx: &mut Tx, turn: &Turn) -> Result<Turned, Stop> {
    let asked = &*turn.asked;
    let facts = plan::read(tx, asked).await?;
    if let Some(reply) = plan::replay(asked, &facts)? {
        return Ok(Turned::Settled(Box::new(read_reply(&reply)?)));
    }
    receipts_will_be_believed(turn.signer.as_ref(), &turn.verifier)?;
    if let Some(decided) = paying::decided(tx, &asked.settlement_id).await? {
        return go_on(tx, turn, &facts, decided).await;
    }
    let plan = plan::decide(asked, &facts, &turn.rules, turn.seen.as_ref(), turn.moment.now)?;
    let mut ledger = Run::of(&facts)?;
    let row = reserved(tx, turn, &facts, &plan, &mut ledger).await?;
    if plan.rerun {
        table::put(tx, &row).await?;
        ledger.close(tx).await?;
        return Ok(Turned::Reserved(
            facts.offer.map_or_else(|| asked.owner.clone(), |one| one.standing.owner),
        ));
    }
    // A provider's fault is no default of the agent: what is not paid needs no envelope. Where callers are believed,
    // there is one all the same, as clients expect it.
    let terms = plan.credit.as_ref().filter(|_| plan.released() || turn.rules.lenient);
    if let Some(terms) = terms.filter(|_| turn.credit.is_none()) {
        let verified = evidence_of(asked, &plan);
        evidence::issued(tx, &verified, turn.moment.now).await?;
        table::put(tx, &row).await?;
        ledger.close(tx).await?;
        let receipt_sha256 = &verified.receipt_sha256;
        let leg = credit::leg(asked, &plan, terms, receipt_sha256, row.reserved_at, turn.offer_ttl_seconds);
        let leg = paying::alone(tx, leg).await?;
        // Only the end of the payment, or that there will be none, ends what the payer has reserved.
        ledger::pin(tx, &TransferId::new(row.hold_id.as_str())?, turn.moment.now).await?;
        paying::begin(tx, turn, &plan, &leg).await?;
        return Ok(Turned::Credit(Box::new(leg)));
    }
    settled(tx, turn, turn.seen.as_ref(), &plan, row, ledger).await
}

/// A job that a pool is paying for was decided when that began, and nothing that has changed since is looked at.
async fn go_on(tx: &mut Tx, turn: &Turn, facts: &Facts, decided: paying::Decided) -> Result<Turned, Stop> {
    let asked = &*turn.asked;
    if turn.credit.is_none() {
        return Ok(Turned::Credit(Box::new(decided.leg)));
    }
    let row =
        facts.known.clone().ok_or_else(|| Fault::msg("a job is being paid for that nobody has reserved"))?;
    let plan = decided.plan(tx, asked).await?;
    let run = Run::of(facts)?;
    let seen = decided.seen();
    table_paying::delete(tx, &asked.settlement_id).await?;
    settled(tx, turn, seen.as_ref(), &plan, row, run).await
}

/// What the verification of a settlement is worth elsewhere.
fn evidence_of(asked: &Asked, plan: &Plan) -> evidence::Issued {
    evidence::Issued {
        evidence_id: asked.settlement_id.clone(),
        receipt_sha256: events::verification_receipt_sha256(asked, plan),
        job_hash: asked.job_hash.clone(),
        owner_key: asked.owner.to_string(),
        provider_id: asked.provider_id.clone(),
        price: plan.price.provider,
        payee: plan.credit.as_ref().and_then(|terms| terms.payee.clone()),
        passed: plan.released(),
    }
}

fn read_reply(reply: &RawValue) -> Result<Settlement, Fault> {
    serde_json::from_str(reply.get()).map_err(|error| Fault::new("reading a kept settlement", error))
}

/// The hold that stands for the job, or a new one, and the row that says so.
async fn reserved(
    tx: &mut Tx,
    turn: &Turn,
    facts: &Facts,
    plan: &Plan,
    run: &mut Run,
) -> Result<table::SettlementRow, Stop> {
    let (asked, now) = (&*turn.asked, turn.moment.now);
    let known = facts.known.as_ref();
    if let Some(known) = known.filter(|known| known.status == JobStatus::Reserved)
        && stands(tx, &known.hold_id, now).await?
    {
        return Ok(plan::reserved(asked, facts, plan, &known.hold_id, false, now));
    }
    let dispatched = plan.dispatch.as_ref().and_then(|dispatch| dispatch.hold_id.clone());
    let hold_id = match dispatched {
        Some(hold_id) if stands(tx, &hold_id, now).await? => hold_id,
        _ => hold(tx, turn, facts, plan).await?,
    };
    let row = plan::reserved(asked, facts, plan, &hold_id, true, now);
    run.tell(tx, &events::reserving(asked, plan, row.reservations)?, now).await?;
    if known.is_some_and(|known| known.status == JobStatus::Withheld) {
        // It had expired, and somebody came after all.
        table::count(tx, &asked.owner, &asked.provider_id, Counted::NoLongerWithheld).await?;
    }
    Ok(row)
}

/// Whether a hold can still be captured.
async fn stands(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<bool, Stop> {
    let held = ledger::get(tx, &TransferId::new(hold_id)?).await?;
    Ok(held.is_some_and(|held| held.state == State::Pending && held.expires_at.is_none_or(|at| at > now)))
}

/// Where it was dispatched, if that was said; in the run that pays in any case.
async fn place_of(tx: &mut Tx, asked: &Asked, plan: &Plan) -> Result<Place, Stop> {
    let place = match plan.dispatch.as_ref().filter(|dispatch| dispatch.place.organisation.is_some()) {
        Some(dispatch) => place::agreed(&dispatch.place, &asked.place, "the dispatch")?,
        None => place::around(tx, Some(asked.run_id), &asked.place).await?,
    };
    Ok(Place { run: Some(asked.run_id), ..place })
}

async fn hold(tx: &mut Tx, turn: &Turn, facts: &Facts, plan: &Plan) -> Result<String, Stop> {
    let (asked, now) = (&*turn.asked, turn.moment.now);
    let again = facts.known.as_ref().map_or(0, |known| known.reservations) + 1;
    let id = TransferId::new(format!("treasury:{}:{again}", asked.settlement_id))?;
    let wanted = Wanted {
        id: id.clone(),
        owner: asked.owner.clone(),
        place: place_of(tx, asked, plan).await?,
        worker_id: asked.worker_id.clone(),
        price: plan.price,
        expires_at: now.plus_seconds(turn.reservation_ttl_seconds),
        reference: format!("{} run {}", asked.settlement_id, asked.run_id),
    };
    reserve::hold(tx, &wanted, now).await?;
    Ok(id.to_string())
}

async fn settled(
    tx: &mut Tx,
    turn: &Turn,
    seen: Option<&Seen>,
    plan: &Plan,
    mut row: table::SettlementRow,
    mut run: Run,
) -> Result<Turned, Stop> {
    let (asked, now) = (&*turn.asked, turn.moment.now);
    let hold_id = TransferId::new(row.hold_id.as_str())?;
    let counted = match (plan.released(), &turn.credit) {
        (true, Some(done)) => {
            ledger::void(tx, &hold_id, now).await?;
            if let Some(paid_back) = credit::pay_back(tx, turn, plan, done).await? {
                row.hold_id = paid_back;
            }
            Counted::Released(row.amount)
        }
        (true, None) => {
            ledger::post(tx, &hold_id, &Capture::Full, now).await?;
            Counted::Released(row.amount)
        }
        (false, _) => {
            ledger::void(tx, &hold_id, now).await?;
            Counted::Withheld
        }
    };
    table::count(tx, &asked.owner, &asked.provider_id, counted).await?;
    let verified = evidence_of(asked, plan);
    // What was paid on the word of a caller alone is paid all the same.
    match plan.released() && (turn.credit.is_none() || turn.rules.lenient) {
        true => evidence::paid_otherwise(tx, &verified, now).await?,
        false => evidence::issued(tx, &verified, now).await?,
    }
    let receipt_sha256 = verified.receipt_sha256;
    let done = turn.credit.as_ref();
    run.tell(tx, &events::settling(asked, plan, &receipt_sha256, done)?, now).await?;
    for signal in signals(plan, seen) {
        let seen = reputation::Seen {
            worker_id: asked.worker_id.clone(),
            subject_id: asked.settlement_id.clone(),
            job_hash: asked.job_hash.clone(),
            signal,
        };
        reputation::count(tx, &seen, turn.moment).await?;
    }
    incidents::raise(tx, asked, plan, seen, &mut run, now).await?;
    run.close(tx).await?;
    for document in seen.iter().flat_map(|seen| seen.responses.values()) {
        market_dispatches::keep_document(tx, &document.sha256, &document.text, now).await?;
    }
    if !plan.released() {
        // What is held against somebody can be looked at later, whoever handed it in.
        let claimed = Document::of(&asked.response)?;
        market_dispatches::keep_document(tx, &claimed.sha256, &claimed.text, now).await?;
    }
    if let Some(dispatch) = &plan.dispatch {
        let dispatch = market_dispatches::DispatchRow {
            state: DispatchState::Settled,
            changed_at: now,
            ..dispatch.clone()
        };
        market_dispatches::put(tx, &dispatch).await?;
    }
    let settlement = answer(asked, plan, seen, turn.credit.as_ref(), &receipt_sha256);
    let reply = serde_json::value::to_raw_value(&settlement);
    let row = table::SettlementRow {
        status: settlement.settlement_status,
        verification_passed: Some(plan.verdict.passed),
        exit_code: Some(plan.verdict.exit_code),
        withheld_reason: plan.withheld_reason().map(str::to_owned),
        receipt_sha256: Some(receipt_sha256),
        reply: Some(reply.map_err(|error| Fault::new("writing a settlement", error))?),
        settled_at: Some(now),
        ..row
    };
    table::put(tx, &row).await?;
    announce(tx, turn, &settlement).await?;
    Ok(Turned::Settled(Box::new(settlement)))
}

/// Tells relays, where there are any, that a job was settled and how.
async fn announce(tx: &mut Tx, turn: &Turn, settlement: &Settlement) -> Result<(), Stop> {
    let (asked, run_id) = (&*turn.asked, turn.asked.run_id.to_string());
    let pointer = ReceiptPointer {
        provider_id: &asked.provider_id,
        run_id: &run_id,
        job_hash: &asked.job_hash,
        receipt_sha256: &settlement.verification_receipt_sha256,
        settlement_status: settlement.settlement_status.name(),
        receipt_url: &format!("/internal/v1/runs/{run_id}/receipt"),
    };
    bridge::tell_settlement(tx, turn.signer.as_ref(), pointer, turn.moment.now).await
}

fn answer(
    asked: &Asked,
    plan: &Plan,
    seen: Option<&Seen>,
    credit: Option<&credit::Done>,
    receipt_sha256: &str,
) -> Settlement {
    Settlement {
        job_hash: asked.job_hash.clone(),
        reservation_id: plan::reservation(asked),
        amount_msats: plan.price.provider,
        verification_passed: plan.verdict.passed,
        exit_code: plan.verdict.exit_code,
        violations: plan.verdict.violations.clone(),
        settlement_status: if plan.released() { JobStatus::Released } else { JobStatus::Withheld },
        settlement_route: match plan.credit {
            Some(_) => SettlementRoute::CepEnvelope,
            None => SettlementRoute::DirectLiquidity,
        },
        credit_offer_id: credit.map(|done| done.offer_id.clone()),
        credit_envelope_id: credit.map(|done| done.settlement.envelope_id.clone()),
        credit_settlement_id: credit.map(|done| done.settlement.settlement_id.clone()),
        credit_liquidity_receipt_sha256: credit
            .and_then(|done| done.settlement.liquidity_receipt_sha256.clone()),
        verification_receipt_sha256: receipt_sha256.to_owned(),
        settlement_id: asked.settlement_id.clone(),
        dispatch_id: plan.dispatch.as_ref().map(|dispatch| dispatch.dispatch_id.clone()),
        reexecution: seen.map(|seen| seen.report.clone()),
    }
}

/// What the settlement shows of the provider: how it kept its price, then whether its evidence holds. A dispute
/// shows nothing.
fn signals(plan: &Plan, seen: Option<&Seen>) -> Vec<Signal> {
    let mut signals = Vec::new();
    signals.extend(plan.integrity.as_ref().map(|integrity| Signal::PriceIntegrity(integrity.facts())));
    let unserved = |dispatch: &market_dispatches::DispatchRow| dispatch.state == DispatchState::Unserved;
    if plan.dispatch.as_ref().is_some_and(unserved) {
        // What was not brought to an end was counted, if at all, when it was dispatched.
    } else if !plan.verdict.violations.is_empty() {
        let refuted = seen.is_some_and(|seen| {
            seen.report.outcome == oa_contract::wire::treasury::ReexecutionOutcome::Refuted
        });
        let violations = plan.verdict.violations.clone();
        signals.push(match refuted {
            true => Signal::Refuted { violations },
            false => Signal::Violation { violations },
        });
    } else if plan.price_kept() && !plan.disputed {
        signals.push(Signal::Success);
    }
    signals
}

/// The run while events are added to it; its head is written once.
pub(super) struct Run {
    head: run_table::Head,
    /// What was told, and where it stands.
    pub(super) told: Vec<(Entry, oa_contract::wire::runs::EventPosition)>,
}

impl Run {
    fn of(facts: &Facts) -> Result<Self, Refusal> {
        let head = facts.head.clone().ok_or_else(|| Refusal::not_found("no run"))?;
        Ok(Run { head, told: Vec::new() })
    }

    pub(super) fn at(head: run_table::Head) -> Self {
        Run { head, told: Vec::new() }
    }

    /// An event that is there already (from the turn that reserved) is told once.
    pub(super) async fn tell(&mut self, tx: &mut Tx, entries: &[Entry], now: Timestamp) -> Result<(), Stop> {
        for entry in entries {
            let position = match log::replayed(tx, &self.head, entry).await? {
                Some(position) => position,
                None => {
                    self.head = log::extend(tx, self.head.clone(), entry, now).await?;
                    oa_contract::wire::runs::EventPosition {
                        run_id: self.head.run_id,
                        seq: self.head.latest_seq,
                        hash: self.head.chain.to_string(),
                    }
                }
            };
            self.told.push((entry.clone(), position));
        }
        Ok(())
    }

    pub(super) async fn close(self, tx: &mut Tx) -> Result<(), Stop> {
        run_table::update_head(tx, &self.head).await
    }
}
