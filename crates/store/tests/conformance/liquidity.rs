//! What both engines promise of payments, of what Hydra counts, and of what a wallet remembers.

use oa_contract::{Msats, instant::Timestamp, refusal::Stop};
use oa_store::{
    Store, Tx,
    tables::{
        hydra::{self, Breaker},
        liquidity::{self, PaymentRow, PaymentStatus},
        wallet::{self, RequestRow, RequestState},
    },
};
use serde_json::value::RawValue;

use crate::harness::{Place, fault};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("an amount")
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("JSON")
}

fn payment(id: &str, hash: Option<&str>, status: PaymentStatus, next: i64) -> PaymentRow {
    let over = status.is_final();
    PaymentRow {
        payment_id: id.into(),
        lane: "quote".into(),
        fingerprint: "f".into(),
        request_id: format!("liqpay:{id}"),
        wallet_id: "w".into(),
        invoice: "lnbc420n1test".into(),
        payment_hash: hash.map(str::to_owned),
        host: "h".into(),
        amount: msats(42_000),
        max_fee: msats(0),
        payer: Some("owner/msats/user:1".into()),
        hold_id: Some(format!("payment:{id}")),
        run_id: None,
        trajectory_hash: None,
        status,
        asks: 2,
        next_ask_at: (!over).then(|| NOW.plus_seconds(next)),
        not_after: NOW,
        started_at: NOW,
        completed_at: over.then_some(NOW),
        latency_ms: over.then_some(5),
        wallet_response: over.then(|| raw("{\"ok\":true}")),
        wallet_receipt_sha256: None,
        preimage_sha256: None,
        paid_at_ms: over.then_some(-1),
        settled: over.then(|| msats(42_000)),
        fee: None,
        error_code: None,
        error_message: None,
        updated_at: NOW,
        wallet_memory: Some("w/r".into()),
    }
}

async fn put(store: &Store, row: PaymentRow) -> Result<(), Stop> {
    let write = async |tx: &mut Tx, row: &PaymentRow| liquidity::put_payment(tx, row).await;
    store.write("put", (), row, write).await
}

async fn read<T: Send + 'static>(
    store: &Store,
    read: impl AsyncFn(&mut Tx, &()) -> Result<T, Stop> + Send + Sync + Clone + 'static,
) -> T {
    store.read("read", (), read).await.expect("read")
}

pub async fn a_payment_comes_back_as_it_was_written_and_is_found_while_it_is_open(place: Place) {
    let store = place.open().await;
    for status in [PaymentStatus::InFlight, PaymentStatus::Unknown, PaymentStatus::Succeeded] {
        put(&store, payment("a", Some("hash"), status, 10)).await.expect("written");
        let found = read(&store, async |tx, ()| liquidity::payment(tx, "a").await).await.expect("a row");
        assert_eq!(format!("{found:?}"), format!("{:?}", payment("a", Some("hash"), status, 10)));
    }
    put(&store, payment("b", None, PaymentStatus::Unknown, 20)).await.expect("written");
    put(&store, payment("c", None, PaymentStatus::InFlight, 10)).await.expect("written");
    put(&store, payment("d", Some("other"), PaymentStatus::Failed, 0)).await.expect("written");
    let due = read(&store, async |tx, ()| liquidity::open_payments(tx, NOW.plus_seconds(20), 9).await).await;
    assert_eq!(due.iter().map(|row| row.payment_id.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    let due = read(&store, async |tx, ()| liquidity::open_payments(tx, NOW.plus_seconds(19), 9).await).await;
    assert_eq!(due.len(), 1);
    let verified = store.verify(|_| {}).await.expect("a check");
    assert_eq!(verified.findings, Vec::<String>::new());
    place.end(store).await;
}

pub async fn a_hash_is_paid_once_unless_paying_it_failed(place: Place) {
    let store = place.open().await;
    put(&store, payment("a", Some("hash"), PaymentStatus::Failed, 0)).await.expect("written");
    assert!(read(&store, async |tx, ()| liquidity::payment_of_hash(tx, "hash").await).await.is_none());
    put(&store, payment("b", Some("hash"), PaymentStatus::Unknown, 0)).await.expect("written");
    let live = read(&store, async |tx, ()| liquidity::payment_of_hash(tx, "hash").await).await;
    assert_eq!(live.expect("a row").payment_id, "b");
    fault(put(&store, payment("c", Some("hash"), PaymentStatus::InFlight, 0)).await.expect_err("refused"));
    place.end(store).await;
}

pub async fn counters_add_up_and_breakers_come_back(place: Place) {
    let store = place.open().await;
    for _ in 0..3 {
        let add = async |tx: &mut Tx, (): &()| hydra::count(tx, "a", 2).await;
        store.write("count", (), (), add).await.expect("counted");
    }
    let counted = read(&store, async |tx, ()| hydra::counted(tx).await).await;
    assert_eq!(counted, [("a".to_owned(), 6)]);
    let breaker =
        Breaker { name: "b".into(), is_open: true, transitions: 3, recoveries: 1, changed_at: Some(NOW) };
    let put = async |tx: &mut Tx, breaker: &Breaker| hydra::put_breaker(tx, breaker).await;
    store.write("put", (), breaker.clone(), put).await.expect("written");
    assert_eq!(read(&store, async |tx, ()| hydra::breaker(tx, "b").await).await, breaker);
    assert!(!read(&store, async |tx, ()| hydra::breaker(tx, "c").await).await.is_open);
    place.end(store).await;
}

pub async fn a_wallet_remembers_what_it_may_have_spent(place: Place) {
    let store = place.open().await;
    let row = |id: &str, state, spend, at: i64| RequestRow {
        kind: "pay".into(),
        request_id: id.into(),
        fingerprint: "f".into(),
        state,
        spend: msats(spend),
        asked: raw("{}"),
        reply: (state == RequestState::Done).then(|| raw("{\"a\":1}")),
        error_code: None,
        error_message: None,
        begun_at: NOW.plus_seconds(at),
        changed_at: NOW,
        lane: if id == "other" { "payout".into() } else { "pay".into() },
    };
    let put = async |tx: &mut Tx, row: &RequestRow| wallet::put_request(tx, row).await;
    for row in [
        row("a", RequestState::Done, 5, 0),
        row("other", RequestState::InFlight, 1_000, 10),
        row("b", RequestState::InFlight, 7, 10),
        row("c", RequestState::Refused, 0, 20),
    ] {
        store.write("put", (), row, put).await.expect("written");
    }
    let spent = async |seconds| {
        let ask = async |tx: &mut Tx, at: &Timestamp| wallet::spent(tx, *at, "pay").await;
        store.read("spent", NOW.plus_seconds(seconds), ask).await.expect("read")
    };
    assert_eq!((spent(-1).await, spent(0).await, spent(10).await), ((12, 2), (7, 1), (0, 0)));
    let open = read(&store, async |tx, ()| wallet::open_requests(tx, NOW.plus_seconds(10), 9).await).await;
    assert_eq!(open.iter().map(|row| row.request_id.as_str()).collect::<Vec<_>>(), ["b", "other"]);
    let last = read(&store, async |tx, ()| wallet::last_paid(tx).await).await;
    assert_eq!(last.expect("a row").request_id, "a");
    place.end(store).await;
}
