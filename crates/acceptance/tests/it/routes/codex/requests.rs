//! Requests: answered in process, or by an attached worker, once per id (control §14.3, §14.4, §21.2.1, §21.3.1).

use oa_testkit::{SimulatedCodexWorker, World, both_engines};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ask, feed, path, post_event, snapshot, texts, types};

fn turn(request_id: &str, thread_id: &str, text: &str) -> Value {
    json!({"request_id": request_id, "method": "turn/start", "params": {"thread_id": thread_id, "text": text}})
}

/// The same, without patience.
fn at_once(mut request: Value) -> Value {
    request["wait_ms"] = json!(0);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_worker_is_answered_for_in_process() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut request = turn("req_turn_1", "thread-control-1", "continue");
        request["source"] = json!("ios");
        request["request_version"] = json!("v1");
        request["session_id"] = json!(" ");
        let answered = ask(&user, "desktopw:shared", request.clone()).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let data = answered.json()["data"].clone();
        let response = &data["response"];
        let wanted = json!({"worker_id": "desktopw:shared", "request_id": "req_turn_1", "ok": true, "method": "turn/start",
            "idempotent_replay": false, "source": "ios", "request_version": "v1",
            "response": {"thread_id": "thread-control-1", "turn": {"id": response["turn"]["id"]},
                "message": {"id": response["message"]["id"], "thread_id": "thread-control-1", "role": "user", "text": "continue"}}});
        assert_eq!(data, wanted, "{engine:?}");
        assert!(response["turn"]["id"].as_str().unwrap().starts_with("turn_"));
        let events = feed(&user, "desktopw:shared").await;
        assert_eq!(types(&events), ["worker.response"]);
        assert_eq!(
            (&events[0]["payload"]["ok"], &events[0]["payload"]["response"]),
            (&json!(true), response)
        );
        // The ledger comes before the worker's state: it answers for a stopped one too, and after a restart.
        user.post(&path("desktopw:shared", "/stop"), &json!({})).await;
        let world = world.restart().await;
        let user = world.control_http.with_bearer(user.bearer.as_deref().unwrap());
        let again = ask(&user, "desktopw:shared", request).await.json();
        assert_eq!(again["data"]["idempotent_replay"], true);
        assert_eq!(&again["data"]["response"], response);
        let other = ask(&user, "desktopw:shared", turn("req_turn_1", "thread-control-1", "other")).await;
        assert_eq!((other.status, &other.json()["error"]["code"]), (409, &json!("conflict")));
        assert_eq!(texts(&user, "thread-control-1").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_answers_in_process_as_specified() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("other@example.com").await);
    let response = async |request: Value| {
        let answered = ask(&user, "w", request).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        answered.json()["data"]["response"].clone()
    };
    let started = response(json!({"request_id": "1", "method": "thread/start"})).await;
    let thread_id = started["thread_id"].as_str().unwrap().to_owned();
    assert_eq!(started, json!({"thread_id": thread_id}));
    assert_eq!(texts(&user, &thread_id).await, []);
    let named = response(json!({"request_id": "2", "method": "thread/start", "thread_id": "t", "params": {"input": [{"type": "text", "text": "hi"}]}})).await;
    assert_eq!((&named["thread_id"], &named["message"]["text"]), (&json!("t"), &json!("hi")));
    assert_eq!(
        response(json!({"request_id": "3", "method": "thread/resume", "params": {"threadId": "t"}})).await,
        json!({"thread_id": "t"})
    );
    let listed = response(json!({"request_id": "4", "method": "thread/list"})).await;
    assert_eq!(listed["threads"].as_array().unwrap().len(), 2);
    let read = response(json!({"request_id": "5", "method": "thread/read", "thread_id": "t"})).await;
    assert_eq!((&read["thread_id"], &read["messages"][0]["text"]), (&json!("t"), &json!("hi")));
    let interrupted =
        response(json!({"request_id": "6", "method": "turn/interrupt", "params": {"turnId": "x"}})).await;
    assert_eq!(interrupted, json!({"thread_id": null, "turn_id": "x", "status": "interrupted"}));
    for (request, status, field) in [
        (json!({"method": "turn/start"}), 422, "request.request_id"),
        (json!({"request_id": "7", "method": "turn/stop"}), 422, "request.method"),
        (json!({"request_id": "7", "method": "thread/resume"}), 422, "request.params.thread_id"),
        (
            json!({"request_id": "7", "method": "turn/start", "params": {"thread_id": "t"}}),
            422,
            "request.params.text",
        ),
        (json!({"request_id": "7", "method": "thread/read", "thread_id": "nothing"}), 404, ""),
    ] {
        let refused = ask(&user, "w", request).await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(field.is_empty() || refused.json()["errors"][field].is_array(), "{}", refused.text());
    }
    for method in ["thread/start", "thread/resume", "thread/read", "turn/start"] {
        let stolen =
            json!({"request_id": method, "method": method, "params": {"thread_id": "t", "text": "x"}});
        assert_eq!(ask(&other, "mine", stolen).await.status, 403, "{method}");
    }
    assert_eq!(other.get(&path("mine", "")).await.status, 404, "a refused request leaves no worker behind");
    assert_eq!(texts(&user, "t").await.len(), 1);
    assert_eq!(snapshot(&user, "w").await["latest_seq"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_duplicates_have_one_effect() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut tasks = JoinSet::new();
        for _ in 0..32 {
            let user = user.clone();
            tasks.spawn(async move { ask(&user, "w", turn("same", "t", "once")).await });
        }
        let answers: Vec<_> = tasks.join_all().await;
        assert!(answers.iter().all(|one| one.status == 200), "{engine:?}");
        let fresh = answers.iter().filter(|one| one.json()["data"]["idempotent_replay"] == false).count();
        assert_eq!(fresh, 1, "{engine:?}");
        assert!(
            answers.iter().all(|one| one.json()["data"]["response"] == answers[0].json()["data"]["response"])
        );
        assert_eq!(texts(&user, "t").await.len(), 1);
        assert_eq!(feed(&user, "w").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_worker_is_asked_once_and_its_receipt_answers_everybody_who_asked() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        assert_eq!(snapshot(&user, "desk").await["attached"], true);
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let user = user.clone();
            tasks.spawn(async move { ask(&user, "desk", turn("r1", "t", "do it")).await });
        }
        let request = worker.next_request().await;
        assert_eq!(
            (&request["method"], &request["thread_id"], &request["params"]["text"]),
            (&json!("turn/start"), &json!("t"), &json!("do it"))
        );
        assert!(request["sent_at"].is_string());
        let taken = worker.respond(&request, json!({"thread_id": "t", "turn": {"id": "turn-7"}})).await;
        assert_eq!(taken.status, 202, "{}", taken.text());
        let answers: Vec<_> = tasks.join_all().await;
        for answered in &answers {
            assert_eq!(
                (answered.status, &answered.json()["data"]["ok"]),
                (200, &json!(true)),
                "{}",
                answered.text()
            );
            assert_eq!(answered.json()["data"]["response"]["turn"]["id"], "turn-7");
        }
        let fresh = answers.iter().filter(|one| one.json()["data"]["idempotent_replay"] == false).count();
        assert_eq!(fresh, 1, "{engine:?}");
        assert_eq!(types(&feed(&user, "desk").await), ["worker.request", "worker.response"], "{engine:?}");
        assert_eq!(texts(&user, "t").await, [("user".into(), "do it".into())]);
        // The same receipt again changes nothing, another one is refused.
        let again = worker.respond(&request, json!({"thread_id": "t", "turn": {"id": "turn-7"}})).await;
        assert_eq!(
            (again.status, &again.json()["data"]["seq"], &again.json()["data"]["idempotent_replay"]),
            (202, &json!(2), &json!(true))
        );
        assert_eq!(worker.respond(&request, json!({"thread_id": "t"})).await.status, 409);
        assert_eq!(worker.fail(&request, "conflict").await.status, 409);
        assert_eq!(feed(&user, "desk").await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_receipt_turns_pending_into_done_and_a_failure_is_told_as_one() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        let start = json!({"request_id": "r1", "method": "thread/start", "wait_ms": 0});
        let pending = ask(&user, "desk", start.clone()).await;
        assert_eq!(pending.status, 202, "{}", pending.text());
        let data = pending.json()["data"].clone();
        assert_eq!(
            (&data["ok"], &data["status"], &data["idempotent_replay"]),
            (&Value::Null, &json!("pending"), &json!(false))
        );
        let thread_id = data["thread_id"].as_str().unwrap().to_owned();
        assert!(thread_id.starts_with("thread_"));
        assert_eq!(texts(&user, &thread_id).await, [], "the thread is there before the worker answers");
        let world = world.restart().await;
        let user = world.control_http.with_bearer(user.bearer.as_deref().unwrap());
        worker.http = user.clone();
        assert_eq!(ask(&user, "desk", start.clone()).await.status, 202, "{engine:?}");
        let request = worker.next_request().await;
        assert_eq!(request["thread_id"], thread_id);
        worker.respond(&request, json!({"thread_id": thread_id})).await;
        let done = ask(&user, "desk", start).await;
        assert_eq!((done.status, &done.json()["data"]["response"]), (200, &json!({"thread_id": thread_id})));
        assert_eq!(ask(&user, "desk", at_once(turn("r2", &thread_id, "x"))).await.status, 202);
        let request = worker.next_request().await;
        assert_eq!(worker.fail(&request, "internal_error").await.status, 202);
        let failed = ask(&user, "desk", turn("r2", &thread_id, "x")).await;
        assert_eq!((failed.status, &failed.json()["data"]["ok"]), (200, &json!(false)), "{}", failed.text());
        let wanted = json!({"code": "internal_error", "message": "on purpose", "retryable": false});
        assert_eq!(failed.json()["data"]["error"], wanted, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_answers_ends_at_its_deadline_and_a_later_receipt_is_refused() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        assert_eq!(ask(&user, "desk", at_once(turn("r1", "t", "x"))).await.status, 202);
        let request = worker.next_request().await;
        let world = world.restart().await;
        let user = world.control_http.with_bearer(user.bearer.as_deref().unwrap());
        worker.http = user.clone();
        world.clock.advance_millis(299_000);
        world.sweep_codex().await;
        assert_eq!(ask(&user, "desk", at_once(turn("r1", "t", "x"))).await.status, 202);
        world.clock.advance_millis(2_000);
        world.sweep_codex().await;
        let ended = ask(&user, "desk", turn("r1", "t", "x")).await;
        assert_eq!(
            (ended.status, &ended.json()["data"]["error"]["code"]),
            (200, &json!("timeout")),
            "{engine:?}"
        );
        let events = feed(&user, "desk").await;
        assert_eq!(types(&events), ["worker.request", "worker.error"], "{engine:?}");
        assert_eq!(events[1]["payload"]["request_id"], "r1");
        assert_eq!(worker.respond(&request, json!({})).await.status, 409);
        assert_eq!(texts(&user, "t").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_leaves_no_request_open() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        for (id, by_event) in [("stopped", false), ("failed", true)] {
            let mut worker = SimulatedCodexWorker::attach(&user, id, world.now()).await;
            let waiting = {
                let (user, id) = (user.clone(), id.to_owned());
                tokio::spawn(async move { ask(&user, &id, turn("r1", &format!("t-{id}"), "x")).await })
            };
            worker.next_request().await;
            match by_event {
                true => {
                    assert_eq!(worker.post("worker.failed", json!({"reason": "crash"})).await.status, 202)
                }
                false => assert_eq!(user.post(&path(id, "/stop"), &json!({})).await.status, 202),
            }
            let ended = waiting.await.unwrap();
            assert_eq!((ended.status, &ended.json()["data"]["ok"]), (200, &json!(false)), "{}", ended.text());
            assert_eq!(ended.json()["data"]["error"]["code"], "worker_unavailable", "{engine:?}");
            let last = format!("worker.{id}");
            assert_eq!(types(&feed(&user, id).await), ["worker.request", "worker.error", last.as_str()]);
            assert_eq!(snapshot(&user, id).await["status"], id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_worker_at_its_feed_is_asked() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let made = json!({"worker_id": "desk", "adapter": "desktop_bridge"});
    user.post("/api/runtime/codex/workers", &made).await;
    // Neither a viewer nor a heartbeat attaches a worker.
    user.get(&path("desk", "/stream")).await;
    post_event(&user, "desk", "worker.heartbeat", json!({})).await;
    assert_eq!(snapshot(&user, "desk").await["attached"], false);
    assert_eq!(ask(&user, "desk", turn("r1", "t", "x")).await.status, 200);
    let worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
    // Its own fallback is never sent back to it.
    let mut own = turn("r2", "t", "x");
    own["source"] = json!("autopilot-desktop/1.2");
    assert_eq!(ask(&user, "desk", own).await.status, 200);
    world.clock.advance_millis(50_000);
    worker.post("worker.heartbeat", json!({})).await;
    world.clock.advance_millis(50_000);
    assert_eq!(snapshot(&user, "desk").await["attached"], true, "a heartbeat keeps it attached");
    assert_eq!(ask(&user, "desk", at_once(turn("r3", "t", "x"))).await.status, 202);
    world.clock.advance_millis(11_000);
    assert_eq!(snapshot(&user, "desk").await["attached"], false);
    assert_eq!(ask(&user, "desk", turn("r4", "t", "x")).await.status, 200);
    let reader = user.post("/api/tokens", &json!({"name": "r", "abilities": ["runtime.read"]})).await.json();
    let reader = user.with_bearer(reader["data"]["token"].as_str().unwrap());
    assert_eq!(reader.get(&path("desk", "/stream")).await.status, 200);
    assert_eq!(reader.get(&path("desk", "/stream?consumer=worker")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_reaches_the_turn_that_runs() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
    let interrupt =
        |id: &str| json!({"request_id": id, "method": "turn/interrupt", "thread_id": "t", "wait_ms": 0});
    assert_eq!(ask(&user, "desk", interrupt("r0")).await.status, 404);
    assert_eq!(ask(&user, "desk", at_once(turn("r1", "t", "x"))).await.status, 202);
    assert_eq!(ask(&user, "desk", interrupt("r2")).await.status, 409, "nothing runs yet");
    let request = worker.next_request().await;
    worker.respond(&request, json!({"thread_id": "t", "turn": {"id": "turn-9"}})).await;
    assert_eq!(ask(&user, "desk", interrupt("r2")).await.status, 202);
    let request = worker.next_request().await;
    assert_eq!(
        (&request["method"], &request["params"]["turn_id"]),
        (&json!("turn/interrupt"), &json!("turn-9"))
    );
    worker
        .says("t", "turn-9", "turn/completed", json!({"turn": {"id": "turn-9", "status": "interrupted"}}))
        .await;
    let ended = json!({"request_id": "r3", "method": "turn/interrupt", "thread_id": "t", "params": {"turn_id": "turn-9"}});
    assert_eq!(ask(&user, "desk", ended).await.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixty_first_request_of_a_minute_waits() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let list = |number: usize| json!({"request_id": format!("r{number}"), "method": "thread/list"});
    for number in 0..60 {
        assert_eq!(ask(&user, "w", list(number)).await.status, 200);
    }
    let refused = ask(&user, "w", list(60)).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limited")));
    world.clock.advance_millis(60_000);
    assert_eq!(ask(&user, "w", list(60)).await.status, 200);
}
