//! Decides what a whole check of a store is: the engine's own opinion of its file, and the seal of every
//! row that carries one, while the store goes on working.

use std::ops::ControlFlow;

use oa_contract::refusal::{Fault, Stop};
use rusqlite::Connection;
use tokio_postgres::Client;

use crate::config::{PostgresConfig, SqliteConfig, StoreConfig};
use crate::engine::{postgres_schema, sqlite_file};
use crate::row::{Inner, Row};
use crate::seal;
use crate::statement::Statement;
use crate::store::Store;

/// Findings after which looking on tells nobody anything new.
const ENOUGH: usize = 100;
/// Rows between two calls of the progress.
const STRIDE: u64 = 10_000;

/// How far the check has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// A table, or what the engine checks by itself.
    pub part: String,
    /// Rows looked at in this part.
    pub rows: u64,
}

/// What the check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Each sealed table with the number of its rows.
    pub tables: Vec<(String, u64)>,
    /// One sentence each; none means that the store is whole.
    pub findings: Vec<String>,
}

/// Rows seen by the check; the seal needs a statement to name.
static SEALED_ROWS: Statement = Statement::new("verify", "", None);

impl Store {
    /// Checks everything that can be checked without knowing what the rows mean. Takes as long as the store
    /// is large; writers and readers go on meanwhile.
    pub async fn verify(&self, progress: impl FnMut(Progress) + Send + 'static) -> Result<Verified, Stop> {
        let seen = Seen { verified: Verified::default(), progress: Box::new(progress) };
        match self.config().clone() {
            StoreConfig::Sqlite(config) => {
                let died = |error| Fault::new("checking the store", error);
                tokio::task::spawn_blocking(move || check_file(&config, seen)).await.map_err(died)?
            }
            StoreConfig::Postgres(config) => check_schema(&config, seen).await,
        }
    }
}

/// What was seen so far.
struct Seen {
    verified: Verified,
    progress: Box<dyn FnMut(Progress) + Send>,
}

impl Seen {
    fn part(&mut self, part: &str, rows: u64) {
        (self.progress)(Progress { part: part.to_owned(), rows });
    }

    fn find(&mut self, finding: String) -> ControlFlow<()> {
        self.verified.findings.push(finding);
        match self.verified.findings.len() < ENOUGH {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn row(&mut self, table: &str, rows: u64, row: &Row<'_>) -> ControlFlow<()> {
        if rows.is_multiple_of(STRIDE) {
            self.part(table, rows);
        }
        match row.check_seal(table) {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => self.find(format!("table `{table}`, row {rows} ({}): {fault}", first(row))),
        }
    }

    fn table(&mut self, table: &str, rows: u64) {
        self.part(table, rows);
        self.verified.tables.push((table.to_owned(), rows));
    }
}

/// The first column, so that a person can find the row.
fn first(row: &Row<'_>) -> String {
    match row.value(0) {
        Ok(crate::Value::Text(text)) => text.to_owned(),
        Ok(crate::Value::Int(number)) => number.to_string(),
        Ok(crate::Value::Bytes(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => "unreadable".into(),
    }
}

/// A table and its columns up to the seal.
struct Sealed {
    table: String,
    select: String,
}

impl Sealed {
    /// None for a table without a seal.
    fn new(table: &str, columns: &[String]) -> Option<Self> {
        let seal = columns.iter().position(|column| column == seal::COLUMN)?;
        let columns = columns[..=seal].iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>();
        let select = format!("SELECT {} FROM \"{table}\"", columns.join(", "));
        Some(Sealed { table: table.to_owned(), select })
    }
}

fn check_file(config: &SqliteConfig, mut seen: Seen) -> Result<Verified, Stop> {
    let connection =
        sqlite_file::open_reader(config).map_err(|error| Fault::new("opening the store", error))?;
    let unread = |error| Fault::new("checking the store", error);
    for check in ["integrity_check(100)", "foreign_key_check"] {
        seen.part(check, 0);
        pragma(&connection, check, &mut seen).map_err(unread)?;
    }
    for sealed in sealed_tables(&connection).map_err(unread)? {
        // A page that cannot be read is a finding like any other: the other tables are still worth a look.
        if let Err(error) = check_table(&connection, &sealed, &mut seen) {
            let _ = seen.find(format!("table `{}` cannot be read to its end: {error}", sealed.table));
        }
    }
    Ok(seen.verified)
}

/// The first row of a file whose seal is broken, if there is one: what is looked for when a small file is opened,
/// because a changed key would otherwise look like a row that never was.
pub(crate) fn broken_seal(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut seen = Seen { verified: Verified::default(), progress: Box::new(|_| {}) };
    for sealed in sealed_tables(connection)? {
        check_table(connection, &sealed, &mut seen)?;
    }
    Ok(seen.verified.findings.into_iter().next())
}

fn pragma(connection: &Connection, check: &str, seen: &mut Seen) -> rusqlite::Result<()> {
    let mut prepared = connection.prepare(&format!("PRAGMA {check}"))?;
    let mut rows = prepared.query([])?;
    while let Some(row) = rows.next()? {
        let said = match row.get_ref(0)? {
            rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => "a row that cannot be named".into(),
        };
        if said != "ok" && seen.find(format!("{check}: {said}")).is_break() {
            break;
        }
    }
    Ok(())
}

fn sealed_tables(connection: &Connection) -> rusqlite::Result<Vec<Sealed>> {
    let names = sqlite_file::tables(connection)?;
    let mut sealed = Vec::new();
    for name in names {
        let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
        let columns = columns.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        sealed.extend(Sealed::new(&name, &columns));
    }
    Ok(sealed)
}

fn check_table(connection: &Connection, sealed: &Sealed, seen: &mut Seen) -> rusqlite::Result<()> {
    let mut prepared = connection.prepare(&sealed.select)?;
    let mut rows = prepared.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        let row = Row { statement: &SEALED_ROWS, inner: Inner::Sqlite(row) };
        if seen.row(&sealed.table, count, &row).is_break() {
            break;
        }
    }
    seen.table(&sealed.table, count);
    Ok(())
}

async fn check_schema(config: &PostgresConfig, mut seen: Seen) -> Result<Verified, Stop> {
    let unread = |error| Fault::new("checking the store", error);
    let connected = postgres_schema::connect_alone(config).await;
    let client = connected.map_err(|error| Fault::new("connecting to check the store", error))?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(unread)?;
    for sealed in sealed_relations(&client, &config.schema).await.map_err(unread)? {
        check_relation(&client, &sealed, &mut seen).await.map_err(unread)?;
    }
    client.batch_execute("COMMIT").await.map_err(unread)?;
    Ok(seen.verified)
}

async fn sealed_relations(client: &Client, schema: &str) -> Result<Vec<Sealed>, tokio_postgres::Error> {
    let columns = client
        .query(
            "SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1 ORDER BY 1",
            &[&schema],
        )
        .await?;
    let mut sealed = Vec::new();
    for row in columns {
        sealed.extend(Sealed::new(row.try_get(0)?, &row.try_get::<_, Vec<String>>(1)?));
    }
    Ok(sealed)
}

async fn check_relation(
    client: &Client,
    sealed: &Sealed,
    seen: &mut Seen,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("DECLARE sealed NO SCROLL CURSOR FOR {}", sealed.select)).await?;
    let mut count = 0;
    'all: loop {
        let rows = client.query("FETCH 1000 FROM sealed", &[]).await?;
        for row in &rows {
            count += 1;
            let row = Row { statement: &SEALED_ROWS, inner: Inner::Postgres(row) };
            if seen.row(&sealed.table, count, &row).is_break() {
                break 'all;
            }
        }
        if rows.is_empty() {
            break;
        }
    }
    seen.table(&sealed.table, count);
    client.batch_execute("CLOSE sealed").await
}
