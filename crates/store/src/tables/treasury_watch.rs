//! Decides how the comparison of settlements with ledger and runs is kept: how far it has come, and what was found.
//! Who does it at the moment stands in `leases`.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
    wire::treasury::DriftFinding,
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static WATCH: Statement = sealed_statement!("treasury/watch", "treasury_watch");
static PUT_WATCH: Statement = sealed_statement!("treasury/put_watch", "treasury_watch");
static FINDINGS: Statement = sealed_statement!("treasury/findings", "treasury_findings");
static FINDINGS_OF: Statement = sealed_statement!("treasury/findings_of", "treasury_findings");
static PUT_FINDING: Statement = sealed_statement!("treasury/put_finding", "treasury_findings");
static REMOVE_FINDING: Statement = statement!("treasury/remove_finding");

/// Where the comparison stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Who led before there were leases; nobody reads it any more.
    pub holder: String,
    pub until: Timestamp,
    /// The settlement that was compared last.
    pub cursor: String,
    /// How often everything was compared.
    pub rounds: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { holder: String::new(), until: Timestamp::EPOCH, cursor: String::new(), rounds: 0 }
    }
}

impl FromRow for Watch {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Watch {
            holder: row.text(1)?.to_owned(),
            until: row.timestamp(2)?,
            cursor: row.text(3)?.to_owned(),
            rounds: row.uint(4)?,
        })
    }
}

struct Found(DriftFinding);

impl FromRow for Found {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Found(DriftFinding {
            settlement_id: row.text(0)?.to_owned(),
            kind: row.text(1)?.to_owned(),
            detail: row.text(2)?.to_owned(),
            first_seen_at: row.timestamp(3)?,
            last_seen_at: row.timestamp(4)?,
        }))
    }
}

pub async fn get(tx: &mut Tx, name: &str) -> Result<Watch, Stop> {
    Ok(tx.one(&WATCH, params![name]).await?.unwrap_or_default())
}

/// The caller holds the key of the watch.
pub async fn put(tx: &mut Tx, name: &str, watch: &Watch) -> Result<(), Stop> {
    let params = params![name, &watch.holder, watch.until, &watch.cursor, Value::unsigned(watch.rounds)?];
    tx.execute(&PUT_WATCH, params).await?;
    Ok(())
}

/// What was found last, up to `limit`.
pub async fn findings(tx: &mut Tx, limit: u32) -> Result<Vec<DriftFinding>, Stop> {
    let found = tx.all::<Found>(&FINDINGS, params![limit]).await?;
    Ok(found.into_iter().map(|Found(finding)| finding).collect())
}

/// Whether anything is known to differ.
pub async fn is_found(tx: &mut Tx, settlement_id: &str) -> Result<bool, Stop> {
    Ok(!tx.all::<Found>(&FINDINGS_OF, params![settlement_id]).await?.is_empty())
}

/// Writes what a settlement differs in now, and forgets what it no longer does.
pub async fn keep(
    tx: &mut Tx,
    settlement_id: &str,
    differs: &[(&'static str, String)],
    now: Timestamp,
) -> Result<(), Stop> {
    let known = tx.all::<Found>(&FINDINGS_OF, params![settlement_id]).await?;
    for Found(gone) in known.iter().filter(|known| differs.iter().all(|(kind, _)| *kind != known.0.kind)) {
        tx.execute(&REMOVE_FINDING, params![settlement_id, &gone.kind]).await?;
    }
    for (kind, detail) in differs {
        let first =
            known.iter().find(|known| known.0.kind == *kind).map_or(now, |known| known.0.first_seen_at);
        tx.execute(&PUT_FINDING, params![settlement_id, *kind, detail, first, now]).await?;
    }
    Ok(())
}
