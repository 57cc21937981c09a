//! What a provider has earned and was not yet paid, for its owner and for operators.

use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{SETTLE, enrol, example};
use crate::routes::{marketplace::get_as, runs::begin};

const PATH: &str = "/admin/v1/providers/worker:a/statement";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_adds_up_to_what_is_payable() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        let empty = get_as(&world, 11, PATH).await;
        assert_eq!((empty.status, &empty.json()["payable_msats"]), (200, &json!(0)), "{}", empty.text());
        for _ in 0..3 {
            let id = begin(&world).await;
            assert_eq!(world.http.post(SETTLE, &example(&id)).await.status, 200);
        }
        let whole = get_as(&world, 11, PATH).await.json();
        assert_eq!(whole["schema"], "openagents.treasury.provider_statement.v1");
        assert_eq!(
            (&whole["worker_id"], &whole["provider_id"], &whole["owner_key"]),
            (&json!("worker:a"), &json!("provider-a"), &json!("user:11"))
        );
        assert_eq!(
            (&whole["payable_msats"], &whole["earned_msats_total"], &whole["paid_msats_total"]),
            (&json!(3000), &json!(3000), &json!(0))
        );
        let entries = whole["entries"].as_array().unwrap();
        assert_eq!((entries.len(), whole.get("next")), (6, None));
        let sum = |member: &str| entries.iter().map(|entry| entry[member].as_i64().unwrap()).sum::<i64>();
        assert_eq!((sum("posted_msats"), sum("pending_msats")), (3000, 0));
        assert_eq!((&entries[0]["seq"], &entries[0]["step"]), (&json!(6), &json!("captured")));

        // Page by page it is the same.
        let (mut seen, mut path) = (Vec::new(), format!("{PATH}?limit=4"));
        loop {
            let page = world.http.get(&path).await.json();
            seen.extend(page["entries"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_u64() else { break };
            path = format!("{PATH}?limit=4&before={next}");
        }
        assert_eq!(&seen, entries);

        // To others there is no such worker.
        let stranger = get_as(&world, 12, PATH).await;
        let unknown = get_as(&world, 12, &PATH.replace("worker:a", "worker:b")).await;
        assert_eq!((stranger.status, unknown.status), (404, 404));
        for wrong in ["limit=x", "before=-1"] {
            assert_eq!(world.http.get(&format!("{PATH}?{wrong}")).await.status, 400, "{wrong}");
        }
    }
}
