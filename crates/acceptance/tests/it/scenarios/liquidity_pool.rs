//! A liquidity pool from its first deposit to the last payout, step by step as the specification tells it (liquidity
//! §15.1), over real sockets and with the SIMULATED executor of that scenario.

use std::time::Duration;

use oa_contract::{
    canonical::{sha256_hex, unhex},
    pool_proof,
    receipt::ReceiptSignature,
    signer::Signer,
};
use oa_testkit::{
    Engine, World, WorldOptions, both_engines,
    simulated::{VIGNETTE_TOKEN, VignetteExecutor, vignette_invoice},
};
use serde_json::{Value, json};

const POOL: &str = "pool_vignette_llp";
/// The public half of the scenario's key, which signs receipts and approves payouts.
const PUBLIC_KEY: &str = "08679d1300a172367f984c5bfb215bba05fca60f55b5e245e90f5676ea1a908c";

fn secret() -> String {
    sha256_hex("openagents:vignette:vignette-liquidity-pool-mvp0")
}

async fn world(engine: Engine, executor: &VignetteExecutor) -> World {
    let url = executor.url();
    let runtime = move |config: &mut oa_runtime::Config| {
        config.trust_mode = oa_runtime::TrustMode::Lenient;
        config.liquidity.executor_base_url = Some(url.clone());
        config.liquidity.executor_token =
            Some(oa_runtime::liquidity::settings::Hidden(VIGNETTE_TOKEN.to_owned()));
        config.pools.withdraw_delay_hours = 0;
        config.pools.snapshot_pools = vec![POOL.to_owned()];
        config.pools.snapshot_interval_seconds = 1;
        config.pools.snapshot_jitter_seconds = 0;
        config.pools.snapshot_retention = 8;
    };
    let receipt_key = Some(secret());
    World::with(WorldOptions { engine, runtime: Box::new(runtime), receipt_key, ..WorldOptions::default() })
        .await
}

async fn post(world: &World, path: &str, body: &Value) -> Value {
    let answered = world.http.post(path, body).await;
    assert_eq!(answered.status, 200, "{path}: {}", answered.text());
    answered.json()
}

fn said<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    assert!(!text.is_empty(), "{pointer} of {value}");
    text
}

/// A receipt's signature is over its digest, and good.
fn verified(value: &Value, receipt: &str) {
    let at = |member: &str| said(value, &format!("{receipt}/{member}"));
    assert_eq!(at("signature/signed_sha256"), at("canonical_json_sha256"));
    assert_eq!(at("signature/signer_pubkey"), PUBLIC_KEY);
    let good = oa_contract::signer::verify(
        at("signature/signer_pubkey"),
        at("signature/signed_sha256"),
        at("signature/signature_hex"),
    );
    assert!(good, "{value}");
}

/// Asks until the withdrawal is paid; 25 times, as the scenario allows.
async fn until_paid(world: &World, request: &Value) -> Value {
    for _ in 0..25 {
        post(world, "/admin/v1/pools/withdrawals/execute_due", &json!({})).await;
        let reply = post(world, &format!("/internal/v1/pools/{POOL}/withdraw_request"), request).await;
        if reply["withdrawal"]["status"] == "paid" {
            return reply;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the withdrawal was not paid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_takes_a_deposit_and_pays_it_back() {
    for engine in both_engines() {
        let executor = VignetteExecutor::start().await;
        let world = world(engine, &executor).await;
        let pool = format!("/internal/v1/pools/{POOL}");
        let admin = format!("/admin/v1/pools/{POOL}");
        // 1
        let status = world.http.get("/internal/v1/liquidity/status").await.json();
        assert_eq!(status["wallet_executor_reachable"], true);
        // 2
        let create = json!({"schema": "openagents.liquidity.pool.create_request.v1",
            "operator_id": "operator:vignette", "pool_kind": "llp", "status": "active",
            "config": {"schema": "openagents.liquidity.pool_config.v1", "note": "first pool"}});
        let created = post(&world, &format!("{pool}/admin/create"), &create).await;
        assert_eq!(created["pool"]["config"]["note"], "first pool");
        assert_eq!(post(&world, &format!("{pool}/admin/create"), &create).await, created);
        // 3
        let mut taken = false;
        for _ in 0..120 {
            taken = world.http.get(&format!("{pool}/snapshots/latest")).await.status == 200;
            if taken {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(taken, "no snapshot within six seconds");
        // 4
        let quote = json!({"schema": "openagents.liquidity.pool.deposit_quote_request.v1", "lp_id": "lp:vignette",
            "idempotency_key": "idem:deposit-1", "rail": "lightning_invoice", "amount_sats": 2500,
            "description": "vignette deposit", "expiry_secs": 900});
        let quoted = post(&world, &format!("{pool}/deposit_quote"), &quote).await;
        assert_eq!(quoted["deposit"]["invoice_bolt11"], "lnbc25000n1vignette");
        assert_eq!(
            quoted["deposit"]["invoice_hash"],
            "30a4d653ea17fb817efe489fe90787060e9819650afbe927a5a07f0a0c3f6dfe"
        );
        assert_eq!(quoted["deposit"]["shares_minted"], 2500);
        assert_eq!(post(&world, &format!("{pool}/deposit_quote"), &quote).await, quoted);
        // 5
        let id = said(&quoted, "/deposit/deposit_id");
        let confirmed = post(&world, &format!("{pool}/deposits/{id}/confirm"), &json!({})).await;
        assert_eq!(
            (&confirmed["shares_minted"], &confirmed["deposit"]["status"]),
            (&json!(true), &json!("confirmed"))
        );
        // 6, 7, 8
        let wanted = |invoice: String| {
            json!({"schema": "openagents.liquidity.quote_pay_request.v1", "idempotency_key": "pay-1", "invoice": invoice,
                "host": "sats4ai.com", "max_amount_msats": 2_000_000, "max_fee_msats": 10_000})
        };
        let first = wanted(vignette_invoice(1_500_000));
        let priced = post(&world, "/internal/v1/liquidity/quote_pay", &first).await;
        assert_eq!(priced["idempotency_key"], "pay-1");
        assert_eq!(
            post(&world, "/internal/v1/liquidity/quote_pay", &first).await["quote_id"],
            priced["quote_id"]
        );
        let other = wanted(vignette_invoice(1_600_000));
        assert_eq!(world.http.post("/internal/v1/liquidity/quote_pay", &other).await.status, 409);
        let pay = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": priced["quote_id"]});
        let paid = post(&world, "/internal/v1/liquidity/pay", &pay).await;
        assert_eq!(paid["status"], "succeeded");
        said(&paid, "/receipt/receipt_id");
        verified(&paid, "/receipt");
        assert_eq!(post(&world, "/internal/v1/liquidity/pay", &pay).await["receipt"], paid["receipt"]);
        // 9
        let made = world.http.get(&format!("{pool}/snapshots/latest?generate=true")).await.json();
        verified(&made, "/receipt");
        assert_eq!(made["snapshot"]["assets_json"]["walletBalanceSats"], 250_000);
        assert_eq!(made["snapshot"]["liabilities_json"]["sharesOutstanding"], 2500);
        let proof = world.http.get(&format!("{admin}/proof?lp_id=lp:vignette")).await;
        let proved = pool_proof::verify(proof.text().as_bytes(), Some(PUBLIC_KEY)).expect("a proof");
        assert_eq!((proved.shares, proved.total_shares), (2500, 2500));
        // 10
        let request = json!({"schema": "openagents.liquidity.pool.withdraw_request.v1", "lp_id": "lp:vignette",
            "idempotency_key": "idem:withdraw-ln-1", "shares_burned": 1000, "rail_preference": "lightning",
            "payout_invoice_bolt11": vignette_invoice(1_000_000)});
        let asked = post(&world, &format!("{pool}/withdraw_request"), &request).await;
        said(&asked, "/withdrawal/withdrawal_id");
        verified(&asked, "/receipt");
        // 11
        let settled = until_paid(&world, &request).await;
        said(&settled, "/withdrawal/wallet_receipt_sha256");
        assert_eq!(settled["receipt"], asked["receipt"]);
        // 12
        let key = Signer::from_secret(&secret()).unwrap();
        assert_eq!(key.public_key_hex(), PUBLIC_KEY);
        let signers = json!({"schema": "openagents.liquidity.pool_signer_set_upsert_request.v1", "threshold": 1,
            "signers": [{"pubkey": key.public_key_hex(), "label": "ops-1"}]});
        post(&world, &format!("{admin}/signer_set"), &signers).await;
        // 13
        let request = json!({"schema": "openagents.liquidity.pool.withdraw_request.v1", "lp_id": "lp:vignette",
            "idempotency_key": "idem:withdraw-chain-1", "shares_burned": 500, "rail_preference": "onchain",
            "payout_address": "bc1qvignette000000000000000000000000000000"});
        let asked = post(&world, &format!("{pool}/withdraw_request"), &request).await;
        post(&world, "/admin/v1/pools/withdrawals/execute_due", &json!({"limit": 50})).await;
        let listed =
            world.http.get(&format!("{admin}/signing_requests?status=pending&limit=50")).await.json();
        let waiting = listed["requests"].as_array().unwrap().iter().find(|one| {
            one["action_class"] == "onchain_withdrawal_batch"
                && one["payload_json"]["withdrawal_id"] == asked["withdrawal"]["withdrawal_id"]
        });
        let waiting = waiting.unwrap_or_else(|| panic!("no request in {listed}"));
        // 14
        let digest: [u8; 32] = unhex(said(waiting, "/payload_sha256")).unwrap();
        let one = format!("{admin}/signing_requests/{}", said(waiting, "/request_id"));
        let approval = json!({"schema": "openagents.liquidity.pool_signing_approval_submit_request.v1",
            "signature": ReceiptSignature::new(&key, &digest)});
        let approved = post(&world, &format!("{one}/approve"), &approval).await;
        assert_eq!(approved["approvals"].as_array().unwrap().len(), 1);
        let executed = post(&world, &format!("{one}/execute"), &json!({})).await;
        verified(&executed, "/receipt");
        assert_eq!(executed["request"]["status"], "executed");
        // 15
        let settled = post(&world, &format!("{pool}/withdraw_request"), &request).await;
        assert_eq!(settled["withdrawal"]["status"], "paid");
        said(&settled, "/withdrawal/wallet_receipt_sha256");
        assert_eq!(executor.paid(), 3);
        // And what it all came to: 2500 came in; 1000, 500 and a fee of 40 went out.
        let status = world.http.get(&format!("{pool}/status")).await.json();
        assert_eq!(
            (&status["total_shares"], &status["partitions"][0]["assets_sats_estimate"]),
            (&json!(1000), &json!(960))
        );
        let world = world.restart().await;
        let again = post(&world, &format!("{pool}/withdraw_request"), &request).await;
        assert_eq!(again, settled, "answered for ever");
        assert_eq!(executor.paid(), 3);
    }
}
