//! Decides how skills travel between directories and the registry: pushed as they stand, pulled byte for byte, and
//! verified without any server.

mod directory;
mod front_matter;
pub mod pull;
pub mod push;
pub mod verify;

use oa_contract::bundle::Verified;
use serde_json::{Value, json};

use crate::{failure::Failure, output::plain};

/// What was published is written beside the files under this name.
pub const RECORD: &str = ".oa-skill.json";

/// `ID` or `ID@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: String,
    pub version: Option<u64>,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, version) = match text.rsplit_once('@') {
            Some((id, version)) => {
                let wrong = || format!("`{version}` is no version: ID@2 names version 2");
                let version = oa_contract::bundle::digits(version).filter(|version| *version > 0);
                (id, Some(version.ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        match id.trim().is_empty() {
            true => Err("an id must not be blank".to_owned()),
            false => Ok(Named { id: id.trim().to_owned(), version }),
        }
    }
}

/// A public key on the command line.
pub fn public_key(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_lowercase()),
        false => Err("a public key is 64 hex digits".to_owned()),
    }
}

/// Who signed, as a person should read it.
fn signed_by(verified: &Verified, expected: bool) -> String {
    match (&verified.signer, expected) {
        (Some(key), true) => format!("{key}, as expected"),
        (Some(key), false) => format!("{key}: give it as --key if you know whose key it is"),
        (None, _) => "nobody: the bundle fits together, but anybody could have written it".to_owned(),
    }
}

fn described(verified: &Verified) -> Value {
    json!({
        "skill_id": verified.skill_id,
        "version": verified.version,
        "release_id": verified.release_id,
        "bundle_hash": verified.bundle_hash,
        "org_id": verified.org_id,
        "files": verified.files.iter().map(|file| &file.path).collect::<Vec<_>>(),
        "signer": verified.signer,
    })
}

fn lines(verified: &Verified, expected: bool) -> String {
    crate::output::table(&[
        vec!["release".into(), verified.release_id.clone()],
        vec!["bundle".into(), format!("sha256 {}", verified.bundle_hash)],
        vec!["files".into(), verified.files.len().to_string()],
        vec!["published by".into(), plain(&verified.org_id)],
        vec!["signed by".into(), signed_by(verified, expected)],
    ])
}

fn unreadable(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::wrong(format!("{what} cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_name_its_version() {
        assert_eq!("a@2".parse(), Ok(Named { id: "a".into(), version: Some(2) }));
        assert_eq!(" a ".parse(), Ok(Named { id: "a".into(), version: None }));
        for bad in ["", "@1", "a@", "a@0", "a@x", "a@-1"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }
}
