//! Decides how the control service is called: the worker makes itself known, looks at itself, posts its events and says that it stops.

use std::time::Duration;

use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Nothing,
    matrix::{CodexCreateWorker, CodexEvents, CodexGetWorker, CodexStop, CodexStream},
    operation::Call,
    wire::{
        codex::{
            CodexWorker, CodexWorkerReply, CreateCodexWorker, CreatedCodexWorkerReply, FollowCodexWorker,
            NewCodexEvent, PostCodexEvent, StopCodexWorker,
        },
        paths::WorkerPath,
    },
};
use serde_json::value::RawValue;

/// No attempt waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The control service, as one worker of it sees it.
#[derive(Clone, Debug)]
pub struct Control {
    pub client: Client,
    pub worker_id: String,
    /// What the worker says about itself.
    pub about: CreateCodexWorker,
}

impl Control {
    fn path(&self) -> WorkerPath {
        WorkerPath { worker_id: self.worker_id.clone() }
    }

    fn manner() -> Manner<'static> {
        Manner { timeout: Some(ANSWER), ..Manner::default() }
    }

    /// Makes the worker known, or brings it back to life; gives the number of its newest event.
    pub async fn attach(&self) -> Result<u64, CallError> {
        let call =
            Call::<CodexCreateWorker> { path: Nothing {}, query: Nothing {}, body: self.about.clone() };
        let reply: CreatedCodexWorkerReply = self.client.call_with(call, Self::manner()).await?;
        Ok(reply.data.latest_seq)
    }

    pub async fn look(&self) -> Result<CodexWorker, CallError> {
        let call = Call::<CodexGetWorker> { path: self.path(), query: Nothing {}, body: Nothing {} };
        let reply: CodexWorkerReply = self.client.call_with(call, Self::manner()).await?;
        Ok(reply.data)
    }

    /// Posts an event. Under an id it is taken once, however often it is posted.
    pub async fn post(
        &self,
        event_type: &str,
        payload: Box<RawValue>,
        event_id: Option<String>,
    ) -> Result<(), CallError> {
        let event =
            NewCodexEvent { event_type: Some(event_type.to_owned()), payload: Some(payload), event_id };
        let body = PostCodexEvent { event };
        let call = Call::<CodexEvents> { path: self.path(), query: Nothing {}, body };
        // Which number it got does not matter here: an answer of success is the acknowledgement.
        self.client.send(call, Self::manner()).await?.accepted().map(drop)
    }

    /// Opens the feed behind an event, as server-sent events.
    pub async fn follow(&self, after: u64) -> Result<reqwest::Response, CallError> {
        let query = FollowCodexWorker {
            cursor: Some(after),
            consumer: Some("worker".to_owned()),
            ..FollowCodexWorker::default()
        };
        let call = Call::<CodexStream> { path: self.path(), query, body: Nothing {} };
        let last = after.to_string();
        let headers = [("last-event-id", last.as_str()), ("accept", "text/event-stream")];
        self.client.open(call, Manner { headers: &headers, ..Manner::default() }).await
    }

    pub async fn stop(&self, reason: &str) -> Result<(), CallError> {
        let body = StopCodexWorker { reason: Some(reason.to_owned()) };
        let call = Call::<CodexStop> { path: self.path(), query: Nothing {}, body };
        self.client.send(call, Self::manner()).await?.accepted().map(drop)
    }
}

/// What the service says instead of a stream.
pub async fn refusal(response: reqwest::Response) -> CallError {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = match tokio::time::timeout(ANSWER, response.bytes()).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return CallError::NoAnswer(error.to_string()),
        Err(_) => return CallError::NoAnswer("the service stays silent".to_owned()),
    };
    match (oa_client::Raw { status, headers, body }).accepted() {
        Err(error) => error,
        Ok(_) => CallError::Unreadable("neither a stream nor a refusal".to_owned()),
    }
}
