//! A SIMULATED compute provider: it speaks the HTTP protocol of providers (marketplace §14.1) and runs nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::server::{Asked, Said, Server};

/// How a provider behaves.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderMood {
    /// Every command exits with this.
    Runs { exit_code: i32 },
    /// It answers with this status of its own (`cancelled`, `timeout`, `error`) and ran nothing to its end.
    Gives(&'static str),
    /// It answers with this HTTP status and these words.
    Refuses(u16, &'static str),
    /// It answers 200 with these bytes.
    Says(String),
    /// It takes the job and hangs up.
    HangsUp,
    /// It takes the job and never says anything again.
    Silent,
    /// It leads elsewhere.
    Redirects(String),
}

#[derive(Default)]
struct State {
    mood: Option<ProviderMood>,
    executions: u64,
    cache_hits: u64,
    answers: HashMap<String, Value>,
    asked: Vec<(String, Value)>,
    /// The credential of the last job.
    shown: String,
    at_once: usize,
    most_at_once: usize,
    /// Of all jobs, the most that were there at one time.
    peak: usize,
    health: u16,
    probed: u64,
    held: Option<Arc<Semaphore>>,
}

type Shared = Arc<Mutex<State>>;

/// Answers `/healthz` and `/v1/sandbox_run` on a loopback port.
pub struct SimulatedProvider {
    server: Server,
    state: Shared,
}

impl SimulatedProvider {
    pub async fn start() -> Self {
        let state: Shared =
            Arc::new(Mutex::new(State { health: 200, most_at_once: usize::MAX, ..State::default() }));
        let answering = state.clone();
        let server = Server::start(move |asked| answer(answering.clone(), asked)).await;
        SimulatedProvider { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn set(&self, mood: ProviderMood) {
        lock(&self.state).mood = Some(mood);
    }

    /// What `/healthz` answers from now on.
    pub fn health(&self, status: u16) {
        lock(&self.state).health = status;
    }

    /// How often its health was asked for.
    pub fn probed(&self) -> u64 {
        lock(&self.state).probed
    }

    /// How many jobs were run, and how many were answered from what was run before.
    pub fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.executions, state.cache_hits)
    }

    /// Every job that came: the idempotency key, and the body.
    pub fn asked(&self) -> Vec<(String, Value)> {
        lock(&self.state).asked.clone()
    }

    /// Jobs come in from now on, but none is answered until it is let go.
    pub fn hold(&self) {
        lock(&self.state).held = Some(Arc::new(Semaphore::new(0)));
    }

    /// Answers whatever is held, and is held no more.
    pub fn let_go(&self) {
        if let Some(held) = lock(&self.state).held.take() {
            held.close();
        }
    }

    /// It does no more than so many at one time, and answers 429 to the rest.
    pub fn does_at_once(&self, most: usize) {
        lock(&self.state).most_at_once = most;
    }

    /// The most jobs that were there at one time.
    pub fn peak(&self) -> usize {
        lock(&self.state).peak
    }

    /// What whoever sent the last job proved itself with.
    pub fn shown(&self) -> String {
        lock(&self.state).shown.clone()
    }

    pub fn kill(&self) {
        self.server.kill();
    }

    pub async fn revive(&self) {
        self.server.revive().await;
    }
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(state: Shared, asked: Asked) -> Said {
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/healthz") => {
            let mut state = lock(&state);
            state.probed += 1;
            Said::text(state.health, "simulated")
        }
        ("POST", "/v1/sandbox_run") => {
            let job = asked.json();
            let held = {
                let mut state = lock(&state);
                state.asked.push((asked.header("x-idempotency-key").to_owned(), job.clone()));
                state.shown = asked.header("authorization").to_owned();
                if state.at_once >= state.most_at_once {
                    return Said::text(429, "simulated crowd");
                }
                state.at_once += 1;
                state.peak = state.peak.max(state.at_once);
                state.held.clone()
            };
            if let Some(held) = held {
                let _ = held.acquire().await;
            }
            lock(&state).at_once -= 1;
            run(&state, asked.header("x-idempotency-key"), &job)
        }
        _ => Said::text(404, "no such route"),
    }
}

fn run(state: &Shared, key: &str, job: &Value) -> Said {
    let mut state = lock(state);
    let mood = state.mood.clone().unwrap_or(ProviderMood::Runs { exit_code: 0 });
    let response = match mood {
        ProviderMood::Runs { exit_code } => ran(job, exit_code),
        ProviderMood::Gives(status) => {
            let mut response = ran(job, 0);
            response["status"] = json!(status);
            response["error"] = json!("simulated trouble");
            return Said::json(200, &response);
        }
        ProviderMood::Refuses(status, words) => return Said::text(status, words),
        ProviderMood::Says(text) => return Said::text(200, &text),
        ProviderMood::HangsUp => return Said::Cut,
        ProviderMood::Silent => return Said::Silence,
        ProviderMood::Redirects(to) => return Said::text(307, "").with("location", to),
    };
    if let Some(known) = state.answers.get(key).cloned() {
        state.cache_hits += 1;
        return Said::json(200, &known);
    }
    state.executions += 1;
    state.answers.insert(key.to_owned(), response.clone());
    Said::json(200, &response)
}

fn ran(job: &Value, exit_code: i32) -> Value {
    let commands = job["commands"].as_array().cloned().unwrap_or_default();
    let runs: Vec<Value> = commands
        .iter()
        .map(|command| {
            json!({
                "cmd": command["cmd"], "exit_code": exit_code, "duration_ms": 1,
                "stdout_sha256": "sha256:98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4",
                "stderr_sha256": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "unheard_of": true,
            })
        })
        .collect();
    json!({
        "env_info": {"image_digest": job["sandbox"]["image_digest"]},
        "runs": runs,
        "artifacts": [],
        "status": if exit_code == 0 { "success" } else { "failed" },
        "provenance": {"model_id": "sandbox-simulated"},
        "simulated": true,
    })
}
