//! Decides what is forgotten: credentials that have been no good for long enough that nobody asks about them.

use oa_contract::{Stop, Timestamp};
use oa_store::{Store, Tx, tables::identity as rows};

use super::sync::forget_keys;

/// Dead sessions and tokens are kept so long, so that their owners can still see what became of them.
const KEPT_SECONDS: i64 = 30 * 24 * 3_600;
/// At most so many of a kind in one transaction.
const BATCH: u32 = 1_000;

/// How many were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub challenges: u64,
    /// Sessions, with the refresh tokens that they had used up.
    pub sessions: u64,
    pub tokens: u64,
    /// Keys of sync tokens that have all expired.
    pub keys: u64,
}

impl Purged {
    /// Whether another call would find more.
    pub fn is_full(self) -> bool {
        [self.challenges, self.sessions, self.tokens].iter().any(|count| *count >= u64::from(BATCH))
    }
}

/// Forgets one batch. To be called now and then, and again while it [`Purged::is_full`].
pub async fn purge(store: &Store, now: Timestamp) -> Result<Purged, Stop> {
    store.write("identity_purge", (), now, forget).await
}

async fn forget(tx: &mut Tx, now: &Timestamp) -> Result<Purged, Stop> {
    let before = now.plus_seconds(-KEPT_SECONDS);
    Ok(Purged {
        challenges: rows::purge_challenges(tx, *now, BATCH).await?,
        sessions: rows::purge_sessions(tx, before, BATCH).await?,
        tokens: rows::purge_tokens(tx, before, BATCH).await?,
        keys: forget_keys(tx, *now).await?,
    })
}

#[cfg(test)]
mod tests {
    use oa_contract::matrix::AuthEmail;

    use super::*;
    use crate::testing::{World, email};

    #[tokio::test]
    async fn what_is_still_good_stays_and_what_is_long_dead_goes() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        world.refresh(session.refresh_token.reveal(), None).await.expect("refreshed");
        world.ask::<AuthEmail>(email("dev@example.com")).await.expect("sent");
        let purge = async || purge(&world.control.store, world.now()).await.expect("purged");
        assert_eq!(purge().await, Purged::default());
        world.clock.advance_millis(600_000);
        assert_eq!(purge().await, Purged { challenges: 1, ..Purged::default() });
        world.clock.advance_millis(60 * 24 * 3_600_000);
        assert_eq!(purge().await, Purged { sessions: 2, ..Purged::default() });
        assert_eq!(world.session(&session.session_id).await, None);
    }
}
