//! Receipts, replays and exports of runs (runtime-core §10).

use oa_contract::{export, wire::runs::RunReply};
use oa_testkit::{World, both_engines};
use serde_json::{json, value::RawValue};

use super::{begin, events};

async fn a_run_with_tools(world: &World) -> String {
    let id = begin(world).await;
    for body in [
        json!({"event_type": "tool", "payload": {"tool": "shell", "params": {"cmd": "ls", "b": 1.5}, "params_hash": "sha256:aa", "output_hash": "sha256:bb", "latency_ms": 42, "side_effects": ["fs"], "exit_code": 0}, "idempotency_key": "tool-1"}),
        json!({"event_type": "verification", "payload": {"command": "cargo test", "exit_code": 0}}),
        json!({"event_type": "note", "payload": {"text": "ü\u{2028}"}}),
        json!({"event_type": "run.finished", "payload": {"status": "succeeded"}}),
    ] {
        let answered = world.http.post(&events(&id), &body).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
    }
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_the_same_to_the_byte_until_the_run_changes() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = a_run_with_tools(&world).await;
        let path = format!("/internal/v1/runs/{id}/receipt");
        let first = world.http.get(&path).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let world = world.restart().await;
        let second = world.http.get(&path).await;
        assert_eq!(first.text(), second.text());
        let receipt = first.json();
        assert_eq!(receipt["schema"], "openagents.receipt.v1");
        assert_eq!(receipt["policy_bundle_id"], "policy.build.v2");
        assert_eq!(
            receipt["metrics"],
            json!({"tool_calls": 1, "tool_latency_ms_total": 42, "verification_passed": true, "payments_msats_total": 0})
        );
        assert_eq!(
            receipt["signature"]["signer_pubkey"],
            "5be5e9478209674a96e60f1f037f6176540fd001fa1d64694770c56a7709c42c"
        );
        let tag = first.header("etag").unwrap().to_owned();
        let unchanged = world.http.send("GET", &path, &[("if-none-match", &tag)], None).await;
        assert_eq!((unchanged.status, unchanged.bytes.len()), (304, 0));
        world.http.post(&events(&id), &json!({"event_type": "note"})).await;
        let changed = world.http.send("GET", &path, &[("if-none-match", &tag)], None).await;
        assert_eq!(changed.status, 200);
        assert_ne!(changed.json()["canonical_json_sha256"], receipt["canonical_json_sha256"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_tells_the_run_from_header_to_end() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let id = a_run_with_tools(&world).await;
        let answered = world.http.get(&format!("/internal/v1/runs/{id}/replay")).await;
        assert_eq!(answered.header("content-type"), Some("application/x-ndjson"));
        let text = answered.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        let wanted = [
            "ReplayHeader",
            "SessionStart",
            "RuntimeEvent",
            "ToolCall",
            "ToolResult",
            "Verification",
            "RuntimeEvent",
            "RuntimeEvent",
            "SessionEnd",
        ];
        assert_eq!(kinds, wanted);
        assert_eq!(lines[8]["status"], "success");
        assert!(text.ends_with('\n'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_can_be_exported_and_verified_offline() {
    let world = World::new().await;
    let id = a_run_with_tools(&world).await;
    let run: RunReply =
        serde_json::from_slice(&world.http.get(&format!("/internal/v1/runs/{id}")).await.bytes).unwrap();
    let receipt = world.http.get(&format!("/internal/v1/runs/{id}/receipt")).await.text();
    let mut file = Vec::new();
    export::write_export(&run.run, &RawValue::from_string(receipt).unwrap(), &mut file).unwrap();
    let verified = export::verify_export(&file, None).unwrap();
    assert_eq!((verified.run_id.to_string(), verified.events), (id, 5));
    let text = String::from_utf8(file).unwrap().replace("cargo test", "cargo tesT");
    let unfit = export::verify_export(text.as_bytes(), None).unwrap_err();
    assert!(unfit.to_string().contains('3'), "{unfit}");
}
