//! Decides what holds on SQLite alone: one writer, one commit for many, and the end of a store whose
//! commit fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oa_store::{Health, Store, Tx, Wake};

use crate::harness::{Place, append, count, fault, put, refusal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_stops_the_store_and_loses_nothing_that_was_answered() {
    let mut place = Place::sqlite();
    place.open().await.close().await;
    if let Place::Sqlite { config, .. } = &mut place {
        config.max_pages = Some(40);
    }
    let store = place.open().await;
    let long = async |tx: &mut Tx, number: &i64| {
        put(tx, "s", &format!("{number} {}", "x".repeat(2000)), *number).await
    };
    let mut kept = 0;
    let stop = loop {
        match store.write("fill", (), kept, long).await {
            Ok(()) => kept += 1,
            Err(stop) => break stop,
        }
    };
    assert!(fault(stop).contains("the commit of `fill` was lost"));
    assert!(matches!(store.health(), Health::Poisoned(_)));
    let stop = store.write("append", (), "s", append).await.expect_err("a refusal");
    assert!(refusal(stop).starts_with("service_unavailable"));
    assert!(store.probe(std::time::Duration::from_secs(1)).await.is_err());
    assert_eq!(count(&store, "s").await, kept);
    store.close().await;
    if let Place::Sqlite { config, .. } = &mut place {
        config.max_pages = None;
    }
    let store = place.open().await;
    assert_eq!(count(&store, "s").await, kept);
    store.write("append", (), "t", append).await.expect("an append");
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_wait_share_one_commit_and_one_call_of_the_hook() {
    let place = Place::sqlite();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let store = place.open_with(Arc::new(move |_: &[Wake]| _ = counted.fetch_add(1, Ordering::SeqCst))).await;
    let (go, started) = std::sync::mpsc::channel::<()>();
    // The first command holds the writer until the others wait.
    let hold = {
        let store = store.clone();
        let started = std::sync::Mutex::new(started);
        tokio::spawn(async move {
            let run = async |tx: &mut Tx, started: &std::sync::Mutex<std::sync::mpsc::Receiver<()>>| {
                let _ = started.lock().expect("a lock").recv();
                tx.wake(Wake::Outbox);
                Ok(())
            };
            store.write("hold", (), started, run).await.expect("held");
        })
    };
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store: Store = store.clone();
        tasks.spawn(async move {
            let run = async |tx: &mut Tx, (): &()| {
                tx.wake(Wake::Outbox);
                append(tx, &"s").await
            };
            store.write("append", (), (), run).await.expect("an append");
        });
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(go);
    hold.await.expect("the first");
    tasks.join_all().await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(count(&store, "s").await, 50);
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_opener_is_refused_while_the_first_is_there() {
    let place = Place::sqlite();
    let store = place.open().await;
    let Err(error) = place.try_open().await else { panic!("two writers") };
    assert!(error.to_string().contains("in use by another process"), "{error}");
    store.close().await;
    let store = place.open().await;
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_only_dropped_is_complete_when_it_opens_again() {
    let place = Place::sqlite();
    let store = place.open().await;
    store.write("append", (), "s", append).await.expect("an append");
    drop(store);
    let store = loop {
        match place.try_open().await {
            Ok(store) => break store,
            Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(count(&store, "s").await, 1);
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_holds_the_file_delays_writers_but_loses_nothing() {
    let mut place = Place::sqlite();
    let Place::Sqlite { config, .. } = &mut place else { panic!("a file") };
    config.busy_timeout = std::time::Duration::from_millis(50);
    let path = config.path.clone();
    let store = place.open().await;
    let other = rusqlite::Connection::open(path).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("holding");
    let stop = store.write("append", (), "s", append).await.expect_err("a refusal");
    assert!(refusal(stop).starts_with("service_unavailable"));
    other.execute_batch("ROLLBACK").expect("letting go");
    drop(other);
    assert_eq!(store.health(), Health::Ready);
    assert_eq!(store.write("append", (), "s", append).await.expect("an append"), 1);
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_panics_owes_nobody_an_answer() {
    let place = Place::sqlite();
    let store = place.open_with(Arc::new(|_: &[Wake]| panic!("on purpose"))).await;
    for _ in 0..3 {
        let run = async |tx: &mut Tx, (): &()| {
            tx.wake(Wake::Outbox);
            append(tx, &"s").await
        };
        store.write("append", (), (), run).await.expect("an append");
    }
    place.end(store).await;
}
