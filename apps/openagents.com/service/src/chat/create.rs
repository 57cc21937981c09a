//! Decides how a conversation begins under its former name: an empty thread. Its title is said back once and not kept.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp, User,
    matrix::ChatsCreate,
    operation::Data,
    wire::chat::{ChatSummary, ChatSummaryReply},
};
use oa_store::{
    Tx,
    tables::threads::{self as rows, Thread},
};

use super::summary;
use crate::{Control, identity::signed_in, threads};

const TITLE_MAX: usize = 200;

impl Handle<ChatsCreate> for Control {
    async fn handle(&self, ask: Ask<ChatsCreate>) -> Result<Answer<ChatSummaryReply>, Stop> {
        let user = signed_in(&ask.caller)?.clone();
        let title = ask.body.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
        let title = title.unwrap_or_else(|| "New conversation".to_owned());
        if title.chars().count() > TITLE_MAX {
            return Err(
                Refusal::field("title", format!("title must have at most {TITLE_MAX} characters")).into()
            );
        }
        let thread_id = format!("thread_{}", self.ids.uuid32());
        let asked = (user, thread_id.clone(), self.clock.now());
        let thread = self.store.write("chats_create", rows::key(&thread_id), asked, make).await?;
        Ok(Data { data: ChatSummary { title, ..summary(&thread) } }.into())
    }
}

async fn make(tx: &mut Tx, (user, id, now): &(User, String, Timestamp)) -> Result<Thread, Stop> {
    let thread = Thread::new(id, &user.user_id, &threads::active_org(tx, user).await?, *now);
    rows::put(tx, &thread).await?;
    Ok(thread)
}
