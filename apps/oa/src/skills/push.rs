//! Decides how a directory becomes a specification: its `SKILL.md` says what it is, its files are bundled as they
//! stand, and the registry keeps both.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use oa_client::Client;
use oa_contract::{
    Nothing,
    bundle::{File, SKILL_FILE, digits, files_of, is_skill_name},
    matrix::{SkillsPublish, SkillsStoreSkillSpec},
    operation::Call,
    wire::{paths::SkillPath, skills::StoreSkillSpec},
};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    directory,
    front_matter::{self, Entry},
};
use crate::{failure::Failure, output::Format};

const MAX_DESCRIPTION: usize = 1024;
const MAX_COMPATIBILITY: usize = 500;

/// What is to be pushed, and how.
pub struct Order {
    pub directory: PathBuf,
    pub version: Option<u64>,
    pub publish: bool,
    pub public: bool,
}

pub async fn push(client: &Client, order: Order, format: Format) -> Result<(), Failure> {
    let spec = specification(&order)?;
    let (id, version) = (text(&spec, "skill_id"), spec["version"].as_u64().unwrap_or(1));
    let skill_spec = to_raw_value(&spec)
        .map_err(|error| Failure::wrong(format!("the bundle cannot be written: {error}")))?;
    let body = StoreSkillSpec { skill_spec: Some(skill_spec), state: Some(json!("validated")) };
    let call = Call::<SkillsStoreSkillSpec> { path: Nothing {}, query: Nothing {}, body };
    let refused = |error| Failure::call(client.base(), error);
    let record = client.call(call).await.map_err(refused)?.data;
    let files = spec["files"].as_array().map_or(0, Vec::len);
    let mut said = format!("{id} version {version}: {files} files, {}", record.state);
    let mut shown = json!({"skill_id": id, "version": version, "state": record.state, "files": files});
    if order.publish {
        let path = SkillPath { skill_id: id, version };
        let call = Call::<SkillsPublish> { path, query: Nothing {}, body: Nothing {} };
        let release = client.call(call).await.map_err(refused)?.data;
        said = format!("{said}\nrelease {}, sha256 {}", release.release_id, release.bundle_hash);
        if let Some(signature) = &release.signature {
            said = format!("{said}\nsigned by {}", signature.signer_pubkey);
        }
        shown["state"] = json!("published");
        shown["release"] = json!({
            "release_id": release.release_id, "bundle_hash": release.bundle_hash, "signature": release.signature,
        });
    }
    format.show(&said, &shown)
}

fn text(spec: &Value, member: &str) -> String {
    spec[member].as_str().unwrap_or_default().to_owned()
}

/// The specification that a directory makes.
fn specification(order: &Order) -> Result<Value, Failure> {
    let files = directory::read(&order.directory)?;
    let matter = files
        .iter()
        .find(|file| file.path == SKILL_FILE)
        .ok_or_else(|| Failure::wrong(format!("{} holds no {SKILL_FILE}", order.directory.display())))?;
    let matter = std::str::from_utf8(&matter.bytes)
        .map_err(|_| Failure::wrong(format!("{SKILL_FILE} is not UTF-8 text")))?;
    let matter = front_matter::read(matter).map_err(Failure::wrong)?;
    let spec = described(&matter, &folder(&order.directory)?, order).map_err(Failure::wrong)?;
    bundled(spec, &files)
}

/// The directory's own name, whatever the path to it.
fn folder(directory: &Path) -> Result<String, Failure> {
    let real = directory.canonicalize().map_err(|error| Failure::file(directory, &error))?;
    Ok(real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

/// What the front matter says, under the rules of the Agent Skills format.
fn described(matter: &BTreeMap<String, Entry>, folder: &str, order: &Order) -> Result<Value, String> {
    let text = |key: &str| match matter.get(key) {
        None => Ok(None),
        Some(Entry::Text(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("`{key}` of SKILL.md must be a text")),
    };
    let name = text("name")?.ok_or("SKILL.md must have a `name`")?;
    if !is_skill_name(&name) {
        return Err(format!("the name {name:?} must be 1 to 64 of a-z, 0-9 and single hyphens between them"));
    }
    if name != folder {
        return Err(format!("the name {name} must be that of the directory, {folder}"));
    }
    let description = text("description")?.ok_or("SKILL.md must have a `description`")?;
    if description.chars().count() > MAX_DESCRIPTION {
        return Err(format!("the description must have at most {MAX_DESCRIPTION} characters"));
    }
    let metadata = match matter.get("metadata") {
        None => BTreeMap::new(),
        Some(Entry::Members(members)) => members.clone(),
        Some(Entry::Text(text)) if text.is_empty() => BTreeMap::new(),
        Some(_) => return Err("`metadata` of SKILL.md must hold members".to_owned()),
    };
    let version =
        order.version.or_else(|| metadata.get("version").and_then(|text| digits(text))).unwrap_or(1);
    let mut spec = json!({
        "skill_id": name, "version": version, "name": name, "description": description,
    });
    if let Some(license) = text("license")? {
        spec["license"] = json!(license);
    }
    if let Some(compatibility) = text("compatibility")? {
        if compatibility.chars().count() > MAX_COMPATIBILITY {
            return Err(format!("the compatibility must have at most {MAX_COMPATIBILITY} characters"));
        }
        spec["compatibility"] = json!(compatibility);
    }
    if !metadata.is_empty() {
        spec["metadata"] = json!(metadata);
    }
    let tools = tools(matter)?;
    if !tools.is_empty() {
        spec["agent_tools"] = json!(tools);
        spec["allowed_tools"] = json!(registered(&tools));
    }
    if order.public {
        spec["visibility"] = json!("public");
    }
    Ok(spec)
}

/// `allowed-tools`: a text with spaces between the tools, or a list.
fn tools(matter: &BTreeMap<String, Entry>) -> Result<Vec<String>, String> {
    match matter.get("allowed-tools") {
        None => Ok(Vec::new()),
        Some(Entry::Text(text)) => Ok(apart(text)),
        Some(Entry::List(tools)) => Ok(tools.clone()),
        Some(Entry::Members(_)) => Err("`allowed-tools` of SKILL.md must be a list".to_owned()),
    }
}

/// Tools between spaces and commas; what stands in brackets belongs to its tool.
fn apart(text: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let mut tools = vec![String::new()];
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (depth, c) {
            (0, c) if c == ',' || c.is_whitespace() => tools.push(String::new()),
            _ => tools.iter_mut().last().into_iter().for_each(|tool| tool.push(c)),
        }
    }
    tools.retain(|tool| !tool.is_empty());
    tools
}

/// The tools of the registry among them: `ID@VERSION`. The others are those of whatever agent reads the skill.
fn registered(tools: &[String]) -> Vec<Value> {
    let one = |tool: &String| {
        let (id, version) = tool.rsplit_once('@')?;
        let version = digits(version).filter(|version| *version > 0)?;
        (!id.is_empty()).then(|| json!({"tool_id": id, "version": version}))
    };
    tools.iter().filter_map(one).collect()
}

fn bundled(mut spec: Value, files: &[File]) -> Result<Value, Failure> {
    spec["files"] = files.iter().map(File::to_json).collect();
    files_of(&spec).map_err(Failure::wrong)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(version: Option<u64>, public: bool) -> Order {
        Order { directory: PathBuf::new(), version, publish: false, public }
    }

    fn spec(matter: &str, order: &Order) -> Result<Value, String> {
        described(&front_matter::read(&format!("---\n{matter}\n---\n"))?, "pdf-tools", order)
    }

    #[test]
    fn the_front_matter_becomes_a_specification() {
        let matter = "name: pdf-tools\ndescription: Reads PDFs.\nlicense: MIT\ncompatibility: needs git\nmetadata:\n  version: \"3\"\nallowed-tools: Bash(git add:*), Read github.primary@1";
        let made = spec(matter, &order(None, true)).expect("a specification");
        assert_eq!(
            made,
            json!({
                "skill_id": "pdf-tools", "version": 3, "name": "pdf-tools", "description": "Reads PDFs.",
                "license": "MIT", "compatibility": "needs git", "metadata": {"version": "3"},
                "agent_tools": ["Bash(git add:*)", "Read", "github.primary@1"],
                "allowed_tools": [{"tool_id": "github.primary", "version": 1}], "visibility": "public",
            })
        );
        assert_eq!(spec(matter, &order(Some(7), false)).expect("a specification")["version"], 7);
    }

    #[test]
    fn what_the_format_forbids_is_refused() {
        let long = format!("name: pdf-tools\ndescription: {}", "x".repeat(1025));
        for (matter, word) in [
            ("description: x", "name"),
            ("name: Pdf-tools\ndescription: x", "a-z"),
            ("name: other\ndescription: x", "directory"),
            ("name: pdf-tools", "description"),
            (long.as_str(), "1024"),
            ("name: pdf-tools\ndescription: x\nmetadata: y", "metadata"),
        ] {
            let refused = spec(matter, &order(None, false)).expect_err(matter);
            assert!(refused.contains(word), "{matter}: {refused}");
        }
    }
}
