//! In which order quotes came makes no difference, and wherever the store fails nothing has moved by half.

use oa_contract::wire::fx::FxSettlementStatus;

use super::*;

/// Every order of so many.
fn orders(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(of - 1) {
        for at in 0..=shorter.len() {
            let mut order = shorter.clone();
            order.insert(at, of - 1);
            all.push(order);
        }
    }
    all
}

/// Four quotes that differ in everything that is scored, handed in in this order.
async fn chosen(world: &World, order: &[usize], policy: &str) -> FxSelection {
    let rfq = open(world, opening("r")).await.expect("opened");
    for n in order {
        let step = u32::try_from(*n).expect("a number");
        let mut offer = offered(&format!("q{n}"), &format!("provider-{n}"), &rfq);
        offer.buy.amount = 2_500_000 + u64::from(step % 2) * 1_000;
        offer.spread_bps = 70 - (step % 3) * 5;
        offer.latency_ms = 900 + (step % 2) * 50;
        offer.reliability_bps = 9_000 + (step % 3) * 100;
        quote(world, &format!("k{n}"), offer).await.expect("quoted");
    }
    select(world, "s", &rfq.rfq_id, policy).await.expect("selected")
}

#[tokio::test]
async fn no_order_of_quotes_changes_the_choice_or_its_digest() {
    for policy in ["reputation_first_v0", "best_price_v1"] {
        let mut first: Option<FxSelection> = None;
        for (n, order) in orders(4).into_iter().enumerate() {
            // Each in a world of its own, at the same moment: the request has the same id.
            let engine = if n % 6 == 5 { EngineKind::Postgres } else { EngineKind::Sqlite };
            let world = World::with(engine, strict()).await;
            let selection = chosen(&world, &order, policy).await;
            let known = first.get_or_insert_with(|| selection.clone());
            assert_eq!(selection.decision_sha256, known.decision_sha256, "{order:?}");
            assert_eq!(selection.receipt, known.receipt, "{order:?}");
            assert_eq!(
                serde_json::to_value(&selection).expect("JSON"),
                serde_json::to_value(&*known).expect("JSON"),
                "{order:?}"
            );
        }
    }
}

/// Everything that a choice writes to, and everything that a settlement does.
const CHOSEN: [&str; 8] = [
    "fx_rfqs",
    "fx_quotes",
    "fx_selections",
    "fx_keys",
    "ledger_accounts",
    "ledger_transfers",
    "ledger_legs",
    "ledger_entries",
];
const SETTLED: [&str; 11] = [
    "fx_rfqs",
    "fx_quotes",
    "fx_settlements",
    "fx_keys",
    "fx_counters",
    "fx_makers",
    "fx_spreads",
    "ledger_accounts",
    "ledger_transfers",
    "ledger_legs",
    "ledger_entries",
];

#[tokio::test]
async fn an_exchange_that_breaks_at_any_step_is_whole_or_not_at_all() {
    on_each(strict, async |world: World| {
        funded(&world, 1).await;
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        let parties = async || {
            let buyer = account(&world, "autopilot:user-1", "USD", "cents").await;
            (buyer, account(&world, "provider-a", "BTC_LN", "msats").await)
        };
        let before = parties().await;
        for table in CHOSEN {
            world.break_writes_to(Some(table)).await;
            assert!(select(&world, "s", &rfq.rfq_id, "").await.is_err(), "{table}");
            world.break_writes_to(None).await;
            assert_eq!((parties().await, status(&world, &rfq).await), (before, RfqStatus::Quoted), "{table}");
            adds_up(&world).await;
        }
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let held = parties().await;
        let body = || settlement("t", &rfq.rfq_id, "r-provider-a", json!({}));
        for table in SETTLED {
            world.break_writes_to(Some(table)).await;
            assert!(settle(&world, body()).await.is_err(), "{table}");
            world.break_writes_to(None).await;
            assert_eq!((parties().await, status(&world, &rfq).await), (held, RfqStatus::Selected), "{table}");
            adds_up(&world).await;
        }
        assert_eq!(settle(&world, body()).await.expect("settled").status, FxSettlementStatus::Released);
        assert_eq!(account(&world, "autopilot:user-1", "USD", "cents").await.0, 100_000, "once");
        adds_up(&world).await;
    })
    .await;
}
