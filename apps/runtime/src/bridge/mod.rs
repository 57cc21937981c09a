//! Decides what of our doings is told to Nostr relays, and when (runtime-core §17): in the transaction of what it tells
//! of, built and signed once, and kept until each relay has acknowledged it. Off unless relays are configured: without
//! a relay in the store nothing is built.

pub mod ads;
pub mod link;
pub mod sender;
pub mod settings;

use oa_contract::{
    Fault, Stop, Timestamp,
    bridge::{Blank, Event, LiquidityPointer, PoolSnapshotPointer, ReceiptPointer, Unsigned},
    signer::Signer,
    wire::pools::Snapshot,
};
use oa_store::{
    Tx,
    tables::bridge::{self as table},
};
use serde_json::Value;

/// Tells every relay an event that was built already, as the labels of credit are.
pub async fn tell_event(tx: &mut Tx, event: &Value, now: Timestamp) -> Result<(), Stop> {
    let relays = table::relays(tx).await?;
    if relays.is_empty() {
        return Ok(());
    }
    let event = Event::read(event).map_err(|error| Fault::new("reading an event", error))?;
    for relay in relays {
        table::enqueue(tx, &relay.url, &event, now).await?;
    }
    Ok(())
}

/// Tells every relay something that happened at `at`.
async fn tell(
    tx: &mut Tx,
    signer: Option<&Signer>,
    at: Timestamp,
    build: impl FnOnce() -> Result<Unsigned, Blank>,
) -> Result<(), Stop> {
    let relays = table::relays(tx).await?;
    let (Some(signer), false) = (signer, relays.is_empty()) else { return Ok(()) };
    let told = match build() {
        Ok(told) => told,
        // Money is not held up because something about it cannot be told.
        Err(blank) => {
            tracing::warn!(%blank, "what happened cannot be told to relays");
            return Ok(());
        }
    };
    let event = told.signed(signer, at.unix_seconds());
    for relay in relays {
        table::enqueue(tx, &relay.url, &event, at).await?;
    }
    Ok(())
}

/// That a job was settled, and where the proof of it is. The digest is that of the verification's receipt: a run's own
/// receipt becomes another one with every event that follows.
pub async fn tell_settlement(
    tx: &mut Tx,
    signer: Option<&Signer>,
    pointer: ReceiptPointer<'_>,
    at: Timestamp,
) -> Result<(), Stop> {
    tell(tx, signer, at, || pointer.told()).await
}

/// That there is a receipt of a payment, a deposit or a withdrawal.
pub async fn tell_receipt(
    tx: &mut Tx,
    signer: Option<&Signer>,
    pointer: LiquidityPointer<'_>,
    at: Timestamp,
) -> Result<(), Stop> {
    tell(tx, signer, at, || pointer.told()).await
}

/// The pointer to a receipt that is kept as a document.
pub fn pointer_of<'a>(
    receipt_id: &'a str,
    receipt_sha256: &'a str,
    document: &'a Value,
) -> LiquidityPointer<'a> {
    let member = |name: &str| document.get(name).and_then(Value::as_str);
    LiquidityPointer {
        receipt_id,
        pool_id: member("pool_id"),
        lp_id: member("lp_id"),
        deposit_id: member("deposit_id"),
        withdrawal_id: member("withdrawal_id"),
        quote_id: member("quote_id"),
        receipt_sha256,
    }
}

/// What a pool was worth.
pub async fn tell_snapshot(
    tx: &mut Tx,
    signer: Option<&Signer>,
    snapshot: &Snapshot,
    (assets, liabilities): (&Value, &Value),
) -> Result<(), Stop> {
    let sats = |document: &Value, name: &str| document.get(name).and_then(Value::as_u64);
    let receipt_id = format!("lpsr_{}", snapshot.canonical_json_sha256.get(..24).unwrap_or_default());
    let pointer = PoolSnapshotPointer {
        pool_id: &snapshot.pool_id,
        snapshot_id: &snapshot.snapshot_id,
        snapshot_sha256: &snapshot.canonical_json_sha256,
        as_of_unix: snapshot.as_of.unix_seconds(),
        wallet_balance_sats: sats(assets, "walletBalanceSats"),
        shares_outstanding: sats(liabilities, "sharesOutstanding").unwrap_or_default(),
        pending_withdrawals_sats_estimate: sats(liabilities, "pendingWithdrawalsSatsEstimate")
            .unwrap_or_default(),
        share_price_sats: snapshot.share_price_sats,
        receipt_id: Some(&receipt_id),
        receipt_sha256: Some(&snapshot.canonical_json_sha256),
    };
    tell(tx, signer, snapshot.as_of, || pointer.told()).await
}
