//! Decides what the wallet's word on a payout comes to. Nothing here is inside a transaction, and nothing that was not
//! said is taken for a failure.

use oa_contract::{Msats, wire::pools::PayoutRail};
use oa_ledger::pool::MSATS_PER_SAT;
use oa_lightning::{
    OnchainOrder, OnchainSent, OnchainState, Paid, PayOrder, PaymentRef, PaymentState, Speed, WalletError,
};
use oa_store::tables::pool_withdrawals::WithdrawalRow;

use super::{
    HOST,
    payout::{Outcome, most_fee_msats},
    receipts::Settled,
};
use crate::Runtime;

impl Runtime {
    /// Asks the wallet to make a payout that was begun. Asked twice under one id it pays once.
    pub(super) async fn pay_out(&self, row: &WithdrawalRow) -> Outcome {
        match row.rail {
            PayoutRail::Lightning => match lightning(row) {
                Some(order) => self.judged(row, self.wallet().pay(&order).await),
                None => Outcome::Failed("there is no invoice to pay".into()),
            },
            PayoutRail::Onchain => match onchain(row) {
                Some(order) => sent(self.wallet().send_onchain(&order).await),
                None => Outcome::Failed("there is no address to pay to".into()),
            },
        }
    }

    /// Asks the wallet what became of a payout. One that it has surely never heard of is asked for again, under the
    /// same id.
    pub(super) async fn ask_about(&self, row: &WithdrawalRow) -> Outcome {
        let Some(request_id) = row.request_id.clone() else {
            return Outcome::Unknown("the payout has no name".into());
        };
        match row.rail {
            PayoutRail::Lightning => {
                let payment = PaymentRef { request_id, payment_hash: row.payment_hash.clone() };
                match self.wallet().payment(&payment).await {
                    Ok(PaymentState::Succeeded(paid)) => self.proved(row, paid),
                    Ok(PaymentState::Failed(trouble)) => Outcome::Failed(trouble.to_string()),
                    Ok(PaymentState::InFlight) => Outcome::Unknown("the wallet is still paying".into()),
                    Ok(PaymentState::NeverHeardOf) => self.pay_out(row).await,
                    Err(error) => Outcome::Unknown(error.to_string()),
                }
            }
            PayoutRail::Onchain => match self.wallet().onchain_payment(&request_id).await {
                Ok(OnchainState::Sent(done)) => sent(Ok(done)),
                Ok(OnchainState::Failed(trouble)) => Outcome::Failed(trouble.to_string()),
                Ok(OnchainState::InFlight) => Outcome::Unknown("the wallet is still sending".into()),
                Ok(OnchainState::NeverHeardOf) => self.pay_out(row).await,
                Err(error) => Outcome::Unknown(error.to_string()),
            },
        }
    }

    fn judged(&self, row: &WithdrawalRow, said: Result<Paid, WalletError>) -> Outcome {
        match said {
            Ok(paid) => self.proved(row, paid),
            Err(WalletError::NotDone(trouble)) => Outcome::Failed(trouble.to_string()),
            Err(WalletError::Unknown(trouble)) => Outcome::Unknown(trouble.to_string()),
        }
    }

    /// Strictly a payment is proved by the preimage of its hash; leniently the wallet's word is enough.
    fn proved(&self, row: &WithdrawalRow, paid: Paid) -> Outcome {
        let opened = paid.preimage.map(|preimage| preimage.payment_hash());
        if !self.believes_callers() && (opened.is_none() || opened != row.payment_hash) {
            return Outcome::Unknown("the wallet's preimage does not open the invoice's hash".into());
        }
        Outcome::Paid {
            fee_msats: paid.fee.map_or(0, Msats::get),
            paid_at_ms: paid.paid_at_ms,
            settled: Settled {
                wallet_receipt_sha256: paid.receipt_sha256,
                payment_id: paid.payment_id,
                txid: None,
            },
        }
    }
}

fn lightning(row: &WithdrawalRow) -> Option<PayOrder> {
    Some(PayOrder {
        request_id: row.request_id.clone()?,
        invoice: row.payout_invoice.clone()?,
        payment_hash: row.payment_hash.clone(),
        amount: Msats::new(row.amount_sats.checked_mul(MSATS_PER_SAT)?)?,
        max_fee: Msats::new(most_fee_msats(row))?,
        host: HOST.into(),
        not_after: None,
    })
}

fn onchain(row: &WithdrawalRow) -> Option<OnchainOrder> {
    Some(OnchainOrder {
        request_id: row.request_id.clone()?,
        address: row.payout_address.clone()?,
        amount_sats: row.amount_sats,
        max_fee_sats: Some(most_fee_msats(row) / MSATS_PER_SAT),
        speed: Speed::Medium,
    })
}

fn sent(said: Result<OnchainSent, WalletError>) -> Outcome {
    match said {
        Ok(done) => Outcome::Paid {
            fee_msats: done.fee_sats.unwrap_or_default().saturating_mul(MSATS_PER_SAT),
            paid_at_ms: done.sent_at_ms,
            settled: Settled {
                wallet_receipt_sha256: done.receipt_sha256,
                payment_id: None,
                txid: Some(done.txid),
            },
        },
        Err(WalletError::NotDone(trouble)) => Outcome::Failed(trouble.to_string()),
        Err(WalletError::Unknown(trouble)) => Outcome::Unknown(trouble.to_string()),
    }
}
