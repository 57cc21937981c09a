//! Decides what `oa ledger` shows: what an account holds, and every entry that made it so.

mod explain;

use std::collections::BTreeMap;

use oa_ledger::{Account, AccountId};
use oa_store::{Store, StoreConfig};
use serde_json::json;

use crate::{
    config::Settings,
    data_dir::DataDir,
    failure::{Failure, OK},
    ledger::explain::{Line, Told},
    output::{Format, table},
    up::store_config,
};

/// The rows that a name stands for: itself, or every stripe of an account that is spread.
pub fn rows_of(name: &str) -> Result<Vec<AccountId>, Failure> {
    let parsed = AccountId::parse(name).or_else(|| AccountId::parse(&format!("{name}~00")));
    let Some(account) = parsed else {
        return Err(Failure::usage(format!(
            "{name:?} names no account: they are <kind>/<asset>/<subject>, for example owner/msats/user:11"
        )));
    };
    match AccountId::parse(name).is_some() {
        true => Ok(vec![account]),
        // One stripe was made up to read the name; all of them are meant.
        false => (0..oa_ledger::account::STRIPES)
            .map(|stripe| {
                AccountId::parse(&format!("{name}~{stripe:02}"))
                    .ok_or_else(|| Failure::usage(format!("{name:?} names no account")))
            })
            .collect(),
    }
}

/// `oa ledger explain`: reads the runtime's store. No server may hold an embedded one meanwhile.
pub async fn explain(
    name: &str,
    limit: u32,
    data: &DataDir,
    settings: &Settings,
    format: Format,
) -> Result<u8, Failure> {
    let rows = rows_of(name)?;
    let config = store_config(settings, data, "runtime");
    if let StoreConfig::Sqlite(file) = &config
        && !file.path.exists()
    {
        return Err(Failure::wrong(format!("there is no runtime store in {}", data.path().display())));
    }
    let store = Store::open(config)
        .await
        .map_err(|error| Failure::wrong(format!("the runtime's store cannot be opened: {error}")))?;
    let told = explain::read(&store, rows, limit).await;
    store.close().await;
    let told = told.map_err(|stop| Failure::wrong(format!("the ledger cannot be read: {stop}")))?;
    show(name, &told, format)?;
    Ok(OK)
}

fn show(name: &str, told: &Told, format: Format) -> Result<(), Failure> {
    let sums = sums(&told.accounts);
    let mut rows = vec![
        ["at", "entry", "side", "step", "posted", "pending", "transfer", "for"].map(str::to_owned).to_vec(),
    ];
    rows.extend(told.lines.iter().map(row));
    let left_out = match told.entries.saturating_sub(told.lines.len() as u64) {
        0 => String::new(),
        more => format!("\n{more} older entries are not shown; give --limit"),
    };
    let text = format!(
        "{name}: {} posted, {} reserved, {} promised, {} entries\n\n{}{left_out}",
        sums["posted"],
        sums["debits_pending"],
        sums["credits_pending"],
        told.entries,
        table(&rows)
    );
    let entries: Vec<_> = told
        .lines
        .iter()
        .map(|line| {
            json!({"at": line.at, "account": line.entry.account.to_string(), "seq": line.entry.seq,
                "side": line.entry.side.name(), "step": line.entry.step.name(), "posted": line.entry.posted,
                "pending": line.entry.pending, "transfer": line.entry.transfer.as_str(), "reference": line.reference})
        })
        .collect();
    let value = json!({"account": name, "balances": sums, "entries": told.entries, "shown": entries});
    format.show(&text, &value)
}

fn row(line: &Line) -> Vec<String> {
    let entry = &line.entry;
    vec![
        line.at.zulu_seconds(),
        entry.seq.to_string(),
        entry.side.name().into(),
        entry.step.name().into(),
        entry.posted.to_string(),
        entry.pending.to_string(),
        crate::output::plain(entry.transfer.as_str()),
        crate::output::shortened(&crate::output::plain(&line.reference), 60),
    ]
}

/// What all rows of an account hold together.
fn sums(accounts: &[Account]) -> BTreeMap<&'static str, i128> {
    let sum = |of: &dyn Fn(&Account) -> i128| accounts.iter().map(of).sum();
    BTreeMap::from([
        ("posted", sum(&|account| account.balances.posted())),
        ("debits_pending", sum(&|account| i128::from(account.balances.debits_pending.get()))),
        ("credits_pending", sum(&|account| i128::from(account.balances.credits_pending.get()))),
        ("debits_posted", sum(&|account| i128::from(account.balances.debits_posted.get()))),
        ("credits_posted", sum(&|account| i128::from(account.balances.credits_posted.get()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_spread_is_all_its_rows() {
        assert_eq!(rows_of("owner/msats/user:11").expect("rows").len(), 1);
        assert_eq!(rows_of("wallet/msats/lightning").expect("rows").len(), 16);
        assert_eq!(rows_of("wallet/msats/lightning~03").expect("rows").len(), 1);
        for wrong in ["", "owner", "owner/msats", "nobody/msats/x"] {
            assert!(rows_of(wrong).is_err(), "{wrong}");
        }
    }
}
