//! Decides what a refresh token is worth: it is good once. Seen a second time, somebody else has it, and the
//! session ends for both (control §5.3).

use oa_contract::{
    Answer, Ask, Code, Handle, Refusal, Stop, Timestamp, matrix::AuthRefresh, wire::identity::Refreshed,
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, SecretHash, Session, SessionStatus, SpentToken},
};

use super::{
    authenticate::{bearer, user_key},
    device, hash_of,
    propagation::{self, Telling},
    sessions::{self, Kept, Pair, Reason},
};
use crate::{Control, audit};

impl Handle<AuthRefresh> for Control {
    async fn handle(&self, ask: Ask<AuthRefresh>) -> Result<Answer<Refreshed>, Stop> {
        let now = self.clock.now();
        let refreshed = self.refresh(&ask, now).await;
        match &refreshed {
            Ok(Refreshed { session_id, .. }) => {
                let event = audit::Event {
                    name: "auth.refresh.completed",
                    session_id: Some(session_id),
                    attributes: &[("rotated_refresh_token", "true")],
                    ..audit::Event::default()
                };
                audit::success(event, &ask.meta, now);
            }
            Err(stop) => audit::failure("auth.refresh.failed", stop, &ask.meta, now),
        }
        Ok(refreshed?.into())
    }
}

impl Control {
    async fn refresh(&self, ask: &Ask<AuthRefresh>, now: Timestamp) -> Result<Refreshed, Stop> {
        let named = ask
            .body
            .refresh_token
            .as_ref()
            .map(|token| token.reveal().trim())
            .filter(|token| !token.is_empty());
        let token = named.or_else(|| bearer(ask.meta.header("authorization"))).ok_or_else(invalid)?;
        if ask.body.rotate_refresh_token == Some(false) {
            return Err(Refusal::field("rotate_refresh_token", "a refresh token is always replaced").into());
        }
        let pair = Pair::new(&*self.ids, &self.config.auth, now);
        let device = ask.body.device_id.as_deref().or_else(|| ask.meta.header("x-device-id"));
        // Whose session it is decides the line to stand in; what it is worth is decided there.
        let owner =
            self.store.read("identity_find_refresh", hash_of(token), owner).await?.ok_or_else(invalid)?;
        let attempt = Attempt {
            presented: hash_of(token),
            device: device.map(str::to_owned),
            kept: pair.kept.clone(),
            telling: self.telling(Telling::Later),
            now,
        };
        match self.store.write("identity_refresh", user_key(&owner), attempt, attempted).await? {
            Ruling::Rotated(session, spent) => Ok(Refreshed {
                ok: true,
                status: "active".into(),
                token_type: "Bearer".into(),
                token: pair.access,
                refresh_token: pair.refresh,
                refresh_token_id: pair.kept.refresh_token_id,
                replaced_refresh_token_id: spent.refresh_token_id,
                session_id: session.session_id,
                access_expires_at: pair.kept.access_expires_at.zulu_seconds(),
                refresh_expires_at: pair.kept.refresh_expires_at.zulu_seconds(),
            }),
            Ruling::Replayed(session, _) => {
                self.revocations.notify_one();
                tracing::warn!(
                    session_id = session.session_id,
                    "a refresh token was used twice; its session is revoked"
                );
                Err(invalid().into())
            }
            Ruling::Expired(_) => Err(invalid().into()),
            Ruling::Refused(refusal) => Err(refusal.into()),
        }
    }
}

fn invalid() -> Refusal {
    Refusal::new(Code::Unauthorized, "Invalid refresh token.")
}

struct Attempt {
    presented: SecretHash,
    device: Option<String>,
    kept: Kept,
    telling: Telling,
    now: Timestamp,
}

/// What becomes of the session. Each is kept, the refusals too.
enum Ruling {
    Rotated(Box<Session>, SpentToken),
    Replayed(Box<Session>, SpentToken),
    Expired(Box<Session>),
    Refused(Refusal),
}

/// The session of a refresh token, and whether the token was used up.
async fn behind(tx: &mut Tx, presented: &SecretHash) -> Result<(Option<Session>, bool), Stop> {
    match rows::spent(tx, presented).await? {
        Some(spent) => Ok((rows::session(tx, &spent.session_id).await?, true)),
        None => Ok((rows::session_by_refresh(tx, presented).await?, false)),
    }
}

async fn owner(tx: &mut Tx, presented: &SecretHash) -> Result<Option<String>, Stop> {
    Ok(behind(tx, presented).await?.0.map(|session| session.email))
}

async fn attempted(tx: &mut Tx, attempt: &Attempt) -> Result<Ruling, Stop> {
    let (session, spent) = behind(tx, &attempt.presented).await?;
    let ruling = decide(attempt, spent, session);
    match &ruling {
        Ruling::Rotated(session, spent) | Ruling::Replayed(session, spent) => {
            rows::put_session(tx, session).await?;
            rows::put_spent(tx, spent).await?;
        }
        Ruling::Expired(session) => rows::put_session(tx, session).await?,
        Ruling::Refused(_) => {}
    }
    if let Ruling::Replayed(session, _) = &ruling {
        let ended = std::slice::from_ref(&**session);
        propagation::note(tx, attempt.telling, ended, Reason::TokenReplay, attempt.now).await?;
    }
    Ok(ruling)
}

/// The checks of the specification, in its order.
fn decide(attempt: &Attempt, spent: bool, session: Option<Session>) -> Ruling {
    let Some(session) = session else { return Ruling::Refused(invalid()) };
    if spent {
        return match session.status {
            SessionStatus::Active => {
                let (session, spent) = sessions::revoked(session, Reason::TokenReplay, attempt.now);
                Ruling::Replayed(Box::new(session), spent)
            }
            _ => Ruling::Refused(invalid()),
        };
    }
    match device::device_id(attempt.device.as_deref()) {
        Err(refusal) => return Ruling::Refused(refusal),
        Ok(Some(device)) if device != session.device_id => {
            return Ruling::Refused(Refusal::forbidden("This refresh token belongs to another device."));
        }
        Ok(_) => {}
    }
    if session.status != SessionStatus::Active {
        return Ruling::Refused(invalid());
    }
    if attempt.now >= session.refresh_expires_at {
        return Ruling::Expired(Box::new(Session { status: SessionStatus::Expired, ..session }));
    }
    let (session, spent) = sessions::rotated(session, &attempt.kept, attempt.now);
    Ruling::Rotated(Box::new(session), spent)
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        Service,
        wire::identity::{RefreshSession, Secret},
    };

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn both_tokens_are_replaced_and_the_old_access_token_is_nobody() {
        let world = World::new().await;
        let first = world.sign_in("dev@example.com", "laptop").await;
        world.clock.advance_millis(1_500);
        let second = world.refresh(first.refresh_token.reveal(), Some("Laptop")).await.expect("refreshed");
        assert_eq!(second.session_id, first.session_id);
        assert_ne!(second.refresh_token_id, second.replaced_refresh_token_id);
        assert_eq!(second.access_expires_at, world.now().plus_seconds(3_600).zulu_seconds());
        assert!(world.whoami(first.token.reveal()).await.is_err());
        assert!(world.whoami(second.token.reveal()).await.is_ok());
    }

    #[tokio::test]
    async fn a_refresh_token_seen_twice_ends_the_session() {
        let world = World::new().await;
        let first = world.sign_in("dev@example.com", "laptop").await;
        let second = world.refresh(first.refresh_token.reveal(), None).await.expect("refreshed");
        let refused = world.refresh(first.refresh_token.reveal(), None).await.expect_err("replayed");
        assert_eq!(
            (refused.status(Service::Control), refused.message.as_str()),
            (401, "Invalid refresh token.")
        );
        let session = world.session(&first.session_id).await.expect("a session");
        assert_eq!(session.revoked_reason.as_deref(), Some("token_replay"));
        assert!(session.reauth_required);
        assert!(world.whoami(second.token.reveal()).await.is_err());
        assert!(world.refresh(second.refresh_token.reveal(), None).await.is_err());
    }

    #[tokio::test]
    async fn of_two_parallel_refreshes_one_wins_and_the_session_ends() {
        let world = World::new().await;
        let first = world.sign_in("dev@example.com", "laptop").await;
        let token = first.refresh_token.reveal();
        let (a, b) = futures_util::future::join(world.refresh(token, None), world.refresh(token, None)).await;
        assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1);
        assert_eq!(world.session(&first.session_id).await.expect("a session").status, SessionStatus::Revoked);
    }

    #[tokio::test]
    async fn the_checks_come_in_the_specified_order() {
        let world = World::new().await;
        let first = world.sign_in("dev@example.com", "laptop").await;
        let ask = async |body: RefreshSession| {
            let refused = world.ask::<AuthRefresh>(body).await.expect_err("refused");
            (refused.status(Service::Control), refused.field.clone())
        };
        let token = Some(Secret::new(first.refresh_token.reveal()));
        let keep = RefreshSession { rotate_refresh_token: Some(false), ..RefreshSession::default() };
        assert_eq!(ask(keep.clone()).await, (401, None));
        let keep = RefreshSession { refresh_token: token.clone(), ..keep };
        assert_eq!(ask(keep).await, (422, Some("rotate_refresh_token".into())));
        let unknown = RefreshSession {
            refresh_token: Some(Secret::new("oa_rt_0")),
            device_id: Some("a b".into()),
            ..RefreshSession::default()
        };
        assert_eq!(ask(unknown).await, (401, None));
        let with_device = |device: &str| RefreshSession {
            refresh_token: token.clone(),
            device_id: Some(device.into()),
            ..RefreshSession::default()
        };
        assert_eq!(ask(with_device("phone")).await, (403, None));
        assert_eq!(ask(with_device("a b")).await, (422, Some("device_id".into())));
        world.clock.advance_millis(2_592_000_000);
        assert_eq!(ask(with_device("laptop")).await, (401, None));
        assert_eq!(world.session(&first.session_id).await.expect("a session").status, SessionStatus::Expired);
    }

    #[tokio::test]
    async fn the_token_may_stand_in_the_bearer_header() {
        let world = World::new().await;
        let first = world.sign_in("dev@example.com", "laptop").await;
        let header = format!("Bearer {}", first.refresh_token.reveal());
        let answer =
            world.ask_with::<AuthRefresh>(RefreshSession::default(), &[("authorization", &header)]).await;
        assert!(answer.is_ok());
    }
}
