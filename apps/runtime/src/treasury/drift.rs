//! Decides where a settlement, the ledger and the run differ: each settlement is compared with the transfer that
//! it names and with the payment that its run tells of (§17.3).

use oa_contract::{
    Stop, Timestamp,
    wire::{runs::Actor, treasury::JobStatus},
};
use oa_ledger::{State, Transfer, TransferId};
use oa_store::{
    Tx,
    tables::{
        ledger, runs,
        treasury::{self as table, SettlementRow},
        treasury_watch as watch,
    },
};
use serde_json::Value;

use super::job_name;

/// What a portion showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub jobs: u64,
    pub findings: u64,
    /// Where to go on; empty when everything was compared.
    pub next: String,
}

/// Compares up to `limit` settlements behind `after`, and keeps what differs.
pub async fn compare(tx: &mut Tx, after: &str, limit: u32, now: Timestamp) -> Result<Compared, Stop> {
    let rows = table::after(tx, after, limit).await?;
    let mut compared = Compared::default();
    if rows.len() == limit as usize {
        compared.next = rows.last().map(|row| row.settlement_id.clone()).unwrap_or_default();
    }
    for row in rows {
        let differs = differences(tx, &row).await?;
        compared.jobs += 1;
        compared.findings += differs.len() as u64;
        for (kind, detail) in &differs {
            tracing::error!(settlement = row.settlement_id, kind, detail, "the treasury does not add up");
        }
        watch::keep(tx, &row.settlement_id, &differs, now).await?;
    }
    Ok(compared)
}

async fn differences(tx: &mut Tx, row: &SettlementRow) -> Result<Vec<(&'static str, String)>, Stop> {
    let transfer = ledger::get(tx, &TransferId::new(row.hold_id.as_str())?).await?;
    let paid = paid(tx, row).await?;
    Ok(judge(row, transfer.as_ref(), paid))
}

/// What the run says was paid; none when it says nothing.
async fn paid(tx: &mut Tx, row: &SettlementRow) -> Result<Option<u64>, Stop> {
    let key = format!("payment:{}:{}", job_name(&row.job_hash, row.attempt), row.status.name());
    let Some(known) = runs::key(tx, row.run_id, Actor::Service, &key).await? else { return Ok(None) };
    let event = runs::event_at(tx, row.run_id, known.position).await?;
    let payload: Value = serde_json::from_str(event.payload.get()).unwrap_or(Value::Null);
    Ok(payload["amount_msats"].as_u64())
}

/// What does not fit, by kind.
pub fn judge(
    row: &SettlementRow,
    transfer: Option<&Transfer>,
    paid: Option<u64>,
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let expired = row.withheld_reason.as_deref() == Some("reservation_expired");
    match transfer {
        None => found.push(("ledger_missing", format!("there is no transfer {}", row.hold_id))),
        Some(transfer) => {
            let fits = match row.status {
                // What is over may have been given back already, by whoever came first.
                JobStatus::Reserved => transfer.state != State::Posted,
                JobStatus::Released => transfer.state == State::Posted,
                JobStatus::Withheld => matches!(transfer.state, State::Voided | State::Expired),
            };
            if !fits {
                let (said, is) = (row.status.name(), transfer.state.name());
                found.push(("ledger_state", format!("{said} here, but {} is {is}", row.hold_id)));
            }
            let moved = transfer.legs.first().and_then(|leg| leg.captured).map(|amount| amount.get());
            if row.status == JobStatus::Released && moved != Some(row.amount.get()) {
                let moved = moved.unwrap_or_default();
                found.push(("ledger_amount", format!("{} were owed, and {moved} were moved", row.amount)));
            }
        }
    }
    let told = match row.status {
        JobStatus::Reserved => None,
        JobStatus::Withheld if expired => None,
        JobStatus::Released => Some(row.amount.get()),
        JobStatus::Withheld => Some(0),
    };
    match (told, paid) {
        (Some(_), None) => found.push(("event_missing", "the run tells of no payment".into())),
        (Some(owed), Some(paid)) if owed != paid => {
            found.push(("event_amount", format!("{owed} msats were owed, and the run tells of {paid}")));
        }
        _ => {}
    }
    found
}
