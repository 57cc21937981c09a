//! Every row answers on its own port and nowhere else; nothing else answers.

use std::collections::BTreeMap;

use oa_contract::{
    Method, Service,
    matrix::{AUTHORITY, CONTROL, rows, rows_of},
};
use oa_testkit::World;
use serde_json::json;

use super::{opener, send, some_path};

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_answered_by_its_owner() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    // The session that opens the others ends last.
    let mut order: Vec<_> = rows().filter(|row| row.name != "streams.subscribe").collect();
    order.sort_by_key(|row| row.name == "auth.logout");
    for row in order {
        let http = opener(&world, &session, row).await;
        let body = (row.method == Method::Post).then(|| json!({}));
        let answered = send(&http, row.method, &some_path(row), body).await;
        let detail = answered.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(!detail.starts_with("nothing is served"), "{} is not mounted", row.name);
        assert_ne!(answered.status, 405, "{}", row.name);
        assert_eq!(answered.status == 501, !row.built, "{}: {}", row.name, answered.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_does_not_answer_on_the_other_port() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    for row in CONTROL.iter().chain(AUTHORITY) {
        let other = if row.served_by() == Service::Control { world.http.clone() } else { session.clone() };
        let body = (row.method == Method::Post).then(|| json!({}));
        assert_eq!(send(&other, row.method, &some_path(row), body).await.status, 404, "{}", row.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_refused_and_told_the_right_ones() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    for service in [Service::Control, Service::Runtime] {
        let mut served: BTreeMap<&str, Vec<&oa_contract::Row>> = BTreeMap::new();
        rows_of(service).for_each(|row| served.entry(row.path).or_default().push(row));
        for rows in served.values() {
            let http = opener(&world, &session, rows[0]).await;
            for method in ["PUT", "PATCH"] {
                let answered = http.send(method, &some_path(rows[0]), &[], None).await;
                assert_eq!(answered.status, 405, "{method} {}", rows[0].path);
                let allow = answered.header("allow").unwrap_or_default().to_owned();
                for row in rows {
                    assert!(
                        allow.contains(row.method.name()),
                        "{} does not allow {}: {allow}",
                        row.path,
                        row.method.name()
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_served_under_the_two_prefixes() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    for path in [
        "/internal/v1",
        "/internal/v1/",
        "/internal/v1/runs/",
        "/internal/v1/health",
        "/internal/v1/ownership",
        "/internal/v1/khala/token",
        "/internal/v1/sync/sessions/revoke",
        "/internal/v1/aegis/classify",
        "/internal/v1/codex/workers",
    ] {
        assert_eq!(world.http.get(path).await.status, 404, "{path}");
    }
    for path in [
        "/api/runtime",
        "/api/runtime/",
        "/api/runtime/workers/",
        "/api/runtime/runs",
        "/api/runtime/codex/workers/w/nothing",
    ] {
        assert_eq!(session.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_wherever_get_is() {
    let world = World::new().await;
    for path in ["/healthz", "/readyz", "/internal/v1/openapi.json", "/internal/v1/fraud/incidents"] {
        let answered = world.http.send("HEAD", path, &[], None).await;
        assert_eq!((answered.status, answered.bytes.len()), (200, 0), "{path}");
    }
}
