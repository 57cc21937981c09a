//! Decides what is told of a worker: the snapshot that routes answer (§14.1), with its liveness told at the
//! moment of reading, and the message that its streams carry (§12).

use oa_contract::{
    Fault, Owner, Timestamp,
    wire::workers::{
        HeartbeatState, Liveness, Worker, WorkerOwner, WorkerReply, WorkerSnapshot, WorkerStatus,
    },
};
use oa_store::tables::workers::WorkerRow;
use serde_json::{Value, json, value::RawValue};

use super::metadata;
use crate::Runtime;

/// When a worker is looked at, and how long a heartbeat stays fresh.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Timestamp,
    pub stale_after_ms: i64,
}

impl Moment {
    pub fn of(runtime: &Runtime) -> Self {
        Moment { now: runtime.now(), stale_after_ms: runtime.config.heartbeat_stale_after_ms }
    }
}

pub fn liveness(row: &WorkerRow, moment: Moment) -> Liveness {
    let age = row.last_heartbeat_at.map(|at| moment.now.millis_since(at).max(0));
    let state = match (row.status, age) {
        (WorkerStatus::Stopped, _) => HeartbeatState::Stopped,
        (WorkerStatus::Failed, _) => HeartbeatState::Failed,
        (_, None) => HeartbeatState::Missing,
        (_, Some(age)) if age > moment.stale_after_ms => HeartbeatState::Stale,
        (_, Some(_)) => HeartbeatState::Fresh,
    };
    Liveness {
        heartbeat_age_ms: age,
        heartbeat_stale_after_ms: moment.stale_after_ms,
        heartbeat_state: state,
    }
}

pub fn snapshot(row: &WorkerRow, moment: Moment) -> Result<WorkerSnapshot, Fault> {
    Ok(WorkerSnapshot { liveness: liveness(row, moment), worker: worker(row)? })
}

pub fn reply(row: &WorkerRow, moment: Moment) -> Result<WorkerReply, Fault> {
    snapshot(row, moment).map(|worker| WorkerReply { worker })
}

fn worker(row: &WorkerRow) -> Result<Worker, Fault> {
    Ok(Worker {
        worker_id: row.worker_id.clone(),
        owner: owner(&row.owner),
        workspace_ref: row.workspace_ref.clone(),
        codex_home_ref: row.codex_home_ref.clone(),
        adapter: row.adapter.clone(),
        status: row.status,
        latest_seq: row.latest_seq,
        metadata: metadata::answered(row)?,
        started_at: row.started_at,
        stopped_at: row.stopped_at,
        last_heartbeat_at: row.last_heartbeat_at,
        updated_at: row.updated_at,
    })
}

fn owner(owner: &Owner) -> WorkerOwner {
    WorkerOwner { user_id: owner.user_id(), guest_scope: owner.guest_scope().map(str::to_owned) }
}

/// The worker sync payload, its members in the order of §12.
pub fn sync_payload(row: &WorkerRow, moment: Moment) -> Result<Box<RawValue>, Fault> {
    let metadata = metadata::overlaid(row)?;
    let said = |member: &str| metadata.get(member).cloned().unwrap_or(Value::Null);
    let list = |member: &str| metadata.get(member).cloned().unwrap_or_else(|| json!([]));
    let liveness = liveness(row, moment);
    let payload = json!({
        "worker_id": row.worker_id,
        "status": row.status.name(),
        "latest_seq": row.latest_seq,
        "heartbeat_state": liveness.heartbeat_state.name(),
        "heartbeat_age_ms": liveness.heartbeat_age_ms,
        "roles": list("roles"),
        "provider_id": said("provider_id"),
        "provider_base_url": said("provider_base_url"),
        "capabilities": list("capabilities"),
        "min_price_msats": said("min_price_msats"),
        "reserve_pool": said("reserve_pool"),
        "qualified": said("qualified"),
        "failure_strikes": said("failure_strikes"),
        "quarantined": said("quarantined"),
        "quarantine_reason": said("quarantine_reason"),
        "owner_user_id": row.owner.user_id(),
        "owner_guest_scope": row.owner.guest_scope(),
    });
    RawValue::from_string(oa_contract::canonical::compact(&payload))
        .map_err(|error| Fault::new("writing a worker's message", error))
}

#[cfg(test)]
mod tests {
    use oa_store::tables::{runs::Projected, workers::Reputation};

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    const AT: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);

    fn row(metadata: &str) -> WorkerRow {
        WorkerRow {
            worker_id: "desktop:w1".into(),
            owner: Owner::User(u64::MAX),
            workspace_ref: None,
            codex_home_ref: None,
            adapter: "in_memory".into(),
            status: WorkerStatus::Running,
            latest_seq: 3,
            metadata: raw(metadata),
            started_at: AT,
            stopped_at: None,
            last_heartbeat_at: Some(AT),
            updated_at: AT,
            reputation: Reputation {
                qualified_at: Some(Timestamp::from_micros(AT.micros() + 1)),
                failure_strikes: 3,
                success_count: 2,
                quarantined_at: Some(AT),
                quarantine_reason: Some("provider_failures".into()),
                marks: raw(r#"{"last_failure_reason":"timeout","price_integrity_samples":1}"#),
            },
            projected: Projected {
                seq: 3,
                count: 3,
                status: "running".into(),
                event_type: "worker.heartbeat".into(),
                at: AT,
            },
        }
    }

    fn moment(after_ms: i64) -> Moment {
        Moment { now: AT.plus_millis(after_ms), stale_after_ms: 1_000 }
    }

    #[test]
    fn a_heartbeat_is_stale_only_beyond_the_threshold_and_never_younger_than_now() {
        let told = |row: &WorkerRow, after| {
            let told = liveness(row, moment(after));
            (told.heartbeat_age_ms, told.heartbeat_state)
        };
        let mut row = row("{}");
        assert_eq!(told(&row, 1_000), (Some(1_000), HeartbeatState::Fresh));
        assert_eq!(told(&row, 1_001), (Some(1_001), HeartbeatState::Stale));
        assert_eq!(told(&row, -5), (Some(0), HeartbeatState::Fresh));
        row.status = WorkerStatus::Stopped;
        assert_eq!(told(&row, 9_999), (Some(9_999), HeartbeatState::Stopped));
        row.status = WorkerStatus::Failed;
        assert_eq!(told(&row, 0).1, HeartbeatState::Failed);
        (row.status, row.last_heartbeat_at) = (WorkerStatus::Starting, None);
        assert_eq!(told(&row, 0), (None, HeartbeatState::Missing));
    }

    #[test]
    fn a_provider_shows_what_the_service_knows_of_it_behind_its_own_words() {
        let told = worker(&row(r#"{"roles":["provider"],"load":0.5}"#)).expect("a worker");
        assert_eq!(
            told.metadata.get(),
            r#"{"roles":["provider"],"load":0.5,"qualified":true,"qualified_at":"2026-02-02T02:40:00.000001+00:00","failure_strikes":3,"quarantined":true,"success_count":2,"quarantine_reason":"provider_failures","quarantined_at":"2026-02-02T02:40:00+00:00","last_failure_reason":"timeout","price_integrity_samples":1}"#
        );
        for other in [r#"["provider"]"#, "null"] {
            assert_eq!(worker(&row(other)).expect("a worker").metadata.get(), other);
        }
    }

    #[test]
    fn a_provider_cannot_hide_what_is_known_of_it_by_giving_the_role_up() {
        for former in [r#"{"roles":["client"]}"#, r#"{"roles":"provider"}"#] {
            let told = worker(&row(former)).expect("a worker");
            assert!(told.metadata.get().contains(r#""quarantined":true"#), "{}", told.metadata.get());
        }
        let mut unknown = row(r#"{"roles":["client"]}"#);
        unknown.reputation.qualified_at = None;
        unknown.reputation.quarantined_at = None;
        (unknown.reputation.failure_strikes, unknown.reputation.success_count) = (0, 0);
        assert_eq!(worker(&unknown).expect("a worker").metadata.get(), r#"{"roles":["client"]}"#);
    }

    #[test]
    fn the_message_of_a_worker_has_its_members_in_order() {
        let provider = r#"{"roles":["provider"],"provider_id":"p","provider_base_url":"http://p","capabilities":["c"],"min_price_msats":5,"reserve_pool":true}"#;
        let told = sync_payload(&row(provider), moment(7)).expect("a message");
        assert_eq!(
            told.get(),
            r#"{"worker_id":"desktop:w1","status":"running","latest_seq":3,"heartbeat_state":"fresh","heartbeat_age_ms":7,"roles":["provider"],"provider_id":"p","provider_base_url":"http://p","capabilities":["c"],"min_price_msats":5,"reserve_pool":true,"qualified":true,"failure_strikes":3,"quarantined":true,"quarantine_reason":"provider_failures","owner_user_id":18446744073709551615,"owner_guest_scope":null}"#
        );
        let mut guest = row("null");
        guest.owner = Owner::Guest("lab".into());
        let told = sync_payload(&guest, moment(0)).expect("a message");
        assert_eq!(
            told.get(),
            r#"{"worker_id":"desktop:w1","status":"running","latest_seq":3,"heartbeat_state":"fresh","heartbeat_age_ms":0,"roles":[],"provider_id":null,"provider_base_url":null,"capabilities":[],"min_price_msats":null,"reserve_pool":null,"qualified":null,"failure_strikes":null,"quarantined":null,"quarantine_reason":null,"owner_user_id":null,"owner_guest_scope":"lab"}"#
        );
    }
}
