//! Decides how credit draws on a pool: capacity of its credit partition is held for an envelope, for as long as that
//! lasts. What is held counts as a commitment of the pool, and no withdrawal can take it.

use oa_contract::{Msats, Stop, Timestamp, wire::pools::PartitionKind};
use oa_ledger::{
    AccountId, TransferId,
    pool::{self, Accounts},
};
use oa_store::{
    Key, Tx,
    tables::{
        ledger::{self, Booked},
        pools as table,
    },
};

/// What an envelope wants held.
#[derive(Clone, Debug)]
pub struct Commitment {
    /// The envelope's own, so that asking twice is one commitment.
    pub id: TransferId,
    pub pool_id: String,
    /// Whom it pays in the end.
    pub payee: AccountId,
    pub amount: Msats,
    pub expires_at: Option<Timestamp>,
    pub reference: String,
}

/// What the transaction that reserves, captures or releases must hold.
pub fn key(pool_id: &str) -> Key {
    super::key(pool_id)
}

/// Whether there is such a pool.
pub async fn exists(tx: &mut Tx, pool_id: &str) -> Result<bool, Stop> {
    Ok(table::pool(tx, pool_id).await?.is_some())
}

/// Holds the capacity, or refuses with `409` when the partition has not that much to spare. It is captured, released
/// and pinned like every hold, under the id that was given.
pub async fn reserve(tx: &mut Tx, wanted: &Commitment, now: Timestamp) -> Result<Booked, Stop> {
    let accounts = Accounts::of(&wanted.pool_id, PartitionKind::Cep)?;
    let order = pool::commitment(
        &accounts,
        wanted.id.clone(),
        &wanted.payee,
        wanted.amount.get(),
        wanted.expires_at,
        &wanted.reference,
    )?;
    ledger::transfer(tx, &order, now).await
}

/// What the credit partition of a pool is committed to, in sats.
pub async fn committed_sats(tx: &mut Tx, pool_id: &str) -> Result<u64, Stop> {
    Ok(super::standing::books(tx, pool_id, PartitionKind::Cep).await?.committed_sats())
}
