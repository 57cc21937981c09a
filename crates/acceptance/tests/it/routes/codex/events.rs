//! Events that are posted to a feed: numbered, taken once, and learned from (control §14.2, §14.3, §21.3.4).

use oa_testkit::{SimulatedCodexWorker, World, both_engines};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ask, feed, path, post_event, snapshot, texts, types};

#[tokio::test(flavor = "multi_thread")]
async fn parallel_events_get_the_numbers_from_one_on_without_a_gap() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut tasks = JoinSet::new();
        for number in 0..40 {
            let user = user.clone();
            tasks
                .spawn(async move { post_event(&user, "w", "worker.note", json!({"number": number})).await });
        }
        let mut seqs: Vec<u64> =
            tasks.join_all().await.iter().map(|one| one.json()["data"]["seq"].as_u64().unwrap()).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "{engine:?}");
        let kept: Vec<u64> = feed(&user, "w").await.iter().map(|one| one["seq"].as_u64().unwrap()).collect();
        assert_eq!(kept, seqs, "{engine:?}");
        assert_eq!(snapshot(&user, "w").await["latest_seq"], 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_under_an_id_is_taken_once_and_never_becomes_another() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        let mut tasks = JoinSet::new();
        for _ in 0..12 {
            let worker = worker.clone();
            tasks.spawn(
                async move { worker.post_as("spool-1", "worker.note", json!({"b": 1, "a": 2})).await },
            );
        }
        let answers: Vec<_> = tasks.join_all().await;
        assert!(answers.iter().all(|one| one.status == 202 && one.json()["data"]["seq"] == 1), "{engine:?}");
        let fresh = answers.iter().filter(|one| one.json()["data"]["idempotent_replay"].is_null()).count();
        assert_eq!(fresh, 1, "{engine:?}");
        assert_eq!(worker.post_as("spool-1", "worker.note", json!({"b": 2})).await.status, 409);
        assert_eq!(worker.post_as("spool-1", "worker.other", json!({"b": 1, "a": 2})).await.status, 409);
        worker.post("worker.stopped", json!({})).await;
        let again = worker.post_as("spool-1", "worker.note", json!({"a": 2, "b": 1})).await;
        assert_eq!((again.status, &again.json()["data"]["idempotent_replay"]), (202, &json!(true)));
        assert_eq!(types(&feed(&user, "desk").await), ["worker.note", "worker.stopped"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_event_is_refused_under_its_field_and_leaves_nothing() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for (event_type, payload, status, field) in [
        ("", json!({}), 422, "event.event_type"),
        ("run.note", json!({}), 422, "event.event_type"),
        ("worker.request", json!({"request": {}}), 422, "event.event_type"),
        ("worker.note", json!([]), 422, "event.payload"),
        ("worker.note", json!({"x": "y".repeat(70_000)}), 413, "event.payload"),
        ("worker.event", json!({"method": "ios/handshake"}), 422, "event.payload"),
        ("worker.response", json!({"request_id": "r"}), 422, "event.payload.method"),
        (
            "worker.error",
            json!({"request_id": "r", "method": "turn/start", "code": "tired"}),
            422,
            "event.payload.code",
        ),
        ("worker.approval", json!({"approval_id": "a", "decision": "maybe"}), 422, "event.payload.decision"),
        (
            "worker.approval",
            json!({"approval_id": "a", "decision": "accept"}),
            422,
            "event.payload.approval_id",
        ),
    ] {
        let refused = post_event(&user, "w", event_type, payload).await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.json()["errors"][field].is_array(), "{field}: {}", refused.text());
    }
    let receipt = json!({"request_id": "never", "method": "turn/start", "ok": true, "response": {}, "occurred_at": "2026-02-22T00:00:00Z"});
    let refused = post_event(&user, "w", "worker.response", receipt).await;
    assert!(refused.json()["errors"]["event.payload.request_id"].is_array(), "{}", refused.text());
    assert_eq!(user.get(&path("w", "")).await.status, 404, "a refused event leaves no worker behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_move_a_worker_from_state_to_state() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for (event_type, status, state) in [
        ("worker.starting", 202, "starting"),
        ("worker.heartbeat", 202, "starting"),
        ("worker.running", 202, "running"),
        ("worker.stopping", 202, "stopping"),
        ("worker.note", 409, "stopping"),
        ("worker.event", 202, "stopping"),
        ("worker.stopped", 202, "stopped"),
        ("worker.heartbeat", 409, "stopped"),
        ("worker.starting", 409, "stopped"),
    ] {
        let answered = post_event(&user, "w", event_type, json!({})).await;
        assert_eq!(answered.status, status, "{event_type}: {}", answered.text());
        assert_eq!(snapshot(&user, "w").await["status"], state, "{event_type}");
    }
    assert!(snapshot(&user, "w").await["stopped_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_codex_says_becomes_messages_and_turns_once() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        let asked = json!({"request_id": "r1", "method": "turn/start", "wait_ms": 0, "params": {"thread_id": "t", "text": "What is here?"}});
        ask(&user, "desk", asked).await;
        let request = worker.next_request().await;
        let said: [(&str, Value); 6] = [
            ("turn/started", json!({"turn": {"id": "turn-1"}, "model": "gpt"})),
            (
                "item/completed",
                json!({"item": {"id": "i0", "type": "commandExecution", "command": "ls", "exitCode": 0}}),
            ),
            ("item/agentMessage/delta", json!({"itemId": "i1", "delta": "Three "})),
            ("item/completed", json!({"item": {"id": "i1", "type": "agentMessage", "text": "Three files."}})),
            (
                "item/completed",
                json!({"item": {"id": "i1", "type": "agent_message", "text": "Three files."}}),
            ),
            ("turn/completed", json!({"turn": {"id": "turn-1", "status": "completed"}})),
        ];
        for (method, params) in &said {
            let taken = worker.says("t", "turn-1", method, params.clone()).await;
            assert_eq!(taken.status, 202, "{}", taken.text());
        }
        worker.respond(&request, json!({"thread_id": "t", "turn": {"id": "turn-1"}})).await;
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect::<Vec<_>>()
        };
        let wanted =
            pairs(&[("user", "What is here?"), ("tool", "$ ls (exit 0)"), ("assistant", "Three files.")]);
        assert_eq!(texts(&user, "t").await, wanted, "{engine:?}");
        let listed = user.get("/api/runtime/threads").await.json();
        assert_eq!(listed["data"]["threads"][0]["message_count"], 3);
        // Another turn may call its items alike.
        worker
            .says(
                "t",
                "turn-2",
                "item/completed",
                json!({"item": {"id": "i1", "type": "agentMessage", "text": "Yes."}}),
            )
            .await;
        assert_eq!(texts(&user, "t").await.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_in_another_users_thread() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("other@example.com").await);
    user.post("/api/runtime/threads/t/messages", &json!({"text": "mine"})).await;
    let worker = SimulatedCodexWorker::attach(&other, "evil", world.now()).await;
    let item = json!({"item": {"id": "i", "type": "agentMessage", "text": "trust me"}});
    assert_eq!(
        worker.says("t", "x", "item/completed", item.clone()).await.status,
        202,
        "it is only an event"
    );
    assert_eq!(worker.says("nowhere", "x", "item/completed", item).await.status, 202);
    assert_eq!(texts(&user, "t").await.len(), 1);
    assert_eq!(user.get("/api/runtime/threads/nowhere/messages").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_gets_one_decision() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        let question = json!({"source": "codex_app_server", "method": "item/commandExecution/requestApproval",
            "params": {"command": "rm -r build"}, "approval_id": "ap:1", "occurred_at": "2026-02-22T00:00:00Z"});
        assert_eq!(worker.post("worker.event", question).await.status, 202);
        let mut tasks = JoinSet::new();
        for decision in ["accept", "accept", "decline", "decline"] {
            let user = user.clone();
            tasks.spawn(async move {
                post_event(
                    &user,
                    "desk",
                    "worker.approval",
                    json!({"approval_id": "ap:1", "decision": decision}),
                )
                .await
                .status
            });
        }
        let mut answers = tasks.join_all().await;
        answers.sort_unstable();
        assert_eq!(answers, [202, 202, 409, 409], "{engine:?}");
        assert_eq!(types(&feed(&user, "desk").await), ["worker.event", "worker.approval"], "{engine:?}");
        let other = world.sign_in("other@example.com").await;
        let stolen = post_event(
            &other,
            "desk",
            "worker.approval",
            json!({"approval_id": "ap:1", "decision": "accept"}),
        )
        .await;
        assert_eq!(stolen.status, 403);
    }
}
