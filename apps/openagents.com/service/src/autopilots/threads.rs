//! Decides which threads are bound to an autopilot of the caller, the last changed first.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::AutopilotsThreads, wire::chat::ChatPage};
use oa_store::{
    Tx,
    tables::threads::{self as rows, Before, Thread},
};

use super::{owned, page_size};
use crate::{
    Control, chat,
    identity::signed_in,
    threads::{before, cursor},
};

impl Handle<AutopilotsThreads> for Control {
    async fn handle(&self, ask: Ask<AutopilotsThreads>) -> Result<Answer<ChatPage>, Stop> {
        let user_id = signed_in(&ask.caller)?.user_id.clone();
        let limit = page_size(ask.query.limit);
        let asked = (user_id, ask.path.autopilot, before(ask.query.before.as_deref())?, limit + 1);
        let mut found = self.store.read("autopilots_threads", asked, read).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|last| cursor(last.updated_at, &last.thread_id));
        Ok(ChatPage { data: found.iter().map(chat::summary).collect(), next }.into())
    }
}

async fn read(
    tx: &mut Tx,
    (user_id, named, before, limit): &(String, String, Before, u32),
) -> Result<Vec<Thread>, Stop> {
    let autopilot = owned(tx, user_id, named).await?;
    rows::list_of_autopilot(tx, &autopilot.autopilot_id, user_id, before, *limit).await
}
