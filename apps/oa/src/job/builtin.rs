//! Decides which providers the command itself brings: one that does the job and, when that is wanted, one that does it
//! again. Each command has a place of its own in the data directory, so that several may run at once.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use oa_contract::{canonical::hex, wire::workers::NameOwner};
use sha2::{Digest as _, Sha256};

use super::Order;
use crate::{
    config::{SettingFlags, Settings, process_environment},
    connect::Place,
    data_dir::DataDir,
    failure::Failure,
    output::Format,
    provider::local::{Local, Tap, Wish},
};

/// Commands at one time.
const PLACES: u32 = 64;

/// A numbered place, as long as this lives.
pub struct Berth {
    data: DataDir,
    name: String,
    number: u32,
    _lock: Flock<File>,
}

impl Berth {
    /// The first free place.
    pub fn take(data: &DataDir) -> Result<Self, Failure> {
        data.create()?;
        let jobs = data.path().join("jobs");
        for number in 0..PLACES {
            let path = jobs.join(number.to_string());
            let wrong = |error: std::io::Error| Failure::file(&path, &error);
            fs::create_dir_all(&path).map_err(wrong)?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
            match Flock::lock(file.map_err(wrong)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    let name = name(data.path());
                    return Ok(Berth { data: DataDir::at(path), name, number, _lock: lock });
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => return Err(wrong(error.into())),
            }
        }
        Err(Failure::wrong(format!("{PLACES} jobs run here already: wait for one of them")))
    }
}

/// The same for every command of this machine and directory, and for no other's.
fn name(data: &Path) -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = host.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(40);
    let real = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let digest = hex(&Sha256::digest(real.to_string_lossy().as_bytes()));
    format!("{}-{}", plain.collect::<String>(), &digest[..6])
}

/// Everything that built-in providers are made of.
pub struct Kit<'a> {
    pub order: &'a Order,
    pub repository: &'a [PathBuf],
    pub place: &'a Place,
    /// Whose settings hold.
    pub data: &'a DataDir,
    pub owner: NameOwner,
    pub format: Format,
}

impl Kit<'_> {
    /// The one that does the job.
    pub async fn worker(&self, berth: &Berth, tap: Tap) -> Result<Local, Failure> {
        self.start(berth, "job", Some(tap)).await
    }

    /// The one that does it again.
    pub async fn checker(&self, berth: &Berth) -> Result<Local, Failure> {
        self.start(berth, "check", None).await
    }

    async fn start(&self, berth: &Berth, what: &str, tap: Option<Tap>) -> Result<Local, Failure> {
        let data = DataDir::at(berth.data.path().join(what));
        data.create()?;
        Local::start(Wish {
            settings: &self.settings()?,
            place: self.place,
            data: &data,
            id: format!("{}-{what}-{}", berth.name, berth.number),
            owner: self.owner.clone(),
            reserve_pool: false,
            tap,
            format: self.format,
        })
        .await
    }

    /// What the settings of `oa provider` say, as far as the job does not say otherwise.
    fn settings(&self) -> Result<Settings, Failure> {
        let order = self.order;
        let mut flags = SettingFlags::default();
        let places: Vec<_> = self.repository.iter().filter_map(|path| path.to_str()).collect();
        flags.or_give("OA_PROVIDER_REPOSITORIES", Some(places.join(",")));
        if !order.visible.is_empty() {
            flags.or_give("OA_PROVIDER_VISIBLE", Some(order.visible.join(",")));
        }
        flags.or_give("OA_PROVIDER_MAX_TIMEOUT_SECONDS", Some(order.timeout_secs.max(1).to_string()));
        flags.or_give("OA_PROVIDER_MAX_MEMORY_MB", Some(order.memory_mb.max(16).to_string()));
        flags.or_give("OA_PROVIDER_MAX_CPUS", Some((order.cpus.ceil().max(1.0) as u64).to_string()));
        if let Some(disk_mb) = order.disk_mb {
            flags.or_give("OA_PROVIDER_MAX_DISK_MB", Some(disk_mb.max(1).to_string()));
        }
        Settings::load(&flags, &process_environment, self.data)
    }
}
