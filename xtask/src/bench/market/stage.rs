//! Decides what the market consists of while it is measured: one runtime, one provider, and jobs of many owners.

use std::{
    fs,
    path::Path,
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    super::{
        load::{self, Connection},
        process::{Ready, Server, free_port},
    },
    Requests,
};

/// What every job runs.
pub const COMMAND: &str = "true";
const WORKER: &str = "provider:bench";
/// Whose the provider is, and who settles.
const OWNER: u64 = 1;
/// Runs that settlements are spread over.
const RUNS: usize = 50;

pub struct Stage {
    pub runtime: Server,
    provider: Server,
    token: String,
    /// Whoever asks next: each owner may ask so often only.
    asker: u64,
}

impl Stage {
    pub fn set(program: &Path, dir: &Path) -> Result<Self> {
        let data = dir.join("oa");
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["runtime", "--bind", &format!("127.0.0.1:{port}"), "--data"]).arg(&data);
        command.env("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "true");
        // Every job run twice would be another measurement.
        command.env("RUNTIME_REEXECUTION_SAMPLE_BPS", "0");
        let runtime = Server::start(command, port, &Ready::Answering("/readyz"), &dir.join("runtime.log"))?;
        let token = fs::read_to_string(data.join("keys/service.token"))?.trim().to_owned();
        let offered = free_port()?;
        let mut command = Command::new(program);
        command.args(["provider", "--id", "bench", "--bind-addr", &format!("127.0.0.1:{offered}")]);
        command.args(["--runtime-url", &format!("http://127.0.0.1:{port}"), "--token", &token, "--data"]);
        command.arg(dir.join("provider"));
        let provider =
            Server::start(command, offered, &Ready::Answering("/healthz"), &dir.join("provider.log"))?;
        let stage = Stage { runtime, provider, token, asker: 1_000 };
        stage.open_to_all()?;
        Ok(stage)
    }

    pub fn stop(self) -> Result<()> {
        self.provider.stop()?;
        self.runtime.stop()
    }

    fn headers(&self) -> String {
        format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", self.token)
    }

    fn post(&self, path: &str, body: &Value) -> Vec<u8> {
        load::request("POST", path, &self.headers(), body.to_string().as_bytes())
    }

    /// Puts the provider into the reserve pool, as soon as it is enrolled.
    fn open_to_all(&self) -> Result<()> {
        let body = json!({"owner_user_id": OWNER, "metadata_patch": {"reserve_pool": true}});
        let request = Rc::new(vec![self.post(&format!("/internal/v1/workers/{WORKER}/heartbeat"), &body)]);
        let begun = Instant::now();
        loop {
            match load::counted(self.runtime.port, &request, 200, 1, |_| Ok(())) {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > Duration::from_secs(30) => {
                    return Err(error).context("the provider was not enrolled within 30 s");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// One job of somebody new, to its answer.
    pub fn dispatch(&mut self) -> Result<Duration> {
        self.asker += 1;
        let body = json!({
            "owner_user_id": self.asker,
            "request": {"sandbox": {"image_digest": "sha256:bench", "resources": {"timeout_secs": 30}},
                "commands": [{"cmd": COMMAND}], "env": {"BENCH": self.asker.to_string()}},
        });
        let request = self.post("/internal/v1/marketplace/dispatch/sandbox-run", &body);
        load::on_one_thread(async {
            // A client keeps its connection; making one is no part of a dispatch.
            let mut connection = Connection::open(self.runtime.port).await?;
            let began = Instant::now();
            let answer = connection.exchange(&request, 200).await?;
            let took = began.elapsed();
            let answer: Value = serde_json::from_slice(answer)?;
            ensure!(answer["response"]["status"] == "success", "the job was not done: {answer}");
            Ok(took)
        })
    }

    /// Settlements of new jobs at the owner's own provider, one attempt each.
    pub fn settlements(&self, round: usize, count: usize) -> Result<Requests> {
        let create = Rc::new(vec![self.post("/internal/v1/runs", &json!({"metadata": {"round": round}}))]);
        let runs = load::counted(self.runtime.port, &create, 201, RUNS, |answer| {
            let answer: Value = serde_json::from_slice(answer)?;
            Ok(answer["run"]["id"].as_str().context("a run without its id")?.to_owned())
        })?;
        let settle = |n: usize| {
            let body = json!({
                "owner_user_id": OWNER, "run_id": runs[n % RUNS], "provider_id": "bench",
                "provider_worker_id": WORKER, "amount_msats": 1_000, "attempt": n / RUNS + 1,
                "request": {"sandbox": {"image_digest": "sha256:bench", "resources": {"timeout_secs": 30}},
                    "commands": [{"cmd": COMMAND}]},
                "response": {"env_info": {"image_digest": "sha256:bench"}, "artifacts": [], "status": "success",
                    "runs": [{"cmd": COMMAND, "exit_code": 0, "duration_ms": 1, "stdout_sha256": "o", "stderr_sha256": "e"}],
                    "provenance": {"model_id": "bench"}},
            });
            self.post("/internal/v1/treasury/compute/settle/sandbox-run", &body)
        };
        Ok(Rc::new((0..count).map(settle).collect()))
    }
}

/// What is not paid is not measured.
pub fn released(answer: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer)?;
    ensure!(answer["settlement_status"] == "released", "not paid: {answer}");
    Ok(())
}
