//! Decides which conversations are listed: the caller's in the active organisation, the last changed first.

use oa_contract::{
    Answer, Ask, Handle, Stop, User, matrix::ChatsList, operation::Data, wire::chat::ChatListReply,
};
use oa_store::{
    Tx,
    tables::threads::{self as rows, Before, Thread},
};

use super::summary;
use crate::{Control, autopilots::page_size, identity::signed_in, threads};

impl Handle<ChatsList> for Control {
    async fn handle(&self, ask: Ask<ChatsList>) -> Result<Answer<ChatListReply>, Stop> {
        let asked = (signed_in(&ask.caller)?.clone(), page_size(ask.query.limit));
        let found = self.store.read("chats_list", asked, read).await?;
        Ok(Data { data: found.iter().map(summary).collect() }.into())
    }
}

async fn read(tx: &mut Tx, (user, limit): &(User, u32)) -> Result<Vec<Thread>, Stop> {
    let org_id = threads::active_org(tx, user).await?;
    rows::list(tx, &user.user_id, &org_id, &Before::newest(), *limit).await
}
