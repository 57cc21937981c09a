//! Decides what a bundled skill is: which files a specification may carry, what of a release is signed, and
//! whether both still say what was published (control §12, §21.1.7).

use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    canonical::{canonical_digest, canonical_hash, hex},
    signer::{self, Signer},
};

/// The format of every bundle.
pub const FORMAT: &str = "agent_skills.v1";
/// What every release's signature calls itself.
pub const SIGNATURE_SCHEMA: &str = "openagents.skill_release_signature.v1";
/// The file that a skill is read from.
pub const SKILL_FILE: &str = "SKILL.md";

/// How many files a specification may carry.
pub const MAX_FILES: usize = 200;
/// How many bytes all files of a specification may have together.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// How long a path and each part of it may be, so that every archive can hold it.
const MAX_PATH_BYTES: usize = 155;
const MAX_PART_BYTES: usize = 100;

/// A BIP-340 signature over the signed members of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseSignature {
    /// `openagents.skill_release_signature.v1`.
    pub schema: String,
    /// `bip340`.
    pub scheme: String,
    /// The key of the registry, 64 hex digits.
    pub signer_pubkey: String,
    /// SHA-256 over the canonical form of `release_id`, `version`, `bundle_hash`, `published_at`, `org_id` and
    /// `bundle`.
    pub signed_sha256: String,
    pub signature_hex: String,
}

/// What of a release is signed. The skill's id is in its specification.
pub struct Signed<'a> {
    pub org_id: &'a str,
    pub version: u64,
    pub published_at: &'a str,
    pub skill_spec: &'a Value,
}

/// `skillrel_` and the first 12 digits of the bundle's hash.
pub fn release_id(bundle_hash: &str) -> String {
    format!("skillrel_{}", bundle_hash.get(..12).unwrap_or(bundle_hash))
}

impl Signed<'_> {
    fn digest(&self) -> [u8; 32] {
        let bundle_hash = canonical_hash(self.skill_spec);
        canonical_digest(&json!({
            "release_id": release_id(&bundle_hash),
            "version": self.version,
            "bundle_hash": bundle_hash,
            "published_at": self.published_at,
            "org_id": self.org_id,
            "bundle": {"bundle_format": FORMAT, "skill_spec": self.skill_spec},
        }))
    }

    pub fn sign(&self, signer: &Signer) -> ReleaseSignature {
        let digest = self.digest();
        ReleaseSignature {
            schema: SIGNATURE_SCHEMA.to_owned(),
            scheme: "bip340".to_owned(),
            signer_pubkey: signer.public_key_hex(),
            signed_sha256: hex(&digest),
            signature_hex: hex(&signer.sign_digest(&digest)),
        }
    }
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative, with `/`; at most 155 bytes, 100 between two `/`.
    pub path: String,
    pub bytes: Vec<u8>,
    /// May be run; `scripts/` usually are.
    pub executable: bool,
}

impl File {
    /// As a specification carries it: text where it is text, otherwise base64.
    pub fn to_json(&self) -> Value {
        let mut file = json!({"path": self.path, "sha256": hex(&Sha256::digest(&self.bytes))});
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => file["text"] = json!(text),
            Err(_) => file["base64"] = json!(STANDARD.encode(&self.bytes)),
        }
        if self.executable {
            file["executable"] = json!(true);
        }
        file
    }
}

/// Reads the `files` of a specification, or says what is wrong with them.
pub fn files_of(skill_spec: &Value) -> Result<Vec<File>, String> {
    let listed = match &skill_spec["files"] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(listed) => listed,
        _ => return Err("files must be a list".to_owned()),
    };
    if listed.len() > MAX_FILES {
        return Err(format!("at most {MAX_FILES} files are taken, not {}", listed.len()));
    }
    let mut files = Vec::with_capacity(listed.len());
    let mut total = 0;
    for entry in listed {
        let file = file_of(entry)?;
        total += file.bytes.len();
        if total > MAX_FILE_BYTES {
            return Err(format!("the files hold more than {MAX_FILE_BYTES} bytes"));
        }
        files.push(file);
    }
    distinct(&files)?;
    if !files.is_empty() && !files.iter().any(|file| file.path == SKILL_FILE) {
        return Err(format!("the files must hold {SKILL_FILE}"));
    }
    Ok(files)
}

fn file_of(entry: &Value) -> Result<File, String> {
    let path = entry["path"].as_str().ok_or("every file must have a path")?;
    check_path(path)?;
    let bytes = match (entry["text"].as_str(), entry["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => STANDARD.decode(text).map_err(|_| format!("{path}: base64 does not decode"))?,
        _ => return Err(format!("{path}: a file has either text or base64")),
    };
    let sha256 = hex(&Sha256::digest(&bytes));
    if entry["sha256"].as_str() != Some(sha256.as_str()) {
        return Err(format!("{path}: sha256 is not that of its bytes, {sha256}"));
    }
    let executable = match &entry["executable"] {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        _ => return Err(format!("{path}: executable must be true or false")),
    };
    Ok(File { path: path.to_owned(), bytes, executable })
}

/// No path twice, whatever its case, and none that would have to be a file and a directory at once: both would
/// overwrite each other on some machine.
fn distinct(files: &[File]) -> Result<(), String> {
    let mut known = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for file in files {
        let lower = file.path.to_lowercase();
        folders.extend(lower.match_indices('/').map(|(at, _)| lower[..at].to_owned()));
        if !known.insert(lower) {
            return Err(format!("{} stands there twice", file.path));
        }
    }
    match known.intersection(&folders).next() {
        Some(path) => Err(format!("{path} is a file and a directory")),
        None => Ok(()),
    }
}

/// Refuses every path that could lead out of its directory or would be another one elsewhere.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*');
    let segment = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= MAX_PART_BYTES
            && !part.ends_with(['.', ' '])
            && part.chars().all(plain)
    };
    if path.len() > MAX_PATH_BYTES || !path.split('/').all(segment) {
        let shown: String = path.chars().take(80).flat_map(char::escape_default).collect();
        return Err(format!("`{shown}` is not a plain relative path of at most {MAX_PATH_BYTES} bytes"));
    }
    Ok(())
}

/// The names that the Agent Skills format allows: 1 to 64 of `a-z`, `0-9` and single hyphens between them.
pub fn is_skill_name(name: &str) -> bool {
    let inside =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 64 && name.split('-').all(inside)
}

/// A release that fits together.
#[derive(Clone, Debug)]
pub struct Verified {
    pub release_id: String,
    pub skill_id: String,
    pub version: u64,
    pub org_id: String,
    pub bundle_hash: String,
    pub files: Vec<File>,
    /// Whose signature it carries, if it carries one.
    pub signer: Option<String>,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(pub String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// Checks a release from nothing but itself; with a `signer`, it must be signed by that key.
pub fn verify_release(release: &Value, signer: Option<&str>) -> Result<Verified, Unfit> {
    let unfit = |what: String| Unfit(what);
    let text = |name: &str| {
        release[name].as_str().map(str::to_owned).ok_or_else(|| unfit(format!("`{name}` is missing")))
    };
    let version = release["version"].as_u64().ok_or_else(|| unfit("`version` is missing".into()))?;
    let skill_spec = &release["bundle"]["skill_spec"];
    if release["bundle"]["bundle_format"] != FORMAT || !skill_spec.is_object() {
        return Err(unfit(format!("the bundle is not of the format {FORMAT}")));
    }
    let bundle_hash = canonical_hash(skill_spec);
    if text("bundle_hash")? != bundle_hash {
        return Err(unfit(format!("the bundle was changed: its hash is {bundle_hash}")));
    }
    if text("release_id")? != release_id(&bundle_hash) {
        return Err(unfit("the release id is not that of the bundle".into()));
    }
    if pos_int(&skill_spec["version"]) != Some(version) {
        return Err(unfit("the version is not that of the bundle".into()));
    }
    let skill_id = skill_spec["skill_id"].as_str().map(str::trim).unwrap_or_default().to_owned();
    if text("skill_id")?.trim().to_lowercase() != skill_id.to_lowercase() {
        return Err(unfit("the skill id is not that of the bundle".into()));
    }
    let (org_id, published_at) = (text("org_id")?, text("published_at")?);
    let signed = Signed { org_id: &org_id, version, published_at: &published_at, skill_spec };
    let signer = check_signature(&release["signature"], &signed, signer)?;
    let files = files_of(skill_spec).map_err(Unfit)?;
    Ok(Verified {
        release_id: release_id(&bundle_hash),
        skill_id,
        version,
        org_id,
        bundle_hash,
        files,
        signer,
    })
}

fn check_signature(
    signature: &Value,
    signed: &Signed<'_>,
    wanted: Option<&str>,
) -> Result<Option<String>, Unfit> {
    if signature.is_null() {
        return match wanted {
            Some(key) => Err(Unfit(format!("it is not signed, though {key} should have"))),
            None => Ok(None),
        };
    }
    let read: ReleaseSignature = serde_json::from_value(signature.clone())
        .map_err(|error| Unfit(format!("the signature: {error}")))?;
    let digest = hex(&signed.digest());
    let ours = read.schema == SIGNATURE_SCHEMA && read.scheme == "bip340" && read.signed_sha256 == digest;
    if !ours || !signer::verify(&read.signer_pubkey, &digest, &read.signature_hex) {
        return Err(Unfit("the signature is not one of this release".into()));
    }
    match wanted {
        Some(key) if !key.eq_ignore_ascii_case(&read.signer_pubkey) => {
            Err(Unfit(format!("it is signed by {}, not by {key}", read.signer_pubkey)))
        }
        _ => Ok(Some(read.signer_pubkey)),
    }
}

/// `pos_int` of control §3: a JSON unsigned integer, or a string of decimal digits.
pub fn pos_int(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => digits(text),
        _ => None,
    }
}

/// Decimal digits and nothing else.
pub fn digits(text: &str) -> Option<u64> {
    let text = text.trim();
    let decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        let files = [
            File { path: SKILL_FILE.into(), bytes: b"# hi".to_vec(), executable: false },
            File { path: "scripts/run.sh".into(), bytes: vec![0xff, 0], executable: true },
        ];
        let files: Vec<Value> = files.iter().map(File::to_json).collect();
        json!({"skill_id": "Triage", "version": "2", "files": files})
    }

    fn release(signer: &Signer) -> Value {
        let spec = spec();
        let hash = canonical_hash(&spec);
        let signed =
            Signed { org_id: "user:u", version: 2, published_at: "2026-02-25T12:00:00Z", skill_spec: &spec };
        json!({
            "release_id": release_id(&hash), "skill_id": "triage", "version": 2, "bundle_hash": hash,
            "published_at": "2026-02-25T12:00:00Z", "org_id": "user:u", "signature": signed.sign(signer),
            "bundle": {"bundle_format": FORMAT, "skill_spec": spec},
        })
    }

    fn key(digit: &str) -> Signer {
        Signer::from_secret(&digit.repeat(64)).expect("a key")
    }

    #[test]
    fn a_release_proves_itself_and_names_its_signer() {
        let release = release(&key("2"));
        let verified = verify_release(&release, Some(&key("2").public_key_hex())).expect("fits");
        assert_eq!((verified.skill_id.as_str(), verified.version, verified.files.len()), ("Triage", 2, 2));
        assert!(verified.files[1].executable && verified.files[1].bytes == [0xff, 0]);
        assert!(verify_release(&release, Some(&key("3").public_key_hex())).is_err());
        let mut unsigned = release;
        unsigned["signature"] = Value::Null;
        assert_eq!(verify_release(&unsigned, None).expect("fits").signer, None);
        assert!(verify_release(&unsigned, Some(&key("2").public_key_hex())).is_err());
    }

    #[test]
    fn every_changed_member_is_found() {
        let good = release(&key("2"));
        for (pointer, other) in [
            ("/release_id", json!("skillrel_000000000000")),
            ("/skill_id", json!("other")),
            ("/version", json!(3)),
            ("/bundle_hash", json!("00")),
            ("/published_at", json!("2026-02-25T12:00:01Z")),
            ("/org_id", json!("user:v")),
            ("/bundle/bundle_format", json!("x")),
            ("/bundle/skill_spec/files/0/text", json!("# ho")),
            ("/signature/signed_sha256", json!("00")),
            ("/signature/signer_pubkey", json!(key("3").public_key_hex())),
        ] {
            let mut changed = good.clone();
            *changed.pointer_mut(pointer).expect(pointer) = other;
            assert!(verify_release(&changed, None).is_err(), "{pointer}");
        }
    }

    #[test]
    fn no_path_leads_out_of_its_directory() {
        for path in ["SKILL.md", "scripts/a b.sh", "assets/ü.png", ".hidden", "a/...b"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        let long = format!("{}/{}", "a".repeat(80), "b".repeat(80));
        let wide = "a".repeat(101);
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "C:\\x",
            "c:x",
            "a\\b",
            "a\nb",
            "a\0b",
            "x.",
            "..",
            &long,
            &wide,
        ] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn files_are_what_they_say_or_refused() {
        let file = |path: &str, text: &str| {
            File { path: path.into(), bytes: text.into(), executable: false }.to_json()
        };
        let with = |files: Vec<Value>| files_of(&json!({"files": files}));
        assert_eq!(with(vec![file("SKILL.md", "a")]).expect("files").len(), 1);
        assert_eq!(files_of(&json!({})), Ok(Vec::new()));
        assert!(with(vec![file("README.md", "a")]).expect_err("no SKILL.md").contains("SKILL.md"));
        assert!(
            with(vec![file("SKILL.md", "a"), file("skill.md", "b")]).expect_err("twice").contains("twice")
        );
        assert!(
            with(vec![file("SKILL.md", "a"), file("a", "b"), file("A/b", "c")])
                .expect_err("both")
                .contains("directory")
        );
        let mut wrong = file("SKILL.md", "a");
        wrong["text"] = json!("b");
        assert!(with(vec![wrong]).expect_err("another hash").contains("sha256"));
        let many: Vec<Value> = (0..=MAX_FILES).map(|n| file(&format!("f{n}"), "")).collect();
        assert!(with(many).expect_err("too many").contains("200"));
        let large = "x".repeat(MAX_FILE_BYTES);
        assert!(
            with(vec![file("SKILL.md", &large), file("b", "x")]).expect_err("too large").contains("bytes")
        );
    }

    #[test]
    fn a_name_is_lower_case_with_single_hyphens() {
        for name in ["a", "pdf-processing", "3d", &"a".repeat(64)] {
            assert!(is_skill_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "ü", &"a".repeat(65)] {
            assert!(!is_skill_name(name), "{name}");
        }
    }

    #[test]
    fn a_positive_integer_is_a_number_or_digits() {
        assert_eq!(pos_int(&json!(2)), Some(2));
        assert_eq!(pos_int(&json!("18446744073709551615")), Some(u64::MAX));
        for other in
            [json!(2.0), json!(-1), json!("+1"), json!(""), json!(null), json!("18446744073709551616")]
        {
            assert_eq!(pos_int(&other), None, "{other}");
        }
    }
}
