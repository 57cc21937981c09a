//! Decides how long a personal token is believed without asking the store again: for two seconds, and not at all
//! once this process has revoked any. Only tokens that are good are remembered, so strangers take no room.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use oa_contract::{Timestamp, User};
use oa_store::tables::identity::SecretHash;

/// Another process may revoke a token, or change its user: that counts here after so long at the latest.
const BELIEVED_MILLIS: i64 = 2_000;
/// Tokens remembered at one time.
const LIMIT: usize = 4_096;

/// The personal tokens that were good a moment ago.
#[derive(Default)]
pub struct KnownTokens(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    known: HashMap<SecretHash, Known>,
    /// Counts revocations. What was read before one is not remembered after it.
    revocations: u64,
}

struct Known {
    user: User,
    /// From here on it has to be looked up, however short ago it was.
    until: Timestamp,
    read_at: Timestamp,
}

/// A look into the store that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    revocations: u64,
    read_at: Timestamp,
}

impl KnownTokens {
    /// Whose token this is, if that was read just now; otherwise the look that will tell.
    pub fn find(&self, hash: &SecretHash, now: Timestamp) -> Result<User, Look> {
        let inner = self.lock();
        match inner.known.get(hash).filter(|known| known.is_good(now)) {
            Some(known) => Ok(known.user.clone()),
            None => Err(Look { revocations: inner.revocations, read_at: now }),
        }
    }

    /// Remembers what a look has found, until then at most.
    pub fn remember(&self, look: Look, hash: SecretHash, user: &User, until: Timestamp) {
        let mut inner = self.lock();
        if inner.revocations != look.revocations {
            return;
        }
        if inner.known.len() >= LIMIT {
            inner.known.retain(|_, known| known.is_good(look.read_at));
        }
        if inner.known.len() < LIMIT {
            inner.known.insert(hash, Known { user: user.clone(), until, read_at: look.read_at });
        }
    }

    /// A token was revoked, and the store has it: none is believed without another look.
    pub fn forget(&self) {
        let mut inner = self.lock();
        inner.revocations += 1;
        inner.known.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_good(&self, now: Timestamp) -> bool {
        let age = now.millis_since(self.read_at);
        (0..BELIEVED_MILLIS).contains(&age) && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Class, Port, Presented, matrix::TokensRevokeCurrent};

    use super::*;
    use crate::{identity::NewToken, testing::World};

    async fn is_let_in(world: &World, secret: &str) -> bool {
        let authorization = format!("Bearer {secret}");
        let presented = Presented {
            method: "GET",
            path: "/api/me",
            authorization: Some(&authorization),
            signature: None,
            cookie: None,
            body: b"",
            peer: "127.0.0.1",
        };
        world.control.authenticate(Class::User("runtime.read"), presented).await.is_ok()
    }

    #[tokio::test]
    async fn a_revocation_counts_at_once_and_for_every_token() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let first = world.personal_token(&user.user_id, NewToken::named("a")).await;
        let second = world.personal_token(&user.user_id, NewToken::named("b")).await;
        assert!(is_let_in(&world, first.reveal()).await && is_let_in(&world, second.reveal()).await);
        world.ask_as::<TokensRevokeCurrent>(first.reveal(), oa_contract::Nothing {}).await.expect("revoked");
        assert!(!is_let_in(&world, first.reveal()).await);
        assert!(is_let_in(&world, second.reveal()).await);
    }

    #[tokio::test]
    async fn what_another_process_revokes_counts_after_two_seconds_at_the_latest() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("ci")).await;
        assert!(is_let_in(&world, token.reveal()).await);
        world.revoke_behind_its_back(&user.user_id).await;
        world.clock.advance_millis(1_999);
        assert!(is_let_in(&world, token.reveal()).await, "it is not asked for every request");
        world.clock.advance_millis(1);
        assert!(!is_let_in(&world, token.reveal()).await);
    }

    #[tokio::test]
    async fn what_was_read_before_a_revocation_is_not_remembered_after_it() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("ci")).await;
        let caller = world.caller(token.reveal()).await.expect("a caller");
        let oa_contract::Caller::User(user) = caller else { panic!("no user") };
        let (known, hash, now) = (KnownTokens::default(), SecretHash([7; 32]), world.now());
        let look = known.find(&hash, now).expect_err("unknown");
        known.forget();
        known.remember(look, hash, &user, now.plus_seconds(60));
        let look = known.find(&hash, now).expect_err("still unknown");
        known.remember(look, hash, &user, now.plus_seconds(1));
        assert_eq!(known.find(&hash, now).ok(), Some(user));
        assert!(known.find(&hash, now.plus_seconds(1)).is_err(), "its end is exact");
        assert!(known.find(&hash, now.plus_seconds(-1)).is_err(), "a moment before the look");
    }

    #[tokio::test]
    async fn no_more_are_remembered_than_there_is_room_for() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("ci")).await;
        let Ok(oa_contract::Caller::User(user)) = world.caller(token.reveal()).await else {
            panic!("no user")
        };
        let (known, now) = (KnownTokens::default(), world.now());
        for n in 0..2 * LIMIT {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            let look = known.find(&SecretHash(bytes), now).expect_err("unknown");
            known.remember(look, SecretHash(bytes), &user, now.plus_seconds(60));
        }
        assert_eq!(known.lock().known.len(), LIMIT);
        let later = now.plus_seconds(2);
        let look = known.find(&SecretHash([9; 32]), later).expect_err("unknown");
        known.remember(look, SecretHash([9; 32]), &user, now.plus_seconds(60));
        assert_eq!(known.lock().known.len(), 1);
    }
}
