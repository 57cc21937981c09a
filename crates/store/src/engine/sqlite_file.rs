//! Decides whether a file is the store that was left here: made new only where nothing ever was, refused
//! with a sentence when it is damaged, foreign, gone, or in use.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rusqlite::{Connection, OpenFlags};

use super::EngineKind;
use crate::config::{OpenError, SqliteConfig};
use crate::migrate::{self, Applied, Migration};
use crate::verify;

/// `oaSt`: tells our files from other programs' SQLite files.
const APPLICATION_ID: i64 = 0x6F61_5374;

const RESTORE: &str = "restore a backup";

/// A file that may be written, and the lock that keeps others away from it.
pub(crate) struct Opened {
    pub connection: Connection,
    pub lock: File,
}

/// What was found at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Store,
}

pub(crate) fn open(config: &SqliteConfig) -> Result<Opened, OpenError> {
    let path = config.path.as_path();
    make_directory(path)?;
    let lock = lock(path)?;
    let found = look(path)?;
    if found == Found::Nothing {
        begin_file(path)?;
    }
    let connection = connect(config).map_err(|error| unreadable(path, &error))?;
    if found == Found::Store {
        identify(&connection, path)?;
    }
    prepare_file(&connection, config).map_err(|error| unreadable(path, &error))?;
    if found == Found::Store {
        check_length(&connection, path)?;
        check_pages(&connection, config)?;
    }
    migrate(&connection, path, migrate::ALL)?;
    compare_schema(&connection, path)?;
    mark_made(path)?;
    Ok(Opened { connection, lock })
}

/// A connection that cannot write, for a reading thread.
pub(crate) fn open_reader(config: &SqliteConfig) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&config.path, flags)?;
        connection.busy_timeout(config.busy_timeout)?;
        Ok(connection)
    };
    open().map_err(|error| unreadable(&config.path, &error))
}

/// The path with something after its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(directory).map_err(|error| {
        OpenError::new(format!(
            "the directory {} of the store could not be made ({error}); run oa as a user who may write there, or choose another directory",
            directory.display()
        ))
    })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let place = beside(path, ".lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&place);
    let file = opened.map_err(|error| denied(&place, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::new(format!(
            "the store {} is in use by another process; stop that one first (it holds {})",
            path.display(),
            place.display()
        ))),
        Err(TryLockError::Error(error)) => Err(denied(&place, &error)),
    }
}

fn denied(place: &Path, error: &io::Error) -> OpenError {
    OpenError::new(format!(
        "{} could not be opened ({error}); run oa as the owner of its directory",
        place.display()
    ))
}

/// Never an empty start: where a store was made once, it has to be.
fn look(path: &Path) -> Result<Found, OpenError> {
    let length = match std::fs::metadata(path) {
        Ok(data) if data.is_file() => Some(data.len()),
        Ok(_) => {
            return Err(OpenError::new(format!("{} is not a file; choose another path", path.display())));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(denied(path, &error)),
    };
    if length.is_some_and(|length| length > 0) {
        return Ok(Found::Store);
    }
    let what = if length.is_none() { "is missing" } else { "is empty" };
    let marker = beside(path, ".made");
    if marker.exists() {
        return Err(OpenError::new(format!(
            "the store {} {what}, but {} says that it was made here; {RESTORE} (or, to start over with nothing, remove {} yourself)",
            path.display(),
            marker.display(),
            marker.display()
        )));
    }
    let log = beside(path, "-wal");
    if std::fs::metadata(&log).is_ok_and(|data| data.len() > 0) {
        return Err(OpenError::new(format!(
            "the store {} {what}, but its log {} is there; put the file back beside its log, or {RESTORE}",
            path.display(),
            log.display()
        )));
    }
    Ok(Found::Nothing)
}

/// Begins the file for its owner only, wherever it lies; SQLite gives its log the same mode.
fn begin_file(path: &Path) -> Result<(), OpenError> {
    let begun = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    begun.map(drop).map_err(|error| denied(path, &error))
}

fn connect(config: &SqliteConfig) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&config.path, flags)?;
    connection.busy_timeout(config.busy_timeout)?;
    Ok(connection)
}

/// Looks at the file before anything is changed in it.
pub(crate) fn identify(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let id: i64 = pragma(connection, path, "application_id")?;
    let tables: i64 = connection
        .query_row("SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_migrations'", [], |row| {
            row.get(0)
        })
        .map_err(|error| unreadable(path, &error))?;
    match (id, tables) {
        (APPLICATION_ID, 1) => Ok(()),
        _ => Err(OpenError::new(format!(
            "the file {} is an SQLite database, but not a store of oa; choose another path, or {RESTORE}",
            path.display()
        ))),
    }
}

fn pragma(connection: &Connection, path: &Path, name: &str) -> Result<i64, OpenError> {
    connection
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        .map_err(|error| unreadable(path, &error))
}

fn prepare_file(connection: &Connection, config: &SqliteConfig) -> rusqlite::Result<()> {
    if let Some(size) = config.page_size {
        connection.pragma_update(None, "page_size", size)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", config.wal_autocheckpoint)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    if let Some(pages) = config.max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// With its log carried over, the file is as long as its pages say. Costs nothing, however long it is.
fn check_length(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let said = pragma(connection, path, "page_count")? * pragma(connection, path, "page_size")?;
    let data = std::fs::metadata(path).map_err(|error| denied(path, &error))?;
    match i64::try_from(data.len()) {
        Ok(length) if length == said => Ok(()),
        _ => Err(OpenError::new(format!(
            "the store {} is damaged: it has {} bytes where its pages need {said}; {RESTORE}",
            path.display(),
            data.len()
        ))),
    }
}

/// The whole check, for files where it is quick; longer ones are checked by `oa verify-store`.
fn check_pages(connection: &Connection, config: &SqliteConfig) -> Result<(), OpenError> {
    let path = config.path.as_path();
    let length = std::fs::metadata(path).map_err(|error| denied(path, &error))?.len();
    if length > config.check_up_to {
        return Ok(());
    }
    let said: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| unreadable(path, &error))?;
    let finding = match said.as_str() {
        "ok" => verify::broken_seal(connection).map_err(|error| unreadable(path, &error))?,
        finding => Some(finding.to_owned()),
    };
    match finding {
        None => Ok(()),
        Some(finding) => {
            Err(OpenError::new(format!("the store {} is damaged: {finding}; {RESTORE}", path.display())))
        }
    }
}

fn unreadable(path: &Path, error: &rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DiskFull, NotADatabase, PermissionDenied, ReadOnly,
    };
    let path = path.display();
    OpenError::new(match error.sqlite_error_code() {
        Some(NotADatabase) => {
            format!("the file {path} is not a store, or its beginning is damaged ({error}); {RESTORE}")
        }
        Some(DatabaseCorrupt) => format!("the store {path} is damaged ({error}); {RESTORE}"),
        Some(CannotOpen | PermissionDenied | ReadOnly) => {
            format!("the store {path} could not be opened ({error}); run oa as the owner of its directory")
        }
        Some(DiskFull) => {
            format!("the disk that holds the store {path} is full; make room, then start again")
        }
        Some(DatabaseBusy) => {
            format!("another program holds the store {path} ({error}); stop that one first")
        }
        _ => format!("the store {path} could not be opened: {error}; run `oa verify-store`, or {RESTORE}"),
    })
}

fn migrate(connection: &Connection, path: &Path, all: &[Migration]) -> Result<(), OpenError> {
    let applied = applied(connection).map_err(|error| unreadable(path, &error))?;
    let noted = pragma(connection, path, "user_version")?;
    if noted != applied.len() as i64 {
        return Err(OpenError::new(format!(
            "the store {} says it is at schema step {noted}, but its history lists {} steps; {RESTORE}",
            path.display(),
            applied.len()
        )));
    }
    for step in migrate::pending(all, &applied)? {
        take(connection, step).map_err(|error| {
            OpenError::new(format!(
                "the schema step {} (`{}`) did not fit the store {}: {error}; nothing was changed; {RESTORE}, or install the version that wrote the store",
                step.version(),
                step.name(),
                path.display()
            ))
        })?;
    }
    Ok(())
}

fn applied(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    connection.execute_batch(migrate::BOOKKEEPING)?;
    taken(connection)
}

fn taken(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    let mut read = connection.prepare(migrate::READ)?;
    let rows = read.query_map([], |row| {
        Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? })
    })?;
    rows.collect()
}

/// One transaction a step: a step is taken whole or not at all.
fn take(connection: &Connection, step: &Migration) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(&step.text_for(EngineKind::Sqlite))?;
    let note = crate::statement::number_by_digits(migrate::NOTE);
    transaction.execute(&note, (step.version(), step.name(), step.checksum(), migrate::now_micros()))?;
    transaction.pragma_update(None, "user_version", step.version())?;
    transaction.commit()
}

/// The steps that the file at the path has taken; none where there is no store yet. Changes nothing.
pub(crate) fn history(config: &SqliteConfig) -> Result<Option<Vec<Applied>>, OpenError> {
    let path = config.path.as_path();
    if look(path)? == Found::Nothing {
        return Ok(None);
    }
    let connection = open_reader(config)?;
    identify(&connection, path)?;
    taken(&connection).map(Some).map_err(|error| unreadable(path, &error))
}

/// The names of all tables but SQLite's own.
pub(crate) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut tables = connection.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    tables.query_map([], |row| row.get(0))?.collect()
}

type Thing = (String, String, Option<String>);

/// Everything that is declared in the file, except what SQLite keeps for itself.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<Thing>> {
    let mut read = connection.prepare(
        "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name",
    )?;
    let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// A store that somebody altered by hand is not the store our statements were written for.
fn compare_schema(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let fail = |error: rusqlite::Error| unreadable(path, &error);
    // The same in every store of the process, so it is made once.
    static DECLARED: OnceLock<Vec<Thing>> = OnceLock::new();
    let wanted = match DECLARED.get() {
        Some(declared) => declared,
        None => {
            let fresh = Connection::open_in_memory().map_err(fail)?;
            migrate(&fresh, Path::new(":memory:"), migrate::ALL)?;
            let declared = schema(&fresh).map_err(fail)?;
            DECLARED.get_or_init(|| declared)
        }
    };
    let found = schema(connection).map_err(fail)?;
    if *wanted == found {
        return Ok(());
    }
    let odd = wanted.iter().find(|thing| !found.contains(thing));
    let odd = odd.or_else(|| found.iter().find(|thing| !wanted.contains(thing)));
    let (kind, name) = odd.map_or(("schema", ""), |(kind, name, _)| (kind.as_str(), name.as_str()));
    Err(OpenError::new(format!(
        "the store {} was altered from outside: its {kind} `{name}` is not what oa declared; {RESTORE}",
        path.display()
    )))
}

/// Remembers, durably and outside of the database file, that a store was made here.
fn mark_made(path: &Path) -> Result<(), OpenError> {
    let marker = beside(path, ".made");
    if marker.exists() {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(&marker)?;
        file.write_all(
            b"An oa store was made beside this file. While this is here, oa refuses to start without it.\n",
        )?;
        file.sync_all()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| denied(&marker, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text under `queries/`, as name and SQL.
    fn queries(directory: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                queries(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).expect("a text");
                found.push((path.display().to_string(), text));
            }
        }
    }

    #[test]
    fn a_plan_names_the_steps_that_are_to_be_taken_and_takes_none() {
        let home = tempfile::tempdir().expect("a directory");
        let config = SqliteConfig::new(home.path().join("s.db"));
        assert_eq!(history(&config).expect("looked"), None);
        assert!(!config.path.exists(), "looking makes nothing");
        let connection = connect(&config).expect("a file");
        connection.pragma_update(None, "application_id", APPLICATION_ID).expect("ours");
        migrate(&connection, &config.path, &migrate::ALL[..3]).expect("an older store");
        drop(connection);
        for _ in 0..2 {
            let plan = migrate::Plan::of(history(&config).expect("looked")).expect("a plan");
            assert_eq!((plan.exists, plan.from, plan.to()), (true, 3, migrate::ALL.len() as i64));
            assert_eq!(plan.steps.first().map(|step| step.1), Some("tools"));
        }
        drop(open(&config).expect("it opens, and takes them"));
        let plan = migrate::Plan::of(history(&config).expect("looked")).expect("a plan");
        assert_eq!((plan.from, plan.steps), (migrate::ALL.len() as i64, Vec::new()));
    }

    #[test]
    fn a_new_store_is_for_its_owner_only_even_where_others_may_look() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let directory = std::env::temp_dir().join(format!("oa-store-mode-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).expect("opened");
        let config = SqliteConfig::new(directory.join("a.db"));
        let opened = open(&config).expect("a store");
        let modes: Vec<u32> = ["", "-wal"]
            .iter()
            .map(|end| beside(&config.path, end))
            .filter_map(|path| std::fs::metadata(path).ok())
            .map(|data| data.mode() & 0o777)
            .collect();
        drop(opened);
        std::fs::remove_dir_all(&directory).expect("removed");
        assert!(!modes.is_empty() && modes.iter().all(|mode| *mode == 0o600), "{modes:?}");
    }

    #[test]
    fn sqlite_understands_every_statement() {
        let connection = Connection::open_in_memory().expect("a database");
        migrate(&connection, Path::new(":memory:"), migrate::ALL).expect("the schema");
        let mut all = Vec::new();
        queries(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/queries")), &mut all);
        assert!(!all.is_empty());
        for (name, text) in all.iter().filter(|(name, _)| !name.ends_with(".postgres.sql")) {
            let numbered = crate::statement::number_by_digits(text);
            let prepared = connection.prepare(&numbered).unwrap_or_else(|error| panic!("{name}: {error}"));
            let first_word_says = crate::statement::Statement::new("x", leak(text), None).writes();
            assert_eq!(
                first_word_says,
                !prepared.readonly(),
                "{name}: begin it with the word for what it does"
            );
        }
    }

    fn leak(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }
}
