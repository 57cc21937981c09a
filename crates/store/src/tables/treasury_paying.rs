//! Decides how jobs are kept that a pool is paying for: what was decided of each, until it is finished.

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
};

static PAYING: Statement = sealed_statement!("treasury/paying", "compute_paying");
static PAYING_AFTER: Statement = statement!("treasury/paying_after");
static PAYING_BY: Statement = statement!("treasury/paying_by");
static INSERT_PAYING: Statement = sealed_statement!("treasury/insert_paying", "compute_paying");
static DELETE_PAYING: Statement = statement!("treasury/delete_paying");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayingRow {
    pub settlement_id: String,
    /// The envelope that pays for it, whether or not it is issued yet.
    pub envelope_id: String,
    /// Everything that finishing it needs.
    pub decided: String,
    /// When the envelope can be paid no more.
    pub over_at: Timestamp,
    pub begun_at: Timestamp,
}

impl FromRow for PayingRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(PayingRow {
            settlement_id: row.text(0)?.to_owned(),
            envelope_id: row.text(1)?.to_owned(),
            over_at: row.timestamp(2)?,
            begun_at: row.timestamp(3)?,
            decided: row.text(4)?.to_owned(),
        })
    }
}

pub async fn get(tx: &mut Tx, settlement_id: &str) -> Result<Option<PayingRow>, Stop> {
    tx.one(&PAYING, params![settlement_id]).await
}

/// The ids of what can be finished, because the envelope is settled or was over before `over`, behind `after` and in their
/// order; also of rows that cannot be read any more.
pub async fn after(tx: &mut Tx, after: &str, over: Timestamp, limit: u32) -> Result<Vec<String>, Stop> {
    let ids = tx.all::<(String,)>(&PAYING_AFTER, params![after, limit, over]).await?;
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

/// Whether an envelope is to pay for a job already.
pub async fn is_paid_by(tx: &mut Tx, envelope_id: &str) -> Result<bool, Stop> {
    Ok(tx.one::<(u64,)>(&PAYING_BY, params![envelope_id]).await?.is_some())
}

/// The caller holds the key of the settlement's owner, and has looked.
pub async fn insert(tx: &mut Tx, row: &PayingRow) -> Result<(), Stop> {
    let params = params![&row.settlement_id, &row.envelope_id, row.over_at, row.begun_at, &row.decided];
    tx.execute(&INSERT_PAYING, params).await?;
    Ok(())
}

pub async fn delete(tx: &mut Tx, settlement_id: &str) -> Result<(), Stop> {
    tx.execute(&DELETE_PAYING, params![settlement_id]).await?;
    Ok(())
}
