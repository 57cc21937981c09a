//! `POST /internal/v1/marketplace/dispatch/sandbox-run`: has a job done by the best provider that can do it, and
//! answers what came back; the same job again is answered from what is kept (marketplace §7).

use std::{sync::Arc, time::Duration};

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop, current,
    matrix::MarketplaceDispatchSandboxRun,
    wire::marketplace::{DispatchReply, DispatchSandboxRun},
};
use oa_market::admission;
use oa_store::tables::market_dispatches::JobKey;

use super::{
    dispatch::{Desk, Dispatched, Job, Look, Looked, drive, look},
    place,
    quote_sandbox_run::hash,
};
use crate::{Runtime, workers::owner};

/// The edge gives a request a minute; a job may take five.
const PATIENCE: Duration = Duration::from_secs(50);
/// Attempts at one job.
const MOST_ATTEMPTS: u32 = 1_000;

impl Handle<MarketplaceDispatchSandboxRun> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceDispatchSandboxRun>) -> Result<Answer<DispatchReply>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let asked_at = self.now();
        self.rate.admit(&owner, asked_at)?;
        admission::admit(&ask.body.request)?;
        let wanted = Look {
            key: key(&ask.body, owner)?,
            caller: ask.caller,
            quote_id: named(ask.body.quote_id),
            quote_sha256: named(ask.body.quote_sha256),
            asked_at,
            now: asked_at,
        };
        if wanted.quote_sha256.is_some() && wanted.quote_id.is_none() {
            return Err(Refusal::invalid("quote_sha256 needs quote_id").into());
        }
        let job = Job {
            key: wanted.key.clone(),
            caller: wanted.caller.clone(),
            place: place::said(ask.body.organisation, ask.body.repo, ask.body.issue)?,
            request: ask.body.request,
            quote: None,
            asked_at,
        };
        match tokio::time::timeout(PATIENCE, answer(self.desk(), wanted, job)).await {
            Ok(ended) => Ok((*ended?).into()),
            Err(_) => Err(still_running().into()),
        }
    }
}

fn key(body: &DispatchSandboxRun, owner: Owner) -> Result<JobKey, Stop> {
    let attempt = body.attempt.unwrap_or(1);
    if !(1..=MOST_ATTEMPTS).contains(&attempt) {
        return Err(Refusal::invalid(format!("attempt must be between 1 and {MOST_ATTEMPTS}")).into());
    }
    Ok(JobKey { owner, run_id: body.run_id, job_hash: hash(&body.request)?, attempt })
}

fn named(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Looks, and has it done or waits for whoever does it. What is begun goes on when nobody waits any more.
async fn answer(desk: Desk, wanted: Look, job: Job) -> Result<Box<DispatchReply>, Stop> {
    loop {
        let looked = Look { now: desk.clock.now(), ..wanted.clone() };
        let busy = match desk.store.read("market.look", looked, look).await? {
            Looked::Reply(reply) => return Ok(reply),
            Looked::Busy { dispatch_id } => dispatch_id,
            Looked::Free { quote } => {
                let job = Arc::new(Job { quote, ..job.clone() });
                let driven = tokio::spawn(current::carried(drive(desk.clone(), job))).await;
                match driven.map_err(|error| Fault::new("dispatching a job", error))?? {
                    Dispatched::Done(reply) => return Ok(reply),
                    Dispatched::Busy { dispatch_id } => dispatch_id,
                }
            }
        };
        desk.calls.wait(&busy).await;
    }
}

fn still_running() -> Refusal {
    let mut refusal = Refusal::unavailable(
        "the job is still running; send the same request again for its answer, it is not run twice",
    );
    refusal.reason_code = Some("dispatch_running");
    refusal.retry_after_ms = Some(1_000);
    refusal
}
