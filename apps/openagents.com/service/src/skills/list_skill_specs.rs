//! Decides what is listed of skills: what is built in and what the caller's organisations have stored.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::SkillsListSkillSpecs, wire::skills::SkillSpecList};
use oa_store::tables::skills::Kind;

use super::skill_record;
use crate::Control;

impl Handle<SkillsListSkillSpecs> for Control {
    async fn handle(&self, ask: Ask<SkillsListSkillSpecs>) -> Result<Answer<SkillSpecList>, Stop> {
        let scope = self.skill_scope(&ask.caller).await?;
        let page = self.list_specs(&scope, Kind::Skill, ask.query).await?;
        let data = page.specs.into_iter().map(skill_record).collect::<Result<_, _>>()?;
        Ok(SkillSpecList { data, next: page.next }.into())
    }
}
