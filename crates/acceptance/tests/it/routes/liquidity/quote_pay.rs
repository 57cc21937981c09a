//! `POST /internal/v1/liquidity/quote_pay`, every case of the table (liquidity §4.1).

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::{Value, json};

use super::{QUOTE, executor, paying, quote};

async fn lenient(engine: oa_testkit::Engine) -> World {
    let runtime = |config: &mut oa_runtime::Config| config.trust_mode = oa_runtime::TrustMode::Lenient;
    World::with(WorldOptions { engine, runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_has_the_specified_members_and_stays_the_same() {
    for engine in both_engines() {
        let world = lenient(engine).await;
        let body = quote("run-77:pay-3", "lnbc420n1test");
        let first = world.http.post(QUOTE, &body).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let told = first.json();
        assert_eq!(told["schema"], "openagents.liquidity.quote_pay_response.v1");
        assert_eq!(told["invoice_hash"], "3faa6c5786a2d961801486625507630d05d5a0f2555d2d84bc1a6a2c7b2bd9b7");
        assert_eq!(
            told["policy_context_sha256"],
            "50ea5d3a292b32eeac6f1dc1e210b81643d9b0e50685deb41fea41cc70385b41"
        );
        assert_eq!(
            (told["host"].as_str(), told["quoted_amount_msats"].as_u64()),
            (Some("sats4ai.com"), Some(42_000))
        );
        let members = told.as_object().unwrap().len();
        assert_eq!(members, 11, "{told}");
        world.clock.advance_millis(600_000);
        assert_eq!(world.http.post(QUOTE, &body).await.bytes, first.bytes);
        let other = quote("run-77:pay-3", "lnbc430n1test");
        let refused = world.http.post(QUOTE, &other).await;
        assert_eq!(refused.status, 409);
        assert_eq!(refused.json()["error"], "conflict");
        assert_eq!(refused.json()["message"], "idempotency_key reused with different quote parameters");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_the_specified_words_and_statuses() {
    let world = lenient(oa_testkit::Engine::Sqlite).await;
    let with = |name: &str, value: Value| {
        let mut body = quote("k", "lnbc420n1test");
        body[name] = value;
        body
    };
    for (body, status, message) in [
        (with("schema", json!("x")), 400, "schema must be openagents.liquidity.quote_pay_request.v1"),
        (with("idempotency_key", json!(" ")), 400, "idempotency_key is required"),
        (with("invoice", json!("")), 400, "invoice is required"),
        (with("host", json!(" ")), 400, "host is required"),
        (
            with("invoice", json!("lnbc1amountless")),
            400,
            "invoice must include an amount (amountless invoices not supported)",
        ),
        (
            with("max_amount_msats", json!(41_999)),
            400,
            "max_amount_msats 41999 is below invoice amount 42000",
        ),
    ] {
        let refused = world.http.post(QUOTE, &body).await;
        assert_eq!((refused.status, refused.json()["message"].as_str()), (status, Some(message)));
        assert_eq!(refused.json()["error"], "invalid_request");
    }
    for body in
        [with("max_fee_msats", json!(-1)), with("max_fee_msats", json!("1")), with("invoice", json!(7))]
    {
        assert_eq!(world.http.post(QUOTE, &body).await.status, 422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strictly_an_invoice_is_read_whole() {
    let executor = executor().await;
    let world = paying(oa_testkit::Engine::Sqlite, &executor).await;
    let invoice = executor.lightning.invoice(42_000, world.now());
    assert_eq!(world.http.post(QUOTE, &quote("a", &invoice)).await.status, 200);
    let refused = world.http.post(QUOTE, &quote("b", "lnbc420n1test")).await;
    assert_eq!(refused.status, 400);
    let old = executor.lightning.invoice(42_000, world.now().plus_seconds(-400 * 86_400));
    let refused = world.http.post(QUOTE, &quote("c", &old)).await;
    assert_eq!((refused.status, refused.json()["message"].as_str()), (400, Some("invoice has expired")));
}
