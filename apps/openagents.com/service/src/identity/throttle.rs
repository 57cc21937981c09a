//! Decides how often one peer may try something: a window that slides, in memory that stays bounded however many
//! peers there are.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use oa_contract::{Code, Refusal, Timestamp};

/// So many of these within so long.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub name: &'static str,
    pub times: usize,
    pub window_seconds: i64,
}

pub const EMAIL: Limit = Limit { name: "auth.email", times: 30, window_seconds: 60 };
pub const VERIFY: Limit = Limit { name: "auth.verify", times: 10, window_seconds: 60 };
/// A challenge is consumed by its first attempt; this stops whoever goes on hammering at one.
pub const CHALLENGE: Limit = Limit { name: "auth.verify.challenge", times: 5, window_seconds: 600 };

/// Messages of one user to their threads (control §2.8); `who` is the user's id.
pub const THREAD_MESSAGE: Limit = Limit { name: "runtime.thread.message", times: 60, window_seconds: 60 };
/// Control requests of one user to their codex workers; `who` is the user's id.
pub const CODEX_REQUEST: Limit =
    Limit { name: "runtime.codex.control.request", times: 60, window_seconds: 60 };

/// Windows remembered at once, of each limit. Those beyond share one, so that memory cannot be filled from
/// outside; and whoever fills one limit's memory does not touch another's.
const WINDOWS: usize = 10_000;

#[derive(Debug, Default)]
struct Windows {
    tries: HashMap<String, VecDeque<Timestamp>>,
    swept_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<&'static str, Windows>>);

impl Throttle {
    /// Counts one try of `who`, or refuses it and says when to come back.
    pub fn admit(&self, limit: Limit, who: &str, now: Timestamp) -> Result<(), Refusal> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = limits.entry(limit.name).or_default();
        if let Some(tries) = windows.tries.get_mut(who) {
            return count(tries, limit, now);
        }
        windows.make_room(limit, now);
        let who = if windows.tries.len() < WINDOWS { who } else { "everyone else" };
        count(windows.tries.entry(who.to_owned()).or_default(), limit, now)
    }
}

impl Windows {
    /// Looks for windows that are over, at most once a second: a flood of strangers must not cost a search each.
    fn make_room(&mut self, limit: Limit, now: Timestamp) {
        let full = self.tries.len() >= WINDOWS;
        if full && self.swept_at.is_none_or(|last| now.millis_since(last) >= 1_000) {
            let start = now.plus_seconds(-limit.window_seconds);
            self.tries.retain(|_, tries| tries.back().is_some_and(|last| *last > start));
            self.swept_at = Some(now);
        }
    }
}

fn count(tries: &mut VecDeque<Timestamp>, limit: Limit, now: Timestamp) -> Result<(), Refusal> {
    let start = now.plus_seconds(-limit.window_seconds);
    while tries.front().is_some_and(|first| *first <= start) {
        tries.pop_front();
    }
    let Some(first) = tries.front().filter(|_| tries.len() >= limit.times) else {
        tries.push_back(now);
        return Ok(());
    };
    let millis = first.plus_seconds(limit.window_seconds).millis_since(now).max(1_000);
    let millis = u64::try_from(millis).unwrap_or(1_000);
    let message = format!("Too many requests. Retry in {}s.", millis.div_ceil(1_000));
    Err(Refusal { retry_after_ms: Some(millis), ..Refusal::new(Code::RateLimited, message) })
}

/// The peer as it is counted: whoever has one IPv6 address has the 2^64 beside it too.
pub fn peer_key(peer: &str) -> String {
    match peer.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => format!("{:x?}", &address.segments()[..4]),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => peer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);

    #[test]
    fn the_window_slides_and_the_refusal_says_when_to_come_back() {
        let throttle = Throttle::default();
        for second in 0..10 {
            assert_eq!(throttle.admit(VERIFY, "a", NOW.plus_seconds(second)), Ok(()));
        }
        let refused = throttle.admit(VERIFY, "a", NOW.plus_seconds(10)).expect_err("refused");
        assert_eq!(refused.message, "Too many requests. Retry in 50s.");
        assert_eq!(refused.retry_after_ms, Some(50_000));
        assert_eq!(throttle.admit(VERIFY, "b", NOW.plus_seconds(10)), Ok(()));
        assert_eq!(throttle.admit(VERIFY, "a", NOW.plus_seconds(60)), Ok(()));
    }

    #[test]
    fn memory_stays_bounded_and_strangers_share_the_rest() {
        let throttle = Throttle::default();
        for peer in 0..WINDOWS + 50 {
            let _ = throttle.admit(VERIFY, &peer.to_string(), NOW);
        }
        assert!(throttle.admit(VERIFY, "one more", NOW).is_err());
        assert!(throttle.0.lock().expect("a lock")[VERIFY.name].tries.len() <= WINDOWS + 1);
        assert_eq!(throttle.admit(EMAIL, "one more", NOW), Ok(()), "another limit is another memory");
        assert_eq!(throttle.admit(VERIFY, "one more", NOW.plus_seconds(601)), Ok(()));
    }

    #[test]
    fn one_ipv6_network_is_one_peer() {
        assert_eq!(peer_key("2001:db8::1"), peer_key("2001:db8::ffff:1"));
        assert_ne!(peer_key("2001:db8::1"), peer_key("2001:db8:0:1::1"));
        assert_eq!(peer_key("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
