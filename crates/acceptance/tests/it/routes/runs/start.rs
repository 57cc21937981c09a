//! `POST /internal/v1/runs` (runtime-core §9.4).

use oa_testkit::{World, both_engines};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_running_with_its_first_event() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let body = json!({"worker_id": "desktop:builder-3", "metadata": {"policy_bundle_id": "policy.build.v2", "repo": "acme/api"}});
        let answered = world.http.post("/internal/v1/runs", &body).await;
        assert_eq!(answered.status, 201, "{}", answered.text());
        let run = &answered.json()["run"];
        assert_eq!(run["status"], "running");
        assert_eq!(run["worker_id"], "desktop:builder-3");
        assert_eq!(run["metadata"], body["metadata"]);
        assert_eq!(run["events"][0]["seq"], 1);
        assert_eq!(run["events"][0]["event_type"], "run.started");
        assert_eq!(run["events"][0]["payload"], json!({"source": "runtime"}));
        assert_eq!(run["events"][0]["idempotency_key"], json!(null));
        let read = world.http.get(&format!("/internal/v1/runs/{}", run["id"].as_str().unwrap())).await;
        assert_eq!(read.json()["run"], *run);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_begins_one_run_whatever_happens_to_it_later() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let body = json!({"metadata": {"b": 1, "a": 2}, "idempotency_key": "once"});
        let first = world.http.post("/internal/v1/runs", &body).await;
        let id = first.json()["run"]["id"].as_str().unwrap().to_owned();
        world
            .http
            .post(
                &super::events(&id),
                &json!({"event_type": "run.finished", "payload": {"status": "failed"}}),
            )
            .await;
        let again = world
            .http
            .post("/internal/v1/runs", &json!({"metadata": {"a": 2, "b": 1}, "idempotency_key": " once "}))
            .await;
        assert_eq!(again.status, 200);
        assert_eq!(again.json()["run"], first.json()["run"]);
        let other =
            world.http.post("/internal/v1/runs", &json!({"metadata": {}, "idempotency_key": "once"})).await;
        assert_eq!(
            (other.status, other.json()["error"].as_str().map(str::to_owned)),
            (409, Some("conflict".into()))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_duplicates_of_a_key_begin_one_run() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let http = world.http.clone();
            tasks.spawn(
                async move { http.post("/internal/v1/runs", &json!({"idempotency_key": "same"})).await },
            );
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 31);
        let listed = world.http.get("/admin/v1/runs").await.json();
        assert_eq!(listed["runs"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_takes_no_run_but_shows_them() {
    let options = oa_testkit::WorldOptions {
        runtime: Box::new(|config| config.write_mode = oa_runtime::WriteMode::ReadOnly),
        ..oa_testkit::WorldOptions::default()
    };
    let world = World::with(options).await;
    let refused = world.http.post("/internal/v1/runs", &json!({})).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"], "write_path_frozen");
    assert_eq!(refused.json()["message"], "runtime authority writes are disabled in mode read_only");
    assert_eq!(world.http.get("/readyz").await.status, 200);
    assert_eq!(world.http.get("/admin/v1/runs").await.status, 200);
}
