//! `POST` and `GET /admin/v1/fx/accounts`: how far below zero a party to exchanges may go in one asset, and what it
//! holds. The limit is the floor of the account itself, so it holds from the next exchange on.

use oa_contract::{
    Amount, Answer, Ask, Fault, Handle, Refusal, Stop,
    matrix::{FxAccountGet, FxLimitSet},
    wire::fx::{FxAccount, FxAccountQuery, SetFxLimit},
};
use oa_ledger::{Account, AccountId, Floor};
use oa_store::{Tx, tables::ledger};

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
}

impl Handle<FxLimitSet> for Runtime {
    async fn handle(&self, ask: Ask<FxLimitSet>) -> Result<Answer<FxAccount>, Stop> {
        let SetFxLimit { holder_id, asset, unit, limit_units } = ask.body;
        let held = Held::read(&holder_id, &asset, &unit)?;
        let limit = Amount::new(limit_units)
            .ok_or_else(|| Refusal::invalid(format!("limit_units must be at most {}", Amount::MAX.get())))?;
        let account = self.store.write("fx.limit_set", (), (held.id.clone(), limit), set).await?;
        Ok(shown(held, &account)?.into())
    }
}

async fn set(tx: &mut Tx, (id, limit): &(AccountId, Amount)) -> Result<Account, Stop> {
    ledger::set_limit(tx, id, *limit).await
}

impl Handle<FxAccountGet> for Runtime {
    async fn handle(&self, ask: Ask<FxAccountGet>) -> Result<Answer<FxAccount>, Stop> {
        let FxAccountQuery { holder_id, asset, unit } = ask.query;
        let held = Held::read(&holder_id, &asset, &unit)?;
        let account = self.store.read("fx.account_get", held.id.clone(), look).await?;
        Ok(shown(held, &account)?.into())
    }
}

async fn look(tx: &mut Tx, id: &AccountId) -> Result<Account, Stop> {
    ledger::account(tx, id).await
}

fn shown(held: Held, account: &Account) -> Result<FxAccount, Fault> {
    let Floor::Limit(limit) = account.floor else {
        return Err(Fault::msg(format!("the account {} has no limit", account.id)));
    };
    let remaining = u64::try_from(account.available().unwrap_or_default());
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
