//! Decides who is paid for a job and how it is held: the provider its price, the operator the fee, the policy
//! its adder, as one hold in the owner's budget and in those around the work.

use oa_contract::{Amount, Asset, Owner, Stop, Timestamp};
use oa_ledger::{
    AccountId, Denied, Hold, Kind, TransferId,
    budget::{Place, Reservation},
};
pub use oa_market::AllIn;
use oa_store::{
    Tx,
    tables::{budgets, ledger::Booked},
};

/// Whose the fees and adders of this market are.
const MARKET: &str = "compute";

/// The account of what a provider has earned and was not yet paid. Workers' ids are taken once and by one owner;
/// what a provider calls itself is not.
pub fn provider_account(worker_id: &str) -> Result<AccountId, Denied> {
    AccountId::new(Kind::Provider, Asset::msats(), worker_id)
}

/// Who gets how much, in this order: provider, operator fee, policy adder. A part of nothing has no leg, so a
/// capture names as many amounts as this.
pub fn payees(price: &AllIn, worker_id: &str) -> Result<Vec<(AccountId, Amount)>, Denied> {
    let fees = |kind| AccountId::new(kind, Asset::msats(), MARKET);
    let parts = [
        (provider_account(worker_id)?, Amount::from(price.provider)),
        (fees(Kind::OperatorFee)?, Amount::from(price.operator_fee)),
        (fees(Kind::PolicyAdder)?, Amount::from(price.policy_adder)),
    ];
    Ok(parts.into_iter().filter(|(_, amount)| !amount.is_zero()).collect())
}

/// The hold of one call of a provider.
pub fn hold_id(dispatch_id: &str, call_no: u64) -> Result<TransferId, Denied> {
    TransferId::new(format!("market:{dispatch_id}:{call_no}"))
}

/// What is to be held.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub id: TransferId,
    pub owner: Owner,
    /// Where in the owner's budgets the work lies.
    pub place: Place,
    pub worker_id: String,
    pub price: AllIn,
    pub expires_at: Timestamp,
    /// What it is for.
    pub reference: String,
}

/// Holds the price of a job, in every budget around it or in none.
pub async fn hold(tx: &mut Tx, wanted: &Wanted, now: Timestamp) -> Result<Booked, Stop> {
    let reservation = Reservation {
        id: wanted.id.clone(),
        owner: wanted.owner.clone(),
        place: wanted.place.clone(),
        payees: payees(&wanted.price, &wanted.worker_id)?,
        hold: Hold { expires_at: Some(wanted.expires_at) },
        reference: wanted.reference.clone(),
    };
    budgets::reserve(tx, &reservation, now).await
}

#[cfg(test)]
mod tests {
    use oa_contract::Msats;

    use super::*;

    fn msats(amount: u64) -> Msats {
        Msats::new(amount).expect("an amount")
    }

    #[test]
    fn a_part_of_nothing_has_no_payee() {
        let price = |policy_adder| AllIn {
            provider: msats(1000),
            operator_fee: msats(5),
            policy_adder: msats(policy_adder),
        };
        let names = |price: AllIn| {
            let payees = payees(&price, "device:a").expect("payees");
            payees.into_iter().map(|(account, amount)| format!("{account} {amount}")).collect::<Vec<_>>()
        };
        assert_eq!(names(price(0)), ["provider/msats/device:a 1000", "operator_fee/msats/compute 5"]);
        assert_eq!(names(price(500))[2], "policy_adder/msats/compute 500");
        assert_eq!(price(500).total().map(Msats::get), Ok(1505));
    }
}
