//! Decides which replica does what only one should do at a time: whoever has the lease of that job. Everything that a
//! leader writes is kept only under its own term (`oa_store::tables::leases`), so a replica that stood still and comes
//! back writes nothing that its successor does not know of.

use std::time::Duration;

use oa_contract::{Port as _, Stop, Timestamp};
use oa_store::{
    EngineKind, Key, Tx,
    tables::leases::{self, Term},
};
use tokio::sync::Mutex;

use crate::Runtime;

/// What is short and often: holds, envelopes, requests for quotes, debts, silent workers, forgotten prices and used
/// credentials. One replica does all of it.
pub const SWEEPS: &str = "sweeps";
/// How long nobody else sweeps after the replica that did was last heard of.
const SWEEPS_FOR: Duration = Duration::from_secs(4);

/// One replica's part in one job.
pub struct Leader {
    name: String,
    me: String,
    lasts: Duration,
    /// The term as it was last seen. It may be over: the fence is in the store.
    seen: Mutex<Option<Term>>,
}

impl Leader {
    /// `lasts` is how long nobody else takes over when this one is not heard of any more.
    pub fn new(name: impl Into<String>, me: impl Into<String>, lasts: Duration) -> Self {
        Leader { name: name.into(), me: me.into(), lasts, seen: Mutex::default() }
    }

    pub fn of_sweeps(me: &str) -> Self {
        Self::new(SWEEPS, me, SWEEPS_FOR)
    }

    /// Does the work if this replica leads, under its term; nothing if another one does, or if this instance does not
    /// write.
    pub async fn lead<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<Option<T>, Stop> {
        if runtime.admits_writes().is_err() {
            return Ok(None);
        }
        match self.term(runtime).await? {
            Some(term) => term.during(work).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same for what comes round every second. A file has one process, which needs no lease for that.
    pub async fn sweep<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<Option<T>, Stop> {
        match runtime.store.engine() {
            EngineKind::Sqlite => work.await.map(Some),
            EngineKind::Postgres => self.lead(runtime, work).await,
        }
    }

    /// Gives the lease back, so that nobody has to wait until it runs out.
    pub async fn step_down(&self, runtime: &Runtime) -> Result<(), Stop> {
        let Some(term) = self.seen.lock().await.take() else { return Ok(()) };
        let ask = (term.name, term.holder, runtime.now());
        runtime.store.write("lease.release", self.key(), ask, release).await?;
        Ok(())
    }

    /// This replica's term, prolonged when a third of it is over. Somebody else's costs a look.
    async fn term(&self, runtime: &Runtime) -> Result<Option<Term>, Stop> {
        let mut seen = self.seen.lock().await;
        let now = runtime.now();
        let lasts = i64::try_from(self.lasts.as_millis()).unwrap_or(i64::MAX / 8_000);
        if let Some(term) = seen.as_ref().filter(|term| term.until.millis_since(now) > lasts / 3 * 2) {
            return Ok(Some(term.clone()));
        }
        *seen = match self.standing(runtime).await? {
            Some(term) if term.holder != self.me && term.until > now => None,
            _ => {
                let ask = (self.name.clone(), self.me.clone(), now, now.plus_millis(lasts));
                runtime.store.write("lease.take", self.key(), ask, take).await?
            }
        };
        Ok(seen.clone())
    }

    /// The term that stands, whoever's it is.
    async fn standing(&self, runtime: &Runtime) -> Result<Option<Term>, Stop> {
        let look = async |tx: &mut Tx, name: &String| leases::standing(tx, name).await;
        runtime.store.read("lease.look", self.name.clone(), look).await
    }

    fn key(&self) -> Key {
        Key::text("lease", self.name.clone())
    }
}

async fn take(
    tx: &mut Tx,
    (name, me, now, until): &(String, String, Timestamp, Timestamp),
) -> Result<Option<Term>, Stop> {
    leases::take(tx, name, me, *now, *until).await
}

async fn release(tx: &mut Tx, (name, me, now): &(String, String, Timestamp)) -> Result<bool, Stop> {
    leases::release(tx, name, me, *now).await
}

#[cfg(test)]
mod tests {
    use oa_contract::Fault;

    use super::*;
    use crate::testing::{World, on_each_engine};

    fn leader(me: &str) -> Leader {
        Leader::new("job", me, Duration::from_secs(9))
    }

    async fn led(world: &World, leader: &Leader) -> Option<u64> {
        let work = async { Ok(()) };
        leader.lead(&world.runtime, work).await.expect("asked")?;
        leader.standing(&world.runtime).await.expect("read").map(|term| term.token)
    }

    #[tokio::test]
    async fn one_leads_as_long_as_it_comes_back_in_time() {
        on_each_engine(async |world: World| {
            let (one, two) = (leader("one"), leader("two"));
            for _ in 0..5 {
                assert_eq!((led(&world, &one).await, led(&world, &two).await), (Some(1), None));
                world.clock.advance_ms(8_000);
            }
            world.clock.advance_ms(1_000);
            assert_eq!((led(&world, &two).await, led(&world, &one).await), (Some(2), None));
        })
        .await;
    }

    #[tokio::test]
    async fn a_leader_that_slept_through_its_term_changes_nothing_when_it_wakes() {
        on_each_engine(async |world: World| {
            let (one, two) = (leader("one"), leader("two"));
            let store = world.runtime.store.clone();
            let act = async |tx: &mut Tx, key: &&'static str| {
                oa_store::outbox::enqueue(tx, "test", key, Timestamp::EPOCH).await?;
                Ok(())
            };
            let slept = one.lead(&world.runtime, async {
                store.write("test.act", (), "before", act).await?;
                world.clock.advance_ms(9_000);
                assert_eq!(led(&world, &two).await, Some(2), "another has taken over");
                store.write("test.act", (), "after", act).await
            });
            let Err(Stop::Fault(Fault { .. })) = slept.await else { panic!("it was kept") };
            let depth = async |tx: &mut Tx, (): &()| oa_store::outbox::depth(tx, Timestamp::EPOCH).await;
            assert_eq!(store.read("test.depth", (), depth).await.expect("read").waiting, 1);
            assert_eq!(led(&world, &one).await, None, "and it has noticed");
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_steps_down_is_followed_at_once() {
        let world = World::sqlite().await;
        let (one, two) = (leader("one"), leader("two"));
        assert_eq!(led(&world, &one).await, Some(1));
        one.step_down(&world.runtime).await.expect("given back");
        assert_eq!(led(&world, &two).await, Some(2));
        one.step_down(&world.runtime).await.expect("not its own any more");
        assert_eq!(led(&world, &two).await, Some(2));
    }
}
