//! `/internal/v1/liquidity/*`, over real sockets and with a SIMULATED wallet executor.

mod lnd;
mod pay;
mod quote_pay;
mod status;

use oa_testkit::{
    Engine, World, WorldOptions,
    simulated::{EXECUTOR_TOKEN, SimulatedLightning, SimulatedWalletExecutor},
};
use serde_json::{Value, json};

pub const QUOTE: &str = "/internal/v1/liquidity/quote_pay";
pub const PAY: &str = "/internal/v1/liquidity/pay";
pub const STATUS: &str = "/internal/v1/liquidity/status";

/// A world whose runtime pays through this executor.
pub async fn paying(engine: Engine, executor: &SimulatedWalletExecutor) -> World {
    let url = executor.url();
    let runtime = move |config: &mut oa_runtime::Config| {
        config.liquidity.executor_base_url = Some(url.clone());
        config.liquidity.executor_token =
            Some(oa_runtime::liquidity::settings::Hidden(EXECUTOR_TOKEN.to_owned()));
        config.liquidity.executor_timeout = std::time::Duration::from_millis(400);
    };
    World::with(WorldOptions { engine, runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

pub async fn executor() -> SimulatedWalletExecutor {
    SimulatedWalletExecutor::start(SimulatedLightning::default()).await
}

pub fn quote(key: &str, invoice: &str) -> Value {
    json!({"schema": "openagents.liquidity.quote_pay_request.v1", "idempotency_key": key, "invoice": invoice,
        "host": "Sats4AI.com", "max_amount_msats": 100_000, "max_fee_msats": 10_000,
        "policy_context": {"purpose": "test"}, "owner_user_id": 11})
}

pub fn pay(quote_id: &str) -> Value {
    json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote_id})
}

/// The id of a new quote for an invoice of 42 sats.
pub async fn quoted(world: &World, executor: &SimulatedWalletExecutor, key: &str) -> String {
    let invoice = executor.lightning.invoice(42_000, world.now());
    let answered = world.http.post(QUOTE, &quote(key, &invoice)).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["quote_id"].as_str().unwrap().to_owned()
}
