//! Decides how a run is told again: line by line, in memory that does not grow with the run
//! (runtime-core §10.2).

use bytes::Bytes;
use futures_util::stream;
use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Stop, Streamed, matrix::RunsReplay, operation::Ndjson,
    replay::ReplayWriter, wire::runs::RunEvent,
};
use oa_store::{
    Store, Tx,
    tables::runs::{self as table, Head, RunRow},
};
use uuid::Uuid;

use super::{row, visible_head};
use crate::Runtime;

/// Small enough that a page of the largest payloads fits into memory many times.
const PAGE: u64 = 64;

impl Handle<RunsReplay> for Runtime {
    async fn handle(&self, ask: Ask<RunsReplay>) -> Result<Answer<Streamed<Ndjson>>, Stop> {
        let begin = self.store.read("runs.replay", (ask.path.run_id, ask.caller), begin).await?;
        let mut first = Vec::new();
        let writer = ReplayWriter::begin(begin.1.run_id, &begin.1.metadata, begin.1.created_at, &mut first);
        let telling = Telling { store: self.store.clone(), head: begin.0, after: 0, writer, buffer: first };
        Ok(Streamed::new(stream::try_unfold(Some(telling), tell)).into())
    }
}

async fn begin(tx: &mut Tx, (run_id, caller): &(Uuid, Caller)) -> Result<(Head, RunRow), Stop> {
    let head = visible_head(tx, *run_id, caller).await?;
    let row = row(tx, *run_id).await?;
    Ok((head, row))
}

/// A replay that has come as far as `after`. What is appended meanwhile is not part of it.
struct Telling {
    store: Store,
    head: Head,
    after: u64,
    writer: ReplayWriter,
    buffer: Vec<u8>,
}

async fn tell(telling: Option<Telling>) -> Result<Option<(Bytes, Option<Telling>)>, Fault> {
    let Some(mut telling) = telling else { return Ok(None) };
    if telling.after >= telling.head.latest_seq {
        telling.writer.end(telling.head.status, telling.head.updated_at, &mut telling.buffer);
        return Ok(Some((telling.buffer.into(), None)));
    }
    let events = page(&telling).await?;
    for event in &events {
        telling.after = event.seq;
        telling.writer.event(event, &mut telling.buffer);
    }
    let chunk = std::mem::take(&mut telling.buffer).into();
    Ok(Some((chunk, Some(telling))))
}

async fn page(telling: &Telling) -> Result<Vec<RunEvent>, Fault> {
    let ask = (telling.head.clone(), telling.after);
    let read =
        async |tx: &mut Tx, (head, after): &(Head, u64)| table::events_after(tx, head, *after, PAGE).await;
    telling.store.read("runs.replay", ask, read).await.map_err(|stop| match stop {
        Stop::Fault(fault) => fault,
        Stop::Refusal(refusal) => Fault::msg(refusal.to_string()),
    })
}
