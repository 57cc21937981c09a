//! Decides with which wallet the demonstration pays: `oa wallet` in this very process, SIMULATED or with the LDK nodes of
//! this build. Whoever else pays and is paid is its shop.

use oa_contract::{Msats, canonical::hex};
use oa_lightning::{Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Paid, PayOrder, WalletError};

use super::home;
use crate::{
    data_dir::DataDir,
    failure::Failure,
    system,
    wallet::{Served, shop::Shop},
};

/// What is in the wallet before anybody has paid anything in: the operator's own.
const FLOAT_SATS: &str = "50000";
/// What a way may cost whoever pays the wallet.
const MAX_FEE_MSATS: u64 = 10_000;

/// The wallet, and how the runtime reaches it.
pub struct Purse {
    pub served: Served,
    pub token: String,
    pub real: bool,
}

impl Purse {
    pub async fn open(data: &DataDir, real: bool) -> Result<Self, Failure> {
        if real && !cfg!(feature = "ldk") {
            return Err(Failure::usage(
                "this build has no Lightning nodes. `cargo run --release --features ldk -- demo --real-lightning` makes one that has",
            ));
        }
        let data = DataDir::at(data.path().join("wallet"));
        let token = hex(&system::random());
        let settings = home::settings(
            &data,
            &[
                ("OA_LIGHTNING_WALLET_EXECUTOR_MODE", if real { "ldk" } else { "simulated" }),
                ("OA_LIGHTNING_WALLET_EXECUTOR_PORT", "0"),
                ("OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN", &token),
                ("OA_LIGHTNING_WALLET_SIMULATED_BALANCE_SATS", FLOAT_SATS),
            ],
        )?;
        let served = Served::start(&settings, &data).await?;
        Ok(Purse { served, token, real })
    }

    /// What is real of it, and what is not.
    pub fn told(&self) -> &'static str {
        match self.real {
            true => {
                "The wallet is one of three real LDK nodes in this process: channels, invoices and preimages are real,\n\
                 the chain under them is SIMULATED, so there is no money."
            }
            false => {
                "The wallet is SIMULATED: its invoices are whole BOLT11, but they can be paid in this process only, and\n\
                 there is no money. --real-lightning pays through real LDK nodes instead."
            }
        }
    }

    /// What it could pay now.
    pub async fn sats(&self) -> Result<u64, Failure> {
        let balances = self.served.service.wallet.balances().await.map_err(|error| failed(&error))?;
        Ok(balances.spendable_msats / 1_000)
    }

    fn shop(&self) -> Result<&Shop, Failure> {
        self.served.service.shop.as_ref().ok_or_else(|| Failure::wrong("the wallet has nobody to pay"))
    }

    /// An invoice of somebody else, for the wallet to pay.
    pub async fn bill(&self, id: &str, amount: Msats, memo: &str) -> Result<Invoice, Failure> {
        let memo = Some(memo.to_owned());
        let order = InvoiceOrder { request_id: id.to_owned(), amount, memo, expiry_seconds: None };
        self.shop()?.invoice(&order).await.map_err(|error| failed(&error))
    }

    /// The node that such invoices pay, as one of them says.
    pub async fn node_of_others(&self) -> Result<String, Failure> {
        let least = Msats::new(1_000).unwrap_or_default();
        let sample = self.bill("whose", least, "whose invoices these are").await?;
        oa_lightning::bolt11::payee(&sample.bolt11)
            .ok_or_else(|| Failure::wrong("the wallet's invoices say no node"))
    }

    /// What that somebody has received.
    pub async fn received(&self, id: &str) -> Result<Option<Msats>, Failure> {
        let invoice = InvoiceRef { request_id: id.to_owned(), payment_hash: None };
        match self.shop()?.settled(&invoice).await.map_err(|error| failed(&error))? {
            InvoiceState::Settled { received, .. } => Ok(Some(received)),
            _ => Ok(None),
        }
    }

    /// Somebody else pays an invoice of the wallet.
    pub async fn pay_in(&self, id: &str, invoice: &str) -> Result<Paid, Failure> {
        let amount = oa_lightning::bolt11::whole_amount_msats(invoice).and_then(Msats::new);
        let order = PayOrder {
            request_id: id.to_owned(),
            invoice: invoice.to_owned(),
            payment_hash: oa_lightning::bolt11::payment_hash(invoice),
            amount: amount.ok_or_else(|| Failure::wrong("the pool's invoice names no amount"))?,
            max_fee: Msats::new(MAX_FEE_MSATS).unwrap_or_default(),
            host: "pool".to_owned(),
            not_after: None,
        };
        self.shop()?.pay(&order).await.map_err(|error| failed(&error))
    }
}

fn failed(error: &WalletError) -> Failure {
    Failure::wrong(format!("the wallet: {error}"))
}
