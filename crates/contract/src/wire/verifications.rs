//! Verifications: does an answer fit what was asked, and itself (marketplace §13)? Stateless.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jobs::{RepoIndexRequest, RepoIndexResponse, SandboxRunRequest, SandboxRunResponse};
use crate::operation;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({
    "request": {"sandbox": {"image_digest": "sha256:test"}, "commands": [{"cmd": "echo hi"}]},
    "response": {"env_info": {"image_digest": "sha256:test"}, "runs": [{"cmd": "echo hi", "exit_code": 2, "duration_ms": 1, "stdout_sha256": "o", "stderr_sha256": "e"}], "status": "failed", "provenance": {"model_id": "p"}}
}))]
pub struct VerifySandboxRun {
    pub request: SandboxRunRequest,
    pub response: SandboxRunResponse,
}

impl operation::Body for VerifySandboxRun {}

/// What a sandbox run came to. An honest failure has no violations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxVerdict {
    pub passed: bool,
    pub exit_code: i32,
    pub violations: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({
    "request": {"repo_url": "https://example.com/r.git", "git_ref": "main", "expected_tree_sha256": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"},
    "response": {"tree_sha256": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "digests": [], "provenance": {"model_id": "p"}}
}))]
pub struct VerifyRepoIndex {
    pub request: RepoIndexRequest,
    pub response: RepoIndexResponse,
}

impl operation::Body for VerifyRepoIndex {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepoIndexVerdict {
    pub passed: bool,
    /// Computed from the digests that were answered.
    pub tree_sha256: String,
    pub violations: Vec<String>,
}
