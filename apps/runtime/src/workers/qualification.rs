//! Decides whether a worker may call itself a provider: what it must say, in this order, and whether its
//! health route answers (§14.5, marketplace §4). Asking is an effect, so it happens before any transaction.

use http::StatusCode;
use oa_contract::{Code, Refusal};
use oa_fetch::Fetcher;
use serde::Deserialize;
use serde_json::Value;

use super::metadata::{is_provider, strings};

/// What every provider must be able to do for now.
const REQUIRED_CAPABILITY: &str = "oa.sandbox_run.v1";

/// Checks the metadata of a registration; says whether it is a provider's that has passed.
pub async fn qualify(fetcher: &Fetcher, metadata: &Value) -> Result<bool, Refusal> {
    if !is_provider(metadata) {
        return Ok(false);
    }
    let health = decide(metadata)?;
    probe(fetcher, &health).await?;
    Ok(true)
}

/// What can be told from the metadata alone; answers the URL to ask.
fn decide(metadata: &Value) -> Result<String, Refusal> {
    let base = metadata.get("provider_base_url").and_then(Value::as_str).unwrap_or_default().trim();
    if base.is_empty() {
        return Err(Refusal::invalid("provider_base_url is required for provider role"));
    }
    if base.contains(['?', '#']) {
        // What stands behind it is appended: it would be a part of the query, and any other route would be asked.
        return Err(Refusal::invalid("provider_base_url must have neither a query nor a fragment"));
    }
    if strings(metadata, "capabilities").next().is_none() {
        return Err(Refusal::invalid("capabilities[] is required for provider role"));
    }
    if !strings(metadata, "capabilities").any(|one| one == REQUIRED_CAPABILITY) {
        let message = format!("provider must advertise capability {REQUIRED_CAPABILITY} for Phase 0");
        return Err(Refusal::invalid(message));
    }
    check_pricing(metadata)?;
    Ok(format!("{}/healthz", base.trim_end_matches('/')))
}

async fn probe(fetcher: &Fetcher, url: &str) -> Result<(), Refusal> {
    let answer = fetcher.get(url).await;
    let status = answer
        .map_err(|error| Refusal::invalid(format!("provider health check failed ({url}): {error}")))?
        .status;
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(Refusal::invalid(format!("provider health check returned {status} ({url})"))),
        Err(_) => Err(Refusal::invalid(format!("provider health check returned {status} ({url})"))),
    }
}

/// Whether a patch says something about prices.
pub fn touches_pricing(patch: &Value) -> bool {
    patch.get("pricing_stage").is_some() || patch.get("pricing_bands").is_some()
}

/// Checks prices again after a patch has been laid over the stored metadata of a worker.
pub fn recheck_pricing(merged: &Value) -> Result<(), Refusal> {
    if !merged.is_object() {
        return Err(Refusal::new(Code::Internal, "worker metadata must be a JSON object"));
    }
    match is_provider(merged) {
        true => check_pricing(merged),
        false => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fixed,
    Banded,
    Bidding,
}

/// Anything unknown is a fixed price.
fn stage(metadata: &Value) -> Stage {
    let said = metadata.get("pricing_stage").and_then(Value::as_str).unwrap_or_default();
    match said.trim().to_ascii_lowercase().as_str() {
        "banded" => Stage::Banded,
        "bidding" => Stage::Bidding,
        _ => Stage::Fixed,
    }
}

#[derive(Deserialize)]
struct Band {
    capability: String,
    min_price_msats: u64,
    max_price_msats: u64,
    #[serde(default)]
    step_msats: Option<u64>,
}

fn check_pricing(metadata: &Value) -> Result<(), Refusal> {
    match stage(metadata) {
        Stage::Fixed => return Ok(()),
        Stage::Bidding => {
            return Err(Refusal::invalid("pricing_stage Bidding is not enabled in this deployment"));
        }
        Stage::Banded => {}
    }
    let said = metadata.get("pricing_bands").and_then(Value::as_array).filter(|bands| !bands.is_empty());
    let said =
        said.ok_or_else(|| Refusal::invalid("pricing_bands[] is required when pricing_stage=banded"))?;
    let bands: Result<Vec<Band>, _> = said.iter().map(Band::deserialize).collect();
    let bands = bands.map_err(|error| Refusal::invalid(format!("invalid pricing_bands: {error}")))?;
    bands.iter().enumerate().try_for_each(|(at, band)| check_band(metadata, at, band))
}

fn check_band(metadata: &Value, at: usize, band: &Band) -> Result<(), Refusal> {
    let wrong = |what: String| Err(Refusal::invalid(format!("pricing_bands[{at}].{what}")));
    if band.capability.trim().is_empty() {
        return wrong("capability is required".into());
    }
    if !strings(metadata, "capabilities").any(|one| one == band.capability) {
        return wrong(format!("capability {} is not in capabilities[]", band.capability));
    }
    if band.min_price_msats == 0 {
        return wrong("min_price_msats must be > 0".into());
    }
    if band.max_price_msats < band.min_price_msats {
        return wrong("max_price_msats must be >= min_price_msats".into());
    }
    if band.step_msats == Some(0) {
        return wrong("step_msats must be > 0".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oa_fetch::Policy;
    use serde_json::json;

    use super::*;
    use crate::testing::HealthRoute;

    fn provider(more: Value) -> Value {
        let mut metadata = json!({
            "roles": ["client", "provider"], "provider_base_url": " http://p.example/x// ", "capabilities": ["oa.sandbox_run.v1", "b"],
        });
        super::super::metadata::merge(&mut metadata, &more);
        metadata
    }

    fn said(more: Value) -> String {
        decide(&provider(more)).expect_err("a refusal").message
    }

    #[test]
    fn each_check_has_its_message_and_the_first_that_fails_speaks() {
        assert_eq!(
            said(json!({"provider_base_url": "  ", "capabilities": []})),
            "provider_base_url is required for provider role"
        );
        assert_eq!(said(json!({"provider_base_url": 7})), "provider_base_url is required for provider role");
        for capabilities in [json!([]), json!([1]), json!("oa.sandbox_run.v1"), Value::Null] {
            assert_eq!(
                said(json!({"capabilities": capabilities, "pricing_stage": "bidding"})),
                "capabilities[] is required for provider role"
            );
        }
        assert_eq!(
            said(json!({"capabilities": ["b"], "pricing_stage": "bidding"})),
            "provider must advertise capability oa.sandbox_run.v1 for Phase 0"
        );
        assert_eq!(
            said(json!({"pricing_stage": " BIDDING "})),
            "pricing_stage Bidding is not enabled in this deployment"
        );
    }

    #[test]
    fn bands_are_checked_one_by_one() {
        let banded = |bands: Value| said(json!({"pricing_stage": "banded", "pricing_bands": bands}));
        for none in [json!([]), json!({}), Value::Null] {
            assert_eq!(banded(none), "pricing_bands[] is required when pricing_stage=banded");
        }
        assert!(banded(json!([{"capability": "b"}])).starts_with("invalid pricing_bands: missing field"));
        let good = json!({"capability": "b", "min_price_msats": 1, "max_price_msats": 1});
        let second = |more: Value| {
            let mut band = good.clone();
            super::super::metadata::merge(&mut band, &more);
            banded(json!([good, band]))
        };
        assert_eq!(second(json!({"capability": " "})), "pricing_bands[1].capability is required");
        assert_eq!(
            second(json!({"capability": "c"})),
            "pricing_bands[1].capability c is not in capabilities[]"
        );
        assert_eq!(second(json!({"min_price_msats": 0})), "pricing_bands[1].min_price_msats must be > 0");
        assert_eq!(
            second(json!({"min_price_msats": 2})),
            "pricing_bands[1].max_price_msats must be >= min_price_msats"
        );
        assert_eq!(second(json!({"step_msats": 0})), "pricing_bands[1].step_msats must be > 0");
        assert!(decide(&provider(json!({"pricing_stage": "banded", "pricing_bands": [good]}))).is_ok());
        assert!(decide(&provider(json!({"pricing_stage": "unheard of"}))).is_ok());
    }

    #[test]
    fn the_health_route_stands_behind_the_base_without_its_slashes() {
        assert_eq!(decide(&provider(json!({}))).expect("a URL"), "http://p.example/x/healthz");
    }

    #[tokio::test]
    async fn only_a_healthy_provider_qualifies_and_nobody_else_is_asked() {
        let fetcher =
            Fetcher::new(Policy { allow_private_networks: true, ..Policy::default() }).expect("a client");
        let well = HealthRoute::answering(204).await;
        assert_eq!(qualify(&fetcher, &provider(json!({"provider_base_url": well.base()}))).await, Ok(true));
        let ill = HealthRoute::answering(503).await;
        let refused = qualify(&fetcher, &provider(json!({"provider_base_url": ill.base()})))
            .await
            .expect_err("refused");
        assert_eq!(
            refused.message,
            format!("provider health check returned 503 Service Unavailable ({}/healthz)", ill.base())
        );
        let client = json!({"roles": ["client"], "provider_base_url": ill.base()});
        assert_eq!(qualify(&fetcher, &client).await, Ok(false));
        assert_eq!(ill.asked(), 1);
    }

    #[tokio::test]
    async fn a_private_address_is_not_asked_unless_the_configuration_allows_it() {
        let fetcher = Fetcher::new(Policy::default()).expect("a client");
        let well = HealthRoute::answering(200).await;
        let refused = qualify(&fetcher, &provider(json!({"provider_base_url": well.base()})))
            .await
            .expect_err("refused");
        let said = format!(
            "provider health check failed ({}/healthz): 127.0.0.1 is not a public address",
            well.base()
        );
        assert!(refused.message.starts_with(&said), "{}", refused.message);
        assert_eq!(well.asked(), 0);
    }
}
