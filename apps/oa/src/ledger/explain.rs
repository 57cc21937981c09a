//! Decides which entries explain a balance: the newest of all rows of an account, each with what its transfer was for.

use oa_contract::{Stop, Timestamp};
use oa_ledger::{Account, AccountId, Entry};
use oa_store::{Store, Tx, tables::ledger};

/// Entries read at one time.
const PORTION: u32 = 500;

/// One entry, and what it was for.
pub struct Line {
    pub at: Timestamp,
    pub entry: Entry,
    pub reference: String,
}

pub struct Told {
    pub accounts: Vec<Account>,
    /// How many there are.
    pub entries: u64,
    /// Newest first.
    pub lines: Vec<Line>,
}

pub async fn read(store: &Store, rows: Vec<AccountId>, limit: u32) -> Result<Told, Stop> {
    let mut told = Told { accounts: Vec::new(), entries: 0, lines: Vec::new() };
    for id in rows {
        let account = store.read("ledger.explain", id.clone(), account).await?;
        told.entries += account.entries;
        told.accounts.push(account);
        let mut before = None;
        let mut left = limit;
        while left > 0 {
            let page =
                store.read("ledger.explain_entries", (id.clone(), before, left.min(PORTION)), page).await?;
            let (Some(last), Ok(count)) = (page.last(), u32::try_from(page.len())) else { break };
            before = Some(last.entry.seq);
            left = left.saturating_sub(count);
            let over = count < PORTION.min(left + count);
            told.lines.extend(page);
            if over {
                break;
            }
        }
    }
    told.lines.sort_by_key(|line| std::cmp::Reverse((line.at, line.entry.seq)));
    told.lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(told)
}

async fn account(tx: &mut Tx, id: &AccountId) -> Result<Account, Stop> {
    ledger::account(tx, id).await
}

async fn page(tx: &mut Tx, (id, before, limit): &(AccountId, Option<u64>, u32)) -> Result<Vec<Line>, Stop> {
    let mut lines = Vec::new();
    for row in ledger::entries(tx, id, *before, *limit).await? {
        let transfer = ledger::get(tx, &row.entry.transfer).await?;
        let reference = transfer.map(|transfer| transfer.reference).unwrap_or_default();
        lines.push(Line { at: row.at, entry: row.entry, reference });
    }
    Ok(lines)
}
