//! Decides which sessions of the caller end: one, those of a device, or all (control §5.4). What had ended
//! before is passed over; the session that asks stays unless it is included.

use oa_contract::{
    Answer, Ask, Caller, Handle, Meta, Refusal, Stop, Timestamp,
    matrix::{AuthRevokeSessions, AuthRevokeSessionsV1},
    wire::accounts::{RevokeMySessions, SessionsRevoked},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, Session, SessionStatus},
};

use super::{
    authenticate::user_key,
    device,
    propagation::{self, Notice, Telling},
    sessions::{self, Reason},
    signed_in,
};
use crate::{Control, audit};

/// Sessions ended in one transaction, few enough that one notice holds them.
const BATCH: u32 = 400;

impl Handle<AuthRevokeSessions> for Control {
    async fn handle(&self, ask: Ask<AuthRevokeSessions>) -> Result<Answer<SessionsRevoked>, Stop> {
        self.revoke_sessions(&ask.caller, ask.body, &ask.meta).await
    }
}

impl Handle<AuthRevokeSessionsV1> for Control {
    async fn handle(&self, ask: Ask<AuthRevokeSessionsV1>) -> Result<Answer<SessionsRevoked>, Stop> {
        self.revoke_sessions(&ask.caller, ask.body, &ask.meta).await
    }
}

impl Control {
    async fn revoke_sessions(
        &self,
        caller: &Caller,
        body: RevokeMySessions,
        meta: &Meta,
    ) -> Result<Answer<SessionsRevoked>, Stop> {
        let user = signed_in(caller)?;
        let now = self.clock.now();
        let mut order = Order {
            user_id: user.user_id.clone(),
            target: target(&body)?,
            spared: (!body.include_current.unwrap_or(false)).then(|| user.session_id.clone()),
            reason: body.reason.unwrap_or_default(),
            after: String::new(),
            telling: self.telling(Telling::AtOnce),
            now,
        };
        let (mut ended, mut notices) = (Vec::new(), Vec::new());
        loop {
            let done = self
                .store
                .write("identity_revoke_sessions", user_key(&user.email), order.clone(), end)
                .await?;
            ended.extend(done.ended);
            notices.extend(done.notice);
            match done.more_after {
                Some(after) => order.after = after,
                None => break,
            }
        }
        let reply = reply(&ended, order.reason, now);
        let (sessions, tokens) =
            (reply.revoked_session_ids.len().to_string(), reply.revoked_refresh_token_ids.len().to_string());
        let event = audit::Event {
            name: "auth.sessions.revoked",
            user_id: Some(&user.user_id),
            session_id: Some(&user.session_id),
            attributes: &[
                ("reason", order.reason.name()),
                ("revoked_session_count", &sessions),
                ("revoked_refresh_token_count", &tokens),
            ],
            ..audit::Event::default()
        };
        audit::success(event, meta, now);
        if !ended.is_empty() {
            self.tell(notices, order.reason, meta).await?;
        }
        Ok(reply.into())
    }
}

/// What is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Session(String),
    Device(String),
    All,
}

#[derive(Clone)]
struct Order {
    user_id: String,
    target: Target,
    /// The session that stays.
    spared: Option<String>,
    reason: Reason,
    /// Where the batch begins.
    after: String,
    telling: Telling,
    now: Timestamp,
}

struct Done {
    ended: Vec<Session>,
    notice: Option<Notice>,
    more_after: Option<String>,
}

/// Exactly one of the three.
fn target(body: &RevokeMySessions) -> Result<Target, Refusal> {
    let session = body.session_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
    let device = device::device_id(body.device_id.as_deref())?;
    match (session, device, body.revoke_all_sessions.unwrap_or(false)) {
        (Some(id), None, false) => Ok(Target::Session(id.to_owned())),
        (None, Some(id), false) => Ok(Target::Device(id)),
        (None, None, true) => Ok(Target::All),
        _ => Err(Refusal::field(
            "target",
            "exactly one of session_id, device_id and revoke_all_sessions must be given",
        )),
    }
}

async fn end(tx: &mut Tx, order: &Order) -> Result<Done, Stop> {
    let found = match &order.target {
        Target::Session(id) => Vec::from_iter(own(rows::session(tx, id).await?, &order.user_id)?),
        Target::Device(id) => rows::active_on_device(tx, &order.user_id, id).await?,
        Target::All => rows::active_sessions(tx, &order.user_id, &order.after, BATCH).await?,
    };
    let full = order.target == Target::All && found.len() == BATCH as usize;
    let more_after = found.last().filter(|_| full).map(|session| session.session_id.clone());
    let ending = found.into_iter().filter(|one| order.spared.as_ref() != Some(&one.session_id)).collect();
    let ended = sessions::end(tx, ending, order.reason, order.now).await?;
    let notice = propagation::note(tx, order.telling, &ended, order.reason, order.now).await?;
    Ok(Done { ended, notice, more_after })
}

/// A session that was named: the caller's own, if it still lives.
fn own(found: Option<Session>, user_id: &str) -> Result<Option<Session>, Refusal> {
    let session = found.ok_or_else(|| Refusal::field("session_id", "There is no such session."))?;
    match session.user_id == user_id {
        true => Ok(Some(session).filter(|session| session.status == SessionStatus::Active)),
        false => Err(Refusal::forbidden("Forbidden.")),
    }
}

fn reply(ended: &[Session], reason: Reason, now: Timestamp) -> SessionsRevoked {
    let sorted = |of: fn(&Session) -> &String| {
        let mut all: Vec<String> = ended.iter().map(|session| of(session).clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    SessionsRevoked {
        ok: true,
        revoked_session_ids: sorted(|session| &session.session_id),
        revoked_device_ids: sorted(|session| &session.device_id),
        revoked_refresh_token_ids: sorted(|session| &session.refresh_token_id),
        reason,
        revoked_at: now.zulu_seconds(),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Service;

    use super::*;
    use crate::testing::World;

    fn all() -> RevokeMySessions {
        RevokeMySessions { revoke_all_sessions: Some(true), ..RevokeMySessions::default() }
    }

    fn one(session_id: &str) -> RevokeMySessions {
        RevokeMySessions { session_id: Some(session_id.to_owned()), ..RevokeMySessions::default() }
    }

    #[test]
    fn exactly_one_target_is_named() {
        let device = RevokeMySessions { device_id: Some(" IOS ".into()), ..RevokeMySessions::default() };
        assert_eq!(target(&device), Ok(Target::Device("ios".into())));
        assert_eq!(target(&one(" s ")), Ok(Target::Session("s".into())));
        assert_eq!(target(&all()), Ok(Target::All));
        let both = RevokeMySessions { session_id: Some("s".into()), ..all() };
        let none = RevokeMySessions { revoke_all_sessions: Some(false), ..one(" ") };
        for bad in [both, none] {
            assert_eq!(target(&bad).expect_err("refused").field.as_deref(), Some("target"));
        }
        let device = RevokeMySessions { device_id: Some("a b".into()), ..RevokeMySessions::default() };
        assert_eq!(target(&device).expect_err("refused").field.as_deref(), Some("device_id"));
    }

    #[tokio::test]
    async fn all_but_the_one_that_asks_end_and_it_too_when_included() {
        let world = World::new().await;
        let mine = world.sign_in("dev@example.com", "laptop").await;
        let phone = world.sign_in("dev@example.com", "phone").await;
        let theirs = world.sign_in("other@example.com", "laptop").await;
        let secret = mine.token.reveal();
        let reply = world.ask_as::<AuthRevokeSessions>(secret, all()).await.expect("revoked").body;
        assert_eq!(reply.revoked_session_ids, [phone.session_id.as_str()]);
        assert_eq!(reply.revoked_device_ids, ["phone"]);
        assert_eq!(reply.revoked_refresh_token_ids.len(), 1);
        assert!(world.whoami(phone.token.reveal()).await.is_err());
        assert!(world.refresh(phone.refresh_token.reveal(), None).await.is_err());
        let again = world.ask_as::<AuthRevokeSessions>(secret, all()).await.expect("revoked").body;
        assert_eq!(again.revoked_session_ids, [""; 0]);
        let included = RevokeMySessions { include_current: Some(true), ..all() };
        let last = world.ask_as::<AuthRevokeSessions>(secret, included).await.expect("revoked").body;
        assert_eq!(last.revoked_session_ids, [mine.session_id.as_str()]);
        assert!(world.whoami(secret).await.is_err());
        assert!(world.whoami(theirs.token.reveal()).await.is_ok());
    }

    #[tokio::test]
    async fn an_unknown_session_is_422_anothers_403_and_a_dead_one_is_passed_over() {
        let world = World::new().await;
        let mine = world.sign_in("dev@example.com", "laptop").await;
        let dead = world.sign_in("dev@example.com", "phone").await;
        let theirs = world.sign_in("other@example.com", "laptop").await;
        let revoke = async |body| world.ask_as::<AuthRevokeSessions>(mine.token.reveal(), body).await;
        let refused = revoke(one("sess_nobody")).await.expect_err("unknown");
        assert_eq!((refused.status(Service::Control), refused.field.as_deref()), (422, Some("session_id")));
        let refused = revoke(one(&theirs.session_id)).await.expect_err("not mine");
        assert_eq!(refused.status(Service::Control), 403);
        assert!(world.whoami(theirs.token.reveal()).await.is_ok());
        let body = RevokeMySessions { reason: Some(Reason::SecurityPolicy), ..one(&dead.session_id) };
        assert_eq!(revoke(body.clone()).await.expect("revoked").body.revoked_session_ids.len(), 1);
        let kept = world.session(&dead.session_id).await.expect("kept");
        assert_eq!((kept.revoked_reason.as_deref(), kept.reauth_required), (Some("security_policy"), true));
        assert_eq!(revoke(body).await.expect("passed over").body.revoked_session_ids.len(), 0);
        assert_eq!(revoke(one(&mine.session_id)).await.expect("spared").body.revoked_session_ids.len(), 0);
    }
}
