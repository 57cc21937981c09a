//! Every byte of a small database, changed in turn, is harmless or refused with a clear sentence; never is
//! anything missing, altered or empty without a word. Of a page that holds no row yet, and most tables here have
//! just that, the header is changed whole and of the unused rest every 64th byte. Most of the rest is the text of the
//! schema, which is compared whole when a store is opened: of that every 31st byte, or with
//! `OA_TEST_EVERY_BYTE=1 cargo nextest run -p oa-acceptance damaged_store` every one, which takes some minutes.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use oa_contract::Stop;
use oa_store::{SqliteConfig, Store, Tx, tables::runs};
use oa_testkit::pages_of_schema;
use uuid::Uuid;

fn config(path: &Path) -> SqliteConfig {
    let mut config = SqliteConfig::new(path);
    config.page_size = Some(PAGE as u32);
    config.readers = 1;
    config
}

const PAGE: usize = 512;
/// Of a page of a table or an index.
const HEADER: usize = 16;

/// Of the text of the schema, every so many bytes: a prime, so that every bit of a byte has its turn.
const STRIDE: usize = 31;

/// The places that are changed.
fn places(bytes: &[u8], schema: &BTreeSet<usize>, stride: usize) -> Vec<usize> {
    // The first byte says that it is a leaf of a table or an index, the fourth and fifth how many cells it has.
    let is_blank = |page: &[u8]| matches!(page, [10 | 13, _, _, 0, 0, ..]);
    let of_page = |(number, page): (usize, &[u8])| {
        let blank = number > 0 && is_blank(page);
        let stride = match (blank, number > 0 && schema.contains(&number)) {
            (true, _) => 64,
            (false, true) => stride,
            (false, false) => 1,
        };
        let all = (0..page.len()).map(move |offset| (offset, number * PAGE + offset));
        let taken = all.filter(move |(offset, at)| *offset < HEADER || at % stride == 0);
        taken.map(|(_, at)| at).collect::<Vec<_>>()
    };
    bytes.chunks(PAGE).enumerate().flat_map(of_page).collect()
}

/// Everything that the store says about the run.
async fn everything(store: &Store, run_id: Uuid) -> Result<String, Stop> {
    let read = async |tx: &mut Tx, run_id: &Uuid| {
        let row = runs::get(tx, *run_id).await?;
        let head = runs::head(tx, *run_id).await?;
        let listed = runs::list(tx, None, None, None, 10).await?;
        let events = match &head {
            Some(head) => runs::events_after(tx, head, 0, 1_000).await?,
            None => Vec::new(),
        };
        let key = runs::key(tx, *run_id, oa_contract::wire::runs::Actor::Caller, "k").await?;
        Ok(format!("{row:?} {head:?} {listed:?} {events:?} {key:?}"))
    };
    store.read("test.everything", run_id, read).await
}

#[test]
fn every_changed_byte_of_a_database_is_harmless_or_refused() {
    let every_byte = std::env::var_os("OA_TEST_EVERY_BYTE").is_some();
    change_in_turn(if every_byte { 1 } else { STRIDE });
}

fn change_in_turn(stride: usize) {
    let home = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let original = home.path().join("original.db");
    let (run_id, truth) = runtime().block_on(fill(&original));
    let bytes = std::fs::read(&original).unwrap();
    let places = places(&bytes, &pages_of_schema(&original), stride);
    let refused = AtomicUsize::new(0);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (bytes, places, truth, next, refused) = (&bytes, &places, &truth, &next, &refused);
            let path = home.path().join(format!("flipped-{worker}.db"));
            scope.spawn(move || {
                let runtime = runtime();
                let mut flipped = bytes.clone();
                while let Some(&at) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    flipped[at] ^= 1 << (at % 8);
                    runtime.block_on(try_one(&path, &flipped, at, run_id, truth, refused));
                    flipped[at] = bytes[at];
                }
            });
        }
    });
    let refused = refused.load(Ordering::Relaxed);
    println!("{} of {} bytes changed, {refused} refused, the others harmless", places.len(), bytes.len());
    assert!(refused > places.len() / 10, "only {refused} of {} changes were noticed", places.len());
}

async fn fill(path: &Path) -> (Uuid, String) {
    let store = Store::open(config(path)).await.unwrap();
    let run_id = Uuid::from_u128(0x0195_03c1_8a6e_7f10_9c55_2b7f_0c1d_4e90);
    store.write("test.fill", (), run_id, write_run).await.unwrap();
    let truth = everything(&store, run_id).await.unwrap();
    store.close().await;
    (run_id, truth)
}

async fn write_run(tx: &mut Tx, run_id: &Uuid) -> Result<(), Stop> {
    use oa_contract::{Timestamp, wire::runs::Actor};
    use oa_runtime::runs::log::{self, Entry};
    let now = Timestamp::from_unix_seconds(1_770_000_000);
    let json = |text: String| serde_json::value::RawValue::from_string(text).unwrap();
    let row = runs::RunRow {
        run_id: *run_id,
        owner_key: Some("user:7".into()),
        worker_id: Some("w".into()),
        metadata: json("{\"a\":1}".into()),
        created_at: now,
    };
    runs::insert(tx, &row).await?;
    let mut head = log::blank_head(*run_id, row.owner_key.clone(), now);
    for step in 0..70 {
        let key = (step == 3).then(|| "k".to_owned());
        let entry = Entry {
            event_type: "step".into(),
            payload: json(format!("{{\"step\":{step}}}")),
            idempotency_key: key,
            actor: Actor::Caller,
        };
        head = log::extend(tx, head, &entry, now).await?;
    }
    runs::insert_head(tx, &head).await
}

async fn try_one(path: &Path, bytes: &[u8], at: usize, run_id: Uuid, truth: &str, refused: &AtomicUsize) {
    for tail in ["", "-wal", "-shm", ".lock", ".made"] {
        let _ = std::fs::remove_file(format!("{}{tail}", path.display()));
    }
    std::fs::write(path, bytes).unwrap();
    let store = match Store::open(config(path)).await {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().len() > 20, "byte {at}: {error}");
            refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    match everything(&store, run_id).await {
        Ok(said) => {
            assert_eq!(said, truth, "byte {at} was changed, and the store says something else without a word")
        }
        Err(stop) => {
            assert!(stop.to_string().len() > 20, "byte {at}: {stop}");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }
    store.close().await;
}
