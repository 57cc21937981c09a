//! Decides what the wallet is asked when the ledger is compared with it: which payment a transfer stands for, and how much
//! the wallet says has left it. What the wallet cannot tell now is no difference.

use std::sync::Arc;

use oa_contract::{Amount, Msats, Stop};
use oa_ledger::{Kind, Transfer, TransferId};
use oa_lightning::{OnchainState, PaymentState, Wallet};
use oa_store::{
    Store, Tx,
    tables::{
        credit, ledger,
        liquidity::{self, PaymentRow},
        pool_withdrawals,
    },
};

use super::payments;
use crate::treasury::wallet::{Receipt, Said, WalletReceipts};

/// What is borne beyond a hold is a transfer of its own.
const EXCESS: &str = ":excess";

/// The wallet that pays, as the reconciler asks it.
pub struct PayingWallet {
    store: Store,
    wallet: Arc<dyn Wallet>,
    name: String,
}

/// What a transfer stands for.
enum Stands {
    Payment(Box<PaymentRow>),
    /// A sending under this id, of so much.
    Sending {
        request_id: String,
        amount_sats: u64,
    },
    /// Nothing that the wallet can be asked about, or what an operator has answered for.
    Nothing,
}

impl PayingWallet {
    pub fn new(store: Store, wallet: Arc<dyn Wallet>) -> Self {
        let name = wallet.about().wallet_id;
        PayingWallet { store, wallet, name }
    }

    async fn ask(&self, transfer: &Transfer) -> Result<Said, Stop> {
        let (base, excess) = match transfer.id.as_str().strip_suffix(EXCESS) {
            Some(base) => (base.to_owned(), true),
            None => (transfer.id.to_string(), false),
        };
        let look = async |tx: &mut Tx, base: &String| stands(tx, base).await;
        let (stands, held) = self.store.read("liquidity.stands", base, look).await?;
        let total = match stands {
            Stands::Nothing => return Ok(Said::Silent),
            Stands::Payment(row) => self.payment(&row).await,
            Stands::Sending { request_id, amount_sats } => self.sending(&request_id, amount_sats).await,
        };
        Ok(match total {
            // Of what left, the hold covers as much as was held, and the rest stands beside it.
            Said::Paid(total) if excess => Said::Paid(total.minus(held.min(total)).unwrap_or_default()),
            Said::Paid(total) => Said::Paid(total.min(held)),
            other => other,
        })
    }

    async fn payment(&self, row: &PaymentRow) -> Said {
        match self.wallet.payment(&payments::payment_ref(row)).await {
            Ok(PaymentState::Succeeded(paid)) => {
                let parts = [paid.amount.unwrap_or(row.amount), paid.fee.unwrap_or_default()];
                Amount::sum(parts.map(Amount::from)).map_or(Said::Silent, Said::Paid)
            }
            Ok(PaymentState::Failed(_) | PaymentState::NeverHeardOf) => Said::Nothing,
            Ok(PaymentState::InFlight | PaymentState::CannotTell { .. }) | Err(_) => Said::Silent,
        }
    }

    async fn sending(&self, request_id: &str, amount_sats: u64) -> Said {
        match self.wallet.onchain_payment(request_id).await {
            Ok(OnchainState::Sent(sent)) => {
                let sats = amount_sats.saturating_add(sent.fee_sats.unwrap_or_default());
                let msats = sats.checked_mul(1_000).and_then(Msats::new);
                msats.map_or(Said::Silent, |msats| Said::Paid(msats.into()))
            }
            Ok(OnchainState::Failed(_) | OnchainState::NeverHeardOf) => Said::Nothing,
            Ok(OnchainState::InFlight) | Err(_) => Said::Silent,
        }
    }
}

impl WalletReceipts for PayingWallet {
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn receipt<'a>(&'a self, transfer: &'a Transfer) -> Receipt<'a> {
        Box::pin(self.ask(transfer))
    }
}

/// What a transfer stands for, and how much of it was held for the wallet.
async fn stands(tx: &mut Tx, base: &str) -> Result<(Stands, Amount), Stop> {
    let held = match TransferId::new(base) {
        Ok(id) => ledger::get(tx, &id).await?,
        Err(_) => None,
    };
    let Some(transfer) = held else { return Ok((Stands::Nothing, Amount::ZERO)) };
    let legs = transfer.legs.iter().filter(|booked| booked.leg.credit.kind() == Kind::Wallet);
    let held = Amount::sum(legs.map(|booked| booked.leg.amount)).unwrap_or(Amount::MAX);
    Ok((named(tx, base).await?, held))
}

async fn named(tx: &mut Tx, base: &str) -> Result<Stands, Stop> {
    if let Some(payment_id) = base.strip_prefix("payment:") {
        return payment(tx, payment_id).await;
    }
    if let Some((envelope_id, _)) = base.strip_prefix("credit:").and_then(|rest| rest.rsplit_once(':')) {
        let row = credit::envelope(tx, envelope_id).await?;
        return match row.and_then(|row| row.payment_id) {
            Some(payment_id) => payment(tx, &payment_id).await,
            None => Ok(Stands::Nothing),
        };
    }
    let Some(payout) = base.strip_prefix("pool:payout:") else { return Ok(Stands::Nothing) };
    match payment(tx, &format!("pool:{payout}")).await? {
        Stands::Nothing => sending(tx, payout).await,
        stands => Ok(stands),
    }
}

async fn payment(tx: &mut Tx, payment_id: &str) -> Result<Stands, Stop> {
    let answered_for = liquidity::resolution(tx, &super::resolve::subject(payment_id)).await?.is_some();
    let row = liquidity::payment(tx, payment_id).await?.filter(|_| !answered_for);
    Ok(row.map_or(Stands::Nothing, |row| Stands::Payment(Box::new(row))))
}

/// The try that a withdrawal was paid by; the ids of earlier ones are not kept.
async fn sending(tx: &mut Tx, payout: &str) -> Result<Stands, Stop> {
    let Some((withdrawal_id, round)) = payout.rsplit_once(':') else { return Ok(Stands::Nothing) };
    let row = pool_withdrawals::get(tx, withdrawal_id).await?;
    let row = row.filter(|row| row.payout_address.is_some() && row.round.to_string() == round);
    // A transaction that an operator has named is not in the wallet's record.
    let Some(row) = row.filter(|row| row.wallet_receipt_sha256.is_some()) else { return Ok(Stands::Nothing) };
    Ok(match row.request_id {
        Some(request_id) => Stands::Sending { request_id, amount_sats: row.amount_sats },
        None => Stands::Nothing,
    })
}
