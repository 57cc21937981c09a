//! Time and identity as a test wants them.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use oa_contract::{Clock, Ids, Timestamp};
use uuid::Uuid;

/// A clock that stands still until it is moved; each look moves it by one microsecond, so that two moments are
/// never the same.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn at(start: Timestamp) -> Self {
        TestClock(AtomicI64::new(start.micros()))
    }

    pub fn advance_millis(&self, millis: i64) {
        self.0.fetch_add(millis * 1_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// Ids from a seed: the same run of the same test gives the same ids.
#[derive(Debug)]
pub struct SeededIds {
    seed: u64,
    next: AtomicU64,
    state: Mutex<u64>,
}

impl SeededIds {
    pub fn new(seed: u64) -> Self {
        SeededIds { seed, next: AtomicU64::new(1), state: Mutex::new(seed ^ 0x9e37_79b9_7f4a_7c15) }
    }

    /// SplitMix64: enough to make ids differ, nothing more.
    fn bits(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Ids for SeededIds {
    fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let millis = u128::try_from(now.millis()).unwrap_or_default() & 0xffff_ffff_ffff;
        let count = u128::from(self.next.fetch_add(1, Ordering::SeqCst)) & 0xfff;
        let tail = u128::from(self.bits() ^ self.seed) & 0x3fff_ffff_ffff_ffff;
        Uuid::from_u128(millis << 80 | 0x7 << 76 | count << 64 | 0x2 << 62 | tail)
    }

    fn uuid32(&self) -> String {
        format!("{:016x}{:016x}", self.bits(), self.bits())
    }

    fn secret(&self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_be_bytes());
        }
        out
    }
}
