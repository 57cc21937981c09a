//! Decides what agents discover (Agent Skills Discovery 0.2.0): what is built in, and of each public name its newest
//! version, with the digest of what is fetched at its address.

use oa_contract::{
    Answer, Ask, Fault, Handle, Stop,
    canonical::hex,
    matrix::SkillsIndex,
    operation::Cacheable,
    wire::skills::{self as wire, PublicSkill},
};
use oa_store::{
    Tx,
    tables::skills::{self as rows, Kind, PublicName},
};
use sha2::{Digest, Sha256};

use super::{artifact::Form, builtin, public::shown};
use crate::{Control, status::matches};

/// Names that one answer holds.
const MOST: usize = 1_000;
/// The digest changes with the content; a client asks again this often.
pub(super) const CACHING: &str = "public, max-age=300";

impl Handle<SkillsIndex> for Control {
    async fn handle(&self, ask: Ask<SkillsIndex>) -> Result<Answer<Cacheable<wire::SkillsIndex>>, Stop> {
        let after = ask.query.after.unwrap_or_default();
        let names = self.store.read("skills_index", (after.clone(),), names_after).await?;
        let (skills, next) = page(names, &after)?;
        let index = wire::SkillsIndex {
            schema: "https://schemas.agentskills.io/discovery/0.2.0/schema.json".to_owned(),
            skills,
            next,
            registry_pubkey: self.signer.as_ref().map(|signer| signer.public_key_hex()),
        };
        let text = serde_json::to_vec(&index).map_err(|error| Fault::new("writing the index", error))?;
        let etag = format!("\"{}\"", hex(&Sha256::digest(&text)));
        let known = ask.meta.header("if-none-match").is_some_and(|tags| matches(tags, &etag));
        let answer = match known {
            true => Answer::new(Cacheable::Unchanged).with_status(304),
            false => Answer::new(Cacheable::Fresh(index)),
        };
        Ok(answer
            .with_header("etag", etag)
            .with_header("cache-control", CACHING)
            .with_header("access-control-allow-origin", "*"))
    }
}

async fn names_after(tx: &mut Tx, (after,): &(String,)) -> Result<Vec<PublicName>, Stop> {
    if after.contains('\0') {
        return Ok(Vec::new());
    }
    rows::list_public(tx, after, MOST as u32).await
}

/// What is shown of these names, ascending, and the name after which the rest comes.
fn page(names: Vec<PublicName>, after: &str) -> Result<(Vec<PublicSkill>, Option<String>), Fault> {
    let next = names.get(MOST - 1).map(|last| last.name.clone());
    let mut shown_names = names;
    for spec in builtin::of_kind(Kind::Skill) {
        let here = spec.key.as_str() > after && next.as_deref().is_none_or(|next| spec.key.as_str() <= next);
        if here {
            shown_names.push(shown(&spec.key, "", spec.version, &spec.text)?);
        }
    }
    shown_names.sort_by(|a, b| a.name.cmp(&b.name));
    let skills = shown_names.into_iter().filter_map(skill).collect();
    Ok((skills, next))
}

/// A name without a public version left is kept for its organisation, and not shown.
fn skill(public: PublicName) -> Option<PublicSkill> {
    let (version, form) = (public.version?, Form::from_name(&public.artifact)?);
    Some(PublicSkill {
        url: format!("/.well-known/agent-skills/{}/{version}/{}", public.name, form.file()),
        name: public.name,
        kind: public.artifact,
        description: public.description,
        digest: format!("sha256:{}", hex(&public.digest)),
        version,
    })
}
