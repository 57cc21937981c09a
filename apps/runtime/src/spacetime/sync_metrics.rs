//! Decides what is reported of delivery: counters since the process started, and what waits in the outbox.

use std::sync::atomic::Ordering::Relaxed;

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::SpacetimeSyncMetrics,
    wire::spacetime::{Delivery, Mirror, SyncMetrics},
};
use oa_store::{Tx, outbox};

use crate::Runtime;

impl Handle<SpacetimeSyncMetrics> for Runtime {
    async fn handle(&self, _: Ask<SpacetimeSyncMetrics>) -> Result<Answer<SyncMetrics>, Stop> {
        let now = self.now();
        let depth = self.store.read("spacetime.sync_metrics", now, depth).await?;
        let counters = &self.hub.counters;
        let (published, duplicates) = (counters.published.load(Relaxed), counters.duplicates.load(Relaxed));
        let reply = SyncMetrics {
            transport: "spacetime_ws".into(),
            mirror: Mirror {
                published_total: published,
                duplicate_suppressed_total: duplicates,
                failed_total: counters.failed.load(Relaxed),
                duplicate_suppression_rate_pct: rate_pct(duplicates, published),
            },
            delivery: Delivery {
                stream_count: counters.streams.load(Relaxed),
                event_count: counters.events.load(Relaxed),
                subscriber_count: self.hub.following(),
                outbox_depth: count(depth.waiting),
                dead_letter_count: count(depth.dead),
                stale_cursor_total: counters.stale_cursors.load(Relaxed),
            },
            generated_at: now,
        };
        Ok(reply.into())
    }
}

async fn depth(tx: &mut Tx, now: &Timestamp) -> Result<outbox::Depth, Stop> {
    outbox::depth(tx, *now).await
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn rate_pct(duplicates: u64, published: u64) -> f64 {
    match published {
        0 => 0.0,
        _ => duplicates as f64 * 100.0 / published as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_zero_when_nothing_was_published() {
        assert_eq!(rate_pct(3, 0), 0.0);
        assert_eq!(rate_pct(1, 4), 25.0);
    }
}
