//! Decides how threads look under their former names (control §15): a conversation is a thread, a run is a turn of codex.
//! The lanes end on a date; until then they show what the threads hold.

mod conduct;
mod create;
mod follow;
mod frames;
mod get;
mod guest_session;
mod list;
mod mapper;
mod messages;
mod run_events;
mod runs;
mod said;
mod stream;

use oa_contract::{
    Refusal, Stop, Timestamp,
    wire::chat::{ChatMessage, ChatRun, ChatSummary},
};
use oa_store::{
    Tx,
    tables::threads::{self as rows, Before, Message, Thread, Turn},
};

use crate::threads;

/// Messages that are shown, at most: the last.
const MESSAGES_MAX: u32 = 1_000;
/// Turns that are shown, at most: the newest.
const RUNS_MAX: u32 = 200;
const PROVIDER: &str = "codex_app_server";

/// The thread that a path names.
fn conversation_id(text: &str) -> Result<String, Refusal> {
    threads::thread_id("conversation_id", text)
}

pub(crate) fn summary(thread: &Thread) -> ChatSummary {
    ChatSummary {
        id: thread.thread_id.clone(),
        title: thread.title.clone().unwrap_or_else(|| format!("Codex Thread {}", thread.thread_id)),
        autopilot_id: thread.autopilot_id.clone(),
        created_at: thread.created_at.zulu_millis(),
        updated_at: thread.updated_at.zulu_millis(),
    }
}

fn message(thread: &Thread, message: Message) -> ChatMessage {
    ChatMessage {
        id: message.message_id,
        run_id: message.turn_id,
        autopilot_id: thread.autopilot_id.clone(),
        role: message.role.name().to_owned(),
        content: message.text,
        meta: None,
        created_at: message.created_at.zulu_millis(),
        updated_at: message.created_at.zulu_millis(),
    }
}

fn run(turn: &Turn) -> ChatRun {
    ChatRun {
        id: turn.turn_id.clone(),
        status: turn.status.name().to_owned(),
        model_provider: PROVIDER.to_owned(),
        model: turn.model.clone(),
        started_at: Some(turn.started_at.zulu_millis()),
        ended_at: turn.ended_at.map(Timestamp::zulu_millis),
    }
}

/// Whose conversation is read.
#[derive(Clone, Debug)]
struct Named {
    conversation_id: String,
    user_id: String,
}

async fn last_messages(tx: &mut Tx, thread: &Thread) -> Result<Vec<Message>, Stop> {
    rows::messages_before(tx, &thread.thread_id, i64::MAX.unsigned_abs(), MESSAGES_MAX).await
}

async fn newest_turns(tx: &mut Tx, thread: &Thread) -> Result<Vec<Turn>, Stop> {
    rows::turns(tx, &thread.thread_id, &Before::newest(), RUNS_MAX).await
}
