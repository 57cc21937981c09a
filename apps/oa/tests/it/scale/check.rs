//! Decides whether what clients and subscribers have seen is what one machine that never fails could have shown them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use oa_store::{
    Store, Tx,
    tables::leases::{self, Term},
};

use super::{
    followers::Subscriber,
    load::{Addresses, Seen},
};

/// The keys of each run's events; the first is event 1.
pub async fn histories(to: &Addresses, runs: &[String]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (n, run) in runs.iter().enumerate() {
        let whole = to.insist(n, &format!("/internal/v1/runs/{run}"), None).await;
        let events = whole["run"]["events"].as_array().unwrap();
        for (place, event) in events.iter().enumerate() {
            assert_eq!(event["seq"].as_u64(), Some(place as u64 + 1), "run {run} has a hole");
        }
        let key = |event: &serde_json::Value| event["payload"]["key"].as_str().unwrap_or_default().to_owned();
        all.push(events.iter().map(key).collect());
    }
    all
}

/// Every acknowledged append is in its history once, at the place that was acknowledged; and whichever was
/// acknowledged before another was asked for stands before it. With one order per run that is linearisability: each
/// append took effect at one moment between its question and its answer. Says how many were acknowledged.
pub fn linearisable(seen: &[Seen], histories: &[Vec<String>]) -> usize {
    let mut acked = 0;
    for (run, history) in histories.iter().enumerate() {
        let mut places = HashMap::new();
        for (place, key) in history.iter().enumerate() {
            assert_eq!(places.insert(key, place as u64 + 1), None, "key {key} stands twice in run {run}");
        }
        let mut here: Vec<_> = seen.iter().flat_map(|one| &one.acked).filter(|one| one.run == run).collect();
        for one in &here {
            assert_eq!(
                places.get(&one.key),
                Some(&one.seq),
                "the append {} of run {run} was acknowledged as {}",
                one.key,
                one.seq
            );
        }
        // From the last to the first: none was asked for after one behind it was acknowledged.
        here.sort_unstable_by_key(|one| std::cmp::Reverse(one.seq));
        let mut earliest: Option<Instant> = None;
        for one in &here {
            if let Some(earliest) = earliest {
                assert!(one.asked <= earliest, "run {run}: {} stands before what was acknowledged", one.key);
            }
            earliest = Some(earliest.map_or(one.acked, |earliest| earliest.min(one.acked)));
        }
        acked += here.len();
    }
    acked
}

/// Every subscriber was sent every event of its run once and in order. Says how often they connected.
pub async fn followed(subscribers: Vec<Subscriber>, histories: &[Vec<String>]) -> u64 {
    let mut connections = 0;
    for subscriber in subscribers {
        let run = subscriber.run;
        let ended = tokio::time::timeout(Duration::from_secs(60), subscriber.task).await;
        let received = ended.unwrap_or_else(|_| panic!("a subscriber of run {run} waits in vain")).unwrap();
        // That each was the next one was looked at when it arrived.
        assert_eq!(received.keys, histories[run], "run {run}");
        connections += received.connections;
    }
    connections
}

/// Who does a job, by the lease.
pub async fn leader(store: &Store, name: &str) -> Option<Term> {
    let look = async |tx: &mut Tx, name: &String| leases::standing(tx, name).await;
    store.read("test.leader", name.to_owned(), look).await.ok().flatten()
}

/// No two terms of a job overlap, and every change of hands has its own token.
pub async fn one_leader(store: &Store, name: &str) {
    let past = async |tx: &mut Tx, name: &String| leases::past(tx, name, 1_000).await;
    let mut terms = store.read("test.past", name.to_owned(), past).await.unwrap();
    terms.reverse();
    terms.extend(leader(store, name).await);
    for (n, term) in terms.iter().enumerate() {
        assert_eq!(term.token, n as u64 + 1, "{name}: {terms:?}");
    }
    for pair in terms.windows(2) {
        assert!(pair[0].until <= pair[1].taken_at, "{name}: two led at one time: {pair:?}");
    }
}
