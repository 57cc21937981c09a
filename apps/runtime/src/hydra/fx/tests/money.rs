//! Both sides move, or neither; once, for the quote that is chosen; and never out of nothing.

use futures_util::future::join_all;
use oa_contract::{
    Code,
    wire::fx::{FxReservationStatus, FxSettlementStatus},
};

use super::*;
use crate::testing::refused;

const BUYER: &str = "autopilot:user-1";

#[tokio::test]
async fn a_choice_holds_both_sides_and_a_settlement_moves_them() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        let selection = select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(selection.reservation.expect("told").status, FxReservationStatus::Held);
        assert_eq!(account(&world, BUYER, "USD", "cents").await, (0, 0, 100_000, 0));
        assert_eq!(account(&world, "provider-a", "BTC_LN", "msats").await, (0, 0, 2_500_000, 0));
        let settled = settle(&world, settlement("t", &rfq.rfq_id, "r-provider-a", json!({}))).await;
        assert_eq!(settled.expect("settled").status, FxSettlementStatus::Released);
        assert_eq!(account(&world, BUYER, "USD", "cents").await, (100_000, 0, 0, 0));
        assert_eq!(account(&world, BUYER, "BTC_LN", "msats").await, (0, 2_500_000, 0, 2_500_000));
        assert_eq!(account(&world, "provider-a", "BTC_LN", "msats").await, (2_500_000, 0, 0, 0));
        assert_eq!(account(&world, "provider-a", "USD", "cents").await, (0, 100_000, 0, 100_000));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn nobody_pays_with_what_nobody_gave() {
    on_each(strict, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        let selection = select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(selection.reservation.expect("told").status, FxReservationStatus::Uncovered);
        let body = || settlement("t", &rfq.rfq_id, "r-provider-a", json!({}));
        let asked = async || {
            let refusal = refused(settle(&world, body()).await);
            assert_eq!(
                (refusal.code, refusal.message.as_str()),
                (Code::Forbidden, "insufficient treasury budget")
            );
            refusal.reason_code.expect("a reason")
        };
        assert_eq!(asked().await, "requester_cannot_pay");
        limit(&world, BUYER, "USD", "cents", 100_000).await;
        assert_eq!(asked().await, "provider_cannot_pay");
        // The same name in another unit is another currency.
        limit(&world, "provider-a", "USD", "cents", 10_000_000).await;
        assert_eq!(asked().await, "provider_cannot_pay");
        assert_eq!(account(&world, BUYER, "USD", "cents").await, (0, 0, 0, 100_000), "nothing moved");
        assert_eq!(status(&world, &rfq).await, RfqStatus::Selected);
        limit(&world, "provider-a", "BTC_LN", "msats", 2_500_000).await;
        assert_eq!(settle(&world, body()).await.expect("settled").status, FxSettlementStatus::Released);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn only_the_chosen_quote_is_settled() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000), ("provider-b", 2_500_000)]).await;
        let body =
            |key: &str, provider: &str| settlement(key, &rfq.rfq_id, &format!("r-{provider}"), json!({}));
        let said = "quote is not in a settle-eligible status";
        assert_eq!(refused(settle(&world, body("t", "provider-a")).await).message, said);
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(refused(settle(&world, body("t", "provider-b")).await).message, said);
        settle(&world, body("t", "provider-a")).await.expect("settled");
        assert_eq!(refused(settle(&world, body("u", "provider-b")).await).message, said);
        assert_eq!(refused(select(&world, "s2", &rfq.rfq_id, "").await).message, "rfq is settled already");
    })
    .await;
}

#[tokio::test]
async fn where_callers_are_believed_a_quote_needs_no_choice_and_one_is_settled() {
    on_each(lenient, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000), ("provider-b", 2_500_000)]).await;
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        settle(&world, settlement("t", &rfq.rfq_id, "r-provider-b", json!({}))).await.expect("settled");
        let other = settle(&world, settlement("u", &rfq.rfq_id, "r-provider-a", json!({}))).await;
        assert_eq!(refused(other).message, "quote is not in a settle-eligible status");
        assert_eq!(account(&world, "provider-a", "BTC_LN", "msats").await.2, 0, "its hold is free");
        assert_eq!(account(&world, BUYER, "USD", "cents").await.0, 100_000, "paid once");
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn another_choice_frees_what_was_held_for_the_first() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_000_000), ("provider-b", 2_500_000)]).await;
        let first = select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(first.selected.quote_id, "r-provider-a");
        let report = first.execution.expect("a report");
        assert_eq!((report.best_quote_id.as_str(), report.shortfall_amount), ("r-provider-b", 500_000));
        let second = select(&world, "s2", &rfq.rfq_id, "best_price_v1").await.expect("selected");
        assert_eq!(second.selected.quote_id, "r-provider-b");
        assert_eq!(second.reservation.expect("told").status, FxReservationStatus::Held);
        assert_eq!(account(&world, "provider-a", "BTC_LN", "msats").await.2, 0);
        assert_eq!(account(&world, "provider-b", "BTC_LN", "msats").await.2, 2_500_000);
        assert_eq!(account(&world, BUYER, "USD", "cents").await.2, 100_000);
        let former = settle(&world, settlement("t", &rfq.rfq_id, "r-provider-a", json!({}))).await;
        assert_eq!(refused(former).code, Code::Conflict);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_held_is_free_when_the_time_is_over() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        world.clock.advance_ms(30_000);
        crate::background::fx::sweep_once(&world.runtime).await.expect("swept");
        assert_eq!(account(&world, BUYER, "USD", "cents").await, (0, 0, 0, 100_000));
        // Whoever comes now is told that it was too late, for ever.
        let settled = settle(&world, settlement("t", &rfq.rfq_id, "r-provider-a", json!({}))).await;
        assert_eq!(settled.expect("settled").status, FxSettlementStatus::Withheld);
        assert_eq!(status(&world, &rfq).await, RfqStatus::Withheld);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn thirty_two_settlements_at_one_time_move_money_once() {
    on_each(strict, async |world: World| {
        funded(&world, 9).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let all = (0..32).map(|n| {
            // Some repeat a key, some bring their own, some want it otherwise.
            let context = if n % 4 == 3 { json!({"release_allowed": false}) } else { json!({}) };
            settle(&world, settlement(&format!("t{}", n % 16), &rfq.rfq_id, "r-provider-a", context))
        });
        let ended = join_all(all).await;
        let done: Vec<_> = ended.into_iter().filter_map(Result::ok).collect();
        assert!(!done.is_empty() && done.windows(2).all(|pair| pair[0] == pair[1]));
        let moved = account(&world, BUYER, "USD", "cents").await.0;
        let released = done[0].status == FxSettlementStatus::Released;
        assert_eq!(moved, if released { 100_000 } else { 0 });
        assert_eq!(observed(&world).await.counters.settlements, 1);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn choices_and_settlements_at_one_time_leave_one_exchange() {
    on_each(strict, async |world: World| {
        funded(&world, 4).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_000_000), ("provider-b", 2_500_000)]).await;
        let choices = (0..8).map(async |n: u32| {
            let policy = if n.is_multiple_of(2) { "reputation_first_v0" } else { "best_price_v1" };
            let _ = select(&world, &format!("s{n}"), &rfq.rfq_id, policy).await;
        });
        let settlements = (0..8).map(async |n: u32| {
            let quote_id = if n.is_multiple_of(2) { "r-provider-a" } else { "r-provider-b" };
            let _ = settle(&world, settlement(&format!("t{n}"), &rfq.rfq_id, quote_id, json!({}))).await;
        });
        tokio::join!(join_all(choices), join_all(settlements));
        let chosen = get(&world, &rfq.rfq_id).await.selected_quote_id.expect("chosen");
        settle(&world, settlement("last", &rfq.rfq_id, &chosen, json!({}))).await.expect("settled");
        let (paid, _, held, _) = account(&world, BUYER, "USD", "cents").await;
        assert_eq!((paid, held), (100_000, 0));
        assert_eq!(observed(&world).await.counters.settlements, 1);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn an_owner_exchanges_its_own_money_within_the_budget_that_it_names() {
    use oa_contract::{matrix::BudgetsSet, wire::budgets::SetBudget};
    on_each(strict, async |world: World| {
        let budget = |limit| SetBudget {
            owner_user_id: Some(11),
            organisation: Some("acme".into()),
            limit_msats: oa_contract::Msats::new(limit).expect("an amount"),
            ..SetBudget::default()
        };
        let set = async |limit| {
            world.call::<BudgetsSet>(&operator(), Nothing {}, Nothing {}, budget(limit)).await.expect("set").1
        };
        set(2_999_999).await;
        limit(&world, "provider-a", "USD", "cents", 100_000).await;
        let body = OpenRfq {
            requester_id: "user:11".into(),
            budget_scope_id: "organisation/acme".into(),
            sell: money("BTC_LN", 3_000_000, "msats"),
            buy_asset: "USD".into(),
            min_buy_amount: 90_000,
            ..opening("k")
        };
        let rfq = open(&world, body).await.expect("opened");
        let offer =
            OfferedFxQuote { buy: money("USD", 100_000, "cents"), ..offered("q", "provider-a", &rfq) };
        quote(&world, "q", offer).await.expect("quoted");
        let selection = select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(selection.reservation.expect("told").status, FxReservationStatus::Uncovered);
        let body = || settlement("t", &rfq.rfq_id, "q", json!({}));
        assert_eq!(refused(settle(&world, body()).await).reason_code, Some("budget_exceeded"));
        set(3_000_000).await;
        settle(&world, body()).await.expect("settled");
        let used = set(3_000_000).await.budget;
        assert_eq!((used.spent_msats.get(), used.remaining_msats.get()), (3_000_000, 0));
        assert_eq!(account(&world, "user:11", "USD", "cents").await.1, 100_000);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn the_rate_stands_beside_the_reference_and_its_source() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        told(&world, "desk", 2_600).await;
        told(&world, "exchange", 2_700).await;
        let rfq = open(&world, opening("k")).await.expect("opened");
        let rate = quote(&world, "q", offered("q", "provider-a", &rfq)).await.expect("quoted").rate;
        let rate = rate.expect("a rate");
        assert_eq!(rate.spread_from_reference_bps, Some(384));
        let reference = rate.reference.expect("a reference");
        assert_eq!(
            (reference.source.as_str(), reference.buy_amount),
            ("median of desk, exchange", 2_600_000)
        );
        let selection = select(&world, "s", &rfq.rfq_id, "best_price_v1").await.expect("selected");
        assert_eq!(selection.execution.expect("a report").rate.spread_from_reference_bps, Some(384));
        let settled = settle(&world, settlement("t", &rfq.rfq_id, "q", json!({}))).await.expect("settled");
        assert!(settled.rate.expect("a rate").reference.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_request_is_chosen_from_so_often_and_no_more() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        let mut first = None;
        for n in 0..64 {
            let selection = select(&world, &format!("s{n}"), &rfq.rfq_id, "").await.expect("selected");
            first = first.or(Some(selection));
        }
        assert_eq!(refused(select(&world, "s64", &rfq.rfq_id, "").await).code, Code::Conflict);
        assert_eq!(select(&world, "s0", &rfq.rfq_id, "").await.ok(), first, "what was answered is answered");
        settle(&world, settlement("t", &rfq.rfq_id, "r-provider-a", json!({}))).await.expect("settled");
    })
    .await;
}

#[tokio::test]
async fn everything_outlives_a_restart() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let world = World::with(engine, strict()).await;
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        let selection = select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let world = world.restart().await;
        assert_eq!(select(&world, "s", &rfq.rfq_id, "").await.expect("again"), selection);
        let body = || settlement("t", &rfq.rfq_id, "r-provider-a", json!({}));
        let settled = settle(&world, body()).await.expect("settled");
        let world = world.restart().await;
        assert_eq!(settle(&world, body()).await.expect("again"), settled);
        assert_eq!(open(&world, opening("r")).await.expect("again").rfq_id, rfq.rfq_id);
        adds_up(&world).await;
    }
}

/// From work, as it were.
async fn earned(world: &World, owner: &str, msats: u64) {
    use oa_ledger::{AccountId, Kind, Leg, Order, TransferId};
    let order = Order {
        id: TransferId::new(format!("earned-{owner}")).expect("an id"),
        legs: vec![Leg {
            debit: AccountId::new(Kind::Wallet, oa_contract::Asset::msats(), "w").expect("an account"),
            credit: crate::hydra::fx::legs::account(owner, "BTC_LN", "msats").expect("an account"),
            amount: oa_contract::Amount::new(msats).expect("an amount"),
        }],
        hold: None,
        reference: "test".into(),
    };
    let move_it = async |tx: &mut Tx, (order, now): &(Order, oa_contract::Timestamp)| {
        oa_store::tables::ledger::transfer(tx, order, *now).await
    };
    world.runtime.store.write("test.earned", (), (order, testing::BEGIN), move_it).await.expect("earned");
}

#[tokio::test]
async fn what_an_owner_has_earned_it_sells_once() {
    on_each(strict, async |world: World| {
        limit(&world, BUYER, "USD", "cents", 10_000_000).await;
        earned(&world, "user:13", 2_500_000).await;
        let mut asked = Vec::new();
        for n in 0..8 {
            asked.push(quoted(&world, &format!("r{n}"), [("user:13", 2_500_000)]).await.rfq_id);
        }
        let choices = asked.iter().enumerate().map(async |(n, rfq_id)| {
            let selection = select(&world, &format!("s{n}"), rfq_id, "").await.expect("selected");
            selection.reservation.expect("told").status
        });
        let told = join_all(choices).await;
        assert_eq!(told.iter().filter(|status| **status == FxReservationStatus::Held).count(), 1);
        assert_eq!(account(&world, "user:13", "BTC_LN", "msats").await, (0, 2_500_000, 2_500_000, 0));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_limit_is_a_grant_whatever_it_is() {
    on_each(strict, async |world: World| {
        limit(&world, BUYER, "USD", "cents", 100_000).await;
        assert_eq!(account(&world, "user:14", "BTC_LN", "msats").await.3, 0, "nobody gave it anything");
        let given = limit(&world, "user:14", "BTC_LN", "msats", 10_000_000_000).await;
        assert_eq!((given.limit_units, given.remaining_units), (10_000_000_000, 10_000_000_000));
        assert_eq!(account(&world, "user:14", "BTC_LN", "msats").await.3, 10_000_000_000);
        let rfq = quoted(&world, "r", [("user:14", 2_500_000)]).await;
        let selection = select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(selection.reservation.expect("told").status, FxReservationStatus::Held);
    })
    .await;
}

#[tokio::test]
async fn a_settlement_of_another_quote_that_is_withheld_leaves_the_chosen_one_alone() {
    on_each(lenient, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000), ("provider-b", 2_500_000)]).await;
        let chosen = select(&world, "s", &rfq.rfq_id, "").await.expect("selected").selected.quote_id;
        let other = if chosen == "r-provider-a" { "r-provider-b" } else { "r-provider-a" };
        let body = settlement("t", &rfq.rfq_id, other, json!({"release_allowed": false}));
        let withheld = settle(&world, body).await.expect("settled");
        assert_eq!(withheld.status, FxSettlementStatus::Withheld);
        assert_eq!(withheld.proof.expect("a proof").transfer_id, None, "nothing was held for it");
        assert_eq!(account(&world, BUYER, "USD", "cents").await.2, 100_000, "the chosen one's hold stands");
        assert_eq!(status(&world, &rfq).await, RfqStatus::Selected);
        let body = settlement("u", &rfq.rfq_id, &chosen, json!({}));
        assert_eq!(settle(&world, body).await.expect("settled").status, FxSettlementStatus::Released);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_nobody_gave_anything_pays_nothing() {
    use oa_contract::{matrix::BudgetsSet, wire::budgets::SetBudget};
    on_each(strict, async |world: World| {
        limit(&world, BUYER, "USD", "cents", 1_000_000).await;
        for (name, provider) in [("one", "user:12"), ("two", "guest:anybody")] {
            let rfq = quoted(&world, name, [(provider, 2_500_000)]).await;
            let selection = select(&world, &format!("s-{name}"), &rfq.rfq_id, "").await.expect("selected");
            assert_eq!(selection.reservation.expect("told").status, FxReservationStatus::Uncovered);
            let quote_id = format!("{name}-{provider}");
            let body = || settlement(&format!("t-{name}"), &rfq.rfq_id, &quote_id, json!({}));
            assert_eq!(refused(settle(&world, body()).await).reason_code, Some("provider_cannot_pay"));
            if provider == "user:12" {
                let limit_msats = oa_contract::Msats::new(2_500_000).expect("msats");
                let budget = SetBudget { owner_user_id: Some(12), limit_msats, ..SetBudget::default() };
                world.call::<BudgetsSet>(&operator(), Nothing {}, Nothing {}, budget).await.expect("set");
                settle(&world, body()).await.expect("settled");
            }
        }
        // What it has earned, and not a millisatoshi of the budget that it begins with.
        earned(&world, "user:13", 1).await;
        let rfq = quoted(&world, "three", [("user:13", 2_500_000)]).await;
        let selection = select(&world, "s-three", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(selection.reservation.expect("told").status, FxReservationStatus::Uncovered);
        limit(&world, "user:13", "BTC_LN", "msats", 2_500_000).await;
        let body = settlement("t-three", &rfq.rfq_id, "three-user:13", json!({}));
        settle(&world, body).await.expect("within the limit that was set");
        // One owner has one name.
        for spelling in ["user:0012", "user:+12", "User:12", "guest: anybody"] {
            let refusal =
                refused(open(&world, OpenRfq { requester_id: spelling.into(), ..opening(spelling) }).await);
            assert_eq!(refusal.code, Code::InvalidRequest, "{spelling}");
            let rfq = open(&world, opening(&format!("for {spelling}"))).await.expect("opened");
            let refusal = refused(quote(&world, spelling, offered("q", spelling, &rfq)).await);
            assert_eq!(refusal.code, Code::InvalidRequest, "{spelling}");
        }
        adds_up(&world).await;
    })
    .await;
}
