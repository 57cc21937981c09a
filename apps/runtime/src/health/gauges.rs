//! Decides what `/metrics` says of how the runtime stands, beside what it counts: what is known in memory at each
//! scrape, and what waits in the store as the background last read it. `deploy/alerts.yaml` leans on these names.

use std::sync::atomic::{AtomicI64, Ordering};

use metrics::gauge;
use oa_contract::{Stop, Timestamp};
use oa_store::{
    Health, Tx,
    tables::watch::{self, Outbox, Waiting},
};

use super::readyz::{STORE_PATIENCE, TASK_PATIENCE};
use crate::Runtime;

/// What stands in the store, at one moment.
#[derive(Debug, Default)]
struct Standing {
    outbox: Outbox,
    payments: Waiting,
    withdrawals: Waiting,
    findings: u64,
    /// Each pool that is to be snapshot and exists, and when it last was.
    snapshots: Vec<(String, Timestamp)>,
}

/// What the background has learned of the store.
#[derive(Default)]
pub struct Watched {
    /// When everything was last read.
    read_at: AtomicI64,
    /// When the store last took a write and gave it back, and when that was last tried.
    probed_at: AtomicI64,
    tried_at: AtomicI64,
}

impl Watched {
    /// Whether the last probe of the store failed.
    fn probe_failed(&self) -> bool {
        self.tried_at.load(Ordering::Relaxed) > self.probed_at.load(Ordering::Relaxed)
    }
}

impl Runtime {
    /// Sets what is known without asking anybody; called before each rendering.
    pub(crate) fn show_what_is_known(&self) {
        let now = self.now();
        let writable = self.store.health() == Health::Ready;
        let publisher = self.heartbeats.publisher_alive(now, TASK_PATIENCE);
        let sweeper = self.heartbeats.sweeper_alive(now, TASK_PATIENCE);
        let sound = self.books.trouble().is_none();
        let ready =
            writable && !self.watched.probe_failed() && publisher && sweeper && sound && !(self.draining)();
        gauge!("oa_ready", "service" => "runtime").set(truth(ready));
        gauge!("oa_store_writable", "service" => "runtime").set(truth(writable));
        gauge!("oa_ledger_sound").set(truth(sound));
        let (published, swept) = self.heartbeats.last();
        let read = Timestamp::from_micros(self.watched.read_at.load(Ordering::Relaxed)).max(self.started_at);
        for (task, at) in [("publisher", published), ("sweeper", swept), ("watch", read)] {
            gauge!("oa_background_age_seconds", "task" => task).set(age(now, Some(at)));
        }
        let configured = self.payments.wallet().about().face != "none";
        let wallet = self.wallet_watch.known(configured, now);
        gauge!("oa_wallet_configured").set(truth(configured));
        gauge!("oa_wallet_reachable").set(truth(wallet.reachable));
    }

    /// Reads how things stand in the store, in one short snapshot, and tries a write.
    pub(crate) async fn look_at_the_store(&self) {
        let now = self.now();
        if self.store.probe(STORE_PATIENCE).await.is_ok() {
            self.watched.probed_at.store(now.micros(), Ordering::Relaxed);
        }
        self.watched.tried_at.store(now.micros(), Ordering::Relaxed);
        let ask = (now, self.config.pools.snapshot_pools.clone());
        match self.store.read("watch.look", ask, look).await {
            Ok(standing) => {
                show(&standing, now);
                self.watched.read_at.store(now.micros(), Ordering::Relaxed);
            }
            Err(stop) => tracing::warn!(error = %stop, "how things stand could not be read; tried again"),
        }
    }
}

async fn look(tx: &mut Tx, (now, pools): &(Timestamp, Vec<String>)) -> Result<Standing, Stop> {
    let mut standing = Standing {
        outbox: watch::outbox(tx).await?,
        payments: watch::open_payments(tx).await?,
        withdrawals: watch::overdue_withdrawals(tx, *now).await?,
        findings: watch::findings(tx).await?,
        snapshots: Vec::new(),
    };
    for pool_id in pools {
        if let Some(at) = watch::snapshot(tx, pool_id).await? {
            standing.snapshots.push((pool_id.clone(), at));
        }
    }
    Ok(standing)
}

fn show(standing: &Standing, now: Timestamp) {
    let Standing { outbox, payments, withdrawals, findings, snapshots } = standing;
    gauge!("oa_outbox_waiting").set(outbox.waiting.count as f64);
    gauge!("oa_outbox_oldest_seconds").set(age(now, outbox.waiting.oldest));
    gauge!("oa_outbox_dead_letters").set(outbox.dead as f64);
    gauge!("oa_payments_open").set(payments.count as f64);
    gauge!("oa_payments_oldest_open_seconds").set(age(now, payments.oldest));
    gauge!("oa_withdrawals_overdue").set(withdrawals.count as f64);
    gauge!("oa_withdrawals_oldest_overdue_seconds").set(age(now, withdrawals.oldest));
    gauge!("oa_treasury_findings").set(*findings as f64);
    for (pool_id, at) in snapshots {
        // An operator lists these pools, so there are few of them.
        gauge!("oa_pool_snapshot_age_seconds", "pool" => pool_id.clone()).set(age(now, Some(*at)));
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// Seconds since a moment; nothing has waited for no time.
fn age(now: Timestamp, since: Option<Timestamp>) -> f64 {
    since.map_or(0.0, |since| now.millis_since(since).max(0) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn what_does_not_wait_is_not_old() {
        let now = Timestamp::from_unix_seconds(100);
        assert_eq!(age(now, None), 0.0);
        assert_eq!(age(now, Some(Timestamp::from_unix_seconds(40))), 60.0);
        assert_eq!(age(now, Some(Timestamp::from_unix_seconds(140))), 0.0, "clocks differ");
    }

    #[tokio::test]
    async fn a_store_is_tried_and_read_in_one_look() {
        let world = World::sqlite().await;
        assert!(!world.runtime.watched.probe_failed(), "nobody has tried yet");
        world.runtime.look_at_the_store().await;
        assert!(!world.runtime.watched.probe_failed());
        assert_eq!(world.runtime.watched.read_at.load(Ordering::Relaxed), world.runtime.now().micros());
        world.clock.advance_ms(15_000);
        world.runtime.store.close().await;
        world.runtime.look_at_the_store().await;
        assert!(world.runtime.watched.probe_failed());
    }
}
