//! Decides how a provider becomes known to a runtime, stays known, and takes its leave.

use std::{sync::Arc, time::Duration};

use oa_client::{CallError, Manner};
use oa_contract::{
    Nothing, Operation,
    matrix::{
        PublicWorkersHeartbeat, PublicWorkersRegister, PublicWorkersStatus, WorkersHeartbeat,
        WorkersRegister, WorkersStatus,
    },
    operation::Call,
    wire::{
        paths::WorkerPath,
        workers::{
            ChangeWorkerStatus, HeartbeatWorker, PublicChangeWorkerStatus, PublicHeartbeatWorker,
            PublicRegisterWorker, RegisterWorker, WorkerStatus,
        },
    },
};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    door::{Door, Whose},
    jobs::Jobs,
};
use crate::{
    backoff::{Backoff, may_pass},
    output::{Format, plain},
};

/// No attempt waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What the runtime calls programs of this kind.
const ADAPTER: &str = "openagents_compute_provider";

/// A provider as the runtime knows it.
pub struct Enrolment {
    pub door: Door,
    pub worker_id: String,
    pub metadata: Value,
    pub every: Duration,
    pub format: Format,
}

impl Enrolment {
    /// The address of whoever it enrols at.
    pub fn base(&self) -> &str {
        self.door.client.base()
    }

    fn path(&self) -> WorkerPath {
        WorkerPath { worker_id: self.worker_id.clone() }
    }

    async fn send<O: Operation>(&self, call: Call<O>) -> Result<(), CallError> {
        let manner = Manner { timeout: Some(ANSWER), ..Manner::default() };
        self.door.client.send(call, manner).await?.accepted().map(drop)
    }

    pub async fn register(&self) -> Result<(), CallError> {
        let metadata =
            to_raw_value(&self.metadata).map_err(|error| CallError::Unreadable(error.to_string()))?;
        let (worker_id, adapter, metadata) =
            (Some(self.worker_id.clone()), Some(ADAPTER.to_owned()), Some(metadata));
        match &self.door.whose {
            Whose::TokensUser => {
                let body =
                    PublicRegisterWorker { worker_id, adapter, metadata, ..PublicRegisterWorker::default() };
                self.send(Call::<PublicWorkersRegister> { path: Nothing {}, query: Nothing {}, body }).await
            }
            Whose::Named(owner) => {
                let body = RegisterWorker {
                    worker_id,
                    owner_user_id: owner.owner_user_id,
                    owner_guest_scope: owner.owner_guest_scope.clone(),
                    adapter,
                    metadata,
                    ..RegisterWorker::default()
                };
                self.send(Call::<WorkersRegister> { path: Nothing {}, query: Nothing {}, body }).await
            }
        }
    }

    pub async fn heartbeat(&self, jobs: &Jobs) -> Result<(), CallError> {
        let patch =
            to_raw_value(&json!({"running_jobs": jobs.running_count(), "enabled": jobs.is_enabled()}));
        let (path, metadata_patch) = (self.path(), patch.ok());
        match &self.door.whose {
            Whose::TokensUser => {
                let body = PublicHeartbeatWorker { metadata_patch };
                self.send(Call::<PublicWorkersHeartbeat> { path, query: Nothing {}, body }).await
            }
            Whose::Named(owner) => {
                let body = HeartbeatWorker {
                    owner_user_id: owner.owner_user_id,
                    owner_guest_scope: owner.owner_guest_scope.clone(),
                    metadata_patch,
                };
                self.send(Call::<WorkersHeartbeat> { path, query: Nothing {}, body }).await
            }
        }
    }

    /// Says that it stops, or has stopped. A runtime that does not answer finds out by the silence.
    pub async fn say(&self, status: WorkerStatus, reason: &str) -> Result<(), CallError> {
        let (path, reason) = (self.path(), Some(reason.to_owned()));
        match &self.door.whose {
            Whose::TokensUser => {
                let body = PublicChangeWorkerStatus { status: status.name().to_owned(), reason };
                self.send(Call::<PublicWorkersStatus> { path, query: Nothing {}, body }).await
            }
            Whose::Named(owner) => {
                let body = ChangeWorkerStatus {
                    owner_user_id: owner.owner_user_id,
                    owner_guest_scope: owner.owner_guest_scope.clone(),
                    status,
                    reason,
                };
                self.send(Call::<WorkersStatus> { path, query: Nothing {}, body }).await
            }
        }
    }

    /// What whoever runs this can do about a refusal, where the refusal itself does not say.
    fn remedy(&self, error: &CallError) -> &'static str {
        match (&self.door.whose, error) {
            (Whose::TokensUser, CallError::Refused { status: 401, .. }) => {
                "; the personal token has ended or is of another service: have another made, and set OA_CONTROL_TOKEN"
            }
            (Whose::TokensUser, CallError::Refused { status: 403, message, .. })
                if message.starts_with("owner mismatch") =>
            {
                "; another owner has that name: choose another --id"
            }
            _ => "",
        }
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
                        self.format.note(&format!("enrolled at {} as {}", self.base(), self.worker_id));
                    }
                    known = true;
                    backoff = Backoff::new();
                    told.clear();
                    tokio::time::sleep(self.every).await;
                }
                Err(error) => {
                    let why = plain(&error.to_string());
                    if why != told {
                        let who = match self.door.whose {
                            Whose::TokensUser => "control",
                            Whose::Named(_) => "the runtime",
                        };
                        let remedy = self.remedy(&error);
                        self.format
                            .note(&format!("{who} at {} does not take it: {why}{remedy}", self.base()));
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
