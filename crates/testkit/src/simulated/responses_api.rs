//! SIMULATED model: speaks the Responses API over a real socket as far as codex needs it, says what the test wrote down, and goes on only when the test lets it.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

/// What the model does when it is asked.
#[derive(Clone, Debug)]
pub enum SimulatedAnswer {
    /// Wants a command to be run; `escalated` asks for it to be run outside codex's sandbox, so that codex asks
    /// for permission.
    Run { command: String, escalated: bool },
    /// Says something, piece by piece; `stepped` waits for the test before every piece and before the end.
    Say { pieces: Vec<String>, stepped: bool },
}

impl SimulatedAnswer {
    pub fn run(command: &str) -> Self {
        SimulatedAnswer::Run { command: command.to_owned(), escalated: false }
    }

    pub fn run_escalated(command: &str) -> Self {
        SimulatedAnswer::Run { command: command.to_owned(), escalated: true }
    }

    pub fn say(pieces: &[&str]) -> Self {
        let pieces = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        SimulatedAnswer::Say { pieces, stepped: false }
    }

    pub fn say_stepped(pieces: &[&str]) -> Self {
        let pieces = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        SimulatedAnswer::Say { pieces, stepped: true }
    }
}

struct Model {
    answers: Vec<SimulatedAnswer>,
    asked: Mutex<Vec<Value>>,
    next: AtomicUsize,
    steps: Semaphore,
}

/// A model that answers as it was told, one answer after the other.
pub struct SimulatedResponses {
    model: Arc<Model>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl SimulatedResponses {
    pub async fn start(answers: Vec<SimulatedAnswer>) -> io::Result<Self> {
        let model = Arc::new(Model {
            answers,
            asked: Mutex::default(),
            next: AtomicUsize::new(0),
            steps: Semaphore::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route("/v1/responses", post(respond)).with_state(model.clone());
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(SimulatedResponses { model, address, task })
    }

    /// Lets stepped answers go on by so many steps.
    pub fn step(&self, steps: usize) {
        self.model.steps.add_permits(steps);
    }

    /// The bodies of everything that was asked.
    pub fn asked(&self) -> Vec<Value> {
        self.model.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a configuration that makes codex ask this model and nobody else, without a key.
    pub fn configure_codex(&self, home: &Path, sandbox_mode: &str) -> io::Result<()> {
        fs::create_dir_all(home)?;
        let text = format!(
            "model = \"simulated\"\n\
             model_provider = \"simulated\"\n\
             approval_policy = \"on-request\"\n\
             sandbox_mode = \"{sandbox_mode}\"\n\
             check_for_update_on_startup = false\n\n\
             [analytics]\nenabled = false\n\n\
             [model_providers.simulated]\n\
             name = \"simulated\"\n\
             base_url = \"http://{}/v1\"\n\
             wire_api = \"responses\"\n\
             request_max_retries = 0\n\
             stream_max_retries = 0\n",
            self.address
        );
        fs::write(home.join("config.toml"), text)
    }
}

impl Drop for SimulatedResponses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(State(model): State<Arc<Model>>, body: Bytes) -> Response {
    let asked = serde_json::from_slice(&body).unwrap_or(Value::Null);
    model.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    let number = model.next.fetch_add(1, Ordering::SeqCst);
    let (tell, told) = mpsc::channel(8);
    tokio::spawn(async move {
        // Codex hangs up when a turn is interrupted.
        let _ = answer(&model, number, &tell).await;
    });
    let chunks = stream::unfold(told, |mut told| async move {
        let chunk: Bytes = told.recv().await?;
        Some((Ok::<_, Infallible>(chunk), told))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

type HungUp = mpsc::error::SendError<Bytes>;

async fn answer(model: &Model, number: usize, tell: &mpsc::Sender<Bytes>) -> Result<(), HungUp> {
    let response_id = format!("resp_simulated_{number}");
    event(tell, json!({"type": "response.created", "response": {"id": response_id}})).await?;
    match model.answers.get(number) {
        Some(SimulatedAnswer::Run { command, escalated }) => {
            let mut arguments = json!({"cmd": command});
            if *escalated {
                arguments["sandbox_permissions"] = json!("require_escalated");
                arguments["justification"] = json!("The simulated model wants to run this.");
            }
            let item = json!({
                "type": "function_call",
                "id": format!("fc_{number}"),
                "call_id": format!("call_{number}"),
                "name": "exec_command",
                "arguments": arguments.to_string(),
            });
            event(tell, json!({"type": "response.output_item.done", "output_index": 0, "item": item}))
                .await?;
        }
        Some(SimulatedAnswer::Say { pieces, stepped }) => say(model, number, tell, pieces, *stepped).await?,
        None => say(model, number, tell, &["The script has ended.".to_owned()], false).await?,
    }
    let usage = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
    });
    event(tell, json!({"type": "response.completed", "response": {"id": response_id, "usage": usage}})).await
}

async fn say(
    model: &Model,
    number: usize,
    tell: &mpsc::Sender<Bytes>,
    pieces: &[String],
    stepped: bool,
) -> Result<(), HungUp> {
    let id = format!("msg_{number}");
    let item = |text: Option<String>| {
        let content: Vec<Value> =
            text.into_iter().map(|text| json!({"type": "output_text", "text": text})).collect();
        json!({"type": "message", "role": "assistant", "id": id, "content": content})
    };
    event(tell, json!({"type": "response.output_item.added", "output_index": 0, "item": item(None)})).await?;
    for piece in pieces {
        step(model, stepped).await;
        event(tell, json!({"type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0, "delta": piece})).await?;
    }
    step(model, stepped).await;
    let whole = item(Some(pieces.concat()));
    event(tell, json!({"type": "response.output_item.done", "output_index": 0, "item": whole})).await
}

async fn step(model: &Model, stepped: bool) {
    if stepped && let Ok(permit) = model.steps.acquire().await {
        permit.forget();
    }
}

async fn event(tell: &mpsc::Sender<Bytes>, event: Value) -> Result<(), HungUp> {
    let kind = event["type"].as_str().unwrap_or_default();
    tell.send(Bytes::from(format!("event: {kind}\ndata: {event}\n\n"))).await
}
