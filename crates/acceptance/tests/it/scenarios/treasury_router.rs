//! A treasury router pays two invoices, one by each of its routes (liquidity §15.2), as its client does: by a quote of its
//! own, and through an envelope of credit. The SIMULATED executor of that scenario serves `/healthz` and `/pay-bolt11`
//! only, nothing is signed, and callers are believed.

use oa_contract::{Timestamp, canonical::canonical_hash};
use oa_testkit::{
    Engine, World, WorldOptions, both_engines,
    simulated::{VIGNETTE_TOKEN, VignetteExecutor, vignette_invoice},
};
use serde_json::{Value, json};

use crate::routes::liquidity::{PAY, QUOTE, STATUS};

/// What the client lets itself spend.
const CEILING_MSATS: u64 = 500_000_000;
const AGENT: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const POOL: &str = "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2";
const PROVIDER: &str = "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3";

async fn world(engine: Engine, executor: &VignetteExecutor) -> World {
    let url = executor.url();
    let runtime = move |config: &mut oa_runtime::Config| {
        config.trust_mode = oa_runtime::TrustMode::Lenient;
        config.liquidity.executor_base_url = Some(url.clone());
        config.liquidity.executor_token =
            Some(oa_runtime::liquidity::settings::Hidden(VIGNETTE_TOKEN.to_owned()));
    };
    let runtime = Box::new(runtime);
    World::with(WorldOptions { engine, runtime, receipt_key: None, ..WorldOptions::default() }).await
}

fn said<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    assert!(!text.is_empty(), "{pointer} of {value}");
    text
}

/// What the client keeps of a payment that it attempted.
#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    route_kind: &'static str,
    status: String,
    /// What it names in the runtime's answers.
    evidence: Value,
    receipt_id: String,
    sha256: String,
}

/// A client of the runtime that pays by one of two routes, within a budget of its own.
struct Router<'a> {
    world: &'a World,
    spent_msats: u64,
}

impl Router<'_> {
    async fn post(&self, path: &str, body: &Value) -> Value {
        let answered = self.world.http.post(path, body).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.text());
        answered.json()
    }

    /// Whether a payment still fits; what does not is never asked for.
    fn fits(&mut self, msats: u64) -> bool {
        let spent = self.spent_msats + msats;
        let fits = spent <= CEILING_MSATS;
        if fits {
            self.spent_msats = spent;
        }
        fits
    }

    fn attempted(&self, route_kind: &'static str, status: &str, evidence: Value) -> Attempt {
        let sha256 =
            canonical_hash(&json!({"route_kind": route_kind, "status": status, "evidence": evidence}));
        let receipt_id = format!("pay_attempt_{}", &sha256[..24]);
        Attempt { route_kind, status: status.to_owned(), evidence, receipt_id, sha256 }
    }

    async fn directly(&mut self, key: &str, amount_msats: u64, fee_cap_msats: u64) -> Option<Attempt> {
        if !self.fits(amount_msats + fee_cap_msats) {
            return None;
        }
        let wanted = json!({"schema": "openagents.liquidity.quote_pay_request.v1",
            "idempotency_key": format!("neobank:liq:{key}"), "invoice": vignette_invoice(amount_msats),
            "host": "sats4ai.com", "max_amount_msats": amount_msats + fee_cap_msats,
            "max_fee_msats": fee_cap_msats, "urgency": "normal", "policy_context": {"route": "direct"}});
        let quote = self.post(QUOTE, &wanted).await;
        assert_eq!(quote["quoted_amount_msats"], amount_msats);
        assert_eq!(self.post(QUOTE, &wanted).await, quote);
        let order = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote["quote_id"],
            "run_id": "run-vignette", "trajectory_hash": "sha256:trajectory"});
        let paid = self.post(PAY, &order).await;
        let receipt = &paid["receipt"];
        assert_eq!((receipt["run_id"].as_str(), receipt.get("signature")), (Some("run-vignette"), None));
        assert_eq!(receipt["trajectory_hash"], "sha256:trajectory");
        assert_eq!(receipt["max_amount_forwarded_msats"], amount_msats + fee_cap_msats);
        assert_eq!(self.post(PAY, &order).await["receipt"], *receipt);
        let evidence = json!({"quote_id": said(&paid, "/quote_id"),
            "liquidity_receipt_sha256": said(receipt, "/canonical_json_sha256")});
        Some(self.attempted("direct_liquidity", said(&paid, "/status"), evidence))
    }

    async fn by_envelope(&mut self, key: &str, amount_msats: u64, fee_cap_msats: u64) -> Option<Attempt> {
        if !self.fits(amount_msats + fee_cap_msats) {
            return None;
        }
        let exp: Timestamp = self.world.now().plus_seconds(600);
        let offer = json!({"schema": "openagents.credit.offer_request.v1", "agent_id": AGENT, "pool_id": POOL,
            "scope_type": "nip90", "scope_id": format!("neobank:cep:{key}"),
            "max_sats": (amount_msats + fee_cap_msats).div_ceil(1_000), "fee_bps": 100,
            "requires_verifier": true, "exp": exp});
        let offered = self.post("/internal/v1/credit/offer", &offer).await;
        assert_eq!(offered["offer"]["max_sats"], 1_502);
        let offer_id = said(&offered, "/offer/offer_id");
        let envelope = json!({"schema": "openagents.credit.envelope_request.v1", "offer_id": offer_id,
            "provider_id": PROVIDER});
        let issued = self.post("/internal/v1/credit/envelope", &envelope).await;
        let envelope_id = said(&issued, "/envelope/envelope_id");
        assert_eq!(issued["receipt"].get("signature"), None);
        let settle = json!({"schema": "openagents.credit.settle_request.v1", "envelope_id": envelope_id,
            "verification_passed": true, "verification_receipt_sha256": "sha256:verified",
            "provider_invoice": vignette_invoice(amount_msats), "provider_host": "provider.example",
            "max_fee_msats": fee_cap_msats, "policy_context": {"route": "cep"}});
        let settled = self.post("/internal/v1/credit/settle", &settle).await;
        assert_eq!(self.post("/internal/v1/credit/settle", &settle).await, settled);
        assert_eq!(settled["spent_sats"], 1_500);
        let evidence = json!({"offer_id": offer_id, "envelope_id": envelope_id,
            "settlement_sha256": said(&settled, "/receipt/canonical_json_sha256"),
            "liquidity_receipt_sha256": said(&settled, "/liquidity_receipt_sha256")});
        Some(self.attempted("cep_envelope", said(&settled, "/outcome"), evidence))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_treasury_router_pays_by_both_of_its_routes() {
    for engine in both_engines() {
        let executor = VignetteExecutor::that_only_pays().await;
        let world = world(engine, &executor).await;
        // That the executor has no status keeps nobody from paying through it.
        let status = world.http.get(STATUS).await.json();
        assert_eq!(
            (&status["wallet_executor_configured"], &status["wallet_executor_reachable"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(
            (status["error_code"].as_str(), &status["receipt_signing_enabled"]),
            (Some("wallet_executor_http_404"), &json!(false))
        );
        let mut router = Router { world: &world, spent_msats: 0 };
        // 1
        let direct = router.directly("pay-1", 42_000_000, 7_500).await.expect("within the ceiling");
        assert_eq!((direct.route_kind, direct.status.as_str()), ("direct_liquidity", "succeeded"));
        // 2
        let envelope = router.by_envelope("pay-2", 1_500_000, 2_000).await.expect("within the ceiling");
        assert_eq!((envelope.route_kind, envelope.status.as_str()), ("cep_envelope", "success"));
        // 3
        for attempt in [&direct, &envelope] {
            assert!(
                attempt.receipt_id.starts_with("pay_attempt_") && attempt.sha256.len() == 64,
                "{attempt:?}"
            );
        }
        assert_ne!(direct.sha256, envelope.sha256);
        assert_eq!(executor.paid(), 2, "each of them once");
        // What is above the client's own ceiling is not even asked for.
        assert_eq!(router.directly("pay-3", CEILING_MSATS, 0).await, None);
        assert_eq!((router.spent_msats, executor.paid()), (43_509_500, 2));
    }
}
