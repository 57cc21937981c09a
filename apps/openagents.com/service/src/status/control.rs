//! Decides what `GET /api/v1/control/status` shows: who the caller is here, how requests are routed, and who owns
//! each `/api/runtime` row (control §8.2).

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::ControlStatus as Operation,
    wire::control::{ControlStatus, StatusReply, SyncCutover},
};

use crate::{
    Control, control::SERVICE_NAME, identity::signed_in, runtime_ownership::runtime_route_ownership,
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
            route_split: self.route_split_status().await?,
            runtime_routing: self.runtime_routing_status().await?,
            runtime_route_ownership: runtime_route_ownership(),
            sync_cutover: SyncCutover {
                default_transport: "spacetime_ws".into(),
                spacetime_token_route: "/api/spacetime/token".into(),
            },
        };
        Ok(StatusReply { data }.into())
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
