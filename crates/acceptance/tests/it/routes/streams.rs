//! `GET /streams/{stream}`: durable events, live and resumable (runtime-core §12).

use std::time::Duration;

use futures_util::StreamExt;
use oa_client::Manner;
use oa_contract::{
    Nothing, Owner, matrix,
    operation::Call,
    wire::{paths::StreamPath, runs::StartRun, spacetime::FollowStream},
};
use oa_testkit::{Http, World, both_engines};
use serde_json::{Value, json};

use crate::routes::runs::{begin, events};

/// Reads until `count` events have come; gives their ids and envelopes.
async fn read(http: &Http, path: &str, headers: &[(&str, &str)], count: usize) -> Vec<(u64, Value)> {
    let response = http.open(path, headers).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut chunks = response.bytes_stream();
    let (mut text, mut out) = (String::new(), Vec::new());
    while out.len() < count {
        let chunk =
            tokio::time::timeout(Duration::from_secs(10), chunks.next()).await.expect("an event in time");
        text.push_str(&String::from_utf8_lossy(&chunk.expect("an open stream").expect("a chunk")));
        while let Some((message, rest)) =
            text.split_once("\n\n").map(|(message, rest)| (message.to_owned(), rest.to_owned()))
        {
            text = rest;
            let field =
                |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                out.push((id.parse().unwrap(), serde_json::from_str(&data).unwrap()));
            }
        }
    }
    out
}

fn ids(messages: &[(u64, Value)]) -> Vec<u64> {
    messages.iter().map(|(id, _)| *id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_what_was_and_what_comes_once_and_in_order() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        let path = format!("/streams/runtime.run.{id}.events");
        let follower = {
            let (http, path) = (world.http.clone(), path.clone());
            tokio::spawn(async move { read(&http, &path, &[], 101).await })
        };
        for step in 0..100 {
            world
                .http
                .post_with(
                    &events(&id),
                    &json!({"event_type": "step", "payload": step}),
                    &[("prefer", "return=minimal")],
                )
                .await;
        }
        let messages = follower.await.unwrap();
        assert_eq!(ids(&messages), (1..=101).collect::<Vec<_>>(), "{engine:?}");
        let last = &messages[100].1;
        assert_eq!(
            (&last["topic"], &last["sequence"], &last["kind"], &last["payload"]),
            (&json!(format!("run:{id}:events")), &json!(101), &json!("step"), &json!(99))
        );
        assert!(last["published_at"].as_str().unwrap().ends_with("+00:00"));
        assert_eq!(
            ids(&read(&world.http, &path, &[("last-event-id", "99")], 2).await),
            [100, 101],
            "{engine:?}"
        );
        assert_eq!(ids(&read(&world.http, &format!("{path}?after=100"), &[], 1).await), [101], "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_and_fleet_streams_are_gap_free_per_owner() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        for (worker, user) in [("a", 1), ("b", 2), ("c", 1)] {
            let body = json!({"worker_id": worker, "owner_user_id": user});
            assert_eq!(world.http.post("/internal/v1/workers", &body).await.status, 201, "{engine:?}");
            let beat = world
                .http
                .post(&format!("/internal/v1/workers/{worker}/heartbeat"), &json!({"owner_user_id": user}))
                .await;
            assert_eq!(beat.status, 200, "{}", beat.text());
        }
        let first = read(&world.http, "/streams/runtime.fleet.user.1.workers", &[], 4).await;
        assert_eq!(ids(&first), [1, 2, 3, 4], "{engine:?}");
        assert_eq!(first[0].1["payload"]["worker_id"], "a");
        assert_eq!(
            ids(&read(&world.http, "/streams/runtime.fleet.user.2.workers", &[], 2).await),
            [1, 2],
            "{engine:?}"
        );
        let lifecycle = read(&world.http, "/streams/runtime.worker.b.lifecycle", &[], 2).await;
        assert_eq!(
            (ids(&lifecycle), &lifecycle[1].1["kind"]),
            (vec![1, 2], &json!("worker.running")),
            "{engine:?}"
        );
        let metrics = world.http.get("/internal/v1/spacetime/sync/metrics").await.json();
        assert!(metrics["mirror"]["published_total"].as_u64().unwrap() >= 12, "{metrics}");
        assert_eq!(metrics["mirror"]["failed_total"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_no_longer_kept_is_410_and_says_where_to_go_on() {
    let options = oa_testkit::WorldOptions {
        runtime: Box::new(|config| config.lifecycle_retention = 3),
        ..oa_testkit::WorldOptions::default()
    };
    let world = World::with(options).await;
    world.http.post("/internal/v1/workers", &json!({"worker_id": "w", "owner_user_id": 1})).await;
    for _ in 0..9 {
        world.http.post("/internal/v1/workers/w/heartbeat", &json!({"owner_user_id": 1})).await;
    }
    assert_eq!(
        ids(&read(&world.http, "/streams/runtime.worker.w.lifecycle?after=7", &[], 3).await),
        [8, 9, 10]
    );
    let stale = world.http.get("/streams/runtime.worker.w.lifecycle?after=2").await;
    assert_eq!(stale.status, 410, "{}", stale.text());
    assert_eq!((&stale.json()["error"], &stale.json()["resume_after"]), (&json!("stale_cursor"), &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_followed_by_its_owner_only() {
    let world = World::new().await;
    let client = world.signing_client();
    let speaking_for = |id| Manner {
        owner: Some(Owner::User(id)),
        timeout: Some(Duration::from_secs(5)),
        ..Manner::default()
    };
    let begun = Call::<matrix::RunsStart> { path: Nothing {}, query: Nothing {}, body: StartRun::default() };
    let run = client.call_with(begun, speaking_for(7)).await.unwrap().run;
    world.http.post("/internal/v1/workers", &json!({"worker_id": "w", "owner_user_id": 7})).await;
    for (stream, refused) in [
        (format!("runtime.run.{}.events", run.id), 404),
        ("runtime.worker.w.lifecycle".to_owned(), 404),
        ("runtime.fleet.user.7.workers".to_owned(), 403),
        ("runtime.topic.fraud.incidents".to_owned(), 404),
    ] {
        let look = || Call::<matrix::StreamsSubscribe> {
            path: StreamPath { stream: stream.clone() },
            query: FollowStream { after: None, until_head: Some(true) },
            body: Nothing {},
        };
        assert_eq!(client.open(look(), speaking_for(8)).await.unwrap().status(), refused, "{stream}");
        let own = client.open(look(), speaking_for(7)).await.unwrap().status().as_u16();
        assert_eq!(own, if stream.starts_with("runtime.topic") { 404 } else { 200 }, "{stream}");
    }
    assert_eq!(world.http.get("/streams/runtime.topic.fraud.incidents?until_head=true").await.status, 200);
}
