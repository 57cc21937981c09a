//! `GET /api/v1/control/status`: who owns each `/api/runtime` row (control §8.2).

use oa_contract::matrix::CONTROL;
use oa_testkit::World;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_shows_the_ownership_table_and_the_sunset() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let answered = user.get("/api/v1/control/status").await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.header("x-oa-compat-sunset-date"), Some("2026-06-30"));
    assert_eq!(answered.header("sunset"), Some("Tue, 30 Jun 2026 00:00:00 GMT"));
    let shown = answered.json()["data"]["runtimeRouteOwnership"].clone();
    let wanted: Vec<_> = CONTROL
        .iter()
        .map(|row| {
            json!({"method": row.method.name(), "path": row.path, "owner": row.lane.owner().label(), "delivery": row.lane.delivery(),
                "migration_status": row.lane.migration_status(), "rationale": row.rationale.trim()})
        })
        .collect();
    assert_eq!(shown, json!(wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_is_for_signed_in_users_and_carries_the_sunset_even_then() {
    let world = World::new().await;
    let answered = world.control_http.get("/api/v1/control/status").await;
    assert_eq!(answered.status, 401);
    assert_eq!(answered.header("x-oa-compat-sunset-date"), Some("2026-06-30"));
    assert!(world.control_http.get("/api/runtime/workers").await.header("sunset").is_none());
}
