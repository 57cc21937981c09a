//! Chapter: the ledger when everything is over: who has how much, and that every asset sums to zero.

use std::collections::BTreeMap;

use oa_ledger::Account;
use oa_store::{Store, Tx, tables::ledger};
use serde_json::json;

use super::{book::Book, home};
use crate::{data_dir::DataDir, failure::Failure, output::table, up::store_config};

/// More accounts than the demonstration has.
const MOST: u32 = 200;

/// What all accounts of an asset come to.
#[derive(Default)]
struct Sum {
    posted: i128,
    held: i128,
    moved: usize,
}

/// Reads the books that the services left behind.
pub async fn balance(book: &mut Book, data: &DataDir) -> Result<(), Failure> {
    book.chapter("And the books balance")?;
    let failed = |error: &dyn std::fmt::Display| Failure::wrong(format!("the books cannot be read: {error}"));
    let settings = home::settings(data, &[])?;
    let store =
        Store::open(store_config(&settings, data, "runtime")).await.map_err(|error| failed(&error))?;
    let accounts = store.read("demo.books", (), read).await;
    let audit = oa_runtime::audit::audit(&store, |_| {}).await;
    store.close().await;
    let (accounts, audit) =
        (accounts.map_err(|error| failed(&error))?, audit.map_err(|error| failed(&error))?);
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut money: BTreeMap<String, i128> = BTreeMap::new();
    for one in &accounts {
        let asset = one.id.asset().to_string();
        let sum = sums.entry(asset.clone()).or_default();
        sum.posted += one.balances.posted();
        sum.held += one.balances.pending().abs();
        if one.balances.posted() != 0 {
            sum.moved += 1;
            // Debts and shares are counted in assets of their own, and told in one line each. An account that
            // everybody writes to has several rows.
            if asset == "msats" {
                let id = one.id.to_string();
                let account = id.split('~').next().unwrap_or_default();
                *money.entry(book.named(account)).or_default() += one.balances.posted();
            }
        }
    }
    let mut rows: Vec<Vec<String>> =
        money.into_iter().map(|(account, msats)| vec![account, format!("{msats:+} msats")]).collect();
    let together = |asset: &str| sums.get(asset).map_or(0, |sum| sum.posted);
    rows.push(vec!["together".to_owned(), format!("{} msats", together("msats"))]);
    book.indented(&table(&rows))?;
    for (asset, sum) in sums.iter().filter(|(asset, _)| *asset != "msats") {
        let told = match sum.moved {
            0 => "every account is at 0 again".to_owned(),
            accounts => format!("{} together, in {accounts} accounts", sum.posted),
        };
        book.indented(&format!("{asset}: {told}"))?;
    }
    let held: i128 = sums.values().map(|sum| sum.held).sum();
    if held == 0 {
        book.indented("Nothing is held any more.")?;
    }
    book.indented(&format!(
        "{} rows of the ledger and {} events read again: everything fits",
        audit.ledger_rows, audit.events
    ))?;
    if sums.values().any(|sum| sum.posted != 0) || held != 0 || !audit.findings.is_empty() {
        let findings = audit.findings.join("; ");
        return Err(Failure::wrong(format!("the books do not balance; {held} held; {findings}")));
    }
    book.keep(
        "ledger",
        json!({"assets": sums.keys().collect::<Vec<_>>(), "accounts": accounts.iter().map(|one| json!({
            "account": one.id.to_string(), "asset": one.id.asset().to_string(),
            "balance": i64::try_from(one.balances.posted()).unwrap_or_default()})).collect::<Vec<_>>()}),
    );
    Ok(())
}

async fn read(tx: &mut Tx, _: &()) -> Result<Vec<Account>, oa_contract::Stop> {
    ledger::accounts(tx, "", MOST).await
}
