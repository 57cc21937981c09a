//! Decides what is kept of the keys that sign sync tokens: which is in use, and how long the others are still
//! shown to those who check tokens.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
};

static PUT: Statement = sealed_statement!("accounts/put_sync_key", "sync_keys");
static SIGNING: Statement = sealed_statement!("accounts/signing_keys", "sync_keys");
static SERVED: Statement = sealed_statement!("accounts/served_keys", "sync_keys");
static PURGE: Statement = statement!("accounts/purge_sync_keys");

/// The public half of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncKey {
    pub kid: String,
    pub public_key: Vec<u8>,
    pub made_at: Timestamp,
    /// From then on it signs nothing.
    pub retired_at: Option<Timestamp>,
    /// Until then a token that it signed may still be good.
    pub served_until: Option<Timestamp>,
}

impl FromRow for SyncKey {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SyncKey {
            kid: row.text(0)?.into(),
            public_key: row.bytes(1)?.into(),
            made_at: row.timestamp(2)?,
            retired_at: row.opt_timestamp(3)?,
            served_until: row.opt_timestamp(4)?,
        })
    }
}

/// Writes a key, new or retired.
pub async fn put(tx: &mut Tx, key: &SyncKey) -> Result<(), Stop> {
    let SyncKey { kid, public_key, made_at, retired_at, served_until } = key;
    tx.execute(&PUT, params![kid, public_key, *made_at, *retired_at, *served_until]).await?;
    Ok(())
}

/// The keys that sign, newest first; one, but for a moment's overlap.
pub async fn signing(tx: &mut Tx) -> Result<Vec<SyncKey>, Stop> {
    tx.all(&SIGNING, params![]).await
}

/// The keys that some token may still need, newest first.
pub async fn served(tx: &mut Tx, now: Timestamp) -> Result<Vec<SyncKey>, Stop> {
    tx.all(&SERVED, params![now]).await
}

/// Forgets the keys that no token needs any more.
pub async fn purge(tx: &mut Tx, now: Timestamp) -> Result<u64, Stop> {
    tx.execute(&PURGE, params![now]).await
}
