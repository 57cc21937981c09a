//! Decides how often an owner may ask for prices and work (marketplace §1.6): 30 times in 60 seconds, counted
//! once the owner is known, whatever comes of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use oa_contract::{Code, Owner, Refusal, Timestamp};

const MOST: usize = 30;
const WINDOW_MS: i64 = 60_000;
/// Owners after which those that have been quiet for a window are forgotten.
const MANY_OWNERS: usize = 10_000;

#[derive(Default)]
pub struct Rate(Mutex<HashMap<Owner, VecDeque<Timestamp>>>);

impl Rate {
    pub fn admit(&self, owner: &Owner, now: Timestamp) -> Result<(), Refusal> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.plus_millis(-WINDOW_MS);
        if owners.len() >= MANY_OWNERS {
            owners.retain(|_, calls| calls.back().is_some_and(|last| *last >= since));
        }
        let calls = owners.entry(owner.clone()).or_default();
        while calls.front().is_some_and(|first| *first < since) {
            calls.pop_front();
        }
        if calls.len() >= MOST {
            let mut refusal = Refusal::new(Code::RateLimited, "poll interval guard triggered");
            refusal.reason_code = Some("compute_dispatch_rate_limited");
            refusal.retry_after_ms = Some(1_000);
            return Err(refusal);
        }
        calls.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_calls_fit_into_a_minute_and_those_refused_do_not_count() {
        let rate = Rate::default();
        let begun = Timestamp::from_unix_seconds(1_700_000_000);
        let owner = Owner::User(1);
        for n in 0..30 {
            assert!(rate.admit(&owner, begun.plus_millis(n)).is_ok());
        }
        for n in 0..100 {
            let refusal = rate.admit(&owner, begun.plus_millis(60_000 - n)).expect_err("refused");
            assert_eq!(refusal.reason_code, Some("compute_dispatch_rate_limited"));
        }
        assert!(rate.admit(&Owner::User(2), begun).is_ok());
        assert!(rate.admit(&owner, begun.plus_millis(60_001)).is_ok());
        assert!(rate.admit(&owner, begun.plus_millis(60_001)).is_err());
        assert!(rate.admit(&owner, begun.plus_millis(60_002)).is_ok());
    }
}
