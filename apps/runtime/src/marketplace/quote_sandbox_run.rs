//! `POST /internal/v1/marketplace/compute/quote/sandbox-run`: what a job would cost, at whom. The price is kept
//! and binds for a minute (marketplace §6.3).

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop, Timestamp,
    matrix::MarketplaceQuoteSandboxRun,
    refusal::Code,
    wire::{
        jobs::{SANDBOX_RUN, job_hash},
        marketplace::{Quote, QuoteReply},
    },
};
use oa_market::{Candidate, admission, quote as promise};
use oa_store::{
    Key, Tx,
    tables::market_quotes::{self, QuoteRow},
};
use serde_json::value::to_raw_value;

use super::route_provider::selection;
use crate::{
    Runtime,
    workers::{owner, snapshot::Moment},
};

const SCHEMA: &str = "openagents.marketplace.compute_quote.v1";

impl Handle<MarketplaceQuoteSandboxRun> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceQuoteSandboxRun>) -> Result<Answer<QuoteReply>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let moment = Moment::of(self);
        self.rate.admit(&owner, moment.now)?;
        admission::admit(&ask.body.request)?;
        let job_hash = hash(&ask.body.request)?;
        let ranked =
            self.ranked(&owner, SANDBOX_RUN, Some(&ask.body.request.sandbox.resources), moment).await?;
        let selection = selection(&ranked, moment)?;
        let quoted = ranked.candidates.first().and_then(|best| promised(best, &job_hash, moment.now));
        let quote = quoted.ok_or_else(|| Refusal::new(Code::Internal, "unable to compute all-in quote"))?;
        let row = row(&owner, &quote, moment.now)?;
        let key = key(&owner);
        self.store.write("market.quote", key, row, keep).await?;
        let capability = SANDBOX_RUN.to_owned();
        Ok(QuoteReply { schema: SCHEMA.into(), job_hash, capability, selection, quote }.into())
    }
}

async fn keep(tx: &mut Tx, row: &QuoteRow) -> Result<(), Stop> {
    market_quotes::keep(tx, row).await.map(|_| ())
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
