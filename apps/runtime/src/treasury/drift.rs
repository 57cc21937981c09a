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
    // A pool paid, and was paid back what it paid and more: the debt says how much (`credit_loans`).
    let by_credit = row.hold_id.ends_with(":credit");
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
            if row.status == JobStatus::Released && moved != Some(row.amount.get()) && !by_credit {
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
        (Some(owed), Some(paid)) if owed != paid && !by_credit => {
            found.push(("event_amount", format!("{owed} msats were owed, and the run tells of {paid}")));
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use oa_contract::{Amount, Asset, Msats, Owner};
    use oa_ledger::{AccountId, BookedLeg, Kind, Leg, Places};
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_000_000);

    fn row(status: JobStatus, withheld_reason: Option<&str>) -> SettlementRow {
        SettlementRow {
            settlement_id: "stl_1".into(),
            owner: Owner::User(1),
            run_id: Uuid::from_u128(1),
            job_hash: "job".into(),
            attempt: 1,
            provider_id: "p".into(),
            worker_id: "w".into(),
            amount: Msats::new(1000).expect("an amount"),
            operator_fee: Msats::ZERO,
            policy_adder: Msats::ZERO,
            status,
            verification_passed: None,
            exit_code: None,
            withheld_reason: withheld_reason.map(str::to_owned),
            dispatch_id: None,
            quote_sha256: None,
            hold_id: "hold".into(),
            reservations: 1,
            fingerprint: Vec::new(),
            receipt_sha256: None,
            reply: None,
            reserved_at: NOW,
            settled_at: None,
            updated_at: NOW,
        }
    }

    fn transfer(state: State, moved: u64) -> Transfer {
        let account = |kind, name: &str| AccountId::new(kind, Asset::msats(), name).expect("an account");
        let amount = |units| Amount::new(units).expect("an amount");
        let leg = Leg {
            debit: account(Kind::Owner, "user:1"),
            credit: account(Kind::Provider, "w"),
            amount: amount(1000),
        };
        Transfer {
            id: TransferId::new("hold").expect("an id"),
            state,
            held: true,
            expires_at: None,
            reference: String::new(),
            legs: vec![BookedLeg {
                leg,
                captured: Some(amount(moved)),
                opened: Places { debit: 1, credit: 1 },
                ended: None,
            }],
            opened_at: NOW,
            ended_at: None,
        }
    }

    fn kinds(row: &SettlementRow, transfer: Option<Transfer>, paid: Option<u64>) -> Vec<&'static str> {
        judge(row, transfer.as_ref(), paid).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn what_fits_is_no_finding() {
        let released = row(JobStatus::Released, None);
        assert_eq!(kinds(&released, Some(transfer(State::Posted, 1000)), Some(1000)), [""; 0]);
        let withheld = row(JobStatus::Withheld, Some("verification_failed"));
        assert_eq!(kinds(&withheld, Some(transfer(State::Voided, 0)), Some(0)), [""; 0]);
        let expired = row(JobStatus::Withheld, Some("reservation_expired"));
        assert_eq!(kinds(&expired, Some(transfer(State::Expired, 0)), None), [""; 0]);
        let reserved = row(JobStatus::Reserved, None);
        for state in [State::Pending, State::Expired] {
            assert_eq!(kinds(&reserved, Some(transfer(state, 0)), None), [""; 0]);
        }
    }

    #[test]
    fn whatever_does_not_fit_is_named() {
        let released = row(JobStatus::Released, None);
        assert_eq!(kinds(&released, None, None), ["ledger_missing", "event_missing"]);
        assert_eq!(
            kinds(&released, Some(transfer(State::Voided, 0)), Some(1000)),
            ["ledger_state", "ledger_amount"]
        );
        assert_eq!(
            kinds(&released, Some(transfer(State::Posted, 999)), Some(1001)),
            ["ledger_amount", "event_amount"]
        );
        let withheld = row(JobStatus::Withheld, Some("verification_failed"));
        assert_eq!(
            kinds(&withheld, Some(transfer(State::Posted, 1000)), Some(1000)),
            ["ledger_state", "event_amount"]
        );
        let reserved = row(JobStatus::Reserved, None);
        assert_eq!(kinds(&reserved, Some(transfer(State::Posted, 1000)), None), ["ledger_state"]);
    }
}
