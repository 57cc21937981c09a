//! The skill registry (control §12): what is stored, published, seen, and by whom.

mod index;
mod publish;
mod specs;

use oa_testkit::{Answered, Http};
use serde_json::{Value, json};

const TOOLS: &str = "/api/runtime/skills/tool-specs";
const SKILLS: &str = "/api/runtime/skills/skill-specs";

async fn store_skill(user: &Http, spec: Value, state: &str) -> Answered {
    user.post(SKILLS, &json!({"skill_spec": spec, "state": state})).await
}

async fn publish(user: &Http, id: &str, version: u64) -> Answered {
    user.send("POST", &format!("{SKILLS}/{id}/{version}/publish"), &[], None).await
}

async fn release(user: &Http, id: &str, version: u64) -> Answered {
    user.get(&format!("/api/runtime/skills/releases/{id}/{version}")).await
}

/// The ids and versions of a list.
async fn listed(user: &Http, path: &str) -> Vec<(String, u64)> {
    let member = if path.contains("tool-specs") { "tool_id" } else { "skill_id" };
    let answered = user.get(path).await.json();
    let records = answered["data"].as_array().unwrap_or_else(|| panic!("{answered}"));
    records
        .iter()
        .map(|record| (record[member].as_str().unwrap().to_owned(), record["version"].as_u64().unwrap()))
        .collect()
}

/// Every member of `part` is in `whole` with the same value.
fn includes(whole: &Value, part: &Value) {
    for (name, value) in part.as_object().unwrap() {
        assert_eq!(&whole[name], value, "{name} in {whole}");
    }
}
