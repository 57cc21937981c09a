//! Decides what a caller is shown of their sessions: all states, newest first (control §5.4).

use oa_contract::{
    Answer, Ask, Caller, Handle, Meta, Stop,
    matrix::{AuthSessions, AuthSessionsV1},
    wire::accounts::{ListSessions, ListedSession, SessionList, Sessions},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, Session},
};

use super::{device, signed_in};
use crate::{Control, audit};

/// More than anybody looks through.
const MOST: u32 = 1_000;

impl Handle<AuthSessions> for Control {
    async fn handle(&self, ask: Ask<AuthSessions>) -> Result<Answer<SessionList>, Stop> {
        self.list_sessions(&ask.caller, &ask.query, &ask.meta).await
    }
}

impl Handle<AuthSessionsV1> for Control {
    async fn handle(&self, ask: Ask<AuthSessionsV1>) -> Result<Answer<SessionList>, Stop> {
        self.list_sessions(&ask.caller, &ask.query, &ask.meta).await
    }
}

impl Control {
    async fn list_sessions(
        &self,
        caller: &Caller,
        query: &ListSessions,
        meta: &Meta,
    ) -> Result<Answer<SessionList>, Stop> {
        let user = signed_in(caller)?;
        let device_id = device::device_id(query.device_id.as_deref())?;
        let wanted = (user.user_id.clone(), device_id);
        let sessions: Vec<_> =
            self.store.read("identity_list_sessions", wanted, of_user).await?.into_iter().map(show).collect();
        let count = sessions.len().to_string();
        let event = audit::Event {
            name: "auth.sessions.listed",
            user_id: Some(&user.user_id),
            session_id: Some(&user.session_id),
            attributes: &[("session_count", &count)],
            ..audit::Event::default()
        };
        audit::success(event, meta, self.clock.now());
        let data = Sessions { current_session_id: user.session_id.clone(), sessions };
        Ok(SessionList { data }.into())
    }
}

async fn of_user(tx: &mut Tx, (user_id, device_id): &(String, Option<String>)) -> Result<Vec<Session>, Stop> {
    rows::sessions_of_user(tx, user_id, device_id.as_deref(), MOST).await
}

fn show(session: Session) -> ListedSession {
    ListedSession {
        session_id: session.session_id,
        user_id: session.user_id,
        email: session.email,
        device_id: session.device_id,
        token_name: session.token_name,
        status: session.status.name().to_owned(),
        issued_at: session.issued_at.zulu(),
        access_expires_at: session.access_expires_at.zulu(),
        refresh_expires_at: session.refresh_expires_at.zulu(),
        active_org_id: session.active_org_id,
        reauth_required: session.reauth_required,
        last_refreshed_at: session.last_refreshed_at.map(|moment| moment.zulu()),
        revoked_at: session.revoked_at.map(|moment| moment.zulu()),
        revoked_reason: session.revoked_reason,
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::World;

    async fn listed(world: &World, secret: &str, device_id: Option<&str>) -> Result<Sessions, Stop> {
        let query = ListSessions { device_id: device_id.map(str::to_owned) };
        let caller = world.caller(secret).await.expect("a caller");
        let ask = Ask { path: Nothing {}, query, body: Nothing {}, caller, meta: world.meta(&[]) };
        Handle::<AuthSessions>::handle(&*world.control, ask).await.map(|answer| answer.body.data)
    }

    #[tokio::test]
    async fn every_state_is_shown_newest_first_and_nobody_elses() {
        let world = World::new().await;
        world.sign_in("other@example.com", "phone").await;
        let old = world.sign_in("dev@example.com", "laptop").await;
        world.clock.advance_millis(1_500);
        let new = world.sign_in("dev@example.com", "Laptop").await;
        world.clock.advance_millis(1_500);
        let phone = world.sign_in("dev@example.com", "phone").await;
        let all = listed(&world, phone.token.reveal(), None).await.expect("a list");
        assert_eq!(all.current_session_id, phone.session_id);
        let shown: Vec<_> =
            all.sessions.iter().map(|one| (one.session_id.as_str(), one.status.as_str())).collect();
        let wanted = [(&phone, "active"), (&new, "active"), (&old, "revoked")];
        assert_eq!(shown, wanted.map(|(session, status)| (session.session_id.as_str(), status)));
        assert_eq!(all.sessions[2].revoked_reason.as_deref(), Some("device_replaced"));
        assert!(all.sessions[1].issued_at.ends_with(".500Z"), "{}", all.sessions[1].issued_at);
        let laptop = listed(&world, phone.token.reveal(), Some(" LAPTOP ")).await.expect("a list");
        assert_eq!(laptop.sessions.len(), 2);
        let refused = listed(&world, phone.token.reveal(), Some("a b")).await.expect_err("refused");
        assert!(matches!(refused, Stop::Refusal(refusal) if refusal.field.as_deref() == Some("device_id")));
    }
}
