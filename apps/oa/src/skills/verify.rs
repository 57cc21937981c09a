//! Decides what a pulled skill says to somebody who has nothing but the files: the release as it was signed, or the
//! first thing that does not fit.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use oa_contract::bundle::{Unfit, Verified, verify_release};
use serde_json::{Value, json};

use super::{RECORD, described, directory, lines, unreadable};
use crate::{
    failure::{Failure, OK, WRONG},
    output::{Format, plain},
};

/// No release is larger: the server takes no body beyond 2 MiB.
const MAX_RECORD_BYTES: u64 = 8 * 1024 * 1024;

/// Checks a directory, or the record of a release alone; gives the exit code.
pub fn verify(place: &Path, key: Option<&str>, format: Format) -> Result<u8, Failure> {
    let is_directory = place.is_dir();
    let record: PathBuf = if is_directory { place.join(RECORD) } else { place.to_owned() };
    let release = read(&record)?;
    let fits = verify_release(&release, key).and_then(|verified| {
        if is_directory {
            let found = directory::read(place).map_err(|failure| Unfit(failure.sentence))?;
            compare(&verified, &found)?;
        }
        Ok(verified)
    });
    match fits {
        Ok(verified) => {
            let what = format!("{} version {}", plain(&verified.skill_id), verified.version);
            let said = format!("{} is {what}\n{}", place.display(), lines(&verified, key.is_some()));
            let mut shown = described(&verified);
            shown["verified"] = json!(true);
            format.show(&said, &shown).map(|()| OK)
        }
        Err(unfit) => {
            let said =
                format!("{} is not what was published: {}", place.display(), plain(&unfit.to_string()));
            format.show(&said, &json!({"verified": false, "why": unfit.to_string()}))?;
            Ok(WRONG)
        }
    }
}

fn read(record: &Path) -> Result<Value, Failure> {
    let mut text = Vec::new();
    let file = fs::File::open(record).map_err(|error| Failure::file(record, &error))?;
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text).map_err(|error| Failure::file(record, &error))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| unreadable(&record.display().to_string(), error))?;
    // An answer of the registry, saved as it came, holds the release under `data`.
    Ok(match value.get("data") {
        Some(release) => release.clone(),
        None => value,
    })
}

/// Every file of the release is there, unchanged, and there is no other.
fn compare(verified: &Verified, found: &[oa_contract::bundle::File]) -> Result<(), Unfit> {
    for file in &verified.files {
        let Some(there) = found.iter().find(|there| there.path == file.path) else {
            return Err(Unfit(format!("{} is missing", file.path)));
        };
        if there.bytes != file.bytes {
            return Err(Unfit(format!("{} was changed", file.path)));
        }
        if there.executable != file.executable {
            let what = if file.executable { "is no longer executable" } else { "was made executable" };
            return Err(Unfit(format!("{} {what}", file.path)));
        }
    }
    let strange =
        |file: &&oa_contract::bundle::File| verified.files.iter().all(|known| known.path != file.path);
    match found.iter().find(strange) {
        Some(file) => Err(Unfit(format!("{} is not part of the release", file.path))),
        None => Ok(()),
    }
}
