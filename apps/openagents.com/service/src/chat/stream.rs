//! Decides what a message under the former names does: it is a `turn/start`. Where a program that is the worker follows
//! its feed, the turn is told as it runs; otherwise the message is taken and the stream says no more than that (control
//! §15.1, §21.3.4).

use futures_util::stream;
use oa_contract::{
    Answer, Ask, Caller, Handle, Meta, Nothing, Stop, Streamed, Timestamp, User,
    matrix::{ChatStream, ChatsStream, CodexRequests},
    wire::{
        chat::UiMessageStream,
        codex::{CodexRequestState, NewCodexRequest, PostCodexRequest},
        paths::WorkerPath,
    },
};
use oa_store::{
    Tx,
    tables::{codex as workers, threads as rows},
};
use serde_json::{Value, json};

use super::{
    conduct::Conductor,
    conversation_id, follow,
    follow::Following,
    frames::{self, DONE, sse},
    said,
};
use crate::{
    Control,
    audit::{self, Event},
    codex::is_attached,
    gates::window,
    identity::signed_in,
    threads::{Said, append_by_user},
};

type Reply = Answer<Streamed<UiMessageStream>>;

/// Who says it, for the worker's feed.
const SOURCE: &str = "legacy-chat";

impl Handle<ChatStream> for Control {
    async fn handle(&self, ask: Ask<ChatStream>) -> Result<Reply, Stop> {
        let thread_id = said::thread_id(&ask.body.0)?;
        self.chat(thread_id, &ask.body.0, ask.caller, ask.meta).await
    }
}

impl Handle<ChatsStream> for Control {
    async fn handle(&self, ask: Ask<ChatsStream>) -> Result<Reply, Stop> {
        let thread_id = conversation_id(&ask.path.conversation_id)?;
        self.chat(Some(thread_id), &ask.body.0, ask.caller, ask.meta).await
    }
}

impl Control {
    async fn chat(
        &self,
        thread_id: Option<String>,
        body: &Value,
        caller: Caller,
        meta: Meta,
    ) -> Result<Reply, Stop> {
        let now = self.clock.now();
        let user = signed_in(&caller)?.clone();
        let turn = Turn {
            thread_id: thread_id.unwrap_or_else(|| format!("thread_{}", self.ids.uuid32())),
            text: said::text(body)?,
            worker_id: said::worker_id(body).to_owned(),
            request_id: format!("legacy_stream_{}", self.ids.uuid32()),
        };
        let look = (turn.worker_id.clone(), user.user_id.clone(), now);
        let (streamed, note) = match self.store.read("chat.worker", look, feed_of_attached).await? {
            Some(after) => (self.ask_worker(&turn, after, user.clone(), caller, &meta).await?, (0, 0)),
            None => {
                let turn_id = self.take(&turn, &user, now).await?;
                let chunks = frames::accepted(&turn.thread_id, &turn_id);
                let bytes = chunks.iter().map(|chunk| sse(chunk).len()).sum::<usize>() + DONE.len();
                (whole(&chunks), (chunks.len(), bytes))
            }
        };
        self.note_message(&turn, &user, note, &meta, now);
        Ok(self.dressed(streamed))
    }

    /// The message enters its thread, and nothing runs that could answer it.
    async fn take(&self, turn: &Turn, user: &User, now: Timestamp) -> Result<String, Stop> {
        let said = Said::by_user(format!("msg_{}", self.ids.uuid32()), turn.text.clone());
        let asked = (user.clone(), turn.thread_id.clone(), said, now);
        self.store.write("chat.accept", rows::key(&turn.thread_id), asked, append).await?;
        Ok(format!("turn_{}", self.ids.uuid32()))
    }

    /// The message goes to the worker through the ledger of its requests, and its turn is followed.
    async fn ask_worker(
        &self,
        turn: &Turn,
        after: u64,
        user: User,
        caller: Caller,
        meta: &Meta,
    ) -> Result<Streamed<UiMessageStream>, Stop> {
        // Followed from before the request: nothing of the turn can be missed.
        let conductor = Conductor::new(&turn.thread_id, &turn.request_id);
        let following = Following::new(self, user, &turn.worker_id, after, conductor)?;
        let request = NewCodexRequest {
            request_id: Some(turn.request_id.clone()),
            method: Some("turn/start".into()),
            params: json!({"text": turn.text}),
            thread_id: Some(turn.thread_id.clone()),
            source: Some(SOURCE.into()),
            wait_ms: Some(0),
            ..NewCodexRequest::default()
        };
        let ask = Ask::<CodexRequests> {
            path: WorkerPath { worker_id: turn.worker_id.clone() },
            query: Nothing {},
            body: PostCodexRequest { request },
            caller,
            meta: meta.clone(),
        };
        let state = Handle::<CodexRequests>::handle(self, ask).await?.body.data;
        Ok(match answered_at_once(&turn.thread_id, &state) {
            Some(chunks) => whole(&chunks),
            None => Streamed::new(stream::try_unfold(following, follow::next)),
        })
    }

    fn note_message(
        &self,
        turn: &Turn,
        user: &User,
        (events, bytes): (usize, usize),
        meta: &Meta,
        now: Timestamp,
    ) {
        let (events, bytes) = (events.to_string(), bytes.to_string());
        let attributes = [
            ("thread_id", turn.thread_id.as_str()),
            ("bridge_method", "turn/start"),
            ("bridge_request_id", turn.request_id.as_str()),
            ("worker_id", turn.worker_id.as_str()),
            ("adapter_preview_events", events.as_str()),
            ("adapter_preview_wire_bytes", bytes.as_str()),
        ];
        let event = Event {
            name: "legacy.chat.stream.bridge.accepted",
            user_id: Some(&user.user_id),
            attributes: &attributes,
            ..Event::default()
        };
        audit::success(event, meta, now);
    }

    fn dressed(&self, streamed: Streamed<UiMessageStream>) -> Reply {
        let compatibility = &self.config.compatibility;
        let mut answer = Answer::new(streamed)
            .with_header("cache-control", "no-cache, no-transform")
            .with_header("connection", "keep-alive")
            .with_header("x-accel-buffering", "no")
            .with_header("x-vercel-ai-ui-message-stream", "v1")
            .with_header("x-oa-protocol-version", compatibility.protocol_version.clone());
        answer.headers.extend(window(compatibility));
        answer
    }
}

/// A message and where it goes.
struct Turn {
    thread_id: String,
    text: String,
    worker_id: String,
    request_id: String,
}

/// Where the feed of a worker stands, if it is the user's and a program follows it.
async fn feed_of_attached(
    tx: &mut Tx,
    (worker_id, user_id, now): &(String, String, Timestamp),
) -> Result<Option<u64>, Stop> {
    let worker = workers::worker(tx, worker_id).await?;
    let worker = worker.filter(|worker| worker.user_id == *user_id && is_attached(worker, *now));
    Ok(worker.filter(|worker| !worker.status.is_at_rest()).map(|worker| worker.latest_seq))
}

async fn append(
    tx: &mut Tx,
    (user, thread_id, said, now): &(User, String, Said, Timestamp),
) -> Result<(), Stop> {
    append_by_user(tx, user, thread_id, said.clone(), *now).await?;
    Ok(())
}

/// The whole stream of a request that needs no following: the worker left meanwhile, or refused already.
fn answered_at_once(thread_id: &str, state: &CodexRequestState) -> Option<Vec<Value>> {
    if let Some(error) = &state.error {
        let retryable = error.retryable.unwrap_or(false);
        return Some(frames::refused(thread_id, &error.code, &error.message, retryable));
    }
    // An attached worker that answered this fast has begun a turn, which its feed tells.
    let response: Value = serde_json::from_str(state.response.as_ref()?.get()).unwrap_or_default();
    let in_process = response["message"]["id"].is_string();
    in_process.then(|| frames::accepted(thread_id, response["turn"]["id"].as_str().unwrap_or_default()))
}

fn whole(chunks: &[Value]) -> Streamed<UiMessageStream> {
    let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| sse(chunk).to_vec()).collect();
    bytes.extend_from_slice(&DONE);
    Streamed::whole(bytes)
}
