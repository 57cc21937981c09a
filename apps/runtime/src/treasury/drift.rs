//! Decides where a settlement, the ledger and the run differ: each settlement is compared with every leg of the
//! transfer that it names and with the payment that its run tells of (§17.3).

use oa_contract::{Fault, wire::treasury::JobStatus};
use oa_ledger::{Kind, State, Transfer, budget::Place};
use oa_store::tables::treasury::SettlementRow;

use crate::marketplace::reserve::{self, AllIn};

/// What does not fit, by kind.
pub type Differs = Vec<(&'static str, String)>;

/// Compares a settlement with its transfer and with what its run says was paid.
pub fn judge(row: &SettlementRow, transfer: Option<&Transfer>, paid: Option<u64>) -> Result<Differs, Fault> {
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
            if !by_credit {
                legs(row, transfer, &mut found)?;
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
    Ok(found)
}

/// Every payee has its leg, from the payer and with its amount; what follows are budgets, which count the sum.
fn legs(row: &SettlementRow, transfer: &Transfer, found: &mut Differs) -> Result<(), Fault> {
    let odd = |error| Fault::new("comparing a settlement", error);
    let price =
        AllIn { provider: row.amount, operator_fee: row.operator_fee, policy_adder: row.policy_adder };
    let payees = reserve::payees(&price, &row.worker_id).map_err(odd)?;
    let payer = Place::default().scope().account(&row.owner).map_err(odd)?;
    let mut held = transfer.legs.iter();
    for (payee, owed) in &payees {
        let kind = if payee.kind() == Kind::Provider { "ledger_amount" } else { "ledger_fee" };
        let Some(booked) = held.next() else {
            found.push((kind, format!("{owed} were owed to {payee}, and nothing is held for it")));
            continue;
        };
        if booked.leg.credit != payee.row_for(transfer.id.as_str()) {
            found.push(("ledger_payee", format!("{payee} was to be paid, and {} is", booked.leg.credit)));
        }
        if booked.leg.debit != payer {
            found.push(("ledger_payer", format!("{payer} was to pay, and {} does", booked.leg.debit)));
        }
        let moved = booked.captured.unwrap_or_default();
        if row.status == JobStatus::Released && moved != *owed {
            found.push((kind, format!("{owed} were owed to {payee}, and {moved} were moved")));
        } else if booked.leg.amount != *owed {
            found.push((kind, format!("{owed} were owed to {payee}, and {} are held", booked.leg.amount)));
        }
    }
    let total = payees.iter().map(|(_, owed)| owed.get()).fold(0, u64::saturating_add);
    for booked in held {
        let leg = &booked.leg;
        if leg.debit.kind() != Kind::Budget || leg.credit.kind() != Kind::BudgetUse {
            found.push(("ledger_payee", format!("nothing is owed to {}, which is paid too", leg.credit)));
        } else if leg.amount.get() != total {
            found.push(("ledger_budget", format!("{} counts {} instead of {total}", leg.debit, leg.amount)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oa_contract::{Amount, Asset, Msats, Owner, Timestamp};
    use oa_ledger::{AccountId, BookedLeg, Leg, Places, TransferId};
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
        let judged = judge(row, transfer.as_ref(), paid).expect("judged");
        judged.into_iter().map(|(kind, _)| kind).collect()
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

    #[test]
    fn every_leg_counts() {
        let amount = |units| Amount::new(units).expect("an amount");
        let account = |kind, asset: &str, name: &str| {
            AccountId::new(kind, Asset::new(asset).expect("an asset"), name).expect("an account")
        };
        let row = SettlementRow {
            operator_fee: Msats::new(5).expect("an amount"),
            ..row(JobStatus::Released, None)
        };
        let good = || {
            let mut transfer = transfer(State::Posted, 1000);
            let more = [
                ("msats", Kind::Owner, "user:1", Kind::OperatorFee, "compute", 5),
                ("msats.budget", Kind::Budget, "run/x@user:1", Kind::BudgetUse, "user:1", 1005),
            ];
            for (asset, debit, from, credit, to, units) in more {
                let leg = Leg {
                    debit: account(debit, asset, from),
                    credit: account(credit, asset, to).row_for("hold"),
                    amount: amount(units),
                };
                let captured = Some(amount(units));
                transfer.legs.push(BookedLeg { leg, captured, ..transfer.legs[0].clone() });
            }
            transfer
        };
        assert_eq!(kinds(&row, Some(good()), Some(1000)), [""; 0]);
        type Bend = fn(&mut Transfer);
        let wrong: [(&str, Bend); 6] = [
            ("ledger_payee", |transfer| {
                transfer.legs[0].leg.credit =
                    AccountId::new(Kind::Provider, Asset::msats(), "other").expect("an account");
            }),
            ("ledger_payer", |transfer| {
                transfer.legs[1].leg.debit =
                    AccountId::new(Kind::Owner, Asset::msats(), "user:2").expect("an account");
            }),
            ("ledger_fee", |transfer| transfer.legs[1].captured = Amount::new(4)),
            ("ledger_fee", |transfer| transfer.legs.truncate(1)),
            ("ledger_budget", |transfer| {
                transfer.legs[2].leg.amount = Amount::new(1000).expect("an amount");
            }),
            ("ledger_payee", |transfer| transfer.legs.push(transfer.legs[1].clone())),
        ];
        for (kind, break_it) in wrong {
            let mut transfer = good();
            break_it(&mut transfer);
            assert_eq!(kinds(&row, Some(transfer), Some(1000)), [kind]);
        }
    }
}
