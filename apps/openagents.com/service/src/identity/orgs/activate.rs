//! `POST /api/orgs/active`: decides which organisation a session speaks for. A personal token always speaks for
//! its user's default.

use oa_contract::{
    Answer, Ask, Credential, Handle, Refusal, Stop,
    matrix::OrgsActivate,
    wire::{
        accounts::{ActivateOrg, OrgActivated},
        identity::Membership,
    },
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, Session, SessionStatus},
};

use super::memberships_in;
use crate::{
    Control, audit,
    identity::{
        authenticate::{unauthenticated, user_key},
        signed_in,
    },
};

impl Handle<OrgsActivate> for Control {
    async fn handle(&self, ask: Ask<OrgsActivate>) -> Result<Answer<OrgActivated>, Stop> {
        let user = signed_in(&ask.caller)?;
        if user.credential != Credential::Session {
            return Err(unauthenticated().into());
        }
        let org_id = named(&ask.body)?;
        let choice = (user.session_id.clone(), user.user_id.clone(), org_id.clone());
        let memberships = self.store.write("orgs_activate", user_key(&user.email), choice, choose).await?;
        let event = audit::Event {
            name: "auth.active_org.updated",
            user_id: Some(&user.user_id),
            session_id: Some(&user.session_id),
            org_id: Some(&org_id),
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, self.clock.now());
        Ok(OrgActivated { ok: true, active_org_id: org_id, memberships }.into())
    }
}

fn named(body: &ActivateOrg) -> Result<String, Refusal> {
    match body.org_id.trim() {
        "" => Err(Refusal::field("org_id", "org_id must name an organisation")),
        org_id => Ok(org_id.to_owned()),
    }
}

async fn choose(
    tx: &mut Tx,
    (session_id, user_id, org_id): &(String, String, String),
) -> Result<Vec<Membership>, Stop> {
    let memberships = memberships_in(tx, user_id).await?;
    if !memberships.iter().any(|one| one.org_id == *org_id) {
        return Err(Refusal::forbidden("Forbidden.").into());
    }
    let session = rows::session(tx, session_id).await?;
    let session =
        session.filter(|session| session.status == SessionStatus::Active).ok_or_else(unauthenticated)?;
    rows::put_session(tx, &Session { active_org_id: org_id.clone(), ..session }).await?;
    Ok(memberships)
}

#[cfg(test)]
mod tests {
    use oa_contract::Service;

    use super::*;
    use crate::{identity::NewToken, testing::World};

    fn org(id: &str) -> ActivateOrg {
        ActivateOrg { org_id: id.to_owned() }
    }

    #[tokio::test]
    async fn a_session_changes_what_it_speaks_for_and_no_other_does() {
        let world = World::new().await;
        let here = world.sign_in("ada@openagents.com", "a").await;
        let there = world.sign_in("ada@openagents.com", "b").await;
        let reply =
            world.ask_as::<OrgsActivate>(here.token.reveal(), org(" org:openagents ")).await.expect("chosen");
        assert_eq!((reply.body.active_org_id.as_str(), reply.body.memberships.len()), ("org:openagents", 2));
        assert_eq!(world.signed_in(here.token.reveal()).await.active_org_id, "org:openagents");
        assert!(world.signed_in(there.token.reveal()).await.active_org_id.starts_with("user:"));
        let refreshed = world.refresh(here.refresh_token.reveal(), None).await.expect("refreshed");
        assert_eq!(world.signed_in(refreshed.token.reveal()).await.active_org_id, "org:openagents");
    }

    #[tokio::test]
    async fn strangers_blanks_and_personal_tokens_are_refused() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let token = world.personal_token(&session.user_id, NewToken::named("ci")).await;
        let status = async |secret: &str, id: &str| {
            let refused = world.ask_as::<OrgsActivate>(secret, org(id)).await.expect_err("refused");
            (refused.status(Service::Control), refused.field)
        };
        assert_eq!(status(session.token.reveal(), "org:openagents").await, (403, None));
        assert_eq!(status(session.token.reveal(), "  ").await, (422, Some("org_id".into())));
        let own = format!("user:{}", session.user_id);
        assert_eq!(status(token.reveal(), &own).await, (401, None));
    }
}
