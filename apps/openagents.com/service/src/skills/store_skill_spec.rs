//! Decides how a skill specification is stored: checked in order, then kept for the active organisation. The tools
//! that it names need not exist before it is published.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::SkillsStoreSkillSpec, wire::skills::SkillSpecReply};

use super::{check, skill_record};
use crate::{Control, audit};

impl Handle<SkillsStoreSkillSpec> for Control {
    async fn handle(&self, ask: Ask<SkillsStoreSkillSpec>) -> Result<Answer<SkillSpecReply>, Stop> {
        let scope = self.skill_scope(&ask.caller).await?;
        let spec = self.store_spec(&scope, check::skill(ask.body)?).await?;
        let version = spec.version.to_string();
        let event = audit::Event {
            name: "runtime.skills.skill_spec.upserted",
            user_id: Some(&scope.user_id),
            session_id: Some(&scope.session_id),
            org_id: Some(&spec.org_id),
            attributes: &[("skill_id", &spec.id), ("version", &version), ("state", spec.state.name())],
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, self.clock.now());
        Ok(SkillSpecReply { data: skill_record(spec)? }.into())
    }
}
