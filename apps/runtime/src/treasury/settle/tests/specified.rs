//! The acceptance list of the specification (§16, 8 to 13) and its pipeline (§10.4), under the default trust: the
//! provider is the payer's own.

use super::*;
use crate::testing::refused;

#[tokio::test]
async fn without_a_quote_it_is_released_once_and_leaves_five_events() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        let first = settle(&world, example(run)).await.expect("settled");
        let told = serde_json::to_value(&first).expect("JSON");
        let mut expected = json!({"job_hash":J30,"reservation_id":"rsv_0bbc941015e085b5","amount_msats":1000,"verification_passed":true,"exit_code":0,"violations":[],"settlement_status":"released","settlement_route":"direct_liquidity","verification_receipt_sha256":"3d1d365f58fc874057522db91c98e669414babf14bb937ef9513211de8a411d8"});
        expected["settlement_id"] = first.settlement_id.as_str().into();
        assert_eq!(told, expected);
        world.clock.advance_ms(100_000);
        assert_eq!(settle(&world, example(run)).await.expect("the first answer"), first);
        let told = events(&world, run).await;
        let names = names(&told);
        assert_eq!(names, ["BudgetReserved", "VerificationPassed", "verification", "payment", "PaymentReleased"]);
        let keys: Vec<&str> = told.iter().map(|(_, key, _)| key.as_str()).collect();
        let key = |name: &str| name.replace("<job>", J30);
        assert_eq!(keys, [
            key("budget-reserved:<job>"), key("verify:<job>"), key("verification:<job>"),
            key("payment:<job>:released"), key("receipt-payment:<job>:released"),
        ]);
        assert_eq!(told[0].2, json!({"receipt_type":"BudgetReserved","payload":{"scope":"compute_job","amount_msats":1000,"reservation_id":"rsv_0bbc941015e085b5","job_hash":J30,"provider_id":"provider-a"}}));
        assert_eq!(told[1].2, json!({"receipt_type":"VerificationPassed","payload":{"job_hash":J30,"exit_code":0,"violations":[]}}));
        assert_eq!(told[2].2, json!({"command":"echo hi","exit_code":0,"cwd":"/workspace","duration_ms":10}));
        assert_eq!(told[3].2, json!({"rail":"lightning","asset_id":"BTC_LN","amount_msats":1000,"payment_proof":{"type":"internal_ledger","reservation_id":"rsv_0bbc941015e085b5","provider_id":"provider-a"},"job_hash":J30,"status":"released"}));
        assert_eq!(told[4].2, json!({"receipt_type":"PaymentReleased","payload":{
            "job_hash":J30,"amount_msats":1000,"reason":null,"quoted_provider_price_msats":null,"quoted_total_price_msats":null,
            "delivered_provider_amount_msats":1000,"price_integrity_variance_msats":0,"price_integrity_variance_bps":0,
            "reservation_id":"rsv_0bbc941015e085b5","provider_id":"provider-a","settlement_route":"direct_liquidity",
            "verification_receipt_sha256":first.verification_receipt_sha256,"credit_offer_id":null,"credit_envelope_id":null,
            "credit_settlement_id":null,"credit_liquidity_receipt_sha256":null}}));
        assert_eq!((paid(&world, run).await, standing(&world, "worker:a").await), (1000, (0, 1, false)));
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn the_summary_tells_what_was_paid_to_whom() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        assert_eq!(account(&world, 11).await, (10_000_000_000, 0, 0));
        let run = begin(&world).await;
        settle(&world, example(run)).await.expect("settled");
        let mut failing = another_job(example(run), "false");
        failing.response.runs[0].exit_code = 2;
        failing.response.status = oa_contract::wire::jobs::RunOutcome::Failed;
        world.clock.advance_ms(1_000);
        let withheld = settle(&world, failing).await.expect("settled");
        assert_eq!(
            (withheld.verification_passed, withheld.exit_code, withheld.violations.len()),
            (false, 2, 0)
        );
        let told = serde_json::to_value(summary(&world, 11).await).expect("JSON");
        assert_eq!(told["schema"], "openagents.treasury.compute_summary.v1");
        assert_eq!((&told["owner_key"], &told["released_msats_total"]), (&json!("user:11"), &json!(1000)));
        assert_eq!((&told["released_count"], &told["withheld_count"]), (&json!(1), &json!(1)));
        assert_eq!(
            told["provider_earnings"],
            json!([{"provider_id":"provider-a","earned_msats":1000,"released_jobs":1,"withheld_jobs":1}])
        );
        assert_eq!(told["account"]["spent_msats"], 1000);
        let jobs = told["recent_jobs"].as_array().expect("jobs");
        assert_eq!((jobs.len(), &jobs[0]["withheld_reason"]), (2, &json!("verification_failed")));
        let job = jobs[1].as_object().expect("a job");
        assert_eq!(
            (&job["status"], &job["verification_passed"], &job["exit_code"]),
            (&json!("released"), &json!(true), &json!(0))
        );
        assert!(!job.contains_key("withheld_reason"));
        // An honest failure is no fault of the provider's.
        assert_eq!(standing(&world, "worker:a").await, (0, 2, false));
        assert_eq!(incidents(&world).await.len(), 0);
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_matching_quote_binds_price_and_fees() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        let body = SettleSandboxRun { quote: Some(quote(&world, 0)), ..example(run) };
        let settled = settle(&world, body.clone()).await.expect("settled");
        assert_eq!(settled.settlement_status.name(), "released");
        let told = events(&world, run).await;
        assert_eq!(
            names(&told),
            [
                "QuoteCommitted",
                "PriceIntegrityPassed",
                "BudgetReserved",
                "VerificationPassed",
                "verification",
                "payment",
                "PaymentReleased"
            ]
        );
        let sha = &body.quote.as_ref().expect("a quote").quote_sha256;
        assert_eq!(told[0].1, format!("quote-commit:{J30}:{sha}"));
        assert_eq!(told[1].1, format!("price-integrity:{J30}:{sha}"));
        let members: Vec<&String> = told[1].2["payload"].as_object().expect("a payload").keys().collect();
        assert_eq!(
            members,
            [
                "job_hash",
                "quote_id",
                "quote_sha256",
                "quoted_provider_price_msats",
                "quoted_total_price_msats",
                "delivered_provider_amount_msats",
                "delivered_total_price_msats_estimate",
                "variance_msats",
                "variance_bps",
                "tolerance_msats"
            ]
        );
        // The fee is charged, and the provider gets its price.
        assert_eq!(account(&world, 11).await, (10_000_000_000, 0, 1005));
        assert_eq!(summary(&world, 11).await.released_msats_total, msats(1000));
        let row = tests_support::stored(&world, "worker:a").await.0;
        let told: Value = serde_json::from_str(crate::workers::metadata::answered(&row).expect("told").get())
            .expect("JSON");
        assert_eq!(
            (&told["price_integrity_samples"], &told["price_integrity_violations"], &told["success_count"]),
            (&json!(1), &json!(0), &json!(1))
        );
        // It stands whatever has expired, and whatever the provider asks by now.
        world.clock.advance_ms(120_000);
        tests_support::heartbeat(&world, "worker:a", 11, r#"{"min_price_msats":7}"#).await.expect("beaten");
        assert_eq!(settle(&world, body).await.expect("the first answer"), settled);
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn more_than_was_quoted_is_withheld_and_marked() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        let body = SettleSandboxRun { quote: Some(quote(&world, 0)), amount_msats: msats(1500), ..example(run) };
        let settled = settle(&world, body).await.expect("settled");
        assert_eq!((settled.settlement_status.name(), settled.amount_msats), ("withheld", msats(1000)));
        assert!(settled.verification_passed);
        let told = events(&world, run).await;
        assert_eq!(names(&told), ["QuoteCommitted", "PriceIntegrityFailed", "BudgetReserved", "VerificationPassed", "verification", "payment", "PaymentWithheld", "fraud"]);
        assert_eq!(told[5].2["amount_msats"], 0);
        assert_eq!(told[5].2["payment_proof"], json!({"type":"withheld","reservation_id":"rsv_0bbc941015e085b5","reason":"price_integrity_failed","exit_code":0}));
        assert_eq!((&told[6].2["payload"]["price_integrity_variance_msats"], &told[6].2["payload"]["price_integrity_variance_bps"]), (&json!(500), &json!(5000)));
        let row = tests_support::stored(&world, "worker:a").await.0;
        let known: Value = serde_json::from_str(crate::workers::metadata::answered(&row).expect("told").get()).expect("JSON");
        assert_eq!((&known["price_integrity_violations"], &known["last_price_variance_bps"], &known["success_count"]), (&json!(1), &json!(5000), &json!(0)));
        let incidents = incidents(&world).await;
        assert_eq!(incident_types(&incidents), ["compute_price_integrity_violation"]);
        assert_eq!(told[7].2, json!({"schema":"openagents.fraud.incident_pointer.v1","incident_id":incidents[0].incident_id,"incident_type":"compute_price_integrity_violation","severity":"high","job_hash":J30}));
        assert_eq!((account(&world, 11).await, paid(&world, run).await), ((10_000_000_000, 0, 0), 0));
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn less_than_was_quoted_is_withheld_and_nobodys_fault() {
    let world = World::with(EngineKind::Sqlite, strict()).await;
    let _route = provider(&world, "worker:a", "provider-a", 11).await;
    let run = begin(&world).await;
    let body = SettleSandboxRun { quote: Some(quote(&world, 0)), amount_msats: msats(999), ..example(run) };
    assert_eq!(settle(&world, body).await.expect("settled").settlement_status.name(), "withheld");
    assert_eq!((standing(&world, "worker:a").await, incidents(&world).await.len()), ((0, 0, false), 0));
}

#[tokio::test]
async fn an_expired_or_foreign_quote_is_refused_and_changes_nothing() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        let good = quote(&world, 0);
        for (quote, message) in [
            (quote(&world, 120), "quote has expired"),
            (
                Quote { provider_id: "b".into(), ..good.clone() },
                "quote.provider_id does not match provider_id",
            ),
            (
                Quote { provider_worker_id: "b".into(), ..good.clone() },
                "quote.provider_worker_id does not match provider_worker_id",
            ),
            (Quote { capability: "b".into(), ..good.clone() }, "quote.capability must be oa.sandbox_run.v1"),
            (
                Quote { objective_hash: "b".into(), ..good.clone() },
                "quote.objective_hash does not match job_hash",
            ),
            (
                Quote { operator_fee_msats: msats(0), ..good.clone() },
                "quote does not match current provider terms",
            ),
        ] {
            let refusal =
                refused(settle(&world, SettleSandboxRun { quote: Some(quote), ..example(run) }).await);
            assert_eq!((refusal.code.name(), refusal.message.as_str()), ("invalid_request", message));
        }
        let unknown = SettleSandboxRun {
            quote: Some(Quote { provider_worker_id: "worker:x".into(), ..good.clone() }),
            provider_worker_id: "worker:x".into(),
            ..example(run)
        };
        assert_eq!(refused(settle(&world, unknown).await).message, "unknown provider_worker_id worker:x");
        tests_support::heartbeat(&world, "worker:a", 11, r#"{"min_price_msats":null}"#)
            .await
            .expect("beaten");
        let refusal = refused(settle(&world, SettleSandboxRun { quote: Some(good), ..example(run) }).await);
        assert_eq!(
            (refusal.code.name(), refusal.message.as_str()),
            ("internal", "unable to compute expected quote")
        );
        assert_eq!((events(&world, run).await.len(), account(&world, 11).await), (0, (10_000_000_000, 0, 0)));
    })
    .await;
}

#[tokio::test]
async fn three_jobs_with_another_command_quarantine_the_provider() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        for cmd in ["one", "two", "three"] {
            let mut body = another_job(example(run), cmd);
            body.response.runs[0].cmd = "cheap".into();
            let settled = settle(&world, body).await.expect("settled");
            assert_eq!((settled.settlement_status.name(), settled.exit_code), ("withheld", 1));
            assert_eq!(
                settled.violations,
                [format!("cmd mismatch at index 0: request={cmd} response=cheap")]
            );
        }
        assert_eq!(standing(&world, "worker:a").await, (3, 0, true));
        let row = tests_support::stored(&world, "worker:a").await.0;
        assert_eq!(
            (row.status.name(), row.reputation.quarantine_reason.as_deref()),
            ("failed", Some("verification_violations"))
        );
        let incidents = incidents(&world).await;
        let violation = "compute_verification_violation";
        assert_eq!(incident_types(&incidents), [violation, violation, violation, "provider_quarantined"]);
        let told = events(&world, run).await;
        assert_eq!(
            names(&told)[..6],
            ["BudgetReserved", "VerificationFailed", "verification", "payment", "PaymentWithheld", "fraud"]
        );
        let found = incidents.iter().find(|one| one.incident_type == violation).expect("one");
        assert_eq!(
            (found.severity.name(), found.actions.join(",")),
            ("medium", "payment_withheld,strike_applied".into())
        );
        let evidence: Value =
            serde_json::from_str(found.evidence.as_ref().expect("evidence").get()).expect("JSON");
        for member in
            ["job_hash", "run_id", "settlement_status", "withheld_reason", "exit_code", "violations"]
        {
            assert!(!evidence[member].is_null(), "{member}");
        }
        assert_eq!(evidence["paths"]["run_receipt"], format!("/internal/v1/runs/{run}/receipt"));
        // The evidence names the very events.
        let pointed = evidence["events"].as_array().expect("events");
        assert_eq!(pointed.len(), 5);
        assert!(pointed.iter().all(|event| event["hash"].as_str().is_some_and(|hash| hash.len() == 64)));
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn an_envelope_is_asked_for_and_told_to_be_missing() {
    let world = World::with(EngineKind::Sqlite, strict()).await;
    let key = "a".repeat(64);
    let _route = provider(&world, "worker:a", &key, 11).await;
    let run = begin(&world).await;
    let cep =
        json!({"agent_id": key, "pool_id": key, "provider_invoice": "lnbc420n1test", "provider_host": "h"});
    let forced = |cep: Option<Value>| SettleSandboxRun {
        provider_id: key.clone(),
        route_policy: serde_json::from_value(json!({"kind": "force_cep"})).expect("a policy"),
        cep: cep.map(|cep| serde_json::from_value(cep).expect("terms")),
        ..example(run)
    };
    let refusal = refused(settle(&world, forced(None)).await);
    assert_eq!(refusal.message, "route_policy selected CEP but cep config is missing");
    for member in ["agent_id", "pool_id", "provider_invoice", "provider_host"] {
        let mut blank = cep.clone();
        blank[member] = " ".into();
        assert_eq!(
            refused(settle(&world, forced(Some(blank))).await).message,
            format!("cep.{member} is required")
        );
    }
    let refusal = refused(settle(&world, forced(Some(cep.clone()))).await);
    assert_eq!(refusal.message, "cep.provider_invoice asks for 42000 msats, and 1000 are owed");
    let poor = json!({"kind": "prefer_agent_balance", "agent_balance_sats": 1, "min_reserve_sats": 1});
    let prefers = |policy: Value| SettleSandboxRun {
        route_policy: serde_json::from_value(policy).expect("a policy"),
        ..forced(None)
    };
    assert!(refused(settle(&world, prefers(poor)).await).message.contains("cep config is missing"));
    assert_eq!((events(&world, run).await.len(), account(&world, 11).await.1), (0, 0));
    let rich = json!({"kind": "prefer_agent_balance", "agent_balance_sats": 2, "min_reserve_sats": 1});
    assert_eq!(
        settle(&world, prefers(rich)).await.expect("settled").settlement_route.name(),
        "direct_liquidity"
    );
}

#[tokio::test]
async fn what_cannot_be_settled_is_refused_in_the_order_of_the_specification() {
    let world = World::with(EngineKind::Sqlite, strict()).await;
    let _route = provider(&world, "worker:a", "provider-a", 11).await;
    let run = begin(&world).await;
    let said = async |body: SettleSandboxRun| {
        let refusal = refused(settle(&world, body).await);
        (refusal.code.name(), refusal.message)
    };
    let nobody = SettleSandboxRun { owner_user_id: None, provider_id: " ".into(), ..example(run) };
    assert!(said(nobody).await.1.starts_with("owner_user_id or owner_guest_scope"));
    let blank = SettleSandboxRun { provider_id: " ".into(), amount_msats: Msats::ZERO, ..example(run) };
    assert_eq!(said(blank).await.1, "provider_id and provider_worker_id are required");
    let mut free = SettleSandboxRun { amount_msats: Msats::ZERO, ..example(run) };
    free.request.commands.clear();
    assert_eq!(said(free).await.1, "amount_msats must be greater than zero");
    let mut empty = example(run);
    empty.request.commands.clear();
    assert_eq!(said(empty).await.1, "sandbox request must include at least one command");
    assert_eq!(
        said(example(Uuid::from_u128(9))).await,
        ("not_found", format!("no run {}", Uuid::from_u128(9)))
    );
    let unknown = SettleSandboxRun { provider_worker_id: "worker:x".into(), ..example(run) };
    assert_eq!(said(unknown).await, ("invalid_request", "unknown provider worker_id worker:x".into()));
    let other = SettleSandboxRun { provider_id: "provider-b".into(), ..example(run) };
    assert_eq!(said(other).await.1, "provider_id does not match what worker:a is enrolled as");
    let dear = SettleSandboxRun { amount_msats: msats(10_000_000_001), ..example(run) };
    assert_eq!(said(dear).await, ("forbidden", "insufficient budget".into()));
    assert_eq!((events(&world, run).await.len(), account(&world, 11).await), (0, (10_000_000_000, 0, 0)));
    assert_eq!(standing(&world, "worker:a").await, (0, 0, false));
    let frozen = Config { verifier_strict: true, ..strict() };
    let world = World::with(EngineKind::Sqlite, frozen).await;
    let _route = provider(&world, "worker:a", "provider-a", 11).await;
    let run = begin(&world).await;
    let refusal = refused(settle(&world, example(run)).await);
    assert_eq!(refusal.message, "receipt signer missing (RUNTIME_VERIFIER_STRICT=true)");
    assert_eq!(events(&world, run).await.len(), 0, "found out before anything is done");
}
