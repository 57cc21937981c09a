//! Decides what the owner of a thread reads of it: its messages in the order in which they were said (control §13).

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::ThreadsMessages,
    operation::Data,
    wire::threads::{ListMessages, MessageList, MessageListReply},
};
use oa_store::Tx;

use super::{From, limit, message_page, owned, thread_id};
use crate::{Control, identity::signed_in};

impl Handle<ThreadsMessages> for Control {
    async fn handle(&self, ask: Ask<ThreadsMessages>) -> Result<Answer<MessageListReply>, Stop> {
        let user_id = signed_in(&ask.caller)?.user_id.clone();
        let thread_id = thread_id("thread_id", &ask.path.thread_id)?;
        let wanted = (thread_id, user_id, from(&ask.query)?, limit(ask.query.limit)?);
        let data = self.store.read("threads.messages", wanted, read).await?;
        Ok(Data { data }.into())
    }
}

fn from(query: &ListMessages) -> Result<From, Refusal> {
    match (query.after, query.before) {
        (Some(_), Some(_)) => Err(Refusal::field("before", "before cannot be given together with after")),
        (None, Some(before)) => Ok(From::Before(bounded(before))),
        (after, None) => Ok(From::After(bounded(after.unwrap_or(0)))),
    }
}

/// No thread holds as many messages as this.
fn bounded(seq: u64) -> u64 {
    seq.min(i64::MAX.unsigned_abs())
}

async fn read(
    tx: &mut Tx,
    (thread_id, user_id, from, limit): &(String, String, From, u32),
) -> Result<MessageList, Stop> {
    let thread = owned(tx, thread_id, user_id).await?;
    message_page(tx, &thread, *from, *limit).await
}
