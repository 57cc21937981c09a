//! Decides what the registry of tools and skills is (control §12): records belong to organisations, what is built
//! in cannot be changed, and what was published stays as it was.

mod archive;
mod artifact;
mod builtin;
mod check;
mod index;
mod list;
mod list_skill_specs;
mod list_tool_specs;
mod markdown;
mod public;
mod publish;
mod release;
mod schema;
mod scope;
mod store;
mod store_skill_spec;
mod store_tool_spec;
#[cfg(test)]
mod tests;

use oa_contract::{
    Fault, Refusal,
    wire::skills::{SkillSpecRecord, ToolSpecRecord},
};
use oa_store::{
    Key,
    tables::skills::{Kind, Spec},
};
use serde_json::value::RawValue;

/// The one sentence of every 404 of the registry: it does not tell what others have.
fn not_found() -> Refusal {
    Refusal::not_found("Not found.")
}

/// The key under which changes of one specification stand in line.
fn spec_key(kind: Kind, org_id: &str, key: &str) -> Key {
    Key::text("spec", format!("{}/{org_id}/{key}", kind.name()))
}

/// The key under which changes of a name that everybody sees stand in line.
fn name_key(key: &str) -> Key {
    Key::text("public_skill", key)
}

fn raw(text: String) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(text).map_err(|error| Fault::new("reading a kept specification", error))
}

fn tool_record(spec: Spec) -> Result<ToolSpecRecord, Fault> {
    Ok(ToolSpecRecord {
        tool_id: spec.id,
        version: spec.version,
        tool_pack: spec.tool_pack.ok_or_else(|| Fault::msg("a tool is kept without its pack"))?,
        state: spec.state.name().to_owned(),
        tool_spec: raw(spec.text)?,
        created_at: spec.created_at.zulu_seconds(),
        updated_at: spec.updated_at.zulu_seconds(),
        org_id: own(spec.org_id),
        owner_id: own(spec.owner_id),
    })
}

fn skill_record(spec: Spec) -> Result<SkillSpecRecord, Fault> {
    Ok(SkillSpecRecord {
        skill_id: spec.id,
        version: spec.version,
        state: spec.state.name().to_owned(),
        skill_spec: raw(spec.text)?,
        created_at: spec.created_at.zulu_seconds(),
        updated_at: spec.updated_at.zulu_seconds(),
        org_id: own(spec.org_id),
        owner_id: own(spec.owner_id),
    })
}

/// What is built in belongs to nobody.
fn own(id: String) -> Option<String> {
    Some(id).filter(|id| !id.is_empty())
}
