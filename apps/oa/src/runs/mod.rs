//! Decides what the `oa runs` commands have in common: how a run is fetched and how its events are shown.

pub mod export;
pub mod list;
pub mod show;
pub mod sse;
pub mod tail;
#[cfg(test)]
mod tests;
pub mod verify;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oa_client::{Client, Manner};
use oa_contract::{
    Nothing,
    matrix::RunsGet,
    operation::Call,
    wire::{
        paths::RunPath,
        runs::{EventWindow, Run, RunReply},
    },
};
use serde_json::Value;
use uuid::Uuid;

use crate::{failure::Failure, output::plain};

/// A whole run may be large.
const WHOLE: Duration = Duration::from_secs(120);

/// A run with all its events.
pub async fn fetch(client: &Client, run_id: Uuid) -> Result<Run, Failure> {
    let call = Call::<RunsGet> { path: RunPath { run_id }, query: EventWindow::default(), body: Nothing {} };
    let manner = Manner { timeout: Some(WHOLE), ..Manner::default() };
    let reply: RunReply =
        client.call_with(call, manner).await.map_err(|error| Failure::call(client.base(), error))?;
    Ok(reply.run)
}

/// The bytes that an `exec.output` event carries; `None` for any other event.
pub fn output_of(kind: &str, payload: &Value) -> Option<Vec<u8>> {
    if kind != "tool" || payload["tool"] != "exec.output" {
        return None;
    }
    match (payload["text"].as_str(), payload["base64"].as_str()) {
        (Some(text), _) => Some(text.as_bytes().to_vec()),
        (None, Some(text)) => STANDARD.decode(text).ok(),
        (None, None) => None,
    }
}

/// An event on one line.
pub fn line_of(seq: u64, at: &str, kind: &str, payload: &str) -> String {
    format!("{seq:>6}  {}  {}  {}", plain(at), plain(kind), crate::output::shortened(&plain(payload), 400))
}
