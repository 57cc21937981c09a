//! Decides what a store is opened with, and how the refusal to open one reads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Which engine, and how.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    Sqlite(SqliteConfig),
    Postgres(PostgresConfig),
}

/// One file on one machine.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    pub path: PathBuf,
    /// Threads that read, each with its own connection.
    pub readers: usize,
    /// Pages in the log before they are carried over into the file.
    pub wal_autocheckpoint: u32,
    /// Only for a file that is made now; SQLite's own choice when absent.
    pub page_size: Option<u32>,
    /// A ceiling for the file, in pages. A store that hits it stops taking writes.
    pub max_pages: Option<u32>,
    /// Commands in one commit.
    pub batch_limit: usize,
    /// Commands that may wait before the next one waits outside.
    pub queue: usize,
    /// How long another program may hold the file before a command is told to come back.
    pub busy_timeout: Duration,
    /// Files up to this size are checked as a whole when they are opened.
    pub check_up_to: u64,
}

impl SqliteConfig {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SqliteConfig {
            path: path.into(),
            readers: 2,
            wal_autocheckpoint: 1000,
            page_size: None,
            max_pages: None,
            batch_limit: 256,
            queue: 1024,
            busy_timeout: Duration::from_secs(5),
            check_up_to: 64 << 20,
        }
    }
}

/// A server that several machines may share.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Carries the password: it is never printed. With `sslmode=require` the connection is TLS, and the
    /// server's certificate is checked.
    pub url: String,
    /// A PEM file with the authority that signed the server's certificate; those that browsers trust when
    /// absent.
    pub authority: Option<PathBuf>,
    pub pool_size: usize,
    /// Where the tables live.
    pub schema: String,
    /// The longest a single statement may run or wait for a lock.
    pub statement_timeout: Duration,
    /// The longest a command may take, all its statements together.
    pub transaction_timeout: Duration,
    pub connect_timeout: Duration,
    /// Commands that may wait before the next one waits outside.
    pub queue: usize,
}

impl PostgresConfig {
    pub fn new(url: impl Into<String>) -> Self {
        PostgresConfig {
            url: url.into(),
            authority: None,
            pool_size: 16,
            schema: "runtime".into(),
            statement_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            queue: 1024,
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("pool_size", &self.pool_size)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl From<SqliteConfig> for StoreConfig {
    fn from(config: SqliteConfig) -> Self {
        StoreConfig::Sqlite(config)
    }
}

impl From<PostgresConfig> for StoreConfig {
    fn from(config: PostgresConfig) -> Self {
        StoreConfig::Postgres(config)
    }
}

/// Why a store was not opened: a sentence for the operator that says what is wrong and what to do next.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        OpenError(sentence.into())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}
