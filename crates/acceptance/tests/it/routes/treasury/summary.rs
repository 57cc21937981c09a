//! What compute has cost an owner, member by member (§10.2).

use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{J30, SETTLE, enrol, example};
use crate::routes::runs::begin;

const PATH: &str = "/internal/v1/treasury/compute/summary";

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_has_every_member_of_the_specification() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let fresh = world.http.get(&format!("{PATH}?owner_user_id=11")).await.json();
        assert_eq!(fresh["account"]["limit_msats"], 10_000_000_000_u64);
        assert_eq!((&fresh["recent_jobs"], &fresh["provider_earnings"]), (&json!([]), &json!([])));
        let _provider = enrol(&world).await;
        let id = begin(&world).await;
        world.http.post(SETTLE, &example(&id)).await;
        let told = world.http.get(&format!("{PATH}?owner_user_id=11&owner_guest_scope=%20")).await.json();
        let at = told["account"]["updated_at"].clone();
        assert!(at.as_str().unwrap().ends_with('Z'));
        assert_eq!(told["schema"], "openagents.treasury.compute_summary.v1");
        assert_eq!(told["owner_key"], "user:11");
        assert_eq!(
            told["account"],
            json!({"limit_msats":10_000_000_000_u64,"reserved_msats":0,"spent_msats":1000,"updated_at":at})
        );
        assert_eq!(
            (&told["released_msats_total"], &told["released_count"], &told["withheld_count"]),
            (&json!(1000), &json!(1), &json!(0))
        );
        assert_eq!(
            told["provider_earnings"],
            json!([{"provider_id":"provider-a","earned_msats":1000,"released_jobs":1,"withheld_jobs":0}])
        );
        let job = &told["recent_jobs"][0];
        for (member, value) in [
            ("job_hash", json!(J30)),
            ("owner_key", json!("user:11")),
            ("provider_id", json!("provider-a")),
            ("provider_worker_id", json!("worker:a")),
            ("reservation_id", json!("rsv_0bbc941015e085b5")),
            ("amount_msats", json!(1000)),
            ("status", json!("released")),
            ("verification_passed", json!(true)),
            ("exit_code", json!(0)),
            ("reserved_at", at.clone()),
            ("settled_at", at.clone()),
            ("updated_at", at.clone()),
        ] {
            assert_eq!(job[member], value, "{member}");
        }
        assert!(job.get("withheld_reason").is_none());
        for query in ["", "?owner_user_id=1&owner_guest_scope=x", "?owner_guest_scope=%20"] {
            assert_eq!(world.http.get(&format!("{PATH}{query}")).await.status, 400, "{query}");
        }
    }
}
