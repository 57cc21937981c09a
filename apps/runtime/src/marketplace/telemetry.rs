//! Decides how a dispatch moves its owner's counts (marketplace §7.4).

use oa_contract::{Owner, Stop, Timestamp};
use oa_store::{
    Key, Tx,
    tables::market_telemetry::{self, TelemetryRow},
};

/// Latencies that are kept; the oldest goes when another comes.
const WINDOW: usize = 256;

/// How a dispatch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    NotFound,
    Answered { latency_ms: u64, fell_back: bool },
    Failed,
}

pub fn key(owner: &Owner) -> Key {
    Key::text("market_telemetry", owner.to_string())
}

/// Counts it, in the transaction of its cause. The caller holds the key of the owner's telemetry.
pub async fn note(tx: &mut Tx, owner: &Owner, note: Note, now: Timestamp) -> Result<(), Stop> {
    let known = market_telemetry::get(tx, owner).await?;
    market_telemetry::put(tx, &decide(known, owner, note, now)).await
}

fn decide(known: Option<TelemetryRow>, owner: &Owner, note: Note, now: Timestamp) -> TelemetryRow {
    let mut row = known.unwrap_or_else(|| TelemetryRow {
        owner: owner.clone(),
        dispatch_total: 0,
        dispatch_not_found: 0,
        dispatch_errors: 0,
        dispatch_fallbacks: 0,
        latencies: Vec::new(),
        updated_at: now,
    });
    row.dispatch_total += 1;
    row.updated_at = now;
    match note {
        Note::NotFound => row.dispatch_not_found += 1,
        Note::Failed => row.dispatch_errors += 1,
        Note::Answered { latency_ms, fell_back } => {
            row.dispatch_fallbacks += u64::from(fell_back);
            if row.latencies.len() >= WINDOW {
                row.latencies.drain(..=row.latencies.len() - WINDOW);
            }
            row.latencies.push(latency_ms);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_counted_once_and_the_window_slides() {
        let owner = Owner::User(1);
        let now = Timestamp::EPOCH;
        let mut row = decide(None, &owner, Note::NotFound, now);
        row = decide(Some(row), &owner, Note::Failed, now);
        for latency_ms in 0..300 {
            row = decide(Some(row), &owner, Note::Answered { latency_ms, fell_back: latency_ms == 0 }, now);
        }
        assert_eq!((row.dispatch_total, row.dispatch_not_found, row.dispatch_errors), (302, 1, 1));
        assert_eq!(row.dispatch_fallbacks, 1);
        assert_eq!((row.latencies.len(), row.latencies[0], row.latencies[255]), (256, 44, 299));
    }
}
