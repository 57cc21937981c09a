//! Decides how often an owner may ask for prices and work (marketplace §1.6): 30 times in 60 seconds, counted
//! once the owner is known, whatever comes of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use oa_contract::{Code, Owner, Refusal, Timestamp};

const MOST: usize = 30;
const WINDOW_MS: i64 = 60_000;
/// Windows that are remembered at once. Owners beyond them share one, so that memory cannot be filled from outside.
const WINDOWS: usize = 10_000;

#[derive(Default)]
pub struct Rate(Mutex<Windows>);

#[derive(Default)]
struct Windows {
    calls: HashMap<Owner, VecDeque<Timestamp>>,
    everyone_else: VecDeque<Timestamp>,
    swept_at: Option<Timestamp>,
}

impl Rate {
    pub fn admit(&self, owner: &Owner, now: Timestamp) -> Result<(), Refusal> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = windows.calls.get_mut(owner) {
            return count(calls, now);
        }
        windows.make_room(now);
        match windows.calls.len() < WINDOWS {
            true => count(windows.calls.entry(owner.clone()).or_default(), now),
            false => count(&mut windows.everyone_else, now),
        }
    }
}

impl Windows {
    /// Looks for windows that are over, at most once a second: a flood of owners must not cost a search each.
    fn make_room(&mut self, now: Timestamp) {
        let full = self.calls.len() >= WINDOWS;
        if full && self.swept_at.is_none_or(|last| now.millis_since(last) >= 1_000) {
            let since = now.plus_millis(-WINDOW_MS);
            self.calls.retain(|_, calls| calls.back().is_some_and(|last| *last >= since));
            self.swept_at = Some(now);
        }
    }
}

fn count(calls: &mut VecDeque<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    let since = now.plus_millis(-WINDOW_MS);
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

    #[test]
    fn owners_beyond_those_that_are_remembered_share_one_window_until_there_is_room() {
        let rate = Rate::default();
        let begun = Timestamp::from_unix_seconds(1_700_000_000);
        for owner in 0..WINDOWS as u64 {
            assert!(rate.admit(&Owner::User(owner), begun).is_ok());
        }
        let beyond = WINDOWS as u64;
        let admitted = (0..100).filter(|n| rate.admit(&Owner::User(beyond + n), begun).is_ok()).count();
        assert_eq!(admitted, MOST, "those beyond are counted together");
        assert!(rate.admit(&Owner::User(0), begun).is_ok(), "and nobody before them notices");
        assert_eq!(rate.0.lock().expect("a lock").calls.len(), WINDOWS);
        let later = begun.plus_millis(WINDOW_MS + 1);
        assert!(rate.admit(&Owner::User(beyond), later).is_ok());
        assert_eq!(rate.0.lock().expect("a lock").calls.len(), 1, "what is over makes room");
    }
}
