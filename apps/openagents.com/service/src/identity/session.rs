//! Decides what a credential is told about itself: its session, its user, its organisations. A personal token is
//! seen as a session named after it (control §5.4, §5.6).

use oa_contract::{
    Answer, Ask, Caller, Handle, Stop, Timestamp, User,
    matrix::{AuthSession, AuthSessionV1},
    wire::identity::{CurrentSession, Membership, SessionReply, SessionView, seconds},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, PersonalToken, Session},
};

use super::{
    authenticate::unauthenticated,
    orgs::{memberships_in, personal_org},
    signed_in, view,
};
use crate::Control;

impl Handle<AuthSession> for Control {
    async fn handle(&self, ask: Ask<AuthSession>) -> Result<Answer<SessionReply>, Stop> {
        self.current_session(&ask.caller).await
    }
}

impl Handle<AuthSessionV1> for Control {
    async fn handle(&self, ask: Ask<AuthSessionV1>) -> Result<Answer<SessionReply>, Stop> {
        self.current_session(&ask.caller).await
    }
}

/// A caller with everything that is kept about them.
pub struct Standing {
    pub user: rows::User,
    pub session: SessionView,
    /// Ascending by `org_id`.
    pub memberships: Vec<Membership>,
}

impl Control {
    async fn current_session(&self, caller: &Caller) -> Result<Answer<SessionReply>, Stop> {
        let Standing { user, session, memberships } = self.standing(signed_in(caller)?).await?;
        Ok(SessionReply { data: CurrentSession { session, user: view(&user), memberships } }.into())
    }

    /// Reads what stands behind a credential.
    pub(crate) async fn standing(&self, caller: &User) -> Result<Standing, Stop> {
        let ask = (caller.user_id.clone(), caller.session_id.clone());
        let (user, behind, memberships) = self.store.read("identity_standing", ask, read).await?;
        let user = user.ok_or_else(unauthenticated)?;
        let session = match behind {
            Behind::Session(session) => of_session(*session),
            Behind::Token(token) => {
                let far = self.clock.now().plus_seconds(self.config.auth.refresh_ttl_seconds);
                of_token(token, &user.email, far)
            }
            Behind::Nothing => return Err(unauthenticated().into()),
        };
        Ok(Standing { user, session, memberships })
    }
}

enum Behind {
    Session(Box<Session>),
    Token(PersonalToken),
    /// It was revoked and forgotten while the request was on its way.
    Nothing,
}

async fn read(
    tx: &mut Tx,
    (user_id, session_id): &(String, String),
) -> Result<(Option<rows::User>, Behind, Vec<Membership>), Stop> {
    let user = rows::user(tx, user_id).await?;
    let behind = match session_id.strip_prefix("pat:") {
        Some(token_id) => rows::token(tx, token_id).await?.map(Behind::Token),
        None => rows::session(tx, session_id).await?.map(|session| Behind::Session(Box::new(session))),
    };
    Ok((user, behind.unwrap_or(Behind::Nothing), memberships_in(tx, user_id).await?))
}

fn of_session(session: Session) -> SessionView {
    SessionView {
        session_id: session.session_id,
        user_id: session.user_id,
        email: session.email,
        device_id: session.device_id,
        status: session.status.name().to_owned(),
        token_name: session.token_name,
        issued_at: session.issued_at.zulu_seconds(),
        access_expires_at: session.access_expires_at.zulu_seconds(),
        refresh_expires_at: session.refresh_expires_at.zulu_seconds(),
        active_org_id: session.active_org_id,
        reauth_required: session.reauth_required,
        last_refreshed_at: seconds(session.last_refreshed_at),
        revoked_at: seconds(session.revoked_at),
        revoked_reason: session.revoked_reason,
    }
}

/// `far` stands for the end of a token that has none.
fn of_token(token: PersonalToken, email: &str, far: Timestamp) -> SessionView {
    let id = format!("pat:{}", token.token_id);
    let end = token.expires_at.unwrap_or(far).zulu_seconds();
    SessionView {
        session_id: id.clone(),
        active_org_id: personal_org(&token.user_id),
        user_id: token.user_id,
        email: email.to_owned(),
        device_id: id,
        status: "active".to_owned(),
        token_name: token.name,
        issued_at: token.created_at.zulu_seconds(),
        access_expires_at: end.clone(),
        refresh_expires_at: end,
        reauth_required: false,
        last_refreshed_at: None,
        revoked_at: None,
        revoked_reason: None,
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::{identity::NewToken, testing::World};

    #[tokio::test]
    async fn a_session_is_told_its_device_its_moments_and_its_organisation() {
        let world = World::new().await;
        let signed_in = world.sign_in("dev@example.com", "laptop").await;
        let begun = world.now();
        let CurrentSession { session, user, memberships } =
            world.whoami(signed_in.token.reveal()).await.expect("a session");
        assert_eq!((session.device_id.as_str(), session.status.as_str()), ("laptop", "active"));
        assert_eq!(session.access_expires_at, begun.plus_seconds(3_600).zulu_seconds());
        assert_eq!(session.active_org_id, format!("user:{}", user.id));
        assert_eq!(memberships[0].org_slug, format!("user-{}", user.id));
        assert!(
            memberships[0].default_org && memberships[0].role_scopes.contains(&"runtime.write".to_owned())
        );
        assert_eq!(session.revoked_at, None);
    }

    #[tokio::test]
    async fn a_personal_token_is_seen_as_a_session_named_after_it() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("ci")).await;
        let answer = world.ask_as::<AuthSession>(token.reveal(), Nothing {}).await.expect("a session");
        let session = answer.body.data.session;
        assert!(session.session_id.starts_with("pat:pat_") && session.session_id == session.device_id);
        assert_eq!(session.token_name, "ci");
        assert_eq!(session.access_expires_at, world.now().plus_seconds(2_592_000).zulu_seconds());
    }
}
