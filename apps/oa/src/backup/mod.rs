//! Decides what a backup of a data directory is: a directory with one moment of each embedded store, the keys, the
//! settings, and a manifest that says what each file must be.

pub mod restore;
pub mod take;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use oa_contract::credential::hex;
use oa_store::backup::Heads;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{config, failure::Failure};

/// The manifest's file; a directory that holds it is a backup and no data directory.
pub const MANIFEST: &str = "oa-backup.json";
const FORMAT: &str = "oa-backup.v1";
/// The embedded stores, in the order they are copied: what control says that it had done by the runtime is in the
/// runtime's copy, and what the runtime asked of a wallet in the wallet's.
pub const STORES: [&str; 3] = ["control", "runtime", "wallet"];
const KEYS: &str = "keys";
const MAX_MANIFEST: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    /// The version of oa that made it.
    pub oa_version: String,
    pub taken_at: String,
    /// Whether keys and settings are in it.
    pub with_keys: bool,
    pub stores: Vec<StoreEntry>,
    pub files: Vec<FileEntry>,
}

/// A store, and where its logs ended when it was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreEntry {
    pub name: String,
    pub schema_version: i64,
    pub runs: u64,
    pub events: u64,
    pub run_heads_sha256: String,
    pub rows: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

impl StoreEntry {
    fn new(name: &str, heads: Heads) -> Self {
        StoreEntry {
            name: name.to_owned(),
            schema_version: heads.schema_version,
            runs: heads.runs,
            events: heads.events,
            run_heads_sha256: heads.run_heads_sha256,
            rows: heads.tables.into_iter().map(|(table, rows)| (table, rows.into())).collect(),
        }
    }
}

impl Manifest {
    /// Reads the manifest of a backup, and checks that it names nothing but what a backup holds.
    pub fn read(backup: &Path) -> Result<Self, Failure> {
        let path = backup.join(MANIFEST);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::usage(format!(
                "{} is no backup: it holds no {MANIFEST}. A copy that broke off has none",
                backup.display()
            )),
            _ => Failure::file(&path, &error),
        })?;
        let damaged = |why: String| Failure::wrong(format!("{} is damaged: {why}", path.display()));
        let mut text = String::new();
        file.take(MAX_MANIFEST).read_to_string(&mut text).map_err(|error| Failure::file(&path, &error))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(Failure::wrong(format!(
                "{} is of the form {:?}, and this version of oa reads {FORMAT}",
                path.display(),
                manifest.format
            )));
        }
        for (place, file) in manifest.files.iter().enumerate() {
            if !belongs(&file.path) {
                return Err(damaged(format!("it names {:?}, which no backup holds", file.path)));
            }
            if manifest.files[..place].iter().any(|other| other.path == file.path) {
                return Err(damaged(format!("it names {:?} twice", file.path)));
            }
        }
        for store in &manifest.stores {
            let file = store_file(&store.name);
            if !manifest.files.iter().any(|listed| listed.path == file) {
                return Err(damaged(format!("it lists no file for the {} store", store.name)));
            }
        }
        Ok(manifest)
    }

    /// Copies every file to `to`, and compares it with what the manifest says while it is read.
    pub fn copy_files(&self, backup: &Path, to: &Path) -> Result<(), Failure> {
        self.files.iter().try_for_each(|entry| copied(backup, entry, Some(to)))
    }

    /// The same, but keys and settings are only compared: they are nowhere else meanwhile.
    pub fn copy_stores(&self, backup: &Path, to: &Path) -> Result<(), Failure> {
        let is_store =
            |entry: &FileEntry| self.stores.iter().any(|store| store_file(&store.name) == entry.path);
        self.files.iter().try_for_each(|entry| copied(backup, entry, is_store(entry).then_some(to)))
    }
}

fn copied(backup: &Path, entry: &FileEntry, to: Option<&Path>) -> Result<(), Failure> {
    let source = backup.join(&entry.path);
    let target = to.map(|to| to.join(&entry.path));
    if let Some(folder) = target.as_deref().and_then(Path::parent) {
        make_directory(folder)?;
    }
    let found = copy_file(&source, target.as_deref(), &entry.path)?;
    compare(&source, entry, &found)
}

fn compare(source: &Path, wanted: &FileEntry, found: &FileEntry) -> Result<(), Failure> {
    match wanted == found {
        true => Ok(()),
        false => Err(Failure::wrong(format!(
            "{} is not what was backed up: it has {} bytes with sha256 {}, and the manifest says {} bytes with {}; use another backup",
            source.display(),
            found.bytes,
            found.sha256,
            wanted.bytes,
            wanted.sha256
        ))),
    }
}

fn store_file(name: &str) -> String {
    format!("{name}.db")
}

/// Whether a path of a manifest is one that a backup holds. Nothing else is ever written by a restore.
fn belongs(path: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    match parts[..] {
        [Component::Normal(name)] => {
            name == config::FILE || STORES.iter().any(|store| name == store_file(store).as_str())
        }
        [Component::Normal(folder), Component::Normal(name)] => {
            folder == KEYS && path == format!("{KEYS}/{}", name.to_string_lossy())
        }
        _ => false,
    }
}

/// Copies a file for its owner only, synced, and says what it was; without a target it is only read.
fn copy_file(source: &Path, target: Option<&Path>, name: &str) -> Result<FileEntry, Failure> {
    let failed = |error: io::Error| Failure::file(source, &error);
    let mut from = File::open(source).map_err(failed)?;
    if !from.metadata().map_err(failed)?.is_file() {
        return Err(Failure::wrong(format!("{} is not a file", source.display())));
    }
    let create = |path: &Path| OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    let unwritten = |error: io::Error| Failure::file(target.unwrap_or(source), &error);
    let mut to = target.map(create).transpose().map_err(unwritten)?;
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        digest.update(&buffer[..read]);
        bytes += read as u64;
        if let Some(to) = &mut to {
            to.write_all(&buffer[..read]).map_err(unwritten)?;
        }
    }
    if let Some(to) = to {
        to.sync_all().map_err(unwritten)?;
    }
    Ok(FileEntry { path: name.to_owned(), bytes, sha256: hex(&digest.finalize()) })
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    made.map_err(|error| Failure::file(path, &error))
}

/// A directory that is being filled beside the place where it will stand whole, and goes away unless it gets there.
struct Draft {
    path: PathBuf,
    place: PathBuf,
    kept: bool,
}

impl Draft {
    /// `place` is not there yet, or an empty directory.
    fn beside(place: &Path) -> Result<Self, Failure> {
        let place = std::path::absolute(place).map_err(|error| Failure::file(place, &error))?;
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(Failure::usage(format!("{} cannot be made", place.display())));
        };
        fs::create_dir_all(parent).map_err(|error| Failure::file(parent, &error))?;
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}.partial", uuid::Uuid::new_v4().simple()));
        let path = parent.join(draft);
        let draft = Draft { path, place, kept: false };
        make_directory(&draft.path)?;
        Ok(draft)
    }

    /// Gives the directory its name: everything in it is on disk before, and the name is afterwards. Something that
    /// has come to the place meanwhile is never replaced.
    fn keep(mut self) -> Result<PathBuf, Failure> {
        sync_directories(&self.path)?;
        fs::rename(&self.path, &self.place).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory => Failure::wrong(format!(
                "{} holds something meanwhile: nothing was changed",
                self.place.display()
            )),
            _ => Failure::file(&self.place, &error),
        })?;
        self.kept = true;
        if let Some(parent) = self.place.parent() {
            sync(parent)?;
        }
        Ok(self.place.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn sync(path: &Path) -> Result<(), Failure> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| Failure::file(path, &error))
}

fn sync_directories(path: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(path).map_err(|error| Failure::file(path, &error))? {
        let entry = entry.map_err(|error| Failure::file(path, &error))?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sync_directories(&entry.path())?,
            _ => sync(&entry.path())?,
        }
    }
    sync(path)
}

/// Whether something is at the path: not there, or an empty directory, is free.
fn is_free(path: &Path) -> Result<bool, Failure> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(Failure::file(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::tests::scratch;

    #[test]
    fn a_manifest_can_name_nothing_outside_of_a_backup() {
        for fine in ["runtime.db", "control.db", "wallet.db", "oa.conf", "keys/receipt.key"] {
            assert!(belongs(fine), "{fine}");
        }
        for odd in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../runtime.db",
            "keys",
            "keys/",
            "keys/..",
            "keys/../../x",
            "keys/a/b",
            "keys//a",
            "./runtime.db",
            "other.db",
            "runtime.db-wal",
            MANIFEST,
        ] {
            assert!(!belongs(odd), "{odd}");
        }
    }

    #[test]
    fn a_draft_replaces_nothing_and_leaves_nothing() {
        let home = scratch();
        let place = home.path().join("b");
        let draft = Draft::beside(&place).expect("a draft");
        fs::write(draft.path.join("x"), "x").expect("written");
        fs::create_dir(&place).expect("somebody else came");
        fs::write(place.join("theirs"), "y").expect("written");
        let failure = draft.keep().expect_err("there is something");
        assert!(failure.sentence.contains("holds something"), "{failure}");
        assert_eq!(fs::read_dir(home.path()).expect("it").count(), 1, "the draft is gone");
        assert!(place.join("theirs").exists());
    }
}
