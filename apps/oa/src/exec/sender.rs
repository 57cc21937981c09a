//! Decides how recorded events reach the server: one after the other, each until it is acknowledged, under a key that makes every repetition harmless.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Nothing,
    matrix::{RunsAppend, RunsStart},
    operation::Call,
    wire::{
        paths::RunPath,
        runs::{AppendEvent, RunReply, StartRun},
    },
};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::spool::{Spool, Waiting};
use crate::backoff::{Backoff, may_pass};

/// No attempt waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How far sending has come.
#[derive(Clone, Debug)]
pub struct Progress {
    pub run_id: Option<Uuid>,
    /// When the server last acknowledged something.
    pub last: Instant,
    pub events: u64,
    /// Whether the run was ended.
    pub finished: bool,
    /// Why the last attempt failed, until one succeeds.
    pub trouble: Option<String>,
}

/// How sending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server has every event.
    Delivered,
    /// The server has every event but the last: somebody else had ended the run already.
    EndedElsewhere(String),
    /// The server will not take the rest, however often it is asked.
    Stopped(String),
}

pub struct Sender {
    pub client: Client,
    pub spool: Arc<Spool>,
    pub run_id: Option<Uuid>,
    pub start: Option<StartRun>,
}

impl Sender {
    /// Sends until everything is acknowledged and nothing will follow.
    pub async fn send(self, progress: watch::Sender<Progress>) -> Verdict {
        let run_id = match self.open(&progress).await {
            Ok(run_id) => run_id,
            Err(why) => return Verdict::Stopped(why),
        };
        progress.send_modify(|progress| progress.run_id = Some(run_id));
        loop {
            match self.spool.waiting() {
                Err(error) => return Verdict::Stopped(error.to_string()),
                Ok(None) if self.spool.is_done() => return Verdict::Delivered,
                Ok(None) => self.spool.changed().await,
                Ok(Some(waiting)) => {
                    if let Err(verdict) = self.deliver(run_id, &waiting, &progress).await {
                        return verdict;
                    }
                }
            }
        }
    }

    /// Opens the run if that has not happened yet.
    async fn open(&self, progress: &watch::Sender<Progress>) -> Result<Uuid, String> {
        if let Some(run_id) = self.run_id {
            return Ok(run_id);
        }
        let start = self
            .start
            .as_ref()
            .ok_or("the spool says neither which run it belongs to nor how to open one")?;
        let mut backoff = Backoff::new();
        loop {
            match start_run(&self.client, start).await {
                Ok(run_id) => {
                    acknowledged(progress);
                    return Ok(run_id);
                }
                Err(error) if may_pass(&error) => {
                    trouble(progress, &error);
                    backoff.wait(&error).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn deliver(
        &self,
        run_id: Uuid,
        waiting: &Waiting,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Verdict> {
        let mut backoff = Backoff::new();
        loop {
            match append(&self.client, run_id, &waiting.event).await {
                Ok(()) => break,
                Err(error) if may_pass(&error) => {
                    trouble(progress, &error);
                    backoff.wait(&error).await;
                }
                Err(error) => return self.refused(run_id, waiting, error).await,
            }
        }
        self.spool.acknowledge(waiting).map_err(|error| Verdict::Stopped(error.to_string()))?;
        acknowledged(progress);
        progress.send_modify(|progress| progress.finished |= waiting.event.event_type == "run.finished");
        Ok(())
    }

    /// The end of a run may be refused because somebody asked to cancel it, or ended it, meanwhile.
    async fn refused(&self, run_id: Uuid, waiting: &Waiting, error: CallError) -> Result<(), Verdict> {
        let event = &waiting.event;
        if event.event_type != "run.finished" || !is_transition(&error) {
            return Err(Verdict::Stopped(error.to_string()));
        }
        let canceled = AppendEvent {
            payload: serde_json::value::to_raw_value(&json!({"status": "canceled"})).ok(),
            idempotency_key: event.idempotency_key.as_ref().map(|key| format!("{key}:canceled")),
            ..event.clone()
        };
        let ended = match append(&self.client, run_id, &canceled).await {
            Ok(()) => "it was canceled while its command ran".to_owned(),
            Err(other) if is_transition(&other) => format!("somebody else had ended it ({error})"),
            Err(other) => return Err(Verdict::Stopped(other.to_string())),
        };
        self.spool.acknowledge(waiting).map_err(|error| Verdict::Stopped(error.to_string()))?;
        Err(Verdict::EndedElsewhere(ended))
    }
}

fn is_transition(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 400, message, .. } if message.contains("invalid run transition"))
}

fn acknowledged(progress: &watch::Sender<Progress>) {
    progress.send_modify(|progress| {
        progress.last = Instant::now();
        progress.events += 1;
        progress.trouble = None;
    });
}

fn trouble(progress: &watch::Sender<Progress>, error: &CallError) {
    progress.send_modify(|progress| progress.trouble = Some(error.to_string()));
}

/// Opens a run; with the same key always the same one.
pub async fn start_run(client: &Client, start: &StartRun) -> Result<Uuid, CallError> {
    let call = Call::<RunsStart> { path: Nothing {}, query: Nothing {}, body: start.clone() };
    let manner = Manner { timeout: Some(ANSWER), ..Manner::default() };
    let reply: RunReply = client.call_with(call, manner).await?;
    Ok(reply.run.id)
}

/// Adds an event to a run.
pub async fn append(client: &Client, run_id: Uuid, event: &AppendEvent) -> Result<(), CallError> {
    let call = Call::<RunsAppend> { path: RunPath { run_id }, query: Nothing {}, body: event.clone() };
    let manner =
        Manner { headers: &[("prefer", "return=minimal")], timeout: Some(ANSWER), ..Manner::default() };
    // Which event it became does not matter here: an answer of success is the acknowledgement.
    client.send(call, manner).await?.accepted().map(drop)
}
