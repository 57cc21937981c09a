//! Decides how a node's memory is kept: names and bytes, changed in one commit or not at all.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OptionalExtension as _, params};

/// What changes in one commit: a value, or `None` for what is forgotten.
pub type Batch = BTreeMap<String, Option<Vec<u8>>>;

/// Where a commit stands when the crash tests end the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Decided, not on disk.
    Before,
    /// On disk, nobody knows.
    After,
}

pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens or makes it. One process has it at a time: two that move one channel lose its money.
    pub fn open(path: &Path, fsync: bool) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if fsync { "FULL" } else { "OFF" })?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT",
        )?;
        Ok(Store { connection })
    }

    pub fn get(&self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM kept WHERE name = $1")?;
        statement.query_row([name], |row| row.get(0)).optional()
    }

    /// All whose name begins so, in the order of their names.
    pub fn list(&self, prefix: &str) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name, value FROM kept WHERE name >= $1 AND name < $2 ORDER BY name")?;
        let end = format!("{prefix}\u{10ffff}");
        let rows = statement.query_map([prefix, &end], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    pub fn commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for (name, value) in batch {
            match value {
                Some(value) => transaction
                    .prepare_cached("INSERT OR REPLACE INTO kept (name, value) VALUES ($1, $2)")?
                    .execute(params![name, value])?,
                None => transaction.prepare_cached("DELETE FROM kept WHERE name = $1")?.execute([name])?,
            };
        }
        transaction.commit()
    }
}
