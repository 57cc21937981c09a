//! SIMULATED collector of spans: takes OTLP over HTTP in its JSON form and keeps what it was sent.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::server::{Asked, Said, Server};

pub struct SimulatedCollector {
    server: Server,
    spans: Arc<Mutex<Vec<Collected>>>,
}

/// A span, and which service told of it.
#[derive(Clone, Debug)]
pub struct Collected {
    pub service: String,
    pub span: Value,
}

impl SimulatedCollector {
    pub async fn start() -> Self {
        let spans: Arc<Mutex<Vec<Collected>>> = Arc::default();
        let kept = spans.clone();
        let server = Server::start(move |asked| {
            let said = answer(&asked, &mut kept.lock().unwrap_or_else(PoisonError::into_inner));
            async move { said }
        })
        .await;
        SimulatedCollector { server, spans }
    }

    /// Where spans are sent.
    pub fn endpoint(&self) -> String {
        format!("{}/v1/traces", self.server.url())
    }

    pub fn down(&self) {
        self.server.kill();
    }

    /// The spans of a trace so far.
    pub fn of(&self, trace: &str) -> Vec<Collected> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().filter(|one| one.span["traceId"] == trace).cloned().collect()
    }
}

fn answer(asked: &Asked, kept: &mut Vec<Collected>) -> Said {
    if asked.path != "/v1/traces" || !asked.header("content-type").starts_with("application/json") {
        return Said::text(415, "only JSON at /v1/traces");
    }
    let told = asked.json();
    for resource in told["resourceSpans"].as_array().into_iter().flatten() {
        let named = &resource["resource"]["attributes"][0];
        for scope in resource["scopeSpans"].as_array().into_iter().flatten() {
            for span in scope["spans"].as_array().into_iter().flatten() {
                let service = named["value"]["stringValue"].as_str().unwrap_or_default().to_owned();
                kept.push(Collected { service, span: span.clone() });
            }
        }
    }
    Said::json(200, &serde_json::json!({}))
}
