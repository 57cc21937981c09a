//! Decides how a drift is remembered: one report a topic, the latest, with whether it still stands.

use oa_contract::{
    refusal::{Fault, Stop},
    wire::projectors::{Drift, DriftStatus},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static GET: Statement = sealed_statement!("projectors/drift", "projection_drifts");
static PUT: Statement = sealed_statement!("projectors/put_drift", "projection_drifts");

/// A report and whether it still stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftRow {
    pub drift: Drift,
    pub status: DriftStatus,
}

const fn name(status: DriftStatus) -> &'static str {
    match status {
        DriftStatus::Open => "open",
        DriftStatus::Resolved => "resolved",
    }
}

impl FromRow for DriftRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(DriftRow {
            drift: Drift {
                topic: row.text(0)?.to_owned(),
                expected_next_seq: row.uint(1)?,
                last_seen_seq: row.uint(2)?,
                incoming_seq: row.uint(3)?,
                reason: row.text(4)?.to_owned(),
                detected_at: row.timestamp(5)?,
            },
            status: match row.text(6)? {
                "open" => DriftStatus::Open,
                "resolved" => DriftStatus::Resolved,
                other => return Err(Fault::msg(format!("a stored drift has the unknown status {other:?}"))),
            },
        })
    }
}

pub async fn get(tx: &mut Tx, topic: &str) -> Result<Option<DriftRow>, Stop> {
    tx.one(&GET, params![topic]).await
}

pub async fn put(tx: &mut Tx, row: &DriftRow) -> Result<(), Stop> {
    let drift = &row.drift;
    let params = params![
        &drift.topic,
        Value::unsigned(drift.expected_next_seq)?,
        Value::unsigned(drift.last_seen_seq)?,
        Value::unsigned(drift.incoming_seq)?,
        &drift.reason,
        drift.detected_at,
        name(row.status)
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}
