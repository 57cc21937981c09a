//! Decides how the ledger is read to see whether it adds up: in portions, each in a snapshot of its own, so that
//! nobody waits for the auditor and no book is too large for it. Accounts are folded first, then transfers are
//! compared with what they left, and last come the sums of every asset.

use std::collections::HashMap;

use oa_contract::refusal::Stop;
use oa_ledger::{
    Transfer, TransferId,
    audit::{Finding, Fold, entry_fits, total_fits, transfer_fits},
};

use crate::{tables::ledger, transaction::Tx};

/// Accounts whose sums are added up in one statement, at most. That every asset sums to zero follows from what is
/// looked at row by row (each entry is one side of a leg, and each leg has both), so large books do without: one
/// statement over all accounts would take longer each time.
const SUMMED_ACCOUNTS: u64 = 100_000;

/// Where a round of the auditor stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    stage: Stage,
    /// Accounts seen in this round.
    accounts: u64,
    /// Accounts up to which the sums are looked at too.
    summed: u64,
}

impl Default for Cursor {
    fn default() -> Self {
        Cursor { stage: Stage::default(), accounts: 0, summed: SUMMED_ACCOUNTS }
    }
}

impl Cursor {
    /// Of a round that leaves nothing out, however long it takes.
    pub fn thorough() -> Self {
        Cursor { summed: u64::MAX, ..Cursor::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The account behind this one is next.
    Accounts {
        after: String,
    },
    /// An account whose entries are being added up.
    Entries(Fold),
    Transfers {
        after: String,
    },
    Totals,
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Accounts { after: String::new() }
    }
}

/// What one portion showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub rows: u32,
    pub findings: Vec<Finding>,
    /// Where to go on; none when the round is over.
    pub next: Option<Cursor>,
}

/// Looks at about `limit` rows from where the cursor stands.
pub async fn look(tx: &mut Tx, cursor: &Cursor, limit: u32) -> Result<Looked, Stop> {
    let mut looked = Looked::default();
    let mut known = HashMap::new();
    let Cursor { mut stage, mut accounts, summed } = cursor.clone();
    while looked.rows < limit {
        let room = limit - looked.rows;
        stage = match stage {
            Stage::Accounts { after } => match ledger::account_after(tx, &after).await? {
                Some(account) => {
                    accounts += 1;
                    Stage::Entries(Fold::new(account.id))
                }
                None => Stage::Transfers { after: String::new() },
            },
            Stage::Entries(fold) => entries(tx, fold, room, &mut known, &mut looked).await?,
            Stage::Transfers { after } => transfers(tx, after, room, &mut looked).await?,
            Stage::Totals if accounts > summed => return Ok(looked),
            Stage::Totals => {
                for (asset, sums) in ledger::totals(tx).await? {
                    looked.findings.extend(total_fits(&asset, sums));
                }
                return Ok(looked);
            }
        };
    }
    looked.next = Some(Cursor { stage, accounts, summed });
    Ok(looked)
}

/// Adds up a portion of an account's entries; at their end, compares. The account is read in the same snapshot as
/// its last entry, so writers in between do no harm.
async fn entries(
    tx: &mut Tx,
    mut fold: Fold,
    room: u32,
    known: &mut HashMap<TransferId, Option<Transfer>>,
    looked: &mut Looked,
) -> Result<Stage, Stop> {
    let id = fold.account().clone();
    let next = Stage::Accounts { after: id.to_string() };
    looked.rows += 1;
    let portion = ledger::entries_after(tx, &id, fold.seq, room).await?;
    let whole = portion.len() < room as usize;
    for row in portion {
        looked.rows += 1;
        if let Err(finding) = fold.add(&row.entry) {
            looked.findings.push(finding);
            return Ok(next);
        }
        if !known.contains_key(&row.entry.transfer) {
            let transfer = ledger::get(tx, &row.entry.transfer).await?;
            known.insert(row.entry.transfer.clone(), transfer);
        }
        let transfer = known.get(&row.entry.transfer).and_then(Option::as_ref);
        looked.findings.extend(entry_fits(&row.entry, transfer));
    }
    if !whole {
        return Ok(Stage::Entries(fold));
    }
    let account = ledger::account(tx, &id).await?;
    looked.findings.extend(fold.compare(&account));
    Ok(next)
}

/// Compares a portion of the transfers with the entries they must have left.
async fn transfers(tx: &mut Tx, after: String, room: u32, looked: &mut Looked) -> Result<Stage, Stop> {
    let portion = ledger::transfers_after(tx, &after, room).await?;
    let whole = portion.len() < room as usize;
    let last = portion.last().map(|transfer| transfer.id.to_string());
    for transfer in portion {
        looked.rows += 1;
        let mut found = Vec::new();
        for wanted in transfer.entries() {
            found.push(ledger::entry(tx, &wanted.account, wanted.seq).await?);
        }
        looked.findings.extend(transfer_fits(&transfer, &found));
    }
    Ok(match whole {
        true => Stage::Totals,
        false => Stage::Transfers { after: last.unwrap_or(after) },
    })
}
