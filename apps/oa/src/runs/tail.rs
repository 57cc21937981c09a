//! Decides how a run is followed: each event once and in order, over as many connections as it takes, until the run has finished.

use std::time::Duration;

use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Nothing,
    matrix::StreamsSubscribe,
    operation::Call,
    wire::{paths::StreamPath, spacetime::FollowStream},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{line_of, output_of, sse};
use crate::{
    backoff::{Backoff, may_pass},
    failure::Failure,
    output::{Format, print_bytes, print_line},
};

/// A connection that is silent for so long is taken for dead: the server sends comments meanwhile.
const SILENCE: Duration = Duration::from_secs(90);

/// How far to follow.
#[derive(Clone, Copy, Debug)]
pub struct Follow {
    pub after: u64,
    /// End at the present head.
    pub until_head: bool,
    /// Go on behind the end of the run.
    pub past_finish: bool,
}

/// What a stream delivers (runtime-core §12).
#[derive(Deserialize)]
struct Envelope {
    sequence: u64,
    kind: String,
    published_at: String,
    payload: Box<RawValue>,
}

/// Prints the events of a run as they come.
pub async fn tail(client: &Client, run_id: Uuid, follow: Follow, format: Format) -> Result<(), Failure> {
    let mut tail = Tail {
        stream: format!("runtime.run.{run_id}.events"),
        last: follow.after,
        follow,
        format,
        mid_line: false,
    };
    let mut backoff = Backoff::new();
    loop {
        let before = tail.last;
        let error = match tail.connect(client).await {
            Ok(End::Done) => return tail.end_line(),
            Ok(End::Broke(error)) => error,
            Err(failure) => return Err(failure),
        };
        if tail.last != before {
            backoff = Backoff::new();
        }
        if !may_pass(&error) {
            return Err(Failure::call(client.base(), error));
        }
        backoff.wait(&error).await;
    }
}

enum End {
    Done,
    /// The connection ended before the run did.
    Broke(CallError),
}

struct Tail {
    stream: String,
    last: u64,
    follow: Follow,
    format: Format,
    /// Whether output was printed that did not end its line.
    mid_line: bool,
}

impl Tail {
    async fn connect(&mut self, client: &Client) -> Result<End, Failure> {
        let path = StreamPath { stream: self.stream.clone() };
        let query = FollowStream {
            after: Some(self.follow.after),
            until_head: self.follow.until_head.then_some(true),
        };
        let call = Call::<StreamsSubscribe> { path, query, body: Nothing {} };
        let last = self.last.to_string();
        let headers = [("last-event-id", last.as_str()), ("accept", "text/event-stream")];
        let manner = Manner { headers: &headers, ..Manner::default() };
        let mut response = match tokio::time::timeout(SILENCE, client.open(call, manner)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(End::Broke(error)),
            Err(_) => return Ok(End::Broke(CallError::NoAnswer("the server stays silent".to_owned()))),
        };
        if !response.status().is_success() {
            return refusal(response).await.map(End::Broke);
        }
        let mut reader = sse::Reader::default();
        loop {
            let chunk = match tokio::time::timeout(SILENCE, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) if self.follow.until_head => return Ok(End::Done),
                Ok(Ok(None)) => return Ok(End::Broke(CallError::NoAnswer("the stream ended".to_owned()))),
                Ok(Err(error)) => return Ok(End::Broke(CallError::NoAnswer(error.to_string()))),
                Err(_) => return Ok(End::Broke(CallError::NoAnswer("the server stays silent".to_owned()))),
            };
            for event in reader.read(&chunk) {
                if self.show(&event)? {
                    return Ok(End::Done);
                }
            }
        }
    }

    /// Prints an event unless it was printed before; says whether it was the last one.
    fn show(&mut self, event: &sse::Event) -> Result<bool, Failure> {
        let envelope: Envelope = serde_json::from_str(&event.data).map_err(|error| {
            Failure::wrong(format!("an event of {} cannot be read: {error}", self.stream))
        })?;
        if envelope.sequence <= self.last {
            return Ok(false);
        }
        self.last = envelope.sequence;
        match self.format {
            Format::Json => print_line(&event.data)?,
            Format::Text => self.show_text(&envelope)?,
        }
        Ok(envelope.kind == "run.finished" && !self.follow.past_finish)
    }

    fn show_text(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        let payload = serde_json::from_str(envelope.payload.get()).unwrap_or_default();
        match output_of(&envelope.kind, &payload) {
            Some(bytes) => {
                self.mid_line = !bytes.is_empty() && !bytes.ends_with(b"\n");
                print_bytes(&bytes)
            }
            None => {
                self.end_line()?;
                print_line(&line_of(
                    envelope.sequence,
                    &envelope.published_at,
                    &envelope.kind,
                    envelope.payload.get(),
                ))
            }
        }
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.mid_line) {
            true => print_bytes(b"\n"),
            false => Ok(()),
        }
    }
}

/// What the server says instead of a stream.
async fn refusal(response: reqwest::Response) -> Result<CallError, Failure> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return Ok(CallError::NoAnswer(error.to_string())),
    };
    match (oa_client::Raw { status, headers, body }).accepted() {
        Err(error) => Ok(error),
        Ok(_) => {
            Err(Failure::wrong("the server answered with something that is neither a stream nor a refusal"))
        }
    }
}
