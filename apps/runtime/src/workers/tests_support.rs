//! What the tests of this folder say again and again.

use std::collections::BTreeMap;

use oa_contract::{
    Caller, Nothing, Stop,
    matrix::{WorkersHeartbeat, WorkersRegister, WorkersStatus},
    wire::{
        paths::WorkerPath,
        workers::{ChangeWorkerStatus, HeartbeatWorker, RegisterWorker, WorkerReply, WorkerStatus},
    },
};
use oa_store::{
    Tx,
    tables::{
        streams,
        workers::{self, WorkerEvent, WorkerRow},
    },
};
use serde_json::value::RawValue;

use crate::{
    background::publisher,
    hub::stream_of_topic,
    testing::{World, operator},
};

type Answered = Result<(u16, WorkerReply), Stop>;

pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

pub(crate) fn user(user_id: u64) -> RegisterWorker {
    RegisterWorker { owner_user_id: Some(user_id), ..RegisterWorker::default() }
}

fn path(worker_id: &str) -> WorkerPath {
    WorkerPath { worker_id: worker_id.into() }
}

pub(crate) async fn register(world: &World, caller: &Caller, body: RegisterWorker) -> Answered {
    world.call::<WorkersRegister>(caller, Nothing {}, Nothing {}, body).await
}

pub(crate) async fn heartbeat(world: &World, worker_id: &str, user_id: u64, patch: &str) -> Answered {
    let body = HeartbeatWorker {
        owner_user_id: Some(user_id),
        owner_guest_scope: None,
        metadata_patch: Some(raw(patch)),
    };
    world.call::<WorkersHeartbeat>(&operator(), path(worker_id), Nothing {}, body).await
}

pub(crate) async fn change(
    world: &World,
    worker_id: &str,
    user_id: u64,
    status: WorkerStatus,
    reason: Option<&str>,
) -> Answered {
    let reason = reason.map(str::to_owned);
    let body = ChangeWorkerStatus { owner_user_id: Some(user_id), owner_guest_scope: None, status, reason };
    world.call::<WorkersStatus>(&operator(), path(worker_id), Nothing {}, body).await
}

/// The worker and its whole log, as they are stored.
pub(crate) async fn stored(world: &World, worker_id: &str) -> (WorkerRow, Vec<WorkerEvent>) {
    let both = async |tx: &mut Tx, worker_id: &String| {
        let row = workers::get(tx, worker_id).await?.expect("the worker");
        Ok((row, workers::events_after(tx, worker_id, 0, 10_000).await?))
    };
    world.runtime.store.read("test.stored", worker_id.to_owned(), both).await.expect("read")
}

/// Publishes what is due; then the kinds of all messages, by stream, for the topics of all workers and owners.
pub(crate) async fn topics(world: &World) -> BTreeMap<String, Vec<String>> {
    while publisher::drain(&world.runtime).await.expect("published") > 0 {}
    let mut found = BTreeMap::new();
    for topic in
        ["worker:w:lifecycle", "worker:desktop:gpu-7:lifecycle", "fleet:user:42:workers", "fraud:incidents"]
    {
        let read = async |tx: &mut Tx, stream: &String| streams::after(tx, stream, 0, 10_000).await;
        let stream = stream_of_topic(topic);
        let events = world.runtime.store.read("test.stream", stream.clone(), read).await.expect("read");
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>(), "{stream} has a gap");
        found.insert(stream, events.into_iter().map(|event| event.kind).collect());
    }
    found
}
