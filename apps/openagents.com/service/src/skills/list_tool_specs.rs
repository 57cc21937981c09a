//! Decides what is listed of tools: what is built in and what the caller's organisations have stored.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::SkillsListToolSpecs, wire::skills::ToolSpecList};
use oa_store::tables::skills::Kind;

use super::tool_record;
use crate::Control;

impl Handle<SkillsListToolSpecs> for Control {
    async fn handle(&self, ask: Ask<SkillsListToolSpecs>) -> Result<Answer<ToolSpecList>, Stop> {
        let scope = self.skill_scope(&ask.caller).await?;
        let page = self.list_specs(&scope, Kind::Tool, ask.query).await?;
        let data = page.specs.into_iter().map(tool_record).collect::<Result<_, _>>()?;
        Ok(ToolSpecList { data, next: page.next }.into())
    }
}
