//! Decides when a hold is over: its time has come, and nobody captured or released it. What it reserved is free
//! again. A hold whose effect on the world has begun carries no time, and is never found here.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _};
use oa_contract::{Port as _, Stop, Timestamp};
use oa_ledger::TransferId;
use oa_store::{Tx, tables::ledger};

use super::lead::Leader;
use crate::Runtime;

/// How often somebody looks.
const EVERY: Duration = Duration::from_secs(1);
/// Holds in one look.
const BATCH: u32 = 256;
/// Holds that are given back at one time; on SQLite these share a commit.
const AT_ONE_TIME: usize = 32;

/// Looks until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>, leader: &Leader) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match leader.sweep(runtime, sweep_once(runtime)).await {
            Ok(None | Some(0)) => {}
            Ok(Some(expired)) => tracing::info!(expired, "holds were over; what they reserved is free again"),
            Err(stop) => {
                tracing::warn!(error = %stop, "holds that are over could not be given back; tried again")
            }
        }
    }
}

/// Gives back whatever is over and says how many holds that were.
pub async fn sweep_once(runtime: &Runtime) -> Result<usize, Stop> {
    let now = runtime.now();
    let mut expired = 0;
    while runtime.admits_writes().is_ok() {
        let due = runtime.store.read("holds.look", now, look).await?;
        let whole = due.len() == BATCH as usize;
        let expire = |id: TransferId| runtime.store.write("holds.expire", (), (id, now), expire);
        let ended = futures_util::stream::iter(due).map(expire).buffer_unordered(AT_ONE_TIME);
        let fresh = ended
            .map(|ended| match ended {
                Ok(fresh) => Ok(usize::from(fresh)),
                // Somebody captured, released or pinned it in between: that is what stands.
                Err(Stop::Refusal(_)) => Ok(0),
                Err(stop) => Err(stop),
            })
            .try_fold(0, async |sum, one| Ok(sum + one))
            .await?;
        expired += fresh;
        // A batch of which nothing ended would be found again.
        if !whole || fresh == 0 {
            break;
        }
    }
    Ok(expired)
}

async fn look(tx: &mut Tx, now: &Timestamp) -> Result<Vec<TransferId>, Stop> {
    ledger::due(tx, *now, BATCH).await
}

async fn expire(tx: &mut Tx, (id, now): &(TransferId, Timestamp)) -> Result<bool, Stop> {
    Ok(ledger::expire(tx, id, *now).await?.fresh)
}

#[cfg(test)]
mod tests {
    use oa_contract::{Amount, Asset};
    use oa_ledger::{AccountId, Hold, Kind, Leg, Order};

    use super::*;
    use crate::{
        WriteMode,
        testing::{World, config, on_each_engine},
    };

    fn account(kind: Kind, subject: &str) -> AccountId {
        AccountId::new(kind, Asset::msats(), subject).expect("an account")
    }

    fn owner() -> AccountId {
        account(Kind::Owner, "user:1")
    }

    async fn hold(world: &World, name: String, seconds: Option<i64>) {
        let leg = Leg {
            debit: owner(),
            credit: account(Kind::Provider, "p"),
            amount: Amount::new(5).expect("an amount"),
        };
        let now = world.clock_now();
        let order = Order {
            id: TransferId::new(name).expect("an id"),
            legs: vec![leg],
            hold: Some(Hold { expires_at: seconds.map(|seconds| now.plus_seconds(seconds)) }),
            reference: "test".into(),
        };
        let write =
            async |tx: &mut Tx, (order, now): &(Order, Timestamp)| ledger::transfer(tx, order, *now).await;
        world.runtime.store.write("test.hold", (), (order, now), write).await.expect("held");
    }

    async fn reserved(world: &World) -> u64 {
        let read = async |tx: &mut Tx, id: &AccountId| ledger::account(tx, id).await;
        let account = world.runtime.store.read("test.account", owner(), read).await.expect("read");
        account.balances.debits_pending.get()
    }

    async fn swept(world: &World) -> usize {
        sweep_once(&world.runtime).await.expect("swept")
    }

    #[tokio::test]
    async fn what_a_hold_reserved_is_free_when_its_time_is_over() {
        on_each_engine(async |world: World| {
            hold(&world, "soon".into(), Some(60)).await;
            hold(&world, "later".into(), Some(61)).await;
            hold(&world, "unknown".into(), None).await;
            world.clock.advance_ms(59_999);
            assert_eq!((swept(&world).await, reserved(&world).await), (0, 15));
            world.clock.advance_ms(1);
            assert_eq!((swept(&world).await, reserved(&world).await), (1, 10));
            world.clock.advance_ms(1_000_000_000);
            assert_eq!((swept(&world).await, reserved(&world).await), (1, 5));
            assert_eq!(swept(&world).await, 0, "no timer ends what nobody knows the outcome of");
        })
        .await;
    }

    #[tokio::test]
    async fn many_holds_are_given_back_once_by_several_sweepers() {
        on_each_engine(async |world: World| {
            futures_util::future::join_all((0..300).map(|n| hold(&world, format!("h{n}"), Some(1)))).await;
            world.clock.advance_ms(1_000);
            let (one, two) = tokio::join!(swept(&world), swept(&world));
            assert_eq!((one + two, swept(&world).await), (300, 0));
            assert_eq!(reserved(&world).await, 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_read_only_instance_gives_nothing_back() {
        let read_only = crate::Config { write_mode: WriteMode::ReadOnly, ..config() };
        let world = World::with(oa_store::EngineKind::Sqlite, read_only).await;
        hold(&world, "h".into(), Some(1)).await;
        world.clock.advance_ms(1_000);
        assert_eq!((swept(&world).await, reserved(&world).await), (0, 5));
    }
}
