//! Decides how a provider becomes known to a runtime, stays known, and takes its leave.

use std::{sync::Arc, time::Duration};

use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Nothing,
    matrix::{WorkersHeartbeat, WorkersRegister, WorkersStatus},
    operation::Call,
    wire::{
        paths::WorkerPath,
        workers::{ChangeWorkerStatus, HeartbeatWorker, NameOwner, RegisterWorker, WorkerStatus},
    },
};
use serde_json::{Value, json, value::to_raw_value};

use super::jobs::Jobs;
use crate::{
    backoff::{Backoff, may_pass},
    output::{Format, plain},
};

/// No attempt waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A provider as the runtime knows it.
pub struct Enrolment {
    pub client: Client,
    pub worker_id: String,
    pub owner: NameOwner,
    pub metadata: Value,
    pub every: Duration,
    pub format: Format,
}

impl Enrolment {
    fn path(&self) -> WorkerPath {
        WorkerPath { worker_id: self.worker_id.clone() }
    }

    fn manner() -> Manner<'static> {
        Manner { timeout: Some(ANSWER), ..Manner::default() }
    }

    pub async fn register(&self) -> Result<(), CallError> {
        let metadata =
            to_raw_value(&self.metadata).map_err(|error| CallError::Unreadable(error.to_string()))?;
        let body = RegisterWorker {
            worker_id: Some(self.worker_id.clone()),
            owner_user_id: self.owner.owner_user_id,
            owner_guest_scope: self.owner.owner_guest_scope.clone(),
            adapter: Some("openagents_compute_provider".to_owned()),
            metadata: Some(metadata),
            ..RegisterWorker::default()
        };
        let call = Call::<WorkersRegister> { path: Nothing {}, query: Nothing {}, body };
        self.client.send(call, Self::manner()).await?.accepted().map(drop)
    }

    pub async fn heartbeat(&self, jobs: &Jobs) -> Result<(), CallError> {
        let patch =
            to_raw_value(&json!({"running_jobs": jobs.running_count(), "enabled": jobs.is_enabled()}));
        let body = HeartbeatWorker {
            owner_user_id: self.owner.owner_user_id,
            owner_guest_scope: self.owner.owner_guest_scope.clone(),
            metadata_patch: patch.ok(),
        };
        let call = Call::<WorkersHeartbeat> { path: self.path(), query: Nothing {}, body };
        self.client.send(call, Self::manner()).await?.accepted().map(drop)
    }

    /// Says that it stops, or has stopped. A runtime that does not answer finds out by the silence.
    pub async fn say(&self, status: WorkerStatus, reason: &str) -> Result<(), CallError> {
        let body = ChangeWorkerStatus {
            owner_user_id: self.owner.owner_user_id,
            owner_guest_scope: self.owner.owner_guest_scope.clone(),
            status,
            reason: Some(reason.to_owned()),
        };
        let call = Call::<WorkersStatus> { path: self.path(), query: Nothing {}, body };
        self.client.send(call, Self::manner()).await?.accepted().map(drop)
    }

    /// Enrols, and says again and again that it lives; never ends by itself.
    pub async fn keep_up(self: Arc<Self>, jobs: Arc<Jobs>) {
        let mut known = false;
        let mut backoff = Backoff::new();
        let mut told = String::new();
        loop {
            let done = match known {
                false => self.register().await,
                true => self.heartbeat(&jobs).await,
            };
            match done {
                Ok(()) => {
                    if !known {
                        self.format.note(&format!(
                            "enrolled at {} as {}",
                            self.client.base(),
                            self.worker_id
                        ));
                    }
                    known = true;
                    backoff = Backoff::new();
                    told.clear();
                    tokio::time::sleep(self.every).await;
                }
                Err(error) => {
                    let why = plain(&error.to_string());
                    if why != told {
                        self.format
                            .note(&format!("the runtime at {} does not take it: {why}", self.client.base()));
                        told = why;
                    }
                    // One that lost its memory is told everything again.
                    known &= may_pass(&error);
                    match may_pass(&error) {
                        true => backoff.wait(&error).await,
                        false => tokio::time::sleep(self.every.min(ANSWER)).await,
                    }
                }
            }
        }
    }
}
