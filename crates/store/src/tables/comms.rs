//! Decides how delivery events are kept: whole, once per provider and event id, for good.

use oa_contract::{
    instant::Timestamp,
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

static INSERT: Statement = sealed_statement!("comms/insert", "delivery_events");
static GET: Statement = sealed_statement!("comms/get", "delivery_events");

/// What a message provider said about one message.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    pub provider: String,
    pub event_id: String,
    pub delivery_state: String,
    pub message_id: Option<String>,
    pub integration_id: Option<String>,
    pub recipient: Option<String>,
    pub occurred_at: Option<String>,
    pub reason: Option<String>,
    pub payload: Box<RawValue>,
    /// Over everything that a repetition must say again.
    pub fingerprint: [u8; 32],
    pub received_at: Timestamp,
}

impl FromRow for DeliveryRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(DeliveryRow {
            provider: row.text(0)?.to_owned(),
            event_id: row.text(1)?.to_owned(),
            delivery_state: row.text(2)?.to_owned(),
            message_id: row.opt_text(3)?.map(str::to_owned),
            integration_id: row.opt_text(4)?.map(str::to_owned),
            recipient: row.opt_text(5)?.map(str::to_owned),
            occurred_at: row.opt_text(6)?.map(str::to_owned),
            reason: row.opt_text(7)?.map(str::to_owned),
            payload: json(row.text(8)?)?,
            fingerprint: row
                .bytes(9)?
                .try_into()
                .map_err(|error| Fault::new("reading a stored fingerprint", error))?,
            received_at: row.timestamp(10)?,
        })
    }
}

pub async fn get(tx: &mut Tx, provider: &str, event_id: &str) -> Result<Option<DeliveryRow>, Stop> {
    tx.one(&GET, params![provider, event_id]).await
}

/// Writes a new event. The caller holds its key.
pub async fn insert(tx: &mut Tx, row: &DeliveryRow) -> Result<(), Stop> {
    let params = params![
        &row.provider,
        &row.event_id,
        &row.delivery_state,
        &row.message_id,
        &row.integration_id,
        &row.recipient,
        &row.occurred_at,
        &row.reason,
        row.payload.get(),
        &row.fingerprint,
        row.received_at
    ];
    tx.execute(&INSERT, params).await?;
    Ok(())
}
