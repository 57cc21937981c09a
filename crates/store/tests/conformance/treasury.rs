//! What both engines promise of settlements, their sums, and the watch over them.

use oa_contract::{Msats, Owner, instant::Timestamp, refusal::Stop, wire::treasury::JobStatus};
use oa_store::{
    Key, Store, Tx,
    tables::{
        treasury::{self, Counted, SettlementRow},
        treasury_watch::{self as watch, Watch},
    },
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::harness::{Place, fault};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("an amount")
}

fn row(id: &str, owner: u64, job: &str, status: JobStatus, reserved: i64) -> SettlementRow {
    let settled = status != JobStatus::Reserved;
    SettlementRow {
        settlement_id: id.into(),
        owner: Owner::User(owner),
        run_id: Uuid::from_u128(7),
        job_hash: job.into(),
        attempt: 1,
        provider_id: "p".into(),
        worker_id: "w".into(),
        amount: msats(1000),
        operator_fee: msats(5),
        policy_adder: msats(0),
        status,
        verification_passed: settled.then_some(status == JobStatus::Released),
        exit_code: settled.then_some(-7),
        withheld_reason: (status == JobStatus::Withheld).then(|| "verification_failed".into()),
        dispatch_id: None,
        quote_sha256: Some("q".into()),
        hold_id: format!("hold:{id}"),
        reservations: 1,
        fingerprint: vec![0, 255],
        receipt_sha256: settled.then(|| "r".into()),
        reply: settled.then(|| RawValue::from_string("{\"a\":1}".into()).expect("JSON")),
        reserved_at: NOW.plus_seconds(reserved),
        settled_at: settled.then_some(NOW),
        updated_at: NOW.plus_seconds(reserved),
    }
}

async fn put(store: &Store, row: SettlementRow) -> Result<(), Stop> {
    let write = async |tx: &mut Tx, row: &SettlementRow| treasury::put(tx, row).await;
    store.write("put", (), row, write).await
}

async fn read<T: Send + 'static>(
    store: &Store,
    read: impl AsyncFn(&mut Tx, &()) -> Result<T, Stop> + Send + Sync + Clone + 'static,
) -> T {
    store.read("read", (), read).await.expect("read")
}

fn ids(rows: &[SettlementRow]) -> Vec<&str> {
    rows.iter().map(|row| row.settlement_id.as_str()).collect()
}

pub async fn a_settlement_comes_back_as_it_was_written(place: Place) {
    let store = place.open().await;
    for status in [JobStatus::Reserved, JobStatus::Withheld, JobStatus::Released] {
        put(&store, row("s", 1, "job", status, 0)).await.expect("written");
        let found = read(&store, async |tx, ()| treasury::get(tx, "s").await).await.expect("a row");
        let expected = row("s", 1, "job", status, 0);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
    // Nobody is paid for what was not verified, whoever writes it.
    let unverified =
        SettlementRow { verification_passed: Some(false), ..row("t", 1, "job", JobStatus::Released, 0) };
    fault(put(&store, unverified).await.expect_err("refused"));
    let verified = store.verify(|_| {}).await.expect("a check");
    assert_eq!(verified.findings, Vec::<String>::new());
    place.end(store).await;
}

pub async fn reservations_are_found_by_age_and_settlements_by_owner(place: Place) {
    let store = place.open().await;
    for (id, owner, job, status, at) in [
        ("s1", 1, "b", JobStatus::Reserved, 10),
        ("s2", 1, "a", JobStatus::Reserved, 20),
        ("s3", 2, "c", JobStatus::Reserved, 0),
        ("s4", 1, "d", JobStatus::Released, 0),
    ] {
        put(&store, row(id, owner, job, status, at)).await.expect("written");
    }
    let stale = read(&store, async |tx, ()| treasury::stale(tx, None, NOW.plus_seconds(10), 9).await).await;
    assert_eq!(ids(&stale), ["s1", "s3"], "by their jobs");
    let stale = read(&store, async |tx, ()| treasury::stale(tx, None, NOW.plus_seconds(99), 2).await).await;
    assert_eq!(ids(&stale), ["s2", "s1"]);
    let own = read(&store, async |tx, ()| {
        treasury::stale(tx, Some(&Owner::User(2)), NOW.plus_seconds(99), 9).await
    })
    .await;
    assert_eq!(ids(&own), ["s3"]);
    let recent = read(&store, async |tx, ()| treasury::recent(tx, &Owner::User(1), 2).await).await;
    assert_eq!(ids(&recent), ["s2", "s1"], "the last changed first");
    let after = read(&store, async |tx, ()| treasury::ids_after(tx, "s1", 2).await).await;
    assert_eq!(after, ["s2", "s3"]);
    place.end(store).await;
}

pub async fn what_a_dispatch_received_is_settled_under_one_name(place: Place) {
    let store = place.open().await;
    let of = |id: &str| SettlementRow {
        dispatch_id: Some("d".into()),
        ..row(id, 1, "job", JobStatus::Reserved, 0)
    };
    put(&store, of("s1")).await.expect("written");
    put(&store, of("s1")).await.expect("written again");
    fault(put(&store, of("s2")).await.expect_err("another name"));
    let found = read(&store, async |tx, ()| treasury::by_dispatch(tx, "d").await).await.expect("a row");
    assert_eq!(found.settlement_id, "s1");
    place.end(store).await;
}

pub async fn sums_follow_what_is_counted_by_many_at_once(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let counted = if n % 2 == 0 { Counted::Released(msats(n)) } else { Counted::Withheld };
            let provider = if n < 16 { "p" } else { "q" };
            let count = async |tx: &mut Tx, (provider, counted): &(&'static str, Counted)| {
                treasury::count(tx, &Owner::User(1), provider, *counted).await
            };
            let key = Key::text("treasury", "user:1");
            store.write("count", key, (provider, counted), count).await.expect("counted");
        });
    }
    tasks.join_all().await;
    let total = read(&store, async |tx, ()| treasury::total(tx, &Owner::User(1)).await).await;
    assert_eq!((total.released, total.released_jobs, total.withheld_jobs), (msats(240), 16, 16));
    let earnings = read(&store, async |tx, ()| treasury::earnings(tx, &Owner::User(1), 9).await).await;
    let told: Vec<_> =
        earnings.iter().map(|one| (one.provider_id.as_str(), one.sums.released.get())).collect();
    assert_eq!(told, [("q", 184), ("p", 56)], "who earned most first");
    let none = read(&store, async |tx, ()| treasury::total(tx, &Owner::User(2)).await).await;
    assert_eq!(none, treasury::Sums::default());
    place.end(store).await;
}

pub async fn findings_stay_until_they_are_explained(place: Place) {
    let store = place.open().await;
    let keep = async |differs: Vec<(&'static str, String)>, at: i64| {
        let write = async |tx: &mut Tx, (differs, at): &(Vec<(&'static str, String)>, i64)| {
            watch::keep(tx, "s", differs, NOW.plus_seconds(*at)).await
        };
        store.write("keep", (), (differs, at), write).await.expect("kept");
    };
    keep(vec![("ledger_state", "one".into()), ("event_missing", "two".into())], 0).await;
    keep(vec![("ledger_state", "still".into())], 5).await;
    let found = read(&store, async |tx, ()| watch::findings(tx, 9).await).await;
    assert_eq!((found.len(), found[0].detail.as_str()), (1, "still"));
    assert_eq!((found[0].first_seen_at, found[0].last_seen_at), (NOW, NOW.plus_seconds(5)));
    keep(vec![], 6).await;
    assert_eq!(read(&store, async |tx, ()| watch::findings(tx, 9).await).await.len(), 0);
    let standing = Watch { holder: "me".into(), until: NOW, cursor: "s".into(), rounds: 3 };
    let write = async |tx: &mut Tx, watch: &Watch| watch::put(tx, "w", watch).await;
    store.write("watch", (), standing.clone(), write).await.expect("written");
    assert_eq!(read(&store, async |tx, ()| watch::get(tx, "w").await).await, standing);
    assert_eq!(read(&store, async |tx, ()| watch::get(tx, "x").await).await, Watch::default());
    place.end(store).await;
}
