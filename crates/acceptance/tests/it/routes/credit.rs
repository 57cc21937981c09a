//! `/internal/v1/credit/*` as the specification's clients use it (credit-fx §4, §11), over real sockets and with a
//! SIMULATED wallet executor. What happens to the money is told in `apps/runtime/src/credit/tests`.

use oa_runtime::{TrustMode, WriteMode, liquidity::settings::Hidden};
use oa_testkit::{
    Answered, Engine, World, WorldOptions, both_engines,
    simulated::{EXECUTOR_TOKEN, ExecutorMood as Mood, SimulatedWalletExecutor},
};
use serde_json::{Value, json};

use super::liquidity::executor;

const INTENT: &str = "/internal/v1/credit/intent";
const OFFER: &str = "/internal/v1/credit/offer";
const ENVELOPE: &str = "/internal/v1/credit/envelope";
const SETTLE: &str = "/internal/v1/credit/settle";

/// Callers are believed; with an executor, it pays.
async fn believing(engine: Engine, executor: Option<&SimulatedWalletExecutor>) -> World {
    let url = executor.map(SimulatedWalletExecutor::url);
    let runtime = move |config: &mut oa_runtime::Config| {
        config.trust_mode = TrustMode::Lenient;
        config.liquidity.executor_base_url = url.clone();
        config.liquidity.executor_token = Some(Hidden(EXECUTOR_TOKEN.to_owned()));
    };
    World::with(WorldOptions { engine, runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

fn offering(max_sats: u64) -> Value {
    json!({"schema": "openagents.credit.offer_request.v1", "agent_id": "a".repeat(64), "pool_id": "b".repeat(64),
        "scope_type": "nip90", "scope_id": "oa.sandbox_run.v1:job-7", "max_sats": max_sats, "fee_bps": 100,
        "requires_verifier": true, "exp": "2026-02-25T12:30:00+02:00"})
}

fn settling(envelope: &Value, invoice: &str, passed: bool) -> Value {
    json!({"schema": "openagents.credit.settle_request.v1", "envelope_id": envelope["envelope_id"],
        "verification_passed": passed, "verification_receipt_sha256": "sha256:verified",
        "provider_invoice": invoice, "provider_host": "provider.example", "max_fee_msats": 10_000,
        "policy_context": {"job_hash": "job-7"}})
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

async fn enveloped(world: &World) -> Value {
    let offered = ok(world, OFFER, &offering(1_500)).await;
    let body = json!({"schema": "openagents.credit.envelope_request.v1",
        "offer_id": offered["offer"]["offer_id"], "provider_id": "c".repeat(64)});
    ok(world, ENVELOPE, &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_becomes_an_envelope_and_a_payment_with_signed_receipts() {
    for engine in both_engines() {
        let executor = executor().await;
        let world = believing(engine, Some(&executor)).await;
        let issued = enveloped(&world).await;
        let envelope = &issued["envelope"];
        assert_eq!(
            (envelope["exp"].as_str(), &issued["receipt"]["max_sats"]),
            (Some("2026-02-25T10:30:00Z"), &json!(1500))
        );
        let key = "5be5e9478209674a96e60f1f037f6176540fd001fa1d64694770c56a7709c42c";
        assert_eq!(issued["receipt"]["signature"]["signer_pubkey"], key);
        assert_eq!(enveloped(&world).await, issued);
        let invoice = executor.lightning.invoice(42_000, world.now());
        let settled = ok(&world, SETTLE, &settling(envelope, &invoice, true)).await;
        assert_eq!(
            (settled["outcome"].as_str(), settled["spent_sats"].as_u64()),
            (Some("success"), Some(42))
        );
        let receipt = &settled["receipt"];
        assert_eq!(receipt["signature"]["signed_sha256"], receipt["canonical_json_sha256"]);
        assert_eq!(receipt["label_event"]["id"], receipt["label_event_id"]);
        assert_eq!(ok(&world, SETTLE, &settling(envelope, &invoice, true)).await, settled);
        let offer = envelope["offer_id"].as_str().unwrap();
        let told = world.http.get(&format!("/admin/v1/credit/offers/{offer}")).await.json();
        assert_eq!(told["replay_matches"], true, "{told}");
        let loan = format!("/admin/v1/credit/loans/{}", settled["settlement_id"].as_str().unwrap());
        let owed = world.http.get(&loan).await.json()["loan"]["owed_msats"].clone();
        assert_eq!(owed, settled["owed_msats"]);
        let body =
            json!({"settlement_id": settled["settlement_id"], "owner_user_id": 11, "idempotency_key": "k"});
        let repaid = ok(&world, "/admin/v1/credit/repay", &body).await;
        assert_eq!(repaid["loan"]["status"], "repaid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wallet_a_settlement_fails_and_the_envelope_stays_open() {
    let world = believing(Engine::Sqlite, None).await;
    let issued = enveloped(&world).await;
    let answered = world.http.post(SETTLE, &settling(&issued["envelope"], "lnbc420n1test", true)).await;
    let said = "liquidity pay failed: failed Some(\"wallet_executor_not_configured\")";
    refused(&answered, 502, "dependency_unavailable", said);
    let health = world.http.get("/internal/v1/credit/health").await.json();
    assert_eq!(
        (health["open_envelope_count"].as_u64(), health["ln_fail_count"].as_u64()),
        (Some(1), Some(1))
    );
    let exposure = format!("/internal/v1/credit/agents/{}/exposure", "A".repeat(64));
    assert_eq!(world.http.get(&exposure).await.json()["open_exposure_sats"], 1500);
    let closed = ok(&world, SETTLE, &settling(&issued["envelope"], "", false)).await;
    assert_eq!(
        (closed["outcome"].as_str(), &closed["liquidity_receipt_sha256"]),
        (Some("failed"), &Value::Null)
    );
    let mut wrong = offering(1);
    wrong["scope_type"] = json!("nip91");
    assert_eq!(world.http.post(OFFER, &wrong).await.status, 422);
    wrong["scope_type"] = json!("nip90");
    wrong["exp"] = json!("2026-02-25T10:30:00");
    assert_eq!(world.http.post(OFFER, &wrong).await.status, 422);
    let said = "max_sats exceeds max_sats_per_envelope (100000)";
    refused(&world.http.post(OFFER, &offering(100_001)).await, 400, "invalid_request", said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_down_or_refuses_has_not_paid_and_one_that_breaks_nobody_knows() {
    for engine in both_engines() {
        let executor = executor().await;
        let world = believing(engine, Some(&executor)).await;
        let issued = enveloped(&world).await;
        let invoice = executor.lightning.invoice(50_000, world.now());
        let body = settling(&issued["envelope"], &invoice, true);
        executor.down();
        let said = "liquidity pay failed: failed Some(\"wallet_executor_transport_error\")";
        refused(&world.http.post(SETTLE, &body).await, 502, "dependency_unavailable", said);
        executor.up().await;
        executor.become_(Mood::Refuses(500, "wallet_fail"));
        let said = "liquidity pay failed: failed Some(\"wallet_fail\")";
        refused(&world.http.post(SETTLE, &body).await, 502, "dependency_unavailable", said);
        let health = world.http.get("/internal/v1/credit/health").await.json();
        assert_eq!(
            (health["open_envelope_count"].as_u64(), health["ln_fail_count"].as_u64()),
            (Some(1), Some(2))
        );
        executor.become_(Mood::Good);
        let settled = ok(&world, SETTLE, &body).await;
        assert_eq!((settled["outcome"].as_str(), executor.lightning.payments()), (Some("success"), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_lends_nothing() {
    let runtime = |config: &mut oa_runtime::Config| config.write_mode = WriteMode::ReadOnly;
    let world = World::with(WorldOptions { runtime: Box::new(runtime), ..WorldOptions::default() }).await;
    let intent = json!({"schema": "openagents.credit.intent_request.v1", "idempotency_key": "k",
        "agent_id": "a".repeat(64), "scope_type": "nip90", "scope_id": "s", "max_sats": 1,
        "exp": "2026-02-25T10:30:00Z"});
    let envelope = json!({"schema": "openagents.credit.envelope_request.v1", "offer_id": "o",
        "provider_id": "c".repeat(64)});
    let settle = settling(&json!({"envelope_id": "e"}), "", false);
    for (path, body) in [(INTENT, intent), (OFFER, offering(1)), (ENVELOPE, envelope), (SETTLE, settle)] {
        let said = "runtime authority writes are disabled in mode read_only";
        refused(&world.http.post(path, &body).await, 503, "write_path_frozen", said);
    }
    let exposure = format!("/internal/v1/credit/agents/{}/exposure", "a".repeat(64));
    for path in [
        "/internal/v1/credit/health",
        &exposure,
        "/internal/v1/hydra/observability",
        "/internal/v1/hydra/risk/health",
    ] {
        assert_eq!(world.http.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_operator_says_whom_it_lends_to() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let pool = "b".repeat(64);
        let lending = format!("/admin/v1/pools/{pool}/lending");
        let said = json!({"borrowers": [{"owner_user_id": 11, "max_sats": 500}], "together_sats": 900});
        assert_eq!(world.http.post(&lending, &said).await.status, 404, "no such pool");
        assert_eq!(world.http.get(&lending).await.status, 404);
        let create = json!({"schema": "openagents.liquidity.pool.create_request.v1", "operator_id": "user:7",
            "config": {}});
        ok(&world, &format!("/internal/v1/pools/{pool}/admin/create"), &create).await;
        let told = world.http.get(&lending).await.json();
        assert_eq!(
            told,
            json!({"schema": "openagents.credit.pool_lending.v1", "lending": {
            "pool_id": pool, "held_sats": 0, "owed_msats": 0}})
        );
        let told = ok(&world, &lending, &said).await["lending"].clone();
        assert_eq!((&told["borrowers"], &told["together_sats"]), (&said["borrowers"], &json!(900)));
        assert_eq!(world.http.get(&lending).await.json()["lending"], told);
        let wrong = json!({"borrowers": [{"max_sats": 500}], "together_sats": 900});
        let why = "borrowers[0]: owner_user_id, owner_guest_scope or agent_id is required";
        refused(&world.http.post(&lending, &wrong).await, 400, "invalid_request", why);
        // Whoever is not named borrows nothing.
        let offered = ok(&world, OFFER, &offering(100)).await;
        let body = json!({"schema": "openagents.credit.envelope_request.v1",
            "offer_id": offered["offer"]["offer_id"], "provider_id": "c".repeat(64)});
        let answered = world.http.post(ENVELOPE, &body).await;
        assert_eq!(
            (answered.status, &answered.json()["error"]),
            (403, &json!("forbidden")),
            "{}",
            answered.text()
        );
    }
}
