//! Decides which withdrawals are paid now, and in which order (§8.1): the longest due first, each on its own, so that
//! one that cannot be paid holds nobody up.

use std::collections::BTreeMap;

use oa_contract::{
    Refusal, Stop,
    wire::{
        pool_signing::DueExecuted,
        pools::{PayoutRail, ThrottleMode, WithdrawThrottle, WithdrawalStatus},
    },
};
use oa_ledger::pool::MSATS_PER_SAT;
use oa_lightning::bolt11;
use oa_store::{
    Key, Tx,
    tables::pool_withdrawals::{self as table, Place, WithdrawalRow},
};

use super::{
    AUTO_PAYOUT_SATS,
    asking::not_there,
    key,
    payout::{self, Begin, Outcome, Record, Under, Way},
    receipts::Throttled,
    settings::PoolSettings,
    signing::requests,
    throttle,
};
use crate::Runtime;

pub const SCHEMA: &str = "openagents.liquidity.pool.execute_due_response.v1";
/// Rows that are read at one time.
const PORTION: u32 = 50;

/// What a pool's throttle leaves for this run.
struct Left {
    throttle: Option<WithdrawThrottle>,
    done: u32,
}

/// What became of one row.
enum Ended {
    Paid,
    SigningRequested {
        fresh: bool,
    },
    /// Nothing was begun, for this reason; none is told for a fault of ours.
    Failed(String),
    /// It surely failed, which is written down with its reason and its next time.
    Tried,
    Unknown,
    /// Somebody else is at it, or was.
    Skipped,
}

impl Runtime {
    /// Pays up to `limit` withdrawals that are due, and asks after those that are under way.
    pub(crate) async fn execute_due(&self, limit: u64) -> Result<DueExecuted, Stop> {
        let mut tally = DueExecuted { schema: SCHEMA.into(), ..DueExecuted::default() };
        let mut pools: BTreeMap<String, Left> = BTreeMap::new();
        let (mut after, now) = (Place::default(), self.now());
        while tally.attempted < limit {
            let portion = u32::try_from(limit - tally.attempted).unwrap_or(PORTION).min(PORTION);
            let look = async |tx: &mut Tx, (now, after, portion): &(_, Place, u32)| {
                table::due(tx, *now, after, *portion).await
            };
            let rows = self.store.read("pools.due", (now, after.clone(), portion), look).await?;
            let last = rows.len() < portion as usize;
            for row in rows {
                after = Place::of(&row).unwrap_or(after);
                tally.attempted += 1;
                self.attempt(row, &mut pools, &mut tally).await?;
            }
            if last {
                break;
            }
        }
        Ok(tally)
    }

    async fn attempt(
        &self,
        row: WithdrawalRow,
        pools: &mut BTreeMap<String, Left>,
        tally: &mut DueExecuted,
    ) -> Result<(), Stop> {
        if row.status == WithdrawalStatus::Queued {
            if !pools.contains_key(&row.pool_id) {
                let throttle = self.throttle_of(&row.pool_id).await?;
                pools.insert(row.pool_id.clone(), Left { throttle, done: 0 });
            }
            if let Some(left) = pools.get(&row.pool_id)
                && let Some(action) = deferred(left)
            {
                tally.throttled += 1;
                return self.defer(row, action, left.throttle.clone()).await;
            }
        }
        let pool_id = row.pool_id.clone();
        let counts = row.status == WithdrawalStatus::Queued;
        let id = row.withdrawal_id.clone();
        let ended = match self.one(row).await {
            Ok(ended) => ended,
            Err(Stop::Refusal(Refusal { message, .. })) => Ended::Failed(message),
            Err(Stop::Fault(fault)) => {
                tracing::error!(withdrawal_id = id, error = %fault, "a due withdrawal could not be looked after");
                Ended::Failed(String::new())
            }
        };
        // The cap is for what is paid, or begun: others do not use it up.
        if counts
            && matches!(ended, Ended::Paid | Ended::Unknown)
            && let Some(left) = pools.get_mut(&pool_id)
        {
            left.done += 1;
        }
        match ended {
            Ended::Paid => tally.paid += 1,
            Ended::SigningRequested { fresh } => tally.signing_requests_created += u64::from(fresh),
            Ended::Unknown => tally.unknown += 1,
            Ended::Skipped => {}
            Ended::Tried => tally.failed += 1,
            Ended::Failed(why) => {
                tally.failed += 1;
                if !why.is_empty() {
                    tracing::info!(withdrawal_id = id, why, "a due withdrawal was not paid");
                }
                // It is looked at later, so that it stands in nobody's way.
                let ask = (id, why, self.now());
                self.store.write("pools.note_error", key(&pool_id), ask, payout::note_error).await?;
            }
        }
        Ok(())
    }

    /// The throttle of a pool, for those who weigh risks: none when pools are not throttled, and none within when
    /// there is no such pool.
    pub(crate) async fn pool_throttle(
        &self,
        pool_id: &str,
    ) -> Result<Option<Option<WithdrawThrottle>>, Stop> {
        if !self.config.pools.lp_mode_enabled {
            return Ok(None);
        }
        let exists = async |tx: &mut Tx, pool_id: &String| {
            Ok(oa_store::tables::pools::pool(tx, pool_id).await?.is_some())
        };
        match self.store.read("pools.find", pool_id.to_owned(), exists).await? {
            true => self.throttle_of(pool_id).await.map(Some),
            false => Ok(Some(None)),
        }
    }

    async fn throttle_of(&self, pool_id: &str) -> Result<Option<WithdrawThrottle>, Stop> {
        if !self.config.pools.lp_mode_enabled {
            return Ok(None);
        }
        let ask = (pool_id.to_owned(), self.config.pools.clone(), self.now());
        let read = async |tx: &mut Tx, (pool_id, settings, now): &(String, PoolSettings, _)| {
            throttle::of_pool(tx, pool_id, settings, *now).await
        };
        self.store.read("pools.throttle", ask, read).await.map(Some)
    }

    async fn defer(
        &self,
        row: WithdrawalRow,
        action: Throttled,
        throttle: Option<WithdrawThrottle>,
    ) -> Result<(), Stop> {
        let Some(throttle) = throttle else { return Ok(()) };
        let keys = key(&row.pool_id);
        let ask = (row, action, throttle, self.signer.clone(), self.now());
        let note = async |tx: &mut Tx, (row, action, throttle, signer, now): &(_, _, _, _, _)| {
            payout::note_throttle(tx, row, *action, throttle, Option::as_ref(signer), *now).await?;
            payout::note_error(tx, &(WithdrawalRow::clone(row).withdrawal_id, String::new(), *now)).await
        };
        self.store.write("pools.note_throttle", keys, ask, note).await
    }

    async fn one(&self, row: WithdrawalRow) -> Result<Ended, Stop> {
        match (row.status, row.rail) {
            (WithdrawalStatus::Approved, _) => {
                let Some(outcome) = self.ask_about(&row).await? else { return Ok(Ended::Skipped) };
                let recorded = self.record_payout(&row, outcome).await?;
                self.finish_found(&recorded).await?;
                Ok(ended(&recorded))
            }
            (WithdrawalStatus::Queued, PayoutRail::Lightning) if row.amount_sats <= AUTO_PAYOUT_SATS => {
                pays(&row)?;
                match self.begin_payout(&row, Way::Queue).await? {
                    Some(under) => Ok(ended(&self.pay_out(&under).await?.0)),
                    // Somebody else is at it, or it was given up.
                    None => Ok(Ended::Skipped),
                }
            }
            (WithdrawalStatus::Queued, _) => {
                let id = format!("sigreq_{}", self.ids.uuid_v7(self.now()));
                let keys = key(&row.pool_id);
                let ask = (row.withdrawal_id, id, self.now());
                let fresh =
                    self.store.write("pools.ask_signers", keys, ask, requests::for_withdrawal).await?;
                Ok(Ended::SigningRequested { fresh })
            }
            _ => Ok(Ended::Skipped),
        }
    }

    pub(super) async fn begin_payout(&self, row: &WithdrawalRow, way: Way) -> Result<Option<Under>, Stop> {
        let ask = Begin {
            withdrawal_id: row.withdrawal_id.clone(),
            way,
            settings: self.config.pools.clone(),
            terms: self.payments.terms(),
            pool_pays_way: self.believes_callers(),
        };
        self.store.write("pools.begin_payout", begin_keys(row), ask, payout::begin).await
    }

    /// Writes down what became of a payout that was begun.
    pub(super) async fn record_payout(
        &self,
        row: &WithdrawalRow,
        outcome: Outcome,
    ) -> Result<WithdrawalRow, Stop> {
        let ask = self.record_of(row, outcome)?;
        let row = self.store.write("pools.record_payout", key(&row.pool_id), ask, payout::record).await?;
        Ok(row.ok_or_else(not_there)?)
    }

    pub(super) fn record_of(&self, row: &WithdrawalRow, outcome: Outcome) -> Result<Record, Stop> {
        Ok(Record {
            withdrawal_id: row.withdrawal_id.clone(),
            round: row.round,
            outcome,
            wallet: self.wallet_account()?,
            signer: self.signer.clone(),
            now: self.now(),
        })
    }
}

/// What the transaction that begins a payout holds: the pool, and the payment of its invoice.
pub(super) fn begin_keys(row: &WithdrawalRow) -> Vec<Key> {
    let mut keys = vec![key(&row.pool_id)];
    keys.extend(payout::payment(row, "", 0).map(|order| order.keys()).unwrap_or_default());
    keys
}

fn ended(row: &WithdrawalRow) -> Ended {
    match row.status {
        WithdrawalStatus::Paid => Ended::Paid,
        WithdrawalStatus::Approved => Ended::Unknown,
        _ => Ended::Tried,
    }
}

/// Whether the throttle defers the next payout of this pool in this run.
fn deferred(left: &Left) -> Option<Throttled> {
    let throttle = left.throttle.as_ref()?;
    if throttle.mode == ThrottleMode::Halted {
        return Some(Throttled::ExecutionHalted);
    }
    let capped = throttle.execution_cap_per_tick.is_some_and(|cap| left.done >= cap);
    capped.then_some(Throttled::ExecutionDeferred)
}

/// Looks at the invoice once more before it is paid.
fn pays(row: &WithdrawalRow) -> Result<(), Refusal> {
    let invoice = row.payout_invoice.as_deref();
    let invoice = invoice.ok_or_else(|| Refusal::conflict("the withdrawal has no invoice"))?;
    let hash = oa_contract::canonical::sha256_hex(invoice.trim());
    if row.payout_invoice_hash.as_deref() != Some(hash.as_str()) {
        return Err(Refusal::conflict("the withdrawal's invoice is not the one that was requested"));
    }
    match amount_msats(invoice) {
        Some(msats) if Some(msats) == row.amount_sats.checked_mul(MSATS_PER_SAT) => Ok(()),
        _ => Err(Refusal::conflict("the withdrawal's invoice is not for its estimate")),
    }
}

/// What an invoice is for. Where the prefix of its network says nothing (§3), it is read whole.
pub(super) fn amount_msats(invoice: &str) -> Option<u64> {
    bolt11::prefix_amount_msats(invoice).or_else(|| bolt11::whole_amount_msats(invoice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::receipts::test_withdrawal;

    #[test]
    fn an_invoice_that_was_changed_is_not_paid() {
        let row = test_withdrawal();
        assert_eq!(pays(&row), Ok(()));
        let other = WithdrawalRow { payout_invoice: Some("lnbc10000n1other".into()), ..row.clone() };
        assert!(pays(&other).is_err());
        assert!(pays(&WithdrawalRow { amount_sats: 999, ..row.clone() }).is_err());
        assert!(pays(&WithdrawalRow { payout_invoice: None, ..row }).is_err());
    }
}
