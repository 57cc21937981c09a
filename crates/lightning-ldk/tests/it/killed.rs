//! Nodes that end at any commit come back, and nothing is lost or paid twice.

use std::{fs, path::Path, sync::atomic::Ordering};

use oa_lightning_ldk::{Moment, Place, Sent, State};

use crate::world::{End, alive, asked, copy, invoice, open, paid};

fn ends(commits: u64) -> impl Iterator<Item = End> {
    (0..commits).flat_map(|commit| [Moment::Before, Moment::After].map(|moment| End { commit, moment }))
}

/// What our node knows of its only payment, without bringing it to life.
fn on_disk(folder: &Path) -> Option<Sent> {
    let store = rusqlite::Connection::open(folder.join("ours.sqlite")).expect("a store");
    let mut rows = store.prepare("SELECT value FROM kept WHERE name LIKE 'sent/%'").expect("a statement");
    let found = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    found.map(|value| serde_json::from_slice(&value.expect("a value")).expect("a payment")).next()
}

#[test]
fn nodes_that_end_at_any_commit_of_a_payment_pay_it_once() {
    let place = tempfile::tempdir().expect("a folder");
    let begun = place.path().join("begun");
    let mut nodes = alive(&begun);
    let bill = invoice(&mut nodes, "bill", 42_000);
    let before = (nodes.channels(Place::Ours).outbound_msats, nodes.channels(Place::Shop).outbound_msats);
    drop(nodes);
    let whole = place.path().join("whole");
    copy(&begun, &whole);
    let (nodes, commits) = open(&whole, None);
    nodes.expect("nodes").pay(&asked("pay", &bill)).expect("paid");
    let commits = commits.load(Ordering::SeqCst);
    assert!(commits > 20, "a payment through a hub takes many commits: {commits}");

    let (mut forgotten, mut pending, mut done) = (0, 0, 0);
    for end in ends(commits) {
        let folder = place.path().join("ended");
        copy(&begun, &folder);
        if let Ok(mut nodes) = open(&folder, Some(end)).0 {
            nodes.pay(&asked("pay", &bill)).expect_err("it ends before it can answer");
        }
        match on_disk(&folder).map(|sent| sent.state) {
            None => forgotten += 1,
            Some(State::Pending) => pending += 1,
            Some(State::Paid { .. }) => done += 1,
            Some(State::Failed { reason }) => panic!("{end:?}: failed without proof: {reason}"),
        }

        let mut nodes = alive(&folder);
        let sent = nodes.pay(&asked("pay", &bill)).expect("an answer");
        let (_, fee) = paid(&sent);
        assert_eq!(nodes.sent("pay").expect("read").as_ref(), Some(&sent), "{end:?}");
        assert_eq!(nodes.find(&bill.payment_hash).expect("read").as_ref(), Some(&sent), "{end:?}");
        let got = nodes.received(Place::Shop, &bill.payment_hash).expect("read").expect("claimed");
        assert_eq!(got.amount_msats, 42_000, "{end:?}");
        let after = (nodes.channels(Place::Ours), nodes.channels(Place::Shop));
        assert_eq!(before.0 - after.0.outbound_msats, 42_000 + fee, "{end:?}");
        assert_eq!(after.1.outbound_msats - before.1, 42_000, "{end:?}");
        assert_eq!((after.0.count, after.0.connected), (1, 1), "{end:?}: no channel was lost");
        fs::remove_dir_all(&folder).expect("removed");
    }
    assert!(forgotten >= 1 && pending >= 10 && done >= 1, "{forgotten} {pending} {done}");
    println!("{commits} commits: {forgotten} times not begun, {pending} times under way, {done} times done");
}

#[test]
fn nodes_that_end_while_their_channels_are_opened_open_them() {
    let place = tempfile::tempdir().expect("a folder");
    let (nodes, commits) = open(&place.path().join("whole"), None);
    nodes.expect("nodes");
    let commits = commits.load(Ordering::SeqCst);
    for end in ends(commits) {
        let folder = place.path().join(format!("{} {:?}", end.commit, end.moment));
        assert!(open(&folder, Some(end)).0.is_err(), "{end:?}");
        let mut nodes = alive(&folder);
        let bill = invoice(&mut nodes, "bill", 42_000);
        paid(&nodes.pay(&asked("pay", &bill)).expect("an answer"));
        assert_eq!(nodes.channels(Place::Hub).connected, 2, "{end:?}");
    }
}
