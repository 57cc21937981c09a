//! Decides what a conversation shows of itself: its thread, the last of what was said in it, and its turns.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::ChatsGet,
    operation::Data,
    wire::chat::{Conversation, ConversationReply},
};
use oa_store::{
    Tx,
    tables::threads::{Message, Thread, Turn},
};

use super::{Named, conversation_id, last_messages, message, newest_turns, run, summary};
use crate::{Control, identity::signed_in, threads::owned};

impl Handle<ChatsGet> for Control {
    async fn handle(&self, ask: Ask<ChatsGet>) -> Result<Answer<ConversationReply>, Stop> {
        let named = Named {
            conversation_id: conversation_id(&ask.path.conversation_id)?,
            user_id: signed_in(&ask.caller)?.user_id.clone(),
        };
        let (thread, messages, turns) = self.store.read("chats_get", named, read).await?;
        let data = Conversation {
            conversation: summary(&thread),
            messages: messages.into_iter().map(|one| message(&thread, one)).collect(),
            runs: turns.iter().map(run).collect(),
        };
        Ok(Data { data }.into())
    }
}

async fn read(tx: &mut Tx, named: &Named) -> Result<(Thread, Vec<Message>, Vec<Turn>), Stop> {
    let thread = owned(tx, &named.conversation_id, &named.user_id).await?;
    let (messages, turns) = (last_messages(tx, &thread).await?, newest_turns(tx, &thread).await?);
    Ok((thread, messages, turns))
}
