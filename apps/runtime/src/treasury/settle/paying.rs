//! Decides how a job that a pool pays for is finished, whoever asked for it and whatever became of them: what was decided is
//! kept until the provider is paid and the payer charged, or until there surely is no payment and the payer has its money
//! again.

use std::collections::BTreeMap;

use oa_contract::{
    Caller, Fault, Msats, Owner, Refusal, Stop, Timestamp,
    wire::{
        credit::{CreditSettlement, EnvelopeStatus, Outcome},
        treasury::{JobStatus, ReexecutionReport, SettleSandboxRun},
        verifications::SandboxVerdict,
    },
};
use oa_store::{
    Key, Tx,
    tables::{
        credit as credit_table, market_dispatches, treasury as table,
        treasury_paying::{self, PayingRow},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Turn,
    asked::{self, Asked},
    credit::Leg,
    plan::Plan,
    price,
    reexecution::Seen,
};
use crate::{
    Runtime, credit,
    marketplace::{dispatch::Document, reserve::AllIn},
    runs,
    treasury::{self, reconcile},
};

/// Jobs in one look.
const BATCH: u32 = 64;
/// Clocks differ by less: behind this nobody issues or pays the envelope any more.
const MARGIN_SECONDS: i64 = 60;
/// Envelopes of one job that may be over within so many microseconds.
const MOST_ALIKE: usize = 64;

/// What was decided, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    pub leg: Leg,
    asked: SettleSandboxRun,
    /// The owner that the credential was bound to, if it was.
    bound_to: Option<String>,
    /// The provider's part, the operator's, the policy's.
    price: [Msats; 3],
    verdict: SandboxVerdict,
    disputed: bool,
    dispatch_id: Option<String>,
    seen: Option<KeptSeen>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptSeen {
    report: ReexecutionReport,
    /// By who answered it: its digest, and what it was.
    responses: BTreeMap<String, (String, String)>,
}

fn unread(error: serde_json::Error) -> Fault {
    Fault::new("reading what was decided of a job", error)
}

/// What was decided of a job that a pool is paying for.
pub(super) async fn decided(tx: &mut Tx, settlement_id: &str) -> Result<Option<Decided>, Stop> {
    let row = treasury_paying::get(tx, settlement_id).await?;
    Ok(row.map(|row| serde_json::from_str(&row.decided).map_err(unread)).transpose()?)
}

/// An envelope pays for one job: where the same terms have one already, of another settlement, this one is over a moment
/// later, which is another.
pub(super) async fn alone(tx: &mut Tx, mut leg: Leg) -> Result<Leg, Stop> {
    for _ in 0..MOST_ALIKE {
        let envelope_id = leg.envelope_id()?;
        let taken = treasury_paying::is_paid_by(tx, &envelope_id).await?
            || credit_table::envelope(tx, &envelope_id).await?.is_some();
        if !taken {
            return Ok(leg);
        }
        leg.exp = Timestamp::from_micros(leg.exp.micros() + 1);
    }
    Err(Refusal::conflict(
        "too many settlements of this job are paid for at this very moment; settle it again",
    )
    .into())
}

/// Keeps what is decided, before anybody is asked to pay.
pub(super) async fn begin(tx: &mut Tx, turn: &Turn, plan: &Plan, leg: &Leg) -> Result<(), Stop> {
    let asked = &*turn.asked;
    let kept = |seen: &Seen| KeptSeen {
        report: seen.report.clone(),
        responses: seen
            .responses
            .iter()
            .map(|(who, document)| (who.clone(), (document.sha256.clone(), document.text.clone())))
            .collect(),
    };
    let decided = Decided {
        leg: leg.clone(),
        asked: asked.again(),
        bound_to: asked.caller.owner().map(|owner| owner.to_string()),
        price: [plan.price.provider, plan.price.operator_fee, plan.price.policy_adder],
        verdict: plan.verdict.clone(),
        disputed: plan.disputed,
        dispatch_id: plan.dispatch.as_ref().map(|dispatch| dispatch.dispatch_id.clone()),
        seen: turn.seen.as_ref().map(kept),
    };
    let row = PayingRow {
        settlement_id: asked.settlement_id.clone(),
        envelope_id: leg.envelope_id()?,
        decided: serde_json::to_string(&decided).map_err(|error| Fault::new("keeping a decision", error))?,
        over_at: leg.exp,
        begun_at: turn.moment.now,
    };
    treasury_paying::insert(tx, &row).await
}

impl Decided {
    /// The plan, as it was.
    pub(super) async fn plan(&self, tx: &mut Tx, asked: &Asked) -> Result<Plan, Stop> {
        let dispatch = match &self.dispatch_id {
            Some(id) => market_dispatches::get(tx, id).await?,
            None => None,
        };
        let [provider, operator_fee, policy_adder] = self.price;
        Ok(Plan {
            price: AllIn { provider, operator_fee, policy_adder },
            integrity: asked.quote.as_ref().map(|quote| price::compare(quote, asked.amount)),
            verdict: self.verdict.clone(),
            dispatch,
            credit: Some(self.leg.terms.clone()),
            rerun: false,
            rerun_or_nothing: false,
            disputed: self.disputed,
        })
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        let kept = self.seen.clone()?;
        let document = |(who, (sha256, text))| (who, Document { text, sha256 });
        Some(Seen { report: kept.report, responses: kept.responses.into_iter().map(document).collect() })
    }
}

/// What is known of the envelope of a job.
struct Standing {
    row: PayingRow,
    settled: Option<CreditSettlement>,
    issued: bool,
}

async fn look(tx: &mut Tx, settlement_id: &str) -> Result<Option<Standing>, Stop> {
    let Some(row) = treasury_paying::get(tx, settlement_id).await? else { return Ok(None) };
    let settled = credit_table::settlement(tx, &row.envelope_id).await?;
    let settled = settled.map(|row| serde_json::from_str(&row.reply).map_err(unread)).transpose()?;
    let issued = credit_table::envelope(tx, &row.envelope_id).await?.is_some();
    Ok(Some(Standing { row, settled, issued }))
}

impl Runtime {
    /// Finishes whatever can be finished, and says how many jobs that were. One that cannot be read stops no other.
    pub(crate) async fn finish_paying(&self) -> Result<usize, Stop> {
        let (mut finished, mut failed, mut after) = (0, Ok(()), String::new());
        let over = self.now().plus_seconds(-MARGIN_SECONDS);
        loop {
            let look = (after.clone(), over);
            let ids = async |tx: &mut Tx, (after, over): &(String, Timestamp)| {
                treasury_paying::after(tx, after, *over, BATCH).await
            };
            let found = self.store.read("treasury.paying", look, ids).await?;
            let Some(last) = found.last().cloned() else { break };
            for settlement_id in found {
                match self.finish_one(settlement_id.clone()).await {
                    Ok(done) => finished += usize::from(done),
                    // A payment that is still on its way; it is asked for again.
                    Err(Stop::Refusal(refusal)) if refusal.reason_code == Some("payment_pending") => {
                        tracing::debug!(settlement_id, "a job is still being paid")
                    }
                    Err(Stop::Refusal(refusal)) => {
                        let why = refusal.message;
                        tracing::warn!(
                            settlement_id,
                            why,
                            "a job that a pool pays for cannot be finished, and its money stays held"
                        )
                    }
                    Err(stop) => failed = failed.and(Err(stop)),
                }
            }
            after = last;
        }
        failed.map(|()| finished)
    }

    async fn finish_one(&self, settlement_id: String) -> Result<bool, Stop> {
        let Some(standing) = self
            .store
            .read("treasury.paying_look", settlement_id, async |tx, id: &String| look(tx, id).await)
            .await?
        else {
            return Ok(false);
        };
        let decided: Decided = serde_json::from_str(&standing.row.decided).map_err(unread)?;
        let over = self.now() > standing.row.over_at.plus_seconds(MARGIN_SECONDS);
        let settled = match standing.settled {
            // Its time is over, and nobody has closed it: whatever is under way is told, and anything else is closed.
            None if over && standing.issued => {
                Some(self.pay_envelope(&decided.leg, &standing.row.envelope_id).await?)
            }
            settled => settled,
        };
        match settled {
            Some(settled) if settled.outcome == Outcome::Success || !decided.leg.passed => {
                self.finish_job(decided, settled).await
            }
            Some(_) => self.give_up_paying(standing.row, &decided.leg).await,
            None if over => self.give_up_paying(standing.row, &decided.leg).await,
            None => Ok(false),
        }
    }

    async fn finish_job(&self, decided: Decided, settled: CreditSettlement) -> Result<bool, Stop> {
        let done = decided.leg.done(settled)?;
        let owner = match decided.bound_to.as_deref() {
            Some(owner) => {
                Some(Owner::parse(owner).ok_or_else(|| Fault::msg("a kept decision names no owner"))?)
            }
            None => None,
        };
        let caller = Caller::Service { name: "treasury".into(), owner };
        let asked = std::sync::Arc::new(asked::admit(decided.asked, caller)?);
        self.settle(&asked, None, Some(done)).await.map(|_| true)
    }

    /// Nothing was paid, and nothing will be: the payer has its money again.
    async fn give_up_paying(&self, row: PayingRow, leg: &Leg) -> Result<bool, Stop> {
        let known = async |tx: &mut Tx, id: &String| table::get(tx, id).await;
        let known = self.store.read("treasury.paying_row", row.settlement_id.clone(), known).await?;
        let Some(known) = known else { return Ok(false) };
        let keys: Vec<Key> = vec![
            treasury::key(&known.owner),
            runs::key(known.run_id),
            credit::envelope_key(&row.envelope_id),
            credit::agent_key(&leg.terms.agent_id),
        ];
        self.store.write("treasury.give_up", keys, (row, self.now()), give_up).await
    }
}

async fn give_up(tx: &mut Tx, (row, now): &(PayingRow, Timestamp)) -> Result<bool, Stop> {
    if treasury_paying::get(tx, &row.settlement_id).await?.is_none() {
        return Ok(false);
    }
    // First whether it is open: what ends in between is settled in the second look.
    let open = credit_table::envelope(tx, &row.envelope_id)
        .await?
        .is_some_and(|row| row.envelope.status == EnvelopeStatus::Accepted);
    let settled = credit_table::settlement(tx, &row.envelope_id).await?;
    if open || settled.is_some_and(|settled| settled.outcome == Outcome::Success) {
        return Ok(false);
    }
    treasury_paying::delete(tx, &row.settlement_id).await?;
    match table::get(tx, &row.settlement_id).await?.filter(|row| row.status == JobStatus::Reserved) {
        Some(row) => reconcile::give_back(tx, row, *now).await.map(|_| true),
        None => Ok(true),
    }
}
