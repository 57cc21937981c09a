//! Decides what the tables look like, version by version, and refuses a store whose history is not ours.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::config::{OpenError, StoreConfig};
use crate::engine::{EngineKind, postgres_schema, sqlite_file};

/// One step of the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    /// `0001_core`: the version, then the name.
    file: &'static str,
    text: &'static str,
}

macro_rules! migration {
    ($file:literal) => {
        Migration { file: $file, text: include_str!(concat!("../migrations/", $file, ".sql")) }
    };
}

/// Every step, in order. A step that was released is never edited: the next one corrects it.
pub(crate) const ALL: &[Migration] = &[
    migration!("0001_core"),
    migration!("0002_runtime"),
    migration!("0003_identity"),
    migration!("0004_tools"),
    migration!("0005_skills"),
    migration!("0006_threads"),
    migration!("0007_codex"),
    migration!("0008_accounts"),
    migration!("0009_routing"),
    migration!("0010_ledger"),
    migration!("0011_market"),
    migration!("0012_treasury"),
    migration!("0013_liquidity"),
    migration!("0014_pools"),
    migration!("0015_credit"),
    migration!("0016_fx"),
    migration!("0017_scale"),
    migration!("0018_bridge"),
    migration!("0019_credit_bounds"),
    migration!("0020_found_by_index"),
];

/// What a store says about a step it has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub version: i64,
    pub name: String,
    pub checksum: String,
}

/// Kept by both engines under this one text.
pub(crate) const BOOKKEEPING: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (\n  version BIGINT NOT NULL PRIMARY KEY,\n  name TEXT NOT NULL,\n  checksum TEXT NOT NULL,\n  applied_at BIGINT NOT NULL\n)";
pub(crate) const READ: &str = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
pub(crate) const NOTE: &str =
    "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";

impl Migration {
    pub(crate) fn version(&self) -> i64 {
        self.file.split('_').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.file.split_once('_').map_or(self.file, |(_, name)| name)
    }

    /// Over the whole text: a change for one engine is a change.
    pub(crate) fn checksum(&self) -> String {
        Sha256::digest(self.text).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// The lines that exist on this engine.
    pub(crate) fn text_for(&self, engine: EngineKind) -> String {
        let foreign = match engine {
            EngineKind::Sqlite => "--@postgres",
            EngineKind::Postgres => "--@sqlite",
        };
        self.text.lines().filter(|line| !line.trim_end().ends_with(foreign)).fold(
            String::new(),
            |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            },
        )
    }
}

/// What opening a store would do to its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether there is a store yet.
    pub exists: bool,
    /// The steps it has taken.
    pub from: i64,
    /// The steps that are to be taken: the version that each makes, and its name.
    pub steps: Vec<(i64, &'static str)>,
}

impl Plan {
    /// Reads the history of a store; none where there is no store yet.
    pub(crate) fn of(history: Option<Vec<Applied>>) -> Result<Self, OpenError> {
        let exists = history.is_some();
        let applied = history.unwrap_or_default();
        let steps = pending(ALL, &applied)?.iter().map(|step| (step.version(), step.name())).collect();
        Ok(Plan { exists, from: applied.len() as i64, steps })
    }

    /// The version that the store has afterwards.
    pub fn to(&self) -> i64 {
        self.steps.last().map_or(self.from, |(version, _)| *version)
    }
}

/// What opening the store of this configuration would do to its schema. Changes nothing.
pub async fn plan(config: &StoreConfig) -> Result<Plan, OpenError> {
    let history = match config {
        StoreConfig::Sqlite(config) => sqlite_file::history(config)?,
        StoreConfig::Postgres(config) => postgres_schema::history(config).await?,
    };
    Plan::of(history)
}

/// The steps that are still to be taken, or why none may be.
pub(crate) fn pending<'m>(all: &'m [Migration], applied: &[Applied]) -> Result<&'m [Migration], OpenError> {
    for (place, step) in applied.iter().enumerate() {
        let expected = place as i64 + 1;
        if step.version != expected {
            return Err(OpenError::new(format!(
                "the store's schema history has a gap: step {expected} is missing but step {} was taken; restore a backup",
                step.version
            )));
        }
        let Some(known) = all.get(place) else {
            return Err(OpenError::new(format!(
                "the store was written by a newer version of oa: it has schema step {} (`{}`), this version knows {}; install the newer version, or restore a backup from before the upgrade",
                step.version,
                step.name,
                all.len()
            )));
        };
        if known.checksum() != step.checksum || known.name() != step.name {
            return Err(OpenError::new(format!(
                "the store took another schema step {} (`{}`) than the one this version of oa knows (`{}`): its checksum differs; install the version that wrote the store, or restore a backup",
                step.version,
                step.name,
                known.name()
            )));
        }
    }
    Ok(&all[applied.len()..])
}

/// Microseconds since 1970, for the bookkeeping only.
pub(crate) fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(migration: &Migration) -> Applied {
        Applied {
            version: migration.version(),
            name: migration.name().into(),
            checksum: migration.checksum(),
        }
    }

    #[test]
    fn the_list_names_every_file_in_order() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .expect("the migrations")
            .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let listed: Vec<_> = ALL.iter().map(|step| format!("{}.sql", step.file)).collect();
        assert_eq!(files, listed);
        let versions: Vec<_> = ALL.iter().map(Migration::version).collect();
        assert_eq!(versions, (1..=ALL.len() as i64).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_marked_for_one_engine_exists_there_only() {
        let step = Migration { file: "0001_x", text: "a\nb --@sqlite\nc --@postgres\nd" };
        assert_eq!(step.text_for(EngineKind::Sqlite), "a\nb --@sqlite\nd\n");
        assert_eq!(step.text_for(EngineKind::Postgres), "a\nc --@postgres\nd\n");
    }

    #[test]
    fn a_gap_a_newer_step_and_a_changed_step_are_refused() {
        let known = [Migration { file: "0001_a", text: "a" }, Migration { file: "0002_b", text: "b" }];
        let [a, b] = [taken(&known[0]), taken(&known[1])];
        let say = |applied: &[Applied]| pending(&known, applied).expect_err("a refusal").to_string();
        assert!(say(std::slice::from_ref(&b)).contains("gap"));
        let newer = Applied { version: 3, name: "c".into(), checksum: "x".into() };
        assert!(say(&[a.clone(), b.clone(), newer]).contains("newer version"));
        assert!(say(&[a.clone(), Applied { checksum: "x".into(), ..b.clone() }]).contains("checksum"));
        assert_eq!(pending(&known, std::slice::from_ref(&a)).map(<[Migration]>::len).ok(), Some(1));
        assert_eq!(pending(&known, &[a, b]).map(<[Migration]>::len).ok(), Some(0));
    }
}
