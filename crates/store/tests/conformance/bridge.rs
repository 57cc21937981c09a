//! Decides that what relays are told is kept alike by both engines.

use oa_contract::{
    Timestamp,
    bridge::{APP_DATA, Event, HANDLER, Unsigned},
    refusal::Stop,
    signer::Signer,
};
use oa_store::{
    Store, Tx,
    tables::bridge::{self, AdRow, Again, OutgoingRow, Queue},
};

use crate::harness::Place;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);
const RELAY: &str = "wss://a.example/";

fn event(kind: u32, name: &str, content: &str) -> Event {
    let tags = vec![vec!["d".to_owned(), name.to_owned()]];
    let signer = Signer::from_secret(&"2a".repeat(32)).expect("a key");
    Unsigned { kind, tags, content: content.to_owned() }.signed(&signer, 7)
}

async fn configure(store: &Store, urls: &[&str]) {
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    let ask = async |tx: &mut Tx, urls: &Vec<String>| bridge::configure(tx, urls, NOW).await;
    store.write("configure", (), urls, ask).await.expect("configured");
}

async fn enqueue(store: &Store, event: Event, at: i64) {
    let put = async |tx: &mut Tx, (event, at): &(Event, i64)| {
        for relay in bridge::relays(tx).await? {
            bridge::enqueue(tx, &relay.url, event, NOW.plus_seconds(*at)).await?;
        }
        Ok::<_, Stop>(())
    };
    store.write("enqueue", (), (event, at), put).await.expect("queued");
}

async fn claim(store: &Store, at: i64) -> Vec<OutgoingRow> {
    let take = async |tx: &mut Tx, at: &i64| {
        let now = NOW.plus_seconds(*at);
        bridge::claim(tx, RELAY, (now, now.plus_seconds(30)), 10).await
    };
    store.write("claim", (), at, take).await.expect("claimed")
}

async fn queue(store: &Store, relay: &'static str) -> Queue {
    let look = async |tx: &mut Tx, relay: &&'static str| bridge::queue(tx, relay, HANDLER).await;
    store.read("queue", relay, look).await.expect("a queue")
}

pub async fn an_event_waits_for_every_relay_until_that_relay_has_it(place: Place) {
    let store = place.open().await;
    enqueue(&store, event(APP_DATA, "nobody", ""), 0).await;
    configure(&store, &[RELAY, "wss://b.example/"]).await;
    enqueue(&store, event(APP_DATA, "one", ""), 1).await;
    enqueue(&store, event(APP_DATA, "two", ""), 2).await;
    let got = claim(&store, 3).await;
    assert_eq!(got.iter().map(|row| row.address.as_str()).collect::<Vec<_>>(), ["30078:one", "30078:two"]);
    assert!(claim(&store, 4).await.is_empty(), "leased");
    let done = async |tx: &mut Tx, row: &OutgoingRow| bridge::done(tx, row).await;
    store.write("done", (), got[0].clone(), done).await.expect("done");
    assert_eq!(claim(&store, 40).await.len(), 1, "a lease ends");
    assert_eq!(queue(&store, RELAY).await.waiting, 1);
    assert_eq!(queue(&store, "wss://b.example/").await.waiting, 2);
    configure(&store, &[RELAY]).await;
    assert_eq!(queue(&store, "wss://b.example/").await, Queue::default());
    assert_eq!(queue(&store, RELAY).await.waiting, 1, "configured as before, it keeps what it waits for");
    place.end(store).await;
}

pub async fn a_later_event_of_an_address_takes_the_place_of_the_earlier(place: Place) {
    let store = place.open().await;
    configure(&store, &[RELAY]).await;
    let (first, second) = (event(HANDLER, "p", "1"), event(HANDLER, "p", "2"));
    enqueue(&store, first.clone(), 1).await;
    let sent = claim(&store, 2).await.remove(0);
    enqueue(&store, first, 2).await;
    assert!(claim(&store, 3).await.is_empty(), "the same event again changes nothing");
    enqueue(&store, second.clone(), 4).await;
    let done = async |tx: &mut Tx, row: &OutgoingRow| bridge::done(tx, row).await;
    store.write("done", (), sent, done).await.expect("done");
    let got = claim(&store, 5).await;
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].event_id.as_str(), got[0].event.as_str()), (second.id.as_str(), &*second.text()));
    place.end(store).await;
}

pub async fn what_is_refused_waits_and_is_given_up_in_the_end(place: Place) {
    let store = place.open().await;
    configure(&store, &[RELAY]).await;
    enqueue(&store, event(APP_DATA, "one", ""), 0).await;
    let give = async |tx: &mut Tx, (row, again): &(OutgoingRow, Again)| {
        bridge::give_back(tx, row, *again, "blocked: no\0").await
    };
    let row = claim(&store, 0).await.remove(0);
    store.write("back", (), (row.clone(), Again::Unsent), give).await.expect("given back");
    let row = claim(&store, 1).await.remove(0);
    assert_eq!(row.attempts, 0);
    store.write("back", (), (row, Again::At(NOW.plus_seconds(60))), give).await.expect("given back");
    assert!(claim(&store, 59).await.is_empty());
    let row = claim(&store, 60).await.remove(0);
    assert_eq!(row.attempts, 1);
    store.write("back", (), (row, Again::Never), give).await.expect("given back");
    assert!(claim(&store, 9_999).await.is_empty());
    assert_eq!(queue(&store, RELAY).await, Queue { waiting: 0, given_up: 1, oldest: None, kept: 1 });
    place.end(store).await;
}

pub async fn a_queue_keeps_its_newest_events_and_every_ad(place: Place) {
    let store = place.open().await;
    configure(&store, &[RELAY]).await;
    enqueue(&store, event(HANDLER, "p", ""), 0).await;
    for at in 1..=5 {
        enqueue(&store, event(APP_DATA, &format!("e{at}"), ""), at).await;
    }
    let trim = async |tx: &mut Tx, keep: &u64| bridge::trim(tx, RELAY, *keep, HANDLER).await;
    assert_eq!(store.write("trim", (), 9_u64, trim).await.expect("trimmed"), 0);
    assert_eq!(store.write("trim", (), 2_u64, trim).await.expect("trimmed"), 3);
    let left: Vec<_> = claim(&store, 9).await.into_iter().map(|row| row.address).collect();
    assert_eq!(left, ["31990:p", "30078:e4", "30078:e5"]);
    place.end(store).await;
}

pub async fn an_ad_is_found_by_its_address_and_by_its_worker(place: Place) {
    let store = place.open().await;
    let row = |worker: &str, at| AdRow {
        address: "31990:p".into(),
        worker_id: worker.into(),
        digest: "d".into(),
        created_at_unix: at,
        event: "{}".into(),
    };
    let put = async |tx: &mut Tx, row: &AdRow| {
        bridge::put_ad(tx, row).await?;
        let ads = (bridge::ads_of(tx, "w").await?, bridge::ads_after(tx, "", 9).await?);
        Ok::<_, Stop>((bridge::ad(tx, "31990:p").await?, ads))
    };
    let (found, (of, all)) = store.write("put", (), row("w", 1), put).await.expect("put");
    assert_eq!((found, of.len(), all.len()), (Some(row("w", 1)), 1, 1));
    let (found, (of, all)) = store.write("put", (), row("", 2), put).await.expect("put");
    assert_eq!((found, of.len(), all.len()), (Some(row("", 2)), 0, 1));
    place.end(store).await;
}
