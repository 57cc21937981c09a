//! Decides how it is kept how dispatching goes for an owner: four counts, and the last latencies.

use oa_contract::{
    Owner, Timestamp,
    refusal::{Fault, Stop},
};

use super::market_quotes::owner;
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static TELEMETRY: Statement = sealed_statement!("market/telemetry", "market_telemetry");
static PUT: Statement = sealed_statement!("market/put_telemetry", "market_telemetry");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryRow {
    pub owner: Owner,
    pub dispatch_total: u64,
    pub dispatch_not_found: u64,
    pub dispatch_errors: u64,
    pub dispatch_fallbacks: u64,
    /// Milliseconds, oldest first.
    pub latencies: Vec<u64>,
    pub updated_at: Timestamp,
}

impl FromRow for TelemetryRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let latencies = row.text(5)?.split(',').filter(|text| !text.is_empty()).map(str::parse).collect();
        Ok(TelemetryRow {
            owner: owner(row.text(0)?)?,
            dispatch_total: row.uint(1)?,
            dispatch_not_found: row.uint(2)?,
            dispatch_errors: row.uint(3)?,
            dispatch_fallbacks: row.uint(4)?,
            latencies: Result::map_err(latencies, |error| Fault::new("reading stored latencies", error))?,
            updated_at: row.timestamp(6)?,
        })
    }
}

pub async fn get(tx: &mut Tx, owner: &Owner) -> Result<Option<TelemetryRow>, Stop> {
    tx.one(&TELEMETRY, params![&owner.to_string()]).await
}

/// Writes the whole row. The caller holds the key of the owner's telemetry.
pub async fn put(tx: &mut Tx, row: &TelemetryRow) -> Result<(), Stop> {
    let owner_key = row.owner.to_string();
    let latencies: Vec<String> = row.latencies.iter().map(u64::to_string).collect();
    let latencies = latencies.join(",");
    let params = params![
        &owner_key,
        Value::unsigned(row.dispatch_total)?,
        Value::unsigned(row.dispatch_not_found)?,
        Value::unsigned(row.dispatch_errors)?,
        Value::unsigned(row.dispatch_fallbacks)?,
        &latencies,
        row.updated_at
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}
