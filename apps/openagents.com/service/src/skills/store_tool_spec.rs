//! Decides how a tool specification is stored: checked in order, then kept for the active organisation.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::SkillsStoreToolSpec, wire::skills::ToolSpecReply};

use super::{check, tool_record};
use crate::{Control, audit};

impl Handle<SkillsStoreToolSpec> for Control {
    async fn handle(&self, ask: Ask<SkillsStoreToolSpec>) -> Result<Answer<ToolSpecReply>, Stop> {
        let scope = self.skill_scope(&ask.caller).await?;
        let spec = self.store_spec(&scope, check::tool(ask.body)?).await?;
        let version = spec.version.to_string();
        let event = audit::Event {
            name: "runtime.skills.tool_spec.upserted",
            user_id: Some(&scope.user_id),
            session_id: Some(&scope.session_id),
            org_id: Some(&spec.org_id),
            attributes: &[("tool_id", &spec.id), ("version", &version), ("state", spec.state.name())],
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, self.clock.now());
        Ok(ToolSpecReply { data: tool_record(spec)? }.into())
    }
}
