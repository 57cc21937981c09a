//! Decides what the ledger may ask a wallet: whether money that left through it has really left. What the wallet
//! answered when it paid is written down with the payment; for as long as that is fresh it is asked once more.

use std::{pin::Pin, sync::Arc};

use oa_contract::{Amount, Stop, Timestamp, wire::pools::PayoutRail};
use oa_ledger::{Kind, Transfer, pool};
use oa_lightning::{OnchainState, PaymentRef, PaymentState, Wallet};
use oa_store::{
    Store, Tx,
    tables::{
        liquidity::{self, PaymentRow, PaymentStatus},
        pool_withdrawals::{self as withdrawals, WithdrawalRow},
    },
};

use crate::liquidity::payments;

/// What a wallet says it has paid for a transfer; nothing when it knows of none.
pub type Receipt<'a> = Pin<Box<dyn Future<Output = Result<Option<Amount>, Stop>> + Send + 'a>>;

/// For how long after its end a payment is asked for once more. Older ones stand as they were written down: a round
/// over all there ever was must not cost a call of the wallet for each.
const FRESH_SECONDS: i64 = 86_400;
/// What ends the id of a transfer that took what a wallet used beyond its hold.
const EXCESS: &str = ":excess";
const POOL_EXCESS: &str = "pool:excess:";

/// Receipts of a wallet's executor.
pub trait WalletReceipts: Send + Sync {
    /// Which wallet it is. None: there is none.
    fn name(&self) -> Option<&str>;

    /// What was paid for this transfer and for what it used beyond that, as of `now`.
    fn receipt<'a>(&'a self, transfer: &'a Transfer, now: Timestamp) -> Receipt<'a>;
}

/// The wallet that pays, and what was kept of its answers.
pub struct PaidBy {
    store: Store,
    wallet: Arc<dyn Wallet>,
    /// None: there is none.
    name: Option<String>,
}

impl PaidBy {
    pub fn new(store: Store, wallet: Arc<dyn Wallet>) -> Self {
        let about = wallet.about();
        PaidBy { store, wallet, name: (about.face != "none").then_some(about.wallet_id) }
    }

    async fn look(&self, transfer: &Transfer, now: Timestamp) -> Result<Option<Amount>, Stop> {
        let hold_id = transfer.id.to_string();
        match self.store.read("treasury.paid", hold_id, async |tx, id: &String| kept(tx, id).await).await? {
            Kept::Nothing => Ok(None),
            Kept::Payment(payment) => Ok(self.paid(&payment, now).await),
            Kept::Sending(row) => Ok(self.sent(transfer, &row, now).await),
        }
    }

    /// A wallet that cannot be asked now says nothing against what it said before.
    async fn paid(&self, payment: &PaymentRow, now: Timestamp) -> Option<Amount> {
        if payment.status != PaymentStatus::Succeeded {
            return None;
        }
        let kept = Some(payments::gone(payment));
        let ended = payment.completed_at.unwrap_or(payment.updated_at);
        if !self.may_be_asked(&payment.wallet_id, ended, now) {
            return kept;
        }
        let asked =
            PaymentRef { request_id: payment.request_id.clone(), payment_hash: payment.payment_hash.clone() };
        match self.wallet.payment(&asked).await {
            Ok(PaymentState::Succeeded(paid)) => {
                let said = PaymentRow {
                    settled: paid.amount.or(payment.settled),
                    fee: paid.fee.or(payment.fee),
                    ..payment.clone()
                };
                Some(payments::gone(&said))
            }
            // A preimage that opens the hash is proof enough against a wallet that has forgotten.
            Ok(PaymentState::NeverHeardOf) if payment.preimage_sha256.is_some() => kept,
            Ok(_) => None,
            Err(_) => kept,
        }
    }

    async fn sent(&self, transfer: &Transfer, row: &WithdrawalRow, now: Timestamp) -> Option<Amount> {
        let kept = moved_out(transfer);
        let (Some(request_id), Some(ended)) = (&row.request_id, row.paid_at) else { return None };
        if !self.may_be_asked(self.name.as_deref().unwrap_or_default(), ended, now) {
            return kept;
        }
        match self.wallet.onchain_payment(request_id).await {
            Ok(OnchainState::Sent(sent)) => {
                let Some(fee_sats) = sent.fee_sats else { return kept };
                let sats = row.amount_sats.saturating_add(fee_sats);
                Amount::new(sats.saturating_mul(pool::MSATS_PER_SAT))
            }
            Ok(_) => None,
            Err(_) => kept,
        }
    }

    /// Only the wallet that paid knows of it.
    fn may_be_asked(&self, wallet_id: &str, ended: Timestamp, now: Timestamp) -> bool {
        self.name.as_deref() == Some(wallet_id) && ended.plus_seconds(FRESH_SECONDS) > now
    }
}

impl WalletReceipts for PaidBy {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn receipt<'a>(&'a self, transfer: &'a Transfer, now: Timestamp) -> Receipt<'a> {
        Box::pin(self.look(transfer, now))
    }
}

/// What was kept of a payment.
enum Kept {
    Nothing,
    Payment(Box<PaymentRow>),
    /// A withdrawal that was paid on-chain.
    Sending(Box<WithdrawalRow>),
}

async fn kept(tx: &mut Tx, hold_id: &str) -> Result<Kept, Stop> {
    if let Some(payment) = liquidity::payment_of_hold(tx, hold_id).await? {
        return Ok(Kept::Payment(Box::new(payment)));
    }
    let Some(withdrawal_id) = pool::payout_of(hold_id) else { return Ok(Kept::Nothing) };
    let row = withdrawals::get(tx, withdrawal_id).await?;
    Ok(match row.filter(|row| row.rail == PayoutRail::Onchain) {
        Some(row) => Kept::Sending(Box::new(row)),
        None => Kept::Nothing,
    })
}

/// Whether a transfer took what a wallet used beyond a hold: it is judged with that hold.
pub fn is_excess(transfer: &Transfer) -> bool {
    let id = transfer.id.as_str();
    id.ends_with(EXCESS) || id.starts_with(POOL_EXCESS)
}

/// Under which id what was used beyond this hold is taken.
pub fn excess_id(hold_id: &str) -> String {
    match pool::payout_of(hold_id) {
        Some(withdrawal_id) => format!("{POOL_EXCESS}{withdrawal_id}"),
        None => format!("{hold_id}{EXCESS}"),
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
