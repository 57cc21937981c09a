//! Decides what is said where no wallet is configured: everything surely was not done.

use serde_json::Value;

use crate::wallet::{
    About, Balances, ChannelHealth, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, NodeBalances,
    Paid, PayOrder, PaymentRef, PaymentState, Wallet, WalletError,
};

pub const NOT_CONFIGURED: &str = "wallet_executor_not_configured";

/// No wallet; the text says what is missing.
pub struct NoWallet(pub &'static str);

impl NoWallet {
    fn refuse<'a, T: Send + 'a>(&'a self) -> Later<'a, Result<T, WalletError>> {
        Box::pin(async move { Err(WalletError::not_done(NOT_CONFIGURED, self.0)) })
    }
}

impl Wallet for NoWallet {
    fn about(&self) -> About {
        About { face: "none", wallet_id: "lightning".into(), simulated: false, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, _: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        self.refuse()
    }

    /// A payment that was begun with another wallet is not known here; only that wallet can tell.
    fn payment<'a>(&'a self, _: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        self.refuse()
    }

    fn create_invoice<'a>(&'a self, _: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        self.refuse()
    }

    fn invoice<'a>(&'a self, _: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        self.refuse()
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        self.refuse()
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        self.refuse()
    }
}

/// The backend `noop` (§10): a node that holds nothing and does nothing.
pub struct NoNode;

impl Wallet for NoNode {
    fn about(&self) -> About {
        About { face: "noop", wallet_id: "noop".into(), simulated: false, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, _: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        unsupported()
    }

    fn payment<'a>(&'a self, _: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        unsupported()
    }

    fn create_invoice<'a>(&'a self, _: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        unsupported()
    }

    fn invoice<'a>(&'a self, _: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        unsupported()
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async { Ok(Balances::default()) })
    }

    fn node_balances<'a>(&'a self) -> Later<'a, Result<NodeBalances, WalletError>> {
        Box::pin(async { Ok(NodeBalances::default()) })
    }

    fn channel_health<'a>(&'a self) -> Later<'a, Result<ChannelHealth, WalletError>> {
        Box::pin(async { Ok(ChannelHealth::default()) })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        unsupported()
    }
}

fn unsupported<'a, T: Send + 'a>() -> Later<'a, Result<T, WalletError>> {
    Box::pin(async { Err(WalletError::not_done("unsupported", "there is no Lightning node")) })
}
