//! Decides whether a settlement can be asked for at all, before anything is read, and what it is: its name, and
//! the fingerprint by which another content is told.

use oa_contract::{
    Caller, Fault, Msats, Owner, Refusal, Stop, canonical,
    wire::{
        jobs::{SandboxRunRequest, SandboxRunResponse, job_hash},
        marketplace::Quote,
        treasury::{CepTerms, RoutePolicy, SettleSandboxRun},
    },
};
use oa_ledger::budget::Place;
use oa_store::{Key, tables::market_dispatches::JobKey};
use serde_json::json;
use uuid::Uuid;

use crate::{credit, marketplace, runs, treasury, workers};

/// The longest names that are kept.
const LONGEST_NAME: usize = 255;
/// Attempts at one job in one run.
const MOST_ATTEMPTS: u32 = 1_000;

/// A settlement that is well formed.
#[derive(Debug)]
pub struct Asked {
    pub caller: Caller,
    pub owner: Owner,
    pub run_id: Uuid,
    pub provider_id: String,
    pub worker_id: String,
    pub amount: Msats,
    pub quote: Option<Quote>,
    pub route: RoutePolicy,
    pub cep: Option<CepTerms>,
    pub request: SandboxRunRequest,
    pub response: SandboxRunResponse,
    pub response_sha256: String,
    pub dispatch_id: Option<String>,
    pub job_hash: String,
    pub attempt: u32,
    /// The payer wants it run once more.
    pub reexecute: bool,
    /// Where the request says that it lies, beyond its run.
    pub place: Place,
    pub settlement_id: String,
    /// Of everything that is no part of the name.
    pub fingerprint: [u8; 32],
}

pub fn admit(body: SettleSandboxRun, caller: Caller) -> Result<Asked, Stop> {
    let owner = Owner::from_parts(body.owner_user_id, body.owner_guest_scope.as_deref())?;
    caller.must_speak_for(&owner)?;
    let (provider_id, worker_id) = (body.provider_id.trim(), body.provider_worker_id.trim());
    if provider_id.is_empty() || worker_id.is_empty() {
        return Err(Refusal::invalid("provider_id and provider_worker_id are required").into());
    }
    plain("provider_id", provider_id)?;
    plain("provider_worker_id", worker_id)?;
    if let Owner::Guest(scope) = &owner {
        plain("owner_guest_scope", scope)?;
    }
    if body.amount_msats == Msats::ZERO {
        return Err(Refusal::invalid("amount_msats must be greater than zero").into());
    }
    oa_market::admission::admit(&body.request)?;
    let attempt = body.attempt.unwrap_or(1);
    if attempt == 0 || attempt > MOST_ATTEMPTS {
        return Err(Refusal::invalid(format!("attempt must be 1 to {MOST_ATTEMPTS}")).into());
    }
    let job_hash = job_hash(&body.request).map_err(|error| Fault::new("hashing a job", error))?;
    let unhashed = |error| Fault::new("hashing a settlement", error);
    let response_sha256 = canonical::hash_of(&body.response).map_err(unhashed)?;
    let route = body.route_policy.unwrap_or_default();
    let quote = body.quote.as_ref().map(canonical::hash_of).transpose().map_err(unhashed)?;
    let place = marketplace::place::said(body.organisation, body.repo, body.issue)?;
    let mut content =
        json!([provider_id, worker_id, body.amount_msats, quote, route, body.cep, response_sha256]);
    if let (Some(members), true) = (content.as_array_mut(), place != Place::default()) {
        members.push(json!([place.organisation, place.repo, place.issue]));
    }
    Ok(Asked {
        settlement_id: treasury::settlement_id(&owner, body.run_id, &job_hash, attempt),
        fingerprint: canonical::canonical_digest(&content),
        provider_id: provider_id.to_owned(),
        worker_id: worker_id.to_owned(),
        caller,
        owner,
        run_id: body.run_id,
        amount: body.amount_msats,
        quote: body.quote,
        route,
        cep: body.cep,
        request: body.request,
        response: body.response,
        response_sha256,
        dispatch_id: body.dispatch_id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()),
        job_hash,
        attempt,
        place,
        reexecute: body.reexecute.unwrap_or(false),
    })
}

impl Asked {
    /// As it was asked for.
    pub fn again(&self) -> SettleSandboxRun {
        let place = self.place.clone();
        SettleSandboxRun {
            owner_user_id: self.owner.user_id(),
            owner_guest_scope: self.owner.guest_scope().map(str::to_owned),
            run_id: self.run_id,
            provider_id: self.provider_id.clone(),
            provider_worker_id: self.worker_id.clone(),
            amount_msats: self.amount,
            quote: self.quote.clone(),
            route_policy: Some(self.route.clone()),
            cep: self.cep.clone(),
            request: self.request.clone(),
            response: self.response.clone(),
            dispatch_id: self.dispatch_id.clone(),
            attempt: Some(self.attempt),
            reexecute: Some(self.reexecute),
            organisation: place.organisation,
            repo: place.repo,
            issue: place.issue,
        }
    }

    /// What is reserved for the provider.
    pub fn settle_amount(&self) -> Msats {
        self.quote.as_ref().map_or(self.amount, |quote| quote.provider_price_msats)
    }

    /// The job as a dispatch of it would be known, in this run or outside of any.
    pub fn job(&self, in_run: bool) -> JobKey {
        JobKey {
            owner: self.owner.clone(),
            run_id: in_run.then_some(self.run_id),
            job_hash: self.job_hash.clone(),
            attempt: self.attempt,
        }
    }

    /// Everything that a settlement writes to and that has an order.
    pub fn keys(&self) -> Vec<Key> {
        vec![
            treasury::key(&self.owner),
            runs::key(self.run_id),
            workers::key(&self.worker_id),
            marketplace::job_key(&self.job(true)),
            marketplace::job_key(&self.job(false)),
            credit::evidence::key(&self.job_hash),
        ]
    }
}

fn plain(field: &str, text: &str) -> Result<(), Refusal> {
    match text.chars().count() > LONGEST_NAME || text.chars().any(char::is_control) {
        true => Err(Refusal::invalid(format!(
            "{field} must be at most {LONGEST_NAME} characters without control characters"
        ))),
        false => Ok(()),
    }
}
