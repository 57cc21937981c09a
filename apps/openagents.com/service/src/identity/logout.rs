//! Decides how a caller ends their own session; a personal token has none, it is revoked under `/api/tokens`.

use oa_contract::{
    Answer, Ask, Credential, Handle, Stop, Timestamp, matrix::AuthLogout, wire::identity::SignedOut,
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, SessionStatus},
};

use super::{
    authenticate::{unauthenticated, user_key},
    propagation::{self, Notice, Telling},
    sessions::{self, Reason},
    signed_in,
};
use crate::{Control, audit};

impl Handle<AuthLogout> for Control {
    async fn handle(&self, ask: Ask<AuthLogout>) -> Result<Answer<SignedOut>, Stop> {
        let user = signed_in(&ask.caller)?;
        let now = self.clock.now();
        if user.credential != Credential::Session {
            return Err(unauthenticated().into());
        }
        let session_id = user.session_id.clone();
        let ending = (session_id.clone(), self.telling(Telling::AtOnce), now);
        let ended = self.store.write("identity_logout", user_key(&user.email), ending, end).await;
        let notice = ended.inspect_err(|stop| audit::failure("auth.logout.failed", stop, &ask.meta, now))?;
        let event = audit::Event {
            name: "auth.logout.completed",
            user_id: Some(&user.user_id),
            session_id: Some(&session_id),
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, now);
        self.tell(Vec::from_iter(notice), Reason::UserRequested, &ask.meta).await?;
        Ok(SignedOut { ok: true, status: "revoked".into(), session_id, revoked_at: now.zulu_seconds() }
            .into())
    }
}

async fn end(
    tx: &mut Tx,
    (session_id, telling, now): &(String, Telling, Timestamp),
) -> Result<Option<Notice>, Stop> {
    let session = rows::session(tx, session_id).await?;
    let session =
        session.filter(|session| session.status == SessionStatus::Active).ok_or_else(unauthenticated)?;
    let ended = sessions::end(tx, vec![session], Reason::UserRequested, *now).await?;
    propagation::note(tx, *telling, &ended, Reason::UserRequested, *now).await
}

#[cfg(test)]
mod tests {
    use oa_contract::{Nothing, Service};

    use super::*;
    use crate::{identity::NewToken, testing::World};

    #[tokio::test]
    async fn both_tokens_of_the_session_end() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "laptop").await;
        let answer =
            world.ask_as::<AuthLogout>(session.token.reveal(), Nothing {}).await.expect("signed out");
        assert_eq!(answer.body.session_id, session.session_id);
        assert_eq!(answer.body.revoked_at, world.now().zulu_seconds());
        assert!(world.whoami(session.token.reveal()).await.is_err());
        assert!(world.refresh(session.refresh_token.reveal(), None).await.is_err());
        let kept = world.session(&session.session_id).await.expect("a session");
        assert_eq!(kept.revoked_reason.as_deref(), Some("user_requested"));
    }

    #[tokio::test]
    async fn a_personal_token_has_no_session_to_end() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("ci")).await;
        let refused = world.ask_as::<AuthLogout>(token.reveal(), Nothing {}).await.expect_err("refused");
        assert_eq!(refused.status(Service::Control), 401);
    }
}
