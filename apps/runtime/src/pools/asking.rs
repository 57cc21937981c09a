//! Decides what the wallet's word on a payout comes to. Nothing here is inside a transaction, and nothing that was not
//! said is taken for a failure. Invoices are paid by the lane of payments, which pays each once.

use oa_contract::{Fault, Msats, Stop, wire::pools::PayoutRail};
use oa_ledger::pool::MSATS_PER_SAT;
use oa_lightning::{OnchainOrder, OnchainSent, OnchainState, Speed, WalletError};
use oa_store::tables::{
    liquidity::{PaymentRow, PaymentStatus},
    pool_withdrawals::WithdrawalRow,
};
use serde_json::Value;

use super::{
    key,
    payout::{self, Outcome, Under, most_fee_msats, payment_id},
    receipts::Settled,
};
use crate::Runtime;

impl Runtime {
    /// Asks the wallet to make a payout that was begun, and writes down what it said. Asked twice under one id it pays
    /// once. Whoever waits for it may go away: it goes on.
    pub(super) async fn pay_out(&self, under: &Under) -> Result<(WithdrawalRow, Outcome), Stop> {
        let outcome = match (&under.payment, onchain(&under.row)) {
            (Some(begun), _) => paid(&self.payments.drive(begun.clone()).await?),
            (None, Some(order)) => return self.send_out(under.row.clone(), order).await,
            (None, None) => Outcome::Failed("there is no address to pay to".into()),
        };
        Ok((self.record_payout(&under.row, outcome.clone()).await?, outcome))
    }

    async fn send_out(
        &self,
        row: WithdrawalRow,
        order: OnchainOrder,
    ) -> Result<(WithdrawalRow, Outcome), Stop> {
        let (wallet, store, clock) = (self.wallet().clone(), self.store.clone(), self.clock.clone());
        let mut record = self.record_of(&row, Outcome::Unknown(String::new()))?;
        let sending = tokio::spawn(async move {
            record.outcome = sent(wallet.send_onchain(&order).await);
            record.now = clock.now();
            let outcome = record.outcome.clone();
            let row = store.write("pools.record_payout", key(&row.pool_id), record, payout::record).await?;
            Ok((row.ok_or_else(not_there)?, outcome))
        });
        sending.await.map_err(|error| Fault::new("waiting for a sending", error))?
    }

    /// Asks what became of a payout; none while somebody else is asking. A sending that the wallet has surely never
    /// heard of is asked for again, under the same id.
    pub(super) async fn ask_about(&self, row: &WithdrawalRow) -> Result<Option<Outcome>, Stop> {
        match row.rail {
            PayoutRail::Lightning => Ok(Some(match self.payments.outcome(&payment_id(row)).await? {
                Some(payment) => paid(&payment),
                None => Outcome::Unknown("the payment is not there".into()),
            })),
            PayoutRail::Onchain => {
                let ask = (row.withdrawal_id.clone(), row.round, self.payments.terms());
                let claimed =
                    self.store.write("pools.claim_payout", key(&row.pool_id), ask, payout::claim).await?;
                match claimed {
                    Some(row) => self.ask_chain(&row).await.map(Some),
                    None => Ok(None),
                }
            }
        }
    }

    async fn ask_chain(&self, row: &WithdrawalRow) -> Result<Outcome, Stop> {
        let Some(order) = onchain(row) else {
            return Ok(Outcome::Unknown("the sending has no name".into()));
        };
        Ok(match self.wallet().onchain_payment(&order.request_id).await {
            Ok(OnchainState::Sent(done)) => sent(Ok(done)),
            Ok(OnchainState::Failed(trouble)) => Outcome::Failed(trouble.to_string()),
            Ok(OnchainState::InFlight) => Outcome::Unknown("the wallet is still sending".into()),
            // A refusal of this request says nothing about an earlier copy that may still be on its way.
            Ok(OnchainState::NeverHeardOf) => sent(self.wallet().send_onchain(&order).await),
            Err(error) => Outcome::Unknown(error.to_string()),
        })
    }
}

pub(super) fn not_there() -> Fault {
    Fault::msg("a withdrawal that was begun is not there")
}

/// What a payment of the lane came to.
fn paid(payment: &PaymentRow) -> Outcome {
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let why = || format!("{}: {}", said(&payment.error_code), said(&payment.error_message));
    match payment.status {
        PaymentStatus::Succeeded => Outcome::Paid {
            // What arrived beyond what was promised has left the wallet as well.
            fee_msats: payment
                .fee
                .map_or(0, Msats::get)
                .saturating_add(payment.settled.map_or(0, Msats::get).saturating_sub(payment.amount.get())),
            paid_at_ms: payment.paid_at_ms,
            settled: Settled {
                wallet_receipt_sha256: payment.wallet_receipt_sha256.clone(),
                payment_id: wallet_payment_id(payment),
                txid: None,
            },
        },
        PaymentStatus::Failed => Outcome::Failed(why()),
        PaymentStatus::InFlight | PaymentStatus::Unknown => Outcome::Unknown(why()),
    }
}

/// The wallet's own name of a payment (§9.3).
fn wallet_payment_id(payment: &PaymentRow) -> Option<String> {
    let said: Value = serde_json::from_str(payment.wallet_response.as_ref()?.get()).ok()?;
    let at = |pointer: &str| said.pointer(pointer)?.as_str().map(str::to_owned);
    at("/result/payment/paymentId").or_else(|| at("/result/receipt/paymentId"))
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
        // Whether it was the only request is told where it is written down.
        Err(WalletError::NotDone(trouble)) => Outcome::Refused(trouble.to_string()),
        Err(WalletError::Unknown(trouble)) => Outcome::Unknown(trouble.to_string()),
    }
}
