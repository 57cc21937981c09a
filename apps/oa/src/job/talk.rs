//! Decides how a job is taken through the runtime: each step is asked for until it is answered, under names that make
//! asking twice harmless.

use std::time::{Duration, Instant};

use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Nothing,
    matrix::{MarketplaceDispatchSandboxRun, MarketplaceQuoteSandboxRun, TreasurySettleSandboxRun},
    operation::{Call, Operation},
    wire::{
        jobs::SandboxRunRequest,
        marketplace::{DispatchReply, DispatchSandboxRun, Quote, QuoteReply, QuoteSandboxRun},
        runs::{AppendEvent, StartRun},
        treasury::{CepTerms, RoutePolicy, SettleSandboxRun, Settlement},
        workers::NameOwner,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json, value::to_raw_value};
use uuid::Uuid;

use crate::{
    backoff::{Backoff, may_pass},
    exec,
    failure::Failure,
};

/// One request; the runtime answers long ones within a minute, if only to say that it is still at it.
const ANSWER: Duration = Duration::from_secs(70);
/// How long a runtime that does not answer at all is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime, and whose jobs these are.
pub struct Talk {
    pub client: Client,
    pub owner: NameOwner,
}

impl Talk {
    /// Opens a run.
    pub async fn begin(&self, metadata: &Value) -> Result<Uuid, Failure> {
        let start = StartRun {
            worker_id: None,
            metadata: to_raw_value(metadata).ok(),
            idempotency_key: Some(format!("job:{}", Uuid::now_v7().simple())),
        };
        let (begun, mut backoff) = (Instant::now(), Backoff::new());
        loop {
            match exec::start_run(&self.client, &start).await {
                Ok(run_id) => return Ok(run_id),
                Err(error) if may_pass(&error) && begun.elapsed() < Duration::from_secs(3) => {
                    backoff.wait(&error).await;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Adds an event under a key of its own.
    pub async fn tell(&self, run_id: Uuid, kind: &str, key: &str, payload: &Value) -> Result<(), Failure> {
        let event = AppendEvent {
            event_type: kind.to_owned(),
            payload: to_raw_value(payload).ok(),
            idempotency_key: Some(key.to_owned()),
            expected_previous_seq: None,
        };
        let (begun, mut backoff) = (Instant::now(), Backoff::new());
        loop {
            match exec::append(&self.client, run_id, &event).await {
                Ok(()) => return Ok(()),
                Err(error) if may_pass(&error) && begun.elapsed() < PATIENCE => backoff.wait(&error).await,
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    pub async fn receipt(&self, run_id: Uuid, kind: &str, key: &str, payload: Value) -> Result<(), Failure> {
        self.tell(run_id, "receipt", key, &json!({"receipt_type": kind, "payload": payload})).await
    }

    /// Ends the run.
    pub async fn finish(&self, run_id: Uuid, status: &str) -> Result<(), Failure> {
        self.tell(run_id, "run.finished", "job:end", &json!({"status": status})).await
    }

    /// What the job costs: at the best provider, or at this one.
    pub async fn quote(&self, request: &SandboxRunRequest, at: Option<&str>) -> Result<QuoteReply, Failure> {
        let body = QuoteSandboxRun {
            owner_user_id: self.owner.owner_user_id,
            owner_guest_scope: self.owner.owner_guest_scope.clone(),
            request: request.clone(),
            provider_worker_id: at.map(str::to_owned),
        };
        let call = Call::<MarketplaceQuoteSandboxRun> { path: Nothing {}, query: Nothing {}, body };
        self.asked(&call).await
    }

    /// Has the job done at the quoted price; waits as long as it takes.
    pub async fn dispatch(
        &self,
        run_id: Uuid,
        request: &SandboxRunRequest,
        quote: &Quote,
        attempt: u32,
    ) -> Result<DispatchReply, Failure> {
        let body = DispatchSandboxRun {
            owner_user_id: self.owner.owner_user_id,
            owner_guest_scope: self.owner.owner_guest_scope.clone(),
            request: request.clone(),
            run_id: Some(run_id),
            quote_id: Some(quote.quote_id.clone()),
            quote_sha256: Some(quote.quote_sha256.clone()),
            attempt: Some(attempt),
            organisation: None,
            repo: None,
            issue: None,
        };
        let call = Call::<MarketplaceDispatchSandboxRun> { path: Nothing {}, query: Nothing {}, body };
        self.asked(&call).await
    }

    /// Settles what came back; waits for whoever runs it once more.
    pub async fn settle(
        &self,
        run_id: Uuid,
        request: &SandboxRunRequest,
        done: (&Quote, &DispatchReply),
        reexecute: bool,
    ) -> Result<Settlement, Failure> {
        self.settle_by(run_id, request, done, reexecute, None).await
    }

    /// The same; with terms, a pool pays the provider through an envelope of an agent's credit.
    pub async fn settle_by(
        &self,
        run_id: Uuid,
        request: &SandboxRunRequest,
        (quote, reply): (&Quote, &DispatchReply),
        reexecute: bool,
        credit: Option<CepTerms>,
    ) -> Result<Settlement, Failure> {
        let provider = &reply.selection.provider;
        // Whoever did it in the end may have had a price of its own.
        let quote = reply.quote.as_ref().unwrap_or(quote);
        let body = SettleSandboxRun {
            owner_user_id: self.owner.owner_user_id,
            owner_guest_scope: self.owner.owner_guest_scope.clone(),
            run_id,
            provider_id: provider.provider_id.clone(),
            provider_worker_id: provider.worker_id.clone(),
            amount_msats: quote.provider_price_msats,
            quote: Some(quote.clone()),
            route_policy: credit.as_ref().map(|_| RoutePolicy::ForceCep),
            cep: credit,
            request: request.clone(),
            response: reply.response.clone(),
            dispatch_id: Some(reply.dispatch_id.clone()),
            attempt: Some(reply.attempt),
            reexecute: Some(reexecute),
            organisation: None,
            repo: None,
            issue: None,
        };
        let call = Call::<TreasurySettleSandboxRun> { path: Nothing {}, query: Nothing {}, body };
        self.asked(&call).await
    }

    /// Asks until there is an answer that is one.
    pub async fn asked<O: Operation>(&self, call: &Call<O>) -> Result<O::Reply, Failure>
    where
        O::Reply: DeserializeOwned,
    {
        let prepared = self.client.prepare(call).map_err(|error| self.failed(error))?;
        let (mut silent_since, mut backoff) = (Instant::now(), Backoff::new());
        loop {
            let manner = Manner { timeout: Some(ANSWER), ..Manner::default() };
            let raw = self.client.send_prepared(&prepared, manner).await.and_then(|raw| raw.accepted());
            match raw {
                Ok(raw) => {
                    return serde_json::from_slice(&raw.body).map_err(|error| {
                        self.failed(CallError::Unreadable(format!("{}: {error}", O::ROW.name)))
                    });
                }
                // It is at it: the same question again has the same answer.
                Err(CallError::Refused { status: 503, message, .. })
                    if message.contains("send the same request") =>
                {
                    (silent_since, backoff) = (Instant::now(), Backoff::new());
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) if is_away(&error) && silent_since.elapsed() < PATIENCE => {
                    backoff.wait(&error).await
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: CallError) -> Failure {
        Failure::call(self.client.base(), error)
    }
}

/// It may be there again soon. A fault of its own is told at once.
fn is_away(error: &CallError) -> bool {
    match error {
        CallError::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        other => may_pass(other),
    }
}
