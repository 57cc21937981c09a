//! Decides what a provider's ad says. Whatever the provider wrote of itself is cut to a size that relays take.

use serde_json::{Value, json};

use super::{Blank, HANDLER, Unsigned, said, tag};
use crate::canonical::compact;

pub const SCHEMA: &str = "openagents.bridge.provider_ad.v1";
const NAME: &str = "OpenAgents Compute Provider";
const DESCRIPTION: &str = "OpenAgents Compute provider enrolled in Nexus registry";
/// What a provider asks who has named no price.
const PRICE_MSATS: u64 = 1_000;
/// The most capabilities and bands that are told, and the longest texts, in characters.
const MOST: usize = 64;
const SHORT: usize = 256;
const LONG: usize = 2_048;
/// The most bytes of `caps`; larger ones are not told.
const CAPS_BYTES: usize = 4_096;

/// A price range for one capability.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Band {
    pub capability: String,
    pub min_price_msats: u64,
    pub max_price_msats: u64,
    pub step_msats: Option<u64>,
}

impl Band {
    fn is_sound(&self) -> bool {
        !self.capability.trim().is_empty()
            && self.min_price_msats > 0
            && self.max_price_msats >= self.min_price_msats
    }

    fn text(&self) -> String {
        let mut band = json!({
            "capability": cut(&self.capability, SHORT),
            "min_price_msats": self.min_price_msats, "max_price_msats": self.max_price_msats,
        });
        if let Some(step) = self.step_msats {
            band["step_msats"] = json!(step);
        }
        compact(&band)
    }
}

/// Who offers compute, and how they stand with us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderAd<'a> {
    pub provider_id: &'a str,
    pub name: Option<&'a str>,
    pub description: Option<&'a str>,
    pub website: Option<&'a str>,
    pub capabilities: Vec<&'a str>,
    pub min_price_msats: Option<u64>,
    pub pricing_stage: &'a str,
    pub bands: Vec<Band>,
    pub caps: Option<&'a Value>,
    /// Whether it takes jobs now.
    pub available: bool,
    pub worker_status: &'a str,
    pub heartbeat_state: &'a str,
    pub price_integrity_samples: Option<u64>,
    pub price_integrity_violations: Option<u64>,
    pub price_variance_bps_last: Option<u64>,
}

impl ProviderAd<'_> {
    /// The name under which the ad is replaced by a later one.
    pub fn name_of(provider_id: &str) -> String {
        format!("openagents:compute_provider:{provider_id}")
    }

    pub fn told(&self) -> Result<Unsigned, Blank> {
        let provider_id = said("provider_id", self.provider_id)?;
        let bands: Vec<&Band> = self.bands.iter().filter(|band| band.is_sound()).take(MOST).collect();
        let lowest = bands.iter().map(|band| band.min_price_msats).min();
        let price = self.min_price_msats.or(lowest).unwrap_or(PRICE_MSATS);
        let mut tags = vec![tag("handler", "compute_provider")];
        tags.extend(self.capabilities.iter().take(MOST).map(|one| tag("capability", cut(one, SHORT))));
        tags.push(["price", &price.to_string(), "per-job", "msats"].map(str::to_owned).to_vec());
        tags.push(tag("d", Self::name_of(provider_id)));
        tags.push(tag("oa_schema", SCHEMA));
        tags.push(tag("oa_provider_id", provider_id));
        tags.push(tag("oa_pricing_stage", self.pricing_stage));
        tags.push(tag("oa_availability", if self.available { "available" } else { "unavailable" }));
        tags.push(tag("oa_worker_status", self.worker_status));
        tags.push(tag("oa_heartbeat_state", self.heartbeat_state));
        let caps = self.caps.filter(|caps| !caps.is_null()).map(compact);
        tags.extend(caps.filter(|text| text.len() <= CAPS_BYTES).map(|text| tag("oa_caps", text)));
        let counted = [
            ("oa_price_integrity_samples", self.price_integrity_samples),
            ("oa_price_integrity_violations", self.price_integrity_violations),
            ("oa_price_variance_bps_last", self.price_variance_bps_last),
        ];
        tags.extend(counted.into_iter().filter_map(|(name, value)| Some(tag(name, value?.to_string()))));
        tags.extend(bands.iter().map(|band| tag("oa_pricing_band", band.text())));
        let given = |text: Option<&str>, most| {
            text.map(str::trim).filter(|text| !text.is_empty()).map(|text| cut(text, most))
        };
        let content = json!({
            "name": given(self.name, SHORT).unwrap_or_else(|| NAME.into()),
            "description": given(self.description, LONG).unwrap_or_else(|| DESCRIPTION.into()),
            "icon_url": null,
            "website": given(self.website, LONG),
        });
        Ok(Unsigned { kind: HANDLER, tags, content: compact(&content) })
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad() -> ProviderAd<'static> {
        ProviderAd {
            provider_id: "prov-1",
            pricing_stage: "fixed",
            available: true,
            worker_status: "running",
            heartbeat_state: "fresh",
            ..ProviderAd::default()
        }
    }

    #[test]
    fn an_ad_of_somebody_who_says_little_has_the_specified_defaults() {
        let told = ad().told().expect("told");
        assert_eq!(
            json!(told.tags).to_string(),
            r#"[["handler","compute_provider"],["price","1000","per-job","msats"],["d","openagents:compute_provider:prov-1"],["oa_schema","openagents.bridge.provider_ad.v1"],["oa_provider_id","prov-1"],["oa_pricing_stage","fixed"],["oa_availability","available"],["oa_worker_status","running"],["oa_heartbeat_state","fresh"]]"#
        );
        assert_eq!(
            told.content,
            r#"{"name":"OpenAgents Compute Provider","description":"OpenAgents Compute provider enrolled in Nexus registry","icon_url":null,"website":null}"#
        );
        assert_eq!(told.kind, 31_990);
    }

    #[test]
    fn an_ad_tells_everything_in_the_specified_order() {
        let band = |capability: &str, min_price_msats, max_price_msats| Band {
            capability: capability.into(),
            min_price_msats,
            max_price_msats,
            step_msats: None,
        };
        let caps = json!({"gpu": true});
        let told = ProviderAd {
            name: Some("N"),
            description: Some("D"),
            website: Some("https://n"),
            capabilities: vec!["a", "b"],
            pricing_stage: "banded",
            bands: vec![
                Band { step_msats: Some(5), ..band("a", 700, 900) },
                band(" ", 1, 2),
                band("b", 0, 2),
                band("b", 3, 2),
            ],
            caps: Some(&caps),
            available: false,
            price_integrity_samples: Some(4),
            price_integrity_violations: Some(1),
            price_variance_bps_last: Some(12),
            ..ad()
        };
        assert_eq!(
            json!(told.told().expect("told").tags).to_string(),
            r#"[["handler","compute_provider"],["capability","a"],["capability","b"],["price","700","per-job","msats"],["d","openagents:compute_provider:prov-1"],["oa_schema","openagents.bridge.provider_ad.v1"],["oa_provider_id","prov-1"],["oa_pricing_stage","banded"],["oa_availability","unavailable"],["oa_worker_status","running"],["oa_heartbeat_state","fresh"],["oa_caps","{\"gpu\":true}"],["oa_price_integrity_samples","4"],["oa_price_integrity_violations","1"],["oa_price_variance_bps_last","12"],["oa_pricing_band","{\"capability\":\"a\",\"min_price_msats\":700,\"max_price_msats\":900,\"step_msats\":5}"]]"#
        );
        assert_eq!(
            told.told().expect("told").content,
            r#"{"name":"N","description":"D","icon_url":null,"website":"https://n"}"#
        );
        let priced = ProviderAd { min_price_msats: Some(1_500), ..told }.told().expect("told");
        assert_eq!(priced.tags[3][1], "1500", "what the provider says goes before its bands");
    }

    #[test]
    fn however_much_a_provider_writes_its_ad_fits_into_a_message() {
        let (much, many) = ("é".repeat(60_000), vec!["x"; 10_000]);
        let caps = json!("y".repeat(5_000));
        let told = ProviderAd {
            name: Some(&much),
            description: Some(&much),
            website: Some(&much),
            capabilities: many,
            caps: Some(&caps),
            bands: vec![
                Band {
                    capability: much.clone(),
                    min_price_msats: 1,
                    max_price_msats: 1,
                    step_msats: None
                };
                1_000
            ],
            ..ad()
        };
        let told = told.told().expect("told");
        assert!(json!(told.tags).to_string().len() + told.content.len() < 60_000);
        assert!(!told.tags.iter().any(|tag| tag[0] == "oa_caps"));
    }
}
