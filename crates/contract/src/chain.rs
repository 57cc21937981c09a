//! Decides how the events of a run hang together: each link is a hash over the one before and the event,
//! so that no event can be changed, dropped or moved without every later link showing it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    canonical::{hex, unhex},
    instant::Timestamp,
    wire::runs::{Actor, RunEvent},
};

/// Separates these hashes from every other use of SHA-256, and this layout from a later one.
const GENESIS_TAG: &[u8] = b"oa.chain.v1";
const LINK_TAG: &[u8] = b"oa.link.v1";

/// One link of a run's hash chain (runtime-core §23.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// What the first link hangs on: bound to the run, so that no event can be moved to another one.
    pub fn genesis(run_id: Uuid) -> Self {
        ChainHash(Sha256::new().chain_update(GENESIS_TAG).chain_update(run_id.as_bytes()).finalize().into())
    }

    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        unhex(text).filter(|_| lower).map(ChainHash)
    }

    /// The link that `event` must carry after `self`.
    pub fn next(&self, event: &RunEvent) -> Self {
        link(
            self,
            event.seq,
            &event.event_type,
            event.payload.get(),
            event.idempotency_key.as_deref(),
            event.recorded_at,
            event.actor,
        )
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

/// Why a text is not a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotALink;

impl fmt::Display for NotALink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link of the hash chain is 64 lower-case hex digits")
    }
}

impl std::error::Error for NotALink {}

impl FromStr for ChainHash {
    type Err = NotALink;
    fn from_str(text: &str) -> Result<Self, NotALink> {
        ChainHash::parse(text).ok_or(NotALink)
    }
}

/// The link after `prev`. Members of fixed size come first, then each text behind its length, so that no
/// two different events can ever feed the same bytes. One pass, no allocation.
pub fn link(
    prev: &ChainHash,
    seq: u64,
    event_type: &str,
    payload_text: &str,
    idempotency_key: Option<&str>,
    recorded_at: Timestamp,
    actor: Actor,
) -> ChainHash {
    let mut hasher = Sha256::new();
    hasher.update(LINK_TAG);
    hasher.update(prev.0);
    hasher.update(seq.to_be_bytes());
    hasher.update(recorded_at.nanos().to_be_bytes());
    hasher.update([actor_byte(actor), u8::from(idempotency_key.is_some())]);
    for text in [event_type, idempotency_key.unwrap_or_default(), payload_text] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    ChainHash(hasher.finalize().into())
}

const fn actor_byte(actor: Actor) -> u8 {
    match actor {
        Actor::Service => 0,
        Actor::Caller => 1,
    }
}

/// Follows a run's chain from its genesis. The error is the place, counted from 1, of the first event
/// that does not fit: its `seq` is not that number, or its `hash` is not the link that it should be.
pub fn verify_chain(run_id: Uuid, events: &[RunEvent]) -> Result<ChainHash, u64> {
    let mut last = ChainHash::genesis(run_id);
    for (event, due) in events.iter().zip(1u64..) {
        let next = last.next(event);
        if event.seq != due || ChainHash::parse(&event.hash) != Some(next) {
            return Err(due);
        }
        last = next;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use serde_json::value::RawValue;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn an_untouched_run_fits_and_ends_in_its_last_hash() {
        let run = golden::run();
        let last = verify_chain(run.id, &run.events).expect("a whole chain");
        assert_eq!(run.events.last().map(|event| event.hash.clone()), Some(last.to_string()));
        assert_eq!(verify_chain(run.id, &[]), Ok(ChainHash::genesis(run.id)));
    }

    #[test]
    fn the_layout_of_the_links_never_changes() {
        // Stored runs hang on these bytes: a failure here means a new version tag is due.
        assert_eq!(ChainHash::genesis(golden::run().id).to_string(), GENESIS);
        let last = golden::run().events.pop().expect("an event");
        assert_eq!(last.hash, LAST);
    }
    const GENESIS: &str = "0d03a5d643beeedd7d2ec481fe9cf4e791c2067c1e7bb6cb144b686a75cc8f5f";
    const LAST: &str = "1588e49ff2c7001581e753b757ec816ea31ef158cbef555acf1e0c43c8b926c6";

    #[test]
    fn a_change_to_any_member_is_found_at_its_event() {
        let changes: [fn(&mut RunEvent); 9] = [
            |event| event.seq += 1,
            |event| event.event_type.push('x'),
            |event| event.payload = raw("{}"),
            |event| event.idempotency_key = None,
            |event| event.idempotency_key = Some(String::new()),
            |event| event.recorded_at = event.recorded_at.plus_millis(1),
            |event| event.recorded_at = Timestamp::from_micros(event.recorded_at.micros()),
            |event| event.actor = Actor::Caller,
            |event| event.hash = event.hash.to_uppercase(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut run = golden::run();
            change(&mut run.events[1]);
            assert_eq!(verify_chain(run.id, &run.events), Err(2), "change {number}");
        }
    }

    #[test]
    fn a_dropped_moved_or_foreign_event_is_found() {
        let run = golden::run();
        let mut dropped = run.events.clone();
        dropped.remove(2);
        assert_eq!(verify_chain(run.id, &dropped), Err(3));
        let mut moved = run.events.clone();
        moved.swap(1, 2);
        assert_eq!(verify_chain(run.id, &moved), Err(2));
        assert_eq!(verify_chain(Uuid::nil(), &run.events), Err(1));
    }

    #[test]
    fn the_border_between_two_texts_is_part_of_the_hash() {
        let prev = ChainHash([0; 32]);
        let of = |event_type, payload, key| {
            link(&prev, 1, event_type, payload, key, Timestamp::EPOCH, Actor::Service)
        };
        assert_ne!(of("ab", "c", None), of("a", "bc", None));
        assert_ne!(of("a", "1", Some("")), of("a", "1", None));
    }

    #[test]
    fn a_link_is_read_back_only_from_lower_case_hex() {
        let link = ChainHash([0xab; 32]);
        assert_eq!(link.to_string().parse(), Ok(link));
        assert_eq!(link.to_string().to_uppercase().parse::<ChainHash>(), Err(NotALink));
        assert_eq!("ab".parse::<ChainHash>(), Err(NotALink));
    }
}
