//! Jobs that can be bought, as they are asked for and answered, and the hashes that name them (marketplace §2,
//! §3). Reading fills the defaults in, so equal jobs have one hash however they were written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::canonical;

/// The capability, and the job type, of a sandbox run.
pub const SANDBOX_RUN: &str = "oa.sandbox_run.v1";
/// The job type of a repository index.
pub const REPO_INDEX: &str = "oa.repo_index.v1";

/// `oa.sandbox_run.v1`: commands to be run on a checkout, in a sandbox (§3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"sandbox": {"image_digest": "sha256:test", "resources": {"timeout_secs": 30}}, "commands": [{"cmd": "echo hi"}]}))]
pub struct SandboxRunRequest {
    pub sandbox: Sandbox,
    #[serde(default)]
    pub repo: Repo,
    pub commands: Vec<SandboxCommand>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub verification: Verification,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sandbox {
    #[serde(default = "docker")]
    pub provider: String,
    pub image_digest: String,
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    #[serde(default)]
    pub resources: Resources,
}

fn docker() -> String {
    "docker".into()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPolicy {
    #[default]
    None,
    Localhost,
    Full,
}

/// What the commands may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resources {
    pub memory_mb: u32,
    #[serde(deserialize_with = "finite")]
    pub cpus: f32,
    pub timeout_secs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
}

impl Default for Resources {
    fn default() -> Self {
        Resources { memory_mb: 512, cpus: 1.0, timeout_secs: 60, disk_mb: None }
    }
}

/// A number too large for the member would become an infinity, which JSON cannot say again.
fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let number = f32::deserialize(deserializer)?;
    match number.is_finite() {
        true => Ok(number),
        false => Err(D::Error::custom("the number does not fit")),
    }
}

fn optional_finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    match Option::<f32>::deserialize(deserializer)? {
        Some(number) if !number.is_finite() => Err(D::Error::custom("the number does not fit")),
        number => Ok(number),
    }
}

/// What is checked out, and where it stands in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repo {
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    #[serde(default = "workspace")]
    pub mount_path: String,
}

impl Default for Repo {
    fn default() -> Self {
        Repo { source: String::new(), git_ref: None, mount_path: workspace() }
    }
}

fn workspace() -> String {
    "/workspace".into()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxCommand {
    pub cmd: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whether the next command runs although this one failed.
    #[serde(default)]
    pub continue_on_fail: bool,
}

/// How the outcome is to be checked (§3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "JobVerification")]
pub struct Verification {
    pub mode: VerificationMode,
    #[serde(default = "once")]
    pub redundancy: u8,
    #[serde(default)]
    pub adjudication: Adjudication,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_model: Option<String>,
}

impl Default for Verification {
    fn default() -> Self {
        Verification {
            mode: VerificationMode::Objective,
            redundancy: once(),
            adjudication: Adjudication::None,
            judge_model: None,
        }
    }
}

const fn once() -> u8 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerificationMode {
    Objective,
    Subjective,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adjudication {
    #[default]
    None,
    MajorityVote,
    JudgeModel,
    Merge,
}

/// What a provider says that it did (§3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxRunResponse {
    pub env_info: EnvInfo,
    pub runs: Vec<CommandRun>,
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    pub status: RunOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub provenance: Provenance,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvInfo {
    pub image_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_info: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRun {
    pub cmd: String,
    pub exit_code: i32,
    pub duration_ms: u64,
    /// `sha256:` and 64 hex digits over the raw bytes, by convention.
    pub stdout_sha256: String,
    pub stderr_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_preview: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_preview: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    pub path: String,
    pub sha256: String,
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    Success,
    Failed,
    Timeout,
    Cancelled,
    Error,
}

impl RunOutcome {
    /// Whether the job was run to an end of its own: what it came to is then the job's, not the provider's.
    pub const fn was_run(self) -> bool {
        matches!(self, RunOutcome::Success | RunOutcome::Failed)
    }

    /// The capitalised word that reasons carry (§7.3, §13.1).
    pub const fn word(self) -> &'static str {
        match self {
            RunOutcome::Success => "Success",
            RunOutcome::Failed => "Failed",
            RunOutcome::Timeout => "Timeout",
            RunOutcome::Cancelled => "Cancelled",
            RunOutcome::Error => "Error",
        }
    }
}

/// Who made an answer, and with what (§3.4). Nothing here is believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    pub model_id: String,
    #[serde(default)]
    pub sampling: Sampling,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<String>,
    /// Hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_pubkey: Option<String>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sampling {
    #[serde(deserialize_with = "finite")]
    pub temperature: f32,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_finite")]
    pub top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCounts {
    pub input: u32,
    pub output: u32,
}

/// `oa.repo_index.v1`: an index of a tree (§3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"repo_url": "https://example.com/r.git", "git_ref": "main", "expected_tree_sha256": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"}))]
pub struct RepoIndexRequest {
    pub repo_url: String,
    pub git_ref: String,
    pub expected_tree_sha256: String,
    #[serde(default = "digests_only")]
    pub index_types: Vec<IndexType>,
    #[serde(default)]
    pub verification: Verification,
}

fn digests_only() -> Vec<IndexType> {
    vec![IndexType::Digests]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IndexType {
    Digests,
    Symbols,
    Embeddings,
    Dependencies,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RepoIndexResponse {
    pub tree_sha256: String,
    #[serde(default)]
    pub digests: Vec<FileDigest>,
    #[serde(default)]
    pub artifacts: Vec<IndexArtifact>,
    pub provenance: Provenance,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDigest {
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IndexArtifact {
    pub index_type: IndexType,
    pub sha256: String,
    pub bytes: u64,
}

/// The name of a sandbox job: the hash of everything it asks for (§2.1).
pub fn job_hash(request: &SandboxRunRequest) -> Result<String, serde_json::Error> {
    canonical::hash_of(request)
}

/// The hash of a tree: of its files by the bytes of their paths, whatever order they come in.
pub fn tree_hash(digests: &[FileDigest]) -> Result<String, serde_json::Error> {
    let mut sorted: Vec<&FileDigest> = digests.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    canonical::hash_of(&sorted)
}

/// The id under which the price of a job is reserved (§10.1).
pub fn reservation_id(job_hash: &str) -> String {
    format!("rsv_{}", short(job_hash))
}

/// The first 16 characters of a hash, as ids carry them.
pub fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(value: serde_json::Value) -> SandboxRunRequest {
        serde_json::from_value(value).expect("a request")
    }

    fn canon<T: Serialize>(value: &T) -> String {
        canonical::canon(&serde_json::to_value(value).expect("JSON"))
    }

    #[test]
    fn jobs_have_the_canonical_form_and_the_hash_of_the_specification() {
        for (given, form, hash) in [
            (
                json!({"sandbox":{"image_digest":"sha256:test"},"commands":[{"cmd":"echo hi"}]}),
                r#"{"commands":[{"cmd":"echo hi","continue_on_fail":false}],"repo":{"mount_path":"/workspace","source":""},"sandbox":{"image_digest":"sha256:test","network_policy":"none","provider":"docker","resources":{"cpus":1.0,"memory_mb":512,"timeout_secs":60}},"verification":{"adjudication":"none","mode":"objective","redundancy":1}}"#,
                "45350e7c071f6cb6ed6c8e5029f2dfd9f9e48a2debbc1f522b48d365bb6da1e9",
            ),
            (
                json!({"sandbox":{"image_digest":"sha256:test","resources":{"timeout_secs":30}},"commands":[{"cmd":"echo hi"}]}),
                r#"{"commands":[{"cmd":"echo hi","continue_on_fail":false}],"repo":{"mount_path":"/workspace","source":""},"sandbox":{"image_digest":"sha256:test","network_policy":"none","provider":"docker","resources":{"cpus":1.0,"memory_mb":512,"timeout_secs":30}},"verification":{"adjudication":"none","mode":"objective","redundancy":1}}"#,
                "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125",
            ),
            (
                json!({"sandbox":{"provider":"docker","image_digest":"sha256:abc123","network_policy":"none","resources":{"memory_mb":1024,"cpus":0.1,"timeout_secs":120,"disk_mb":500}},"repo":{"source":"https://example.com/r.git","git_ref":"main","mount_path":"/w"},"commands":[{"cmd":"cargo test","workdir":"sub","continue_on_fail":true}],"env":{"RUST_LOG":"debug","A":"é\u{1}\n/"},"verification":{"mode":"objective"}}),
                "{\"commands\":[{\"cmd\":\"cargo test\",\"continue_on_fail\":true,\"workdir\":\"sub\"}],\"env\":{\"A\":\"é\\u0001\\n/\",\"RUST_LOG\":\"debug\"},\"repo\":{\"git_ref\":\"main\",\"mount_path\":\"/w\",\"source\":\"https://example.com/r.git\"},\"sandbox\":{\"image_digest\":\"sha256:abc123\",\"network_policy\":\"none\",\"provider\":\"docker\",\"resources\":{\"cpus\":0.10000000149011612,\"disk_mb\":500,\"memory_mb\":1024,\"timeout_secs\":120}},\"verification\":{\"adjudication\":\"none\",\"mode\":\"objective\",\"redundancy\":1}}",
                "6b64c000192a2d5ee633663c9d77103a0d9511acd59fe2b212a9dca9d1b891e3",
            ),
        ] {
            let request = request(given);
            assert_eq!(canon(&request), form);
            assert_eq!(job_hash(&request).expect("a hash"), hash);
        }
    }

    #[test]
    fn what_means_the_same_has_the_same_hash() {
        let plain = request(json!({"sandbox":{"image_digest":"x"},"commands":[]}));
        let spelt = request(json!({
            "sandbox":{"image_digest":"x","provider":"docker","network_policy":"none","resources":{"disk_mb":null,"cpus":1},"later":1},
            "repo":{"source":"","git_ref":null},"commands":[],"env":{},"verification":{"mode":"objective"},"unknown":[1]
        }));
        assert_eq!(job_hash(&plain).expect("a hash"), job_hash(&spelt).expect("a hash"));
    }

    #[test]
    fn processors_are_written_as_widened_floats() {
        for (given, written) in [
            (json!(1), "1.0"),
            (json!(2), "2.0"),
            (json!(0.5), "0.5"),
            (json!(1.5), "1.5"),
            (json!(0.3), "0.30000001192092896"),
            (json!(3.3), "3.299999952316284"),
        ] {
            let resources: Resources = serde_json::from_value(json!({"cpus": given})).expect("resources");
            let cpus = serde_json::to_value(&resources).expect("JSON")["cpus"].clone();
            assert_eq!(canonical::canon(&cpus), written);
        }
        assert!(serde_json::from_value::<Resources>(json!({"cpus": -1e39})).is_err());
    }

    #[test]
    fn what_is_required_is_missed() {
        let good = json!({"sandbox":{"image_digest":""},"commands":[]});
        assert!(serde_json::from_value::<SandboxRunRequest>(good.clone()).is_ok());
        for (member, value) in [
            ("sandbox", json!({})),
            ("repo", json!({})),
            ("commands", json!([{}])),
            ("verification", json!({})),
            ("env", json!({"A": 1})),
        ] {
            let mut wrong = good.clone();
            wrong[member] = value;
            assert!(serde_json::from_value::<SandboxRunRequest>(wrong).is_err(), "{member}");
        }
        assert!(serde_json::from_value::<SandboxRunRequest>(json!({"commands":[]})).is_err());
    }

    #[test]
    fn a_tree_has_one_hash_in_whatever_order_it_is_told() {
        let file = |path: &str, digit: &str, bytes| FileDigest {
            path: path.into(),
            sha256: digit.repeat(64),
            bytes,
        };
        let mut tree = vec![file("src/lib.rs", "1", 2), file("README.md", "0", 1)];
        let hash = "fe1e97395b701fbbaabfd5e04c4785cdd72ae06d65e1dd37fe79b602dae1ae4e";
        assert_eq!(tree_hash(&tree).expect("a hash"), hash);
        tree.reverse();
        assert_eq!(tree_hash(&tree).expect("a hash"), hash);
        let empty = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
        assert_eq!(tree_hash(&[]).expect("a hash"), empty);
    }

    #[test]
    fn a_response_is_written_as_it_is_specified() {
        let given = json!({
            "env_info":{"image_digest":"sha256:test","hostname":null},
            "runs":[{"cmd":"echo hi","exit_code":0,"duration_ms":1,"stdout_sha256":"o","stderr_sha256":"e","secret":1}],
            "status":"success","provenance":{"model_id":"sandbox-local"}
        });
        let response: SandboxRunResponse = serde_json::from_value(given).expect("a response");
        assert_eq!(
            serde_json::to_string(&response).expect("JSON"),
            r#"{"env_info":{"image_digest":"sha256:test"},"runs":[{"cmd":"echo hi","exit_code":0,"duration_ms":1,"stdout_sha256":"o","stderr_sha256":"e"}],"artifacts":[],"status":"success","provenance":{"model_id":"sandbox-local","sampling":{"temperature":0.0}}}"#
        );
    }

    #[test]
    fn a_reservation_is_named_after_its_job() {
        let hash = "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125";
        assert_eq!(reservation_id(hash), "rsv_0bbc941015e085b5");
    }
}
