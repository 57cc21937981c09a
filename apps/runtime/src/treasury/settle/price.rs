//! Decides what is owed: whether a quote binds its price, and whether what was delivered keeps it (§10.4 step 2).

use oa_contract::{
    Msats, Refusal, Stop, Timestamp,
    wire::{
        jobs::{SANDBOX_RUN, short},
        marketplace::Quote,
    },
};
use oa_market::quote::hash;
use oa_store::tables::market_quotes::QuoteRow;

use super::asked::Asked;
use crate::{marketplace::reserve::AllIn, workers::reputation::PriceFacts};

/// A price that was promised, and how it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    pub quote: Quote,
    pub delivered: Msats,
    /// Above zero, more was taken than had been promised.
    pub variance_msats: i64,
    pub variance_bps: u64,
}

impl Integrity {
    /// Nothing less will do, in either direction.
    pub fn passed(&self) -> bool {
        self.variance_msats == 0
    }

    /// Only who takes more is at fault.
    pub fn violated(&self) -> bool {
        self.variance_msats > 0
    }

    pub fn facts(&self) -> PriceFacts {
        PriceFacts {
            quote_id: self.quote.quote_id.clone(),
            quote_sha256: self.quote.quote_sha256.clone(),
            quoted: self.quote.provider_price_msats,
            delivered: self.delivered,
            variance_msats: self.variance_msats,
            variance_bps: self.variance_bps,
            violation: self.violated(),
        }
    }
}

/// What quoted and delivered differ by.
pub fn compare(quote: &Quote, delivered: Msats) -> Integrity {
    let quoted = i128::from(quote.provider_price_msats.get());
    // Both are bounded by all the money there is.
    let variance = i128::from(delivered.get()) - quoted;
    let bps = if quoted == 0 { 0 } else { variance.abs() * 10_000 / quoted };
    Integrity {
        quote: quote.clone(),
        delivered,
        variance_msats: i64::try_from(variance).unwrap_or(i64::MAX),
        variance_bps: u64::try_from(bps).unwrap_or(u64::MAX),
    }
}

/// Whether the quote is about this job by this provider at all.
pub fn is_about(quote: &Quote, asked: &Asked) -> Result<(), Refusal> {
    let refused = |message: &str| Err(Refusal::invalid(message));
    if quote.provider_id != asked.provider_id {
        return refused("quote.provider_id does not match provider_id");
    }
    if quote.provider_worker_id != asked.worker_id {
        return refused("quote.provider_worker_id does not match provider_worker_id");
    }
    if quote.capability != SANDBOX_RUN {
        return refused("quote.capability must be oa.sandbox_run.v1");
    }
    if quote.objective_hash != asked.job_hash {
        return refused("quote.objective_hash does not match job_hash");
    }
    Ok(())
}

/// Whether the quote can still be taken.
pub fn is_in_time(quote: &Quote, now: Timestamp) -> Result<(), Refusal> {
    let now = u64::try_from(now.unix_seconds()).unwrap_or(0);
    match quote.valid_until_unix > 0 && quote.valid_until_unix < now {
        true => Err(Refusal::invalid("quote has expired")),
        false => Ok(()),
    }
}

/// Whether the quote is what the provider asks now. Every member of its hash counts: no price can be altered
/// under a valid hash.
pub fn is_current(quote: &Quote, current: Option<AllIn>) -> Result<(), Stop> {
    let Some(current) = current else {
        let message = "unable to compute expected quote";
        return Err(Refusal::new(oa_contract::Code::Internal, message).into());
    };
    let expected = Quote {
        valid_until_unix: quote.issued_at_unix.saturating_add(60),
        cancel_until_unix: quote.issued_at_unix.saturating_add(60),
        cancel_fee_msats: 0,
        refund_until_unix: quote.issued_at_unix.saturating_add(3_600),
        currency: "msats".into(),
        provider_price_msats: current.provider,
        operator_fee_msats: current.operator_fee,
        policy_adder_msats: current.policy_adder,
        total_price_msats: current.total()?,
        ..quote.clone()
    };
    let named = |hash: &str| quote.quote_sha256 == hash && quote.quote_id == format!("quote_{}", short(hash));
    match named(&hash(quote)) && named(&hash(&expected)) {
        true => Ok(()),
        false => Err(altered()),
    }
}

/// Whether the quote is the stored one that a dispatch was made at: that price was accepted in time, and stands
/// whatever the provider asks by now.
pub fn is_of_dispatch(quote: &Quote, kept: &QuoteRow) -> Result<(), Stop> {
    let same = quote.quote_id == kept.quote_id && quote.quote_sha256 == kept.quote_sha256;
    match same && hash(quote) == kept.quote_sha256 {
        true => Ok(()),
        false => Err(altered()),
    }
}

fn altered() -> Stop {
    Refusal::invalid("quote does not match current provider terms").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn msats(amount: u64) -> Msats {
        Msats::new(amount).expect("an amount")
    }

    /// The quote of the specification's vector (§2.2).
    pub(in crate::treasury) fn golden() -> Quote {
        serde_json::from_value(json!({
            "schema": "openagents.marketplace.compute_all_in_quote.v1",
            "quote_id": "quote_ddc13afb56393257",
            "quote_sha256": "ddc13afb5639325770a40c81c9e584012452a72a48dbb80095e5d99febd19b75",
            "provider_id": "provider-a", "provider_worker_id": "worker:a", "capability": "oa.sandbox_run.v1",
            "objective_hash": "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125",
            "issued_at_unix": 1_700_000_000, "valid_until_unix": 1_700_000_060, "cancel_until_unix": 1_700_000_060,
            "cancel_fee_msats": 0, "refund_until_unix": 1_700_003_600, "currency": "msats",
            "provider_price_msats": 1000, "operator_fee_msats": 5, "policy_adder_msats": 0,
            "total_price_msats": 1005, "fee_components": [{"component": "operator_fee", "amount_msats": 5}]
        }))
        .expect("a quote")
    }

    fn terms(provider: u64) -> Option<AllIn> {
        Some(AllIn { provider: msats(provider), operator_fee: msats(5), policy_adder: Msats::ZERO })
    }

    #[test]
    fn the_golden_quote_has_the_golden_hash_and_is_current_at_its_terms_only() {
        let quote = golden();
        assert_eq!(hash(&quote), quote.quote_sha256);
        is_current(&quote, terms(1000)).expect("current");
        for (why, changed, current) in [
            ("another price now", golden(), terms(1001)),
            ("an altered price", Quote { provider_price_msats: msats(1), ..golden() }, terms(1000)),
            ("no end", Quote { valid_until_unix: 0, ..golden() }, terms(1000)),
            ("another id", Quote { quote_id: "quote_0".into(), ..golden() }, terms(1000)),
        ] {
            let refused = is_current(&changed, current).expect_err(why);
            assert!(refused.to_string().contains("quote does not match current provider terms"), "{why}");
        }
        // An altered quote under the right hash of the altered terms is not what the provider asks either.
        let mut renamed = Quote { valid_until_unix: 0, ..golden() };
        renamed.quote_sha256 = hash(&renamed);
        renamed.quote_id = format!("quote_{}", short(&renamed.quote_sha256));
        assert!(is_current(&renamed, terms(1000)).is_err());
        let none = is_current(&quote, None).expect_err("no price");
        assert_eq!(none.to_string(), "internal: unable to compute expected quote");
    }

    #[test]
    fn a_quote_ends_after_its_last_second() {
        let at = Timestamp::from_unix_seconds;
        assert!(is_in_time(&golden(), at(1_700_000_060)).is_ok());
        let late = is_in_time(&golden(), at(1_700_000_061)).expect_err("over");
        assert_eq!(late.message, "quote has expired");
        let endless = Quote { valid_until_unix: 0, ..golden() };
        assert!(is_in_time(&endless, at(1_900_000_000)).is_ok());
    }

    #[test]
    fn what_was_delivered_is_compared_to_the_unit() {
        let compared = |delivered| {
            let integrity = compare(&golden(), msats(delivered));
            (integrity.variance_msats, integrity.variance_bps, integrity.passed(), integrity.violated())
        };
        assert_eq!(compared(1000), (0, 0, true, false));
        assert_eq!(compared(1500), (500, 5000, false, true));
        assert_eq!(compared(999), (-1, 10, false, false), "less is neither kept nor a fault");
        let free = Quote { provider_price_msats: Msats::ZERO, ..golden() };
        assert_eq!(compare(&free, Msats::MAX).variance_bps, 0);
        assert_eq!(compare(&golden(), Msats::MAX).variance_msats, 2_099_999_999_999_999_000);
    }
}
