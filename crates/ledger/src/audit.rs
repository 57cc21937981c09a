//! Decides whether what is kept adds up, from rows as they were read: an account is the sum of its entries, an
//! entry is what its transfer says, a transfer is what its state says, and every asset sums to zero.

use oa_contract::Asset;

use crate::{
    account::{Account, AccountId, Balances},
    transfer::{Entry, State, Transfer},
};

/// Where the books do not fit: which account and which of its entries, as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub account: Option<AccountId>,
    pub seq: Option<u64>,
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.account, self.seq) {
            (Some(account), Some(seq)) => write!(f, "account {account}, entry {seq}: {}", self.what),
            (Some(account), None) => write!(f, "account {account}: {}", self.what),
            _ => f.write_str(&self.what),
        }
    }
}

/// An account's sums, computed again from its entries, which come in order and in as many portions as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    account: AccountId,
    pub seq: u64,
    balances: Balances,
}

impl Fold {
    pub fn new(account: AccountId) -> Self {
        Fold { account, seq: 0, balances: Balances::default() }
    }

    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Adds the next entry.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Finding> {
        if entry.seq != self.seq + 1 {
            return Err(self.finding(self.seq + 1, format!("missing; the next one is {}", entry.seq)));
        }
        let changed = self.balances.changed(entry.side, entry.pending, entry.posted);
        self.balances = changed.ok_or_else(|| {
            self.finding(entry.seq, "takes back more than was pending, or does not fit".into())
        })?;
        self.seq = entry.seq;
        Ok(())
    }

    /// Compares with the account, once every entry it counts was added.
    pub fn compare(&self, account: &Account) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.seq < account.entries {
            let what = format!("missing; the account counts {}", account.entries);
            findings.push(self.finding(self.seq + 1, what));
        } else if self.seq > account.entries {
            let what = format!("is more than the account counts, which is {}", account.entries);
            findings.push(self.finding(self.seq, what));
        } else if self.balances != account.balances {
            let what =
                format!("holds {}, but its entries make {}", said(account.balances), said(self.balances));
            findings.push(Finding { account: Some(self.account.clone()), seq: None, what });
        }
        if let Some(below @ ..0) = account.available() {
            let what = format!("{below} are available, which is less than nothing");
            findings.push(Finding { account: Some(self.account.clone()), seq: None, what });
        }
        findings
    }

    fn finding(&self, seq: u64, what: String) -> Finding {
        Finding { account: Some(self.account.clone()), seq: Some(seq), what }
    }
}

fn said(balances: Balances) -> String {
    let Balances { debits_pending, debits_posted, credits_pending, credits_posted } = balances;
    format!(
        "debits {debits_posted} (pending {debits_pending}) and credits {credits_posted} (pending {credits_pending})"
    )
}

/// An entry must be one that its transfer left.
pub fn entry_fits(entry: &Entry, transfer: Option<&Transfer>) -> Option<Finding> {
    let what = match transfer {
        None => format!("belongs to the transfer {}, which is unknown", entry.transfer),
        Some(transfer) if !transfer.entries().contains(entry) => {
            format!("is not what the transfer {} says", entry.transfer)
        }
        Some(_) => return None,
    };
    Some(Finding { account: Some(entry.account.clone()), seq: Some(entry.seq), what })
}

/// A transfer must have left all of its entries; `found` is what stands at a place.
pub fn transfer_fits(transfer: &Transfer, found: &[Option<Entry>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(what) = transfer.inconsistency() {
        let what = format!("the transfer {}: {what}", transfer.id);
        findings.push(Finding { account: None, seq: None, what });
    }
    for (expected, found) in transfer.entries().into_iter().zip(found) {
        if found.as_ref() != Some(&expected) {
            let pending = if transfer.state == State::Pending { "pending " } else { "" };
            let what = format!("is not what the {pending}transfer {} says", transfer.id);
            findings.push(Finding { account: Some(expected.account), seq: Some(expected.seq), what });
        }
    }
    findings
}

/// Debits equal credits: what all accounts of an asset hold is nothing.
pub fn total_fits(asset: &Asset, sums: Balances) -> Option<Finding> {
    let fits = sums.posted() == 0 && sums.pending() == 0;
    let what = format!("the accounts of {asset} do not sum to zero: {}", said(sums));
    (!fits).then_some(Finding { account: None, seq: None, what })
}
