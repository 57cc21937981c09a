//! Decides what the ledger may ask a wallet: whether money that left through it has really left. There is no wallet
//! yet, and whoever compares says so.

use std::pin::Pin;

use oa_contract::{Amount, Stop};
use oa_ledger::{Kind, Transfer};

/// What a wallet says it has paid for a transfer; nothing when it knows of none.
pub type Receipt<'a> = Pin<Box<dyn Future<Output = Result<Option<Amount>, Stop>> + Send + 'a>>;

/// Receipts of a wallet's executor.
pub trait WalletReceipts: Send + Sync {
    /// Which wallet it is. None: there is none.
    fn name(&self) -> Option<&str>;

    fn receipt<'a>(&'a self, transfer: &'a Transfer) -> Receipt<'a>;
}

/// No wallet is configured.
pub struct NoWallet;

impl WalletReceipts for NoWallet {
    fn name(&self) -> Option<&str> {
        None
    }

    fn receipt<'a>(&'a self, _: &'a Transfer) -> Receipt<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// What a transfer has moved out through a wallet; nothing when no wallet is in it.
pub fn moved_out(transfer: &Transfer) -> Option<Amount> {
    let out = transfer.legs.iter().filter(|booked| booked.leg.credit.kind() == Kind::Wallet);
    let moved: Vec<Amount> = out.map(|booked| booked.captured.unwrap_or(Amount::ZERO)).collect();
    (!moved.is_empty()).then(|| Amount::sum(moved)).flatten()
}

/// Where the ledger and the wallet differ.
pub fn judge(moved: Amount, wallet: Option<&str>, receipt: Option<Amount>) -> Option<(&'static str, String)> {
    match (wallet, receipt) {
        (None, _) => {
            Some(("wallet_unknown", format!("{moved} left through a wallet, and no wallet is configured")))
        }
        (Some(name), None) => {
            Some(("wallet_missing", format!("{moved} left through {name}, which has no receipt of it")))
        }
        (Some(name), Some(paid)) if paid != moved => {
            Some(("wallet_amount", format!("{moved} left through {name}, whose receipt says {paid}")))
        }
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_that_left_needs_a_receipt_of_the_same_amount() {
        let amount = |units| Amount::new(units).expect("an amount");
        let kind = |wallet, receipt| judge(amount(5), wallet, receipt).map(|(kind, _)| kind);
        assert_eq!(kind(None, None), Some("wallet_unknown"));
        assert_eq!(kind(Some("lnd"), None), Some("wallet_missing"));
        assert_eq!(kind(Some("lnd"), Some(amount(6))), Some("wallet_amount"));
        assert_eq!(kind(Some("lnd"), Some(amount(5))), None);
    }
}
