//! Decides what lies in the data directory and who may read it: the keys, made once and kept at mode 0600, the spools, and where the servers are.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oa_contract::{credential::hex, signer::Signer};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Settings},
    failure::Failure,
    system::random,
};

/// A directory of `oa`. Nothing in it is made before a command needs it.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The secrets that the services share.
pub struct Keys {
    /// Signs service credentials.
    pub signature: SecretString,
    /// The bearer token of the runtime.
    pub token: SecretString,
    /// Signs receipts.
    pub receipt: SecretString,
    /// Signs the releases of the skill registry.
    pub registry: SecretString,
}

/// Where the servers of this directory are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    pub pid: u32,
}

/// A secret in the directory: its file, the settings that win over it, how it is made and what it must be.
struct Key {
    file: &'static str,
    setting: &'static str,
    make: fn() -> String,
    check: fn(&str) -> Result<(), &'static str>,
}

const SIGNATURE: Key = Key {
    file: "signature.secret",
    setting: "RUNTIME_SIGNATURE_SECRET",
    make: || hex(&random()),
    check: |text| if text.is_empty() { Err("it is empty") } else { Ok(()) },
};
fn personal_check(text: &str) -> Result<(), &'static str> {
    if text.starts_with("oa_pat_") { Ok(()) } else { Err("it is not a personal token") }
}

const TOKEN: Key = Key {
    file: "service.token",
    setting: "RUNTIME_SERVICE_TOKEN",
    make: || format!("oa_st_{}", hex(&random())),
    check: |text| if text.is_empty() { Err("it is empty") } else { Ok(()) },
};
const RECEIPT: Key = Key {
    file: "receipt.key",
    setting: "RUNTIME_BRIDGE_NOSTR_SECRET_KEY",
    make: receipt_key,
    check: |text| {
        Signer::from_secret(text)
            .map(drop)
            .map_err(|_| "it is neither 64 hex digits nor nsec1… of a valid key")
    },
};
const REGISTRY: Key = Key { file: "registry.key", setting: "OA_SKILLS_SIGNING_KEY", ..RECEIPT };
const KEYS: [Key; 4] = [SIGNATURE, TOKEN, RECEIPT, REGISTRY];

/// Nearly every 256-bit number is a key; the others are not used.
fn receipt_key() -> String {
    loop {
        let text = hex(&random());
        if Signer::from_secret(&text).is_ok() {
            return text;
        }
    }
}

impl DataDir {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        DataDir { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `oa exec` keeps what the server has not acknowledged.
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    fn keys_path(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// Makes the directory, for its owner only.
    pub fn create(&self) -> Result<(), Failure> {
        make_directory(&self.path)
    }

    /// Makes the spool's directory, for its owner only.
    pub fn create_spool(&self) -> Result<PathBuf, Failure> {
        self.create()?;
        let spool = self.spool();
        make_directory(&spool)?;
        Ok(spool)
    }

    /// Makes a directory in the spool's, for its owner only.
    pub fn create_spool_of(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.create_spool()?.join(name);
        make_directory(&path)?;
        Ok(path)
    }

    /// Makes everything that a first start needs, and says what the keys are.
    pub fn prepare(&self, settings: &Settings) -> Result<Keys, Failure> {
        if self.path.join(crate::backup::MANIFEST).exists() {
            return Err(Failure::usage(format!(
                "{} is a backup, which stays as it is: `oa restore` makes a data directory of it",
                self.path.display()
            )));
        }
        self.create()?;
        make_directory(&self.keys_path())?;
        let conf = self.path.join(config::FILE);
        if !conf.exists() {
            write_atomically(&conf, config::sample_file().as_bytes())?;
        }
        Ok(Keys {
            signature: self.key(&SIGNATURE, settings)?,
            token: self.key(&TOKEN, settings)?,
            receipt: self.key(&RECEIPT, settings)?,
            registry: self.key(&REGISTRY, settings)?,
        })
    }

    fn key(&self, key: &Key, settings: &Settings) -> Result<SecretString, Failure> {
        if let Some(value) = settings.get(key.setting) {
            (key.check)(value)
                .map_err(|why| Failure::usage(format!("{} cannot be used: {why}", key.setting)))?;
            return Ok(SecretString::from(value));
        }
        let path = self.keys_path().join(key.file);
        if !path.exists() {
            make_key(&path, &(key.make)())?;
        }
        read_key(&path, key.check)
    }

    /// Where the token lies.
    pub fn token_path(&self) -> PathBuf {
        self.keys_path().join(TOKEN.file)
    }

    /// The token in this directory, if a server has made one.
    pub fn token(&self) -> Result<Option<SecretString>, Failure> {
        let path = self.token_path();
        match path.exists() {
            true => read_key(&path, TOKEN.check).map(Some),
            false => Ok(None),
        }
    }

    /// Where the personal token of whoever runs `oa up` lies.
    pub fn personal_token_path(&self) -> PathBuf {
        self.keys_path().join("personal.token")
    }

    /// The personal token that an earlier `oa up` made.
    pub fn personal_token(&self) -> Result<Option<SecretString>, Failure> {
        let path = self.personal_token_path();
        match path.exists() {
            true => read_key(&path, personal_check).map(Some),
            false => Ok(None),
        }
    }

    /// Keeps the personal token, readable by its owner only.
    pub fn keep_personal_token(&self, token: &str) -> Result<(), Failure> {
        make_key(&self.personal_token_path(), token)
    }

    /// The code that the built-in sign-in takes, made at random on the first start: a code that everybody knows
    /// would sign everybody in who can reach the port.
    pub fn sign_in_code(&self) -> Result<SecretString, Failure> {
        let path = self.keys_path().join("sign-in.code");
        if !path.exists() {
            make_key(&path, &hex(&random()[..8]))?;
        }
        read_key(&path, |text| if text.len() >= 6 { Ok(()) } else { Err("it is too short to be a code") })
    }

    /// The secret of sync tokens, made on the first start.
    pub fn sync_token_key(&self) -> Result<SecretString, Failure> {
        let path = self.keys_path().join("sync-token.key");
        if !path.exists() {
            make_key(&path, &hex(&random()))?;
        }
        read_key(&path, |text| if text.len() >= 32 { Ok(()) } else { Err("it is too short to be a key") })
    }

    /// The key that secrets in control's store are encrypted with, made on the first start.
    pub fn integration_key(&self) -> Result<SecretString, Failure> {
        let path = self.keys_path().join("integration.key");
        if !path.exists() {
            make_key(&path, &STANDARD.encode(random()))?;
        }
        read_key(&path, |text| match STANDARD.decode(text) {
            Ok(bytes) if bytes.len() == 32 => Ok(()),
            _ => Err("it is not 32 bytes in base64"),
        })
    }

    /// What is wrong with the keys that are there, one sentence each.
    pub fn key_findings(&self) -> Vec<String> {
        let present = KEYS.iter().filter_map(|key| {
            let path = self.keys_path().join(key.file);
            path.exists().then(|| read_key(&path, key.check).err()).flatten()
        });
        present.map(|failure| failure.sentence).collect()
    }

    fn endpoints_path(&self) -> PathBuf {
        self.path.join("endpoints.json")
    }

    /// Where the servers of this directory said they are, if they did.
    pub fn endpoints(&self) -> Result<Option<Endpoints>, Failure> {
        let path = self.endpoints_path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Failure::wrong(format!(
                    "{} is damaged ({error}): remove it and start the server again",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file(&path, &error)),
        }
    }

    /// Tells client commands where this process listens. What another command said of the other service stays.
    pub fn announce(&self, here: &Endpoints) -> Result<(), Failure> {
        let before = self.endpoints().ok().flatten().unwrap_or_default();
        let all = Endpoints {
            runtime: here.runtime.clone().or(before.runtime),
            control: here.control.clone().or(before.control),
            pid: here.pid,
        };
        self.write_endpoints(&all)
    }

    /// Takes back what `announce` said, unless another process has said something else since.
    pub fn withdraw(&self, here: &Endpoints) -> Result<(), Failure> {
        let Some(said) = self.endpoints()? else { return Ok(()) };
        let left = Endpoints {
            runtime: said.runtime.filter(|url| here.runtime.as_ref() != Some(url)),
            control: said.control.filter(|url| here.control.as_ref() != Some(url)),
            pid: said.pid,
        };
        match (&left.runtime, &left.control) {
            (None, None) => fs::remove_file(self.endpoints_path())
                .map_err(|error| Failure::file(&self.endpoints_path(), &error)),
            _ => self.write_endpoints(&left),
        }
    }

    fn write_endpoints(&self, all: &Endpoints) -> Result<(), Failure> {
        let text = serde_json::to_vec(all).map_err(|error| Failure::wrong(error.to_string()))?;
        write_atomically(&self.endpoints_path(), &text)
    }
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| Failure::file(path, &error))
}

/// Writes a key that nobody else can read, and loses no race: of two first starts one makes the key and
/// both use it.
fn make_key(path: &Path, text: &str) -> Result<(), Failure> {
    let draft = draft_of(path);
    let made = write_durably(&draft, text.as_bytes()).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let _ = fs::remove_file(&draft);
    made.and_then(|()| sync_parent(path)).map_err(|error| Failure::file(path, &error))
}

fn read_key(path: &Path, check: fn(&str) -> Result<(), &'static str>) -> Result<SecretString, Failure> {
    let mut file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    let mode = file.metadata().map_err(|error| Failure::file(path, &error))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::wrong(format!(
            "{0} can be read by others (mode {mode:03o}): treat the key as known to them, or run `chmod 600 {0}` if nobody else uses this machine",
            path.display()
        )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| Failure::file(path, &error))?;
    let text = text.trim();
    check(text).map_err(|why| Failure::wrong(format!("{} is damaged: {why}", path.display())))?;
    Ok(SecretString::from(text))
}

/// A file beside `path` that no other process writes.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    path.with_file_name(name)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Writes the whole file or leaves it as it was, durably.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let draft = draft_of(path);
    let written =
        write_durably(&draft, bytes).and_then(|()| fs::rename(&draft, path)).and_then(|()| sync_parent(path));
    written.map_err(|error| {
        let _ = fs::remove_file(&draft);
        Failure::file(path, &error)
    })
}

/// The text of a secret, for the one place that sends it.
pub fn reveal(secret: &SecretString) -> &str {
    secret.expose_secret()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::config::SettingFlags;

    /// A directory of a test, removed with it.
    pub struct Scratch(PathBuf);

    impl Scratch {
        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub fn scratch() -> Scratch {
        let path = std::env::temp_dir().join(format!("oa-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).expect("a directory");
        Scratch(path)
    }

    fn settings(data: &DataDir) -> Settings {
        Settings::load(&SettingFlags::default(), &|_| None, data).expect("settings")
    }

    #[test]
    fn a_first_start_makes_keys_that_only_the_owner_reads_and_the_next_finds_them() {
        let directory = scratch();
        let data = DataDir::at(directory.path().join("new"));
        let first = data.prepare(&settings(&data)).expect("keys");
        let again = data.prepare(&settings(&data)).expect("keys");
        assert_eq!(reveal(&first.token), reveal(&again.token));
        assert_eq!(reveal(&first.token).len(), 6 + 64);
        assert!(Signer::from_secret(reveal(&first.receipt)).is_ok());
        assert_eq!(fs::metadata(data.path()).expect("there").mode() & 0o777, 0o700);
        for key in KEYS {
            assert_eq!(fs::metadata(data.keys_path().join(key.file)).expect("there").mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(data.keys_path()).expect("there").count(), KEYS.len(), "no draft is left");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        data.prepare(&settings(&data)).expect("keys");
        let path = data.keys_path().join(TOKEN.file);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        let failure = data.token().map(drop).expect_err("others can read it");
        assert!(failure.sentence.contains("chmod 600"), "{failure}");
        assert_eq!(data.key_findings().len(), 1);
    }

    #[test]
    fn a_key_of_the_environment_wins_and_a_damaged_one_is_named() {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        let given = |value: &'static str| {
            let environment =
                move |name: &str| (name == "RUNTIME_BRIDGE_NOSTR_SECRET_KEY").then(|| value.to_owned());
            Settings::load(&SettingFlags::default(), &environment, &data).expect("settings")
        };
        let key = "0000000000000000000000000000000000000000000000000000000000000003";
        assert_eq!(reveal(&data.prepare(&given(key)).expect("keys").receipt), key);
        assert!(!data.keys_path().join(RECEIPT.file).exists());
        let failure = data.prepare(&given("xyz")).map(drop).expect_err("not a key");
        assert!(
            failure.sentence.contains("RUNTIME_BRIDGE_NOSTR_SECRET_KEY") && !failure.sentence.contains("xyz"),
            "{failure}"
        );
    }

    #[test]
    fn of_many_first_starts_at_once_all_use_one_key() {
        let directory = scratch();
        let path = directory.path().join("k");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || make_key(path, &format!("key {n}")).expect("made"));
            }
        });
        let key = read_key(&path, |_| Ok(())).expect("a key");
        make_key(&path, "later").expect("made");
        assert_eq!(reveal(&read_key(&path, |_| Ok(())).expect("a key")), reveal(&key));
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "no draft is left");
    }

    #[test]
    fn each_service_announces_itself_without_forgetting_the_other() {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        assert_eq!(data.endpoints().expect("read"), None);
        let runtime = Endpoints { runtime: Some("http://127.0.0.1:4100".into()), control: None, pid: 1 };
        data.announce(&runtime).expect("written");
        let control = Endpoints { runtime: None, control: Some("http://127.0.0.1:8787".into()), pid: 2 };
        data.announce(&control).expect("written");
        let both = data.endpoints().expect("read").expect("there");
        assert_eq!((&both.runtime, &both.control, both.pid), (&runtime.runtime, &control.control, 2));
        data.withdraw(&runtime).expect("withdrawn");
        assert_eq!(data.endpoints().expect("read"), Some(control.clone()));
        data.withdraw(&control).expect("withdrawn");
        assert_eq!(data.endpoints().expect("read"), None);
    }
}
