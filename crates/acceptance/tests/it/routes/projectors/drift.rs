//! Drift is found by reading the log again, and repaired from it (runtime-core §11, §23.7).

use oa_store::{Tx, tables::runs};
use oa_testkit::{World, both_engines};
use serde_json::json;

use crate::routes::runs::{begin, events};

/// Makes the stored projection lie, as a bug would: through the store, seal and all.
async fn spoil(world: &World, id: &str, seq: u64) {
    let run_id: uuid::Uuid = id.parse().unwrap();
    let spoil = async |tx: &mut Tx, (run_id, seq): &(uuid::Uuid, u64)| {
        let mut head = runs::head(tx, *run_id).await?.unwrap();
        head.projected.seq = *seq;
        head.projected.count = *seq;
        runs::update_head(tx, &head).await
    };
    world.runtime.store.write("test.spoil", (), (run_id, seq), spoil).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_lies_is_reported_repaired_and_then_resolved() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = begin(&world).await;
        world.http.post(&events(&id), &json!({"event_type": "step"})).await;
        world.http.post(&events(&id), &json!({"event_type": "step"})).await;
        let path = format!("/internal/v1/projectors/drift?topic=run:{id}:events");
        assert_eq!(world.http.get(&path).await.status, 404, "{engine:?}");
        spoil(&world, &id, 1).await;
        let drift = world.http.get(&path).await;
        assert_eq!(drift.status, 200, "{}", drift.text());
        let drift = drift.json();
        assert_eq!(drift["status"], "open");
        assert_eq!(
            (
                &drift["drift"]["expected_next_seq"],
                &drift["drift"]["last_seen_seq"],
                &drift["drift"]["incoming_seq"],
                &drift["drift"]["reason"]
            ),
            (&json!(2), &json!(1), &json!(3), &json!("sequence_gap"))
        );
        assert_eq!(world.http.get(&path).await.json(), drift, "seen again, the drift is the same");
        let rebuilt = world.http.post(&format!("/admin/v1/projectors/{id}/rebuild"), &json!({})).await.json();
        assert_eq!((&rebuilt["repaired"], &rebuilt["summary"]["last_seq"]), (&json!(true), &json!(3)));
        assert_eq!(world.http.get(&path).await.json()["status"], "resolved");
    }
}
