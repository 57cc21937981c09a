//! Whoever serves control looks after its open payments too: `oa up` and `oa control` alike.

use std::{
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use oa_testkit::{
    Http,
    simulated::{ExecutorMood, SimulatedL402Service, SimulatedLightning, SimulatedWalletExecutor},
};
use serde_json::{Value, json};

use crate::server::{Server, oa};

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the command and waits until it says where control is.
async fn serve(data: &Path, arguments: &[&str], executor: &SimulatedWalletExecutor) -> (Serving, String) {
    let mut command = oa();
    command.arg(arguments[0]).arg("--data").arg(data).args(&arguments[1..]);
    command.envs(executor.variables()).envs([
        ("OA_TRUST_MODE", "lenient"),
        ("OA_L402_ALLOW_PRIVATE_NETWORKS", "1"),
        ("OA_TOOLS_SETTLE_SECONDS", "1"),
    ]);
    let mut serving = Serving(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap());
    loop {
        if let Ok(text) = std::fs::read_to_string(data.join("endpoints.json")) {
            let endpoints: Value = serde_json::from_str(&text).unwrap();
            return (serving, endpoints["control"].as_str().unwrap().to_owned());
        }
        assert!(serving.0.try_wait().unwrap().is_none(), "it ended early");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_end_nobody_heard_is_asked_about_without_being_asked() {
    let nowhere = "127.0.0.1:0";
    for arguments in [
        &["control", "--bind", nowhere][..],
        &["up", "--runtime-addr", nowhere, "--control-addr", nowhere][..],
    ] {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let token = Server::control(&data).add_user("dev@example.com");
        let lightning = SimulatedLightning::default();
        let executor = SimulatedWalletExecutor::start(lightning.clone()).await;
        let service = SimulatedL402Service::start(lightning.clone(), 1_000).await;
        let (_serving, url) = serve(&data, arguments, &executor).await;
        let user = Http::new(url, Some(token));
        let body = json!({"tool_pack": "lightning.v1", "manifest": {}, "policy": {"l402_require_approval": false},
            "request": {"operation": "lightning_l402_fetch", "url": service.url("/answer")}});
        executor.become_(ExecutorMood::PaysSilently);
        let first = user.post("/api/runtime/tools/execute", &body).await;
        assert_eq!(first.json()["data"]["reason_code"], "invoice_payment_unknown", "{}", first.text());
        while executor.asked_about() == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let second = user.post("/api/runtime/tools/execute", &body).await;
        assert_eq!(second.json()["data"]["reason_code"], "paid_fetch_completed", "{}", second.text());
        assert_eq!((lightning.payments(), executor.asked_to_pay()), (1, 1));
    }
}
