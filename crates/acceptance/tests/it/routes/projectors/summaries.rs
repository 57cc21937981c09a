//! Checkpoints and summaries of runs (runtime-core §11).

use oa_testkit::{World, both_engines};
use serde_json::json;

use crate::routes::runs::{begin, events};

#[tokio::test(flavor = "multi_thread")]
async fn the_projection_follows_every_append_and_keeps_the_status_as_written() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        world
            .http
            .post(&events(&id), &json!({"event_type": "run.finished", "payload": {"status": "cancelled"}}))
            .await;
        let checkpoint = world.http.get(&format!("/internal/v1/projectors/checkpoints/{id}")).await.json();
        assert_eq!(checkpoint["checkpoint"]["topic"], format!("run:{id}:events"));
        assert_eq!(checkpoint["checkpoint"]["last_seq"], 2);
        assert_eq!(checkpoint["checkpoint"]["last_event_type"], "run.finished");
        let summary = world.http.get(&format!("/internal/v1/projectors/run-summary/{id}")).await.json();
        assert_eq!(summary["summary"]["status"], "cancelled");
        assert_eq!(
            (&summary["summary"]["last_seq"], &summary["summary"]["event_count"]),
            (&json!(2), &json!(2))
        );
        let hash = oa_contract::projection::projection_hash(id.parse().unwrap(), "cancelled", 2, 2);
        assert_eq!(summary["summary"]["projection_hash"], hash);
        let run = world.http.get(&format!("/internal/v1/runs/{id}")).await.json();
        assert_eq!(run["run"]["status"], "canceled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_run_has_no_projection() {
    let world = World::new().await;
    for path in ["checkpoints", "run-summary"] {
        let answered = world
            .http
            .get(&format!("/internal/v1/projectors/{path}/019503c1-8a6e-7f10-9c55-2b7f0c1d4e90"))
            .await;
        assert_eq!(
            (answered.status, answered.json()["error"].as_str().map(str::to_owned)),
            (404, Some("not_found".into()))
        );
    }
}
