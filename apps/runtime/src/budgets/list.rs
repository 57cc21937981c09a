//! `GET /admin/v1/budgets`: which budgets there are and how much of each is used.

use oa_contract::{
    Answer, Ask, Handle, Owner, Refusal, Stop,
    matrix::BudgetsList,
    wire::budgets::{BudgetList, ListBudgets},
};
use oa_ledger::budget::Place;
use oa_store::{Tx, tables::budgets as table};

use super::{kept, standing};
use crate::Runtime;

const SCHEMA: &str = "openagents.treasury.budget_list.v1";
const USUAL_PAGE: u64 = 50;
const LARGEST_PAGE: u64 = 200;

#[derive(Debug)]
struct Wanted {
    owner: Option<Owner>,
    before: Option<i64>,
    page: usize,
}

impl Handle<BudgetsList> for Runtime {
    async fn handle(&self, ask: Ask<BudgetsList>) -> Result<Answer<BudgetList>, Stop> {
        Ok(self.store.read("budgets.list", read(ask.query)?, list).await?.into())
    }
}

async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<BudgetList, Stop> {
    let mut budgets = Vec::new();
    let before = wanted.before.unwrap_or(i64::MAX);
    // One more than a page, so that it is known whether another follows.
    let mut rows = table::list(tx, wanted.owner.as_ref(), before, wanted.page as u32 + 1).await?;
    let more = rows.len() > wanted.page;
    rows.truncate(wanted.page);
    let next = rows.last().filter(|_| more).map(|row| row.position);
    if let (Some(owner), None) = (&wanted.owner, wanted.before) {
        let whole = Place::default();
        if table::get(tx, owner, &whole.scope()).await?.is_none() {
            budgets.push(standing(tx, owner, &whole, None).await?);
        }
    }
    for row in &rows {
        budgets.push(kept(tx, row).await?);
    }
    Ok(BudgetList { schema: SCHEMA.into(), budgets, next })
}

fn read(query: ListBudgets) -> Result<Wanted, Refusal> {
    let named = query.owner_user_id.is_some()
        || query.owner_guest_scope.as_deref().is_some_and(|scope| !scope.trim().is_empty());
    let owner = match named {
        true => Some(Owner::from_parts(query.owner_user_id, query.owner_guest_scope.as_deref())?),
        false => None,
    };
    if let Some(owner) = &owner {
        Place::default().scope().account(owner)?;
    }
    let page = query.limit.unwrap_or(USUAL_PAGE).clamp(1, LARGEST_PAGE) as usize;
    Ok(Wanted { owner, before: query.before, page })
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        Msats, Nothing,
        matrix::BudgetsSet,
        wire::budgets::{Budget, BudgetLevel, SetBudget},
    };

    use super::*;
    use crate::testing::{World, on_each_engine, operator};

    async fn ask(world: &World, query: ListBudgets) -> BudgetList {
        world.call::<BudgetsList>(&operator(), Nothing {}, query, Nothing {}).await.expect("listed").1
    }

    async fn set(world: &World, owner: u64, organisation: Option<&str>) {
        let body = SetBudget {
            owner_user_id: Some(owner),
            organisation: organisation.map(str::to_owned),
            limit_msats: Msats::new(5).expect("an amount"),
            ..SetBudget::default()
        };
        world.call::<BudgetsSet>(&operator(), Nothing {}, Nothing {}, body).await.expect("set");
    }

    fn names(budgets: &[Budget]) -> Vec<&str> {
        budgets.iter().map(|budget| budget.organisation.as_deref().unwrap_or("-")).collect()
    }

    #[tokio::test]
    async fn an_owner_who_set_nothing_has_the_default_budget() {
        on_each_engine(async |world: World| {
            let list = ask(&world, ListBudgets { owner_user_id: Some(1), ..ListBudgets::default() }).await;
            let [budget] = &list.budgets[..] else { panic!("one budget, not {:?}", list.budgets) };
            assert_eq!((budget.level, budget.owner_key.as_str()), (BudgetLevel::Owner, "user:1"));
            assert_eq!(budget.limit_msats.get(), 10_000_000_000);
            assert_eq!((budget.remaining_msats, budget.set_at), (budget.limit_msats, None));
            assert_eq!(ask(&world, ListBudgets::default()).await.budgets, []);
        })
        .await;
    }

    #[tokio::test]
    async fn pages_follow_each_other_and_hold_each_budget_once() {
        on_each_engine(async |world: World| {
            for name in ["a", "b", "c"] {
                set(&world, 1, Some(name)).await;
            }
            set(&world, 2, Some("other")).await;
            set(&world, 1, None).await;
            set(&world, 1, Some("a")).await;
            let mine = || ListBudgets { owner_user_id: Some(1), limit: Some(3), ..ListBudgets::default() };
            let first = ask(&world, mine()).await;
            assert_eq!(names(&first.budgets), ["-", "c", "b"]);
            let rest = ask(&world, ListBudgets { before: first.next, ..mine() }).await;
            assert_eq!((names(&rest.budgets), rest.next), (vec!["a"], None));
            let all = ask(&world, ListBudgets { limit: Some(0), ..ListBudgets::default() }).await;
            assert_eq!((all.budgets.len(), all.next.is_some()), (1, true));
            assert_eq!(ask(&world, ListBudgets::default()).await.budgets.len(), 5);
        })
        .await;
    }
}
