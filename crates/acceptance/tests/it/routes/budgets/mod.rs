//! `/admin/v1/budgets`.

mod list;
mod set;

use oa_contract::{Amount, Asset, Owner, Stop, Timestamp};
use oa_ledger::{
    AccountId, Hold, Kind, TransferId,
    budget::{Place, Reservation},
};
use oa_store::{Tx, tables::budgets};
use oa_testkit::World;

pub const PATH: &str = "/admin/v1/budgets";

/// Holds something for work in a repository of user 11, as the market's lanes do.
pub async fn reserve(world: &World, name: &str, msats: u64) -> Result<(), Stop> {
    let provider = AccountId::new(Kind::Provider, Asset::msats(), "p").unwrap();
    let place = Place {
        organisation: Some("acme".into()),
        repo: Some("site".into()),
        issue: Some("12".into()),
        run: None,
    };
    let reservation = Reservation {
        id: TransferId::new(name).unwrap(),
        owner: Owner::User(11),
        place,
        payees: vec![(provider, Amount::new(msats).unwrap())],
        hold: Hold { expires_at: None },
        reference: "job".into(),
    };
    let reserve = async |tx: &mut Tx, (reservation, now): &(Reservation, Timestamp)| {
        budgets::reserve(tx, reservation, *now).await.map(|_| ())
    };
    world.runtime.store.write("test.reserve", (), (reservation, world.now()), reserve).await
}

/// Captures the whole of it.
pub async fn pay(world: &World, name: &str, msats: u64) {
    let ask = (TransferId::new(name).unwrap(), Amount::new(msats).unwrap(), world.now());
    let pay = async |tx: &mut Tx, (id, amount, now): &(TransferId, Amount, Timestamp)| {
        budgets::capture(tx, id, &[*amount], *now).await
    };
    world.runtime.store.write("test.pay", (), ask, pay).await.unwrap();
}
