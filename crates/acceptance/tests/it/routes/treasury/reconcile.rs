//! What was settled is compared with the ledger and the runs; camelCase members, and unknown ones ignored (§10.3).

use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{SETTLE, enrol, example};
use crate::routes::runs::begin;

const PATH: &str = "/internal/v1/treasury/compute/reconcile";

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_settled_is_compared_and_nothing_differs() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        for _ in 0..3 {
            let id = begin(&world).await;
            assert_eq!(world.http.post(SETTLE, &example(&id)).await.status, 200);
        }
        let body = json!({"maxAgeSeconds": -5, "maxJobs": 0, "max_jobs": 7});
        let told = world.http.post(PATH, &body).await;
        assert_eq!(told.status, 200, "{}", told.text());
        let told = told.json();
        assert_eq!(told["schema"], "openagents.treasury.compute_reconcile_summary.v1");
        assert_eq!(
            (&told["expired_reservations"], &told["freed_msats_total"], &told["updated_jobs"]),
            (&json!(0), &json!(0), &json!([]))
        );
        assert!(told["reconciled_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!((&told["drift"]["compared_jobs"], &told["drift"]["findings"]), (&json!(3), &json!([])));
        assert_eq!(world.http.post(PATH, &json!({})).await.status, 200);
        for wrong in [json!({"maxAgeSeconds": "1"}), json!({"maxJobs": -1}), json!({"maxJobs": 1.5})] {
            assert_eq!(world.http.post(PATH, &wrong).await.status, 422, "{wrong}");
        }
    }
}
