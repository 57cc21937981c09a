//! `GET /api/v1/control/status`: who owns each `/api/runtime` row (control §8.2).

use oa_contract::matrix::CONTROL;
use oa_testkit::World;
use serde_json::json;

const DOCUMENT: &str = "docs/audits/2026-02-25-oa-audit-phase5-compatibility-lane-signoff.md";

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_shows_the_ownership_table_and_the_sunset() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let answered = user.get("/api/v1/control/status").await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.header("x-oa-compat-sunset-date"), Some("2026-06-30"));
    assert_eq!(answered.header("sunset"), Some("Tue, 30 Jun 2026 00:00:00 GMT"));
    assert_eq!(answered.header("x-oa-compat-migration-doc"), Some(DOCUMENT));
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

#[tokio::test(flavor = "multi_thread")]
async fn the_document_that_the_lanes_name_is_in_the_repository_and_where_their_link_leads() {
    let world = World::new().await;
    let lane = world.control_http.get("/api/v1/control/status").await;
    let link = lane.header("link").expect("a link").to_owned();
    assert!(link.contains("rel=\"sunset\"") && link.contains("rel=\"deprecation\""), "{link}");
    let path = link.strip_prefix('<').and_then(|rest| rest.split('>').next()).expect("an address");
    assert_eq!(path.strip_prefix('/'), lane.header("x-oa-compat-migration-doc"));
    let document = world.control_http.get(path).await;
    assert_eq!(document.status, 200, "{}", document.text());
    assert_eq!(document.header("content-type"), Some("text/markdown; charset=utf-8"));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let kept = std::fs::read_to_string(root.join(DOCUMENT)).expect("the document");
    assert_eq!(document.text(), kept);
    for lane in ["/api/chats", "/api/chat/stream", "/api/v1/control/"] {
        assert!(kept.contains(lane), "{lane}");
    }
}
