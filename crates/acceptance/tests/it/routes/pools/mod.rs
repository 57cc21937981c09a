//! `/internal/v1/pools/*` and `/admin/v1/pools/*`, over real sockets: statuses and bodies of every refusal, and that none
//! of them changes anything. What pools do is told in `apps/runtime/src/pools/tests` and in the scenario.

use oa_testkit::{World, WorldOptions};
use serde_json::{Value, json};

const QUOTE: &str = "openagents.liquidity.pool.deposit_quote_request.v1";
const WITHDRAW: &str = "openagents.liquidity.pool.withdraw_request.v1";

fn create(operator_id: &str, status: &str) -> Value {
    json!({"schema": "openagents.liquidity.pool.create_request.v1", "operator_id": operator_id, "status": status})
}

fn quote() -> Value {
    json!({"schema": QUOTE, "lp_id": "lp:a", "idempotency_key": "k", "rail": "lightning_invoice", "amount_sats": 5})
}

fn withdraw() -> Value {
    json!({"schema": WITHDRAW, "lp_id": "lp:a", "idempotency_key": "k", "shares_burned": 5,
        "rail_preference": "lightning", "payout_invoice_bolt11": "lnbc50n1x"})
}

fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_status_and_body_and_changes_nothing() {
    let world = World::with(WorldOptions {
        runtime: Box::new(|config| {
            config.pools.snapshots_enabled = false;
            config.pools.payout_fee_bps = 0;
        }),
        ..WorldOptions::default()
    })
    .await;
    for (pool, status) in [("p", "active"), ("paused", "paused"), ("disabled", "disabled")] {
        let answered =
            world.http.post(&format!("/internal/v1/pools/{pool}/admin/create"), &create("o", status)).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
    }
    let before = world.kept();
    let invalid = |message: &str| (400, "invalid_request", message.to_owned());
    let conflict = |message: &str| (409, "conflict", message.to_owned());
    let shape = |message: &str| (422, "invalid_request", message.to_owned());
    let missing = || (404, "not_found", String::new());
    let cases = [
        (
            "p/admin/create",
            create("other", "active"),
            conflict("pool_id reused with different pool metadata"),
        ),
        ("p/admin/create", create(" ", "active"), invalid("operator_id is required")),
        (
            "p/admin/create",
            with(create("o", "active"), "schema", json!("x")),
            invalid("schema must be openagents.liquidity.pool.create_request.v1"),
        ),
        ("p/admin/create", with(create("o", "active"), "pool_kind", json!("cep")), shape("")),
        ("p/admin/create", create("o", "open"), shape("")),
        ("none/deposit_quote", quote(), missing()),
        ("paused/deposit_quote", quote(), conflict("pool is not active")),
        ("disabled/deposit_quote", with(quote(), "lp_id", json!("")), conflict("pool is not active")),
        ("p/deposit_quote", with(quote(), "schema", json!("x")), invalid(&format!("schema must be {QUOTE}"))),
        ("p/deposit_quote", with(quote(), "lp_id", json!(" ")), invalid("lp_id is required")),
        (
            "p/deposit_quote",
            with(quote(), "idempotency_key", json!("")),
            invalid("idempotency_key is required"),
        ),
        ("p/deposit_quote", with(quote(), "amount_sats", json!(0)), invalid("amount_sats must be > 0")),
        ("p/deposit_quote", with(quote(), "amount_sats", json!(u64::MAX)), invalid("amount_sats too large")),
        ("p/deposit_quote", with(quote(), "amount_sats", json!(-1)), shape("")),
        ("p/deposit_quote", with(quote(), "rail", json!("cash")), shape("")),
        ("p/deposit_quote", with(quote(), "partition_kind", json!("abc")), shape("")),
        (
            "p/deposit_quote",
            quote(),
            (500, "internal", "dependency unavailable: wallet executor base url missing".into()),
        ),
        ("p/deposits/liqdep_x/confirm", json!({}), missing()),
        ("none/withdraw_request", withdraw(), missing()),
        ("paused/withdraw_request", withdraw(), conflict("pool is not active")),
        (
            "p/withdraw_request",
            with(withdraw(), "schema", json!("x")),
            invalid(&format!("schema must be {WITHDRAW}")),
        ),
        ("p/withdraw_request", with(withdraw(), "lp_id", json!("")), invalid("lp_id is required")),
        (
            "p/withdraw_request",
            with(withdraw(), "idempotency_key", json!(" ")),
            invalid("idempotency_key is required"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "shares_burned", json!(0)),
            invalid("shares_burned must be > 0"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "shares_burned", json!(u64::MAX)),
            invalid("withdraw estimate too large"),
        ),
        ("p/withdraw_request", with(withdraw(), "rail_preference", json!("post")), shape("")),
        (
            "p/withdraw_request",
            with(withdraw(), "payout_invoice_bolt11", Value::Null),
            invalid("payout_invoice_bolt11 is required for lightning withdrawals"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "payout_invoice_bolt11", json!("lnbc1x")),
            invalid("payout_invoice_bolt11 must include an amount"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "payout_invoice_bolt11", json!("lnbc10p1x")),
            invalid("payout_invoice_bolt11 amount must be a whole number of sats"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "payout_invoice_bolt11", json!("lnbc0n1x")),
            invalid("payout_invoice_bolt11 amount must be > 0"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "payout_invoice_bolt11", json!("lnbc60n1x")),
            invalid("payout invoice amount 6 sats does not match withdrawal estimate 5 sats"),
        ),
        (
            "p/withdraw_request",
            with(withdraw(), "rail_preference", json!("onchain")),
            invalid("payout_address is required for onchain withdrawals"),
        ),
    ];
    for (path, body, (status, code, message)) in cases {
        let answered = world.http.post(&format!("/internal/v1/pools/{path}"), &body).await;
        let told = answered.json();
        assert_eq!((answered.status, told["error"].as_str()), (status, Some(code)), "{path} {body}: {told}");
        if !message.is_empty() {
            assert_eq!(told["message"], message.as_str(), "{path} {body}");
        }
    }
    for (path, status) in [
        ("none/status", 404),
        ("none/snapshots/latest", 404),
        ("p/snapshots/latest", 404),
        ("none/snapshots/latest?generate=true", 404),
        ("disabled/snapshots/latest?generate=true", 409),
        ("p/snapshots/latest?generate=true", 500),
        ("p/snapshots/latest?generate=maybe", 400),
        ("p/snapshots/latest?partition_kind=abc", 400),
    ] {
        let answered = world.http.get(&format!("/internal/v1/pools/{path}")).await;
        assert_eq!(answered.status, status, "{path}: {}", answered.text());
    }
    assert_eq!(world.kept(), before, "a refusal has changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_write_opens_no_pool_and_makes_no_snapshot() {
    let world = World::with(WorldOptions {
        runtime: Box::new(|config| config.write_mode = oa_runtime::WriteMode::ReadOnly),
        ..WorldOptions::default()
    })
    .await;
    let answered = world.http.post("/internal/v1/pools/p/admin/create", &create("o", "active")).await;
    assert_eq!((answered.status, &answered.json()["error"]), (503, &json!("write_path_frozen")));
    let answered = world.http.get("/internal/v1/pools/p/snapshots/latest?generate=true").await;
    assert_eq!((answered.status, &answered.json()["error"]), (503, &json!("write_path_frozen")));
    assert_eq!(world.http.get("/internal/v1/pools/p/status").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_open_pools_and_sign_for_them() {
    let world = World::new().await;
    let owner = oa_contract::Owner::User(11);
    let mut asked = 0;
    for row in oa_contract::matrix::rows() {
        let of_pools = row.name.starts_with("pools.") && row.class == oa_contract::Class::Operator;
        if !of_pools {
            continue;
        }
        let path = row.path.replace(":pool_id", "p").replace(":request_id", "sigreq_x");
        let path = path.replace(":withdrawal_id", "liqwd_x");
        let body = (row.method == oa_contract::Method::Post).then(|| json!({}));
        let answered = signed(&world, &owner, row.method.name(), &path, body).await;
        assert_eq!(answered.status, 403, "{path}: {}", answered.text());
        asked += 1;
    }
    assert!(asked >= 9, "only {asked} rows were asked");
    // A stranger's name opens nothing either.
    let proof = signed(&world, &owner, "GET", "/admin/v1/pools/p/proof?lp_id=user:12", None).await;
    assert_eq!(proof.status, 403, "{}", proof.text());
    let cancel = "/admin/v1/pools/p/withdrawals/liqwd_x/cancel";
    assert_eq!(signed(&world, &owner, "POST", cancel, Some(json!({}))).await.status, 404);
}

/// A request with a credential that is bound to one owner.
async fn signed(
    world: &World,
    owner: &oa_contract::Owner,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> oa_testkit::Answered {
    let body = body.map(|body| body.to_string().into_bytes());
    let signature = world.signature(owner, method, path, body.as_deref().unwrap_or_default());
    let mut headers = vec![(oa_contract::credential::SIGNATURE_HEADER, signature.as_str())];
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    world.http.anonymous().send(method, path, &headers, body).await
}
