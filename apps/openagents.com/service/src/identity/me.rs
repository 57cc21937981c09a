//! Decides what clients are shown of the caller. No chats are kept in this build, so there are none to list.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::Me,
    wire::identity::{Profile, ProfileReply, ProfileUser},
};

use super::signed_in;
use crate::Control;

impl Handle<Me> for Control {
    async fn handle(&self, ask: Ask<Me>) -> Result<Answer<ProfileReply>, Stop> {
        let user = self.standing(signed_in(&ask.caller)?).await?.user;
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
        Ok(ProfileReply { data: Profile { user, chat_threads: Vec::new() } }.into())
    }
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
