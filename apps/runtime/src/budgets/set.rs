//! `POST /admin/v1/budgets`: an operator says how much may be spent. The limit is the floor of the budget's
//! account, so it holds from the next reservation on; it never falls below what is spent and reserved already.

use oa_contract::{
    Answer, Ask, Fault, Handle, Msats, Owner, Refusal, Stop, Timestamp, canonical,
    matrix::BudgetsSet,
    wire::budgets::{Budget, BudgetReply, SetBudget},
};
use oa_ledger::budget::Place;
use oa_store::{
    Key, Tx,
    idempotency::{self, Known},
    tables::{
        budgets::{self as table, BudgetRow},
        ledger,
    },
};

use super::kept;
use crate::Runtime;

const SCHEMA: &str = "openagents.treasury.budget.v1";
const LONGEST_KEY: usize = 255;
/// Whose idempotency keys these are: an operator's.
const KEYS: &str = "budgets.set";

#[derive(Debug)]
struct Wanted {
    owner: Owner,
    place: Place,
    limit: Msats,
    key: Option<(String, [u8; 32])>,
    now: Timestamp,
}

impl Handle<BudgetsSet> for Runtime {
    async fn handle(&self, ask: Ask<BudgetsSet>) -> Result<Answer<BudgetReply>, Stop> {
        let wanted = read(ask.body, self.now())?;
        let mut keys = vec![Key::text("budget", format!("{}/{}", wanted.owner, wanted.place.scope()))];
        keys.extend(wanted.key.iter().map(|(key, _)| Key::text(KEYS, key)));
        let budget = self.store.write("budgets.set", keys, wanted, set).await?;
        Ok(BudgetReply { schema: SCHEMA.into(), budget }.into())
    }
}

async fn set(tx: &mut Tx, wanted: &Wanted) -> Result<Budget, Stop> {
    if let Some((key, fingerprint)) = &wanted.key {
        match idempotency::find(tx, KEYS, key, fingerprint).await? {
            Known::Fresh => {}
            Known::Mismatch => {
                return Err(Refusal::conflict("idempotency_key already used for another budget").into());
            }
            Known::Replay { reply, .. } => {
                let unread = |error| Fault::new("reading a kept answer", error);
                return Ok(serde_json::from_str(&reply).map_err(unread)?);
            }
        }
    }
    let scope = wanted.place.scope();
    let known = table::get(tx, &wanted.owner, &scope).await?;
    ledger::set_limit(tx, &scope.account(&wanted.owner)?, wanted.limit.into()).await?;
    let row = BudgetRow {
        owner: wanted.owner.clone(),
        place: of_scope(&wanted.place),
        set_at: known.map_or(wanted.now, |known| known.set_at),
        changed_at: wanted.now,
        position: 0,
    };
    table::put(tx, &row).await?;
    let budget = kept(tx, &row).await?;
    if let Some((key, fingerprint)) = &wanted.key {
        let reply = serde_json::to_string(&budget).map_err(|error| Fault::new("writing an answer", error))?;
        idempotency::keep(tx, KEYS, key, fingerprint, 200, &reply, wanted.now).await?;
    }
    Ok(budget)
}

/// A run is known by its id alone, so where it was said to lie is no part of its budget.
fn of_scope(place: &Place) -> Place {
    match place.run {
        Some(run) => Place { run: Some(run), ..Place::default() },
        None => place.clone(),
    }
}

fn read(body: SetBudget, now: Timestamp) -> Result<Wanted, Refusal> {
    let owner = Owner::from_parts(body.owner_user_id, body.owner_guest_scope.as_deref())?;
    let place =
        Place { organisation: body.organisation, repo: body.repo, issue: body.issue, run: body.run_id };
    let place = place.checked()?;
    // Whether it can be the name of an account is asked before anything is looked at.
    place.scope().account(&owner)?;
    let key = body.idempotency_key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| key.len() > LONGEST_KEY || key.chars().any(char::is_control)) {
        let message =
            format!("idempotency_key must be at most {LONGEST_KEY} bytes without control characters");
        return Err(Refusal::invalid(message));
    }
    let content = serde_json::json!([owner.to_string(), place.scope().to_string(), body.limit_msats]);
    let fingerprint = canonical::canonical_digest(&content);
    Ok(Wanted { owner, place, limit: body.limit_msats, key: key.map(|key| (key, fingerprint)), now })
}

#[cfg(test)]
mod tests {
    use oa_contract::{Code, Nothing, wire::budgets::BudgetLevel};
    use uuid::Uuid;

    use super::*;
    use crate::testing::{World, on_each_engine, operator, refused};

    fn msats(units: u64) -> Msats {
        Msats::new(units).expect("an amount")
    }

    fn of_repo(limit: u64) -> SetBudget {
        SetBudget {
            owner_user_id: Some(11),
            organisation: Some(" acme ".into()),
            repo: Some("site".into()),
            limit_msats: msats(limit),
            ..SetBudget::default()
        }
    }

    async fn ask(world: &World, body: SetBudget) -> Result<Budget, Stop> {
        let ended = world.call::<BudgetsSet>(&operator(), Nothing {}, Nothing {}, body).await;
        ended.map(|(_, reply)| reply.budget)
    }

    #[tokio::test]
    async fn a_budget_is_set_and_set_again() {
        on_each_engine(async |world: World| {
            let begun = world.clock_now();
            let budget = ask(&world, of_repo(500)).await.expect("set");
            assert_eq!((budget.level, budget.organisation.as_deref()), (BudgetLevel::Repo, Some("acme")));
            assert_eq!((budget.limit_msats, budget.remaining_msats), (msats(500), msats(500)));
            world.clock.advance_ms(5);
            let budget = ask(&world, of_repo(0)).await.expect("set");
            assert_eq!((budget.limit_msats, budget.set_at), (Msats::ZERO, Some(begun)));
            assert_eq!(budget.changed_at, Some(world.clock_now()));
        })
        .await;
    }

    #[tokio::test]
    async fn a_late_repetition_under_a_key_changes_nothing() {
        on_each_engine(async |world: World| {
            let keyed = |limit| SetBudget { idempotency_key: Some("k".into()), ..of_repo(limit) };
            let first = ask(&world, keyed(500)).await.expect("set");
            ask(&world, of_repo(900)).await.expect("set");
            world.clock.advance_ms(5);
            assert_eq!(ask(&world, keyed(500)).await.expect("the first answer"), first);
            assert_eq!(refused(ask(&world, keyed(501)).await).code, Code::Conflict);
            let owner = SetBudget { organisation: None, repo: None, ..keyed(500) };
            assert_eq!(refused(ask(&world, owner).await).code, Code::Conflict);
            assert_eq!(ask(&world, of_repo(900)).await.expect("set").limit_msats, msats(900));
        })
        .await;
    }

    #[tokio::test]
    async fn budgets_set_at_one_time_are_one_budget() {
        on_each_engine(async |world: World| {
            let all = (1..=16).map(|limit| ask(&world, of_repo(limit)));
            for set in futures_util::future::join_all(all).await {
                set.expect("set");
            }
            let last = ask(&world, of_repo(7)).await.expect("set");
            assert_eq!(last.limit_msats, msats(7));
        })
        .await;
    }

    #[test]
    fn what_names_no_budget_is_refused() {
        let said = |body: SetBudget| read(body, Timestamp::EPOCH).expect_err("refused").message;
        let nobody = SetBudget { owner_user_id: None, ..of_repo(1) };
        assert_eq!(said(nobody), "owner_user_id or owner_guest_scope must be provided (but not both)");
        assert_eq!(said(SetBudget { organisation: None, ..of_repo(1) }), "repo needs organisation");
        let issue = SetBudget { repo: None, issue: Some("12".into()), ..of_repo(1) };
        assert_eq!(said(issue), "issue needs repo");
        let guest =
            SetBudget { owner_user_id: None, owner_guest_scope: Some("x".repeat(1_000)), ..of_repo(1) };
        assert!(said(guest).starts_with("an account's subject must be at most"));
        let key = SetBudget { idempotency_key: Some("k".repeat(256)), ..of_repo(1) };
        assert!(said(key).starts_with("idempotency_key must be at most"));
    }

    #[test]
    fn the_budget_of_a_run_does_not_depend_on_where_it_lies() {
        let run = SetBudget { run_id: Some(Uuid::from_u128(7)), ..of_repo(1) };
        let wanted = read(run, Timestamp::EPOCH).expect("read");
        assert_eq!(of_scope(&wanted.place), Place { run: Some(Uuid::from_u128(7)), ..Place::default() });
    }
}
