//! What ill-meant and unlucky callers send to the codex rows: values without sense, bodies at their limits, too many
//! followers, too many workers, and everything at the same time.

use std::{future::Future, time::Duration};

use oa_testkit::{Http, SimulatedCodexWorker, World, WorldOptions, both_engines};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ask, feed, path, post_event, snapshot, texts, types};

const SSE: (&str, &str) = ("accept", "text/event-stream");

/// Until it holds, which it does unless something is broken.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let patience = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), patience).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_or_a_patience_without_sense_is_refused_and_nothing_waits() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        post_event(&user, "w", "worker.note", json!({})).await;
        for (query, status) in [
            ("cursor=-1", 400),
            ("cursor=1.5", 400),
            ("cursor=abc", 400),
            ("cursor=18446744073709551616", 400),
            ("cursor=1&cursor=2", 400),
            ("cursor=18446744073709551615", 200),
            ("tail_ms=0", 422),
            ("tail_ms=-5", 400),
            ("tail_ms=120001", 422),
            ("tail_ms=120000", 200),
            ("limit=0", 422),
            ("limit=-1", 400),
            ("limit=1001", 422),
            ("wait=soon", 422),
            ("wait=1&tail_ms=1&cursor=9", 200),
            ("consumer=spy", 422),
            ("unknown=%00&x=%F0%9F%92%A5", 200),
        ] {
            let answered = user.get(&path("w", &format!("/stream?{query}"))).await;
            assert_eq!(answered.status, status, "{engine:?} {query}: {}", answered.text());
        }
        for id in ["abc", "-1", "1.0", "0x1", "18446744073709551616", "1, 2", "\"1\"", "seq:1"] {
            let refused = user.open(&path("w", "/stream"), &[SSE, ("last-event-id", id)]).await;
            assert_eq!(refused.status(), 400, "{engine:?} {id:?}");
        }
        for query in
            ["limit=-9223372036854775808", "limit=0", "limit=9223372036854775807", "workspace_ref=%20"]
        {
            let listed = user.get(&format!("/api/runtime/codex/workers?{query}")).await;
            assert_eq!(listed.json()["data"].as_array().unwrap().len(), 1, "{engine:?} {query}");
        }
        for query in [
            "before=9223372036854775807_w",
            "before=-9223372036854775808_w",
            "before=1_%00",
            "before=x",
            "before=_",
            "status=%00",
            "workspace_ref=%00",
            "limit=99999999999999999999",
        ] {
            let listed = user.get(&format!("/api/runtime/codex/workers?{query}")).await;
            assert!(matches!(listed.status, 200 | 400 | 422), "{engine:?} {query}: {}", listed.text());
        }
        for wait in [json!(-1), json!(1.5), json!("1"), json!(30_001), json!(18_446_744_073_709_551_615_u64)]
        {
            let request = json!({"request_id": "r", "method": "thread/list", "wait_ms": wait});
            assert_eq!(ask(&user, "w", request).await.status, 422, "{engine:?} {wait}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_too_deep_too_large_or_of_the_wrong_shape_are_refused_and_leave_nothing() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let headers: &[(&str, &str)] = &[("content-type", "application/json")];
    for (rest, body) in [
        ("/events", format!("{{\"event\":{{\"event_type\":\"worker.note\",\"payload\":{{\"a\":{}}}}}}}", deep(5_000))),
        ("/events", format!("{{\"event\":{{\"event_type\":\"worker.note\",\"payload\":{}}}}}", deep(3))),
        ("/events", "{\"event\":{\"event_type\":\"worker.note\",\"payload\":{\"a\":1e999}}}".into()),
        ("/events", "{\"event\":{\"event_type\":\"worker.note\",\"payload\":{\"a\":\"\\ud800\"}}}".into()),
        ("/events", "{\"event\":{\"event_type\":\"worker.x\\u0000\"}}".into()),
        ("/events", "{\"event\":[\"worker.note\"]}".into()),
        ("/events", "{\"event\":null}".into()),
        ("/events", "[]".into()),
        ("/requests", format!("{{\"request\":{{\"request_id\":\"r\",\"method\":\"thread/list\",\"params\":{}}}}}", deep(5_000))),
        ("/requests", "{\"request\":{\"request_id\":\"\\u0000\",\"method\":\"thread/list\"}}".into()),
        ("/requests", "{\"request\":{\"request_id\":7,\"method\":\"thread/list\"}}".into()),
        ("/requests", "{\"request\":{\"request_id\":\"r\",\"method\":\"thread/list\\u0000\"}}".into()),
        ("/requests", "{\"request\":{\"request_id\":\"r\",\"method\":\"turn/start\",\"params\":{\"thread_id\":\"a\\u0000\",\"text\":\"x\"}}}".into()),
        ("/requests", "{\"request\":{\"request_id\":\"r\",\"method\":\"turn/start\",\"params\":{\"thread_id\":\"t\",\"text\":\"\\u0000\"}}}".into()),
        ("/stop", "[]".into()),
        ("/stop", "{\"reason\":\"a\\u0000\"}".into()),
    ] {
        let refused = user.send("POST", &path("w", rest), headers, Some(body.clone().into_bytes())).await;
        let shown: String = body.chars().take(120).collect();
        assert!(matches!(refused.status, 400 | 404 | 422), "{shown}: {} {}", refused.status, refused.text());
    }
    let metadata = format!("{{\"worker_id\":\"w\",\"metadata\":{}}}", deep(5_000));
    let refused = user.send("POST", "/api/runtime/codex/workers", headers, Some(metadata.into_bytes())).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let large = json!({"worker_id": "w", "metadata": {"a": "x".repeat(3 * 1024 * 1024)}});
    let refused = user.post("/api/runtime/codex/workers", &large).await;
    assert_eq!((refused.status, refused.header("connection")), (413, Some("close")));
    assert_eq!(user.get(&path("w", "")).await.status, 404, "nothing was made");
    assert_eq!(user.get("/api/runtime/threads").await.json()["data"]["threads"], json!([]));
    // As deep as a document may be, it comes back through every lane that shows it.
    let worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
    let request = format!(
        "{{\"request\":{{\"request_id\":\"r\",\"method\":\"thread/start\",\"wait_ms\":0,\"params\":{{\"a\":{}}}}}}}",
        deep(120)
    );
    let sent = user.send("POST", &path("desk", "/requests"), headers, Some(request.into_bytes())).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    let page = user.get(&worker.path("/stream")).await;
    assert!(page.text().contains(&deep(120)), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_at_their_limit_reach_even_a_reader_who_does_not_read_for_long() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        // Opened, and not read from until everything is there.
        let mut slow = user.open(&path("desk", "/stream"), &[SSE]).await;
        let filled = |bytes: usize| json!({"a": "x".repeat(bytes - "{\"a\":\"\"}".len())});
        for _ in 0..48 {
            assert_eq!(post_event(&user, "desk", "worker.note", filled(64 * 1024)).await.status, 202);
        }
        assert_eq!(post_event(&user, "desk", "worker.note", filled(64 * 1024 + 1)).await.status, 413);
        let request = json!({"request_id": "r", "method": "thread/start", "wait_ms": 0});
        assert_eq!(ask(&user, "desk", request.clone()).await.status, 202);
        let request_sent = worker.next_request().await;
        let receipt = |response: Value| {
            json!({"request_id": "r", "method": "thread/start", "ok": true, "response": response,
                "occurred_at": "2026-02-22T00:00:00Z"})
        };
        assert_eq!(request_sent["request_id"], "r");
        let room = 1024 * 1024 - receipt(json!("")).to_string().len();
        let too_large = receipt(json!("y".repeat(room + 1)));
        assert_eq!(post_event(&user, "desk", "worker.response", too_large).await.status, 413);
        let largest = receipt(json!("y".repeat(room)));
        assert_eq!(post_event(&user, "desk", "worker.response", largest).await.status, 202);
        let answered = ask(&user, "desk", request).await.json();
        assert_eq!(answered["data"]["response"].as_str().unwrap().len(), room, "{engine:?}");
        let (mut text, mut ids) = (String::new(), Vec::new());
        while ids.len() < 50 {
            let chunk = slow.chunk().await.expect("a chunk").expect("the stream goes on");
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                ids.extend(
                    event.strip_prefix("id: ").and_then(|rest| rest.lines().next()?.parse::<u64>().ok()),
                );
            }
        }
        assert_eq!(ids, (1..=50).collect::<Vec<_>>(), "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_follows_so_many_feeds_and_takes_nothing_from_others() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("other@example.com").await);
    post_event(&user, "w", "worker.note", json!({})).await;
    post_event(&other, "o", "worker.note", json!({})).await;
    let stream = path("w", "/stream");
    for _ in 0..100 {
        assert_eq!(user.send("HEAD", &stream, &[SSE], None).await.status, 200);
    }
    let mut tasks = JoinSet::new();
    for _ in 0..300 {
        let (user, stream) = (user.clone(), stream.clone());
        tasks.spawn(async move { user.open(&stream, &[SSE]).await });
    }
    let (open, refused): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(|response| response.status() == 200);
    assert_eq!((open.len(), refused.len()), (64, 236));
    for one in refused {
        assert_eq!(one.status(), 429);
        assert!(one.headers().contains_key("retry-after"));
    }
    assert_eq!(user.get(&format!("{stream}?wait=1&cursor=1")).await.status, 429, "a wait is a follower too");
    assert_eq!(user.get(&stream).await.status, 200, "a page is none");
    assert_eq!(other.open(&path("o", "/stream"), &[SSE]).await.status(), 200);
    drop(open);
    until("the places to be free again", || async { user.open(&stream, &[SSE]).await.status() == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_receipts_for_one_request_one_counts() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        let request = json!({"request_id": "r", "method": "turn/start", "wait_ms": 0,
            "params": {"thread_id": "t", "text": "go"}});
        assert_eq!(ask(&user, "desk", request.clone()).await.status, 202);
        let mut tasks = JoinSet::new();
        for n in 0..24 {
            let user = user.clone();
            tasks.spawn(async move {
                let mut payload =
                    json!({"request_id": "r", "method": "turn/start", "occurred_at": "2026-02-22T00:00:00Z"});
                let event_type = match n % 2 {
                    0 => {
                        payload["ok"] = json!(true);
                        payload["response"] = json!({"turn": {"id": format!("turn-{n}")}});
                        "worker.response"
                    }
                    _ => {
                        payload["code"] = json!("internal_error");
                        payload["message"] = json!(format!("failed {n}"));
                        "worker.error"
                    }
                };
                post_event(&user, "desk", event_type, payload).await.status
            });
        }
        let mut statuses = tasks.join_all().await;
        statuses.sort_unstable();
        assert_eq!((statuses[0], statuses[1], statuses[23]), (202, 409, 409), "{engine:?}");
        let events = feed(&user, "desk").await;
        assert_eq!(events.len(), 2, "{engine:?} {:?}", types(&events));
        let answered = ask(&user, "desk", request).await.json()["data"].clone();
        let told = &events[1]["payload"];
        match told["ok"] == true {
            true => assert_eq!(answered["response"], told["response"]),
            false => assert_eq!(answered["error"]["message"], told["message"]),
        }
        assert_eq!(texts(&user, "t").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_races_with_the_end_of_its_worker_is_answered_or_was_never_made() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        for round in 0..6 {
            SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
            let mut tasks = JoinSet::new();
            for n in 0..4 {
                let user = user.clone();
                tasks.spawn(async move {
                    let id = format!("r{round}-{n}");
                    let request = json!({"request_id": id, "method": "turn/start", "wait_ms": 0,
                        "params": {"thread_id": "t", "text": id}});
                    (request.clone(), ask(&user, "desk", request).await.status)
                });
            }
            let stopped = user.post(&path("desk", "/stop"), &json!({})).await;
            assert_eq!(stopped.status, 202);
            for (request, status) in tasks.join_all().await {
                assert!(matches!(status, 200 | 202 | 409), "{engine:?} {status}");
                let again = ask(&user, "desk", request).await;
                match status {
                    409 => assert_eq!(again.status, 409, "{engine:?}"),
                    _ => assert_eq!(
                        (again.status, &again.json()["data"]["error"]["code"]),
                        (200, &json!("worker_unavailable")),
                        "{engine:?} {}",
                        again.text()
                    ),
                }
            }
            world.clock.advance_millis(60_000);
        }
        let events = feed(&user, "desk").await;
        let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
        let of = |kind: &str| events.iter().filter(|event| event["event_type"] == kind).count();
        assert_eq!((of("worker.request"), of("worker.stopped")), (of("worker.error"), 6), "{engine:?}");
        let said = user.get("/api/runtime/threads/t/messages").await;
        let said = said.json()["data"]["messages"].as_array().map_or(0, Vec::len);
        assert_eq!(said, of("worker.request"), "{engine:?}: what was asked was said, and nothing else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_workers_whichever_way_they_are_made() {
    for engine in both_engines() {
        let control = vec![("OA_CODEX_WORKERS_MAX", "3".to_owned())];
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let (user, other) =
            (world.sign_in("dev@example.com").await, world.sign_in("other@example.com").await);
        let create = async |http: &Http, id: &str| {
            http.post("/api/runtime/codex/workers", &json!({"worker_id": id})).await
        };
        let list = |id: &str| json!({"request_id": id, "method": "thread/list"});
        assert_eq!(create(&user, "a").await.status, 202);
        assert_eq!(post_event(&user, "b", "worker.note", json!({})).await.status, 202);
        assert_eq!(ask(&user, "c", list("1")).await.status, 200);
        let refused = create(&user, "d").await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (409, &json!("conflict")),
            "{engine:?}"
        );
        assert!(refused.text().contains("OA_CODEX_WORKERS_MAX"), "{}", refused.text());
        assert_eq!(post_event(&user, "d", "worker.note", json!({})).await.status, 409);
        assert_eq!(ask(&user, "d", list("2")).await.status, 409);
        assert_eq!(user.get(&path("d", "")).await.status, 404);
        user.post(&path("a", "/stop"), &json!({})).await;
        for id in ["a", "b", "c"] {
            assert_eq!(create(&user, id).await.status, 202, "{engine:?}: one that is there comes back");
        }
        assert_eq!(create(&other, "d").await.status, 202);
        assert_eq!(snapshot(&other, "d").await["status"], "running");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_counted_before_its_body_is_looked_at() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let json: (&str, &str) = ("content-type", "application/json");
    for (rest, headers, body, status) in [
        ("/requests", vec![json], "{", 400),
        ("/requests", vec![], "{}", 415),
        ("/requests", vec![json], "{\"request\":7}", 422),
    ]
    .into_iter()
    .cycle()
    .take(60)
    {
        let refused = user.send("POST", &path("w", rest), &headers, Some(body.into())).await;
        assert_eq!(refused.status, status);
    }
    let refused = user.send("POST", &path("w", "/requests"), &[json], Some("{".into())).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limited")));
    assert_eq!(user.anonymous().send("POST", &path("w", "/requests"), &[], None).await.status, 401);
    // Messages are counted for themselves; the former lane of chats is not counted at all.
    let say = json!({"text": "hello"});
    assert_eq!(user.post("/api/runtime/threads/t/messages", &say).await.status, 200);
    let mut worker = SimulatedCodexWorker::attach(&user, "desktopw:shared", world.now()).await;
    let chat = {
        let user = user.clone();
        tokio::spawn(async move { user.post("/api/chat/stream", &json!({"id": "t", "text": "hi"})).await })
    };
    let request = worker.next_request().await;
    worker.fail(&request, "conflict").await;
    assert_eq!(chat.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_long_thread_answers_in_process_is_bounded() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for _ in 0..10 {
        let said = user.post("/api/runtime/threads/t/messages", &json!({"text": "💥".repeat(20_000)})).await;
        assert_eq!(said.status, 200);
    }
    let read = json!({"request_id": "r", "method": "thread/read", "params": {"thread_id": "t"}});
    let response = ask(&user, "w", read).await.json()["data"]["response"].clone();
    assert_eq!((response["messages"].as_array().unwrap().len(), &response["next"]), (6, &json!(6)));
    let rest = user.get("/api/runtime/threads/t/messages?after=6").await.json()["data"].clone();
    assert_eq!(rest["messages"].as_array().unwrap().len(), 4);
}
