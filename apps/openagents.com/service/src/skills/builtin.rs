//! Decides what every registry holds before anybody stores anything (control §12.1).

use std::sync::LazyLock;

use oa_contract::{Timestamp, canonical::canonical_digest};
use oa_store::tables::skills::{Kind, Spec, State};
use serde_json::Value;

/// 2026-02-22T00:00:00Z.
const SINCE: Timestamp = Timestamp::from_unix_seconds(1_771_718_400);

const TOOLS: [(&str, &str); 3] = [
    (
        "coding.v1",
        r#"{"tool_id":"github.primary","version":1,"tool_pack":"coding.v1","name":"GitHub Primary","execution_kind":"http","integration_manifest":{"manifest_version":"coding.integration.v1","integration_id":"github.primary","provider":"github","status":"active","tool_pack":"coding.v1","capabilities":["get_issue","get_pull_request","add_issue_comment"]}}"#,
    ),
    (
        "lightning.v1",
        r#"{"tool_id":"lightning_l402_approve","version":1,"tool_pack":"lightning.v1","name":"Lightning L402 Approve","execution_kind":"http","integration_manifest":{"manifest_version":"lightning.integration.v1","integration_id":"lightning.l402","provider":"lightning","status":"active","tool_pack":"lightning.v1","capabilities":["lightning_l402_fetch","lightning_l402_approve"]}}"#,
    ),
    (
        "lightning.v1",
        r#"{"tool_id":"lightning_l402_fetch","version":1,"tool_pack":"lightning.v1","name":"Lightning L402 Fetch","execution_kind":"http","integration_manifest":{"manifest_version":"lightning.integration.v1","integration_id":"lightning.l402","provider":"lightning","status":"active","tool_pack":"lightning.v1","capabilities":["lightning_l402_fetch","lightning_l402_approve"]}}"#,
    ),
];

const SKILLS: [&str; 2] = [
    r#"{"skill_id":"github-coding","version":1,"name":"GitHub Coding","description":"Default GitHub coding workflow skill","allowed_tools":[{"tool_id":"github.primary","version":1}],"compatibility":{"runtime":"runtime"}}"#,
    r#"{"skill_id":"lightning-l402","version":1,"name":"Lightning L402","description":"Fetch and approve L402-protected resources.","allowed_tools":[{"tool_id":"lightning_l402_fetch","version":1},{"tool_id":"lightning_l402_approve","version":1}],"compatibility":{"runtime":"runtime"}}"#,
];

static ALL: LazyLock<Vec<Spec>> = LazyLock::new(|| {
    let tools = TOOLS.iter().map(|(pack, text)| spec(Kind::Tool, Some(pack), text));
    tools.chain(SKILLS.iter().map(|text| spec(Kind::Skill, None, text))).collect()
});

fn spec(kind: Kind, pack: Option<&str>, text: &str) -> Spec {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let id = value[format!("{}_id", kind.name())].as_str().unwrap_or_default().to_owned();
    Spec {
        org_id: String::new(),
        kind,
        key: id.to_lowercase(),
        version: 1,
        id,
        owner_id: String::new(),
        tool_pack: pack.map(str::to_owned),
        state: State::Published,
        frozen: true,
        created_at: SINCE,
        updated_at: SINCE,
        hash: canonical_digest(&value),
        text: text.to_owned(),
    }
}

/// What is built in of a kind, ascending by id.
pub(super) fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Spec> {
    ALL.iter().filter(move |spec| spec.kind == kind)
}

/// What is built in under an id in lower case.
pub(super) fn named(kind: Kind, key: &str, version: u64) -> Option<&'static Spec> {
    of_kind(kind).find(|spec| spec.key == key && spec.version == version)
}

/// Whether a name of a skill is that of one built in, whatever its version.
pub(super) fn is_reserved(name: &str) -> bool {
    of_kind(Kind::Skill).any(|spec| spec.key == name)
}

#[cfg(test)]
mod tests {
    use oa_contract::canonical::hex;

    use super::*;

    #[test]
    fn what_is_built_in_is_what_is_specified() {
        let ids = |kind| of_kind(kind).map(|spec| spec.id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids(Kind::Tool), ["github.primary", "lightning_l402_approve", "lightning_l402_fetch"]);
        assert_eq!(ids(Kind::Skill), ["github-coding", "lightning-l402"]);
        let coding = named(Kind::Skill, "github-coding", 1).expect("built in");
        assert_eq!(hex(&coding.hash), "ecd3694494b260ee569495950a54dcfc8f65de2eefb484628179d6d47d3f8021");
        assert_eq!(coding.created_at.zulu_seconds(), "2026-02-22T00:00:00Z");
    }
}
