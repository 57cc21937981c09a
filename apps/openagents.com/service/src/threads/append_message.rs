//! Decides how a user's message enters a thread: counted against the throttle, made durable with the thread that it
//! opens, and taken once under an idempotency key (control §13, §2.8).

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop, Timestamp, User,
    canonical::canonical_digest,
    matrix::ThreadsAppendMessage,
    operation::Data,
    wire::threads::{AcceptedMessage, MessageAccepted, MessageAcceptedReply, Role},
};
use oa_store::{
    Tx,
    idempotency::{self, Known},
    tables::threads as rows,
};
use serde_json::json;

use super::{Said, append_by_user, text, thread_id, view};
use crate::{
    Control, audit,
    identity::{signed_in, throttle},
};

/// Characters of an idempotency key.
const KEY_MAX: usize = 255;

impl Handle<ThreadsAppendMessage> for Control {
    async fn handle(&self, ask: Ask<ThreadsAppendMessage>) -> Result<Answer<MessageAcceptedReply>, Stop> {
        let now = self.clock.now();
        let user = signed_in(&ask.caller)?.clone();
        self.throttle.admit(throttle::THREAD_MESSAGE, &user.user_id, now)?;
        let thread_id = thread_id("thread_id", &ask.path.thread_id)?;
        let text = text("text", ask.body.text.as_deref().unwrap_or_default())?;
        let said = Said::by_user(format!("msg_{}", self.ids.uuid32()), text);
        let idempotency_key = key(ask.meta.header("idempotency-key"))?;
        let key = rows::key(&thread_id);
        let asked = Asked { user, thread_id, said, idempotency_key, now };
        let (data, replayed) = self.store.write("threads.append_message", key, asked, append).await?;
        if !replayed {
            let event = audit::Event {
                name: "runtime.thread.message.accepted",
                user_id: Some(&data.thread.user_id),
                attributes: &[("thread_id", &data.thread.thread_id), ("message_id", &data.message.id)],
                ..audit::Event::default()
            };
            audit::success(event, &ask.meta, now);
        }
        Ok(Data { data }.into())
    }
}

fn key(header: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(key) = header.map(str::trim).filter(|key| !key.is_empty()) else { return Ok(None) };
    match key.chars().count() <= KEY_MAX {
        true => Ok(Some(key.to_owned())),
        false => {
            let message = format!("the header Idempotency-Key must hold at most {KEY_MAX} characters");
            Err(Refusal::field("idempotency_key", message))
        }
    }
}

struct Asked {
    user: User,
    thread_id: String,
    said: Said,
    idempotency_key: Option<String>,
    now: Timestamp,
}

/// The answer, and whether it was given before.
async fn append(tx: &mut Tx, asked: &Asked) -> Result<(MessageAccepted, bool), Stop> {
    let Some(key) = &asked.idempotency_key else { return Ok((accept(tx, asked).await?, false)) };
    let scope = format!("threads.append_message/{}", asked.user.user_id);
    let fingerprint = canonical_digest(&json!([asked.thread_id, asked.said.text]));
    match idempotency::find(tx, &scope, key, &fingerprint).await? {
        Known::Fresh => {}
        Known::Mismatch => {
            let message = "this Idempotency-Key was used for another message; choose a new one";
            return Err(Refusal::conflict(message).into());
        }
        Known::Replay { reply, .. } => {
            let accepted =
                serde_json::from_str(&reply).map_err(|error| Fault::new("reading a kept answer", error))?;
            return Ok((accepted, true));
        }
    }
    let accepted = accept(tx, asked).await?;
    let reply =
        serde_json::to_string(&accepted).map_err(|error| Fault::new("writing an answer to keep", error))?;
    idempotency::keep(tx, &scope, key, &fingerprint, 200, &reply, asked.now).await?;
    Ok((accepted, false))
}

async fn accept(tx: &mut Tx, asked: &Asked) -> Result<MessageAccepted, Stop> {
    let (thread, message) =
        append_by_user(tx, &asked.user, &asked.thread_id, asked.said.clone(), asked.now).await?;
    Ok(MessageAccepted {
        accepted: true,
        thread: view(thread),
        message: AcceptedMessage {
            id: message.message_id,
            thread_id: message.thread_id,
            role: Role::User,
            text: message.text,
            accepted_at: asked.now.zulu_millis(),
        },
    })
}
