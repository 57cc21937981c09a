//! Decides how budgets are kept: which were set stands here, how much they are and how much of them is used
//! stands in the ledger. A reservation holds in every budget around it, in one transaction.

use oa_contract::{
    Amount, Owner, Timestamp,
    refusal::{Fault, Stop},
};
use oa_ledger::{
    AccountId, TransferId,
    budget::{self, Place, Reservation, Scope},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    tables::ledger::{self, Booked},
    transaction::Tx,
};

static GET: Statement = sealed_statement!("budgets/get", "budgets");
static PUT: Statement = sealed_statement!("budgets/put", "budgets");
static LIST: Statement = sealed_statement!("budgets/list", "budgets");
static LIST_OWNED: Statement = sealed_statement!("budgets/list_owned", "budgets");

/// A budget that somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRow {
    pub owner: Owner,
    pub place: Place,
    pub set_at: Timestamp,
    pub changed_at: Timestamp,
    /// Its place in the list; 0 until it is kept.
    pub position: i64,
}

impl FromRow for BudgetRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let owner = row.text(0)?;
        let unknown = || Fault::msg(format!("a stored budget has the unknown owner {owner:?}"));
        Ok(BudgetRow {
            owner: Owner::parse(owner).ok_or_else(unknown)?,
            place: Place {
                organisation: row.opt_text(2)?.map(str::to_owned),
                repo: row.opt_text(3)?.map(str::to_owned),
                issue: row.opt_text(4)?.map(str::to_owned),
                run: row.opt_uuid(5)?,
            },
            set_at: row.timestamp(6)?,
            changed_at: row.timestamp(7)?,
            position: row.int(9)?,
        })
    }
}

pub async fn get(tx: &mut Tx, owner: &Owner, scope: &Scope) -> Result<Option<BudgetRow>, Stop> {
    tx.one(&GET, params![&owner.to_string(), &scope.to_string()]).await
}

pub async fn put(tx: &mut Tx, row: &BudgetRow) -> Result<(), Stop> {
    let (owner, scope) = (row.owner.to_string(), row.place.scope().to_string());
    let params = params![
        &owner,
        &scope,
        &row.place.organisation,
        &row.place.repo,
        &row.place.issue,
        &row.place.run,
        row.set_at,
        row.changed_at
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}

/// The budgets that were set, the latest first set first; `before` is a position behind which to go on.
pub async fn list(
    tx: &mut Tx,
    owner: Option<&Owner>,
    before: i64,
    limit: u32,
) -> Result<Vec<BudgetRow>, Stop> {
    match owner {
        Some(owner) => tx.all(&LIST_OWNED, params![before, limit, &owner.to_string()]).await,
        None => tx.all(&LIST, params![before, limit]).await,
    }
}

/// Holds what a piece of work may cost, in the owner's budget and in every nested one that is set around it: in
/// all of them, or in none. A nested budget counts from when it was set.
pub async fn reserve(tx: &mut Tx, reservation: &Reservation, now: Timestamp) -> Result<Booked, Stop> {
    let nested = reservation.nested()?;
    let set = match ledger::get(tx, &reservation.id).await? {
        // What was held in counts, not what was set since: asked again, it is the same reservation.
        Some(known) => {
            let counted = budget::counted_in(&known);
            nested.into_iter().filter(|budget| counted.contains(budget)).collect()
        }
        None => opened(tx, nested).await?,
    };
    ledger::transfer(tx, &reservation.order(&set)?, now).await
}

async fn opened(tx: &mut Tx, nested: Vec<AccountId>) -> Result<Vec<AccountId>, Stop> {
    let mut opened = Vec::new();
    for budget in nested {
        if ledger::find(tx, &budget).await?.is_some() {
            opened.push(budget);
        }
    }
    Ok(opened)
}

/// Takes so much of a reservation for each of its payees; the rest is free again in every budget.
pub async fn capture(tx: &mut Tx, id: &TransferId, paid: &[Amount], now: Timestamp) -> Result<Booked, Stop> {
    let known = ledger::get(tx, id).await?;
    let known = known.ok_or_else(|| oa_ledger::Denied::Unknown { id: id.clone() })?;
    ledger::post(tx, id, &budget::capture(&known, paid)?, now).await
}
