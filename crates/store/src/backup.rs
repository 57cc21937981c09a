//! Decides what an online copy of an embedded store is: one moment of it, read beside whoever writes, with what
//! stood at the end of its logs at that moment.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};

use crate::config::{OpenError, SqliteConfig};
use crate::engine::sqlite_file;
use crate::statement;
use crate::statement::Statement;

static RUN_HEADS: Statement = statement!("backup/run_heads");

/// Pages between two calls of the progress.
const STRIDE: i32 = 4_096;
const PAUSE: Duration = Duration::from_millis(50);
/// Pauses in a row after which somebody else holds the new file, which nobody should.
const PATIENCE: u32 = 600;

/// What a copy holds: where the logs ended when it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// The steps of the schema that the store has taken.
    pub schema_version: i64,
    pub runs: u64,
    /// Events of all runs.
    pub events: u64,
    /// Over id, last number and last hash of every run, in the order of the ids.
    pub run_heads_sha256: String,
    /// Every table with the number of its rows.
    pub tables: Vec<(String, u64)>,
}

/// Copies the store at `from`, as it is at this moment, into the new file `to`. Servers go on meanwhile: what was
/// acknowledged before this was called is in the copy, and of what is written meanwhile nothing. Blocks.
pub fn copy_store(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Heads, OpenError> {
    let failed = |error: rusqlite::Error| {
        OpenError::new(format!("the store {} could not be copied: {error}", from.display()))
    };
    let unwritten = |error: io::Error| OpenError::new(format!("{}: {error}", to.display()));
    let source = sqlite_file::open_reader(&SqliteConfig::new(from))?;
    // From the first read on, the connection sees this one moment until it commits.
    source.execute_batch("BEGIN DEFERRED").map_err(failed)?;
    sqlite_file::identify(&source, from)?;
    let begun = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
    drop(begun.map_err(unwritten)?);
    let mut copy = Connection::open(to).map_err(failed)?;
    // Nobody reads the copy before it is whole and synced, so a journal of it would protect nothing.
    copy.pragma_update(None, "journal_mode", "OFF").map_err(failed)?;
    copy.pragma_update(None, "synchronous", "OFF").map_err(failed)?;
    {
        let backup = Backup::new(&source, &mut copy).map_err(failed)?;
        let mut waited = 0;
        loop {
            let step = backup.step(STRIDE).map_err(failed)?;
            let far = backup.progress();
            let all = u64::try_from(far.pagecount).unwrap_or_default();
            progress(all.saturating_sub(u64::try_from(far.remaining).unwrap_or_default()), all);
            match step {
                StepResult::Done => break,
                StepResult::More => waited = 0,
                _ if waited < PATIENCE => {
                    waited += 1;
                    thread::sleep(PAUSE);
                }
                _ => return Err(OpenError::new(format!("{} is held by another program", to.display()))),
            }
        }
    }
    source.execute_batch("COMMIT").map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(unwritten)?;
    // Read off the copy: the moment is the same, and the source is not held up for it.
    still(to).and_then(|copy| heads(&copy)).map_err(failed)
}

/// A connection to a file that nobody writes; it leaves nothing beside it.
fn still(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' | 0x80.. => uri.push_str(&format!("%{byte:02X}")),
            plain => uri.push(char::from(*plain)),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

fn heads(connection: &Connection) -> rusqlite::Result<Heads> {
    let mut heads = Heads {
        schema_version: connection.query_row("PRAGMA user_version", [], |row| row.get(0))?,
        tables: tables(connection)?,
        ..Heads::default()
    };
    let mut digest = Sha256::new();
    // A store of long ago may have been made before there were runs.
    if heads.tables.iter().any(|(table, _)| table == "run_heads") {
        let mut read = connection.prepare(RUN_HEADS.for_sqlite())?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let (run, seq, chain): (Vec<u8>, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            digest.update(run);
            digest.update(seq.to_be_bytes());
            digest.update(chain);
            heads.runs += 1;
            heads.events += u64::try_from(seq).unwrap_or_default();
        }
    }
    heads.run_heads_sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(heads)
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let names = sqlite_file::tables(connection)?;
    let count = |name: String| -> rusqlite::Result<(String, u64)> {
        let rows: i64 =
            connection.query_row(&format!("SELECT COUNT(*) FROM \"{name}\""), [], |row| row.get(0))?;
        Ok((name, u64::try_from(rows).unwrap_or_default()))
    };
    names.into_iter().map(count).collect()
}

/// Whether a process holds the store of this file.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let lock = sqlite_file::beside(path, ".lock");
    match OpenOptions::new().write(true).open(lock) {
        Ok(file) => Ok(matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, outbox};
    use oa_contract::instant::Timestamp;

    async fn enqueue(store: &Store, text: &str) {
        let ask = text.to_owned();
        let write =
            async |tx: &mut crate::Tx, text: &String| outbox::enqueue(tx, "t", text, Timestamp::EPOCH).await;
        store.write("enqueue", (), ask, write).await.expect("written");
    }

    async fn waiting(store: &Store) -> i64 {
        let read = async |tx: &mut crate::Tx, (): &()| outbox::depth(tx, Timestamp::EPOCH).await;
        store.read("depth", (), read).await.expect("read").waiting
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_is_one_moment_of_a_store_that_is_written_meanwhile() {
        let home = tempfile::tempdir().expect("a directory");
        let (from, to) = (home.path().join("a.db"), home.path().join("b %41?#é.db"));
        let store = Store::open(SqliteConfig::new(&from)).await.expect("a store");
        // Enough for many steps of the copy.
        let long = "x".repeat(60_000);
        for _ in 0..400 {
            enqueue(&store, &long).await;
        }
        assert!(is_held(&from).expect("looked"));
        let writer = {
            let (store, long) = (store.clone(), long.clone());
            tokio::spawn(async move {
                loop {
                    enqueue(&store, &long).await;
                }
            })
        };
        let before = waiting(&store).await;
        let (source, target) = (from.clone(), to.clone());
        let copied = tokio::task::spawn_blocking(move || {
            let mut steps = 0;
            (copy_store(&source, &target, |_, _| steps += 1).expect("copied"), steps)
        });
        let (heads, steps) = copied.await.expect("copied");
        let after = waiting(&store).await;
        writer.abort();
        assert!(steps > 1, "the copy was one step");
        let outbox = heads.tables.iter().find(|(table, _)| table == "outbox").expect("a table").1 as i64;
        assert!(before <= outbox && outbox <= after, "{before} <= {outbox} <= {after}");
        assert!(!is_held(&to).expect("looked"));
        assert!(!to.with_extension("db-wal").exists() && !to.with_extension("db-shm").exists());
        let copy = Store::open(SqliteConfig::new(&to)).await.expect("the copy opens");
        assert_eq!(waiting(&copy).await, outbox);
        assert_eq!(copy.verify(|_| {}).await.expect("checked").findings, [""; 0]);
        let again = copy_store(&from, &to, |_, _| {}).expect_err("there already");
        assert!(again.to_string().contains("b %41?#é.db"), "{again}");
    }

    #[test]
    fn what_is_no_store_is_not_copied() {
        let home = tempfile::tempdir().expect("a directory");
        let (from, to) = (home.path().join("a.db"), home.path().join("b.db"));
        assert!(copy_store(&from, &to, |_, _| {}).is_err(), "nothing is there");
        Connection::open(&from).expect("a file").execute_batch("CREATE TABLE t (x)").expect("a table");
        let said = copy_store(&from, &to, |_, _| {}).expect_err("not ours").to_string();
        assert!(said.contains("not a store of oa"), "{said}");
        assert!(!to.exists());
    }
}
