//! Decides what becomes of a payout that the wallet made after it had surely not made it. It broke its promise, but the
//! money has left, and that is what the books say: for this withdrawal if it still waits, else at the operator's cost.

use oa_contract::{
    Amount, Asset, Stop,
    wire::{fraud::Severity, pools::WithdrawalStatus},
};
use oa_ledger::{
    AccountId, Kind, Leg, Order, TransferId,
    pool::{Accounts, MSATS_PER_SAT},
};
use oa_store::{
    Tx,
    tables::{
        ledger,
        pool_withdrawals::{self as table, WithdrawalRow},
    },
};
use serde_json::json;

use super::{
    payout::{Record, promised_msats, settle, unlock},
    receipts::Settled,
    standing::books,
};
use crate::fraud::{self, NewIncident};

/// Books a sending of an older round. Told twice it is booked once.
pub(super) async fn paid(
    tx: &mut Tx,
    row: WithdrawalRow,
    ask: &Record,
    settled: &Settled,
    fee_msats: u64,
) -> Result<WithdrawalRow, Stop> {
    let id = TransferId::new(format!("pool:late:{}:{}", row.withdrawal_id, ask.round))?;
    if ledger::get(tx, &id).await?.is_some() {
        return Ok(row);
    }
    tracing::error!(
        withdrawal_id = row.withdrawal_id,
        round = ask.round,
        "the wallet made a payout that it had said it would not make"
    );
    let gone_msats = promised_msats(&row).saturating_add(fee_msats);
    let standing = books(tx, &row.pool_id, row.partition).await?;
    // It has what it asked for, if nothing else was begun for it.
    let serves = row.status == WithdrawalStatus::Queued
        && row.locked
        && gone_msats <= row.owed_msats.max(promised_msats(&row))
        && standing.free_msats() >= gone_msats;
    let debit = match serves {
        true => Accounts::of(&row.pool_id, row.partition)?.money,
        false => AccountId::new(Kind::Suspense, Asset::msats(), "paid_twice")?,
    };
    if let Some(amount) = Amount::new(gone_msats).filter(|amount| !amount.is_zero()) {
        let legs = vec![Leg { debit, credit: ask.wallet.clone(), amount }];
        let order = Order { id, legs, hold: None, reference: row.withdrawal_id.clone() };
        ledger::transfer(tx, &order, ask.now).await?;
    }
    let found = NewIncident {
        incident_type: "pool_payout_after_refusal".into(),
        severity: Severity::Critical,
        provider_id: None,
        provider_worker_id: None,
        job_hash: Some(format!("{}:{}", row.withdrawal_id, ask.round)),
        run_id: None,
        quote_sha256: None,
        actions: vec![if serves { "booked_to_withdrawal" } else { "booked_to_suspense" }.into()],
        evidence: json!({"pool_id": row.pool_id, "withdrawal_id": row.withdrawal_id, "round": ask.round,
            "sats": gone_msats / MSATS_PER_SAT, "txid": settled.txid, "payment_id": settled.payment_id}),
    };
    fraud::record(tx, &found, ask.now).await?;
    if !serves {
        return Ok(row);
    }
    let row = unlock(tx, row, &standing.standing, gone_msats, ask.now).await?;
    let row = settle(tx, row, ask, settled, None).await?;
    table::put(tx, &row).await?;
    Ok(row)
}
