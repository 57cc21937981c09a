//! Spans of real processes at a SIMULATED collector.

use std::{fs, time::Duration};

use oa_testkit::{
    Http,
    simulated::{Collected, SimulatedCollector},
};
use serde_json::json;

use crate::server::Server;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn one_call_is_one_trace_through_both_services_and_a_collector_that_is_gone_harms_nobody() {
    let home = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (home.path().join("data"), home.path().join("control"));
    let collector = SimulatedCollector::start().await;
    let mut runtime = Server::new(&data);
    runtime.environment = vec![("OA_OTLP_TRACES_ENDPOINT", collector.endpoint())];
    runtime.start().await;
    let mut control = Server::control(&elsewhere);
    let token = control.add_user("dev@example.com");
    let secret = fs::read_to_string(data.join("keys/signature.secret")).unwrap();
    control.environment = vec![
        // The name that other programs know it by.
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.endpoint()),
        ("OA_RUNTIME_BASE_URL", runtime.url()),
        ("OA_RUNTIME_SIGNATURE_SECRET", secret.trim().to_owned()),
    ];
    control.start().await;
    let user = Http::new(control.url(), Some(token));
    let from = |flags: &str| format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
    let unkept = TRACE.replace("4bf9", "5bf9");
    let outside = from("00").replace(TRACE, &unkept);
    let work = json!({"workerId": "w"});
    // The first call on a busy machine may be told to come back.
    while user.post("/api/runtime/workers", &work).await.status == 503 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(user.post_with("/api/runtime/workers", &work, &[("traceparent", &outside)]).await.status, 200);
    let kept = [("traceparent", from("01")), ("x-request-id", "req-1".to_owned())];
    let kept = kept.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(user.post_with("/api/runtime/workers", &work, &kept).await.status, 200);
    let mut told: Vec<Collected> = Vec::new();
    for _ in 0..600 {
        told = collector.of(TRACE);
        if told.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let of = |service: &str| {
        let found = told.iter().find(|one| one.service == service);
        found.unwrap_or_else(|| panic!("{service}: {told:#?}")).span.clone()
    };
    let (outer, inner) = (of("oa-control"), of("oa-runtime"));
    assert_eq!(outer["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(inner["parentSpanId"], outer["spanId"]);
    assert_ne!(inner["spanId"], outer["spanId"]);
    for (span, name, status) in [(&outer, "api.workers.register", "200"), (&inner, "workers.register", "201")]
    {
        assert_eq!(span["name"], name);
        assert_eq!(span["attributes"][1]["value"]["stringValue"], "req-1");
        assert_eq!(span["attributes"][2]["value"]["intValue"], status);
        let nanos = |at: &str| span[at].as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"));
    }
    assert!(collector.of(&unkept).is_empty(), "whoever began that trace does not keep it");
    collector.down();
    assert_eq!(user.post("/api/runtime/workers", &work).await.status, 200);
    for _ in 0..600 {
        let metrics = runtime.http().get("/metrics").await.text();
        if metrics.contains("oa_otlp_spans_total{outcome=\"dropped\"}") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("spans that nobody took are not counted");
}
