//! A treasury router pays an invoice by the direct route (liquidity §15.2), as its client does: a quote under its own
//! key, the payment with run and trajectory, and the same again.

use oa_testkit::{World, both_engines};
use serde_json::{Value, json};

use crate::routes::liquidity::{PAY, QUOTE, STATUS, executor, paying};

async fn post(world: &World, path: &str, body: &Value) -> Value {
    let answered = world.http.post(path, body).await;
    assert_eq!(answered.status, 200, "{path}: {}", answered.text());
    answered.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_direct_route_pays_once_and_proves_it() {
    for engine in both_engines() {
        let executor = executor().await;
        let world = paying(engine, &executor).await;
        assert_eq!(world.http.get(STATUS).await.json()["wallet_executor_reachable"], true);
        let (amount, fee_cap) = (42_000_000_u64, 7_500_u64);
        let invoice = executor.lightning.invoice(amount, world.now());
        let wanted = json!({"schema": "openagents.liquidity.quote_pay_request.v1",
            "idempotency_key": "neobank:liq:pay-1", "invoice": invoice, "host": "sats4ai.com",
            "max_amount_msats": amount + fee_cap, "max_fee_msats": fee_cap});
        let quote = post(&world, QUOTE, &wanted).await;
        assert_eq!(post(&world, QUOTE, &wanted).await, quote);
        let order = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote["quote_id"],
            "run_id": "run-1", "trajectory_hash": "sha256:trajectory"});
        let paid = post(&world, PAY, &order).await;
        assert_eq!(paid["status"], "succeeded");
        let receipt = &paid["receipt"];
        assert_eq!(receipt["run_id"], "run-1");
        assert_eq!(receipt["max_amount_forwarded_msats"], amount + fee_cap);
        assert!(!receipt["canonical_json_sha256"].as_str().unwrap().is_empty());
        assert_eq!(post(&world, PAY, &order).await["receipt"], *receipt);
        assert_eq!(executor.lightning.payments(), 1);
    }
}
