//! Decides who is told, in the very transaction that ends a payment, how it ended. A lane that pays through here adds
//! its arm; one that needs nothing done asks for the outcome when it likes.

use oa_contract::{Stop, signer::Signer};
use oa_store::{
    Key, Tx,
    tables::liquidity::{PaymentRow, PaymentStatus},
};

use super::receipt;

/// Who wants a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// `liquidity.pay`, for a quote.
    Quote,
    /// A credit envelope.
    Credit,
    /// A payout of a pool.
    Pool,
}

impl Lane {
    pub const fn name(self) -> &'static str {
        match self {
            Lane::Quote => "quote",
            Lane::Credit => "credit",
            Lane::Pool => "pool",
        }
    }
}

/// What else the transaction that ends a payment holds.
pub async fn keys(tx: &mut Tx, payment_id: &str) -> Result<Vec<Key>, Stop> {
    crate::credit::payout::keys(tx, payment_id).await
}

/// Called when the wallet was asked and nobody knows how the payment ended.
pub async fn still_open(tx: &mut Tx, payment: &PaymentRow) -> Result<(), Stop> {
    match (payment.lane.as_str(), payment.status) {
        ("credit", PaymentStatus::Unknown) => crate::credit::payout::unknown(tx, &payment.payment_id).await,
        _ => Ok(()),
    }
}

/// Called once a payment, when it has succeeded or failed; what is written here is kept with that or not at all.
pub async fn ended(tx: &mut Tx, payment: &PaymentRow, signer: Option<&Signer>) -> Result<(), Stop> {
    match payment.lane.as_str() {
        "quote" => receipt::keep(tx, payment, signer).await,
        "credit" => {
            receipt::keep(tx, payment, signer).await?;
            crate::credit::payout::ended(tx, payment, signer).await
        }
        _ => Ok(()),
    }
}
