//! Codex workers: what they are, the feed of their events, and the requests that reach them (control §14).
//!
//! A worker is *attached* while a program that says it is the worker follows the feed
//! (`GET …/stream?consumer=worker`, as pages, long polls or server-sent events) and its adapter is not
//! `in_memory`; every look at the feed, and from then on every `worker.heartbeat`, keeps it attached for 60
//! seconds. A request to an attached worker becomes the event `worker.request` ([`Delivered`]); the worker answers with
//! exactly one event `worker.response` ([`Response`]) or `worker.error` ([`Error`]). What codex itself says comes as
//! events `worker.event` ([`Notification`]); a question of codex for permission is one that carries an
//! `approval_id`, and any client of the same owner answers it with `worker.approval` ([`Approval`]).

use std::{fmt, marker::PhantomData};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, value::RawValue};

use crate::{
    instant::Timestamp,
    operation::{Body, Data, EventStream, JsonOr, Query},
    wire::workers::{HeartbeatState, WorkerStatus},
};

/// What a worker is called that nobody described.
pub const IN_MEMORY: &str = "in_memory";
/// Methods that may be asked of a worker.
pub const METHODS: [&str; 6] =
    ["thread/start", "thread/resume", "turn/start", "turn/interrupt", "thread/list", "thread/read"];
/// Codes that a `worker.error` may carry.
pub const ERROR_CODES: [&str; 8] = [
    "unauthorized",
    "forbidden",
    "invalid_request",
    "unsupported_method",
    "conflict",
    "worker_unavailable",
    "timeout",
    "internal_error",
];
/// Decisions that answer a question for permission.
pub const DECISIONS: [&str; 4] = ["accept", "acceptForSession", "decline", "cancel"];

/// What stands behind `GET /api/runtime/codex/workers?`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListCodexWorkers {
    /// `starting`, `running`, `stopping`, `stopped` or `failed`.
    #[serde(default)]
    pub status: Option<String>,
    /// Exactly this.
    #[serde(default)]
    pub workspace_ref: Option<String>,
    /// 50 without one; brought into 1 to 200.
    #[serde(default)]
    pub limit: Option<i64>,
    /// The `next` of an earlier page.
    #[serde(default)]
    pub before: Option<String>,
}

impl Query for ListCodexWorkers {}

/// The workers of the caller, the last changed first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CodexWorkerList {
    pub data: Vec<CodexWorker>,
    /// Where older ones begin, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The snapshot of a worker; moments in whole seconds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CodexWorker {
    pub worker_id: String,
    pub status: WorkerStatus,
    pub latest_seq: u64,
    pub workspace_ref: Option<String>,
    pub codex_home_ref: Option<String>,
    pub adapter: String,
    #[schemars(with = "Option<Value>")]
    pub metadata: Option<Box<RawValue>>,
    pub started_at: String,
    pub stopped_at: Option<String>,
    pub last_heartbeat_at: Option<String>,
    pub heartbeat_age_ms: Option<i64>,
    pub heartbeat_stale_after_ms: i64,
    pub heartbeat_state: HeartbeatState,
    pub updated_at: String,
    pub khala_projection: KhalaProjection,
    /// Whether requests reach a program that is the worker; otherwise they are answered in process.
    pub attached: bool,
    /// The oldest event that the feed still holds; one more than `latest_seq` when it holds none.
    pub oldest_seq: u64,
}

/// The feed is its own projection, so that it is always in sync.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KhalaProjection {
    /// `in_sync`.
    pub status: String,
    pub lag_events: u64,
    pub last_runtime_seq: u64,
    pub last_projected_at: String,
}

pub type CodexWorkerReply = Data<CodexWorker>;

/// `POST /api/runtime/codex/workers`. An id that the caller has already is brought back to life; what is not
/// given stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"worker_id": "desktopw:lifecycle", "workspace_ref": "ws-local", "adapter": "codex_cli"}))]
pub struct CreateCodexWorker {
    /// At most 160 characters; made up when absent.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// At most 255 characters.
    #[serde(default)]
    pub workspace_ref: Option<String>,
    /// At most 255 characters.
    #[serde(default)]
    pub codex_home_ref: Option<String>,
    /// At most 120 characters; `in_memory` for a new worker without one.
    #[serde(default)]
    pub adapter: Option<String>,
    /// An object or an array of at most 64 KiB.
    #[serde(default)]
    #[schemars(with = "super::ObjectOrArray")]
    pub metadata: Option<Box<RawValue>>,
}

impl Body for CreateCodexWorker {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedCodexWorker {
    pub worker_id: String,
    pub status: WorkerStatus,
    pub latest_seq: u64,
    /// It was running already.
    pub idempotent_replay: bool,
}

pub type CreatedCodexWorkerReply = Data<CreatedCodexWorker>;

/// `POST …/stop`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"reason": "test_complete"}))]
pub struct StopCodexWorker {
    /// At most 255 characters; `requested` without one.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Body for StopCodexWorker {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StoppedCodexWorker {
    pub worker_id: String,
    pub status: WorkerStatus,
    pub seq: u64,
    pub idempotent_replay: bool,
    #[serde(rename = "idempotentReplay")]
    pub idempotent_replay_camel: bool,
}

pub type StoppedCodexWorkerReply = Data<StoppedCodexWorker>;

/// What stands behind `GET …/stream?`. `Prefer: wait` is `wait=1`; `Accept: text/event-stream` asks for
/// server-sent events, and then `Last-Event-ID` wins over `cursor`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct FollowCodexWorker {
    /// Only events behind this one. Without it the page begins with the oldest event that is kept.
    #[serde(default)]
    pub cursor: Option<u64>,
    /// 1 to 120000, 15000 without one: how long `wait` waits. The answer may come earlier without an event.
    #[serde(default)]
    #[schemars(range(min = 1, max = 120000))]
    pub tail_ms: Option<u64>,
    /// 1 to 1000, which is also the most without it.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// `1` or `true`: wait for an event behind the cursor.
    #[serde(default)]
    pub wait: Option<String>,
    /// `worker` when the program that is the worker reads, `viewer` (the usual) for everybody else.
    #[serde(default)]
    pub consumer: Option<String>,
}

impl Query for FollowCodexWorker {}

/// One event of a worker's feed, in pages and as the `data:` of a server-sent event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CodexEvent {
    /// Per worker, from 1 without a gap.
    pub seq: u64,
    pub event_type: String,
    #[schemars(with = "Value")]
    pub payload: Box<RawValue>,
    pub occurred_at: Timestamp,
    /// When control took it.
    pub received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// A page of the feed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CodexFeed {
    pub worker_id: String,
    /// `spacetime_ws`.
    pub stream_protocol: String,
    pub cursor: u64,
    pub tail_ms: u64,
    pub delivery: FeedDelivery,
    pub snapshot: CodexWorker,
    pub events: Vec<CodexEvent>,
    /// The cursor of the next page, if there is one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FeedDelivery {
    /// `spacetime_ws`.
    pub transport: String,
    /// `<organisation>:worker_events`.
    pub topic: String,
    /// `runtime.codex_worker_events`.
    pub scope: String,
    #[serde(rename = "syncTokenRoute")]
    pub sync_token_route: String,
}

/// A page, or server-sent events.
pub type CodexFeedReply = JsonOr<Data<CodexFeed>, EventStream>;

/// `POST …/events`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"event": {"event_type": "worker.event", "payload": {"source": "autopilot-ios", "method": "ios/handshake", "handshake_id": "hs_1", "occurred_at": "2026-02-22T00:00:00Z", "device_id": "ios:device"}}}))]
pub struct PostCodexEvent {
    #[serde(deserialize_with = "object")]
    pub event: NewCodexEvent,
}

impl Body for PostCodexEvent {}

/// Reads members from an object only: a list that happens to hold them in order is none.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members))
        }
    }

    deserializer.deserialize_map(Members(PhantomData))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["event_type"]))]
pub struct NewCodexEvent {
    /// Begins with `worker.`, at most 160 characters.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"^\s*worker\."))]
    pub event_type: Option<String>,
    /// An object, `{}` without one. At most 64 KiB, a `worker.response` 1 MiB.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub payload: Option<Box<RawValue>>,
    /// Makes the event idempotent: at most 160 of `A-Z a-z 0-9 . _ : -`. The same event under the same id is
    /// taken once and answered again with `idempotent_replay`; another one is refused with 409.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._:-]{1,160}$"))]
    pub event_id: Option<String>,
}

/// An event that was taken, now or before.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TakenCodexEvent {
    pub worker_id: String,
    #[serde(flatten)]
    pub event: CodexEvent,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent_replay: bool,
}

pub type TakenCodexEventReply = Data<TakenCodexEvent>;

/// `POST …/requests`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"request": {"request_id": "req_turn_1", "method": "turn/start", "params": {"thread_id": "thread-control-1", "text": "continue"}}}))]
pub struct PostCodexRequest {
    #[serde(deserialize_with = "object")]
    pub request: NewCodexRequest,
}

impl Body for PostCodexRequest {}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["request_id", "method"]))]
pub struct NewCodexRequest {
    /// The idempotency key: the same request under the same id is done once, another one is refused with 409.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub request_id: Option<String>,
    /// One of [`METHODS`].
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub method: Option<String>,
    #[serde(default)]
    pub params: Value,
    /// Wins over `params.thread_id` and `params.threadId`.
    #[serde(default)]
    pub thread_id: Option<String>,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub request_version: Option<String>,
    #[serde(default)]
    pub session_id: Option<String>,
    /// How long to wait for an attached worker, at most 30000; `OA_CODEX_REQUEST_WAIT_MS` without one.
    #[serde(default)]
    #[schemars(range(max = 30000))]
    pub wait_ms: Option<u64>,
}

/// How a request stands: 200 with `ok` true or false, or 202 with `ok: null` while the worker has not answered.
/// The same request asked again answers how it stands by then.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CodexRequestState {
    pub worker_id: String,
    pub request_id: String,
    pub ok: Option<bool>,
    /// `pending`, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    pub method: String,
    pub idempotent_replay: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub response: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CodexRequestError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The thread of a pending request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
}

pub type CodexRequestReply = Data<CodexRequestState>;

/// Why a worker did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CodexRequestError {
    /// One of [`ERROR_CODES`].
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// The payload of `worker.request`, which only control writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivered {
    pub request: DeliveredRequest,
}

/// What an attached worker is asked. Ids of threads are control's; the worker knows which of its own they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveredRequest {
    pub request_id: String,
    pub method: String,
    pub params: Value,
    pub request_version: Option<String>,
    /// When control sent it on.
    pub sent_at: Timestamp,
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Always there but for `thread/list`; `thread/start` without one has a new one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
}

/// The payload of `worker.response`: the request was done. One receipt ends a request; sent again it changes
/// nothing, another one is refused with 409, one for a request that nobody made with 422.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    pub request_id: String,
    pub method: String,
    /// `true`.
    pub ok: bool,
    pub response: Value,
    pub occurred_at: Timestamp,
}

/// The payload of `worker.error`: the request was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Error {
    pub request_id: String,
    pub method: String,
    #[serde(flatten)]
    pub error: CodexRequestError,
    pub occurred_at: Timestamp,
}

/// The payload of a `worker.event` that passes on what codex said. Of those with a `thread_id` of the worker's owner
/// control keeps what was said: `turn/started` and the ends of turns become turns, completed agent messages and tool
/// calls become messages; deltas stay events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// `codex_app_server`.
    pub source: String,
    /// Codex's own name of it, e.g. `item/completed`.
    pub method: String,
    #[serde(default)]
    pub params: Value,
    /// Control's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Codex's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    /// The request that began the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// A question for permission: what a `worker.approval` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
    pub occurred_at: Timestamp,
}

/// The source of a [`Notification`].
pub const CODEX_APP_SERVER: &str = "codex_app_server";

/// The payload of `worker.approval`. One decision answers a question; the same one again changes nothing, another
/// one is refused with 409.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Approval {
    pub approval_id: String,
    /// One of [`DECISIONS`].
    pub decision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
}
