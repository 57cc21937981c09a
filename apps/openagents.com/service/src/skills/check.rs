//! Decides which specifications are taken, in the order of control §12.2; pure.

use std::collections::HashMap;

use oa_contract::{
    Refusal,
    bundle::{files_of, pos_int},
    canonical::{canonical_digest, normalise},
    wire::skills::{StoreSkillSpec, StoreToolSpec},
};
use oa_store::tables::skills::{Kind, State};
use serde_json::{Value, value::RawValue};

use super::schema;

/// How large a specification may be, its files not counted.
const MAX_BYTES: usize = 64 * 1024;
/// How deep it may be.
const MAX_DEPTH: usize = 64;
/// How long an id may be.
const MAX_ID: usize = 160;
/// How many tools a skill may name.
const MAX_TOOLS: usize = 200;

/// A specification that may be stored.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub kind: Kind,
    pub id: String,
    /// The id in lower case.
    pub key: String,
    pub version: u64,
    pub tool_pack: Option<String>,
    /// As it was asked for; `None` means the default.
    pub state: Option<State>,
    pub hash: [u8; 32],
    /// Exactly as it was sent.
    pub text: String,
}

/// A tool that a skill names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AllowedTool {
    /// The id in lower case.
    pub key: String,
    pub version: u64,
}

pub(super) fn tool(body: StoreToolSpec) -> Result<Checked, Refusal> {
    let state = state(body.state)?;
    let (text, spec) = object("tool_spec", body.tool_spec)?;
    let id = id(&spec, "tool_spec", "tool_id")?;
    let version = version(&spec, "tool_spec")?;
    let tool_pack = tool_pack(&spec)?;
    manifest(&spec)?;
    schema::check(&spec, "tool_spec")?;
    let (key, hash) = (id.to_lowercase(), canonical_digest(&spec));
    Ok(Checked { kind: Kind::Tool, id, key, version, tool_pack: Some(tool_pack), state, hash, text })
}

pub(super) fn skill(body: StoreSkillSpec) -> Result<Checked, Refusal> {
    let state = state(body.state)?;
    let (text, spec) = object("skill_spec", body.skill_spec)?;
    let id = id(&spec, "skill_spec", "skill_id")?;
    let version = version(&spec, "skill_spec")?;
    allowed_tools(&spec)?;
    schema::check(&spec, "skill_spec")?;
    files_of(&spec).map_err(|why| {
        Refusal::field("skill_spec.files", format!("The skill_spec.files field is not a bundle: {why}."))
    })?;
    let (key, hash) = (id.to_lowercase(), canonical_digest(&spec));
    Ok(Checked { kind: Kind::Skill, id, key, version, tool_pack: None, state, hash, text })
}

fn state(given: Option<Value>) -> Result<Option<State>, Refusal> {
    let refused =
        || Refusal::field("state", "The state field must be one of draft, validated, published, deprecated.");
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            State::from_name(&text.trim().to_lowercase()).map(Some).ok_or_else(refused)
        }
        Some(_) => Err(refused()),
    }
}

/// The text as it was sent, and what it says.
fn object(field: &str, given: Option<Box<RawValue>>) -> Result<(String, Value), Refusal> {
    let refused = |why: &str| Refusal::field(field, format!("The {field} field {why}."));
    let raw = given.filter(|raw| raw.get().starts_with('{')).ok_or_else(|| refused("must be an object"))?;
    if own_bytes(&raw).unwrap_or(raw.get().len()) > MAX_BYTES {
        return Err(refused("holds more than 64 KiB"));
    }
    // The same reading that everything is hashed by: it refuses what would be read in two ways.
    let plain = normalise(raw.get()).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    let spec: Value =
        serde_json::from_str(plain.get()).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    if depth(&spec) > MAX_DEPTH {
        return Err(refused(&format!("is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok((raw.get().to_owned(), spec))
}

/// The bytes of a specification beside its files, which have a limit of their own.
fn own_bytes(raw: &RawValue) -> Option<usize> {
    let members: HashMap<String, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    Some(raw.get().len() - members.get("files").map_or(0, |files| files.get().len()))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn id(spec: &Value, under: &str, member: &str) -> Result<String, Refusal> {
    let field = format!("{under}.{member}");
    let id = spec[member].as_str().map(str::trim).unwrap_or_default();
    let good = !id.is_empty() && id.chars().count() <= MAX_ID && !id.chars().any(char::is_control);
    match good {
        true => Ok(id.to_owned()),
        false => Err(Refusal::field(
            &field,
            format!("The {field} field must be a text of 1 to {MAX_ID} characters."),
        )),
    }
}

fn version(spec: &Value, under: &str) -> Result<u64, Refusal> {
    let field = format!("{under}.version");
    match pos_int(&spec["version"]) {
        None => Err(Refusal::field(&field, format!("The {field} field must be an integer."))),
        Some(version) if (1..=i64::MAX as u64).contains(&version) => Ok(version),
        Some(_) => Err(Refusal::field(
            &field,
            format!("The {field} field must be at least 1 and at most {}.", i64::MAX),
        )),
    }
}

/// The pack under the one name that it is kept by.
fn tool_pack(spec: &Value) -> Result<String, Refusal> {
    match spec["tool_pack"].as_str().map(|pack| pack.trim().to_lowercase()).as_deref() {
        Some("coding.v1") => Ok("coding.v1".to_owned()),
        Some("lightning.v1" | "l402.v1") => Ok("lightning.v1".to_owned()),
        _ => Err(Refusal::field(
            "tool_spec.tool_pack",
            "The tool_spec.tool_pack field must be one of coding.v1, lightning.v1, l402.v1.",
        )),
    }
}

fn manifest(spec: &Value) -> Result<(), Refusal> {
    let Some(manifest) = spec.get("integration_manifest") else { return Ok(()) };
    if !manifest.is_object() {
        return Err(Refusal::field(
            "tool_spec.integration_manifest",
            "The tool_spec.integration_manifest field must be an object.",
        ));
    }
    match manifest["manifest_version"].as_str().is_some_and(|version| !version.trim().is_empty()) {
        true => Ok(()),
        false => Err(Refusal::field(
            "tool_spec.integration_manifest.manifest_version",
            "The tool_spec.integration_manifest.manifest_version field must be a text that is not blank.",
        )),
    }
}

/// The tools that a skill names.
pub(super) fn allowed_tools(spec: &Value) -> Result<Vec<AllowedTool>, Refusal> {
    let refused = |why: &str| {
        let message = format!("The skill_spec.allowed_tools field {why}.");
        Refusal::field("skill_spec.allowed_tools", message)
    };
    let Some(given) = spec.get("allowed_tools") else { return Ok(Vec::new()) };
    let listed = given.as_array().ok_or_else(|| refused("must be a list"))?;
    if listed.len() > MAX_TOOLS {
        return Err(refused(&format!("must name at most {MAX_TOOLS} tools")));
    }
    let one = |tool: &Value| {
        let key = tool["tool_id"].as_str().map(|id| id.trim().to_lowercase()).filter(|id| !id.is_empty())?;
        let version = pos_int(&tool["version"]).filter(|version| (1..=i64::MAX as u64).contains(version))?;
        Some(AllowedTool { key, version })
    };
    listed
        .iter()
        .map(|tool| {
            one(tool).ok_or_else(|| refused("must hold objects with a tool_id and a version of at least 1"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(value: &Value) -> Option<Box<RawValue>> {
        Some(serde_json::value::to_raw_value(value).expect("json"))
    }

    fn tool_field(spec: Value, state: Value) -> Option<String> {
        tool(StoreToolSpec { tool_spec: raw(&spec), state: Some(state) }).err().map(|refusal| {
            assert_eq!(refusal.status(oa_contract::Service::Control), 422);
            refusal.field.expect("a field")
        })
    }

    fn skill_field(spec: Value) -> Option<String> {
        skill(StoreSkillSpec { skill_spec: raw(&spec), state: None }).err().and_then(|refusal| refusal.field)
    }

    #[test]
    fn a_tool_is_checked_in_the_specified_order() {
        let bad = json!({"integration_manifest": 1, "input_schema": 1});
        assert_eq!(tool_field(bad.clone(), json!("done")).as_deref(), Some("state"));
        assert_eq!(tool_field(bad.clone(), json!(7)).as_deref(), Some("state"));
        assert_eq!(tool_field(json!([]), json!(" Draft ")).as_deref(), Some("tool_spec"));
        let mut spec = bad;
        for (member, wrong, right, field) in [
            ("tool_id", json!(" "), json!(" GitHub.Custom "), "tool_spec.tool_id"),
            ("version", json!(0), json!("1"), "tool_spec.version"),
            ("tool_pack", json!("x"), json!(" L402.V1 "), "tool_spec.tool_pack"),
            ("integration_manifest", json!(1), json!({}), "tool_spec.integration_manifest"),
            (
                "integration_manifest",
                json!({"manifest_version": " "}),
                json!({"manifest_version": "v1"}),
                "tool_spec.integration_manifest.manifest_version",
            ),
            ("input_schema", json!(1), json!({}), "tool_spec.input_schema"),
        ] {
            spec[member] = wrong;
            assert_eq!(tool_field(spec.clone(), json!(null)).as_deref(), Some(field));
            spec[member] = right;
        }
        let checked =
            tool(StoreToolSpec { tool_spec: raw(&spec), state: Some(json!(" Draft ")) }).expect("taken");
        assert_eq!((checked.id.as_str(), checked.key.as_str()), ("GitHub.Custom", "github.custom"));
        assert_eq!((checked.version, checked.tool_pack.as_deref()), (1, Some("lightning.v1")));
        assert_eq!(checked.state, Some(State::Draft));
    }

    #[test]
    fn a_version_that_is_no_integer_is_refused_with_the_specified_sentence() {
        for version in [json!(null), json!("x"), json!(1.5), json!(-1)] {
            let spec = json!({"tool_id": "a", "version": version});
            let refused = tool(StoreToolSpec { tool_spec: raw(&spec), state: None }).expect_err("refused");
            assert_eq!(refused.message, "The tool_spec.version field must be an integer.");
        }
        let huge = json!({"tool_id": "a", "version": u64::MAX});
        assert_eq!(tool_field(huge, json!(null)).as_deref(), Some("tool_spec.version"));
    }

    #[test]
    fn a_skill_is_checked_in_the_specified_order() {
        assert_eq!(skill_field(json!("x")).as_deref(), Some("skill_spec"));
        assert_eq!(skill_field(json!({"skill_id": "x".repeat(161)})).as_deref(), Some("skill_spec.skill_id"));
        assert_eq!(skill_field(json!({"skill_id": "x\u{0}"})).as_deref(), Some("skill_spec.skill_id"));
        assert_eq!(skill_field(json!({"skill_id": "x"})).as_deref(), Some("skill_spec.version"));
        for tools in [
            json!(null),
            json!({}),
            json!([1]),
            json!([{"tool_id": " ", "version": 1}]),
            json!([{"tool_id": "a", "version": 0}]),
            json!([{"tool_id": "a"}]),
            json!(vec![json!({"tool_id": "a", "version": 1}); 201]),
        ] {
            let spec = json!({"skill_id": "x", "version": 1, "allowed_tools": tools});
            assert_eq!(skill_field(spec).as_deref(), Some("skill_spec.allowed_tools"));
        }
        let spec = json!({"skill_id": "x", "version": 1, "allowed_tools": [{"tool_id": "a", "version": "2"}], "files": 1});
        assert_eq!(skill_field(spec).as_deref(), Some("skill_spec.files"));
    }

    #[test]
    fn the_text_is_kept_exactly_and_bounded() {
        let text = "{ \"skill_id\" : \"x\",\n \"version\":1, \"n\": 1.50 }";
        let raw = RawValue::from_string(text.to_owned()).expect("json");
        let checked = skill(StoreSkillSpec { skill_spec: Some(raw), state: None }).expect("taken");
        assert_eq!(checked.text, text);
        let large = json!({"skill_id": "x", "version": 1, "name": "y".repeat(MAX_BYTES)});
        assert_eq!(skill_field(large).as_deref(), Some("skill_spec"));
        let nested = |levels: usize| {
            let text = format!(
                "{{\"skill_id\":\"x\",\"version\":1,\"n\":{}1{}}}",
                "[".repeat(levels),
                "]".repeat(levels)
            );
            let raw = RawValue::from_string(text).expect("json");
            skill(StoreSkillSpec { skill_spec: Some(raw), state: None })
                .err()
                .and_then(|refusal| refusal.field)
        };
        assert_eq!(nested(MAX_DEPTH - 1), None);
        for levels in [MAX_DEPTH, 126, 500] {
            assert_eq!(nested(levels).as_deref(), Some("skill_spec"), "{levels}");
        }
    }
}
