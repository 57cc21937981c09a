//! Decides that a signal about a provider counts once: each kind of it once for each subject. What the signals
//! come to stands in the provider's own row.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
};
use serde_json::value::RawValue;

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    tables::runs::json,
    transaction::Tx,
};

static SIGNAL: Statement = sealed_statement!("market/signal", "provider_signals");
static KEEP: Statement = sealed_statement!("market/keep_signal", "provider_signals");

#[derive(Clone, Debug)]
pub struct SignalRow {
    pub worker_id: String,
    /// `dispatch_failure`, `violation`, `success`, `price_integrity`.
    pub kind: String,
    /// What it was seen in: the id of a dispatch or of a settlement.
    pub subject_id: String,
    pub job_hash: Option<String>,
    pub detail: Box<RawValue>,
    pub seen_at: Timestamp,
}

impl FromRow for SignalRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SignalRow {
            worker_id: row.text(0)?.to_owned(),
            kind: row.text(1)?.to_owned(),
            subject_id: row.text(2)?.to_owned(),
            job_hash: row.opt_text(3)?.map(str::to_owned),
            detail: json(row.text(4)?)?,
            seen_at: row.timestamp(5)?,
        })
    }
}

/// Keeps a signal; says whether it was the first of its kind for its subject.
pub async fn keep(tx: &mut Tx, signal: &SignalRow) -> Result<bool, Stop> {
    let params = params![
        &signal.worker_id,
        &signal.kind,
        &signal.subject_id,
        &signal.job_hash,
        signal.detail.get(),
        signal.seen_at
    ];
    Ok(tx.execute(&KEEP, params).await? == 1)
}

pub async fn get(
    tx: &mut Tx,
    worker_id: &str,
    kind: &str,
    subject_id: &str,
) -> Result<Option<SignalRow>, Stop> {
    tx.one(&SIGNAL, params![worker_id, kind, subject_id]).await
}
