//! Decides which threads a caller sees: the caller's own in the active organisation, the last changed first
//! (control §13).

use oa_contract::{
    Answer, Ask, Handle, Stop, User,
    matrix::ThreadsList,
    operation::Data,
    wire::threads::{ThreadList, ThreadListReply},
};
use oa_store::{Tx, tables::threads::Before};

use super::{before, limit, page};
use crate::{Control, identity::signed_in};

impl Handle<ThreadsList> for Control {
    async fn handle(&self, ask: Ask<ThreadsList>) -> Result<Answer<ThreadListReply>, Stop> {
        let user = signed_in(&ask.caller)?.clone();
        let wanted = (user, before(ask.query.before.as_deref())?, limit(ask.query.limit)?);
        let data = self.store.read("threads.list", wanted, read).await?;
        Ok(Data { data }.into())
    }
}

async fn read(tx: &mut Tx, (user, before, limit): &(User, Before, u32)) -> Result<ThreadList, Stop> {
    page(tx, user, before, *limit).await
}
