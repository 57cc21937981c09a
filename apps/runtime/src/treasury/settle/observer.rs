//! Decides who runs a job once more: whoever the market would choose next for its owner, asked in the very words
//! of a dispatch, so that nobody can tell a comparison from work.

use std::time::Duration;

use oa_contract::{Fault, Stop, wire::jobs::SANDBOX_RUN};
use oa_fetch::Request;
use oa_market::Need;

use super::reexecution::{Observation, Reexecutor, Rerun, Running};
use crate::{Runtime, workers::snapshot::Moment};

/// Candidates that are looked at.
const LOOKED_AT: usize = 16;
/// What a provider has beyond the time that the job may take.
const GRACE_SECONDS: u64 = 5;

/// The providers of the market.
pub struct Market;

impl Reexecutor for Market {
    fn rerun<'a>(&'a self, runtime: &'a Runtime, rerun: Rerun<'a>) -> Running<'a> {
        Box::pin(run(runtime, rerun))
    }
}

/// The next candidates are asked in turn until one answers.
async fn run(runtime: &Runtime, rerun: Rerun<'_>) -> Result<Option<Observation>, Stop> {
    runtime.market.refresh(&runtime.store, &runtime.hub).await?;
    let moment = Moment::of(runtime);
    let need = Need {
        capability: SANDBOX_RUN,
        owner: rerun.owner,
        resources: Some(&rerun.request.sandbox.resources),
        now: moment.now,
        stale_after_ms: moment.stale_after_ms,
    };
    let ranked = runtime.market.rank(need, LOOKED_AT);
    let other = |worker_id: &str| rerun.exclude.iter().all(|one| one != worker_id);
    for candidate in ranked.candidates {
        let worker_id = candidate.offer.standing.worker_id.clone();
        let Some(base) = candidate.offer.base().filter(|_| other(&worker_id)) else { continue };
        let Some(_place) = runtime.calls.place(&candidate.offer).await else { continue };
        let fetched = runtime.calls.send(base, request(base, &rerun)?).await;
        match fetched.map(|fetched| (fetched.status, serde_json::from_slice(&fetched.body))) {
            Ok((200..300, Ok(response))) => {
                return Ok(Some(Observation { worker_id, trusted: false, response }));
            }
            // Whoever does not answer is no observer; the market itself notices who never does.
            _ => tracing::info!(worker = worker_id, "a job could not be run once more there"),
        }
    }
    Ok(None)
}

fn request(base: &str, rerun: &Rerun<'_>) -> Result<Request, Fault> {
    let seconds = u64::from(rerun.request.sandbox.resources.timeout_secs) + GRACE_SECONDS;
    let body = serde_json::to_vec(rerun.request).map_err(|error| Fault::new("writing a job", error))?;
    Ok(Request {
        method: "POST".into(),
        url: format!("{base}/v1/sandbox_run"),
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("x-idempotency-key".into(), rerun.job_key.to_owned()),
        ],
        body,
        timeout: Some(Duration::from_secs(seconds)),
    })
}
