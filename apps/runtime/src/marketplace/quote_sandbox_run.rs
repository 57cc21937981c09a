//! `POST /internal/v1/marketplace/compute/quote/sandbox-run`: what a job would cost, at whom. The price is kept
//! and binds for a minute (marketplace §6.3).

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop, Timestamp,
    matrix::MarketplaceQuoteSandboxRun,
    refusal::Code,
    wire::{
        jobs::{SANDBOX_RUN, job_hash},
        marketplace::{ConsideredOutcome, Quote, QuoteReply, Selection},
    },
};
use oa_market::{Candidate, Need, admission, index::Ranked, quote as promise};
use oa_store::{
    Key, Tx,
    tables::market_quotes::{self, QuoteRow},
};
use serde_json::value::to_raw_value;

use super::route_provider::{selected, selection};
use crate::{
    Runtime,
    workers::{owner, snapshot::Moment},
};

const SCHEMA: &str = "openagents.marketplace.compute_quote.v1";
const NO_PRICE: &str = "unable to compute all-in quote";

impl Handle<MarketplaceQuoteSandboxRun> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceQuoteSandboxRun>) -> Result<Answer<QuoteReply>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let moment = Moment::of(self);
        self.rate.admit(&owner, moment.now)?;
        admission::admit(&ask.body.request)?;
        let job_hash = hash(&ask.body.request)?;
        let resources = &ask.body.request.sandbox.resources;
        let mut ranked = self.ranked(&owner, SANDBOX_RUN, Some(resources), moment).await?;
        let wanted = ask.body.provider_worker_id.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let selection = match wanted {
            None => selection(&ranked, moment)?,
            Some(worker_id) => {
                let need = Need {
                    capability: SANDBOX_RUN,
                    owner: &owner,
                    resources: Some(resources),
                    now: moment.now,
                    stale_after_ms: moment.stale_after_ms,
                };
                self.market.with_named(&mut ranked, need, worker_id);
                ranked.candidates.sort_by_key(|one| one.offer.standing.worker_id != worker_id);
                by_name(&ranked, worker_id, moment)?
            }
        };
        let best = ranked.candidates.first().cloned();
        let candidate = best.ok_or_else(|| Refusal::new(Code::Internal, NO_PRICE))?;
        let key = key(&owner);
        let wish = Wish { owner, candidate, job_hash: job_hash.clone(), now: moment.now };
        let quote = self.store.write("market.quote", key, wish, keep).await?;
        let capability = SANDBOX_RUN.to_owned();
        Ok(QuoteReply { schema: SCHEMA.into(), job_hash, capability, selection, quote }.into())
    }
}

/// The one that was asked for by name, whoever is better.
fn by_name(ranked: &Ranked, worker_id: &str, moment: Moment) -> Result<Selection, Refusal> {
    let named = ranked.candidates.first().filter(|one| one.offer.standing.worker_id == worker_id);
    let Some(named) = named else {
        let why = ranked.passed.iter().find(|one| one.worker_id == worker_id);
        let why = why.map_or("it is not enrolled, or not for this owner", |one| &one.reason);
        return Err(Refusal::not_found(format!("provider {worker_id} cannot do this job: {why}")));
    };
    let mut selection = selected(named, ranked, moment);
    for one in &mut selection.considered {
        match one.outcome {
            ConsideredOutcome::Selected => "it was asked for by name".clone_into(&mut one.reason),
            ConsideredOutcome::Outranked => "another one was asked for by name".clone_into(&mut one.reason),
            ConsideredOutcome::Ineligible => {}
        }
    }
    Ok(selection)
}

struct Wish {
    owner: Owner,
    candidate: Candidate,
    job_hash: String,
    now: Timestamp,
}

/// Whoever asks again within the second is promised a price of its own, or the second dispatch would find the
/// first one's quote taken.
async fn keep(tx: &mut Tx, wish: &Wish) -> Result<Quote, Stop> {
    for second in 0..SECONDS {
        let quoted = promised(&wish.candidate, &wish.job_hash, wish.now.plus_seconds(second));
        let quote = quoted.ok_or_else(|| Refusal::new(Code::Internal, NO_PRICE))?;
        if market_quotes::get(tx, &wish.owner, &quote.quote_id).await?.is_none() {
            market_quotes::keep(tx, &row(&wish.owner, &quote, wish.now)?).await?;
            return Ok(quote);
        }
    }
    Err(too_many().into())
}

/// Prices of equal jobs in one second would share a name, so the first second that is free is taken; an owner asks
/// for fewer in a minute than there are seconds in it.
pub(super) const SECONDS: i64 = 120;

pub(super) fn too_many() -> Refusal {
    Refusal::unavailable("too many equal jobs were begun at one time; try again in a moment")
}

/// What promises and binds an owner's quotes, one after the other.
pub(super) fn key(owner: &Owner) -> Key {
    Key::text("market_quotes", owner.to_string())
}

pub(super) fn hash(request: &oa_contract::wire::jobs::SandboxRunRequest) -> Result<String, Fault> {
    job_hash(request).map_err(|error| Fault::new("hashing a job", error))
}

/// What this one would be paid for the job from now on; none when it names no price.
pub(super) fn promised(candidate: &Candidate, job_hash: &str, now: Timestamp) -> Option<Quote> {
    let subject = promise::Subject {
        provider_id: &candidate.offer.provider_id,
        worker_id: &candidate.offer.standing.worker_id,
        capability: SANDBOX_RUN,
        job_hash,
    };
    promise::quote(subject, candidate.price?, u64::try_from(now.unix_seconds()).ok()?)
}

/// The quote as it is kept.
pub(super) fn row(owner: &Owner, quote: &Quote, now: Timestamp) -> Result<QuoteRow, Fault> {
    let moment = |unix: u64| i64::try_from(unix).map_err(|error| Fault::new("keeping a quote", error));
    Ok(QuoteRow {
        owner: owner.clone(),
        quote_id: quote.quote_id.clone(),
        quote_sha256: quote.quote_sha256.clone(),
        job_hash: quote.objective_hash.clone(),
        capability: quote.capability.clone(),
        worker_id: quote.provider_worker_id.clone(),
        provider_id: quote.provider_id.clone(),
        provider_price: quote.provider_price_msats,
        operator_fee: quote.operator_fee_msats,
        policy_adder: quote.policy_adder_msats,
        issued_at_unix: moment(quote.issued_at_unix)?,
        valid_until_unix: moment(quote.valid_until_unix)?,
        quote: to_raw_value(quote).map_err(|error| Fault::new("keeping a quote", error))?,
        dispatch_id: None,
        created_at: now,
    })
}
