//! Decides what the ledger may ask a wallet: whether money that left through it has really left. Where there is no wallet,
//! whoever compares says so.

use std::pin::Pin;

use oa_contract::{Amount, Stop};
use oa_ledger::{Kind, Transfer};

/// What a wallet says of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// So much has left it.
    Paid(Amount),
    /// It has paid nothing for it.
    Nothing,
    /// It cannot tell now, or never could: no difference is seen, and none that was seen is forgotten.
    Silent,
}

pub type Receipt<'a> = Pin<Box<dyn Future<Output = Result<Said, Stop>> + Send + 'a>>;

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
        Box::pin(std::future::ready(Ok(Said::Nothing)))
    }
}

/// What a transfer has moved out through a wallet; nothing when no wallet is in it.
pub fn moved_out(transfer: &Transfer) -> Option<Amount> {
    let out = transfer.legs.iter().filter(|booked| booked.leg.credit.kind() == Kind::Wallet);
    let moved: Vec<Amount> = out.map(|booked| booked.captured.unwrap_or(Amount::ZERO)).collect();
    (!moved.is_empty()).then(|| Amount::sum(moved)).flatten()
}

/// Where the ledger and the wallet differ.
pub fn judge(moved: Amount, wallet: Option<&str>, said: Said) -> Option<(&'static str, String)> {
    match (wallet, said) {
        (None, _) => {
            Some(("wallet_unknown", format!("{moved} left through a wallet, and no wallet is configured")))
        }
        (Some(name), Said::Nothing) if !moved.is_zero() => {
            Some(("wallet_missing", format!("{moved} left through {name}, which has no receipt of it")))
        }
        (Some(name), Said::Paid(paid)) if paid != moved => {
            Some(("wallet_amount", format!("{moved} left through {name}, whose receipt says {paid}")))
        }
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_that_left_needs_a_receipt_of_the_same_amount() {
        let amount = |units| Amount::new(units).expect("an amount");
        let kind = |wallet, said| judge(amount(5), wallet, said).map(|(kind, _)| kind);
        assert_eq!(kind(None, Said::Nothing), Some("wallet_unknown"));
        assert_eq!(kind(Some("lnd"), Said::Nothing), Some("wallet_missing"));
        assert_eq!(kind(Some("lnd"), Said::Paid(amount(6))), Some("wallet_amount"));
        assert_eq!(kind(Some("lnd"), Said::Paid(amount(5))), None);
        assert_eq!(kind(Some("lnd"), Said::Silent), None);
    }
}
