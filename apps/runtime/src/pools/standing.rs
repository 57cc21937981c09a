//! Decides where a partition stands: what the ledger says that it holds and who has shares of it, beside what is kept
//! of its withdrawals.

use oa_contract::{Fault, Stop, wire::pools::PartitionKind};
use oa_ledger::pool::{Accounts, MSATS_PER_SAT, Standing};
use oa_store::{
    Tx,
    tables::{
        ledger, pool_snapshots,
        pools::{self as table, PartitionRow},
    },
};

use super::unfit;

/// A partition as it stands.
#[derive(Clone, Debug)]
pub struct Books {
    pub accounts: Accounts,
    pub row: PartitionRow,
    pub standing: Standing,
    /// Held of the partition's money, by whomever.
    pub held_msats: u64,
}

impl Books {
    /// What is promised to others than its own withdrawals: the credit that it stands for.
    pub fn committed_sats(&self) -> u64 {
        self.held_msats.saturating_sub(self.row.paying_msats) / MSATS_PER_SAT
    }

    /// What can be set aside for a payout now.
    pub fn free_msats(&self) -> u64 {
        self.standing.assets_msats.saturating_sub(self.held_msats)
    }
}

pub async fn books(tx: &mut Tx, pool_id: &str, kind: PartitionKind) -> Result<Books, Stop> {
    let accounts = Accounts::of(pool_id, kind)?;
    let row = table::partition(tx, pool_id, kind).await?;
    let money = ledger::account(tx, &accounts.money).await?;
    let issuance = ledger::account(tx, &accounts.issuance).await?;
    let standing = Standing::read(&money, &issuance, row.owed_msats).ok_or_else(|| unfit(pool_id))?;
    let held_msats = money.balances.debits_pending.get();
    Ok(Books { accounts, row, standing, held_msats })
}

/// The price that quotes and estimates use: that of the newest snapshot, or one sat before there is any.
pub async fn quoted_price(tx: &mut Tx, pool_id: &str, kind: PartitionKind) -> Result<u64, Stop> {
    let latest = pool_snapshots::latest(tx, pool_id, kind).await?;
    Ok(latest.map_or(1, |row| row.snapshot.share_price_sats.max(1)))
}

/// The price that a status shows: that of the newest snapshot, or what the shares are worth.
pub async fn shown_price(tx: &mut Tx, pool_id: &str, books: &Books) -> Result<u64, Stop> {
    let latest = pool_snapshots::latest(tx, pool_id, books.row.kind).await?;
    Ok(latest.map_or_else(|| books.standing.price_sats(), |row| row.snapshot.share_price_sats))
}

/// More or less, without wrapping.
pub fn changed(sum: u64, more: u64, less: u64, what: &str) -> Result<u64, Fault> {
    sum.checked_add(more).and_then(|sum| sum.checked_sub(less)).ok_or_else(|| unfit(what))
}
