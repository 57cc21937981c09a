//! Decides what is told of one turn: how it stands, and what was said in it. One that is not known is retired and tells
//! nothing.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::ChatsRunEvents,
    operation::Data,
    wire::chat::{ChatRun, ChatRunEvent, ChatRunEvents, ChatRunEventsReply},
};
use oa_store::{
    Tx,
    tables::threads::{self as rows, Message, Thread, Turn},
};

use super::{Named, PROVIDER, conversation_id, last_messages, message, run};
use crate::{Control, identity::signed_in, threads::owned};

impl Handle<ChatsRunEvents> for Control {
    async fn handle(&self, ask: Ask<ChatsRunEvents>) -> Result<Answer<ChatRunEventsReply>, Stop> {
        let named = Named {
            conversation_id: conversation_id(&ask.path.conversation_id)?,
            user_id: signed_in(&ask.caller)?.user_id.clone(),
        };
        let run_id = ask.path.run_id.trim().to_owned();
        let found = self.store.read("chats_run_events", (named, run_id.clone()), read).await?;
        let (thread, turn, messages) = found;
        let events = messages.into_iter().map(|one| event(&thread, one)).collect();
        let run = turn.as_ref().map_or_else(|| retired(run_id), run);
        Ok(Data { data: ChatRunEvents { run, events } }.into())
    }
}

fn retired(id: String) -> ChatRun {
    ChatRun {
        id,
        status: "retired".into(),
        model_provider: PROVIDER.into(),
        model: None,
        started_at: None,
        ended_at: None,
    }
}

fn event(thread: &Thread, said: Message) -> ChatRunEvent {
    let (seq, created_at) = (said.seq, said.created_at.zulu_millis());
    ChatRunEvent { seq, kind: "message".into(), payload: message(thread, said), created_at }
}

async fn read(
    tx: &mut Tx,
    (named, run_id): &(Named, String),
) -> Result<(Thread, Option<Turn>, Vec<Message>), Stop> {
    let thread = owned(tx, &named.conversation_id, &named.user_id).await?;
    let turn = rows::turn(tx, &thread.thread_id, run_id).await?;
    let messages = match &turn {
        None => Vec::new(),
        Some(turn) => {
            let mut messages = last_messages(tx, &thread).await?;
            messages.retain(|message| message.turn_id.as_ref() == Some(&turn.turn_id));
            messages
        }
    };
    Ok((thread, turn, messages))
}
