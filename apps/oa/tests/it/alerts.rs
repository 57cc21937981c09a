//! The alert rules name metrics that a real process exposes, and what they would call for is in them.

use std::collections::BTreeMap;

use oa_testkit::{
    Http,
    simulated::{EXECUTOR_TOKEN, ExecutorMood, SimulatedLightning, SimulatedWalletExecutor},
};
use serde_json::json;

use crate::{
    backup::{pay, quoted},
    server::Server,
};

const RULES: &str = include_str!("../../../../deploy/alerts.yaml");
const CASES: &str = include_str!("../../../../deploy/alerts.test.yaml");

/// The metrics that a text names.
const RELAY: &str = "oa_bridge_oldest_seconds{relay=\"127.0.0.1:9\"}";

fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
    words.filter(|word| word.starts_with("oa_"))
}

/// Every series of `/metrics`, by its name with labels.
async fn scraped(http: &Http) -> BTreeMap<String, f64> {
    let text = http.get("/metrics").await.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            Some((line.rsplit_once(' ')?.0.to_owned(), line.rsplit_once(' ')?.1.parse().ok()?))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_a_rule_is_exposed_and_says_what_is_so() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let executor = SimulatedWalletExecutor::start(SimulatedLightning::default()).await;
    let environment = [
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL", executor.url()),
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN", EXECUTOR_TOKEN.to_owned()),
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", "400".to_owned()),
        ("RUNTIME_LIQUIDITY_POOL_SNAPSHOT_WORKER_ENABLED", "false".to_owned()),
        // Nobody is there, and what waits is measured all the same.
        ("RUNTIME_BRIDGE_NOSTR_RELAYS", "ws://127.0.0.1:9".to_owned()),
    ];
    let mut runtime = Server::new(&data);
    runtime.environment = environment.to_vec();
    runtime.start().await;
    let http = runtime.http();
    let create = json!({"schema": "openagents.liquidity.pool.create_request.v1", "operator_id": "o",
        "pool_kind": "llp", "status": "active", "config": {"schema": "openagents.liquidity.pool_config.v1"}});
    let created = http.post("/internal/v1/pools/llp-main/admin/create", &create).await;
    assert_eq!(created.status, 200, "{}", created.text());
    let quote = quoted(&http, &executor.lightning, "k").await;
    executor.become_(ExecutorMood::PaysSilently);
    executor.tells(false);
    assert_eq!(pay(&http, &quote).await.0, 409);
    // The first look of the next process finds both.
    runtime.kill();
    runtime.start().await;
    let mut control = Server::control(&home.path().join("control"));
    control.start().await;
    let control_http = Http::new(control.url(), None);
    let mut series = BTreeMap::new();
    for _ in 0..400 {
        series = scraped(&http).await;
        series.extend(scraped(&control_http).await);
        let looked =
            ["oa_payments_open", "oa_tool_payments_open", "oa_disk_free_bytes", "oa_wallet_reachable", RELAY];
        if looked.iter().all(|name| series.contains_key(*name)) && series["oa_wallet_reachable"] == 1.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let exposed = |name: &str| series.keys().any(|one| one.split('{').next() == Some(name));
    for (file, text) in [("alerts.yaml", RULES), ("alerts.test.yaml", CASES)] {
        assert!(named(text).count() > 10, "{file}");
        for name in named(text) {
            assert!(exposed(name), "{file} names {name}, which is not exposed: {:#?}", series.keys());
        }
    }
    let is = |name: &str| series.get(name).copied();
    assert_eq!(is("oa_payments_open"), Some(1.0));
    assert!(is("oa_payments_oldest_open_seconds") >= Some(0.001));
    for (name, value) in [
        ("oa_ready{service=\"runtime\"}", 1.0),
        ("oa_ready{service=\"control\"}", 1.0),
        ("oa_store_writable{service=\"runtime\"}", 1.0),
        ("oa_ledger_sound", 1.0),
        ("oa_wallet_configured", 1.0),
        ("oa_treasury_findings", 0.0),
        ("oa_withdrawals_overdue", 0.0),
        ("oa_tool_payments_open", 0.0),
        ("oa_outbox_dead_letters", 0.0),
    ] {
        assert_eq!(is(name), Some(value), "{name}");
    }
    assert!(is("oa_pool_snapshot_age_seconds{pool=\"llp-main\"}") > Some(0.0), "it was never snapshot");
    assert!(is("oa_disk_free_bytes") > Some(0.0) && is("oa_disk_free_bytes") <= is("oa_disk_size_bytes"));
    assert!(is("oa_background_age_seconds{task=\"publisher\"}") < Some(60.0));
    executor.down();
    for _ in 0..800 {
        if scraped(&http).await["oa_wallet_reachable"] == 0.0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the wallet is gone, and /metrics does not say so");
}
