//! Creating, listing, stopping and losing workers (control §14.1-§14.3, §21.3.3).

use oa_testkit::{SimulatedCodexWorker, World, both_engines};
use serde_json::json;

use super::{ask, feed, path, post_event, snapshot, types};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_lives_as_the_specification_tells_and_survives_a_restart() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let body =
            json!({"worker_id": "desktopw:lifecycle", "workspace_ref": "ws-local", "adapter": "codex_cli"});
        let made = user.post("/api/runtime/codex/workers", &body).await;
        assert_eq!(made.status, 202, "{}", made.text());
        let wanted = json!({"data": {"workerId": "desktopw:lifecycle", "status": "running", "latestSeq": 0, "idempotentReplay": false}});
        assert_eq!(made.json(), wanted);
        let payload = json!({"source": "autopilot-ios", "method": "ios/handshake", "handshake_id": "hs_1",
            "occurred_at": "2026-02-22T00:00:00Z", "device_id": "ios:device"});
        let taken = post_event(&user, "desktopw%3Alifecycle", "worker.event", payload.clone()).await;
        assert_eq!(taken.status, 202, "{}", taken.text());
        let data = &taken.json()["data"];
        assert_eq!(
            (&data["seq"], &data["payload"], &data["occurred_at"]),
            (&json!(1), &payload, &json!("2026-02-22T00:00:00Z"))
        );
        let world = world.restart().await;
        let user = world.control_http.with_bearer(user.bearer.as_deref().unwrap());
        let seen = snapshot(&user, "desktopw:lifecycle").await;
        assert_eq!(
            (&seen["latest_seq"], &seen["adapter"], &seen["heartbeat_state"]),
            (&json!(1), &json!("codex_cli"), &json!("fresh"))
        );
        assert_eq!(seen["khala_projection"]["last_runtime_seq"], 1);
        // When it was received drives the state, whatever the event says.
        assert!(seen["updated_at"].as_str().unwrap().starts_with("2026-02-25T10:00:00"), "{seen}");
        let page = user.get(&path("desktopw:lifecycle", "/stream")).await.json()["data"].clone();
        assert_eq!(
            (&page["cursor"], &page["tail_ms"], &page["stream_protocol"]),
            (&json!(0), &json!(15_000), &json!("spacetime_ws"))
        );
        assert!(page["delivery"]["topic"].as_str().unwrap().starts_with("org:user:user_"));
        let again =
            user.post("/api/runtime/codex/workers", &json!({"worker_id": "desktopw:lifecycle"})).await;
        assert_eq!(again.json()["data"]["idempotentReplay"], true);
        assert_eq!(snapshot(&user, "desktopw:lifecycle").await["adapter"], "codex_cli");
        let stopped =
            user.post(&path("desktopw:lifecycle", "/stop"), &json!({"reason": "test_complete"})).await;
        assert_eq!(stopped.status, 202, "{}", stopped.text());
        let wanted = json!({"data": {"worker_id": "desktopw:lifecycle", "status": "stopped", "seq": 2, "idempotent_replay": false, "idempotentReplay": false}});
        assert_eq!(stopped.json(), wanted);
        let again = user.post(&path("desktopw:lifecycle", "/stop"), &json!({})).await.json();
        assert_eq!((&again["data"]["seq"], &again["data"]["idempotentReplay"]), (&json!(2), &json!(true)));
        assert_eq!(post_event(&user, "desktopw:lifecycle", "worker.note", json!({})).await.status, 409);
        let request = json!({"request_id": "r", "method": "thread/list"});
        assert_eq!(ask(&user, "desktopw:lifecycle", request).await.status, 409);
        let events = feed(&user, "desktopw:lifecycle").await;
        assert_eq!(types(&events), ["worker.event", "worker.stopped"], "{engine:?}");
        assert_eq!(events[1]["payload"], json!({"reason": "test_complete"}));
        let revived =
            user.post("/api/runtime/codex/workers", &json!({"worker_id": "desktopw:lifecycle"})).await.json();
        assert_eq!(
            (&revived["data"]["latestSeq"], &revived["data"]["idempotentReplay"]),
            (&json!(2), &json!(false))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_for_their_owner_by_state_and_workspace_in_pages() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        for number in 0..5 {
            let workspace = format!("ws-{}", number % 2);
            let body = json!({"worker_id": format!("w{number}"), "workspace_ref": workspace});
            user.post("/api/runtime/codex/workers", &body).await;
        }
        user.post(&path("w0", "/stop"), &json!({})).await;
        let list = async |query: &str| {
            let answered = user.get(&format!("/api/runtime/codex/workers{query}")).await;
            assert_eq!(answered.status, 200, "{}", answered.text());
            let ids = answered.json()["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["worker_id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>();
            (ids, answered.json()["next"].as_str().map(str::to_owned))
        };
        assert_eq!(list("").await.0, ["w0", "w4", "w3", "w2", "w1"], "{engine:?}");
        assert_eq!(list("?status=Stopped").await.0, ["w0"]);
        assert_eq!(list("?workspace_ref=ws-1").await.0, ["w3", "w1"]);
        assert_eq!(list("?limit=0").await.0.len(), 1);
        let (ids, next) = list("?limit=2").await;
        assert_eq!(ids, ["w0", "w4"]);
        let (ids, next) = list(&format!("?limit=3&before={}", next.unwrap())).await;
        assert_eq!((ids, next), (vec!["w3".into(), "w2".into(), "w1".into()], None));
        assert_eq!(user.get("/api/runtime/codex/workers?status=resting").await.status, 422);
        assert_eq!(user.get("/api/runtime/codex/workers?limit=abc").await.status, 400);
        let other = world.sign_in("other@example.com").await;
        assert_eq!(other.get("/api/runtime/codex/workers").await.json(), json!({"data": []}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_worker_is_403_everywhere_and_an_unknown_one_404_where_none_is_made() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("other@example.com").await);
    user.post("/api/runtime/codex/workers", &json!({"worker_id": "w"})).await;
    let request = json!({"request_id": "r", "method": "thread/list"});
    for answered in [
        other.get(&path("w", "")).await,
        other.get(&path("w", "/stream")).await,
        other.post("/api/runtime/codex/workers", &json!({"worker_id": "w"})).await,
        other.post(&path("w", "/stop"), &json!({})).await,
        post_event(&other, "w", "worker.note", json!({})).await,
        ask(&other, "w", request).await,
    ] {
        assert_eq!(answered.status, 403, "{}", answered.text());
        assert_eq!(answered.json()["error"]["message"], "worker does not belong to authenticated principal");
    }
    for answered in [
        user.get(&path("unknown", "")).await,
        user.get(&path("unknown", "/stream")).await,
        user.post(&path("unknown", "/stop"), &json!({})).await,
    ] {
        assert_eq!((answered.status, &answered.json()["error"]["message"]), (404, &json!("Not found.")));
    }
    assert_eq!(user.get(&path("%20", "")).await.json()["errors"]["worker_id"].as_array().unwrap().len(), 1);
    assert_eq!(feed(&user, "w").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_looks_like_a_path_is_only_an_id() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        for id in ["..%2Fcredit%2Fsettle%3F", "..%2F..%2Fthreads", "a%20b%22%27;--", "%E2%80%AE%F0%9F%92%A5"]
        {
            assert_eq!(user.get(&path(id, "")).await.status, 404, "{id}");
            assert_eq!(post_event(&user, id, "worker.note", json!({})).await.status, 202, "{id}");
            assert_eq!(snapshot(&user, id).await["latest_seq"], 1, "{id}");
            let request =
                json!({"request_id": id, "method": "turn/start", "params": {"thread_id": id, "text": "x"}});
            assert_eq!(ask(&user, id, request).await.status, 200, "{id}");
            assert_eq!(user.post(&path(id, "/stop"), &json!({})).await.status, 202, "{id}");
        }
        for (id, status) in [("%ff", 400), ("%00", 400)] {
            assert_eq!(user.get(&path(id, "")).await.status, status, "{id}");
        }
        assert_eq!(user.get(&path(&"x".repeat(161), "")).await.status, 422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_fell_silent_fails_and_one_that_nobody_beats_for_does_not() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        post_event(&user, "in_memory", "worker.note", json!({})).await;
        let mut silent = SimulatedCodexWorker::attach(&user, "silent", world.now()).await;
        let beating = SimulatedCodexWorker::attach(&user, "beating", world.now()).await;
        let mut reading = SimulatedCodexWorker::attach(&user, "reading", world.now()).await;
        let asked = json!({"request_id": "r", "method": "thread/start", "wait_ms": 0});
        assert_eq!(ask(&user, "silent", asked.clone()).await.status, 202);
        world.clock.advance_millis(200_000);
        beating.post("worker.heartbeat", json!({"occurred_at": "2031-01-01T00:00:00Z"})).await;
        reading.look(false).await;
        assert_eq!(snapshot(&user, "silent").await["heartbeat_state"], "stale");
        world.clock.advance_millis(160_500);
        world.sweep_codex().await;
        let seen = snapshot(&user, "silent").await;
        assert_eq!(
            (&seen["status"], &seen["heartbeat_state"]),
            (&json!("failed"), &json!("failed")),
            "{engine:?}"
        );
        for id in ["in_memory", "beating", "reading"] {
            assert_eq!(snapshot(&user, id).await["status"], "running", "{engine:?} {id}");
        }
        silent.cursor = 0;
        let events = silent.look(false).await;
        // The deadline of the request came first.
        assert_eq!(types(&events), ["worker.request", "worker.error", "worker.failed"], "{engine:?}");
        assert_eq!(events[2]["payload"], json!({"reason": "heartbeat_timeout"}));
        let late = ask(&user, "silent", asked).await;
        assert_eq!((late.status, &late.json()["data"]["ok"]), (200, &json!(false)));
    }
}
