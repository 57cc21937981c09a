//! Decides which turns a conversation has had, the newest first. Turns that no program ran are not among them.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::ChatsRuns, operation::Data, wire::chat::ChatRunsReply};
use oa_store::{Tx, tables::threads::Turn};

use super::{Named, conversation_id, newest_turns, run};
use crate::{Control, identity::signed_in, threads::owned};

impl Handle<ChatsRuns> for Control {
    async fn handle(&self, ask: Ask<ChatsRuns>) -> Result<Answer<ChatRunsReply>, Stop> {
        let named = Named {
            conversation_id: conversation_id(&ask.path.conversation_id)?,
            user_id: signed_in(&ask.caller)?.user_id.clone(),
        };
        let turns = self.store.read("chats_runs", named, read).await?;
        Ok(Data { data: turns.iter().map(run).collect() }.into())
    }
}

async fn read(tx: &mut Tx, named: &Named) -> Result<Vec<Turn>, Stop> {
    let thread = owned(tx, &named.conversation_id, &named.user_id).await?;
    newest_turns(tx, &thread).await
}
