//! Decides how a thread begins that is bound to an autopilot: empty, the caller's, in the active organisation.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, matrix::AutopilotsCreateThread, operation::Data,
    wire::chat::ChatSummaryReply,
};
use oa_store::{
    Tx,
    tables::threads::{self as rows, Thread},
};

use super::owned;
use crate::{Control, chat, identity::signed_in};

const TITLE_MAX: usize = 200;

impl Handle<AutopilotsCreateThread> for Control {
    async fn handle(&self, ask: Ask<AutopilotsCreateThread>) -> Result<Answer<ChatSummaryReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let title = ask.body.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
        if title.as_ref().is_some_and(|title| title.chars().count() > TITLE_MAX) {
            let message = format!("title must have at most {TITLE_MAX} characters");
            return Err(Refusal::field("title", message).into());
        }
        let thread_id = format!("thread_{}", self.ids.uuid32());
        let mut thread = Thread::new(&thread_id, &user.user_id, &user.active_org_id, self.clock.now());
        thread.title = title;
        let new = (thread, ask.path.autopilot);
        let made = self.store.write("autopilots_create_thread", rows::key(&thread_id), new, bind).await?;
        Ok(Data { data: chat::summary(&made) }.into())
    }
}

async fn bind(tx: &mut Tx, (thread, named): &(Thread, String)) -> Result<Thread, Stop> {
    let autopilot = owned(tx, &thread.user_id, named).await?;
    let thread = Thread { autopilot_id: Some(autopilot.autopilot_id), ..thread.clone() };
    rows::put(tx, &thread).await?;
    Ok(thread)
}
