//! Decides how a worker begins, or begins again: what is given replaces what was known, what is not given stays
//! (control §14.2, §21.2.10).

use oa_contract::{
    Answer, Ask, Code, Handle, Refusal, Stop, Timestamp,
    canonical::normalise,
    matrix::CodexCreateWorker,
    operation::Data,
    wire::{
        codex::{CreateCodexWorker, CreatedCodexWorker, CreatedCodexWorkerReply},
        workers::WorkerStatus,
    },
};
use oa_store::{
    Tx,
    tables::codex::{self as rows, Worker},
};
use serde_json::value::RawValue;

use super::{fresh, must_be_mine, opt_str, save, worker_id};
use crate::{Control, identity::signed_in};

/// Bytes of a worker's metadata.
const METADATA_MAX: usize = 64 * 1024;

impl Handle<CodexCreateWorker> for Control {
    async fn handle(&self, ask: Ask<CodexCreateWorker>) -> Result<Answer<CreatedCodexWorkerReply>, Stop> {
        let user_id = signed_in(&ask.caller)?.user_id.clone();
        let asked =
            Asked::read(ask.body, user_id, || format!("codexw_{}", self.ids.uuid32()), self.clock.now())?;
        let key = rows::key(&asked.worker_id);
        let (worker, idempotent_replay) = self.store.write("codex.create_worker", key, asked, create).await?;
        let data = CreatedCodexWorker {
            worker_id: worker.worker_id,
            status: worker.status,
            latest_seq: worker.latest_seq,
            idempotent_replay,
        };
        Ok(Data { data }.into())
    }
}

struct Asked {
    worker_id: String,
    user_id: String,
    workspace_ref: Option<String>,
    codex_home_ref: Option<String>,
    adapter: Option<String>,
    metadata: Option<Box<RawValue>>,
    now: Timestamp,
}

impl Asked {
    fn read(
        body: CreateCodexWorker,
        user_id: String,
        new_id: impl FnOnce() -> String,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let named = body.worker_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
        Ok(Asked {
            worker_id: named.map_or_else(|| Ok(new_id()), worker_id)?,
            user_id,
            workspace_ref: opt_str("workspace_ref", body.workspace_ref.as_deref(), 255)?,
            codex_home_ref: opt_str("codex_home_ref", body.codex_home_ref.as_deref(), 255)?,
            adapter: opt_str("adapter", body.adapter.as_deref(), 120)?,
            metadata: body.metadata.as_deref().map(metadata).transpose()?,
            now,
        })
    }
}

fn metadata(given: &RawValue) -> Result<Box<RawValue>, Refusal> {
    if given.get().len() > METADATA_MAX {
        let message = format!("metadata must be at most {METADATA_MAX} bytes");
        return Err(Refusal {
            field: Some("metadata".into()),
            ..Refusal::new(Code::PayloadTooLarge, message)
        });
    }
    match given.get().starts_with(['{', '[']) {
        true => normalise(given.get()).map_err(|error| Refusal::field("metadata", error.to_string())),
        false => Err(Refusal::field("metadata", "metadata must be an object or an array")),
    }
}

async fn create(tx: &mut Tx, asked: &Asked) -> Result<(Worker, bool), Stop> {
    let known = rows::worker(tx, &asked.worker_id).await?;
    let (mut worker, replay) = decide(known, asked)?;
    save(tx, &mut worker).await?;
    Ok((worker, replay))
}

/// The worker as it is from now on, and whether it was running already.
fn decide(known: Option<Worker>, asked: &Asked) -> Result<(Worker, bool), Refusal> {
    let replay = known.as_ref().is_some_and(|worker| worker.status == WorkerStatus::Running);
    let before = match known {
        Some(worker) => {
            must_be_mine(&worker, &asked.user_id)?;
            worker
        }
        None => fresh(&asked.worker_id, &asked.user_id, asked.now),
    };
    let worker = Worker {
        status: WorkerStatus::Running,
        workspace_ref: asked.workspace_ref.clone().or(before.workspace_ref),
        codex_home_ref: asked.codex_home_ref.clone().or(before.codex_home_ref),
        adapter: asked.adapter.clone().unwrap_or(before.adapter),
        metadata: asked.metadata.clone().or(before.metadata),
        stopped_at: None,
        last_heartbeat_at: Some(asked.now),
        updated_at: asked.now,
        ..before
    };
    Ok((worker, replay))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Timestamp = Timestamp::from_unix_seconds(1_772_000_000);
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_000_100);

    fn asked(body: serde_json::Value) -> Result<Asked, Refusal> {
        let body = serde_json::from_value(body).expect("a body");
        Asked::read(body, "user_a".into(), || "codexw_new".into(), NOW)
    }

    #[test]
    fn a_new_worker_is_running_in_memory_under_a_made_up_id() {
        let (worker, replay) = decide(None, &asked(serde_json::json!({})).expect("asked")).expect("made");
        assert_eq!(
            (worker.worker_id.as_str(), worker.adapter.as_str(), replay),
            ("codexw_new", "in_memory", false)
        );
        assert_eq!((worker.latest_seq, worker.started_at, worker.last_heartbeat_at), (0, NOW, Some(NOW)));
    }

    #[test]
    fn what_is_not_given_stays_and_a_worker_at_rest_comes_back() {
        let before = Worker {
            status: WorkerStatus::Stopped,
            latest_seq: 7,
            adapter: "codex_cli".into(),
            workspace_ref: Some("ws".into()),
            stopped_at: Some(THEN),
            ..fresh("w", "user_a", THEN)
        };
        let asked = asked(serde_json::json!({"worker_id": "w", "codex_home_ref": "home"})).expect("asked");
        let (worker, replay) = decide(Some(before), &asked).expect("made");
        assert!(!replay);
        assert_eq!((worker.status, worker.latest_seq), (WorkerStatus::Running, 7));
        assert_eq!((worker.adapter.as_str(), worker.workspace_ref.as_deref()), ("codex_cli", Some("ws")));
        assert_eq!((worker.started_at, worker.stopped_at, worker.updated_at), (THEN, None, NOW));
        assert_eq!(worker.codex_home_ref.as_deref(), Some("home"));
    }

    #[test]
    fn another_users_worker_is_refused() {
        let asked = asked(serde_json::json!({"worker_id": "w"})).expect("asked");
        let refused = decide(Some(fresh("w", "user_b", THEN)), &asked).expect_err("refused");
        assert_eq!(refused.message, "worker does not belong to authenticated principal");
    }

    #[test]
    fn members_of_the_wrong_size_or_kind_are_refused_under_their_names() {
        for (field, value) in [
            ("worker_id", serde_json::json!("x".repeat(161))),
            ("workspace_ref", serde_json::json!("x".repeat(256))),
            ("codex_home_ref", serde_json::json!("x".repeat(256))),
            ("adapter", serde_json::json!("x".repeat(121))),
            ("metadata", serde_json::json!("text")),
            ("metadata", serde_json::json!({"a": "x".repeat(METADATA_MAX)})),
        ] {
            let refused = asked(serde_json::json!({field: value})).err().expect(field);
            assert_eq!(refused.field.as_deref(), Some(field));
        }
    }
}
