//! Decides whom a credential speaks for: an access token is found by its hash, and good until the exact moment
//! that it names (control §2.7, §5.1).

mod known_tokens;

pub use known_tokens::KnownTokens;
use oa_contract::{Credential, Presented, Refusal, Stop, Timestamp, User, refusal::Code};
use oa_store::{
    Key, Tx,
    tables::identity::{self as rows, PersonalToken, SecretHash, Session, SessionStatus},
};

use super::{ACCESS, PERSONAL, hash_of, orgs::personal_org, principal_number, sessions};
use crate::Control;

/// When a personal token was last used is written at most so often.
const TOUCH_SECONDS: i64 = 60;

pub fn unauthenticated() -> Refusal {
    Refusal::new(Code::Unauthorized, "Unauthenticated.")
}

impl Control {
    /// The user whose credential this is.
    pub(crate) async fn identify(&self, presented: Presented<'_>) -> Result<User, Stop> {
        let token = presented_token(presented.authorization, presented.cookie).ok_or_else(unauthenticated)?;
        let (now, hash) = (self.clock.now(), hash_of(token));
        match token {
            _ if token.starts_with(ACCESS) => self.by_session(hash, now).await,
            _ if token.starts_with(PERSONAL) => self.by_personal_token(hash, now).await,
            _ => Err(unauthenticated().into()),
        }
    }

    async fn by_session(&self, hash: SecretHash, now: Timestamp) -> Result<User, Stop> {
        let (found, user) = self.store.read("identity_by_access", hash, session_and_user).await?;
        match decide(found, now) {
            Ruling::Good(session) => {
                let user = user.ok_or_else(unauthenticated)?;
                Ok(user_of(*session, user.admin))
            }
            Ruling::Expired(email) => {
                self.store.write("identity_expire_session", user_key(&email), (hash, now), expire).await?;
                Err(unauthenticated().into())
            }
            Ruling::Unknown => Err(unauthenticated().into()),
        }
    }

    async fn by_personal_token(&self, hash: SecretHash, now: Timestamp) -> Result<User, Stop> {
        let look = match self.known_tokens.find(&hash, now) {
            Ok(user) => return Ok(user),
            Err(look) => look,
        };
        let found = self.store.read("identity_by_token", hash, token_and_user).await?;
        let (token, user) =
            found.filter(|(token, _)| sessions::is_good(token, now)).ok_or_else(unauthenticated)?;
        let stale = now.plus_seconds(-TOUCH_SECONDS);
        if token.last_used_at.is_none_or(|last| last <= stale) {
            let use_of = (token.token_id.clone(), now, stale);
            // The note is a courtesy: a store that takes no writes may still be read.
            if let Err(stop) = self.store.write("identity_touch_token", (), use_of, touch).await {
                tracing::warn!(%stop, "the last use of a personal token could not be noted");
            }
        }
        let user = User {
            owner_user_id: principal_number(&user.user_id),
            active_org_id: personal_org(&user.user_id),
            admin: user.admin,
            user_id: user.user_id,
            email: user.email,
            session_id: format!("pat:{}", token.token_id),
            credential: Credential::PersonalToken,
            abilities: token.abilities,
        };
        // Its end is exact, and its next use is noted in time.
        let noted =
            token.last_used_at.filter(|last| *last > stale).unwrap_or(now).plus_seconds(TOUCH_SECONDS);
        let until = token.expires_at.map_or(noted, |end| end.min(noted));
        self.known_tokens.remember(look, hash, &user, until);
        Ok(user)
    }
}

/// The bearer token, otherwise the cookie `oa_access_token`.
fn presented_token<'a>(authorization: Option<&'a str>, cookie: Option<&'a str>) -> Option<&'a str> {
    bearer(authorization).or_else(|| cookie_named(cookie, "oa_access_token"))
}

/// The token of `Authorization: Bearer …`; the scheme is case-sensitive.
pub fn bearer(authorization: Option<&str>) -> Option<&str> {
    authorization?.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

/// One cookie of the `cookie` header.
pub fn cookie_named<'a>(cookie: Option<&'a str>, name: &str) -> Option<&'a str> {
    let pairs = cookie?.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.trim())
        .filter(|value| !value.is_empty())
}

/// What an access token is worth now.
enum Ruling {
    Good(Box<Session>),
    /// It has just been found out that its time is over; whose it is.
    Expired(String),
    Unknown,
}

fn decide(found: Option<Session>, now: Timestamp) -> Ruling {
    match found {
        Some(session) if session.status != SessionStatus::Active => Ruling::Unknown,
        Some(session) if now < session.access_expires_at => Ruling::Good(Box::new(session)),
        Some(session) => Ruling::Expired(session.email),
        None => Ruling::Unknown,
    }
}

/// Ends a session whose access token was used too late; one that was refreshed meanwhile has another token.
async fn expire(tx: &mut Tx, (hash, now): &(SecretHash, Timestamp)) -> Result<(), Stop> {
    let found = rows::session_by_access(tx, hash).await?;
    match found.filter(|session| matches!(decide(Some(session.clone()), *now), Ruling::Expired(_))) {
        Some(session) => rows::put_session(tx, &Session { status: SessionStatus::Expired, ..session }).await,
        None => Ok(()),
    }
}

/// The user is read too: a role given or taken away counts from the next request on.
async fn session_and_user(
    tx: &mut Tx,
    hash: &SecretHash,
) -> Result<(Option<Session>, Option<rows::User>), Stop> {
    let Some(session) = rows::session_by_access(tx, hash).await? else { return Ok((None, None)) };
    let user = rows::user(tx, &session.user_id).await?;
    Ok((Some(session), user))
}

async fn token_and_user(tx: &mut Tx, hash: &SecretHash) -> Result<Option<(PersonalToken, rows::User)>, Stop> {
    let Some(token) = rows::token_by_hash(tx, hash).await? else { return Ok(None) };
    Ok(rows::user(tx, &token.user_id).await?.map(|user| (token, user)))
}

async fn touch(tx: &mut Tx, (token_id, now, stale): &(String, Timestamp, Timestamp)) -> Result<(), Stop> {
    rows::touch_token(tx, token_id, *now, *stale).await
}

fn user_of(session: Session, admin: bool) -> User {
    User {
        owner_user_id: principal_number(&session.user_id),
        active_org_id: session.active_org_id,
        admin,
        user_id: session.user_id,
        email: session.email,
        session_id: session.session_id,
        credential: Credential::Session,
        abilities: Vec::new(),
    }
}

/// The key under which changes of one user's credentials stand in line: without it two refreshes with one token
/// could both succeed where several processes write. An address never changes, so it names the user.
pub fn user_key(email: &str) -> Key {
    Key::text("user", email)
}

#[cfg(test)]
mod tests {
    use oa_contract::{Caller, Class, Port, Service};

    use super::*;
    use crate::{identity::NewToken, testing::World};

    fn carrying<'a>(authorization: Option<&'a str>, cookie: Option<&'a str>) -> Presented<'a> {
        Presented {
            method: "GET",
            path: "/api/me",
            authorization,
            signature: None,
            cookie,
            body: b"",
            peer: "127.0.0.1",
        }
    }

    async fn status(world: &World, ability: &'static str, authorization: &str) -> u16 {
        match world.control.authenticate(Class::User(ability), carrying(Some(authorization), None)).await {
            Ok(Caller::User(_)) => 200,
            Ok(other) => panic!("{other:?}"),
            Err(Stop::Refusal(refusal)) => refusal.status(Service::Control),
            Err(Stop::Fault(fault)) => panic!("{fault}"),
        }
    }

    #[test]
    fn the_header_comes_before_the_cookie_and_its_scheme_is_exact() {
        assert_eq!(presented_token(Some("Bearer  a "), Some("oa_access_token=b")), Some("a"));
        assert_eq!(presented_token(Some("bearer a"), Some("x=1; oa_access_token=b")), Some("b"));
        assert_eq!(presented_token(Some("Bearer "), Some("xoa_access_token=b")), None);
    }

    #[tokio::test]
    async fn a_session_is_good_until_the_exact_moment_and_then_expired_for_good() {
        let world = World::new().await;
        let signed_in = world.sign_in("dev@example.com", "a").await;
        let header = format!("Bearer {}", signed_in.token.reveal());
        world.clock.advance_millis(3_599_999);
        assert_eq!(status(&world, "runtime.write", &header).await, 200);
        world.clock.advance_millis(1);
        assert_eq!(status(&world, "runtime.write", &header).await, 401);
        let refused = world.refresh(signed_in.refresh_token.reveal(), None).await.expect_err("refused");
        assert_eq!(refused.status(Service::Control), 401);
    }

    #[tokio::test]
    async fn the_cookie_is_honoured_and_an_unknown_secret_is_nobody() {
        let world = World::new().await;
        let signed_in = world.sign_in("dev@example.com", "a").await;
        let cookie = format!("theme=dark; oa_access_token={}", signed_in.token.reveal());
        let caller = world.control.authenticate(Class::User("self"), carrying(None, Some(&cookie))).await;
        assert!(matches!(caller, Ok(Caller::User(user)) if user.session_id == signed_in.session_id));
        for nobody in ["Bearer oa_at_00", "Bearer oa_pat_00", "Bearer oa_rt_00", "Basic x", "Bearer "] {
            assert_eq!(status(&world, "self", nobody).await, 401, "{nobody}");
        }
    }

    #[tokio::test]
    async fn a_personal_token_reaches_as_far_as_its_abilities_and_ends_exactly() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let new = NewToken {
            name: "ci".into(),
            abilities: vec!["runtime.read".into()],
            expires_at: Some(world.now().plus_seconds(10)),
        };
        let token = world.personal_token(&user.user_id, new).await;
        let header = format!("Bearer {}", token.reveal());
        assert_eq!(status(&world, "runtime.read", &header).await, 200);
        assert_eq!(status(&world, "runtime.write", &header).await, 403);
        assert_eq!(status(&world, "tokens.manage", &header).await, 403);
        assert_eq!(status(&world, "self", &header).await, 200);
        world.clock.advance_millis(9_999);
        assert_eq!(status(&world, "runtime.read", &header).await, 200);
        world.clock.advance_millis(1);
        assert_eq!(status(&world, "runtime.read", &header).await, 401);
    }

    #[tokio::test]
    async fn the_last_use_is_noted_once_a_minute() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("ci")).await;
        let header = format!("Bearer {}", token.reveal());
        let begun = world.now();
        let last_used = async || world.tokens_of(&user.user_id).await[0].last_used_at;
        assert_eq!(status(&world, "runtime.read", &header).await, 200);
        world.clock.advance_millis(59_000);
        assert_eq!(status(&world, "runtime.read", &header).await, 200);
        assert_eq!(last_used().await, Some(begun));
        world.clock.advance_millis(1_000);
        assert_eq!(status(&world, "runtime.read", &header).await, 200);
        assert_eq!(last_used().await, Some(begun.plus_seconds(60)));
    }
}
