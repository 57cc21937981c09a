//! `/internal/v1/hydra/fx/*` as the specification's clients use it (credit-fx §9, §11 F1 to F9), over real sockets: the
//! statuses and the bodies word for word. What happens to the money is told in `apps/runtime/src/hydra/fx/tests`.

use oa_runtime::{TrustMode, WriteMode};
use oa_testkit::{Answered, Engine, World, WorldOptions, both_engines};
use serde_json::{Value, json};

const RFQ: &str = "/internal/v1/hydra/fx/rfq";
const QUOTE: &str = "/internal/v1/hydra/fx/quote";
const SELECT: &str = "/internal/v1/hydra/fx/select";
const SETTLE: &str = "/internal/v1/hydra/fx/settle";

async fn believing(engine: Engine) -> World {
    let runtime = |config: &mut oa_runtime::Config| config.trust_mode = TrustMode::Lenient;
    World::with(WorldOptions { engine, runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

fn opening(key: &str) -> Value {
    json!({"schema": "openagents.hydra.fx_rfq_request.v1", "idempotency_key": key, "requester_id": "autopilot:user-1",
        "budget_scope_id": "budget:scope-1", "sell": {"asset": "usd", "amount": 100_000, "unit": "cents"},
        "buy_asset": "btc_ln", "min_buy_amount": 2_000_000, "max_spread_bps": 100, "max_fee_bps": 60,
        "max_latency_ms": 5000, "quote_ttl_seconds": 30, "policy_context": {"policy": "balanced_v1"}})
}

fn quoting(rfq: &Value, id: &str, provider: &str, spread: u32) -> Value {
    json!({"schema": "openagents.hydra.fx_quote_upsert_request.v1", "idempotency_key": id, "quote": {
        "quote_id": id, "rfq_id": rfq["rfq_id"], "provider_id": provider,
        "sell": {"asset": "USD", "amount": 100_000, "unit": "cents"},
        "buy": {"asset": "BTC_LN", "amount": 2_500_000, "unit": "msats"}, "spread_bps": spread, "fee_bps": 20,
        "latency_ms": 1000, "reliability_bps": 9000, "valid_until_unix": rfq["expires_at_unix"],
        "status": "active", "constraints": {}, "quote_sha256": ""}})
}

fn selecting(key: &str, rfq: &Value) -> Value {
    json!({"schema": "openagents.hydra.fx_select_request.v1", "idempotency_key": key, "rfq_id": rfq["rfq_id"],
        "policy": "reputation_first_v0"})
}

/// The reservation is reckoned here once more, as clients do.
fn settling(key: &str, rfq: &Value, quote: &str, context: &Value) -> Value {
    let pair = json!({"rfq_id": rfq["rfq_id"], "quote_id": quote});
    let job = format!("fxjob_{}", &oa_contract::canonical::canonical_hash(&pair)[..24]);
    json!({"schema": "openagents.hydra.fx_settle_request.v1", "idempotency_key": key, "rfq_id": rfq["rfq_id"],
        "quote_id": quote, "reservation_id": format!("rsv_{}", &job[..16]), "policy_context": context})
}

async fn ok(world: &World, path: &str, body: &Value) -> Value {
    let answered = world.http.post(path, body).await;
    assert_eq!(answered.status, 200, "{path}: {}", answered.text());
    answered.json()
}

fn refused(answered: &Answered, status: u16, error: &str, message: &str) {
    assert_eq!(answered.status, status, "{}", answered.text());
    let body = answered.json();
    assert_eq!((body["error"].as_str(), body["message"].as_str()), (Some(error), Some(message)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_exchanges_go_their_way_and_are_counted() {
    for engine in both_engines() {
        let world = believing(engine).await;
        for (name, provider, spread, allowed) in
            [("one", "provider-a", 40, true), ("two", "provider-b", 60, false)]
        {
            let opened = ok(&world, RFQ, &opening(name)).await;
            let rfq = &opened["rfq"];
            let path = format!("{RFQ}/{}", rfq["rfq_id"].as_str().unwrap());
            assert_eq!(world.http.get(&path).await.json()["rfq"]["sell"]["asset"], "USD");
            let none = world.http.post(SELECT, &selecting(name, rfq)).await;
            refused(&none, 409, "conflict", "no eligible FX quotes available for selection");
            ok(&world, QUOTE, &quoting(rfq, name, provider, spread)).await;
            let selected = ok(&world, SELECT, &selecting(name, rfq)).await;
            assert_eq!(ok(&world, SELECT, &selecting(name, rfq)).await, selected);
            assert!(selected["selected"]["constraints"]["selection"]["weighted_score"].is_u64());
            let context = json!({"release_allowed": allowed});
            let settled = ok(&world, SETTLE, &settling(name, rfq, name, &context)).await;
            assert_eq!(settled["status"], if allowed { "released" } else { "withheld" });
            assert_eq!(settled["receipt"]["wallet_receipt"], Value::Null);
            assert_eq!(settled["receipt"]["canonical_json_sha256"].as_str().map(str::len), Some(64));
            let again = ok(&world, SETTLE, &settling(&format!("{name} again"), rfq, name, &context)).await;
            assert_eq!(again, settled);
        }
        let told = world.http.get("/internal/v1/hydra/observability").await.json()["fx"].clone();
        let counted = |name: &str| told[name].as_u64();
        assert_eq!((counted("rfq_total"), counted("quote_total")), (Some(2), Some(2)));
        assert_eq!((counted("settlement_total"), counted("settlement_withheld_total")), (Some(2), Some(1)));
        assert_eq!(counted("treasury_provider_breadth"), Some(2));
        assert_eq!(told["spread_bps_avg"].as_f64(), Some(50.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_so_in_the_words_of_the_specification() {
    let world = believing(Engine::Sqlite).await;
    let mut other = opening("other");
    other["buy_asset"] = json!("eur");
    refused(&world.http.post(RFQ, &other).await, 403, "forbidden", "asset pair not allowed: USD->EUR");
    let opened = ok(&world, RFQ, &opening("k")).await;
    let rfq = &opened["rfq"];
    let mut changed = opening("k");
    changed["max_fee_bps"] = json!(59);
    let said = "idempotency key replay with different request payload";
    refused(&world.http.post(RFQ, &changed).await, 409, "conflict", said);
    let mut dear = quoting(rfq, "q", "provider-a", 101);
    let said = "quote.spread_bps exceeds policy or RFQ bounds";
    refused(&world.http.post(QUOTE, &dear).await, 403, "forbidden", said);
    dear["quote"]["status"] = json!("sold");
    assert_eq!(world.http.post(QUOTE, &dear).await.status, 422);
    ok(&world, QUOTE, &quoting(rfq, "q", "provider-a", 40)).await;
    ok(&world, SELECT, &selecting("s", rfq)).await;
    let mut wrong = settling("t", rfq, "q", &json!({}));
    let expected = wrong["reservation_id"].as_str().unwrap().to_owned();
    wrong["reservation_id"] = json!("rsv_wrong");
    let said = format!("reservation_id conflict: expected {expected}");
    refused(&world.http.post(SETTLE, &wrong).await, 409, "conflict", &said);
    assert_eq!(world.http.get(&format!("{RFQ}/none")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_exchanges_nothing() {
    let runtime = |config: &mut oa_runtime::Config| config.write_mode = WriteMode::ReadOnly;
    let world = World::with(WorldOptions { runtime: Box::new(runtime), ..WorldOptions::default() }).await;
    let rfq = json!({"rfq_id": "fxrfq_x", "expires_at_unix": 1});
    for (path, body) in [
        (RFQ, opening("k")),
        (QUOTE, quoting(&rfq, "q", "p", 1)),
        (SELECT, selecting("s", &rfq)),
        (SETTLE, settling("t", &rfq, "q", &json!({}))),
    ] {
        let said = "runtime authority writes are disabled in mode read_only";
        refused(&world.http.post(path, &body).await, 503, "write_path_frozen", said);
    }
    assert_eq!(world.http.get(&format!("{RFQ}/none")).await.status, 404);
    let held = "/admin/v1/fx/accounts?holder_id=a&asset=USD&unit=cents";
    assert_eq!(world.http.get(held).await.json()["remaining_units"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_rates_are_told_by_operators() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let limit = json!({"holder_id": "provider-a", "asset": "btc_ln", "unit": "msats", "limit_units": 5});
        let told = ok(&world, "/admin/v1/fx/accounts", &limit).await;
        assert_eq!((told["remaining_units"].as_u64(), told["asset"].as_str()), (Some(5), Some("BTC_LN")));
        let rate = |source: &str, msats: u64| {
            json!({"source": source, "sell": {"asset": "USD", "amount": 100, "unit": "cents"},
                "buy": {"asset": "BTC_LN", "amount": msats, "unit": "msats"}})
        };
        for (source, msats) in [("desk", 2_600), ("desk", 2_700), ("exchange", 2_500)] {
            ok(&world, "/admin/v1/fx/rates", &rate(source, msats)).await;
        }
        let path = "/admin/v1/fx/rates?sell_asset=usd&buy_asset=btc_ln";
        let listed = world.http.get(path).await.json();
        let said: Vec<_> =
            listed["rates"].as_array().unwrap().iter().map(|one| &one["buy"]["amount"]).collect();
        assert_eq!(said, [2_700, 2_500]);
        let mut wrong = rate("x", 1);
        wrong["buy"]["unit"] = json!("sats");
        let said = "buy.unit must be msats for BTC_LN";
        refused(&world.http.post("/admin/v1/fx/rates", &wrong).await, 400, "invalid_request", said);
        let opened = ok(&world, RFQ, &opening("k")).await;
        let quoted = ok(&world, QUOTE, &quoting(&opened["rfq"], "q", "provider-a", 40)).await;
        assert_eq!(quoted["rate"]["reference"]["source"], "median of desk, exchange");
    }
}
