//! Decides how the `SKILL.md` of a public release is fetched: to anybody, byte for byte, or `304`.

use oa_contract::{
    Answer, Ask, Handle, Stop, Streamed, matrix::SkillsMarkdown, operation::Media, wire::skills::Markdown,
};

use super::{artifact::Form, index::CACHING, public::Fetched};
use crate::{Control, status::matches};

impl Handle<SkillsMarkdown> for Control {
    async fn handle(&self, ask: Ask<SkillsMarkdown>) -> Result<Answer<Streamed<Markdown>>, Stop> {
        let found = self.public_artifact(&ask.path.skill_id, ask.path.version, Form::Markdown).await?;
        Ok(fetched(found, ask.meta.header("if-none-match")))
    }
}

/// The bytes, unless the caller has them already.
pub(super) fn fetched<M: Media>(found: Fetched, known: Option<&str>) -> Answer<Streamed<M>> {
    let known = known.is_some_and(|tags| matches(tags, &found.etag));
    let answer = match known {
        true => Answer::new(Streamed::whole(Vec::new())).with_status(304),
        false => Answer::new(Streamed::whole(found.bytes)),
    };
    answer
        .with_header("etag", found.etag)
        .with_header("cache-control", CACHING)
        .with_header("access-control-allow-origin", "*")
        .with_header("x-content-type-options", "nosniff")
}
