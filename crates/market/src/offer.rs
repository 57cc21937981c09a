//! Decides what a provider offers: what its metadata says, as far as that is its own to say, and what the service
//! knows of it (marketplace §4.1, §4.3).

use oa_contract::{
    Owner, Timestamp,
    wire::{
        marketplace::{CatalogEntry, PricingBand, PricingStage, SupplyClass, Tier},
        workers::{HeartbeatState, WorkerOwner, WorkerStatus},
    },
};
use serde_json::Value;

const SCHEMA: &str = "openagents.marketplace.provider_catalog.v1";

/// What the service knows of a worker; nothing of it is the worker's to say.
#[derive(Clone, Debug)]
pub struct Standing {
    pub worker_id: String,
    pub owner: Owner,
    pub adapter: String,
    pub status: WorkerStatus,
    pub last_heartbeat_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// The worker's own numbering of its changes.
    pub latest_seq: u64,
    pub failure_strikes: u64,
    pub success_count: u64,
    pub quarantine: Option<Option<String>>,
    pub price_integrity_samples: u64,
    pub price_integrity_violations: u64,
    pub last_price_variance_bps: Option<u64>,
    /// An operator has put it into the reserve pool.
    pub reserve_pool: bool,
    /// What it says of itself is what was checked.
    pub qualified: bool,
}

/// What a provider can do at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    pub max_timeout_secs: u64,
    pub max_memory_mb: Option<u64>,
    pub max_cpus: Option<f64>,
    pub max_disk_mb: Option<u64>,
    /// Jobs at one time.
    pub max_jobs: Option<u64>,
}

/// A provider, as it stands until its worker changes.
#[derive(Clone, Debug)]
pub struct Offer {
    pub standing: Standing,
    pub provider_id: String,
    pub supply_class: SupplyClass,
    pub cluster_id: Option<String>,
    pub cluster_members: Vec<String>,
    pub roles: Vec<String>,
    pub base_url: Option<String>,
    /// Whose invoices it is paid by, 66 hex digits.
    pub lightning_node_id: Option<String>,
    pub capabilities: Vec<String>,
    pub min_price_msats: Option<u64>,
    pub pricing_stage: PricingStage,
    pub pricing_bands: Vec<PricingBand>,
    pub tier: Tier,
    pub caps: Caps,
}

impl Offer {
    /// None when the worker is no provider.
    pub fn read(standing: Standing, metadata: &Value) -> Option<Self> {
        let roles = strings(metadata, "roles");
        if !roles.iter().any(|role| role == "provider") {
            return None;
        }
        let pricing_bands = bands(metadata);
        let smallest = pricing_bands.iter().map(|band| band.min_price_msats).min();
        Some(Offer {
            provider_id: text(metadata, "provider_id").unwrap_or_else(|| standing.worker_id.clone()),
            supply_class: supply_class(&standing, metadata),
            cluster_id: text(metadata, "cluster_id"),
            cluster_members: strings(metadata, "cluster_members"),
            base_url: text(metadata, "provider_base_url"),
            lightning_node_id: text(metadata, "lightning_node_id").and_then(|id| node_id(&id)),
            capabilities: strings(metadata, "capabilities"),
            min_price_msats: metadata.get("min_price_msats").and_then(Value::as_u64).or(smallest),
            pricing_stage: stage(metadata),
            pricing_bands,
            tier: tier(&standing),
            caps: caps(metadata),
            roles,
            standing,
        })
    }

    pub fn is_quarantined(&self) -> bool {
        self.standing.quarantine.is_some()
    }

    /// Where it is reached, without slashes at the end.
    pub fn base(&self) -> Option<&str> {
        let base = self.base_url.as_deref()?.trim().trim_end_matches('/');
        (!base.is_empty()).then_some(base)
    }

    /// How alive it is at this moment.
    pub fn liveness(&self, now: Timestamp, stale_after_ms: i64) -> (HeartbeatState, Option<i64>) {
        let age = self.standing.last_heartbeat_at.map(|at| now.millis_since(at).max(0));
        let state = match (self.standing.status, age) {
            (WorkerStatus::Stopped, _) => HeartbeatState::Stopped,
            (WorkerStatus::Failed, _) => HeartbeatState::Failed,
            (_, None) => HeartbeatState::Missing,
            (_, Some(age)) if age > stale_after_ms => HeartbeatState::Stale,
            (_, Some(_)) => HeartbeatState::Fresh,
        };
        (state, age)
    }

    /// The offer as the catalogue shows it.
    pub fn entry(&self, now: Timestamp, stale_after_ms: i64) -> CatalogEntry {
        let standing = &self.standing;
        let (heartbeat_state, heartbeat_age_ms) = self.liveness(now, stale_after_ms);
        CatalogEntry {
            schema: SCHEMA.into(),
            provider_id: self.provider_id.clone(),
            worker_id: standing.worker_id.clone(),
            adapter: standing.adapter.clone(),
            owner: WorkerOwner {
                user_id: standing.owner.user_id(),
                guest_scope: standing.owner.guest_scope().map(str::to_owned),
            },
            status: standing.status,
            heartbeat_state,
            heartbeat_age_ms,
            supply_class: self.supply_class,
            cluster_id: self.cluster_id.clone(),
            cluster_members: self.cluster_members.clone(),
            reserve_pool: standing.reserve_pool,
            quarantined: self.is_quarantined(),
            quarantine_reason: standing.quarantine.clone().flatten(),
            roles: self.roles.clone(),
            base_url: self.base_url.clone(),
            capabilities: self.capabilities.clone(),
            min_price_msats: self.min_price_msats,
            pricing_stage: self.pricing_stage,
            pricing_bands: self.pricing_bands.clone(),
            tier: self.tier,
            failure_strikes: standing.failure_strikes,
            success_count: standing.success_count,
            price_integrity_samples: standing.price_integrity_samples,
            price_integrity_violations: standing.price_integrity_violations,
            last_price_variance_bps: standing.last_price_variance_bps,
            updated_at: standing.updated_at,
        }
    }
}

/// A compressed public key in lower case.
fn node_id(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    let fits = id.len() == 66 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (fits && (id.starts_with("02") || id.starts_with("03"))).then_some(id)
}

/// Whether metadata asks for a place in the reserve pool, or says that there is none; nothing when it is silent.
pub fn claims_reserve(metadata: &Value) -> Option<bool> {
    let class = metadata.get("supply_class").and_then(Value::as_str).map(str::trim);
    let role = strings(metadata, "roles").iter().any(|role| role == "reserve_pool");
    match metadata.get("reserve_pool").and_then(Value::as_bool) {
        _ if role || class == Some("reserve_pool") => Some(true),
        said => said,
    }
}

/// §4.3, but that only an operator makes somebody a part of the reserve pool.
fn supply_class(standing: &Standing, metadata: &Value) -> SupplyClass {
    if standing.reserve_pool {
        return SupplyClass::ReservePool;
    }
    match metadata.get("supply_class").and_then(Value::as_str).map(str::trim) {
        Some("single_node") => return SupplyClass::SingleNode,
        Some("local_cluster") => return SupplyClass::LocalCluster,
        Some("bundle_rack") => return SupplyClass::BundleRack,
        Some("instance_market") => return SupplyClass::InstanceMarket,
        _ => {}
    }
    let adapter = standing.adapter.to_lowercase();
    let said = |member: &str| metadata.get(member).and_then(Value::as_bool) == Some(true);
    if adapter.contains("bundle_rack") {
        SupplyClass::BundleRack
    } else if adapter.contains("instance_market") {
        SupplyClass::InstanceMarket
    } else if said("local_cluster") {
        SupplyClass::LocalCluster
    } else if said("bundle_rack") {
        SupplyClass::BundleRack
    } else if said("instance_market") {
        SupplyClass::InstanceMarket
    } else {
        SupplyClass::SingleNode
    }
}

fn tier(standing: &Standing) -> Tier {
    match (standing.failure_strikes, standing.success_count) {
        (2.., _) => Tier::Provisional,
        (0, 5..) => Tier::Preferred,
        _ => Tier::Qualified,
    }
}

fn stage(metadata: &Value) -> PricingStage {
    let said = metadata.get("pricing_stage").and_then(Value::as_str).unwrap_or_default();
    match said.trim().to_ascii_lowercase().as_str() {
        "banded" => PricingStage::Banded,
        "bidding" => PricingStage::Bidding,
        _ => PricingStage::Fixed,
    }
}

/// Dropped whole when one of them cannot be read; those that make no sense are dropped one by one.
fn bands(metadata: &Value) -> Vec<PricingBand> {
    let said = metadata.get("pricing_bands").cloned().unwrap_or_default();
    let read: Vec<PricingBand> = serde_json::from_value(said).unwrap_or_default();
    let sound = |band: &PricingBand| {
        !band.capability.trim().is_empty()
            && band.min_price_msats > 0
            && band.max_price_msats >= band.min_price_msats
    };
    read.into_iter().filter(sound).collect()
}

fn caps(metadata: &Value) -> Caps {
    let said = |member: &str| metadata.get("caps").and_then(|caps| caps.get(member));
    Caps {
        max_timeout_secs: said("max_timeout_secs").and_then(Value::as_u64).unwrap_or(60).clamp(1, 3600),
        max_memory_mb: said("max_memory_mb").and_then(Value::as_u64),
        max_cpus: said("max_cpus").and_then(Value::as_f64),
        max_disk_mb: said("max_disk_mb").and_then(Value::as_u64),
        max_jobs: said("max_jobs").and_then(Value::as_u64),
    }
}

fn text(metadata: &Value, member: &str) -> Option<String> {
    metadata.get(member).and_then(Value::as_str).map(str::to_owned)
}

fn strings(metadata: &Value, member: &str) -> Vec<String> {
    let items = metadata.get(member).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

    pub(crate) fn standing(worker_id: &str, owner: u64) -> Standing {
        Standing {
            worker_id: worker_id.into(),
            owner: Owner::User(owner),
            adapter: "in_memory".into(),
            status: WorkerStatus::Running,
            last_heartbeat_at: Some(NOW),
            updated_at: NOW,
            latest_seq: 1,
            failure_strikes: 0,
            success_count: 0,
            quarantine: None,
            price_integrity_samples: 0,
            price_integrity_violations: 0,
            last_price_variance_bps: None,
            reserve_pool: false,
            qualified: true,
        }
    }

    pub(crate) fn offer(standing: Standing, more: Value) -> Offer {
        let mut metadata = json!({
            "roles": ["provider"], "provider_base_url": "http://p.example", "capabilities": ["oa.sandbox_run.v1"],
        });
        for (key, value) in more.as_object().expect("an object") {
            metadata[key] = value.clone();
        }
        Offer::read(standing, &metadata).expect("a provider")
    }

    #[test]
    fn only_a_provider_offers_anything() {
        assert!(Offer::read(standing("w", 1), &json!({"roles": ["client"]})).is_none());
        assert!(Offer::read(standing("w", 1), &json!(null)).is_none());
    }

    #[test]
    fn a_supply_class_is_said_or_told_from_the_adapter() {
        let class = |adapter: &str, more: Value| {
            offer(Standing { adapter: adapter.into(), ..standing("w", 1) }, more).supply_class
        };
        use SupplyClass::*;
        for (adapter, more, expected) in [
            ("x", json!({}), SingleNode),
            ("x", json!({"supply_class": " local_cluster "}), LocalCluster),
            ("x", json!({"supply_class": "Local_Cluster"}), SingleNode),
            ("Bundle_Rack_Adapter", json!({}), BundleRack),
            ("instance_market_adapter", json!({}), InstanceMarket),
            ("bundle_rack", json!({"supply_class": "single_node"}), SingleNode),
            ("x", json!({"instance_market": true, "bundle_rack": true}), BundleRack),
            ("x", json!({"local_cluster": true}), LocalCluster),
        ] {
            assert_eq!(class(adapter, more.clone()), expected, "{adapter} {more}");
        }
    }

    #[test]
    fn nobody_enters_the_reserve_pool_by_saying_so() {
        for more in [
            json!({"reserve_pool": true}),
            json!({"roles": ["provider", "reserve_pool"]}),
            json!({"supply_class": "reserve_pool"}),
        ] {
            assert_eq!(claims_reserve(&more), Some(true));
            let said = offer(standing("w", 1), more);
            assert_eq!((said.supply_class, said.standing.reserve_pool), (SupplyClass::SingleNode, false));
        }
        let member = offer(
            Standing { reserve_pool: true, ..standing("w", 1) },
            json!({"supply_class": "bundle_rack"}),
        );
        assert_eq!(member.supply_class, SupplyClass::ReservePool);
        assert_eq!(claims_reserve(&json!({"reserve_pool": false})), Some(false));
        assert_eq!(claims_reserve(&json!({"reserve_pool": 1})), None);
    }

    #[test]
    fn a_tier_is_earned_and_not_said() {
        let tier = |failure_strikes, success_count| {
            let standing = Standing { failure_strikes, success_count, ..standing("w", 1) };
            offer(standing, json!({"tier": "preferred"})).tier
        };
        assert_eq!(
            [tier(0, 4), tier(0, 5), tier(1, 9), tier(2, 9)],
            [Tier::Qualified, Tier::Preferred, Tier::Qualified, Tier::Provisional]
        );
    }

    #[test]
    fn bands_that_make_no_sense_are_dropped_and_unreadable_ones_drop_all() {
        let bands = |bands: Value| {
            let offer = offer(standing("w", 1), json!({"pricing_bands": bands}));
            (offer.pricing_bands.len(), offer.min_price_msats)
        };
        let band = |capability: &str, min: u64, max: u64| json!({"capability": capability, "min_price_msats": min, "max_price_msats": max});
        assert_eq!(
            bands(json!([band("a", 7, 9), band(" ", 1, 2), band("b", 0, 2), band("c", 3, 2)])),
            (1, Some(7))
        );
        assert_eq!(bands(json!([band("a", 7, 9), {"capability": "b"}])), (0, None));
        assert_eq!(bands(json!({})), (0, None));
    }

    #[test]
    fn an_entry_has_the_members_of_the_specification_in_their_order() {
        let standing = Standing { owner: Owner::User(11), ..standing("desktop:basement", 11) };
        let more = json!({
            "roles": ["client", "provider"], "provider_id": "prov-basement", "provider_base_url": "http://10.0.0.7:9400",
            "min_price_msats": 1000,
        });
        let entry = offer(standing, more).entry(NOW.plus_millis(812), 120_000);
        let at = NOW;
        assert_eq!(
            serde_json::to_string(&entry).expect("JSON"),
            format!(
                r#"{{"schema":"openagents.marketplace.provider_catalog.v1","provider_id":"prov-basement","worker_id":"desktop:basement","adapter":"in_memory","owner":{{"user_id":11,"guest_scope":null}},"status":"running","heartbeat_state":"fresh","heartbeat_age_ms":812,"supply_class":"single_node","reserve_pool":false,"quarantined":false,"roles":["client","provider"],"base_url":"http://10.0.0.7:9400","capabilities":["oa.sandbox_run.v1"],"min_price_msats":1000,"pricing_stage":"fixed","tier":"qualified","failure_strikes":0,"success_count":0,"price_integrity_samples":0,"price_integrity_violations":0,"updated_at":"{at}"}}"#
            )
        );
    }

    #[test]
    fn caps_have_a_default_and_bounds() {
        let timeout = |caps: Value| offer(standing("w", 1), json!({"caps": caps})).caps.max_timeout_secs;
        assert_eq!(
            [
                timeout(json!({})),
                timeout(json!({"max_timeout_secs": 0})),
                timeout(json!({"max_timeout_secs": 9999}))
            ],
            [60, 1, 3600]
        );
    }
}
