//! Decides what a job costs at a provider, all in (marketplace §6.1).

use oa_contract::{
    Amount, Msats, Refusal,
    wire::marketplace::{PricingStage, SupplyClass},
};

use crate::offer::Offer;

const OPERATOR_FEE_BPS: u128 = 50;
const RESERVE_ADDER: u64 = 500;
const INSTANCE_MARKET_ADDER: u64 = 250;

/// What a job costs, in its three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllIn {
    pub provider: Msats,
    pub operator_fee: Msats,
    pub policy_adder: Msats,
}

impl AllIn {
    /// What has to be paid so that the provider gets so much; none beyond what there will ever be.
    pub fn of(provider: Msats, class: SupplyClass) -> Option<Self> {
        let fee = (u128::from(provider.get()) * OPERATOR_FEE_BPS).div_ceil(10_000);
        let adder = match class {
            SupplyClass::ReservePool => RESERVE_ADDER,
            SupplyClass::InstanceMarket => INSTANCE_MARKET_ADDER,
            _ => 0,
        };
        let price = AllIn {
            provider,
            operator_fee: u64::try_from(fee).ok().and_then(Msats::new)?,
            policy_adder: Msats::new(adder)?,
        };
        price.sum().map(|_| price)
    }

    /// All of it.
    pub fn total(&self) -> Result<Msats, Refusal> {
        self.sum().ok_or_else(|| Refusal::invalid("the price is more than there will ever be"))
    }

    fn sum(&self) -> Option<Msats> {
        let parts = [self.provider, self.operator_fee, self.policy_adder];
        Amount::sum(parts.map(Amount::from)).and_then(|sum| Msats::try_from(sum).ok())
    }
}

/// What a provider asks for a capability; nothing when it names no price.
pub fn asked(offer: &Offer, capability: &str) -> Option<Msats> {
    let band = match offer.pricing_stage {
        PricingStage::Banded => offer.pricing_bands.iter().find(|band| band.capability == capability),
        _ => None,
    };
    let asked = band.map(|band| band.min_price_msats).or(offer.min_price_msats);
    asked.filter(|price| *price > 0).and_then(Msats::new)
}

pub fn all_in(offer: &Offer, capability: &str) -> Option<AllIn> {
    AllIn::of(asked(offer, capability)?, offer.supply_class)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::offer::tests::{offer, standing};

    fn parts(price: AllIn) -> [u64; 4] {
        [
            price.provider.get(),
            price.operator_fee.get(),
            price.policy_adder.get(),
            price.total().expect("a total").get(),
        ]
    }

    #[test]
    fn the_fee_is_half_a_percent_rounded_up_and_the_adder_is_that_of_the_class() {
        let price =
            |msats, class| parts(AllIn::of(Msats::new(msats).expect("msats"), class).expect("a price"));
        assert_eq!(price(1000, SupplyClass::SingleNode), [1000, 5, 0, 1005]);
        assert_eq!(price(900, SupplyClass::InstanceMarket), [900, 5, 250, 1155]);
        assert_eq!(price(1, SupplyClass::ReservePool), [1, 1, 500, 502]);
        assert_eq!(price(0, SupplyClass::LocalCluster), [0, 0, 0, 0]);
        assert_eq!(AllIn::of(Msats::MAX, SupplyClass::SingleNode), None);
    }

    #[test]
    fn a_band_is_the_price_of_its_capability() {
        let banded = json!({
            "pricing_stage": "banded", "min_price_msats": 7,
            "pricing_bands": [{"capability": "oa.sandbox_run.v1", "min_price_msats": 100, "max_price_msats": 200}],
        });
        let offered = offer(standing("w", 1), banded.clone());
        assert_eq!(asked(&offered, "oa.sandbox_run.v1").map(Msats::get), Some(100));
        assert_eq!(asked(&offered, "other").map(Msats::get), Some(7));
        let mut fixed = banded;
        fixed["pricing_stage"] = json!("fixed");
        assert_eq!(asked(&offer(standing("w", 1), fixed), "oa.sandbox_run.v1").map(Msats::get), Some(7));
        for none in [json!({}), json!({"min_price_msats": 0}), json!({"min_price_msats": u64::MAX})] {
            assert_eq!(asked(&offer(standing("w", 1), none), "oa.sandbox_run.v1"), None);
        }
    }
}
