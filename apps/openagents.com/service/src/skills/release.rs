//! Decides which releases a caller sees: those of their organisations, and those that everybody sees.

use oa_contract::{
    Answer, Ask, Fault, Handle, Stop,
    bundle::{FORMAT, release_id},
    canonical::hex,
    matrix::SkillsRelease,
    wire::skills::{SkillBundle, SkillRelease, SkillReleaseReply},
};
use oa_store::{
    Tx,
    tables::skills::{self as rows, Release},
};

use super::{not_found, public::public_release, raw};
use crate::Control;

struct Wish {
    orgs: Vec<String>,
    key: String,
    version: u64,
}

impl Handle<SkillsRelease> for Control {
    async fn handle(&self, ask: Ask<SkillsRelease>) -> Result<Answer<SkillReleaseReply>, Stop> {
        let scope = self.skill_scope(&ask.caller).await?;
        let key = ask.path.skill_id.trim().to_lowercase();
        let wish = Wish { orgs: scope.orgs, key, version: ask.path.version };
        let release = self.store.read("skills_release", wish, find).await?.ok_or_else(not_found)?;
        Ok(SkillReleaseReply { data: answered(release, ask.path.skill_id)? }.into())
    }
}

async fn find(tx: &mut Tx, wish: &Wish) -> Result<Option<Release>, Stop> {
    for org_id in &wish.orgs {
        if let Some(release) = rows::release(tx, org_id, &wish.key, wish.version).await? {
            return Ok(Some(release));
        }
    }
    public_release(tx, &wish.key, wish.version).await
}

/// A release on the wire; the id is that of the path.
pub(super) fn answered(release: Release, skill_id: String) -> Result<SkillRelease, Fault> {
    let bundle_hash = hex(&release.bundle_hash);
    let signature = release.signature.map(|text| serde_json::from_str(&text)).transpose();
    Ok(SkillRelease {
        release_id: release_id(&bundle_hash),
        skill_id,
        version: release.version,
        bundle_hash,
        published_at: release.published_at.zulu_seconds(),
        bundle: SkillBundle { bundle_format: FORMAT.to_owned(), skill_spec: raw(release.text)? },
        org_id: release.org_id,
        signature: signature.map_err(|error| Fault::new("reading a kept signature", error))?,
    })
}
