//! The registry of tools and skills (control §12), and what it shows to agents that discover skills
//! (Agent Skills Discovery 0.2.0).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    bundle::ReleaseSignature,
    operation::{Body, Data, Media, Query},
};

/// `POST /api/runtime/skills/tool-specs`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"state": "validated", "tool_spec": {"tool_id": "github.custom", "version": 1, "tool_pack": "coding.v1", "name": "GitHub Custom"}}))]
#[schemars(extend("required" = ["tool_spec"]))]
pub struct StoreToolSpec {
    /// An object with `tool_id`, `version` and `tool_pack`, at most 64 KiB; kept exactly as sent.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub tool_spec: Option<Box<RawValue>>,
    /// `draft`, `validated`, `published` or `deprecated`; `validated` if absent.
    #[serde(default)]
    #[schemars(extend("enum" = ["draft", "validated", "published", "deprecated", null]))]
    pub state: Option<Value>,
}

impl Body for StoreToolSpec {}

/// `POST /api/runtime/skills/skill-specs`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"state": "validated", "skill_spec": {"skill_id": "triage", "version": 2, "name": "Triage", "allowed_tools": [{"tool_id": "github.primary", "version": 1}]}}))]
#[schemars(extend("required" = ["skill_spec"]))]
pub struct StoreSkillSpec {
    /// An object with `skill_id` and `version`, at most 64 KiB beside its `files`; kept exactly as sent.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub skill_spec: Option<Box<RawValue>>,
    /// `draft`, `validated`, `published` or `deprecated`; `validated` if absent.
    #[serde(default)]
    #[schemars(extend("enum" = ["draft", "validated", "published", "deprecated", null]))]
    pub state: Option<Value>,
}

impl Body for StoreSkillSpec {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ToolSpecRecord {
    pub tool_id: String,
    pub version: u64,
    /// `coding.v1` or `lightning.v1`.
    pub tool_pack: String,
    pub state: String,
    #[schemars(with = "Value")]
    pub tool_spec: Box<RawValue>,
    pub created_at: String,
    pub updated_at: String,
    /// The organisation that the record belongs to; absent for what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// The user who stored it first; absent for what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SkillSpecRecord {
    pub skill_id: String,
    pub version: u64,
    pub state: String,
    #[schemars(with = "Value")]
    pub skill_spec: Box<RawValue>,
    pub created_at: String,
    pub updated_at: String,
    /// The organisation that the record belongs to; absent for what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// The user who stored it first; absent for what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
}

pub type ToolSpecReply = Data<ToolSpecRecord>;
pub type SkillSpecReply = Data<SkillSpecRecord>;

/// Which part of a list to answer with; by default all of it, up to 1000 records or 8 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListSpecs {
    /// At most so many records, held between 1 and 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Query for ListSpecs {}

/// Ascending by id in lower case, then by version.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ToolSpecList {
    pub data: Vec<ToolSpecRecord>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Ascending by id in lower case, then by version.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SkillSpecList {
    pub data: Vec<SkillSpecRecord>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SkillBundle {
    /// `agent_skills.v1`.
    pub bundle_format: String,
    #[schemars(with = "Value")]
    pub skill_spec: Box<RawValue>,
}

/// A published specification. It never changes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SkillRelease {
    /// `skillrel_` and the first 12 digits of `bundle_hash`.
    pub release_id: String,
    /// As it stands in the path.
    pub skill_id: String,
    pub version: u64,
    /// Hex SHA-256 over the canonical form of `bundle.skill_spec`.
    pub bundle_hash: String,
    pub published_at: String,
    pub bundle: SkillBundle,
    /// The organisation that published it.
    pub org_id: String,
    /// Absent where the registry has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReleaseSignature>,
}

pub type SkillReleaseReply = Data<SkillRelease>;

/// The query of the discovery index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPublicSkills {
    /// Only names after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Query for ListPublicSkills {}

/// `GET /.well-known/agent-skills/index.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillsIndex {
    #[serde(rename = "$schema")]
    pub schema: String,
    /// Ascending by name; the newest public version of each.
    pub skills: Vec<PublicSkill>,
    /// Give it as `after` for the rest; absent when this is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The key that signs releases, 64 hex digits (BIP-340).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_pubkey: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicSkill {
    pub name: String,
    /// `skill-md` for a single `SKILL.md`, `archive` for a `.tar.gz` of the directory.
    #[serde(rename = "type")]
    pub kind: String,
    pub description: String,
    /// Path on this service.
    pub url: String,
    /// `sha256:` and the hex SHA-256 of the bytes at `url`.
    pub digest: String,
    pub version: u64,
}

/// `SKILL.md`.
pub struct Markdown;
impl Media for Markdown {
    const TYPE: &'static str = "text/markdown; charset=utf-8";
}

/// A directory as `.tar.gz`.
pub struct Gzip;
impl Media for Gzip {
    const TYPE: &'static str = "application/gzip";
}
