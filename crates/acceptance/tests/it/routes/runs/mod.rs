//! `/internal/v1/runs/*`.

mod append;
mod artifacts;
mod start;

use oa_testkit::World;
use serde_json::{Value, json};

/// Begins a run and gives its id.
pub async fn begin(world: &World) -> String {
    let answered = world
        .http
        .post("/internal/v1/runs", &json!({"metadata": {"policy_bundle_id": "policy.build.v2"}}))
        .await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    answered.json()["run"]["id"].as_str().unwrap().to_owned()
}

pub fn events(run_id: &str) -> String {
    format!("/internal/v1/runs/{run_id}/events")
}

/// The sequence numbers of a whole-run answer.
pub fn seqs(answer: &Value) -> Vec<u64> {
    answer["run"]["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}
