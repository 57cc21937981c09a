//! Threads of a user, and the messages in them (control §13). Pages are bounded; without a cursor and a limit
//! a page is everything, up to 1000 entries, and `next` says where the rest begins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    instant::Timestamp,
    operation::{Body, Data, Query},
};

/// Entries of one page, at most.
pub const PAGE_MAX: u32 = 1_000;
/// Characters of a message that a user may write.
pub const TEXT_MAX: usize = 20_000;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
    /// What a tool did: a command, a change of files, a call.
    Tool,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Role::User, Role::Assistant, Role::Tool].into_iter().find(|role| role.name() == name)
    }
}

/// What stands behind `GET /api/runtime/threads?`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListThreads {
    /// 1 to 1000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// The `next` of an earlier page: threads that were changed before those of that page.
    #[serde(default)]
    pub before: Option<String>,
}

impl Query for ListThreads {}

/// A thread as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    pub thread_id: String,
    pub user_id: String,
    pub org_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopilot_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub message_count: u64,
    pub last_message_at: Option<Timestamp>,
}

/// The threads of the caller in the active organisation, the last changed first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThreadList {
    pub threads: Vec<Thread>,
    /// Where older threads begin, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub type ThreadListReply = Data<ThreadList>;

/// What stands behind `GET /api/runtime/threads/:thread_id/messages?`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListMessages {
    /// 1 to 1000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Only messages with a `seq` above this, the lowest first.
    #[serde(default)]
    pub after: Option<u64>,
    /// Only messages with a `seq` below this: the page that ends there. Not together with `after`.
    #[serde(default)]
    pub before: Option<u64>,
}

impl Query for ListMessages {}

/// A message as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    pub message_id: String,
    pub thread_id: String,
    pub role: Role,
    pub text: String,
    pub created_at: Timestamp,
    /// Its place in the thread, from 1 without a gap.
    pub seq: u64,
    /// The codex turn that it belongs to, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
}

/// The messages of a thread, in the order in which they were said.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MessageList {
    pub thread_id: String,
    pub messages: Vec<Message>,
    /// If there are more: the `after` of the next page, or its `before` when the page was asked for with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

pub type MessageListReply = Data<MessageList>;

/// `POST /api/runtime/threads/:thread_id/messages`. With the header `Idempotency-Key` the same message under
/// the same key is taken once, and another one is refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"text": "Who are you?"}))]
#[schemars(extend("required" = ["text"]))]
pub struct AppendMessage {
    /// 1 to 20000 characters once trimmed.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub text: Option<String>,
}

impl Body for AppendMessage {}

/// A message that was taken.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MessageAccepted {
    pub accepted: bool,
    pub thread: Thread,
    pub message: AcceptedMessage,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedMessage {
    pub id: String,
    pub thread_id: String,
    pub role: Role,
    pub text: String,
    /// With exactly three digits of fraction.
    pub accepted_at: String,
}

pub type MessageAcceptedReply = Data<MessageAccepted>;
