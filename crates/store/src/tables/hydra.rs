//! Decides how Hydra's counters and breakers are kept: added to by every replica, and read by any.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static COUNT: Statement = statement!("hydra/count");
static COUNTED: Statement = statement!("hydra/counted");
static BREAKER: Statement = sealed_statement!("hydra/breaker", "hydra_breakers");
static PUT_BREAKER: Statement = sealed_statement!("hydra/put_breaker", "hydra_breakers");

/// A breaker: whether it is open, and how often that has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    pub name: String,
    pub is_open: bool,
    pub transitions: u64,
    /// Transitions that closed it.
    pub recoveries: u64,
    pub changed_at: Option<Timestamp>,
}

impl FromRow for Breaker {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Breaker {
            name: row.text(0)?.to_owned(),
            is_open: row.bool(1)?,
            transitions: row.uint(2)?,
            recoveries: row.uint(3)?,
            changed_at: row.opt_timestamp(4)?,
        })
    }
}

/// Adds to a counter.
pub async fn count(tx: &mut Tx, name: &str, by: u64) -> Result<(), Stop> {
    tx.execute(&COUNT, params![name, Value::unsigned(by)?]).await?;
    Ok(())
}

/// All counters; their names are ours, so they are few.
pub async fn counted(tx: &mut Tx) -> Result<Vec<(String, i64)>, Stop> {
    tx.all::<(String, i64)>(&COUNTED, params![]).await
}

/// As it stands; closed when nothing was ever kept.
pub async fn breaker(tx: &mut Tx, name: &str) -> Result<Breaker, Stop> {
    let found = tx.one(&BREAKER, params![name]).await?;
    Ok(found.unwrap_or_else(|| Breaker { name: name.to_owned(), ..Breaker::default() }))
}

/// The caller holds the breaker's key.
pub async fn put_breaker(tx: &mut Tx, breaker: &Breaker) -> Result<(), Stop> {
    let params = params![
        &breaker.name,
        breaker.is_open,
        Value::unsigned(breaker.transitions)?,
        Value::unsigned(breaker.recoveries)?,
        breaker.changed_at
    ];
    tx.execute(&PUT_BREAKER, params).await?;
    Ok(())
}
