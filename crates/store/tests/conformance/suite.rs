//! Decides what both engines promise alike. Every function gets a place of its own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oa_contract::refusal::{Refusal, Stop};
use oa_contract::{current, instant::Timestamp};
use oa_store::{FromRow, Health, Key, Row, Store, Tx, Wake, idempotency, outbox, params};
use uuid::Uuid;

use crate::harness::{GET, PUT, Place, append, count, count_in, fault, put, refusal};
pub use crate::tools::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

pub async fn parallel_writers_on_one_key_get_contiguous_numbers(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut got = Vec::new();
            for _ in 0..8 {
                got.push(store.write("append", Key::text("run", "a"), "a", append).await.expect("an append"));
            }
            got
        });
    }
    let mut all: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (1..=128).collect::<Vec<_>>());
    place.end(store).await;
}

pub async fn a_refusal_undoes_its_own_command_only(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            let run = async |tx: &mut Tx, number: &i64| {
                put(tx, "s", &format!("{number}"), *number).await?;
                put(tx, "s", &format!("{number} again"), *number).await?;
                match number % 3 {
                    0 => Err(Refusal::conflict("every third").into()),
                    _ => Ok(()),
                }
            };
            store.write("put", (), number, run).await.is_ok()
        });
    }
    let kept = tasks.join_all().await.into_iter().filter(|kept| *kept).count();
    assert_eq!(kept, 40);
    assert_eq!(count(&store, "s").await, 80);
    place.end(store).await;
}

pub async fn what_a_command_logs_belongs_to_the_request_that_asked_for_it(place: Place) {
    let store = place.open().await;
    let whose = async |tx: &mut Tx, key: &&str| {
        let before = current::request();
        put(tx, "s", key, 1).await?;
        assert_eq!(before, current::request());
        Ok(before.map(|id| id.to_string()))
    };
    let named = current::within(Some("r-1".into()), store.write("whose", (), "a", whose)).await;
    assert_eq!(named.expect("written").as_deref(), Some("r-1"));
    assert_eq!(store.write("whose", (), "b", whose).await.expect("written"), None);
    let read = async |_: &mut Tx, (): &()| Ok(current::request().map(|id| id.to_string()));
    let named = current::within(Some("r-2".into()), store.read("whose", (), read)).await;
    assert_eq!(named.expect("read").as_deref(), Some("r-2"));
    place.end(store).await;
}

pub async fn a_failed_statement_undoes_the_command_even_when_it_answers(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| {
        put(tx, "s", "a", 1).await?;
        let _ = put(tx, "s", "a", 2).await;
        Ok(())
    };
    let stop = store.write("careless", (), (), run).await.expect_err("a fault");
    assert!(fault(stop).contains("`careless` went on after a statement had failed"));
    assert_eq!(count(&store, "s").await, 0);
    place.end(store).await;
}

pub async fn a_command_that_panics_harms_nobody(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| -> Result<(), Stop> {
        put(tx, "s", "lost", 1).await?;
        panic!("on purpose");
    };
    let others = beside_others(&store, async || store.write("panics", (), (), run).await).await;
    assert!(fault(others).contains("the transaction `panics` panicked: on purpose"));
    place.end(store).await;
}

pub async fn a_command_that_waits_for_something_else_harms_nobody(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| -> Result<(), Stop> {
        put(tx, "s", "lost", 1).await?;
        std::future::pending().await
    };
    let stop = beside_others(&store, async || store.write("waits", (), (), run).await).await;
    assert!(fault(stop).contains("the transaction `waits` waited for something that is not the store"));
    place.end(store).await;
}

/// Runs a bad command among twenty good ones, which must all be kept.
async fn beside_others(store: &Store, bad: impl AsyncFn() -> Result<(), Stop>) -> Stop {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            let run = async |tx: &mut Tx, number: &i64| put(tx, "s", &format!("{number}"), *number).await;
            store.write("good", (), number, run).await.expect("a good command");
        });
    }
    let stop = bad().await.expect_err("a bad command");
    tasks.join_all().await;
    assert_eq!(count(store, "s").await, 20);
    stop
}

pub async fn readers_never_see_what_is_not_committed(place: Place) {
    let store = place.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..50_i64 {
        let store = store.clone();
        writers.spawn(async move {
            let run = async |tx: &mut Tx, number: &i64| {
                for part in ["left", "right"] {
                    put(tx, "pairs", &format!("{number} {part}"), *number).await?;
                }
                match number % 2 {
                    0 => Ok(()),
                    _ => Err(Stop::from(Refusal::conflict("odd"))),
                }
            };
            let _ = store.write("pair", (), number, run).await;
        });
    }
    for _ in 0..50 {
        assert_eq!(count(&store, "pairs").await % 2, 0);
    }
    writers.join_all().await;
    assert_eq!(count(&store, "pairs").await, 50);
    place.end(store).await;
}

pub async fn a_reader_sees_what_was_answered_before_it_asked(place: Place) {
    let store = place.open().await;
    for wanted in 1..=30 {
        store.write("append", Key::text("run", "r"), "r", append).await.expect("an append");
        assert_eq!(count(&store, "r").await, wanted);
    }
    place.end(store).await;
}

pub async fn a_read_keeps_its_snapshot(place: Place) {
    let store = place.open().await;
    store.write("append", (), "r", append).await.expect("an append");
    let (first_read, has_read) = std::sync::mpsc::channel::<()>();
    let (wrote, has_written) = std::sync::mpsc::channel::<()>();
    let ask = (Mutex::new(Some(first_read)), Mutex::new(has_written));
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            let run = async |tx: &mut Tx,
                             ask: &(
                Mutex<Option<std::sync::mpsc::Sender<()>>>,
                Mutex<std::sync::mpsc::Receiver<()>>,
            )| {
                let before = count_in(tx, "r").await?;
                drop(ask.0.lock().expect("a lock").take());
                // PostgreSQL's one thread runs the writer too: nobody may block it, so look for a while.
                if tx.engine() == oa_store::EngineKind::Sqlite {
                    let _ = ask.1.lock().expect("a lock").recv();
                } else {
                    while ask.1.lock().expect("a lock").try_recv()
                        == Err(std::sync::mpsc::TryRecvError::Empty)
                    {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                Ok((before, count_in(tx, "r").await?))
            };
            store.read("slow", ask, run).await.expect("a read")
        })
    };
    tokio::task::spawn_blocking(move || has_read.recv()).await.expect("a thread").expect_err("dropped");
    store.write("append", (), "r", append).await.expect("an append");
    drop(wrote);
    assert_eq!(reader.await.expect("the reader"), (1, 1));
    assert_eq!(count(&store, "r").await, 2);
    place.end(store).await;
}

pub async fn a_read_cannot_write(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| put(tx, "s", "a", 1).await;
    let stop = store.read("nosy", (), run).await.expect_err("a fault");
    assert!(fault(stop).contains("the statement `test/put` writes inside the read `nosy`"));
    place.end(store).await;
}

pub async fn a_unique_violation_is_answered_and_harms_nobody(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| put(tx, "s", "a", 1).await;
    store.write("put", (), (), run).await.expect("the first");
    let stop = store.write("put", (), (), run).await.expect_err("the second");
    assert!(fault(stop).contains("running `test/put`"));
    assert_eq!(count(&store, "s").await, 1);
    assert_eq!(store.health(), Health::Ready);
    place.end(store).await;
}

#[derive(Debug, PartialEq, Clone)]
struct Everything {
    text: String,
    bytes: Vec<u8>,
    number: i64,
}

impl FromRow for Everything {
    fn from_row(row: &Row<'_>) -> Result<Self, oa_contract::refusal::Fault> {
        Ok(Everything { text: row.text(4)?.into(), bytes: row.bytes(2)?.into(), number: row.int(3)? })
    }
}

pub async fn every_value_comes_back_as_it_was_given(place: Place) {
    let store = place.open().await;
    let given: Vec<Everything> = [
        ("", vec![], 0),
        ("Grüße, 世界 \u{1F980} \u{10FFFF} \u{1} \\ ' \" $1 ?1 \r\n\t", vec![0, 1, 0, 255], i64::MIN),
        ("e\u{301} is not \u{e9}", (0..=255).collect(), i64::MAX),
        (&"long ".repeat(1 << 19), vec![7; 3 << 20], -1),
    ]
    .into_iter()
    .map(|(text, bytes, number)| Everything { text: text.into(), bytes, number })
    .collect();
    let write = async |tx: &mut Tx, all: &Vec<Everything>| {
        for (at, one) in all.iter().enumerate() {
            let key = format!("{at}");
            tx.execute(&PUT, params!["s", &key, &one.bytes, one.number, &one.text, at as i64]).await?;
        }
        Ok(())
    };
    store.write("put", (), given.clone(), write).await.expect("a write");
    let read = async |tx: &mut Tx, (): &()| tx.all::<Everything>(&GET, params!["s"]).await;
    assert_eq!(store.read("get", (), read).await.expect("a read"), given);
    place.end(store).await;
}

pub async fn a_text_with_a_nul_is_refused_alike(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| put(tx, "s", "a\0b", 1).await;
    let stop = store.write("put", (), (), run).await.expect_err("a refusal");
    assert!(refusal(stop).contains("U+0000"));
    place.end(store).await;
}

pub async fn a_wrong_kind_names_the_statement_and_the_column(place: Place) {
    let store = place.open().await;
    store.write("append", (), "s", append).await.expect("an append");
    let run = async |tx: &mut Tx, (): &()| tx.one::<(String, i64)>(&GET, params!["s"]).await;
    let said = fault(store.read("get", (), run).await.expect_err("a fault"));
    assert_eq!(said, "reading column 1 (`key`) of `test/get`: wanted a whole number, found a text");
    place.end(store).await;
}

pub async fn a_wrong_number_of_parameters_is_a_fault(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| tx.one::<(String,)>(&GET, params!["s", "t"]).await;
    assert!(fault(store.read("get", (), run).await.expect_err("a fault")).contains("running `test/get`"));
    place.end(store).await;
}

/// The usual shape of an idempotent command.
async fn once(tx: &mut Tx, print: &[u8; 1]) -> Result<(bool, String), Stop> {
    match idempotency::find(tx, "workers", "key", print).await? {
        idempotency::Known::Replay { reply, .. } => Ok((false, reply)),
        idempotency::Known::Mismatch => Err(Refusal::conflict("another request under this key").into()),
        idempotency::Known::Fresh => {
            let id = outbox::enqueue(tx, "effect", "{}", NOW).await?;
            idempotency::keep(tx, "workers", "key", print, 201, &format!("effect {id}"), NOW).await?;
            Ok((true, format!("effect {id}")))
        }
    }
}

async fn depth(store: &Store) -> outbox::Depth {
    store.read("depth", (), async |tx: &mut Tx, (): &()| outbox::depth(tx, NOW).await).await.expect("a depth")
}

pub async fn thirty_two_duplicates_have_one_effect(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        // No key to lock: on PostgreSQL they collide in the table, and run again.
        tasks.spawn(async move { store.write("once", (), [1], once).await.expect("an answer") });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|(fresh, _)| *fresh).count(), 1);
    assert!(answers.iter().all(|(_, reply)| *reply == answers[0].1));
    assert_eq!(depth(&store).await.waiting, 1);
    place.end(store).await;
}

pub async fn another_request_under_a_used_key_is_a_mismatch(place: Place) {
    let store = place.open().await;
    store.write("once", (), [1], once).await.expect("the first");
    let stop = store.write("once", (), [2], once).await.expect_err("a refusal");
    assert!(refusal(stop).starts_with("conflict"));
    assert_eq!(depth(&store).await.waiting, 1);
    place.end(store).await;
}

async fn enqueue(store: &Store, topic: &'static str, payload: &'static str) -> i64 {
    let run =
        async |tx: &mut Tx, ask: &(&'static str, &'static str)| outbox::enqueue(tx, ask.0, ask.1, NOW).await;
    store.write("enqueue", (), (topic, payload), run).await.expect("an id")
}

/// Claims at so many seconds after `NOW`, with a lease of ten.
async fn claim(store: &Store, seconds: i64) -> Vec<outbox::Message> {
    let run = async |tx: &mut Tx, seconds: &i64| {
        let now = NOW.plus_seconds(*seconds);
        let topics = &["a", "b"];
        outbox::claim(tx, outbox::Claim { now, lease_ms: 10_000, limit: 3, topics, max_attempts: 3 }).await
    };
    store.write("claim", (), seconds, run).await.expect("messages")
}

pub async fn the_outbox_hands_out_in_the_order_of_writing(place: Place) {
    let store = place.open().await;
    let mut ids = Vec::new();
    for topic in ["a", "b", "a", "c", "b"] {
        ids.push(enqueue(&store, topic, "{}").await);
    }
    assert!(ids.is_sorted());
    let got: Vec<_> = claim(&store, 0).await.into_iter().map(|message| message.id).collect();
    assert_eq!(got, [ids[0], ids[1], ids[2]]);
    let rest: Vec<_> = claim(&store, 0).await.into_iter().map(|message| message.id).collect();
    assert_eq!(rest, [ids[4]]);
    let done =
        store.write("done", (), got, async |tx: &mut Tx, ids: &Vec<i64>| outbox::complete(tx, ids).await);
    assert_eq!(done.await.expect("done"), 3);
    let depth = depth(&store).await;
    assert_eq!((depth.waiting, depth.leased, depth.dead, depth.oldest), (2, 1, 0, Some(NOW)));
    place.end(store).await;
}

pub async fn a_lease_runs_out_and_the_message_comes_again(place: Place) {
    let store = place.open().await;
    enqueue(&store, "a", "{\"n\":1}").await;
    assert_eq!(claim(&store, 0).await.len(), 1);
    assert_eq!(claim(&store, 9).await.len(), 0);
    let again = claim(&store, 10).await;
    assert_eq!((again.len(), again[0].attempts, again[0].payload.as_str()), (1, 2, "{\"n\":1}"));
    place.end(store).await;
}

async fn retry(store: &Store, id: i64, seconds: i64) -> outbox::Retried {
    let run = async |tx: &mut Tx, ask: &(i64, i64)| {
        let now = NOW.plus_seconds(ask.1);
        outbox::retry(tx, ask.0, "no route\0 to host", now, now.plus_seconds(5), 3).await
    };
    store.write("retry", (), (id, seconds), run).await.expect("a retry")
}

pub async fn a_message_that_nobody_can_deliver_is_kept_and_counted(place: Place) {
    let store = place.open().await;
    let id = enqueue(&store, "a", "{}").await;
    for (at, wanted) in
        [(0, outbox::Retried::Later), (5, outbox::Retried::Later), (10, outbox::Retried::Dead)]
    {
        assert_eq!(claim(&store, at - 1).await.len(), usize::from(at == 0));
        assert!(at == 0 || claim(&store, at).await.len() == 1);
        assert_eq!(retry(&store, id, at).await, wanted);
    }
    assert_eq!(retry(&store, id, 99).await, outbox::Retried::Gone);
    assert_eq!(claim(&store, 99).await.len(), 0);
    let dead = store.read("dead", (), async |tx: &mut Tx, (): &()| outbox::dead(tx, 0, 10).await);
    let dead = dead.await.expect("dead letters");
    assert_eq!((dead.len(), dead[0].id, dead[0].attempts), (1, id, 3));
    assert_eq!(dead[0].last_error, "no route to host");
    assert_eq!(depth(&store).await.dead, 1);
    place.end(store).await;
}

pub async fn a_message_whose_takers_vanish_is_given_up(place: Place) {
    let store = place.open().await;
    enqueue(&store, "a", "{}").await;
    for at in [0, 10, 20] {
        assert_eq!(claim(&store, at).await.len(), 1);
    }
    assert_eq!(claim(&store, 30).await.len(), 0);
    let depth = depth(&store).await;
    assert_eq!((depth.waiting, depth.dead), (0, 1));
    place.end(store).await;
}

pub async fn parallel_claims_never_share_a_message(place: Place) {
    let store = place.open().await;
    for _ in 0..20 {
        enqueue(&store, "a", "{}").await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let store = store.clone();
        tasks.spawn(async move { claim(&store, 0).await });
    }
    let mut ids: Vec<_> = tasks.join_all().await.into_iter().flatten().map(|message| message.id).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    while let [_, ..] = &claim(&store, 0).await[..] {}
    assert_eq!(depth(&store).await.leased, 20);
    place.end(store).await;
}

pub async fn a_message_of_a_refused_command_is_never_sent(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| -> Result<(), Stop> {
        outbox::enqueue(tx, "a", "{}", NOW).await?;
        Err(Refusal::conflict("no").into())
    };
    refusal(store.write("refused", (), (), run).await.expect_err("a refusal"));
    assert_eq!(depth(&store).await.waiting, 0);
    place.end(store).await;
}

pub async fn wakes_come_after_the_commit_and_only_for_what_is_kept(place: Place) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hook = heard.clone();
    let store = place
        .open_with(Arc::new(move |wakes: &[Wake]| hook.lock().expect("a lock").extend_from_slice(wakes)))
        .await;
    let run = async |tx: &mut Tx, seq: &u64| {
        tx.wake(Wake::Run { run_id: Uuid::nil(), seq: *seq });
        put(tx, "s", &format!("{seq}"), 1).await?;
        match seq % 2 {
            0 => Ok(()),
            _ => Err(Stop::from(Refusal::conflict("odd"))),
        }
    };
    for seq in 0..10 {
        let _ = store.write("wakes", (), seq, run).await;
    }
    // Every wake was given before the answer of its command.
    let wakes = std::mem::take(&mut *heard.lock().expect("a lock"));
    let wanted: Vec<_> = (0..10).step_by(2).map(|seq| Wake::Run { run_id: Uuid::nil(), seq }).collect();
    assert_eq!(wakes, wanted);
    place.end(store).await;
}

pub async fn a_changed_column_breaks_its_seal(place: Place) {
    let store = place.open().await;
    store.write("once", (), [1], once).await.expect("the first");
    place.meddle("UPDATE idempotency_records SET reply = reply || '!'").await;
    let said = fault(store.write("once", (), [1], once).await.expect_err("a fault"));
    assert!(
        said.contains("idempotency/find: the stored row does not match its seal: run `oa verify-store`"),
        "{said}"
    );
    place.meddle("UPDATE outbox SET payload = '[]'").await;
    let run = async |tx: &mut Tx, (): &()| {
        let topics = &["effect"];
        outbox::claim(tx, outbox::Claim { now: NOW, lease_ms: 1, limit: 9, topics, max_attempts: 3 }).await
    };
    let said = fault(store.write("claim", (), (), run).await.expect_err("a fault"));
    assert!(said.contains("outbox/due"), "{said}");
    place.end(store).await;
}

pub async fn a_restart_keeps_everything(place: Place) {
    let store = place.open().await;
    for _ in 0..20 {
        store.write("append", (), "r", append).await.expect("an append");
    }
    store.write("once", (), [1], once).await.expect("the first");
    store.close().await;
    let store = place.open().await;
    assert_eq!(count(&store, "r").await, 20);
    assert!(!store.write("once", (), [1], once).await.expect("a replay").0);
    place.end(store).await;
}

/// Closes the store, meddles, and says why it does not open again.
async fn refusal_after(place: &Place, sql: &str) -> String {
    place.open().await.close().await;
    place.meddle(sql).await;
    match place.try_open().await {
        Ok(_) => panic!("the store opened after `{sql}`"),
        Err(error) => error.to_string(),
    }
}

pub async fn a_changed_migration_refuses_to_start(place: Place) {
    let said = refusal_after(&place, "UPDATE schema_migrations SET checksum = 'x' WHERE version = 1").await;
    assert!(said.contains("checksum") && said.contains("restore a backup"), "{said}");
}

pub async fn a_newer_store_refuses_to_start(place: Place) {
    let mut sql =
        "INSERT INTO schema_migrations SELECT MAX(version) + 1, 'later', 'x', 0 FROM schema_migrations"
            .to_owned();
    if let Place::Sqlite { .. } = &place {
        let steps =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).expect("steps").count();
        sql = format!("{sql}; PRAGMA user_version = {}", steps + 1);
    }
    let said = refusal_after(&place, &sql).await;
    assert!(said.contains("newer version of oa"), "{said}");
}

pub async fn a_gap_in_the_history_refuses_to_start(place: Place) {
    let said = refusal_after(&place, "UPDATE schema_migrations SET version = 1000 WHERE version = 1").await;
    assert!(said.contains("gap"), "{said}");
}

pub async fn a_probe_writes_and_reads(place: Place) {
    let store = place.open().await;
    for _ in 0..3 {
        store.probe(Duration::from_secs(5)).await.expect("a beat");
    }
    place.end(store).await;
}

pub async fn closing_answers_what_was_queued(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            let run = async |tx: &mut Tx, number: &i64| put(tx, "s", &format!("{number}"), 1).await;
            store.write("put", (), number, run).await.is_ok()
        });
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    store.close().await;
    let answered = tasks.join_all().await.into_iter().filter(|kept| *kept).count();
    let store = place.open().await;
    assert_eq!(count(&store, "s").await, answered as i64);
    place.end(store).await;
}

pub async fn a_closed_store_says_so(place: Place) {
    let store = place.open().await;
    store.close().await;
    store.close().await;
    assert_eq!(store.health(), Health::Closed);
    let stop = store.write("append", (), "r", append).await.expect_err("a refusal");
    assert!(refusal(stop).contains("closing"));
    let run = async |tx: &mut Tx, (): &()| count_in(tx, "r").await;
    assert!(refusal(store.read("count", (), run).await.expect_err("a refusal")).contains("closing"));
    place.end(store).await;
}

pub async fn an_answer_nobody_waits_for_is_still_kept(place: Place) {
    let store = place.open().await;
    let ran = Arc::new(AtomicI64::new(0));
    let run = async |tx: &mut Tx, ran: &Arc<AtomicI64>| {
        put(tx, "s", "a", 1).await?;
        ran.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    {
        let asked = std::pin::pin!(store.write("put", (), ran.clone(), run));
        let _ = futures_poll_once(asked).await;
    }
    while ran.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.write("append", (), "other", append).await.expect("an append");
    store.close().await;
    let store = place.open().await;
    assert_eq!(count(&store, "s").await, 1);
    place.end(store).await;
}

/// Polls once, so that the command is queued, and then walks away.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

pub async fn a_whole_check_finds_the_row_that_was_changed(place: Place) {
    let store = place.open().await;
    store.write("once", (), [1], once).await.expect("the first");
    enqueue(&store, "a", "{}").await;
    let parts = Arc::new(Mutex::new(Vec::new()));
    let seen = parts.clone();
    let verified = store.verify(move |progress| seen.lock().expect("a lock").push(progress)).await;
    let verified = verified.expect("a check");
    assert_eq!(verified.findings, Vec::<String>::new());
    assert!(verified.tables.contains(&("outbox".into(), 2)), "{:?}", verified.tables);
    assert!(parts.lock().expect("a lock").iter().any(|progress| progress.part == "outbox_dead"));
    place.meddle("UPDATE outbox SET topic = 'b' WHERE topic = 'a'").await;
    let verified = store.verify(|_| {}).await.expect("a check");
    assert_eq!(verified.findings.len(), 1);
    assert!(verified.findings[0].contains("table `outbox`, row 2 (b)"), "{:?}", verified.findings);
    place.end(store).await;
}

pub use crate::control::{codex_rows_come_back_as_they_were_written, threads_come_back_as_they_were_written};

pub async fn a_crowd_of_readers_and_writers_is_answered(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_i64 {
        let store = store.clone();
        tasks.spawn(async move {
            let run = async |tx: &mut Tx, number: &i64| put(tx, "s", &format!("{number}"), *number).await;
            store
                .write("put", Key::text("n", format!("{}", number % 7)), number, run)
                .await
                .expect("a write");
            count(&store, "s").await
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().max(), Some(200));
    place.end(store).await;
}
