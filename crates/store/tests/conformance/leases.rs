//! What both engines promise of leases: one holder, a token that grows, and nothing kept that a leader of
//! yesterday still has in hand. And of credentials: each is good once.

use oa_contract::{instant::Timestamp, refusal::Stop};
use oa_store::{
    Key, Store, Tx,
    tables::{
        leases::{self, Term},
        used_credentials as credentials,
    },
};
use tokio::sync::oneshot;

use crate::harness::{Place, count, fault, put};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
const JOB: &str = "sweeps";

async fn take(store: &Store, holder: &'static str, at: i64) -> Option<Term> {
    let run = async |tx: &mut Tx, (holder, at): &(&'static str, i64)| {
        leases::take(tx, JOB, holder, NOW.plus_seconds(*at), NOW.plus_seconds(at + 10)).await
    };
    store.write("take", Key::text("lease", JOB), (holder, at), run).await.expect("asked")
}

async fn past(store: &Store) -> Vec<Term> {
    let run = async |tx: &mut Tx, (): &()| leases::past(tx, JOB, 99).await;
    store.read("past", (), run).await.expect("read")
}

async fn note(store: &Store, key: &'static str) -> Result<(), Stop> {
    store.write("note", (), key, async |tx: &mut Tx, key: &&'static str| put(tx, "s", key, 1).await).await
}

pub async fn a_lease_has_one_holder_and_its_token_grows_with_every_term(place: Place) {
    let store = place.open().await;
    let first = take(&store, "a", 0).await.expect("a leads");
    assert_eq!((first.token, first.taken_at, first.until), (1, NOW, NOW.plus_seconds(10)));
    assert_eq!(take(&store, "b", 9).await, None);
    let longer = take(&store, "a", 5).await.expect("a goes on");
    assert_eq!((longer.token, longer.taken_at, longer.until), (1, NOW, NOW.plus_seconds(15)));
    assert_eq!(take(&store, "b", 14).await, None);
    let second = take(&store, "b", 15).await.expect("b leads");
    assert_eq!((second.token, second.holder.as_str()), (2, "b"));
    // One that comes back after its time begins anew, even when nobody was there meanwhile.
    assert_eq!(take(&store, "b", 30).await.expect("b leads again").token, 3);
    let terms = past(&store).await;
    let told: Vec<_> = terms.iter().map(|term| (term.token, term.holder.as_str())).collect();
    assert_eq!(told, [(2, "b"), (1, "a")]);
    assert!(terms[1].until <= terms[0].taken_at, "terms do not overlap");
    place.end(store).await;
}

pub async fn a_lease_that_is_released_is_free_at_once(place: Place) {
    let store = place.open().await;
    take(&store, "a", 0).await.expect("a leads");
    let release = async |tx: &mut Tx, holder: &&'static str| {
        leases::release(tx, JOB, holder, NOW.plus_seconds(1)).await
    };
    let key = || Key::text("lease", JOB);
    assert!(!store.write("release", key(), "b", release).await.expect("asked"), "not b's to give");
    assert!(store.write("release", key(), "a", release).await.expect("asked"));
    assert!(!store.write("release", key(), "a", release).await.expect("asked"));
    assert_eq!(take(&store, "b", 1).await.expect("b leads").token, 2);
    place.end(store).await;
}

pub async fn thirty_two_who_would_lead_begin_one_term(place: Place) {
    let store = place.open().await;
    let names: [&'static str; 32] = std::array::from_fn(|n| &*format!("replica {n}").leak());
    let all = names.map(|name| {
        let store = store.clone();
        tokio::spawn(async move { take(&store, name, 0).await })
    });
    let mut led = 0;
    for one in all {
        led += usize::from(one.await.expect("no panic").is_some());
    }
    assert_eq!((led, past(&store).await.len()), (1, 0));
    place.end(store).await;
}

pub async fn what_a_leader_of_yesterday_has_in_hand_is_not_kept(place: Place) {
    let store = place.open().await;
    let first = take(&store, "a", 0).await.expect("a leads");
    first.clone().during(note(&store, "in time")).await.expect("kept");
    // Late is not lost: nobody else has begun.
    first.clone().during(note(&store, "late")).await.expect("kept");
    let second = take(&store, "b", 10).await.expect("b leads");
    let said = fault(first.clone().during(note(&store, "of yesterday")).await.expect_err("not kept"));
    assert!(said.contains("sweeps") && said.contains("term 1"), "{said}");
    assert_eq!(count(&store, "s").await, 2);
    second.during(note(&store, "of today")).await.expect("kept");
    assert_eq!(count(&store, "s").await, 3);
    // Requests go on as ever: only what leads is fenced.
    note(&store, "a request").await.expect("kept");
    // A name that comes back under a later token is not the old term either.
    take(&store, "a", 20).await.expect("a leads again");
    first.during(note(&store, "of the day before")).await.expect_err("not kept");
    assert_eq!(count(&store, "s").await, 4);
    place.end(store).await;
}

/// Whoever takes the lease waits for what its holder has begun, so that the two are in one order for everybody.
pub async fn a_lease_is_not_taken_in_the_middle_of_a_leaders_transaction(place: Place) {
    let store = place.open().await;
    let first = take(&store, "a", 0).await.expect("a leads");
    let (begun, beginning) = oneshot::channel::<()>();
    let begun = std::sync::Mutex::new(Some(begun));
    let leader = store.clone();
    let working = tokio::spawn(first.during(async move {
        let work = async move |tx: &mut Tx, (): &()| {
            put(tx, "s", "first", 1).await?;
            if let Some(begun) = begun.lock().expect("lock").take() {
                let _ = begun.send(());
            }
            // A second statement behind the first: on PostgreSQL the taker comes in between.
            put(tx, "s", "second", 1).await
        };
        leader.write("work", (), (), work).await
    }));
    beginning.await.expect("begun");
    take(&store, "b", 10).await.expect("b leads");
    assert_eq!(count(&store, "s").await, 2, "b leads once a's work is kept");
    working.await.expect("no panic").expect("kept");
    place.end(store).await;
}

pub async fn a_credential_is_good_once_among_all_who_ask(place: Place) {
    let store = place.open().await;
    let note = async |tx: &mut Tx, nonce: &[u8; 16]| credentials::note(tx, nonce, NOW.plus_seconds(90)).await;
    let all = [(); 32].map(|()| {
        let store = store.clone();
        tokio::spawn(async move { store.write("use", (), [7; 16], note).await.expect("asked") })
    });
    let mut fresh = 0;
    for one in all {
        fresh += usize::from(one.await.expect("no panic"));
    }
    assert_eq!(fresh, 1);
    for n in 0..5 {
        assert!(store.write("use", (), [n; 16], note).await.expect("asked"));
    }
    let forget = async |tx: &mut Tx, at: &i64| {
        let now = NOW.plus_seconds(*at);
        Ok((credentials::any_over(tx, now).await?, credentials::forget(tx, now, 4).await?))
    };
    assert_eq!(store.write("forget", (), 90, forget).await.expect("asked"), (false, 0));
    assert_eq!(store.write("forget", (), 91, forget).await.expect("asked"), (true, 4));
    assert_eq!(store.write("forget", (), 91, forget).await.expect("asked"), (true, 2));
    assert!(store.write("use", (), [7; 16], note).await.expect("asked"));
    place.end(store).await;
}
