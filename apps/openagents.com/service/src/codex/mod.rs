//! Decides what a codex worker is at a moment: whose, in which state, attached or not, and how it is shown
//! (control §14).

mod answer;
mod approval;
mod create_worker;
mod dispatch;
mod events;
mod get_worker;
mod ingest;
mod list_workers;
mod log;
mod payload;
mod receipt;
mod requests;
mod state;
mod stop;
pub(crate) mod stream;
pub(crate) mod sweeper;

use oa_contract::{
    Refusal, Stop, Timestamp,
    canonical::canonical_digest,
    wire::{
        codex::{CodexWorker, IN_MEMORY, KhalaProjection},
        workers::{HeartbeatState, WorkerStatus},
    },
};
use oa_store::{
    Tx,
    tables::codex::{self as rows, Worker},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// After how much silence a heartbeat counts as stale.
pub(crate) const STALE_AFTER_MS: i64 = 120_000;
/// For how long a worker counts as attached once it looked at its feed.
pub(crate) const ATTACHED_FOR_MS: i64 = 60_000;
/// That a worker looks at its feed is written at most so often.
pub(crate) const TOUCH_EVERY_MS: i64 = 10_000;
/// Characters of a worker's id.
const ID_MAX: usize = 160;

/// The stream on which followers of a worker are woken.
pub(crate) fn stream_of(worker_id: &str) -> String {
    format!("codex.worker.{worker_id}")
}

/// An id as it is kept: trimmed, not blank, of bounded length.
fn worker_id(text: &str) -> Result<String, Refusal> {
    let id = text.trim();
    match !id.is_empty() && id.chars().count() <= ID_MAX && !id.contains('\0') {
        true => Ok(id.to_owned()),
        false => {
            let message = format!("worker_id must hold 1 to {ID_MAX} characters");
            Err(Refusal::field("worker_id", message))
        }
    }
}

/// `opt_str` of control §3: trimmed, blank is absent, of bounded length.
fn opt_str(field: &str, text: Option<&str>, max: usize) -> Result<Option<String>, Refusal> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.chars().count() <= max && !text.contains('\0') {
        true => Ok(Some(text.to_owned())),
        false => Err(Refusal::field(field, format!("{field} must hold at most {max} characters"))),
    }
}

/// What a text of any length is found by.
fn key_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// What a document of any size is recognised by.
fn fingerprint(document: &Value) -> [u8; 32] {
    canonical_digest(document)
}

fn unknown() -> Refusal {
    Refusal::not_found("Not found.")
}

fn must_be_mine(worker: &Worker, user_id: &str) -> Result<(), Refusal> {
    match worker.user_id == user_id {
        true => Ok(()),
        false => Err(Refusal::forbidden("worker does not belong to authenticated principal")),
    }
}

/// The worker, if it is there and the user's.
async fn owned(tx: &mut Tx, worker_id: &str, user_id: &str) -> Result<Worker, Stop> {
    let worker = rows::worker(tx, worker_id).await?.ok_or_else(unknown)?;
    must_be_mine(&worker, user_id)?;
    Ok(worker)
}

/// The worker of the user if there is one; another user's is refused.
async fn owned_if_any(tx: &mut Tx, worker_id: &str, user_id: &str) -> Result<Option<Worker>, Stop> {
    let worker = rows::worker(tx, worker_id).await?;
    worker.iter().try_for_each(|worker| must_be_mine(worker, user_id))?;
    Ok(worker)
}

/// A worker that has just begun, as the first event or request makes it.
fn fresh(worker_id: &str, user_id: &str, now: Timestamp) -> Worker {
    Worker {
        worker_id: worker_id.to_owned(),
        user_id: user_id.to_owned(),
        status: WorkerStatus::Running,
        latest_seq: 0,
        oldest_seq: 1,
        oldest_at: None,
        workspace_ref: None,
        codex_home_ref: None,
        adapter: IN_MEMORY.to_owned(),
        metadata: None,
        started_at: now,
        stopped_at: None,
        last_heartbeat_at: Some(now),
        silent_since: None,
        updated_at: now,
        feed_seen_at: None,
    }
}

/// Writes a worker that was read under its key. Its silence means something as long as it should be alive and is
/// more than a name: `in_memory` workers are answered for in process, and never beat.
async fn save(tx: &mut Tx, worker: &mut Worker) -> Result<(), Stop> {
    let watched = !worker.status.is_at_rest() && worker.adapter != IN_MEMORY;
    worker.silent_since = worker.last_heartbeat_at.max(worker.silent_since).filter(|_| watched);
    rows::put_worker(tx, worker).await
}

/// Whether a program that is the worker follows the feed.
pub(crate) fn is_attached(worker: &Worker, now: Timestamp) -> bool {
    worker.adapter != IN_MEMORY
        && worker.feed_seen_at.is_some_and(|seen| now.millis_since(seen) <= ATTACHED_FOR_MS)
}

fn snapshot(worker: &Worker, now: Timestamp) -> CodexWorker {
    let age = worker.last_heartbeat_at.map(|at| now.millis_since(at).max(0));
    let heartbeat_state = match (worker.status, age) {
        (WorkerStatus::Failed, _) => HeartbeatState::Failed,
        (WorkerStatus::Stopped, _) => HeartbeatState::Stopped,
        (_, None) => HeartbeatState::Missing,
        (_, Some(age)) if age > STALE_AFTER_MS => HeartbeatState::Stale,
        (_, Some(_)) => HeartbeatState::Fresh,
    };
    let updated_at = worker.updated_at.zulu_seconds();
    CodexWorker {
        worker_id: worker.worker_id.clone(),
        status: worker.status,
        latest_seq: worker.latest_seq,
        workspace_ref: worker.workspace_ref.clone(),
        codex_home_ref: worker.codex_home_ref.clone(),
        adapter: worker.adapter.clone(),
        metadata: worker.metadata.clone(),
        started_at: worker.started_at.zulu_seconds(),
        stopped_at: worker.stopped_at.map(Timestamp::zulu_seconds),
        last_heartbeat_at: worker.last_heartbeat_at.map(Timestamp::zulu_seconds),
        heartbeat_age_ms: age,
        heartbeat_stale_after_ms: STALE_AFTER_MS,
        heartbeat_state,
        updated_at: updated_at.clone(),
        khala_projection: KhalaProjection {
            status: "in_sync".into(),
            lag_events: 0,
            last_runtime_seq: worker.latest_seq,
            last_projected_at: updated_at,
        },
        attached: is_attached(worker, now),
        oldest_seq: worker.oldest_seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_000_000);

    #[test]
    fn a_worker_is_attached_only_while_the_worker_itself_was_seen_at_the_feed() {
        let seen = |adapter: &str, seconds: Option<i64>| {
            let worker = Worker {
                adapter: adapter.into(),
                feed_seen_at: seconds.map(|seconds| NOW.plus_seconds(-seconds)),
                ..fresh("w", "u", NOW)
            };
            is_attached(&worker, NOW)
        };
        assert!(seen("desktop_bridge", Some(0)) && seen("desktop_bridge", Some(60)));
        assert!(!seen("desktop_bridge", Some(61)) && !seen("desktop_bridge", None));
        assert!(!seen(IN_MEMORY, Some(0)));
    }

    #[test]
    fn the_state_of_the_heartbeat_follows_its_age() {
        let state = |status, age_ms: Option<i64>| {
            let worker = Worker {
                status,
                last_heartbeat_at: age_ms.map(|age| NOW.plus_millis(-age)),
                ..fresh("w", "u", NOW)
            };
            snapshot(&worker, NOW).heartbeat_state
        };
        assert_eq!(state(WorkerStatus::Running, Some(120_000)), HeartbeatState::Fresh);
        assert_eq!(state(WorkerStatus::Running, Some(120_001)), HeartbeatState::Stale);
        assert_eq!(state(WorkerStatus::Running, None), HeartbeatState::Missing);
        assert_eq!(state(WorkerStatus::Failed, None), HeartbeatState::Failed);
        assert_eq!(state(WorkerStatus::Stopped, Some(0)), HeartbeatState::Stopped);
    }

    #[test]
    fn an_id_may_hold_anything_that_fits_into_one_segment() {
        assert_eq!(worker_id(" ../credit/settle? "), Ok("../credit/settle?".into()));
        for bad in ["", "  ", &"x".repeat(161), "a\0b"] {
            assert_eq!(worker_id(bad).expect_err("refused").field.as_deref(), Some("worker_id"));
        }
    }
}
