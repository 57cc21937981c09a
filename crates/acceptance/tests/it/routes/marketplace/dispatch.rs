//! `POST …/dispatch/sandbox-run` when providers do their work (marketplace §7): what is held, what is kept, and
//! that it is done once.

use futures_util::future::join_all;
use oa_contract::{canonical, signer};
use oa_store::{
    Tx,
    tables::market_dispatches::{self, DispatchState},
};
use oa_testkit::{World, both_engines, simulated::ProviderMood};
use serde_json::{Value, json};

use super::{DISPATCH, JOB, QUOTE, TELEMETRY, order, post_as, provider, reserve, reserved, run_of, said};

async fn dispatched(world: &World, body: &Value) -> Value {
    let answered = world.http.post(DISPATCH, body).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_by_the_best_provider_its_price_is_held_and_the_response_is_proved() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        let told = dispatched(&world, &order(11, json!({}))).await;
        assert_eq!(told["job_hash"], JOB);
        assert_eq!(told["selection"]["tier"], "owned");
        assert_eq!(told["response"]["status"], "success");
        assert_eq!(
            told["response"]["provenance"],
            json!({"model_id": "sandbox-simulated", "sampling": {"temperature": 0.0}})
        );
        assert!(told["response"].get("simulated").is_none(), "unknown members are dropped");
        assert!(told.get("fallback_from_provider_id").is_none());
        let (key, body) = one.asked()[0].clone();
        assert_eq!((key.as_str(), &body["sandbox"]["resources"]["memory_mb"]), (JOB, &json!(512)));
        assert_eq!(
            (&told["quote"]["total_price_msats"], &told["hold"]["amount_msats"]),
            (&json!(1005), &json!(1005))
        );
        assert_eq!(reserved(&world, 11).await, 1005);
        // What we say of the response can be checked by anybody.
        let evidence = &told["evidence"];
        assert_eq!(evidence["request_sha256"], JOB);
        let response = canonical::canonical_hash(&told["response"]);
        assert_eq!(evidence["response_sha256"], json!(response));
        let statement = json!({
            "schema": evidence["schema"], "dispatch_id": told["dispatch_id"], "owner_key": "user:11", "run_id": null,
            "job_hash": JOB, "attempt": 1, "provider_id": "prov-p", "provider_worker_id": "p",
            "request_sha256": JOB, "response_sha256": response, "answered_at": evidence["answered_at"],
        });
        let text = |member: &str| evidence[member].as_str().unwrap().to_owned();
        assert_eq!(evidence["statement_sha256"], json!(canonical::canonical_hash(&statement)));
        assert!(signer::verify(&text("signed_by"), &text("statement_sha256"), &text("signature")));
        // Both documents are kept under their digests.
        let kept = async |tx: &mut Tx, sha256: &String| market_dispatches::document(tx, sha256).await;
        let document = world.runtime.store.read("test.document", response, kept).await.unwrap().unwrap();
        assert_eq!(document, canonical::canon(&told["response"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_again_is_answered_from_what_is_kept() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        let first = dispatched(&world, &order(11, json!({}))).await;
        assert_eq!(dispatched(&world, &order(11, json!({}))).await, first);
        one.kill();
        let world = world.restart().await;
        assert_eq!(dispatched(&world, &order(11, json!({}))).await, first, "nobody needs to be there for it");
        assert_eq!((one.counts(), reserved(&world, 11).await), ((1, 0), 1005));
        let telemetry = world.http.get(&format!("{TELEMETRY}?owner_user_id=11")).await.json();
        assert_eq!(
            (&telemetry["dispatch"]["dispatch_total"], &telemetry["dispatch"]["samples"]),
            (&json!(1), &json!(1))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_and_another_attempt_are_other_dispatches() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    let run = run_of(&world, 11).await;
    let plain = dispatched(&world, &order(11, json!({}))).await;
    let in_run = dispatched(&world, &order(11, json!({"run_id": run}))).await;
    let again = dispatched(&world, &order(11, json!({"run_id": run, "attempt": 2}))).await;
    assert_eq!((&in_run["run_id"], &again["attempt"]), (&json!(run), &json!(2)));
    let ids = [&plain, &in_run, &again].map(|told| told["dispatch_id"].as_str().unwrap().to_owned());
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 3);
    let keys: Vec<String> = one.asked().into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [JOB.to_owned(), JOB.to_owned(), format!("{JOB}.2")],
        "a provider may answer again what it ran"
    );
    assert_eq!(reserved(&world, 11).await, 3015);
    assert_eq!(world.http.post(DISPATCH, &order(11, json!({"attempt": 0}))).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_duplicates_at_one_time_call_the_provider_once() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        one.hold();
        let body = order(11, json!({}));
        let all = join_all((0..30).map(|_| world.http.post(DISPATCH, &body)));
        let open = async {
            while one.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            one.let_go();
        };
        let (all, ()) = tokio::join!(all, open);
        let first = all[0].json();
        assert_eq!(first["response"]["status"], "success", "{first}");
        assert!(all.iter().all(|answered| (answered.status, answered.json()) == (200, first.clone())));
        assert_eq!((one.counts(), one.asked().len(), reserved(&world, 11).await), ((1, 0), 1, 1005));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_that_saw_it_fail_are_told_so_and_nobody_is_asked_again() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        one.set(ProviderMood::Refuses(503, "provider disabled"));
        one.hold();
        let body = order(11, json!({}));
        let all = join_all((0..16).map(|_| world.http.post(DISPATCH, &body)));
        let open = async {
            while one.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            // Whoever comes after the failure is known may have it tried again; these were all there before.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            one.let_go();
        };
        let (all, ()) = tokio::join!(all, open);
        let message = "provider dispatch returned 503 Service Unavailable: provider disabled";
        for answered in &all {
            assert_eq!(said(answered), (400, message.to_owned()));
        }
        assert_eq!((one.asked().len(), reserved(&world, 11).await), (1, 0));
        one.set(ProviderMood::Runs { exit_code: 0 });
        let later = dispatched(&world, &order(11, json!({}))).await;
        assert_eq!(later["response"]["status"], "success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promised_price_binds_whatever_the_provider_asks_by_then() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        let other = provider(&world, "other", 11, 1001).await;
        let quote = world.http.post(QUOTE, &order(11, json!({}))).await.json()["quote"].clone();
        let dearer = json!({"owner_user_id": 11, "metadata_patch": {"min_price_msats": 50_000}});
        assert_eq!(world.http.post("/internal/v1/workers/p/heartbeat", &dearer).await.status, 200);
        let named = order(11, json!({"quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"]}));
        let told = dispatched(&world, &named).await;
        assert_eq!(told["quote"], quote, "byte for byte what was promised");
        assert_eq!((one.counts().0, other.counts().0, reserved(&world, 11).await), (1, 0, 1005));
        // It binds one dispatch.
        let second =
            world.http.post(DISPATCH, &order(11, json!({"quote_id": quote["quote_id"], "attempt": 2}))).await;
        assert_eq!(second.status, 409, "{}", second.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_cannot_be_altered_borrowed_or_kept_for_ever() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    let quote = world.http.post(QUOTE, &order(11, json!({}))).await.json()["quote"].clone();
    let refused = async |owner: u64, more: Value| said(&world.http.post(DISPATCH, &order(owner, more)).await);
    let id = &quote["quote_id"];
    let altered = json!({"quote_id": id, "quote_sha256": "0".repeat(64)});
    assert_eq!(refused(11, altered).await.0, 409);
    assert_eq!(refused(11, json!({"quote_id": "quote_0000000000000000"})).await.0, 404);
    assert_eq!(refused(12, json!({"quote_id": id})).await.0, 404, "another owner's quote is none");
    assert_eq!(refused(11, json!({"quote_sha256": quote["quote_sha256"]})).await.0, 400);
    let mut other = job_with("echo ho");
    other["quote_id"] = id.clone();
    let message = "quote.objective_hash does not match job_hash";
    assert_eq!(refused(11, other).await, (400, message.into()));
    world.clock.advance_millis(61_000);
    assert_eq!(refused(11, json!({"quote_id": id})).await, (400, "quote has expired".into()));
    assert_eq!((one.asked().len(), reserved(&world, 11).await), (0, 0));
}

fn job_with(command: &str) -> Value {
    let mut request = super::job();
    request["commands"][0]["cmd"] = json!(command);
    json!({"request": request})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_cannot_pay_is_not_begun() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        let budget = json!({"owner_user_id": 11, "limit_msats": 2009});
        assert_eq!(world.http.post("/admin/v1/budgets", &budget).await.status, 200);
        dispatched(&world, &order(11, json!({}))).await;
        let refused = world.http.post(DISPATCH, &order(11, job_with("echo ho"))).await;
        assert_eq!(said(&refused), (403, "insufficient budget".into()));
        assert_eq!((one.asked().len(), reserved(&world, 11).await), (1, 1005));
        // A run has a budget of its own.
        let run = run_of(&world, 11).await;
        let budget = json!({"owner_user_id": 11, "run_id": run, "limit_msats": 10});
        assert_eq!(world.http.post("/admin/v1/budgets", &budget).await.status, 200);
        assert_eq!(world.http.post(DISPATCH, &order(11, json!({"run_id": run}))).await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_settles_is_free_again_after_its_time() {
    let world = World::new().await;
    let _one = provider(&world, "p", 11, 1000).await;
    let told = dispatched(&world, &order(11, json!({}))).await;
    let first = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!(first.status, 200);
    world.clock.advance_millis(3_600_001);
    let mut left = reserved(&world, 11).await;
    while left > 0 {
        tokio::task::yield_now().await;
        left = reserved(&world, 11).await;
    }
    assert_eq!(dispatched(&world, &order(11, json!({}))).await, told, "the response stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_other_owners_get_nothing_done() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    assert_eq!(world.http.anonymous().post(DISPATCH, &order(11, json!({}))).await.status, 401);
    assert_eq!(post_as(&world, 12, DISPATCH, &order(11, json!({}))).await.status, 403);
    let mine = post_as(&world, 11, DISPATCH, &order(11, json!({}))).await;
    assert_eq!(mine.status, 200, "{}", mine.text());
    // Somebody else's run is as unknown as none, and somebody else's provider is not had.
    let run = run_of(&world, 11).await;
    let theirs = post_as(&world, 12, DISPATCH, &order(12, json!({"run_id": run}))).await;
    assert_eq!(theirs.status, 404);
    let mixed = world.http.post(DISPATCH, &order(12, json!({"run_id": run}))).await;
    assert_eq!(mixed.status, 404, "not even an operator mixes owners");
    assert_eq!(world.http.post(DISPATCH, &order(12, json!({}))).await.status, 404);
    let telemetry = world.http.get(&format!("{TELEMETRY}?owner_user_id=12")).await.json();
    assert_eq!(telemetry["dispatch"]["dispatch_not_found"], 1);
    assert_eq!(telemetry["provider_total"], 1);
    assert_eq!(one.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_of_its_own_is_an_answer_and_no_strike() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    let pool = reserve(&world, "pool", 12, 1).await;
    one.set(ProviderMood::Runs { exit_code: 2 });
    let told = dispatched(&world, &order(11, json!({}))).await;
    assert_eq!(
        (&told["response"]["status"], &told["response"]["runs"][0]["exit_code"]),
        (&json!("failed"), &json!(2))
    );
    assert_eq!(super::entry(&world, "p").await["failure_strikes"], 0);
    assert_eq!((pool.asked().len(), reserved(&world, 11).await), (0, 1005));
    let get = async |tx: &mut Tx, id: &String| market_dispatches::get(tx, id).await;
    let id = told["dispatch_id"].as_str().unwrap().to_owned();
    let row = world.runtime.store.read("test.dispatch", id, get).await.unwrap().unwrap();
    assert_eq!((row.state, row.calls), (DispatchState::Answered, 1));
}
