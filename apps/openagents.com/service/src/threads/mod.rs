//! Decides whose a thread is, what may be said in it, and how both are shown (control §13).

mod append_message;
mod list;
mod messages;

use oa_contract::{
    Credential, Refusal, Stop, Timestamp, User,
    wire::threads::{self as wire, PAGE_MAX, Role, TEXT_MAX},
};
use oa_store::{
    Tx,
    tables::{
        identity,
        threads::{self as rows, Before, Message, Thread},
    },
};

use crate::identity::orgs::personal_org;

/// Characters of a thread's id.
const ID_MAX: usize = 255;

pub(crate) fn unknown() -> Refusal {
    Refusal::not_found("Thread not found.")
}

pub(crate) fn not_yours() -> Refusal {
    Refusal::forbidden("Requested thread is not available.")
}

/// An id as it is kept: trimmed, not blank, of bounded length.
pub(crate) fn thread_id(field: &str, text: &str) -> Result<String, Refusal> {
    let id = text.trim();
    match !id.is_empty() && id.chars().count() <= ID_MAX && !id.contains('\0') {
        true => Ok(id.to_owned()),
        false => Err(Refusal::field(field, format!("{field} must hold 1 to {ID_MAX} characters"))),
    }
}

/// A text as it is kept: trimmed, 1 to 20000 characters.
pub(crate) fn text(field: &str, text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    let length = text.chars().count();
    match (1..=TEXT_MAX).contains(&length) && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err(Refusal::field(field, format!("{field} must hold 1 to {TEXT_MAX} characters"))),
    }
}

/// The size of a page.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32, Refusal> {
    match asked {
        None => Ok(PAGE_MAX),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Refusal::field("limit", format!("limit must be 1 to {PAGE_MAX}"))),
    }
}

/// The organisation that the caller speaks for: the session's, otherwise the personal one.
pub(crate) async fn active_org(tx: &mut Tx, user: &User) -> Result<String, Stop> {
    let session = match user.credential {
        Credential::Session => identity::session(tx, &user.session_id).await?,
        Credential::PersonalToken => None,
    };
    Ok(session.map_or_else(|| personal_org(&user.user_id), |session| session.active_org_id))
}

/// The thread, if it is there and the user's.
pub(crate) async fn owned(tx: &mut Tx, thread_id: &str, user_id: &str) -> Result<Thread, Stop> {
    let thread = rows::get(tx, thread_id).await?.ok_or_else(unknown)?;
    match thread.user_id == user_id {
        true => Ok(thread),
        false => Err(not_yours().into()),
    }
}

/// The thread of the user, made on first use; another user's is refused. The caller holds its key.
pub(crate) async fn owned_or_new(
    tx: &mut Tx,
    thread_id: &str,
    user_id: &str,
    org_id: &str,
    now: Timestamp,
) -> Result<Thread, Stop> {
    match rows::get(tx, thread_id).await? {
        Some(thread) if thread.user_id == user_id => Ok(thread),
        Some(_) => Err(not_yours().into()),
        None => {
            let thread = Thread::new(thread_id, user_id, org_id, now);
            rows::put(tx, &thread).await?;
            Ok(thread)
        }
    }
}

/// What is about to be said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub message_id: String,
    pub role: Role,
    pub text: String,
    pub turn_id: Option<String>,
    pub item_key: Option<[u8; 32]>,
}

impl Said {
    pub fn by_user(message_id: String, text: String) -> Self {
        Said { message_id, role: Role::User, text, turn_id: None, item_key: None }
    }
}

/// Appends a message to a thread that was read under its key, and writes both.
pub(crate) async fn append(
    tx: &mut Tx,
    thread: &mut Thread,
    said: Said,
    now: Timestamp,
) -> Result<Message, Stop> {
    let message = Message {
        thread_id: thread.thread_id.clone(),
        seq: thread.message_count + 1,
        message_id: said.message_id,
        user_id: thread.user_id.clone(),
        role: said.role,
        text: said.text,
        created_at: now,
        turn_id: said.turn_id,
        item_key: said.item_key,
    };
    thread.message_count = message.seq;
    thread.updated_at = now;
    thread.last_message_at = Some(now);
    rows::insert_message(tx, &message).await?;
    rows::put(tx, thread).await?;
    Ok(message)
}

/// The user says something: the thread is made on first use and moves to the active organisation.
pub(crate) async fn append_by_user(
    tx: &mut Tx,
    user: &User,
    thread_id: &str,
    said: Said,
    now: Timestamp,
) -> Result<(Thread, Message), Stop> {
    let org_id = active_org(tx, user).await?;
    let mut thread = owned_or_new(tx, thread_id, &user.user_id, &org_id, now).await?;
    thread.org_id = org_id;
    let message = append(tx, &mut thread, said, now).await?;
    Ok((thread, message))
}

/// A page of the user's threads in the active organisation, and the cursor behind it.
pub(crate) async fn page(
    tx: &mut Tx,
    user: &User,
    before: &Before,
    limit: u32,
) -> Result<wire::ThreadList, Stop> {
    let org_id = active_org(tx, user).await?;
    let mut threads = rows::list(tx, &user.user_id, &org_id, before, limit + 1).await?;
    let more = threads.len() > limit as usize;
    threads.truncate(limit as usize);
    let next = threads.last().filter(|_| more).map(|last| cursor(last.updated_at, &last.thread_id));
    Ok(wire::ThreadList { threads: threads.into_iter().map(view).collect(), next })
}

/// Where a page of messages begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    After(u64),
    Before(u64),
}

/// A page of a thread's messages, in order, and the cursor of the next.
pub(crate) async fn message_page(
    tx: &mut Tx,
    thread: &Thread,
    from: From,
    limit: u32,
) -> Result<wire::MessageList, Stop> {
    let id = &thread.thread_id;
    let messages = match from {
        From::After(after) => rows::messages_after(tx, id, after, limit).await?,
        From::Before(before) => rows::messages_before(tx, id, before, limit).await?,
    };
    let next = match from {
        From::After(_) => messages.last().map(|last| last.seq).filter(|last| *last < thread.message_count),
        From::Before(_) => messages.first().map(|first| first.seq).filter(|first| *first > 1),
    };
    Ok(wire::MessageList {
        thread_id: id.clone(),
        messages: messages.into_iter().map(view_message).collect(),
        next,
    })
}

/// A cursor that is opaque to callers: the moment and the id of the last entry of a page.
pub(crate) fn cursor(at: Timestamp, id: &str) -> String {
    format!("{}_{id}", at.micros())
}

/// Reads a cursor back; without one, from the newest.
pub(crate) fn before(text: Option<&str>) -> Result<Before, Refusal> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Before::newest());
    };
    let read = text.split_once('_').and_then(|(at, id)| {
        let at = Timestamp::from_micros(at.parse().ok()?);
        Some(Before { at, id: id.to_owned() })
    });
    read.ok_or_else(|| Refusal::field("before", "before must be the `next` of an earlier page"))
}

pub(crate) fn view(thread: Thread) -> wire::Thread {
    let Thread { thread_id, user_id, org_id, autopilot_id, title, .. } = thread;
    wire::Thread {
        thread_id,
        user_id,
        org_id,
        autopilot_id,
        title,
        created_at: thread.created_at,
        updated_at: thread.updated_at,
        message_count: thread.message_count,
        last_message_at: thread.last_message_at,
    }
}

pub(crate) fn view_message(message: Message) -> wire::Message {
    let Message { message_id, thread_id, role, text, created_at, seq, turn_id, .. } = message;
    wire::Message { message_id, thread_id, role, text, created_at, seq, turn_id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_trimmed_and_has_1_to_20000_characters() {
        assert_eq!(text("text", "  hello \n"), Ok("hello".into()));
        assert_eq!(text("text", &"ü".repeat(20_000)).map(|text| text.chars().count()), Ok(20_000));
        for bad in ["", " \n\t", &"a".repeat(20_001), "a\0b"] {
            assert_eq!(text("text", bad).expect_err("refused").field.as_deref(), Some("text"));
        }
    }

    #[test]
    fn a_cursor_is_read_back_whatever_the_id_holds() {
        let at = Timestamp::from_micros(1_772_020_800_000_123);
        for id in ["thread_1", "..%2F_x", ""] {
            assert_eq!(before(Some(&cursor(at, id))), Ok(Before { at, id: id.into() }));
        }
        for bad in ["x", "1", "a_b", "99999999999999999999_x"] {
            assert_eq!(before(Some(bad)).expect_err(bad).field.as_deref(), Some("before"));
        }
    }

    #[test]
    fn a_page_has_1_to_1000_entries() {
        assert_eq!((limit(None), limit(Some(1)), limit(Some(1_000))), (Ok(1_000), Ok(1), Ok(1_000)));
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
    }
}
