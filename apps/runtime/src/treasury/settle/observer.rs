//! Decides who runs a job once more: whoever the market would choose next and who has nothing to gain by it, asked in
//! the very words of a dispatch, so that nobody can tell a comparison from work.

use std::time::Duration;

use oa_contract::{Fault, Owner, Stop, wire::jobs::SANDBOX_RUN};
use oa_fetch::Request;
use oa_market::{Candidate, Need};

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

/// The next candidates are asked in turn until one answers: those who gain nothing by either answer before the
/// payer's own.
async fn run(runtime: &Runtime, rerun: Rerun<'_>) -> Result<Option<Observation>, Stop> {
    runtime.market.refresh(&runtime.store, &runtime.hub).await?;
    for (candidate, impartial) in candidates(runtime, &rerun) {
        let (worker_id, owner) =
            (candidate.offer.standing.worker_id.clone(), candidate.offer.standing.owner.clone());
        let Some(base) = candidate.offer.base() else { continue };
        let Some(_place) = runtime.calls.place(&candidate.offer).await else { continue };
        let fetched = runtime.calls.send(base, request(base, &rerun)?).await;
        match fetched.map(|fetched| (fetched.status, serde_json::from_slice(&fetched.body))) {
            Ok((200..300, Ok(response))) => {
                return Ok(Some(Observation { worker_id, owner, trusted: false, impartial, response }));
            }
            // Whoever does not answer is no observer; the market itself notices who never does.
            _ => tracing::info!(worker = worker_id, "a job could not be run once more there"),
        }
    }
    Ok(None)
}

/// Who may be asked, and whether its word may go against the provider. A job done by the payer's own provider is
/// nobody else's affair: there any of the payer's others will do.
fn candidates(runtime: &Runtime, rerun: &Rerun<'_>) -> Vec<(Candidate, bool)> {
    let moment = Moment::of(runtime);
    let ranked = |owner| {
        let need = Need {
            capability: SANDBOX_RUN,
            owner,
            resources: Some(&rerun.request.sandbox.resources),
            now: moment.now,
            stale_after_ms: moment.stale_after_ms,
        };
        runtime.market.rank(need, LOOKED_AT).candidates
    };
    let unheard = |one: &Candidate| !rerun.exclude.contains(&one.offer.standing.worker_id);
    if rerun.claimant == rerun.owner {
        return ranked(rerun.owner).into_iter().filter(unheard).map(|one| (one, true)).collect();
    }
    // An owner that nobody can be: only the reserve pool is left.
    let nobody = Owner::Guest(String::new());
    let party =
        |owner: &Owner| owner == rerun.owner || owner == rerun.claimant || rerun.heard.contains(owner);
    let others = ranked(&nobody).into_iter().filter(|one| !party(&one.offer.standing.owner));
    let own = ranked(rerun.owner).into_iter().filter(|one| one.offer.standing.owner == *rerun.owner);
    let both = others.map(|one| (one, true)).chain(own.map(|one| (one, false)));
    both.filter(|(one, _)| unheard(one)).collect()
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
