//! Decides what `GET /api/v1/control/status` shows: who the caller is here, how requests are routed, and who owns
//! each `/api/runtime` row (control §8.2).

use std::collections::BTreeMap;

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::ControlStatus as Operation,
    wire::control::{
        ControlStatus, RouteGroup, RouteSplitStatus, RuntimeRoutingStatus, ShadowStatus, StatusReply,
        SyncCutover,
    },
};

use crate::{
    Control,
    config::{RouteSplitConfig, RoutingConfig},
    control::SERVICE_NAME,
    identity::signed_in,
    runtime_ownership::runtime_route_ownership,
};

impl Handle<Operation> for Control {
    async fn handle(&self, ask: Ask<Operation>) -> Result<Answer<StatusReply>, Stop> {
        let standing = self.standing(signed_in(&ask.caller)?).await?;
        let data = ControlStatus {
            service: SERVICE_NAME.into(),
            auth_provider: self.provider.name().into(),
            active_org_id: standing.session.active_org_id,
            memberships: standing.memberships,
            compatibility: self.config.compatibility.clone(),
            route_split: route_split(&self.config.route_split),
            runtime_routing: runtime_routing(&self.config.routing),
            runtime_route_ownership: runtime_route_ownership(),
            sync_cutover: SyncCutover {
                default_transport: "spacetime_ws".into(),
                spacetime_token_route: "/api/spacetime/token".into(),
            },
        };
        Ok(StatusReply { data }.into())
    }
}

/// The groups of the former web shell, their prefixes, and where each goes when it is rolled back (§9.1).
const GROUPS: [(&str, &[&str], &str); 4] = [
    ("auth_entry", &["/login", "/register", "/authenticate", "/onboarding"], "legacy"),
    ("account_settings_admin", &["/account", "/settings", "/admin"], "legacy"),
    ("billing_l402", &["/billing", "/l402"], "legacy"),
    ("chat_pilot", &["/chat", "/feed", "/"], "rust_shell"),
];

fn route_split(config: &RouteSplitConfig) -> RouteSplitStatus {
    let by_domain = |target: fn(&'static str) -> &'static str| {
        GROUPS
            .iter()
            .map(|(domain, _, rollback)| ((*domain).to_owned(), target(rollback).to_owned()))
            .collect()
    };
    RouteSplitStatus {
        enabled: config.enabled,
        mode: config.mode.clone(),
        cohort_percentage: config.cohort_percentage,
        rust_routes: config.rust_routes.clone(),
        force_legacy: config.force_legacy,
        legacy_base_url: config.legacy_base_url.clone(),
        override_target: None,
        route_groups: GROUPS.iter().map(group).collect(),
        rollback_matrix: by_domain(|rollback| rollback),
        domain_overrides: BTreeMap::new(),
        htmx_rollback_matrix: by_domain(|_| "full_page"),
        htmx_domain_overrides: BTreeMap::new(),
    }
}

fn group((domain, prefixes, rollback): &(&str, &[&str], &str)) -> RouteGroup {
    RouteGroup {
        domain: (*domain).to_owned(),
        route_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        rollback_target: (*rollback).to_owned(),
        override_target: None,
        htmx_default_mode: "fragment".into(),
        htmx_rollback_mode: "full_page".into(),
        htmx_override_mode: None,
    }
}

fn runtime_routing(config: &RoutingConfig) -> RuntimeRoutingStatus {
    RuntimeRoutingStatus {
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
        overrides: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn the_status_names_the_caller_the_routing_and_every_owner() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let answer = world.ask_as::<Operation>(session.token.reveal(), Nothing {}).await.expect("a status");
        let data = serde_json::to_value(answer.body).expect("json")["data"].clone();
        assert_eq!(data["service"], "openagents-control-service");
        assert_eq!(data["activeOrgId"], format!("user:{}", session.user_id));
        assert_eq!(data["compatibility"]["maxClientBuildId"], serde_json::Value::Null);
        assert_eq!(data["runtimeRouteOwnership"].as_array().map(Vec::len), Some(22));
        assert_eq!(data["runtimeRouteOwnership"][17]["delivery"], "runtime_proxy");
        assert_eq!(data["runtimeRouteOwnership"][0]["migration_status"], "control_native");
        assert_eq!(data["routeSplit"]["rollback_matrix"]["chat_pilot"], "rust_shell");
        assert_eq!(data["routeSplit"]["htmx_rollback_matrix"]["auth_entry"], "full_page");
        assert_eq!(data["runtimeRouting"]["shadow"]["sample_rate"], 1.0);
        assert!(data["syncCutover"].get("khalaTokenRoute").is_none());
    }
}
