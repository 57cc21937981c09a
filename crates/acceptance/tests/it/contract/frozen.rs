//! What a read-only instance refuses, row by row, and the rows that may write all the same.

use oa_contract::{Method, Row, Service, matrix::rows, openapi};
use oa_runtime::WriteMode;
use oa_testkit::{World, WorldOptions};
use serde_json::json;

use super::{
    examples::{example, operation},
    send, some_path,
};

/// Rows of the runtime that take a POST and are not gated: what comes in from outside and cannot be asked for
/// again, calculations, prices, and the end of sessions. None moves money and none asks a provider for anything.
const OPEN: [&str; 6] = [
    "comms.delivery_events",
    "marketplace.quote_sandbox_run",
    "marketplace.route_provider",
    "sync.revoke",
    "verifications.repo_index",
    "verifications.sandbox_run",
];

#[test]
fn every_row_that_writes_is_gated_or_says_here_that_it_is_not() {
    let writes = |row: &&Row| row.served_by() == Service::Runtime && row.method != Method::Get;
    let mut open: Vec<&str> = rows().filter(writes).filter(|row| !row.gated).map(|row| row.name).collect();
    open.sort_unstable();
    assert_eq!(open, OPEN);
    let asked: Vec<&str> =
        rows().filter(|row| row.gated && row.method == Method::Get).map(|row| row.name).collect();
    assert_eq!(asked, Vec::<&str>::new(), "reading goes on while writes are frozen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_refuses_every_gated_row_and_writes_nothing() {
    let document = openapi::document(Service::Runtime);
    for mode in [WriteMode::ReadOnly, WriteMode::ShadowOnly] {
        let frozen = move |config: &mut oa_runtime::Config| config.write_mode = mode;
        let world = World::with(WorldOptions { runtime: Box::new(frozen), ..WorldOptions::default() }).await;
        let before = world.kept();
        let mut asked = 0;
        for row in rows().filter(|row| row.gated) {
            assert_eq!(row.served_by(), Service::Runtime, "{}: control has no write mode", row.name);
            // Its own example: what would be written, were writes not frozen.
            let body = example(&document, operation(&document, row));
            let body = body.or_else(|| (row.method == Method::Post).then(|| json!({})));
            let answered = send(&world.http, row.method, &some_path(row), body).await;
            let said = format!("runtime authority writes are disabled in mode {}", mode.name());
            let told = answered.json();
            assert_eq!(
                (answered.status, &told["error"], &told["message"]),
                (503, &json!("write_path_frozen"), &json!(said)),
                "{}",
                row.name
            );
            asked += 1;
        }
        assert!(asked > 30, "only {asked} rows are gated");
        assert_eq!(world.kept(), before, "{}", mode.name());
    }
}
