//! Decides where time, identifiers and randomness come from in a real process: the system's clock, never going back, and the system's random source.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use oa_contract::{Clock, Ids, Timestamp};
use uuid::{ContextV7, Uuid};

/// The system's clock in whole microseconds. When the system's clock is set back, the last moment is given
/// again until the clock has caught up, so that nothing is recorded before what led to it.
#[derive(Debug, Default)]
pub struct SystemClock {
    last: AtomicI64,
}

impl SystemClock {
    fn at_least(&self, micros: i64) -> Timestamp {
        let before = self.last.fetch_max(micros, Ordering::AcqRel);
        Timestamp::from_micros(micros.max(before))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at_least(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Identifiers in the order in which they are made, secrets from the operating system.
pub struct SystemIds {
    /// Counts within a millisecond, so that ids sort as they were made.
    counter: Mutex<ContextV7>,
}

impl Default for SystemIds {
    fn default() -> Self {
        SystemIds { counter: Mutex::new(ContextV7::new()) }
    }
}

impl Ids for SystemIds {
    fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let nanos = now.nanos().max(0);
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*counter, seconds as u64, rest as u32))
    }

    fn uuid32(&self) -> String {
        Uuid::new_v4().simple().to_string()
    }

    fn secret(&self) -> [u8; 32] {
        random()
    }
}

/// 256 bits from the operating system.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    fill(&mut bytes);
    bytes
}

/// A process without randomness must not make keys, so it ends here.
fn fill(bytes: &mut [u8]) {
    if rustls::crypto::ring::default_provider().secure_random.fill(bytes).is_err() {
        panic!("the operating system gives no random bytes, and without them no key is safe");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back_and_has_no_nanoseconds() {
        let clock = SystemClock::default();
        assert_eq!(clock.at_least(10), Timestamp::from_micros(10));
        assert_eq!(clock.at_least(7), Timestamp::from_micros(10));
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert_eq!(second.nanos() % 1_000, 0);
    }

    #[test]
    fn identifiers_sort_as_they_were_made_and_carry_their_moment() {
        let (ids, clock) = (SystemIds::default(), SystemClock::default());
        let now = clock.now();
        let made: Vec<Uuid> = (0..1_000).map(|_| ids.uuid_v7(now)).collect();
        assert!(made.is_sorted());
        let (seconds, _) = made[0].get_timestamp().expect("a moment").to_unix();
        assert_eq!(seconds as i64, now.unix_seconds());
    }

    #[test]
    fn secrets_differ() {
        let ids = SystemIds::default();
        assert_ne!(ids.secret(), ids.secret());
        assert_eq!(ids.uuid32().len(), 32);
    }
}
