//! Decides how events reach control: one after the other, each until it is acknowledged, under an id that makes every repetition harmless.

use std::{sync::Arc, time::Duration};

use oa_client::CallError;
use oa_contract::{canonical::hex, wire::workers::WorkerStatus};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::Instant};

use super::{
    control::Control,
    say::{OWN_SOURCE, now},
    spool::{Spool, Waiting},
};
use crate::{
    backoff::{Backoff, may_pass},
    failure::Failure,
    output::Format,
};

/// Half of the time for which a sign of life keeps the worker attached.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Why posting ended. While control is merely away it does not end.
#[derive(Debug)]
pub enum Verdict {
    /// Somebody stopped the worker at control.
    Stopped,
    /// Control will not talk to us, or the disk will not.
    Broken(Failure),
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        Verdict::Broken(failure)
    }
}

pub struct Poster {
    pub control: Control,
    pub spool: Arc<Spool>,
    pub format: Format,
    /// Told the number of the newest event at the first attachment.
    pub attached: watch::Sender<Option<u64>>,
    pub away: bool,
}

impl Poster {
    pub async fn run(mut self) -> Verdict {
        match self.post_for_ever().await {
            Err(verdict) => verdict,
        }
    }

    async fn post_for_ever(&mut self) -> Result<std::convert::Infallible, Verdict> {
        let latest = self.attach().await?;
        self.format.note(&format!(
            "attached to {} as {}",
            self.control.client.base(),
            self.control.worker_id
        ));
        self.attached.send_replace(Some(latest));
        let mut beat = Instant::now();
        loop {
            if beat <= Instant::now() {
                beat = Instant::now() + HEARTBEAT;
                self.beat().await?;
            }
            match self.spool.waiting().map_err(|error| Failure::file(self.spool.path(), &error))? {
                Some(waiting) => self.deliver(&waiting).await?,
                None => tokio::select! {
                    () = self.spool.changed() => {}
                    () = tokio::time::sleep_until(beat) => {}
                },
            }
        }
    }

    async fn attach(&mut self) -> Result<u64, Verdict> {
        let mut backoff = Backoff::new();
        loop {
            match self.control.attach().await {
                Ok(latest) => {
                    self.back();
                    return Ok(latest);
                }
                Err(error) => self.wait(&mut backoff, error).await?,
            }
        }
    }

    /// Waits when the same may succeed later; otherwise it is over.
    async fn wait(&mut self, backoff: &mut Backoff, error: CallError) -> Result<(), Verdict> {
        if !may_pass(&error) {
            return Err(Failure::call(self.control.client.base(), error).into());
        }
        if !std::mem::replace(&mut self.away, true) {
            self.format.note(&format!(
                "control is away ({error}); what codex says waits in {}",
                self.spool.path().display()
            ));
        }
        backoff.wait(&error).await;
        Ok(())
    }

    fn back(&mut self) {
        if std::mem::take(&mut self.away) {
            self.format.note(&format!("control is back; {} events follow", self.spool.events_waiting()));
        }
    }

    /// A sign of life is not kept for later: one that comes late tells nothing.
    async fn beat(&mut self) -> Result<(), Verdict> {
        let payload = raw(&json!({"source": OWN_SOURCE, "occurred_at": now()}))?;
        match self.control.post("worker.heartbeat", payload, None).await {
            Err(CallError::Refused { status: 404 | 409, .. }) => self.look_again().await.map(drop),
            Err(error) if !may_pass(&error) => Err(Failure::call(self.control.client.base(), error).into()),
            _ => Ok(()),
        }
    }

    async fn deliver(&mut self, waiting: &Waiting) -> Result<(), Verdict> {
        let mut backoff = Backoff::new();
        let mut revived = false;
        loop {
            let id = Some(waiting.event_id.clone());
            match self.control.post(&waiting.event_type, waiting.payload.clone(), id).await {
                Ok(()) => break,
                // The worker is not there or does not run: that, and not the event, may be the reason.
                Err(CallError::Refused { status: 404 | 409, .. })
                    if !revived && self.look_again().await? =>
                {
                    revived = true;
                }
                Err(error @ CallError::Refused { status: 400 | 404 | 409 | 413 | 422, .. }) => {
                    self.settle(waiting, &error).await?;
                    break;
                }
                Err(error) => self.wait(&mut backoff, error).await?,
            }
        }
        self.back();
        self.spool.acknowledge(waiting).map_err(|error| Failure::file(self.spool.path(), &error).into())
    }

    /// Brings the worker back to life if it needs it; says whether it did.
    async fn look_again(&mut self) -> Result<bool, Verdict> {
        let mut backoff = Backoff::new();
        loop {
            match self.control.look().await {
                Ok(worker) if worker.status == WorkerStatus::Stopped => return Err(Verdict::Stopped),
                Ok(worker) if worker.status == WorkerStatus::Running => return Ok(false),
                Ok(_) | Err(CallError::Refused { status: 404, .. }) => {
                    self.attach().await?;
                    self.format.note("control had given the worker up, and has taken it back");
                    return Ok(true);
                }
                Err(error) => self.wait(&mut backoff, error).await?,
            }
        }
    }

    /// Control will never take this event as it is. An answer that comes too late is nobody's loss; instead of
    /// anything else control is told what it did not take.
    async fn settle(&mut self, waiting: &Waiting, error: &CallError) -> Result<(), Verdict> {
        let text = waiting.payload.get();
        self.format.note(&format!("control does not take a {}: {error}", waiting.event_type));
        let (event_type, payload) = match &waiting.answers {
            Some(_) if matches!(error, CallError::Refused { status: 404 | 409, .. }) => return Ok(()),
            Some(request_id) => {
                let said: Value = serde_json::from_str(text).unwrap_or_default();
                let message = format!("the answer cannot be delivered: {error}");
                let payload = json!({"request_id": request_id, "method": said["method"], "code": "internal_error", "message": message, "occurred_at": now()});
                ("worker.error", payload)
            }
            None => {
                let what = json!({"event_type": waiting.event_type, "event_id": waiting.event_id, "bytes": text.len(), "sha256": hex(&Sha256::digest(text.as_bytes())), "reason": error.to_string()});
                let payload = json!({"source": OWN_SOURCE, "method": "event/refused", "params": what, "occurred_at": now()});
                ("worker.event", payload)
            }
        };
        let mut backoff = Backoff::new();
        loop {
            let id = format!("{}:refused", waiting.event_id);
            match self.control.post(event_type, raw(&payload)?, Some(id)).await {
                Err(error) if may_pass(&error) => self.wait(&mut backoff, error).await?,
                _ => return Ok(()),
            }
        }
    }
}

fn raw(value: &Value) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::wrong(error.to_string()))
}
