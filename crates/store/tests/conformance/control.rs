//! What both engines keep of threads and codex workers.

use oa_contract::{
    instant::Timestamp,
    refusal::Stop,
    wire::{codex::CodexEvent, threads::Role, workers::WorkerStatus},
};
use oa_store::{
    Tx,
    tables::{
        codex::{self, Approval, Receipt, Request, RequestState, Worker},
        threads::{self, Before, Message, Thread, Turn, TurnStatus},
    },
};
use serde_json::value::RawValue;

use crate::harness::{Place, fault};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("json")
}

fn ids(threads: &[Thread]) -> Vec<&str> {
    threads.iter().map(|thread| thread.thread_id.as_str()).collect()
}

async fn write_threads(tx: &mut Tx, (): &()) -> Result<(), Stop> {
    for (number, id) in ["a", "Ä", "b"].into_iter().enumerate() {
        let at = NOW.plus_seconds(if number == 0 { 0 } else { 5 });
        let thread =
            Thread { updated_at: at, autopilot_id: Some("pilot".into()), ..Thread::new(id, "u", "o", NOW) };
        threads::put(tx, &thread).await?;
    }
    for seq in 1..=5 {
        let message = Message {
            thread_id: "a".into(),
            seq,
            message_id: format!("m{seq}"),
            user_id: "u".into(),
            role: if seq == 1 { Role::User } else { Role::Assistant },
            text: "x".repeat(if seq > 2 { 3_000_000 } else { 1 }),
            created_at: NOW,
            turn_id: (seq > 1).then(|| "t".to_owned()),
            item_key: (seq > 1).then_some([seq as u8; 32]),
        };
        threads::insert_message(tx, &message).await?;
    }
    let turn = Turn {
        thread_id: "a".into(),
        turn_id: "t".into(),
        worker_id: "w".into(),
        request_id: None,
        status: TurnStatus::Running,
        model: Some("m".into()),
        started_at: NOW,
        ended_at: None,
    };
    threads::put_turn(tx, &turn).await?;
    assert_eq!(threads::running_turns_of(tx, "w", 9).await?, std::slice::from_ref(&turn));
    let ended = Turn { status: TurnStatus::Failed, ended_at: Some(NOW), ..turn };
    threads::put_turn(tx, &ended).await?;
    assert_eq!(threads::turn(tx, "a", "t").await?, Some(ended.clone()));
    assert_eq!(threads::turns(tx, "a", &Before::newest(), 9).await?, [ended]);
    assert_eq!(threads::running_turns_of(tx, "w", 9).await?, []);
    Ok(())
}

async fn read_threads(tx: &mut Tx, (): &()) -> Result<(), Stop> {
    let first = threads::list(tx, "u", "o", &Before::newest(), 2).await?;
    assert_eq!(first.len(), 2);
    let last = &first[1];
    let before = Before { at: last.updated_at, id: last.thread_id.clone() };
    let rest = threads::list(tx, "u", "o", &before, 9).await?;
    let mut all = [ids(&first), ids(&rest)].concat();
    assert_eq!(all.pop(), Some("a"));
    assert_eq!(threads::list_of_autopilot(tx, "pilot", "u", &Before::newest(), 9).await?.len(), 3);
    assert_eq!(threads::list(tx, "u", "other", &Before::newest(), 9).await?, []);
    let seqs = |messages: Vec<Message>| messages.iter().map(|message| message.seq).collect::<Vec<_>>();
    // Long texts end a page early, but never before its first message.
    assert_eq!(seqs(threads::messages_after(tx, "a", 0, 9).await?), [1, 2, 3, 4]);
    assert_eq!(seqs(threads::messages_after(tx, "a", 4, 9).await?), [5]);
    assert_eq!(seqs(threads::messages_before(tx, "a", 4, 2).await?), [2, 3]);
    assert_eq!(threads::message_of_item(tx, "a", &[3; 32]).await?.map(|message| message.seq), Some(3));
    Ok(())
}

pub async fn threads_come_back_as_they_were_written(place: Place) {
    let store = place.open().await;
    store.write("test_write_threads", threads::key("a"), (), write_threads).await.expect("written");
    store.read("test_read_threads", (), read_threads).await.expect("read");
    place.meddle("UPDATE threads SET message_count = 7 WHERE thread_id = 'a'").await;
    let get = async |tx: &mut Tx, (): &()| threads::get(tx, "a").await;
    assert!(fault(store.read("test_thread", (), get).await.expect_err("a broken seal")).contains("seal"));
    place.end(store).await;
}

fn worker() -> Worker {
    Worker {
        worker_id: "w".into(),
        user_id: "u".into(),
        status: WorkerStatus::Running,
        latest_seq: 3,
        oldest_seq: 1,
        oldest_at: Some(NOW),
        workspace_ref: Some("ws".into()),
        codex_home_ref: None,
        adapter: "desktop_bridge".into(),
        metadata: Some(raw(r#"{"z":1,"a":2}"#)),
        started_at: NOW,
        stopped_at: None,
        last_heartbeat_at: Some(NOW),
        silent_since: Some(NOW),
        updated_at: NOW,
        feed_seen_at: None,
    }
}

fn request(name: u8, deadline: Option<i64>) -> Request {
    Request {
        worker_id: "w".into(),
        request_key: [name; 32],
        request_id: "r".repeat(100_000),
        fingerprint: [9; 32],
        method: "turn/start".into(),
        thread_id: Some("t".into()),
        source: None,
        request_version: None,
        session_id: None,
        state: RequestState::Pending,
        answer: None,
        receipt: None,
        created_at: NOW,
        deadline_at: deadline.map(|seconds| NOW.plus_seconds(seconds)),
    }
}

async fn write_codex(tx: &mut Tx, (): &()) -> Result<(), Stop> {
    codex::put_worker(tx, &worker()).await?;
    for seq in 1..=3 {
        let event = CodexEvent {
            seq,
            event_type: "worker.note".into(),
            payload: raw(r#"{"b":1,"a":2}"#),
            occurred_at: NOW,
            received_at: NOW.plus_seconds(seq as i64),
            event_id: (seq == 2).then(|| "id".to_owned()),
        };
        codex::insert_event(tx, "w", &event).await?;
    }
    codex::touch(tx, "w", NOW, NOW.plus_seconds(-10)).await?;
    // Noted too often: nothing changes.
    codex::touch(tx, "w", NOW.plus_seconds(1), NOW.plus_seconds(-9)).await?;
    codex::put_worker(tx, &Worker { updated_at: NOW.plus_seconds(1), ..worker() }).await?;
    codex::put_request(tx, &request(1, Some(60))).await?;
    codex::put_request(tx, &request(2, Some(30))).await?;
    let done = Request {
        state: RequestState::Done,
        answer: Some(raw("{}")),
        receipt: Some(Receipt { fingerprint: [5; 32], seq: 3 }),
        ..request(3, None)
    };
    codex::put_request(tx, &done).await?;
    let asked = Approval {
        worker_id: "w".into(),
        approval_key: [1; 32],
        approval_id: "ap".into(),
        asked_seq: 1,
        decided: None,
    };
    codex::put_approval(tx, &asked).await?;
    codex::put_approval(tx, &Approval { decided: Some(("accept".into(), 2)), ..asked }).await
}

async fn read_codex(tx: &mut Tx, (): &()) -> Result<(), Stop> {
    let kept = codex::worker(tx, "w").await?.expect("the worker");
    assert_eq!((kept.feed_seen_at, kept.updated_at), (Some(NOW), NOW.plus_seconds(1)));
    assert_eq!(kept.metadata.expect("metadata").get(), r#"{"z":1,"a":2}"#);
    assert_eq!(codex::silent(tx, NOW.plus_seconds(1), 9).await?, ["w"]);
    assert_eq!(codex::silent(tx, NOW, 9).await?.len(), 0);
    assert_eq!(codex::aged(tx, NOW.plus_seconds(1), 9).await?, ["w"]);
    let seqs = |events: Vec<CodexEvent>| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(seqs(codex::events_after(tx, "w", 1, 9).await?), [2, 3]);
    let named = codex::event_by_id(tx, "w", "id").await?.expect("the event");
    assert_eq!((named.seq, named.payload.get()), (2, r#"{"b":1,"a":2}"#));
    assert_eq!(codex::ages(tx, "w", 2, 1).await?, [(2, NOW.plus_seconds(2))]);
    let keys = |requests: Vec<Request>| requests.iter().map(|one| one.request_key[0]).collect::<Vec<_>>();
    assert_eq!(keys(codex::pending(tx, "w", 9).await?), [2, 1]);
    assert_eq!(codex::overdue(tx, NOW.plus_seconds(30), 9).await?, [("w".to_owned(), [2; 32])]);
    let done = codex::request(tx, "w", &[3; 32]).await?.expect("the request");
    assert_eq!(
        (done.state, done.receipt),
        (RequestState::Done, Some(Receipt { fingerprint: [5; 32], seq: 3 }))
    );
    let approval = codex::approval(tx, "w", &[1; 32]).await?.expect("the approval");
    assert_eq!(approval.decided, Some(("accept".into(), 2)));
    Ok(())
}

pub async fn codex_rows_come_back_as_they_were_written(place: Place) {
    let store = place.open().await;
    store.write("test_write_codex", codex::key("w"), (), write_codex).await.expect("written");
    store.read("test_read_codex", (), read_codex).await.expect("read");
    let prune = async |tx: &mut Tx, (): &()| {
        codex::prune_events(tx, "w", 3).await?;
        codex::events_after(tx, "w", 0, 9).await
    };
    assert_eq!(store.write("test_prune", (), (), prune).await.expect("pruned").len(), 1);
    place.end(store).await;
}
