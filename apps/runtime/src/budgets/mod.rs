//! Budgets of owners and of what lies within them (marketplace §10.1, §17.3).

pub mod list;
pub mod set;

use oa_contract::{
    Amount, Fault, Msats, Owner, Stop, Timestamp,
    wire::budgets::{Budget, BudgetLevel},
};
use oa_ledger::{
    Account, Floor,
    budget::{Level, Place},
};
use oa_store::{
    Tx,
    tables::{budgets::BudgetRow, ledger},
};

/// A budget as it stands in the ledger. Without moments it is the owner's default, which nobody has set.
async fn standing(
    tx: &mut Tx,
    owner: &Owner,
    place: &Place,
    moments: Option<(Timestamp, Timestamp)>,
) -> Result<Budget, Stop> {
    let scope = place.scope();
    let account = ledger::account(tx, &scope.account(owner)?).await?;
    let Used { limit, reserved, spent, remaining } = used(&account)?;
    Ok(Budget {
        owner_key: owner.to_string(),
        level: level(scope.level()),
        organisation: place.organisation.clone(),
        repo: place.repo.clone(),
        issue: place.issue.clone(),
        run_id: place.run,
        limit_msats: limit,
        reserved_msats: reserved,
        spent_msats: spent,
        remaining_msats: remaining,
        set_at: moments.map(|(set_at, _)| set_at),
        changed_at: moments.map(|(_, changed_at)| changed_at),
    })
}

async fn kept(tx: &mut Tx, row: &BudgetRow) -> Result<Budget, Stop> {
    standing(tx, &row.owner, &row.place, Some((row.set_at, row.changed_at))).await
}

const fn level(level: Level) -> BudgetLevel {
    match level {
        Level::Owner => BudgetLevel::Owner,
        Level::Organisation => BudgetLevel::Organisation,
        Level::Repo => BudgetLevel::Repo,
        Level::Issue => BudgetLevel::Issue,
        Level::Run => BudgetLevel::Run,
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub limit: Msats,
    pub reserved: Msats,
    pub spent: Msats,
    pub remaining: Msats,
}

/// What an owner was paid back or has deposited makes room again: it counts as that much less spent, and beyond
/// everything spent as that much more to spend.
pub(crate) fn used(account: &Account) -> Result<Used, Fault> {
    let Floor::Limit(floor) = account.floor else {
        return Err(Fault::msg(format!("the budget {} has no limit", account.id)));
    };
    let posted = account.balances.posted();
    let msats = |units: i128| {
        let units = u64::try_from(units).ok().and_then(Msats::new);
        units.ok_or_else(|| Fault::msg(format!("the sums of the budget {} do not fit", account.id)))
    };
    let remaining = account.available().unwrap_or_default();
    Ok(Used {
        limit: msats(i128::from(Amount::get(floor)) + posted.max(0))?,
        reserved: msats(account.balances.debits_pending.get().into())?,
        spent: msats((-posted).max(0))?,
        remaining: msats(remaining)?,
    })
}

#[cfg(test)]
mod tests {
    use oa_contract::Asset;
    use oa_ledger::{AccountId, Balances, Kind};

    use super::*;

    #[test]
    fn a_limit_is_what_is_spent_reserved_and_left() {
        let amount = |units| Amount::new(units).expect("an amount");
        let msats = |units| Msats::new(units).expect("an amount");
        let id = AccountId::new(Kind::Owner, Asset::msats(), "user:1").expect("an account");
        let mut account = Account::fresh(id);
        account.floor = Floor::Limit(amount(100));
        let said = |limit, reserved, spent, remaining| Used {
            limit: msats(limit),
            reserved: msats(reserved),
            spent: msats(spent),
            remaining: msats(remaining),
        };
        assert_eq!(used(&account).expect("read"), said(100, 0, 0, 100));
        account.balances = Balances {
            debits_posted: amount(40),
            debits_pending: amount(25),
            credits_posted: amount(10),
            credits_pending: amount(7),
        };
        assert_eq!(used(&account).expect("read"), said(100, 25, 30, 45));
        account.balances.credits_posted = amount(90);
        assert_eq!(used(&account).expect("read"), said(150, 25, 0, 125));
    }
}
