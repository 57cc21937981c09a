//! Runs: durable logs of events with a state machine, a hash chain and a receipt (runtime-core §9, §10).

pub mod append;
pub mod get;
pub mod list;
pub mod log;
pub mod receipt;
pub mod replay;
pub mod start;

use oa_contract::{
    Caller, Owner, Refusal, Stop,
    operation::Answer,
    refusal::Code,
    wire::runs::{Run, RunEvent},
};
use oa_store::{
    Key, Tx,
    tables::runs::{self as table, Head, RunRow},
};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Payloads and metadata larger than this belong into an artifact, with their digest in the log.
pub const JSON_LIMIT_BYTES: usize = 256 * 1024;
/// A whole-run answer holds at most so many events; longer runs are read in windows.
pub const WHOLE_RUN_EVENTS: u64 = 50_000;

/// What makes appends to one run follow each other.
pub fn key(run_id: Uuid) -> Key {
    Key::uuid("run", run_id)
}

/// The head of a run that the caller may see; another's run is as unknown as none.
pub async fn visible_head(tx: &mut Tx, run_id: Uuid, caller: &Caller) -> Result<Head, Stop> {
    let head = table::head(tx, run_id).await?;
    // A run whose head was lost is damage, and must not look like a run that never was.
    if head.is_none() && table::get(tx, run_id).await?.is_some() {
        return Err(oa_contract::Fault::msg(format!(
            "run {run_id} has a beginning but no head; run `oa verify-store`"
        ))
        .into());
    }
    let visible =
        head.filter(|head| caller.may_see(head.owner_key.as_deref().and_then(Owner::parse).as_ref()));
    visible.ok_or_else(|| Refusal::not_found(format!("no run {run_id}")).into())
}

/// What the run was begun with.
pub async fn row(tx: &mut Tx, run_id: Uuid) -> Result<RunRow, Stop> {
    let row = table::get(tx, run_id).await?;
    row.ok_or_else(|| {
        oa_contract::Fault::msg(format!("run {run_id} has a head but no beginning; run `oa verify-store`"))
            .into()
    })
}

/// The run with these of its events.
pub fn view(row: RunRow, head: &Head, events: Vec<RunEvent>) -> Run {
    Run {
        id: row.run_id,
        worker_id: row.worker_id,
        status: head.status,
        metadata: row.metadata,
        events,
        created_at: row.created_at,
        updated_at: head.updated_at,
    }
}

/// User JSON as it is stored: normalised, bounded; deeper nesting than the limit is a syntax error (§1).
pub fn bounded_json(member: &str, json: Option<&RawValue>) -> Result<Box<RawValue>, Refusal> {
    let Some(json) = json else { return Ok(oa_contract::wire::null()) };
    if json.get().len() > JSON_LIMIT_BYTES {
        let message = format!(
            "{member} is {} bytes, and at most {JSON_LIMIT_BYTES} are taken: store it elsewhere and append its digest",
            json.get().len()
        );
        return Err(Refusal::new(Code::PayloadTooLarge, message));
    }
    oa_contract::canonical::normalise(json.get()).map_err(|error| {
        Refusal::invalid(format!("Failed to parse the request body as JSON: {member}: {error}"))
            .with_status(400)
    })
}

/// An answer that says that the caller's wish for less was heard.
pub fn minimal<R>(body: R) -> Answer<R> {
    Answer::new(body).with_header("preference-applied", "return=minimal")
}
