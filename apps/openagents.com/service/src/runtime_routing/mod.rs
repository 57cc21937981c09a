//! Decides how the drivers of threads are chosen: what is configured, what overrides it, and how both are shown
//! (control §9.2).

pub(crate) mod decide;
mod evaluate;
mod set_override;
mod status;

use oa_contract::{
    Fault, Stop,
    wire::control::{DriverOverride, RuntimeRoutingStatus, ShadowStatus},
};
use oa_store::{
    Tx,
    tables::routing::{self as rows, DriverOverride as Kept},
};

use crate::{Control, config::RoutingConfig};

/// Overrides that are shown, at most.
const SHOWN: u32 = 1_000;

impl Control {
    pub(crate) async fn runtime_routing_status(&self) -> Result<RuntimeRoutingStatus, Stop> {
        let kept = self.store.read("runtime_routing_overrides", (), overrides).await?;
        Ok(show(&self.config.routing, kept)?)
    }
}

pub(crate) async fn overrides(tx: &mut Tx, (): &()) -> Result<Vec<Kept>, Stop> {
    rows::drivers(tx, SHOWN).await
}

pub(crate) fn show(config: &RoutingConfig, overrides: Vec<Kept>) -> Result<RuntimeRoutingStatus, Fault> {
    Ok(RuntimeRoutingStatus {
        default_driver: config.default_driver.into(),
        forced_driver: config.forced_driver.map(str::to_owned),
        force_control_service: config.force_control_service,
        overrides_enabled: config.overrides_enabled,
        canary_user_percent: config.canary_user_percent,
        canary_autopilot_percent: config.canary_autopilot_percent,
        shadow: ShadowStatus {
            enabled: config.shadow_enabled,
            sample_rate: config.shadow_sample_rate,
            max_capture_bytes: config.shadow_max_capture_bytes,
        },
        overrides: overrides.into_iter().map(show_override).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn show_override(kept: Kept) -> Result<DriverOverride, Fault> {
    let meta = kept.meta.as_deref().map(serde_json::from_str).transpose();
    Ok(DriverOverride {
        id: kept.override_id,
        scope_type: kept.scope_type,
        scope_id: kept.scope_id,
        driver: kept.driver,
        is_active: kept.is_active,
        reason: kept.reason,
        meta: meta.map_err(|error| Fault::new("reading what was noted with an override", error))?,
        created_at: kept.created_at.zulu(),
        updated_at: kept.updated_at.zulu(),
    })
}
