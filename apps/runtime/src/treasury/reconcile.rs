//! `POST /internal/v1/treasury/compute/reconcile`: gives back what was reserved long ago and never settled, and
//! compares what was settled with the ledger and the runs (§10.3, §17.3).

use oa_contract::{
    Amount, Answer, Ask, Fault, Handle, Msats, Owner, Stop, Timestamp,
    matrix::TreasuryComputeReconcile,
    wire::{
        jobs::reservation_id,
        runs::Actor,
        treasury::{DriftReport, JobStatus, ReconcileSummary},
    },
};
use oa_ledger::{State, TransferId};
use oa_store::{
    Tx,
    tables::{
        ledger, runs as run_table,
        treasury::{self as table, Counted, SettlementRow},
        treasury_paying as paying, treasury_watch as watch,
    },
};
use serde_json::json;

use super::{compare::WATCH, job, job_name, key, raw, settle::Run, told};
use crate::{Runtime, runs, runs::log::Entry};

const SCHEMA: &str = "openagents.treasury.compute_reconcile_summary.v1";
const MOST_JOBS: u64 = 2_000;
const SHOWN_FINDINGS: u32 = 50;
/// Settlements that one call compares.
const COMPARED: u32 = 500;

impl Handle<TreasuryComputeReconcile> for Runtime {
    async fn handle(&self, ask: Ask<TreasuryComputeReconcile>) -> Result<Answer<ReconcileSummary>, Stop> {
        let age = ask.body.max_age_seconds.unwrap_or(self.config.reservation_ttl_seconds).max(0);
        let most = ask.body.max_jobs.unwrap_or(self.config.reconciliation_max_jobs).clamp(1, MOST_JOBS);
        // Whoever speaks for one owner gives back what is that owner's; an operator, whose it names, or everybody's.
        let owner = whose(&ask)?;
        let updated = self.expire_reservations(owner.clone(), age, most).await?;
        let parts = updated.iter().flat_map(|row| [row.amount, row.operator_fee, row.policy_adder]);
        let freed = Amount::sum(parts.map(Amount::from));
        let freed = freed.and_then(|freed| Msats::try_from(freed).ok());
        let drift = match ask.caller.owner() {
            None => self.compare_some().await?,
            // What is wrong elsewhere is nobody else's to see.
            Some(_) => DriftReport::default(),
        };
        let summary = ReconcileSummary {
            schema: SCHEMA.into(),
            reconciled_at: self.now(),
            expired_reservations: updated.len() as u64,
            freed_msats_total: freed.ok_or_else(|| Fault::msg("what was freed does not fit"))?,
            updated_jobs: updated.iter().map(job).collect(),
            drift,
        };
        Ok(summary.into())
    }
}

fn whose(ask: &Ask<TreasuryComputeReconcile>) -> Result<Option<Owner>, Stop> {
    let (user, guest) = (ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref());
    if user.is_none() && guest.is_none_or(|scope| scope.trim().is_empty()) {
        return Ok(ask.caller.owner());
    }
    let named = Owner::from_parts(user, guest)?;
    ask.caller.must_speak_for(&named)?;
    Ok(Some(named))
}

impl Runtime {
    /// Expires reservations of at least this age, each in a transaction of its own.
    pub(crate) async fn expire_reservations(
        &self,
        owner: Option<Owner>,
        age_seconds: i64,
        most: u64,
    ) -> Result<Vec<SettlementRow>, Stop> {
        let now = self.now();
        let until = now.plus_seconds(-age_seconds);
        let limit = u32::try_from(most).unwrap_or(u32::MAX);
        let look = async |tx: &mut Tx, (owner, until, limit): &(Option<Owner>, Timestamp, u32)| {
            table::stale(tx, owner.as_ref(), *until, *limit).await
        };
        let stale = self.store.read("treasury.stale", (owner, until, limit), look).await?;
        let mut updated = Vec::new();
        for row in stale {
            let keys = vec![key(&row.owner), runs::key(row.run_id)];
            let ask = (row.settlement_id, until, now);
            updated.extend(self.store.write("treasury.expire", keys, ask, expire).await?);
        }
        Ok(updated)
    }

    /// Goes on comparing where somebody left off, and tells what is known to differ.
    async fn compare_some(&self) -> Result<DriftReport, Stop> {
        let compared = self.compare_portion(COMPARED).await?;
        let look = async |tx: &mut Tx, name: &&'static str| {
            Ok((watch::get(tx, name).await?.rounds, watch::findings(tx, SHOWN_FINDINGS).await?))
        };
        let (rounds, findings) = self.store.read("treasury.drift", WATCH, look).await?;
        let wallet = match self.wallet.name() {
            Some(name) => format!("compared with the receipts of {name}"),
            None => "not compared: no wallet is configured".into(),
        };
        Ok(DriftReport { compared_jobs: compared.jobs, rounds, wallet_receipts: wallet, findings })
    }
}

/// What somebody settled in between is left alone.
async fn expire(
    tx: &mut Tx,
    (settlement_id, until, now): &(String, Timestamp, Timestamp),
) -> Result<Option<SettlementRow>, Stop> {
    let found = table::get(tx, settlement_id).await?;
    let Some(row) = found.filter(|row| row.status == JobStatus::Reserved && row.reserved_at <= *until) else {
        return Ok(None);
    };
    // What a pool is paying for is no reservation that somebody forgot.
    match paying::get(tx, settlement_id).await? {
        Some(_) => Ok(None),
        None => give_back(tx, row, *now).await.map(Some),
    }
}

/// The payer has its money again, and the run says so. The caller holds the keys of the owner and of the run.
pub(super) async fn give_back(
    tx: &mut Tx,
    row: SettlementRow,
    now: Timestamp,
) -> Result<SettlementRow, Stop> {
    let hold_id = TransferId::new(row.hold_id.as_str())?;
    let held = ledger::get(tx, &hold_id).await?;
    if held.is_some_and(|held| held.state == State::Pending) {
        ledger::void(tx, &hold_id, now).await?;
    }
    table::count(tx, &row.owner, &row.provider_id, Counted::Withheld).await?;
    let row = SettlementRow {
        status: JobStatus::Withheld,
        withheld_reason: Some("reservation_expired".into()),
        settled_at: Some(now),
        updated_at: now,
        ..row
    };
    table::put(tx, &row).await?;
    if let Some(head) = run_table::head(tx, row.run_id).await? {
        let mut run = Run::at(head);
        run.tell(tx, &[released(&row)?], now).await?;
        run.close(tx).await?;
    }
    Ok(row)
}

fn released(row: &SettlementRow) -> Result<Entry, Fault> {
    let job = job_name(&row.job_hash, row.attempt);
    let payload = json!({"receipt_type": "BudgetReleased", "payload": {
        "scope": "compute_job",
        "amount_msats": row.amount,
        "reservation_id": reservation_id(&row.job_hash),
        "job_hash": row.job_hash,
        "provider_id": row.provider_id,
        "reason": "reservation_expired",
    }});
    Ok(Entry {
        event_type: "receipt".into(),
        payload: raw(&payload)?,
        idempotency_key: Some(told::BUDGET_RELEASED.key(format_args!("{job}:{}", row.reservations))),
        actor: Actor::Service,
    })
}
