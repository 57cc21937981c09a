//! `oa up` as a newcomer meets it.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use oa_testkit::Http;
use serde_json::json;

use crate::server::oa;

fn terminate(pid: u32) {
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn up_serves_both_services_prints_a_way_in_and_ends_in_order() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let mut child = oa()
        .arg("up")
        .arg("--data")
        .arg(&data)
        .args(["--runtime-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let endpoints = loop {
        if let Ok(text) = std::fs::read_to_string(data.join("endpoints.json")) {
            break serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        assert!(child.try_wait().unwrap().is_none(), "up ended early");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let token = std::fs::read_to_string(data.join("keys/service.token")).unwrap();
    let runtime = Http::new(endpoints["runtime"].as_str().unwrap(), Some(token.trim().into()));
    let control = Http::new(endpoints["control"].as_str().unwrap(), None);
    assert_eq!(runtime.get("/readyz").await.status, 200);
    assert_eq!(control.get("/readyz").await.status, 200);
    assert_eq!(runtime.post("/internal/v1/runs", &json!({})).await.status, 201);
    assert_eq!(control.get("/api/runtime/workers").await.status, 401);
    let sent = control.post("/api/auth/email", &json!({"email": "dev@example.com"})).await.json();
    let code = std::fs::read_to_string(data.join("keys/sign-in.code")).unwrap();
    let verified = control
        .post("/api/auth/verify", &json!({"code": code.trim(), "challenge_id": sent["challengeId"]}))
        .await
        .json();
    let user = control.with_bearer(verified["token"].as_str().unwrap());
    assert_eq!(user.post("/api/runtime/workers", &json!({"workerId": "w"})).await.status, 200);
    terminate(child.id());
    let printed: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    let printed = printed.join("\n");
    for needed in [
        endpoints["runtime"].as_str().unwrap(),
        endpoints["control"].as_str().unwrap(),
        data.to_str().unwrap(),
        "curl",
    ] {
        assert!(printed.contains(needed), "{needed} is not printed:\n{printed}");
    }
    assert!(child.wait().unwrap().success(), "SIGTERM is an orderly end");
}

#[test]
fn a_damaged_store_refuses_to_start_and_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("runtime.db"), "not a database at all, but long enough to look at").unwrap();
    let ended =
        oa().arg("runtime").arg("--data").arg(&data).args(["--bind", "127.0.0.1:0"]).output().unwrap();
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("runtime.db") && said.contains("backup"), "{said}");
}

#[test]
fn a_setting_that_does_not_parse_stops_the_start_with_its_name() {
    let home = tempfile::tempdir().unwrap();
    let ended = oa()
        .arg("runtime")
        .arg("--data")
        .arg(home.path().join("data"))
        .env("RUNTIME_VERIFIER_STRICT", "maybe")
        .output()
        .unwrap();
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("RUNTIME_VERIFIER_STRICT"));
}
