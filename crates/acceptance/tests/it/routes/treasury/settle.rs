//! A job is paid for once, or it is told why not; marketplace §16 (9, 11, 13) word for word.

use oa_runtime::WriteMode;
use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::{Value, json};

use super::{J30, SETTLE, enrol, example, reputation, run, specified};
use crate::routes::runs::begin;

async fn incident_types(world: &World) -> Vec<String> {
    let listed = world.http.get("/internal/v1/fraud/incidents").await.json();
    let listed = listed["incidents"].as_array().unwrap().clone();
    listed.iter().map(|one| one["incident_type"].as_str().unwrap().to_owned()).collect()
}

fn payments(run: &Value) -> Vec<&Value> {
    let events = run["events"].as_array().unwrap();
    events.iter().filter(|event| event["type"] == "payment" || event["event_type"] == "payment").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_quote_is_released_once_however_often_it_is_settled() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        let id = begin(&world).await;
        let first = world.http.post(SETTLE, &example(&id)).await;
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(
            specified(&first.json()),
            json!({"job_hash":J30,"reservation_id":"rsv_0bbc941015e085b5","amount_msats":1000,"verification_passed":true,"exit_code":0,"violations":[],"settlement_status":"released","settlement_route":"direct_liquidity","verification_receipt_sha256":"3d1d365f58fc874057522db91c98e669414babf14bb937ef9513211de8a411d8"})
        );
        for turn in 0..2 {
            let receipt = world.http.get(&format!("/internal/v1/runs/{id}/receipt")).await.json();
            assert_eq!(receipt["metrics"]["payments_msats_total"], 1000, "{receipt}");
            assert_eq!(run(&world, &id).await["events"].as_array().unwrap().len(), 6, "turn {turn}");
            let again = world.http.post(SETTLE, &example(&id)).await;
            assert_eq!((again.status, again.json()), (200, first.json()));
        }
        assert_eq!(reputation(&world).await["success_count"], 1);
        let direct = json!({"event_type": "payment", "payload": {}});
        let direct = world.http.post(&format!("/internal/v1/runs/{id}/events"), &direct).await;
        assert_eq!(direct.status, 400);
        assert_eq!(
            direct.json()["message"],
            "payment events must be emitted via treasury settlement endpoints"
        );
        let world = world.restart().await;
        assert_eq!(world.http.post(SETTLE, &example(&id)).await.json(), first.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_jobs_with_another_command_are_withheld_and_quarantine_the_provider() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        let id = begin(&world).await;
        for cmd in ["one", "two", "three"] {
            let mut body = example(&id);
            body["request"]["commands"][0]["cmd"] = cmd.into();
            let settled = world.http.post(SETTLE, &body).await;
            assert_eq!(settled.status, 200, "{}", settled.text());
            let settled = settled.json();
            assert_eq!(
                (&settled["settlement_status"], &settled["exit_code"]),
                (&json!("withheld"), &json!(1))
            );
            assert_eq!(
                settled["violations"],
                json!([format!("cmd mismatch at index 0: request={cmd} response=echo hi")])
            );
        }
        let known = reputation(&world).await;
        assert_eq!((&known["quarantined"], &known["failure_strikes"]), (&json!(true), &json!(3)));
        assert_eq!(known["quarantine_reason"], "verification_violations");
        let types = incident_types(&world).await;
        for wanted in ["compute_verification_violation", "provider_quarantined"] {
            assert!(types.iter().any(|one| one == wanted), "{types:?}");
        }
        let run = run(&world, &id).await;
        let payments = payments(&run);
        assert_eq!(payments.len(), 3);
        assert!(payments.iter().all(|event| event["payload"]["amount_msats"] == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_settlements_over_the_wire_are_one() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        let id = begin(&world).await;
        let body = example(&id);
        let all = futures_util::future::join_all((0..32).map(|_| world.http.post(SETTLE, &body))).await;
        for answered in &all {
            assert_eq!((answered.status, answered.json()), (200, all[0].json()), "{}", answered.text());
        }
        let run = run(&world, &id).await;
        assert_eq!((run["events"].as_array().unwrap().len(), payments(&run).len()), (6, 1));
        assert_eq!(reputation(&world).await["success_count"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_settled_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let _provider = enrol(&world).await;
    let id = begin(&world).await;
    let before = world.kept();
    let with = |member: &str, value: Value| {
        let mut body = example(&id);
        body[member] = value;
        body
    };
    let mut many = example(&id);
    many["request"]["commands"] = json!(vec![json!({"cmd": "x"}); 21]);
    let mut open = example(&id);
    open["request"]["sandbox"]["network_policy"] = json!("full");
    for (body, status, message) in [
        (with("owner_guest_scope", json!("lab")), 400, "owner_user_id or owner_guest_scope"),
        (with("provider_id", json!(" ")), 400, "provider_id and provider_worker_id are required"),
        (with("amount_msats", json!(0)), 400, "amount_msats must be greater than zero"),
        (many, 400, "exceeds 20 command cap"),
        (open, 400, "sandbox network_policy must be none in Phase 0"),
        (with("run_id", json!("nonsense")), 422, "Failed to deserialize the JSON body"),
        (with("run_id", json!("0193a000-0000-7000-8000-000000000009")), 404, "no run"),
        (with("provider_worker_id", json!("worker:x")), 400, "unknown provider worker_id worker:x"),
        (with("amount_msats", json!(10_000_000_001_u64)), 403, "insufficient budget"),
        (with("amount_msats", json!(1.5)), 422, ""),
        (with("amount_msats", json!(-1)), 422, ""),
        (with("amount_msats", json!(18_446_744_073_709_551_615_u64)), 422, ""),
        (with("response", json!(null)), 422, ""),
        (with("attempt", json!(0)), 400, "attempt"),
        (with("dispatch_id", json!("dsp_x")), 400, "dispatch_id"),
        (with("route_policy", json!({"kind": "force_cep"})), 400, "cep config is missing"),
        (with("route_policy", json!({"kind": "barter"})), 422, ""),
    ] {
        let refused = world.http.post(SETTLE, &body).await;
        assert_eq!(refused.status, status, "{message}: {}", refused.text());
        assert!(refused.text().contains(message), "{message}: {}", refused.text());
    }
    assert_eq!(world.kept(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_settles_and_reconciles_nothing() {
    let runtime = |config: &mut oa_runtime::Config| config.write_mode = WriteMode::ReadOnly;
    let world = World::with(WorldOptions { runtime: Box::new(runtime), ..WorldOptions::default() }).await;
    let run_id = "0193a000-0000-7000-8000-000000000001";
    for (path, body) in [(SETTLE, example(run_id)), ("/internal/v1/treasury/compute/reconcile", json!({}))] {
        let refused = world.http.post(path, &body).await;
        assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("write_path_frozen")));
        assert_eq!(refused.json()["message"], "runtime authority writes are disabled in mode read_only");
    }
}

/// §16 (8, 9, 10): a quote of the market, kept, exceeded, and over.
#[tokio::test(flavor = "multi_thread")]
async fn a_quote_of_the_market_binds_what_is_paid() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        let quoted = async |cmd: &str| {
            let mut body = example("");
            body["request"]["commands"][0]["cmd"] = cmd.into();
            let ask = json!({"owner_user_id": 11, "request": body["request"]});
            let told = world.http.post("/internal/v1/marketplace/compute/quote/sandbox-run", &ask).await;
            assert_eq!(told.status, 200, "{}", told.text());
            body["response"]["runs"][0]["cmd"] = cmd.into();
            body["quote"] = told.json()["quote"].clone();
            body
        };
        let settle = async |body: &Value, id: &str, amount: u64| {
            let mut body = body.clone();
            body["run_id"] = id.into();
            body["amount_msats"] = amount.into();
            world.http.post(SETTLE, &body).await
        };
        let id = begin(&world).await;
        let kept = settle(&quoted("one").await, &id, 1000).await;
        assert_eq!(
            (kept.status, &kept.json()["settlement_status"]),
            (200, &json!("released")),
            "{}",
            kept.text()
        );
        let known = reputation(&world).await;
        assert_eq!(
            (
                &known["price_integrity_samples"],
                &known["price_integrity_violations"],
                &known["success_count"]
            ),
            (&json!(1), &json!(0), &json!(1))
        );
        let id = begin(&world).await;
        let exceeded = settle(&quoted("two").await, &id, 1500).await.json();
        assert_eq!(
            (&exceeded["settlement_status"], &exceeded["amount_msats"]),
            (&json!("withheld"), &json!(1000))
        );
        let run = run(&world, &id).await;
        let events = run["events"].as_array().unwrap();
        assert!(events.iter().any(|event| event["payload"]["receipt_type"] == "PriceIntegrityFailed"));
        let payment = payments(&run)[0];
        assert_eq!(
            (&payment["payload"]["amount_msats"], &payment["payload"]["payment_proof"]["reason"]),
            (&json!(0), &json!("price_integrity_failed"))
        );
        let known = reputation(&world).await;
        assert_eq!(
            (
                &known["price_integrity_violations"],
                &known["last_price_variance_bps"],
                &known["success_count"]
            ),
            (&json!(1), &json!(5000), &json!(1))
        );
        let late = quoted("three").await;
        world.clock.advance_millis(120_000);
        let refused = settle(&late, &begin(&world).await, 1000).await;
        assert_eq!(refused.status, 400);
        assert!(refused.json()["message"].as_str().unwrap().contains("expired"));
    }
}
