//! Decides what was said in a conversation: the last thousand messages, in order.

use oa_contract::{
    Answer, Ask, Handle, Stop, matrix::ChatsMessages, operation::Data, wire::chat::ChatMessagesReply,
};
use oa_store::{
    Tx,
    tables::threads::{Message, Thread},
};

use super::{Named, conversation_id, last_messages, message};
use crate::{Control, identity::signed_in, threads::owned};

impl Handle<ChatsMessages> for Control {
    async fn handle(&self, ask: Ask<ChatsMessages>) -> Result<Answer<ChatMessagesReply>, Stop> {
        let named = Named {
            conversation_id: conversation_id(&ask.path.conversation_id)?,
            user_id: signed_in(&ask.caller)?.user_id.clone(),
        };
        let (thread, messages) = self.store.read("chats_messages", named, read).await?;
        Ok(Data { data: messages.into_iter().map(|one| message(&thread, one)).collect() }.into())
    }
}

async fn read(tx: &mut Tx, named: &Named) -> Result<(Thread, Vec<Message>), Stop> {
    let thread = owned(tx, &named.conversation_id, &named.user_id).await?;
    let messages = last_messages(tx, &thread).await?;
    Ok((thread, messages))
}
