//! The legacy chat lanes (control §15): threads, messages and turns under their former names. They end on the date that
//! their headers say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operation::{Body, Data, Media, Query};

/// `GET /api/chat/guest-session`, which is `410` for everybody who is signed in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GuestSessionRetired {
    /// `true`.
    pub retired: bool,
    /// `codex_auth_required`.
    pub status: String,
    /// Where to go.
    pub canonical: String,
    pub message: String,
}

pub type GuestSessionReply = Data<GuestSessionRetired>;

/// What stands behind `GET /api/chats?`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListChats {
    /// 50 without one; brought into 1 to 200.
    #[serde(default)]
    pub limit: Option<i64>,
}

impl Query for ListChats {}

/// A thread under its former name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatSummary {
    pub id: String,
    pub title: String,
    pub autopilot_id: Option<String>,
    /// With exactly three digits of fraction, as every moment here.
    pub created_at: String,
    pub updated_at: String,
}

/// The threads of the caller in the active organisation, the last changed first.
pub type ChatListReply = Data<Vec<ChatSummary>>;
pub type ChatSummaryReply = Data<ChatSummary>;

/// The threads of an autopilot, the last changed first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChatPage {
    pub data: Vec<ChatSummary>,
    /// Where older ones begin, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /api/chats`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"title": "Migration Chat"}))]
pub struct CreateChat {
    /// Said back once, and not kept.
    #[serde(default)]
    pub title: Option<String>,
}

impl Body for CreateChat {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    pub id: String,
    /// The turn that it belongs to, as far as it is known.
    pub run_id: Option<String>,
    pub autopilot_id: Option<String>,
    pub role: String,
    pub content: String,
    /// Always `null`.
    pub meta: Option<Value>,
    pub created_at: String,
    pub updated_at: String,
}

/// The last thousand messages, in the order in which they were said.
pub type ChatMessagesReply = Data<Vec<ChatMessage>>;

/// A turn of codex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatRun {
    pub id: String,
    /// `running`, `completed`, `failed` or `interrupted`; `retired` for one that is not known.
    pub status: String,
    /// `codex_app_server`.
    pub model_provider: String,
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

/// The last turns, the newest first.
pub type ChatRunsReply = Data<Vec<ChatRun>>;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    pub conversation: ChatSummary,
    pub messages: Vec<ChatMessage>,
    pub runs: Vec<ChatRun>,
}

pub type ConversationReply = Data<Conversation>;

/// Something that was said in a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatRunEvent {
    /// The place of the message in its thread.
    pub seq: u64,
    /// `message`.
    #[serde(rename = "type")]
    pub kind: String,
    pub payload: ChatMessage,
    pub created_at: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChatRunEvents {
    pub run: ChatRun,
    pub events: Vec<ChatRunEvent>,
}

pub type ChatRunEventsReply = Data<ChatRunEvents>;

/// `POST /api/chat/stream` and `POST /api/chats/:conversation_id/stream`: any JSON that holds a text, in any of
/// the forms that clients have sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "serde_json::Map<String, Value>", example = serde_json::json!({"id": "thread-1", "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}))]
pub struct ChatTurn(pub Value);

impl Body for ChatTurn {}

/// The AI SDK's UI message stream.
pub struct UiMessageStream;
impl Media for UiMessageStream {
    const TYPE: &'static str = "text/event-stream; charset=utf-8";
}
