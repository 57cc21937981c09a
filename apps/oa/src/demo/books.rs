//! Decides how the ledger is shown when everything is over: who has how much, and that it sums to zero.

use oa_ledger::Account;
use oa_store::{Store, Tx, tables::ledger};
use serde_json::json;

use super::Book;
use crate::{config::Settings, data_dir::DataDir, failure::Failure, output::table, up::store_config};

/// More accounts than the demonstration has.
const MOST: u32 = 200;

/// Reads the books that the services left behind.
pub async fn balance(book: &mut Book, data: &DataDir, settings: &Settings) -> Result<(), Failure> {
    book.chapter(6, "And the books balance")?;
    let failed = |error: &dyn std::fmt::Display| Failure::wrong(format!("the books cannot be read: {error}"));
    let store = Store::open(store_config(settings, data, "runtime")).await.map_err(|error| failed(&error))?;
    let accounts = store.read("demo.books", (), read).await;
    let audit = oa_runtime::audit::audit(&store, |_| {}).await;
    store.close().await;
    let (accounts, audit) =
        (accounts.map_err(|error| failed(&error))?, audit.map_err(|error| failed(&error))?);
    let money = |account: &&Account| account.id.asset().to_string() == "msats";
    let moved: Vec<&Account> = accounts
        .iter()
        .filter(money)
        .filter(|one| one.balances.posted() != 0 || one.balances.pending() != 0)
        .collect();
    let mut rows: Vec<Vec<String>> = moved
        .iter()
        .map(|one| vec![one.id.to_string(), format!("{:+} msats", one.balances.posted())])
        .collect();
    let sum: i128 = accounts.iter().filter(money).map(|one| one.balances.posted()).sum();
    let held: i128 = accounts.iter().filter(money).map(|one| one.balances.pending().abs()).sum();
    rows.push(vec!["together".to_owned(), format!("{sum} msats, nothing held")]);
    book.indented(&table(&rows))?;
    book.indented(&format!(
        "{} rows of the ledger and {} events read again: everything fits",
        audit.ledger_rows, audit.events
    ))?;
    if sum != 0 || held != 0 || !audit.findings.is_empty() {
        let findings = audit.findings.join("; ");
        return Err(Failure::wrong(format!(
            "the books do not balance: {sum} msats, {held} held; {findings}"
        )));
    }
    book.keep(
        "ledger",
        json!({"sum_msats": 0, "accounts": moved.iter().map(|one| json!({"account": one.id.to_string(),
            "msats": i64::try_from(one.balances.posted()).unwrap_or_default()})).collect::<Vec<_>>()}),
    );
    Ok(())
}

async fn read(tx: &mut Tx, _: &()) -> Result<Vec<Account>, oa_contract::Stop> {
    ledger::accounts(tx, "", MOST).await
}
