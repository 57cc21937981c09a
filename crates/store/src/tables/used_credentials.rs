//! Decides that a signed credential is good once among all replicas: its nonce is written down before anything is
//! done for it, and forgotten when it could not be used again anyway.

use oa_contract::{instant::Timestamp, refusal::Stop};

use crate::{params, statement, statement::Statement, transaction::Tx};

static USE: Statement = statement!("credentials/use");
static ANY_OVER: Statement = statement!("credentials/any_over");
static FORGET: Statement = statement!("credentials/forget");

/// Writes a nonce down; says whether it was not there before.
pub async fn note(tx: &mut Tx, nonce: &[u8], expires_at: Timestamp) -> Result<bool, Stop> {
    Ok(tx.execute(&USE, params![nonce, expires_at]).await? > 0)
}

/// Whether there is anything to forget.
pub async fn any_over(tx: &mut Tx, now: Timestamp) -> Result<bool, Stop> {
    Ok(tx.one::<(i64,)>(&ANY_OVER, params![now]).await?.is_some())
}

/// Forgets up to `limit` nonces whose credentials are over; says how many.
pub async fn forget(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<u64, Stop> {
    tx.execute(&FORGET, params![now, limit]).await
}
