//! Decides how the directory of a public release is fetched: to anybody, as the archive whose digest the index
//! shows, or `304`.

use oa_contract::{Answer, Ask, Handle, Stop, Streamed, matrix::SkillsArchive, wire::skills::Gzip};

use super::{artifact::Form, markdown::fetched};
use crate::Control;

impl Handle<SkillsArchive> for Control {
    async fn handle(&self, ask: Ask<SkillsArchive>) -> Result<Answer<Streamed<Gzip>>, Stop> {
        let found = self.public_artifact(&ask.path.skill_id, ask.path.version, Form::Archive).await?;
        Ok(fetched(found, ask.meta.header("if-none-match")))
    }
}
