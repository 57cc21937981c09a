//! Decides what a quote says and what it is called: its hash covers every price and every moment in it
//! (marketplace §6.2).

use oa_contract::{
    Msats, canonical,
    wire::{
        jobs::short,
        marketplace::{FeeComponent, Quote},
    },
};
use serde_json::json;

use crate::price::AllIn;

const SCHEMA: &str = "openagents.marketplace.compute_all_in_quote.v1";
const VALID_SECONDS: u64 = 60;
const REFUND_SECONDS: u64 = 3600;

/// What is priced, and where.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub provider_id: &'a str,
    pub worker_id: &'a str,
    pub capability: &'a str,
    pub job_hash: &'a str,
}

/// A price that holds for a minute from now on. None when it is more than there will ever be.
pub fn quote(subject: Subject<'_>, price: AllIn, issued_at_unix: u64) -> Option<Quote> {
    let parts = [("operator_fee", price.operator_fee), ("policy_adder", price.policy_adder)];
    let named = parts.into_iter().filter(|(_, amount)| *amount > Msats::ZERO);
    let mut quote = Quote {
        schema: SCHEMA.into(),
        quote_id: String::new(),
        quote_sha256: String::new(),
        provider_id: subject.provider_id.into(),
        provider_worker_id: subject.worker_id.into(),
        capability: subject.capability.into(),
        objective_hash: subject.job_hash.into(),
        issued_at_unix,
        valid_until_unix: issued_at_unix.checked_add(VALID_SECONDS)?,
        cancel_until_unix: issued_at_unix.checked_add(VALID_SECONDS)?,
        cancel_fee_msats: 0,
        refund_until_unix: issued_at_unix.checked_add(REFUND_SECONDS)?,
        currency: "msats".into(),
        provider_price_msats: price.provider,
        operator_fee_msats: price.operator_fee,
        policy_adder_msats: price.policy_adder,
        total_price_msats: price.total().ok()?,
        fee_components: named
            .map(|(component, amount_msats)| FeeComponent { component: component.into(), amount_msats })
            .collect(),
    };
    quote.quote_sha256 = hash(&quote);
    quote.quote_id = format!("quote_{}", short(&quote.quote_sha256));
    Some(quote)
}

/// The hash of what a quote says, whatever it says that its hash is.
pub fn hash(quote: &Quote) -> String {
    canonical::canonical_hash(&json!({
        "capability": quote.capability,
        "objective_hash": quote.objective_hash,
        "issued_at_unix": quote.issued_at_unix,
        "valid_until_unix": quote.valid_until_unix,
        "cancel_until_unix": quote.cancel_until_unix,
        "cancel_fee_msats": quote.cancel_fee_msats,
        "refund_until_unix": quote.refund_until_unix,
        "currency": quote.currency,
        "provider_id": quote.provider_id,
        "provider_worker_id": quote.provider_worker_id,
        "provider_price_msats": quote.provider_price_msats,
        "operator_fee_msats": quote.operator_fee_msats,
        "policy_adder_msats": quote.policy_adder_msats,
        "total_price_msats": quote.total_price_msats,
    }))
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::marketplace::SupplyClass;

    use super::*;

    fn golden() -> Quote {
        let subject = Subject {
            provider_id: "provider-a",
            worker_id: "worker:a",
            capability: "oa.sandbox_run.v1",
            job_hash: "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125",
        };
        let price = AllIn::of(Msats::new(1000).expect("msats"), SupplyClass::SingleNode).expect("a price");
        quote(subject, price, 1_700_000_000).expect("a quote")
    }

    #[test]
    fn a_quote_is_that_of_the_specification() {
        assert_eq!(
            serde_json::to_string(&golden()).expect("JSON"),
            r#"{"schema":"openagents.marketplace.compute_all_in_quote.v1","quote_id":"quote_ddc13afb56393257","quote_sha256":"ddc13afb5639325770a40c81c9e584012452a72a48dbb80095e5d99febd19b75","provider_id":"provider-a","provider_worker_id":"worker:a","capability":"oa.sandbox_run.v1","objective_hash":"0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125","issued_at_unix":1700000000,"valid_until_unix":1700000060,"cancel_until_unix":1700000060,"cancel_fee_msats":0,"refund_until_unix":1700003600,"currency":"msats","provider_price_msats":1000,"operator_fee_msats":5,"policy_adder_msats":0,"total_price_msats":1005,"fee_components":[{"component":"operator_fee","amount_msats":5}]}"#
        );
    }

    #[test]
    fn no_price_and_no_moment_changes_under_the_same_hash() {
        let said = serde_json::to_value(golden()).expect("JSON");
        for member in [
            "issued_at_unix",
            "valid_until_unix",
            "cancel_until_unix",
            "cancel_fee_msats",
            "refund_until_unix",
            "provider_price_msats",
            "operator_fee_msats",
            "policy_adder_msats",
            "total_price_msats",
        ] {
            let mut altered = said.clone();
            altered[member] = (said[member].as_u64().expect("a number") + 1).into();
            let altered: Quote = serde_json::from_value(altered).expect("a quote");
            assert_ne!(hash(&altered), golden().quote_sha256, "{member}");
        }
        for member in ["provider_id", "provider_worker_id", "capability", "objective_hash", "currency"] {
            let mut altered = said.clone();
            altered[member] = "other".into();
            let altered: Quote = serde_json::from_value(altered).expect("a quote");
            assert_ne!(hash(&altered), golden().quote_sha256, "{member}");
        }
    }
}
