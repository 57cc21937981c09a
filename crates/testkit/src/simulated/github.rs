//! SIMULATED GitHub: issue 42, pull request 7, and the comments that were posted, over the REST paths that we use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::server::{Asked, Said, Server};

pub const TOKEN: &str = "ghp_simulated";

/// How it meets requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// Takes a comment and cuts the connection.
    PostsAndCuts,
    /// Answers everything with this status and header.
    Status(u16, Option<(&'static str, &'static str)>),
    Garbage,
}

struct State {
    mood: Mood,
    comments: Vec<Value>,
    requests: u32,
}

pub struct SimulatedGitHub {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// So many comments a page, whatever is asked for.
const PAGE: usize = 3;

impl SimulatedGitHub {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State { mood: Mood::Good, comments: Vec::new(), requests: 0 }));
        let held = state.clone();
        let server = Server::start(move |asked| {
            let said = answer(&asked, &mut locked(&held));
            async move { said }
        })
        .await;
        SimulatedGitHub { server, state }
    }

    /// What control is told about it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OA_CODING_EXECUTOR", "github".into()),
            ("OA_GITHUB_API_BASE_URL", self.server.url()),
            ("OA_GITHUB_TOKEN", TOKEN.into()),
        ]
    }

    pub fn down(&self) {
        self.server.kill();
    }

    pub async fn up(&self) {
        self.server.revive().await;
    }

    pub fn become_(&self, mood: Mood) {
        locked(&self.state).mood = mood;
    }

    pub fn comments(&self) -> Vec<Value> {
        locked(&self.state).comments.clone()
    }

    /// Somebody else comments.
    pub fn chatter(&self, count: usize) {
        let mut state = locked(&self.state);
        for _ in 0..count {
            add(&mut state, "me too");
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(state: &mut State, body: &str) -> Value {
    let id = 1_000 + state.comments.len();
    let comment = json!({"id": id, "body": body, "html_url": format!("https://github.com/acme/widgets/issues/42#issuecomment-{id}")});
    state.comments.push(comment.clone());
    comment
}

fn answer(asked: &Asked, state: &mut State) -> Said {
    state.requests += 1;
    match &state.mood {
        Mood::Status(status, header) => {
            let said = Said::json(*status, &json!({"message": "simulated"}));
            return match header {
                Some((name, value)) => said.with(name, *value),
                None => said,
            };
        }
        Mood::Garbage => return Said::text(200, "<html>"),
        Mood::Good | Mood::PostsAndCuts => {}
    }
    if asked.header("authorization") != format!("Bearer {TOKEN}") {
        return Said::json(401, &json!({"message": "Bad credentials"}));
    }
    let segments = asked.segments();
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    match (asked.method.as_str(), segments.as_slice()) {
        ("GET", ["repos", "acme", "widgets", "issues", "42"]) => Said::json(
            200,
            &json!({"number": 42, "title": "It leaks", "state": "open", "html_url": "https://github.com/acme/widgets/issues/42"}),
        ),
        ("GET", ["repos", "acme", "widgets", "pulls", "7"]) => Said::json(
            200,
            &json!({"number": 7, "title": "Mend it", "state": "open", "html_url": "https://github.com/acme/widgets/pull/7"}),
        ),
        ("GET", ["repos", "acme", "widgets", "issues", "42", "comments"]) => page(asked, state),
        ("POST", ["repos", "acme", "widgets", "issues", "42", "comments"]) => {
            let posted = add(state, asked.json()["body"].as_str().unwrap_or_default());
            match state.mood {
                Mood::PostsAndCuts => Said::Cut,
                _ => Said::json(201, &posted),
            }
        }
        _ => Said::json(404, &json!({"message": "Not Found"})),
    }
}

fn page(asked: &Asked, state: &State) -> Said {
    let number: usize = asked.query.get("page").and_then(|text| text.parse().ok()).unwrap_or(1);
    let from = (number.max(1) - 1) * PAGE;
    let shown: Vec<_> = state.comments.iter().skip(from).take(PAGE).cloned().collect();
    let said = Said::json(200, &json!(shown));
    match from + PAGE < state.comments.len() {
        true => said.with("link", format!("<http://simulated/?page={}>; rel=\"next\"", number + 1)),
        false => said,
    }
}
