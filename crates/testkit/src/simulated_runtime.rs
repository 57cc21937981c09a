//! A simulation of the runtime service that decides nothing: it answers every request in the same way and
//! remembers where each one was sent.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Json, Router, extract::Request};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

/// A simulated runtime, until it is dropped.
pub struct SimulatedRuntime {
    pub url: String,
    heard: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Drop for SimulatedRuntime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl SimulatedRuntime {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        let answer = move |request: Request| {
            let line = format!("{} {}", request.method(), request.uri());
            told.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            async { Json(json!({"worker": {"simulated": true}, "workers": []})) }
        };
        let router = Router::new().fallback(answer);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        SimulatedRuntime { url, heard, server }
    }

    /// What was asked since the last look, as method and whole URI.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
