//! Decides how a release becomes a directory: verified first, then written byte for byte, with the release beside it.

use std::path::PathBuf;

use oa_client::{Client, Manner};
use oa_contract::{
    Nothing,
    bundle::{is_skill_name, verify_release},
    matrix::{SkillsIndex, SkillsListSkillSpecs, SkillsRelease},
    operation::{Cacheable, Call, Data},
    wire::{
        paths::SkillPath,
        skills::{ListPublicSkills, ListSpecs},
    },
};
use serde_json::{Value, json, value::RawValue};

use super::{Named, described, directory, lines, unreadable};
use crate::{failure::Failure, output::Format};

/// What is to be pulled, and where to.
pub struct Order {
    pub named: Named,
    pub directory: Option<PathBuf>,
    pub force: bool,
    /// The key that must have signed.
    pub key: Option<String>,
}

pub async fn pull(client: &Client, order: Order, format: Format) -> Result<(), Failure> {
    let id = order.named.id.clone();
    let directory = match &order.directory {
        Some(directory) => directory.clone(),
        None if is_skill_name(&id) => PathBuf::from(&id),
        None => {
            return Err(Failure::usage(format!(
                "{id:?} is no name for a directory: say which, after the id"
            )));
        }
    };
    let version = match order.named.version {
        Some(version) => version,
        None => newest(client, &id).await?,
    };
    let text = release(client, &id, version).await?;
    let value: Value = serde_json::from_str(text.get()).map_err(|error| unreadable("the release", error))?;
    let verified = verify_release(&value, order.key.as_deref()).map_err(|unfit| {
        Failure::wrong(format!("nothing was written, because the release of {id} does not fit: {unfit}"))
    })?;
    if verified.skill_id.to_lowercase() != id.to_lowercase() || verified.version != version {
        return Err(Failure::wrong(format!(
            "nothing was written, because {} gave another release than {id} version {version}",
            client.base()
        )));
    }
    if verified.files.is_empty() {
        return Err(Failure::wrong(format!(
            "{id} version {version} carries no files: there is nothing to write"
        )));
    }
    if !order.force {
        directory::must_be_free(&directory)?;
    }
    directory::write(&directory, &verified.files, &format!("{}\n", text.get()))?;
    let said = format!(
        "{}: {id} version {version}\n{}check it anywhere with: oa skills verify {}",
        directory.display(),
        lines(&verified, order.key.is_some()),
        directory.display()
    );
    let mut shown = json!({"directory": directory});
    shown["release"] = described(&verified);
    format.show(&said, &shown)
}

/// The release as it is served, byte for byte.
async fn release(client: &Client, id: &str, version: u64) -> Result<Box<RawValue>, Failure> {
    let path = SkillPath { skill_id: id.to_owned(), version };
    let call = Call::<SkillsRelease> { path, query: Nothing {}, body: Nothing {} };
    let raw = client
        .send(call, Manner::default())
        .await
        .and_then(|raw| raw.accepted())
        .map_err(|error| Failure::call(client.base(), error))?;
    let read: Data<Box<RawValue>> =
        serde_json::from_slice(&raw.body).map_err(|error| unreadable("the release", error))?;
    Ok(read.data)
}

/// The newest version of this id that is published: among what the caller's organisations have, else among what
/// everybody sees.
async fn newest(client: &Client, id: &str) -> Result<u64, Failure> {
    let key = id.to_lowercase();
    let mut found = None;
    // A cursor is the place of a record: this one stands right before the first version.
    let mut after = Some(json!([key, 0, ""]).to_string());
    while let Some(cursor) = after {
        let query = ListSpecs { limit: Some(20), after: Some(cursor) };
        let call = Call::<SkillsListSkillSpecs> { path: Nothing {}, query, body: Nothing {} };
        let page = client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
        let known = page.data.iter().take_while(|record| record.skill_id.to_lowercase() == key);
        // What is built in is published for whoever asks for it, and not yet a release.
        let published = known.filter(|record| record.state == "published" && record.org_id.is_some());
        found = published.map(|record| record.version).max().max(found);
        let more = page.data.last().is_some_and(|record| record.skill_id.to_lowercase() == key);
        after = page.next.filter(|_| more);
    }
    match found {
        Some(version) => Ok(version),
        None => newest_public(client, &key).await?.ok_or_else(|| {
            Failure::wrong(format!(
                "{} has no published version of {id}; ID@VERSION names one",
                client.base()
            ))
        }),
    }
}

async fn newest_public(client: &Client, name: &str) -> Result<Option<u64>, Failure> {
    let mut after = None;
    loop {
        let call =
            Call::<SkillsIndex> { path: Nothing {}, query: ListPublicSkills { after }, body: Nothing {} };
        let index = client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
        let Cacheable::Fresh(index) = index else { return Ok(None) };
        if let Some(skill) = index.skills.iter().find(|skill| skill.name == name) {
            return Ok(Some(skill.version));
        }
        match index.next {
            Some(next) if next.as_str() < name => after = Some(next),
            _ => return Ok(None),
        }
    }
}
