//! Workers: who they are, how alive they are, what they may become (runtime-core §14), and the public
//! camelCase shape of the proxied rows (control §10).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{null, paths::WorkerPath};
use crate::{
    instant::Timestamp,
    matrix::{
        PublicWorkersGet, PublicWorkersHeartbeat, PublicWorkersList, PublicWorkersRegister,
        PublicWorkersStatus, WorkersGet, WorkersHeartbeat, WorkersList, WorkersRegister, WorkersStatus,
    },
    operation::{Body, Call, Nothing, Proxied, Query},
    refusal::Refusal,
};

/// The states of §14.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    Starting,
    Running,
    Stopping,
    Stopped,
    Failed,
}

impl WorkerStatus {
    pub const ALL: [WorkerStatus; 5] =
        [Self::Starting, Self::Running, Self::Stopping, Self::Stopped, Self::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            WorkerStatus::Starting => "starting",
            WorkerStatus::Running => "running",
            WorkerStatus::Stopping => "stopping",
            WorkerStatus::Stopped => "stopped",
            WorkerStatus::Failed => "failed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The table of §14.3. A state may always become itself.
    pub const fn may_become(self, to: WorkerStatus) -> bool {
        use WorkerStatus::{Failed, Running, Starting, Stopped, Stopping};
        matches!(
            (self, to),
            (Starting, Starting | Running | Stopping | Failed)
                | (Running, Running | Stopping | Stopped | Failed)
                | (Stopping, Stopping | Stopped | Failed)
                | (Stopped, Stopped | Starting | Running)
                | (Failed, Failed | Starting | Running)
        )
    }

    /// Stopped or failed.
    pub const fn is_at_rest(self) -> bool {
        matches!(self, WorkerStatus::Stopped | WorkerStatus::Failed)
    }
}

/// Derived from the last heartbeat whenever a worker is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeartbeatState {
    Fresh,
    Stale,
    Missing,
    Stopped,
    Failed,
}

impl HeartbeatState {
    pub const fn name(self) -> &'static str {
        match self {
            HeartbeatState::Fresh => "fresh",
            HeartbeatState::Stale => "stale",
            HeartbeatState::Missing => "missing",
            HeartbeatState::Stopped => "stopped",
            HeartbeatState::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerOwner {
    pub user_id: Option<u64>,
    pub guest_scope: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    pub worker_id: String,
    pub owner: WorkerOwner,
    pub workspace_ref: Option<String>,
    pub codex_home_ref: Option<String>,
    pub adapter: String,
    pub status: WorkerStatus,
    pub latest_seq: u64,
    /// What the worker says of itself, overlaid with what the service knows of it.
    #[schemars(with = "serde_json::Value")]
    pub metadata: Box<RawValue>,
    pub started_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
    pub last_heartbeat_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Liveness {
    pub heartbeat_age_ms: Option<i64>,
    pub heartbeat_stale_after_ms: i64,
    pub heartbeat_state: HeartbeatState,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkerSnapshot {
    pub worker: Worker,
    pub liveness: Liveness,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkerReply {
    pub worker: WorkerSnapshot,
}

/// Ends a quarantine, and says why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"reason": "the strikes came from a job that nobody could have run", "idempotency_key": "release-1"}))]
pub struct ReleaseWorker {
    /// Kept with who said it.
    pub reason: String,
    /// Under a key, a late repetition is answered as it was the first time and ends no later quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl Body for ReleaseWorker {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseReply {
    /// Whether it was in quarantine until now.
    pub released: bool,
    pub worker: WorkerSnapshot,
}

/// Ascending by `worker_id`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkerList {
    pub workers: Vec<WorkerSnapshot>,
    /// Give this as `after` for the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Whose worker it is: exactly one of the two (§14.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameOwner {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
}

impl Query for NameOwner {}

/// Whose workers, and which of them, page by page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListWorkers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<WorkerStatus>,
    /// Only workers whose id sorts behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 10000; 1000 without one. A page of large workers ends before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub limit: Option<u64>,
}

impl Query for ListWorkers {}

/// `POST /internal/v1/workers` (§14.5).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"worker_id": "desktop:gpu-7", "owner_user_id": 42, "adapter": "desktop", "metadata": {"roles": ["client"]}}))]
pub struct RegisterWorker {
    /// Trimmed; blank or absent: one is made.
    #[serde(default)]
    pub worker_id: Option<String>,
    #[serde(default)]
    pub owner_user_id: Option<u64>,
    #[serde(default)]
    pub owner_guest_scope: Option<String>,
    #[serde(default)]
    pub workspace_ref: Option<String>,
    #[serde(default)]
    pub codex_home_ref: Option<String>,
    /// `in_memory` when blank or absent.
    #[serde(default)]
    pub adapter: Option<String>,
    /// Any JSON, at most 64 KiB.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub metadata: Option<Box<RawValue>>,
}

impl Body for RegisterWorker {}

/// `POST /internal/v1/workers/:worker_id/heartbeat`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 42, "metadata_patch": {"load": 0.4}}))]
pub struct HeartbeatWorker {
    #[serde(default)]
    pub owner_user_id: Option<u64>,
    #[serde(default)]
    pub owner_guest_scope: Option<String>,
    /// Merged into the metadata, member by member, when both are objects.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub metadata_patch: Option<Box<RawValue>>,
}

impl Body for HeartbeatWorker {}

/// `POST /internal/v1/workers/:worker_id/status`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 42, "status": "stopping", "reason": "drain"}))]
pub struct ChangeWorkerStatus {
    #[serde(default)]
    pub owner_user_id: Option<u64>,
    #[serde(default)]
    pub owner_guest_scope: Option<String>,
    pub status: WorkerStatus,
    #[serde(default)]
    pub reason: Option<String>,
}

impl Body for ChangeWorkerStatus {}

/// The public `POST /api/runtime/workers`: camelCase only; the owner is the caller.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = serde_json::json!({"workerId": "desktop:w9", "workspaceRef": "ws", "adapter": "desktop", "metadata": {"roles": ["client"]}}))]
pub struct PublicRegisterWorker {
    /// At most 160 characters.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// At most 255 characters.
    #[serde(default)]
    pub workspace_ref: Option<String>,
    /// At most 255 characters.
    #[serde(default)]
    pub codex_home_ref: Option<String>,
    /// At most 120 characters.
    #[serde(default)]
    pub adapter: Option<String>,
    /// An object or an array; `{}` if omitted.
    #[serde(default)]
    #[schemars(with = "super::ObjectOrArray")]
    pub metadata: Option<Box<RawValue>>,
}

impl Body for PublicRegisterWorker {}

/// The public heartbeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = serde_json::json!({"metadataPatch": {"load": 0.4}}))]
pub struct PublicHeartbeatWorker {
    /// An object or an array; `{}` if omitted.
    #[serde(default)]
    #[schemars(with = "super::ObjectOrArray")]
    pub metadata_patch: Option<Box<RawValue>>,
}

impl Body for PublicHeartbeatWorker {}

/// The public status change.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"status": "stopped", "reason": "shutdown"}))]
pub struct PublicChangeWorkerStatus {
    /// `starting`, `running`, `stopping`, `stopped` or `failed`; trimmed and lower-cased.
    pub status: String,
    #[serde(default)]
    pub reason: Option<String>,
}

impl Body for PublicChangeWorkerStatus {}

/// Which of the caller's workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPublicWorkers {
    /// Only workers whose id sorts behind this one: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 10000; 1000 without one. A page of large workers ends before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub limit: Option<u64>,
}

impl Query for ListPublicWorkers {}

impl Proxied for PublicWorkersList {
    type Target = WorkersList;
    const MEMBER: &'static str = "workers";
    const ABSENT: &'static str = "[]";

    fn translate(
        _: Nothing,
        page: ListPublicWorkers,
        _: Nothing,
        owner_user_id: u64,
    ) -> Result<Call<WorkersList>, Refusal> {
        let ListPublicWorkers { after, limit } = page;
        let query =
            ListWorkers { owner_user_id: Some(owner_user_id), after, limit, ..ListWorkers::default() };
        Ok(Call { path: Nothing {}, query, body: Nothing {} })
    }
}

impl Proxied for PublicWorkersRegister {
    type Target = WorkersRegister;
    const MEMBER: &'static str = "worker";
    const ABSENT: &'static str = "null";

    fn translate(
        _: Nothing,
        _: Nothing,
        body: PublicRegisterWorker,
        owner_user_id: u64,
    ) -> Result<Call<WorkersRegister>, Refusal> {
        let worker_id = optional_text("worker_id", body.worker_id, 160)?;
        if let Some(id) = &worker_id {
            plain_worker_id(id)?;
        }
        let body = RegisterWorker {
            worker_id,
            owner_user_id: Some(owner_user_id),
            owner_guest_scope: None,
            workspace_ref: optional_text("workspace_ref", body.workspace_ref, 255)?,
            codex_home_ref: optional_text("codex_home_ref", body.codex_home_ref, 255)?,
            adapter: optional_text("adapter", body.adapter, 120)?,
            metadata: Some(object_or_array("metadata", body.metadata)?),
        };
        Ok(Call { path: Nothing {}, query: Nothing {}, body })
    }
}

impl Proxied for PublicWorkersGet {
    type Target = WorkersGet;
    const MEMBER: &'static str = "worker";
    const ABSENT: &'static str = "null";

    fn translate(
        path: WorkerPath,
        _: Nothing,
        _: Nothing,
        owner_user_id: u64,
    ) -> Result<Call<WorkersGet>, Refusal> {
        let query = NameOwner { owner_user_id: Some(owner_user_id), owner_guest_scope: None };
        Ok(Call { path: public_worker_path(path)?, query, body: Nothing {} })
    }
}

impl Proxied for PublicWorkersHeartbeat {
    type Target = WorkersHeartbeat;
    const MEMBER: &'static str = "worker";
    const ABSENT: &'static str = "null";

    fn translate(
        path: WorkerPath,
        _: Nothing,
        body: PublicHeartbeatWorker,
        owner_user_id: u64,
    ) -> Result<Call<WorkersHeartbeat>, Refusal> {
        let path = public_worker_path(path)?;
        let metadata_patch = Some(object_or_array("metadataPatch", body.metadata_patch)?);
        let body =
            HeartbeatWorker { owner_user_id: Some(owner_user_id), owner_guest_scope: None, metadata_patch };
        Ok(Call { path, query: Nothing {}, body })
    }
}

impl Proxied for PublicWorkersStatus {
    type Target = WorkersStatus;
    const MEMBER: &'static str = "worker";
    const ABSENT: &'static str = "null";

    fn translate(
        path: WorkerPath,
        _: Nothing,
        body: PublicChangeWorkerStatus,
        owner_user_id: u64,
    ) -> Result<Call<WorkersStatus>, Refusal> {
        let named = body.status.trim().to_lowercase();
        let status = WorkerStatus::parse(&named).ok_or_else(|| {
            Refusal::field("status", "status must be one of starting, running, stopping, stopped, failed")
        })?;
        let path = public_worker_path(path)?;
        let body = ChangeWorkerStatus {
            owner_user_id: Some(owner_user_id),
            owner_guest_scope: None,
            status,
            reason: body.reason,
        };
        Ok(Call { path, query: Nothing {}, body })
    }
}

/// `opt_str` of control §3: blank is absent; too long is refused under the field's own name.
fn optional_text(field: &'static str, text: Option<String>, max: usize) -> Result<Option<String>, Refusal> {
    let Some(text) = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.chars().count() > max {
        true => Err(Refusal::field(field, format!("{field} must be at most {max} characters"))),
        false => Ok(Some(text)),
    }
}

/// `obj_or_arr` of control §3, with `{}` for an omitted member.
fn object_or_array(field: &'static str, value: Option<Box<RawValue>>) -> Result<Box<RawValue>, Refusal> {
    let Some(value) = value else {
        return Ok(RawValue::from_string("{}".into()).unwrap_or_else(|_| null()));
    };
    match value.get().starts_with(['{', '[']) {
        true => Ok(value),
        false => Err(Refusal::field(field, format!("{field} must be an object or an array"))),
    }
}

/// Ids that may travel in a proxied path: nothing that a URL could read as something else (control §21.1).
fn public_worker_path(path: WorkerPath) -> Result<WorkerPath, Refusal> {
    let id = path.worker_id.trim();
    let worker_id = if id.is_empty() { "worker".to_owned() } else { id.to_owned() };
    plain_worker_id(&worker_id)?;
    Ok(WorkerPath { worker_id })
}

fn plain_worker_id(id: &str) -> Result<(), Refusal> {
    let plain =
        id.len() <= 160 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte));
    // A segment of dots alone is a step in the path to every URL parser.
    match plain && !matches!(id, "." | "..") {
        true => Ok(()),
        false => {
            Err(Refusal::field("worker_id", "worker_id may hold at most 160 letters, digits and . _ : @ -"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_table_is_the_specified_one() {
        use WorkerStatus::*;
        assert!(Starting.may_become(Failed) && !Starting.may_become(Stopped));
        assert!(Stopping.may_become(Stopped) && !Stopping.may_become(Running));
        assert!(Failed.may_become(Starting) && !Failed.may_become(Stopped));
    }

    #[test]
    fn a_proxied_worker_id_cannot_step_out_of_its_segment() {
        for id in ["..", ".", "../credit/health?z=", "a/b", "a?b", "a#b", "a%2fb", "ü"] {
            let refused = public_worker_path(WorkerPath { worker_id: id.into() }).expect_err(id);
            assert_eq!(refused.field.as_deref(), Some("worker_id"));
        }
        assert_eq!(
            public_worker_path(WorkerPath { worker_id: "  ".into() }).expect("blank").worker_id,
            "worker"
        );
    }

    #[test]
    fn the_status_is_checked_before_the_worker_id() {
        let body = PublicChangeWorkerStatus { status: "resting".into(), reason: None };
        let refused =
            PublicWorkersStatus::translate(WorkerPath { worker_id: "a/b".into() }, Nothing {}, body, 1)
                .err()
                .expect("refused");
        assert_eq!(refused.field.as_deref(), Some("status"));
    }
}
