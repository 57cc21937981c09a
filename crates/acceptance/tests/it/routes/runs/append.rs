//! `POST /internal/v1/runs/:run_id/events` (runtime-core §9.3).

use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{begin, events, seqs};

#[tokio::test(flavor = "multi_thread")]
async fn an_appended_event_has_the_next_number_and_keeps_its_payload() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        let body = json!({"event_type": " run.step.completed ", "payload": {"step": 1, "label": "compile"}, "idempotency_key": "step-1", "expected_previous_seq": 1});
        let answered = world.http.post(&events(&id), &body).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let event = &answered.json()["run"]["events"][1];
        assert_eq!(event["seq"], 2);
        assert_eq!(event["event_type"], "run.step.completed");
        assert_eq!(event["payload"], body["payload"]);
        assert_eq!(event["idempotency_key"], "step-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimal_answer_names_the_event_and_is_the_same_on_a_replay() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        let body = json!({"event_type": "step", "payload": [1, 2], "idempotency_key": "k"});
        let minimal = [("prefer", "return=minimal")];
        let first = world.http.post_with(&events(&id), &body, &minimal).await;
        assert_eq!(first.header("preference-applied"), Some("return=minimal"));
        assert_eq!(first.json()["seq"], 2);
        world.http.post(&events(&id), &json!({"event_type": "other"})).await;
        let again = world.http.post_with(&events(&id), &body, &minimal).await;
        assert_eq!((again.status, again.json()), (200, first.json()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_key_with_another_event_is_a_conflict_and_changes_nothing() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        let body = json!({"event_type": "step", "payload": {"a": 1}, "idempotency_key": "k"});
        world.http.post(&events(&id), &body).await;
        for other in [
            json!({"event_type": "step", "payload": {"a": 2}, "idempotency_key": "k"}),
            json!({"event_type": "run.finished", "payload": {"status": "succeeded"}, "idempotency_key": "k"}),
        ] {
            let refused = world.http.post(&events(&id), &other).await;
            assert_eq!(refused.status, 409, "{}", refused.text());
            assert_eq!(refused.json()["message"], "idempotency_key already used with different event");
        }
        let run = world.http.get(&format!("/internal/v1/runs/{id}")).await.json();
        assert_eq!((seqs(&run), run["run"]["status"].as_str()), (vec![1, 2], Some("running")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_answered_in_every_state_and_whatever_was_expected() {
    let world = World::new().await;
    let id = begin(&world).await;
    let finish = json!({"event_type": "run.finished", "payload": {"status": "succeeded"}, "idempotency_key": "fin", "expected_previous_seq": 1});
    assert_eq!(world.http.post(&events(&id), &finish).await.status, 200);
    let again = world.http.post(&events(&id), &finish).await;
    assert_eq!((again.status, seqs(&again.json())), (200, vec![1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_in_the_specified_order_with_the_specified_sentences() {
    let world = World::new().await;
    let id = begin(&world).await;
    let refused = async |body: serde_json::Value| {
        let answered = world.http.post(&events(&id), &body).await;
        (answered.status, answered.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    let unknown =
        world.http.post(&events("019503c1-8a6e-7f10-9c55-2b7f0c1d4e90"), &json!({"event_type": " "})).await;
    assert_eq!(unknown.status, 400, "a blank type is seen before an unknown run");
    assert_eq!(
        refused(json!({"event_type": "step", "expected_previous_seq": 7})).await,
        (409, "expected_previous_seq 7 does not match actual previous seq 1".into())
    );
    assert_eq!(
        refused(json!({"event_type": "run.finished"})).await,
        (400, "run.finished requires payload.status".into())
    );
    assert_eq!(
        refused(json!({"event_type": "run.finished", "payload": {"status": "maybe"}})).await,
        (400, "invalid run.finished payload.status: maybe".into())
    );
    world
        .http
        .post(&events(&id), &json!({"event_type": "run.finished", "payload": {"status": "cancelled"}}))
        .await;
    assert_eq!(
        refused(json!({"event_type": "run.cancel_requested", "expected_previous_seq": 99})).await,
        (400, "invalid run transition: Canceled -> RequestCancel".into())
    );
    assert_eq!(
        refused(json!({"event_type": "tool", "payload": {}})).await,
        (400, "invalid tool receipt payload: missing tool".into())
    );
    let late = world.http.post(&events(&id), &json!({"event_type": "note"})).await;
    assert_eq!((late.status, seqs(&late.json())), (200, vec![1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_writers_to_one_run_get_contiguous_numbers() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (http, path) = (world.http.clone(), events(&id));
            tasks.spawn(async move {
                let mut seqs = Vec::new();
                for step in 0..20 {
                    let body = json!({"event_type": "step", "payload": {"writer": writer, "step": step}});
                    let answered = http.post_with(&path, &body, &[("prefer", "return=minimal")]).await;
                    assert_eq!(answered.status, 200, "{}", answered.text());
                    seqs.push(answered.json()["seq"].as_u64().unwrap());
                }
                seqs
            });
        }
        let mut all: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (2..=161).collect::<Vec<_>>(), "{engine:?}");
        let run = world.http.get(&format!("/internal/v1/runs/{id}")).await.json();
        assert_eq!(seqs(&run), (1..=161).collect::<Vec<_>>(), "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_duplicates_of_a_key_have_one_effect() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (http, path) = (world.http.clone(), events(&id));
            let body = json!({"event_type": "step", "payload": {"once": true}, "idempotency_key": "one"});
            tasks.spawn(async move { http.post_with(&path, &body, &[("prefer", "return=minimal")]).await });
        }
        for answered in tasks.join_all().await {
            assert_eq!((answered.status, answered.json()["seq"].as_u64()), (200, Some(2)), "{engine:?}");
        }
        let run = world.http.get(&format!("/internal/v1/runs/{id}")).await.json();
        assert_eq!(seqs(&run), vec![1, 2], "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_is_read_back_whole_in_windows_and_after_a_restart() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let (id, other) = (begin(&world).await, begin(&world).await);
        for step in 0..200 {
            let body = json!({"event_type": "step", "payload": step});
            world.http.post_with(&events(&id), &body, &[("prefer", "return=minimal")]).await;
            if step % 3 == 0 {
                world.http.post_with(&events(&other), &body, &[("prefer", "return=minimal")]).await;
            }
        }
        let world = world.restart().await;
        let run = world.http.get(&format!("/internal/v1/runs/{id}")).await.json();
        assert_eq!(seqs(&run), (1..=201).collect::<Vec<_>>(), "{engine:?}");
        assert_eq!(run["run"]["events"][200]["payload"], 199);
        for (after, limit) in
            [(0, 1), (0, 64), (63, 2), (64, 64), (127, 3), (190, 5), (200, 10), (201, 1), (500, 1)]
        {
            let window =
                world.http.get(&format!("/internal/v1/runs/{id}?after={after}&limit={limit}")).await.json();
            let wanted: Vec<u64> = (after + 1..=201).take(limit).collect();
            assert_eq!(seqs(&window), wanted, "{engine:?} after {after} limit {limit}");
        }
        let more =
            world.http.post(&events(&id), &json!({"event_type": "step", "expected_previous_seq": 201})).await;
        assert_eq!(more.status, 200, "{}", more.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_beyond_the_limit_is_refused() {
    let world = World::new().await;
    let id = begin(&world).await;
    let refused =
        world.http.post(&events(&id), &json!({"event_type": "step", "payload": "x".repeat(300_000)})).await;
    assert_eq!(
        (refused.status, refused.json()["error"].as_str().map(str::to_owned)),
        (413, Some("payload_too_large".into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_seen_by_its_owner_and_by_operators_only() {
    use oa_client::Manner;
    use oa_contract::{
        Nothing, Owner, matrix,
        operation::Call,
        wire::{
            paths::RunPath,
            runs::{EventWindow, StartRun},
        },
    };
    let world = World::new().await;
    let client = world.signing_client();
    let speaking_for = |id| Manner { owner: Some(Owner::User(id)), ..Manner::default() };
    let begun = Call::<matrix::RunsStart> { path: Nothing {}, query: Nothing {}, body: StartRun::default() };
    let run = client.call_with(begun, speaking_for(7)).await.unwrap().run;
    let look = || Call::<matrix::RunsGet> {
        path: RunPath { run_id: run.id },
        query: EventWindow::default(),
        body: Nothing {},
    };
    assert_eq!(client.send(look(), speaking_for(7)).await.unwrap().status, 200);
    assert_eq!(client.send(look(), speaking_for(8)).await.unwrap().status, 404);
    assert_eq!(world.http.get(&format!("/internal/v1/runs/{}", run.id)).await.status, 200);
    for tail in ["/receipt", "/replay"] {
        assert_eq!(world.http.get(&format!("/internal/v1/runs/{}{tail}", run.id)).await.status, 200);
    }
}
