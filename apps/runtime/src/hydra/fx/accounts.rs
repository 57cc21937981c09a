//! `POST` and `GET /admin/v1/fx/accounts`: how far below zero a party to exchanges may go in one asset, and what it
//! holds. The limit is the floor of the account itself, so it holds from the next exchange on.

use oa_contract::{
    Amount, Answer, Ask, Asset, Fault, Handle, Owner, Refusal, Stop, Timestamp,
    matrix::{FxAccountGet, FxLimitSet},
    wire::fx::{FxAccount, FxAccountQuery, SetFxLimit},
};
use oa_ledger::{Account, AccountId, Floor, Kind, budget::Place};
use oa_store::{
    Key, Tx,
    tables::{
        budgets::{self, BudgetRow},
        ledger,
    },
};

use super::{legs, named};
use crate::Runtime;

const SCHEMA: &str = "openagents.hydra.fx_account.v1";

/// One account, by who holds it and of what.
#[derive(Clone)]
struct Held {
    holder_id: String,
    asset: String,
    unit: String,
    id: AccountId,
}

impl Held {
    fn read(holder_id: &str, asset: &str, unit: &str) -> Result<Self, Stop> {
        let holder_id = named("holder_id", holder_id)?;
        let asset = named("asset", asset)?.to_uppercase();
        let unit = named("unit", unit)?;
        let id = legs::account(&holder_id, &asset, &unit)?;
        Ok(Held { holder_id, asset, unit, id })
    }

    /// Whose own msats it is, if it is that.
    fn owner(&self) -> Option<Owner> {
        let own = self.id.kind() == Kind::Owner && *self.id.asset() == Asset::msats();
        Owner::parse(&self.holder_id).filter(|_| own)
    }
}

impl Handle<FxLimitSet> for Runtime {
    async fn handle(&self, ask: Ask<FxLimitSet>) -> Result<Answer<FxAccount>, Stop> {
        let SetFxLimit { holder_id, asset, unit, limit_units } = ask.body;
        let held = Held::read(&holder_id, &asset, &unit)?;
        let limit = Amount::new(limit_units)
            .ok_or_else(|| Refusal::invalid(format!("limit_units must be at most {}", Amount::MAX.get())))?;
        let given = Given { id: held.id.clone(), limit, owner: held.owner(), now: self.now() };
        let scope = Place::default().scope();
        let keys = given.owner.iter().map(|owner| Key::text("budget", format!("{owner}/{scope}")));
        let account = self.store.write("fx.limit_set", keys.collect::<Vec<_>>(), given, set).await?;
        Ok(shown(held, &account, true)?.into())
    }
}

/// What an owner may spend of its msats is its budget: it was set from here on, also to what it would have been.
struct Given {
    id: AccountId,
    limit: Amount,
    owner: Option<Owner>,
    now: Timestamp,
}

async fn set(tx: &mut Tx, given: &Given) -> Result<Account, Stop> {
    if let Some(owner) = &given.owner {
        let place = Place::default();
        let known = budgets::get(tx, owner, &place.scope()).await?;
        let row = BudgetRow {
            owner: owner.clone(),
            place,
            set_at: known.map_or(given.now, |known| known.set_at),
            changed_at: given.now,
            position: 0,
        };
        budgets::put(tx, &row).await?;
    }
    ledger::set_limit(tx, &given.id, given.limit).await
}

impl Handle<FxAccountGet> for Runtime {
    async fn handle(&self, ask: Ask<FxAccountGet>) -> Result<Answer<FxAccount>, Stop> {
        let FxAccountQuery { holder_id, asset, unit } = ask.query;
        let held = Held::read(&holder_id, &asset, &unit)?;
        let (account, granted) = self.store.read("fx.account_get", held.id.clone(), look).await?;
        Ok(shown(held, &account, granted)?.into())
    }
}

async fn look(tx: &mut Tx, id: &AccountId) -> Result<(Account, bool), Stop> {
    let account = ledger::account(tx, id).await?;
    let granted = legs::is_granted(tx, &account).await?;
    Ok((account, granted))
}

/// An owner whom nobody has granted anything exchanges what it has earned.
fn shown(held: Held, account: &Account, granted: bool) -> Result<FxAccount, Fault> {
    let Floor::Limit(limit) = account.floor else {
        return Err(Fault::msg(format!("the account {} has no limit", account.id)));
    };
    let (limit, available) = match granted {
        true => (limit, account.available().unwrap_or_default()),
        false => (Amount::ZERO, legs::earned(account).max(0)),
    };
    let remaining = u64::try_from(available);
    Ok(FxAccount {
        schema: SCHEMA.into(),
        holder_id: held.holder_id,
        account_id: account.id.to_string(),
        asset: held.asset,
        unit: held.unit,
        limit_units: limit.get(),
        paid_units: account.balances.debits_posted.get(),
        received_units: account.balances.credits_posted.get(),
        held_units: account.balances.debits_pending.get(),
        remaining_units: remaining.map_err(|error| Fault::new("reading an exchange account", error))?,
    })
}
