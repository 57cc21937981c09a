//! From the price to the payment, with SIMULATED providers: what is promised binds, what was received is settled,
//! what others refute is not paid, and wherever it breaks the money is where the events say.

use oa_testkit::{
    World, WorldOptions, both_engines,
    simulated::{ProviderMood, SimulatedProvider},
};
use serde_json::{Value, json};

use crate::routes::{
    marketplace::{self, DISPATCH, JOB, QUOTE, job, order, provider, reserve, reserved},
    runs::begin,
    treasury::{SETTLE, enrol, example},
};

/// Settles what a dispatch answered, as a client does.
pub fn settlement(run: &str, dispatched: &Value, quote: Option<&Value>) -> Value {
    let provider = &dispatched["selection"]["provider"];
    let mut body = json!({
        "owner_user_id": 11, "run_id": run,
        "provider_id": provider["provider_id"], "provider_worker_id": provider["worker_id"],
        "amount_msats": provider["min_price_msats"],
        "request": job(), "response": dispatched["response"],
    });
    if let Some(quote) = quote {
        body["quote"] = quote.clone();
    }
    body
}

pub async fn world(engine: oa_testkit::Engine, sample_bps: u32) -> World {
    let runtime = move |config: &mut oa_runtime::Config| config.reexecution_sample_bps = sample_bps;
    World::with(WorldOptions { engine, runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

pub async fn spent(world: &World) -> (u64, u64) {
    let told = world.http.get("/internal/v1/treasury/compute/summary?owner_user_id=11").await.json();
    let account = &told["account"];
    (account["reserved_msats"].as_u64().unwrap(), account["spent_msats"].as_u64().unwrap())
}

pub async fn post(world: &World, path: &str, body: &Value) -> Value {
    let answered = world.http.post(path, body).await;
    assert_eq!(answered.status, 200, "{path}: {}", answered.text());
    answered.json()
}

pub async fn drift(world: &World) -> Value {
    post(world, "/internal/v1/treasury/compute/reconcile", &json!({})).await["drift"]["findings"].clone()
}

async fn receipts(world: &World, run: &str) -> Vec<String> {
    let run = world.http.get(&format!("/internal/v1/runs/{run}")).await.json();
    let events = run["run"]["events"].as_array().unwrap().clone();
    let name = |event: &Value| event["payload"]["receipt_type"].as_str().map(str::to_owned);
    events.iter().filter_map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_quoted_dispatched_and_paid_at_the_promised_price() {
    for engine in both_engines() {
        let world = world(engine, 0).await;
        // Another owner's: nothing of what the payer says about it is believed.
        let strangers = reserve(&world, "b", 999, 1500).await;
        let run = begin(&world).await;
        let quoted = post(&world, QUOTE, &order(11, json!({}))).await;
        let quote = &quoted["quote"];
        let more =
            json!({"run_id": run, "quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"]});
        let dispatched = post(&world, DISPATCH, &order(11, more)).await;
        assert_eq!((dispatched["job_hash"].as_str(), strangers.counts()), (Some(JOB), (1, 0)));
        let total = quote["total_price_msats"].as_u64().unwrap();
        assert_eq!((reserved(&world, 11).await, spent(&world).await), (total, (total, 0)));
        // The provider asks more by now, and the quote is over: what was accepted in time is what is owed.
        let dearer = json!({"owner_user_id": 999, "metadata_patch": {"min_price_msats": 9999}});
        post(&world, "/internal/v1/workers/b/heartbeat", &dearer).await;
        world.clock.advance_millis(120_000);
        let body = settlement(&run, &dispatched, Some(quote));
        let mut cheaper = body.clone();
        cheaper["quote"]["provider_price_msats"] = json!(1);
        cheaper["amount_msats"] = json!(1);
        let refused = world.http.post(SETTLE, &cheaper).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert_eq!(refused.json()["message"], "quote does not match current provider terms");
        let mut forged = body.clone();
        forged["response"]["runs"][0]["exit_code"] = json!(1);
        forged["response"]["status"] = json!("failed");
        let refused = world.http.post(SETTLE, &forged).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        let settled = post(&world, SETTLE, &body).await;
        assert_eq!(
            (&settled["settlement_status"], &settled["amount_msats"]),
            (&json!("released"), &json!(1500))
        );
        assert_eq!(settled["dispatch_id"], dispatched["dispatch_id"]);
        assert_eq!(spent(&world).await, (0, total));
        assert_eq!(
            receipts(&world, &run).await,
            [
                "QuoteCommitted",
                "PriceIntegrityPassed",
                "BudgetReserved",
                "VerificationPassed",
                "PaymentReleased"
            ]
        );
        let world = world.restart().await;
        assert_eq!(post(&world, SETTLE, &body).await, settled);
        assert_eq!(drift(&world).await, json!([]));
        drop(strangers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cheats_is_caught_by_two_that_do_not() {
    for engine in both_engines() {
        let world = world(engine, 10_000).await;
        let cheat = provider(&world, "cheat", 11, 900).await;
        let honest: [SimulatedProvider; 2] =
            [reserve(&world, "b", 998, 1500).await, reserve(&world, "c", 999, 1600).await];
        for one in &honest {
            one.set(ProviderMood::Runs { exit_code: 101 });
        }
        let run = begin(&world).await;
        let dispatched = post(&world, DISPATCH, &order(11, json!({"run_id": run}))).await;
        assert_eq!(dispatched["selection"]["provider"]["worker_id"], "cheat");
        let settled = post(&world, SETTLE, &settlement(&run, &dispatched, None)).await;
        assert_eq!(
            (&settled["settlement_status"], &settled["verification_passed"]),
            (&json!("withheld"), &json!(false)),
            "{settled}"
        );
        assert_eq!(settled["reexecution"]["outcome"], "refuted");
        assert_eq!(settled["reexecution"]["observers"], json!(["b", "c"]));
        assert_eq!(honest.each_ref().map(SimulatedProvider::counts), [(1, 0), (1, 0)]);
        // Nobody can tell a comparison from work.
        assert_eq!(honest[0].asked(), cheat.asked());
        let entry = marketplace::entry(&world, "cheat").await;
        assert_eq!((&entry["quarantined"], &entry["failure_strikes"]), (&json!(true), &json!(1)));
        assert_eq!((reserved(&world, 11).await, spent(&world).await), (0, (0, 0)));
        assert_eq!(receipts(&world, &run).await, ["BudgetReserved", "VerificationFailed", "PaymentWithheld"]);
        assert_eq!(drift(&world).await, json!([]));
    }
}

/// Everything that a settlement writes to, and something of each kind in it: a provider that is struck and an
/// incident.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_breaks_at_any_step_changes_nothing() {
    let world = world(oa_testkit::Engine::Sqlite, 0).await;
    let _provider = enrol(&world).await;
    let run = begin(&world).await;
    let mut body = example(&run);
    body["response"]["runs"][0]["cmd"] = json!("cheap");
    let before = world.kept();
    let mut broken = 0;
    for table in [
        "ledger_accounts",
        "ledger_transfers",
        "ledger_legs",
        "ledger_entries",
        "compute_earnings",
        "compute_totals",
        "run_events",
        "run_event_keys",
        "run_heads",
        "provider_signals",
        "workers",
        "worker_events",
        "fraud_incidents",
        "outbox",
        "compute_settlements",
    ] {
        world.break_writes_to(Some(table));
        let answered = world.http.post(SETTLE, &body).await;
        assert!(answered.status >= 500, "{table}: {}", answered.text());
        assert_eq!(world.kept(), before, "{table}");
        broken += 1;
    }
    assert_eq!(broken, 15);
    world.break_writes_to(None);
    let settled = post(&world, SETTLE, &body).await;
    assert_eq!(settled["settlement_status"], "withheld");
    assert_eq!(post(&world, SETTLE, &body).await, settled);
    assert_eq!((spent(&world).await, drift(&world).await), ((0, 0), json!([])));
    let run = world.http.get(&format!("/internal/v1/runs/{run}")).await.json();
    assert_eq!(run["run"]["events"].as_array().unwrap().len(), 7, "its beginning, five, and the incident");
}
