//! Decides what everybody sees: a name belongs to the organisation that published under it first, and shows its
//! newest public version that is not deprecated.

use oa_contract::{Fault, Refusal, Stop, bundle::is_skill_name};
use oa_store::{
    Tx,
    tables::skills::{self as rows, Kind, PublicName, Spec},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    artifact::{self, Form},
    builtin, not_found,
};
use crate::Control;

/// How long a description may be.
const MAX_DESCRIPTION: usize = 1024;

/// Whether a specification asks to be seen by everybody: `visibility` or `metadata.visibility` is `public`.
pub(super) fn is_asked(spec: &Value) -> bool {
    spec["visibility"] == "public" || spec["metadata"]["visibility"] == "public"
}

/// Takes the name for an organisation, if it is free or its own already.
pub(super) async fn claim(tx: &mut Tx, org_id: &str, spec: &Spec, value: &Value) -> Result<(), Stop> {
    check(spec, value)?;
    match rows::public(tx, &spec.key).await? {
        Some(taken) if taken.org_id != org_id => Err(name_taken(&spec.key).into()),
        Some(_) => Ok(()),
        None => {
            let empty = PublicName {
                name: spec.key.clone(),
                org_id: org_id.to_owned(),
                version: None,
                artifact: Form::Markdown.name().to_owned(),
                description: String::new(),
                digest: [0; 32],
            };
            rows::put_public(tx, &empty).await
        }
    }
}

fn name_taken(name: &str) -> Refusal {
    Refusal::conflict(format!(
        "another organisation publishes under the name `{name}`; choose another id, or leave out the public visibility"
    ))
}

/// What a skill must have before everybody can see it (the Agent Skills format).
fn check(spec: &Spec, value: &Value) -> Result<(), Refusal> {
    if !is_skill_name(&spec.id) {
        return Err(Refusal::field(
            "skill_spec.skill_id",
            "The skill_spec.skill_id of a public skill must be 1 to 64 of a-z, 0-9 and single hyphens between them.",
        ));
    }
    let length = value["description"].as_str().map_or(0, |text| text.trim().chars().count());
    if !(1..=MAX_DESCRIPTION).contains(&length) {
        return Err(Refusal::field(
            "skill_spec.description",
            format!(
                "The skill_spec.description of a public skill must have 1 to {MAX_DESCRIPTION} characters."
            ),
        ));
    }
    match builtin::is_reserved(&spec.key) {
        true => Err(name_taken(&spec.key)),
        false => Ok(()),
    }
}

/// Brings what everybody sees under a name up to date, if the organisation has one of that name.
pub(super) async fn refresh(tx: &mut Tx, org_id: &str, key: &str) -> Result<(), Stop> {
    let Some(known) = rows::public(tx, key).await?.filter(|known| known.org_id == org_id) else {
        return Ok(());
    };
    let shown = match rows::newest_public(tx, org_id, key).await? {
        Some(release) => shown(key, org_id, release.version, &release.text)?,
        None => PublicName { version: None, ..known },
    };
    rows::put_public(tx, &shown).await
}

/// A version as everybody sees it.
pub(super) fn shown(name: &str, org_id: &str, version: u64, text: &str) -> Result<PublicName, Fault> {
    let spec = read(text)?;
    let (form, bytes) = artifact::offered(&spec)?;
    Ok(PublicName {
        name: name.to_owned(),
        org_id: org_id.to_owned(),
        version: Some(version),
        artifact: form.name().to_owned(),
        description: spec["description"].as_str().unwrap_or_default().trim().to_owned(),
        digest: Sha256::digest(&bytes).into(),
    })
}

pub(super) fn read(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::new("reading a kept specification", error))
}

/// The bytes of an artifact that everybody may fetch, and its entity tag.
pub(super) struct Fetched {
    pub bytes: Vec<u8>,
    pub etag: String,
}

impl Control {
    /// What a public release is fetched as; an unknown one and a private one look alike.
    pub(super) async fn public_artifact(
        &self,
        name: &str,
        version: u64,
        form: Form,
    ) -> Result<Fetched, Stop> {
        let text = match builtin::named(Kind::Skill, name, version) {
            Some(spec) => spec.text.clone(),
            None => {
                let ask = (name.to_owned(), version);
                self.store.read("skills_public_release", ask, public_text).await?.ok_or_else(not_found)?
            }
        };
        let bytes = artifact::in_form(&read(&text)?, form)?.ok_or_else(not_found)?;
        let etag = format!("\"sha256:{}\"", oa_contract::canonical::hex(&Sha256::digest(&bytes)));
        Ok(Fetched { bytes, etag })
    }
}

async fn public_text(tx: &mut Tx, (name, version): &(String, u64)) -> Result<Option<String>, Stop> {
    Ok(public_release(tx, name, *version).await?.map(|release| release.text))
}

/// A release that everybody may see.
pub(super) async fn public_release(
    tx: &mut Tx,
    name: &str,
    version: u64,
) -> Result<Option<rows::Release>, Stop> {
    let Some(known) = rows::public(tx, name).await? else { return Ok(None) };
    let release = rows::release(tx, &known.org_id, name, version).await?;
    Ok(release.filter(|release| release.public))
}
