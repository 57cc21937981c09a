//! Decides what clients are shown of the caller: who they are, and their threads in all organisations, the last
//! changed first (control §5.5).

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::Me,
    wire::identity::{ChatThread, Membership, Profile, ProfileReply, ProfileUser},
};
use oa_store::{
    Tx,
    tables::threads::{self as threads, Before, Thread},
};

use super::{session::Standing, signed_in};
use crate::Control;

const CHATS: u64 = 50;
const MOST_CHATS: u64 = 200;

impl Handle<Me> for Control {
    async fn handle(&self, ask: Ask<Me>) -> Result<Answer<ProfileReply>, Stop> {
        let Standing { user, memberships, .. } = self.standing(signed_in(&ask.caller)?).await?;
        let limit = ask.query.chat_limit.unwrap_or(CHATS).clamp(1, MOST_CHATS);
        let wanted = (user.user_id.clone(), memberships, u32::try_from(limit).unwrap_or(u32::MAX));
        let chats = self.store.read("me_chats", wanted, newest).await?;
        let user = ProfileUser {
            handle: handle_of(&user.email),
            id: user.user_id,
            email: user.email,
            name: user.name,
            avatar: String::new(),
            created_at: None,
            updated_at: None,
            workos_id: user.provider_id,
        };
        let chat_threads = chats.into_iter().map(show).collect();
        Ok(ProfileReply { data: Profile { user, chat_threads } }.into())
    }
}

/// The newest of each organisation, and of those the newest.
async fn newest(
    tx: &mut Tx,
    (user_id, memberships, limit): &(String, Vec<Membership>, u32),
) -> Result<Vec<Thread>, Stop> {
    let mut all = Vec::new();
    for membership in memberships {
        all.extend(threads::list(tx, user_id, &membership.org_id, &Before::newest(), *limit).await?);
    }
    all.sort_by(|a, b| (b.updated_at, &b.thread_id).cmp(&(a.updated_at, &a.thread_id)));
    all.truncate(*limit as usize);
    Ok(all)
}

fn show(thread: Thread) -> ChatThread {
    let title = match thread.message_count {
        0 => "New Chat".to_owned(),
        _ => format!("Thread {}", thread.thread_id),
    };
    ChatThread { title, id: thread.thread_id, updated_at: thread.updated_at.zulu_seconds() }
}

/// The part before the `@`, in a form that fits into a URL (control §5.3).
pub(crate) fn handle_of(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default().to_lowercase();
    let mut handle = String::new();
    for letter in local.chars() {
        match letter.is_ascii_alphanumeric() {
            true => handle.push(letter),
            false if !handle.ends_with('-') => handle.push('-'),
            false => {}
        }
    }
    let handle: String = handle.trim_matches('-').chars().take(64).collect();
    if handle.is_empty() { "user".to_owned() } else { handle }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Nothing, wire::identity::ReadProfile};

    use super::*;
    use crate::testing::World;

    #[test]
    fn a_handle_is_the_local_part_made_plain() {
        assert_eq!(handle_of("A.b-c@ex.com"), "a-b-c");
        assert_eq!(handle_of("--x..y--@ex.com"), "x-y");
        assert_eq!(handle_of("ü@ex.com"), "user");
        assert_eq!(handle_of(&format!("{}@ex.com", "a".repeat(80))).len(), 64);
    }

    #[tokio::test]
    async fn the_caller_is_shown_themselves() {
        let world = World::new().await;
        let signed_in = world.sign_in("dev.one@example.com", "a").await;
        let caller = world.caller(signed_in.token.reveal()).await.expect("a caller");
        let ask = Ask {
            path: Nothing {},
            query: ReadProfile::default(),
            body: Nothing {},
            caller,
            meta: world.meta(&[]),
        };
        let answer = Handle::<Me>::handle(&*world.control, ask).await.expect("a profile");
        let json = serde_json::to_value(answer.body).expect("json");
        assert_eq!(json["data"]["user"]["handle"], "dev-one");
        assert_eq!(json["data"]["user"]["workosId"], signed_in.user.workos_id.as_str());
        assert_eq!(json["data"]["chatThreads"], serde_json::json!([]));
        assert!(json["data"]["user"]["createdAt"].is_null());
    }
}
