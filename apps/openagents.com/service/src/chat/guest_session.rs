//! Decides that nobody chats as a guest any more, and says where to go.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::ChatGuestSession,
    operation::Data,
    wire::chat::{GuestSessionReply, GuestSessionRetired},
};

use crate::{
    Control,
    audit::{self, Event},
    identity::signed_in,
};

impl Handle<ChatGuestSession> for Control {
    async fn handle(&self, ask: Ask<ChatGuestSession>) -> Result<Answer<GuestSessionReply>, Stop> {
        let user_id = Some(signed_in(&ask.caller)?.user_id.as_str());
        let event = Event { name: "legacy.chat.guest_session.retired", user_id, ..Event::default() };
        audit::success(event, &ask.meta, self.clock.now());
        let data = GuestSessionRetired {
            retired: true,
            status: "codex_auth_required".into(),
            canonical: "/api/runtime/threads".into(),
            message: "Guest sessions are retired. Sign in and use /api/runtime/threads.".into(),
        };
        Ok(Answer::new(Data { data }).with_header("x-oa-chat-auth-policy", "codex-auth-required"))
    }
}
