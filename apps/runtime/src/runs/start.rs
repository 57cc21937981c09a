//! Decides how a run begins: created, started, and on disk before anybody hears of it (runtime-core §9.4).

use oa_contract::{
    Answer, Ask, Handle, Owner, Refusal, Stop, Timestamp,
    matrix::RunsStart,
    wire::runs::{Actor, Run, RunReply},
};
use oa_store::{
    Key, Tx,
    idempotency::{self, Known},
    tables::runs::{self as table, RunRow},
};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    bounded_json,
    log::{self, Entry},
    view,
};
use crate::Runtime;

/// Everything the transaction needs, decided before it.
struct Start {
    run: RunRow,
    key: Option<IdempotencyKey>,
    now: Timestamp,
}

struct IdempotencyKey {
    scope: String,
    key: String,
    fingerprint: Vec<u8>,
}

impl Handle<RunsStart> for Runtime {
    async fn handle(&self, ask: Ask<RunsStart>) -> Result<Answer<RunReply>, Stop> {
        let now = self.now();
        let metadata = bounded_json("metadata", ask.body.metadata.as_deref())?;
        if ask.body.worker_id.as_ref().is_some_and(|id| id.len() > 255 || id.contains(char::is_control)) {
            return Err(
                Refusal::invalid("worker_id must be at most 255 bytes without control characters").into()
            );
        }
        let owner_key = ask.caller.owner().as_ref().map(Owner::to_string);
        let key = idempotency_key(
            ask.body.idempotency_key.as_deref(),
            owner_key.as_deref(),
            ask.body.worker_id.as_deref(),
            &metadata,
        )?;
        let run = RunRow {
            run_id: self.ids.uuid_v7(now),
            owner_key,
            worker_id: ask.body.worker_id,
            metadata,
            created_at: now,
        };
        let keys: Vec<Key> =
            key.iter().map(|key| Key::text("runs.start", format!("{}/{}", key.scope, key.key))).collect();
        let (run, replayed) = self.store.write("runs.start", keys, Start { run, key, now }, begin).await?;
        let answer = Answer::new(RunReply { run });
        Ok(if replayed { answer.with_status(200) } else { answer })
    }
}

/// Looks for the key, then writes the run, its first event, its head and the key.
async fn begin(tx: &mut Tx, start: &Start) -> Result<(Run, bool), Stop> {
    if let Some(known) = &start.key {
        match idempotency::find(tx, &known.scope, &known.key, &known.fingerprint).await? {
            Known::Fresh => {}
            Known::Mismatch => {
                return Err(Refusal::conflict("idempotency_key already used for another run").into());
            }
            Known::Replay { reply, .. } => return Ok((as_it_began(tx, &reply).await?, true)),
        }
    }
    table::insert(tx, &start.run).await?;
    let blank = log::blank_head(start.run.run_id, start.run.owner_key.clone(), start.now);
    let head = log::extend(tx, blank, &first_event()?, start.now).await?;
    table::insert_head(tx, &head).await?;
    if let Some(known) = &start.key {
        let reply = start.run.run_id.to_string();
        idempotency::keep(tx, &known.scope, &known.key, &known.fingerprint, 201, &reply, start.now).await?;
    }
    let events = table::events_after(tx, &head, 0, 1).await?;
    Ok((view(start.run.clone(), &head, events), false))
}

/// The run as it was answered the first time, whatever has happened to it since.
async fn as_it_began(tx: &mut Tx, run_id: &str) -> Result<Run, Stop> {
    let lost =
        || oa_contract::Fault::msg(format!("the run {run_id} of a kept key is lost; run `oa verify-store`"));
    let run_id: Uuid = run_id.parse().map_err(|_| lost())?;
    let head = table::head(tx, run_id).await?.ok_or_else(lost)?;
    let row = table::get(tx, run_id).await?.ok_or_else(lost)?;
    let events = table::events_after(tx, &head, 0, 1).await?;
    let mut run = view(row, &head, events);
    run.status = oa_contract::wire::runs::RunStatus::Running;
    run.updated_at = run.created_at;
    Ok(run)
}

/// `run.started` is always the first event, and the service's own.
fn first_event() -> Result<Entry, Stop> {
    let payload = RawValue::from_string(r#"{"source":"runtime"}"#.into());
    let payload = payload.map_err(|error| oa_contract::Fault::new("writing the first event", error))?;
    Ok(Entry { event_type: "run.started".into(), payload, idempotency_key: None, actor: Actor::Service })
}

fn idempotency_key(
    key: Option<&str>,
    owner: Option<&str>,
    worker_id: Option<&str>,
    metadata: &RawValue,
) -> Result<Option<IdempotencyKey>, Stop> {
    let Some(key) = key.map(str::trim).filter(|key| !key.is_empty()) else { return Ok(None) };
    if key.len() > 255 {
        return Err(Refusal::invalid("idempotency_key is longer than 255 bytes").into());
    }
    let metadata: Value = serde_json::from_str(metadata.get())
        .map_err(|error| oa_contract::Fault::new("reading normalised metadata", error))?;
    let mut hash = Sha256::new();
    oa_contract::canonical::write_canon(&json!([worker_id, metadata]), &mut hash);
    let scope = format!("runs.start:{}", owner.unwrap_or("*"));
    Ok(Some(IdempotencyKey { scope, key: key.to_owned(), fingerprint: hash.finalize().to_vec() }))
}
