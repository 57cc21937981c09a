//! Everything that an embedded store holds, as text, so that a test can say that nothing has changed.

use std::{collections::BTreeSet, path::Path};

use rusqlite::{Connection, OpenFlags, types::Value};

/// Tables whose rows move by themselves: deliveries on their way, the probe of readiness, and who leads.
const MOVING: [&str; 5] = ["outbox", "stream", "store_probe", "treasury_watch", "lease"];
/// Columns that note a use, not a change.
const NOTES: [&str; 1] = ["last_used_at"];

/// Says SQL to the file behind the store's back, as an accident would.
pub fn meddle(store: &Path, sql: &str) {
    Connection::open(store).and_then(|file| file.execute_batch(sql)).expect("meddled");
}

/// The pages that hold the text of the schema, from 0.
pub fn pages_of_schema(store: &Path) -> BTreeSet<usize> {
    let file = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a store");
    let sql = "select pageno - 1 from dbstat where name = 'sqlite_schema'";
    let mut pages = file.prepare(sql).expect("a statement");
    let pages = pages.query_map([], |row| row.get::<_, u32>(0)).expect("pages");
    pages.map(|page| page.expect("a number") as usize).collect()
}

/// The rows of every table, sorted.
pub fn kept(store: &Path) -> Vec<String> {
    let file = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a store");
    let mut names = file.prepare("select name from sqlite_master where type = 'table'").expect("a statement");
    let names = names.query_map([], |row| row.get::<_, String>(0)).expect("tables");
    let mut out = Vec::new();
    for name in names.map(|name| name.expect("a name")) {
        if !name.starts_with("sqlite_") && !MOVING.iter().any(|moving| name.starts_with(moving)) {
            rows(&file, &name, &mut out);
        }
    }
    out.sort();
    out
}

fn rows(file: &Connection, table: &str, out: &mut Vec<String>) {
    let mut statement = file.prepare(&format!("select * from {table}")).expect("a statement");
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([]).expect("rows");
    while let Some(row) = rows.next().expect("a row") {
        let mut line = table.to_owned();
        for (at, column) in columns.iter().enumerate().filter(|(_, column)| !NOTES.contains(&column.as_str()))
        {
            let value: Value = row.get(at).expect("a cell");
            line.push_str(&format!(" {column}={value:?}"));
        }
        out.push(line);
    }
}
