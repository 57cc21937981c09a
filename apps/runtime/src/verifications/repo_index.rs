//! `POST /internal/v1/verifications/repo-index`: whether an index is of the tree that was asked for (§13.2).

use std::collections::HashSet;

use oa_contract::{
    Answer, Ask, Fault, Handle, Stop,
    matrix::VerificationsRepoIndex,
    wire::{
        jobs::{FileDigest, RepoIndexRequest, RepoIndexResponse, tree_hash},
        verifications::RepoIndexVerdict,
    },
};

use crate::Runtime;

impl Handle<VerificationsRepoIndex> for Runtime {
    async fn handle(&self, ask: Ask<VerificationsRepoIndex>) -> Result<Answer<RepoIndexVerdict>, Stop> {
        Ok(judge(&ask.body.request, &ask.body.response)?.into())
    }
}

/// The tree that the digests make, and what is wrong with them.
pub fn judge(request: &RepoIndexRequest, response: &RepoIndexResponse) -> Result<RepoIndexVerdict, Fault> {
    let mut violations = Vec::new();
    let expected = &request.expected_tree_sha256;
    let wanted = !expected.trim().is_empty();
    if !wanted {
        violations.push("expected_tree_sha256 missing".into());
    }
    let mut seen = HashSet::new();
    for digest in &response.digests {
        path(digest, &mut seen, &mut violations);
    }
    let computed = tree_hash(&response.digests).map_err(|error| Fault::new("hashing a tree", error))?;
    if response.tree_sha256 != computed {
        violations
            .push(format!("tree_sha256 mismatch: response={} computed={computed}", response.tree_sha256));
    }
    if wanted && *expected != computed {
        violations.push(format!("expected_tree_sha256 mismatch: request={expected} computed={computed}"));
    }
    Ok(RepoIndexVerdict { passed: violations.is_empty(), tree_sha256: computed, violations })
}

fn path<'a>(digest: &'a FileDigest, seen: &mut HashSet<&'a str>, violations: &mut Vec<String>) {
    let path = digest.path.as_str();
    if path.trim().is_empty() {
        violations.push("digest path is empty".into());
    }
    if path.starts_with('/') || path.contains('\\') {
        violations.push(format!("invalid digest path: {path}"));
    }
    if path.contains("..") {
        violations.push(format!("digest path contains '..': {path}"));
    }
    if !seen.insert(path) {
        violations.push(format!("duplicate digest path: {path}"));
    }
    let hash = digest.sha256.trim();
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        violations.push(format!("invalid digest sha256 for {path}: {}", digest.sha256));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(expected: &str, answered: &str, digests: &[(&str, &str)]) -> RepoIndexVerdict {
        let request = json!({"repo_url": "u", "git_ref": "main", "expected_tree_sha256": expected});
        let digests: Vec<_> = digests
            .iter()
            .map(|(path, sha256)| json!({"path": path, "sha256": sha256, "bytes": 1}))
            .collect();
        let response = json!({"tree_sha256": answered, "digests": digests, "provenance": {"model_id": "p"}});
        let request = serde_json::from_value(request).expect("a request");
        judge(&request, &serde_json::from_value(response).expect("an answer")).expect("judged")
    }

    #[test]
    fn the_examples_of_the_specification_are_judged_as_it_says() {
        let request = json!({"repo_url": "https://example.com/r.git", "git_ref": "main", "expected_tree_sha256": "fe1e97395b701fbbaabfd5e04c4785cdd72ae06d65e1dd37fe79b602dae1ae4e"});
        let response = json!({"tree_sha256": "fe1e97395b701fbbaabfd5e04c4785cdd72ae06d65e1dd37fe79b602dae1ae4e", "digests": [
            {"path": "README.md", "sha256": "0".repeat(64), "bytes": 1},
            {"path": "src/lib.rs", "sha256": "1".repeat(64), "bytes": 2}], "provenance": {"model_id": "p"}});
        let request: RepoIndexRequest = serde_json::from_value(request).expect("a request");
        let mut response: RepoIndexResponse = serde_json::from_value(response).expect("an answer");
        let tree = request.expected_tree_sha256.clone();
        let said = judge(&request, &response).expect("judged");
        assert_eq!(said, RepoIndexVerdict { passed: true, tree_sha256: tree, violations: vec![] });
        response.digests[1].bytes = 3;
        let said = judge(&request, &response).expect("judged");
        assert!(!said.passed);
        assert_eq!(said.violations.len(), 2, "{:?}", said.violations);
    }

    #[test]
    fn every_violation_has_its_sentence_and_its_place() {
        let good = "0".repeat(64);
        let said = judged(
            "x",
            "y",
            &[
                (" ", &good),
                ("/a", &good),
                ("a\\b", &good),
                ("a..b", &good),
                ("a..b", "short"),
                ("c", &format!(" {good} ")),
            ],
        );
        let computed = &said.tree_sha256;
        assert_eq!(
            said.violations,
            [
                "digest path is empty".to_owned(),
                "invalid digest path: /a".into(),
                "invalid digest path: a\\b".into(),
                "digest path contains '..': a..b".into(),
                "digest path contains '..': a..b".into(),
                "duplicate digest path: a..b".into(),
                "invalid digest sha256 for a..b: short".into(),
                format!("tree_sha256 mismatch: response=y computed={computed}"),
                format!("expected_tree_sha256 mismatch: request=x computed={computed}"),
            ]
        );
        let empty = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
        assert_eq!(judged(" ", empty, &[]).violations, ["expected_tree_sha256 missing"]);
        assert!(judged(empty, empty, &[]).passed);
        let upper = judged(&empty.to_uppercase(), empty, &[]);
        assert_eq!(upper.violations.len(), 1, "compared as they are written");
    }
}
