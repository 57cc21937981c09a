//! Decides who else there is where there is no money: a shop that makes invoices for the wallet to pay, says whether it
//! was paid, and pays invoices of the wallet. With simulated wallets it is another of them, with nodes the third node.

use std::sync::Arc;

use oa_contract::{Clock, Msats};
use oa_lightning::{
    Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Paid, PayOrder, Simulated, Wallet as _, WalletError,
    bolt11::{self, Network},
};
#[cfg(feature = "ldk")]
use oa_lightning_ldk::LdkWallet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Service,
    http::{Asked, No},
    pay,
};

/// What a way may cost the shop when nobody says.
const MAX_FEE_MSATS: u64 = 10_000;

/// The other side of payments.
pub enum Shop {
    Simulated {
        ours: Arc<Simulated>,
        shop: Box<Simulated>,
    },
    #[cfg(feature = "ldk")]
    Nodes(Arc<LdkWallet>),
}

impl Shop {
    /// Another wallet of the simulated network.
    pub fn simulated(ours: &Arc<Simulated>, network: Network, clock: Arc<dyn Clock>) -> Self {
        let shop = Simulated::new("shop", network, clock, Msats::MAX);
        Shop::Simulated { ours: ours.clone(), shop: Box::new(shop) }
    }

    /// The wallet itself, where it is a simulated one.
    pub fn ours(&self) -> Option<&Simulated> {
        match self {
            Shop::Simulated { ours, .. } => Some(ours),
            #[cfg(feature = "ldk")]
            Shop::Nodes(_) => None,
        }
    }

    /// An invoice that the wallet can pay, the same for the same request id.
    pub async fn invoice(&self, order: &InvoiceOrder) -> Result<Invoice, WalletError> {
        match self {
            Shop::Simulated { shop, .. } => shop.create_invoice(order).await,
            #[cfg(feature = "ldk")]
            Shop::Nodes(nodes) => nodes.shop_invoice(order).await,
        }
    }

    /// Whether the shop was paid.
    pub async fn settled(&self, invoice: &InvoiceRef) -> Result<InvoiceState, WalletError> {
        match self {
            Shop::Simulated { ours, shop } => {
                shop.settle_with(ours);
                shop.invoice(invoice).await
            }
            #[cfg(feature = "ldk")]
            Shop::Nodes(nodes) => nodes.shop_settled(invoice).await,
        }
    }

    /// The shop pays an invoice of the wallet.
    pub async fn pay(&self, order: &PayOrder) -> Result<Paid, WalletError> {
        match self {
            Shop::Simulated { ours, shop } => {
                let paid = shop.pay(order).await?;
                ours.settle_with(shop);
                Ok(paid)
            }
            #[cfg(feature = "ldk")]
            Shop::Nodes(nodes) => nodes.shop_pay(order).await,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShopInvoice {
    amount_msats: Msats,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    expiry_secs: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShopPayment {
    invoice: String,
    #[serde(default)]
    max_fee_msats: Option<u64>,
}

impl Service {
    fn shop(&self) -> Result<&Shop, No> {
        let none = || No::new(404, "not_found", "only a wallet of mode simulated or ldk has a shop");
        self.shop.as_ref().ok_or_else(none)
    }

    /// `POST /simulated/shop/invoices`: an invoice that this wallet can pay, the same for the same request id.
    pub async fn shop_invoice(&self, asked: &Asked) -> Result<Value, No> {
        let shop = self.shop()?;
        let body: ShopInvoice = asked.read()?;
        let order = InvoiceOrder {
            request_id: asked.id.clone(),
            amount: body.amount_msats,
            memo: body.description,
            expiry_seconds: body.expiry_secs,
        };
        let made = shop.invoice(&order).await.map_err(|error| pay::no(error.trouble()))?;
        Ok(json!({"simulated": true, "requestId": order.request_id, "invoice": made.bolt11,
            "paymentHash": made.payment_hash, "amountMsats": made.amount}))
    }

    /// `GET /simulated/shop/invoices/{id}`: whether the shop was paid.
    pub async fn shop_was_paid(&self, id: &str) -> Result<Value, No> {
        let asked = InvoiceRef { request_id: id.to_owned(), payment_hash: None };
        let state = self.shop()?.settled(&asked).await.map_err(|error| pay::no(error.trouble()))?;
        let received = match state {
            InvoiceState::Settled { received, .. } => Some(received),
            InvoiceState::NeverHeardOf => {
                return Err(No::new(404, "invoice_not_found", "the shop made no invoice under this id"));
            }
            _ => None,
        };
        Ok(json!({"simulated": true, "requestId": id, "receivedMsats": received}))
    }

    /// `POST /simulated/shop/payments`: the shop pays an invoice of this wallet, once for the same request id.
    pub async fn shop_pays(&self, asked: &Asked) -> Result<Value, No> {
        let shop = self.shop()?;
        let body: ShopPayment = asked.read()?;
        let checked = bolt11::check(&body.invoice, self.network, self.now())
            .map_err(|why| No::new(502, "prepare_failed", why.to_string()))?;
        let order = PayOrder {
            request_id: asked.id.clone(),
            invoice: body.invoice,
            payment_hash: Some(checked.payment_hash),
            amount: checked.amount,
            max_fee: body.max_fee_msats.or(Some(MAX_FEE_MSATS)).and_then(Msats::new).unwrap_or(Msats::MAX),
            host: self.wallet_id.clone(),
            not_after: None,
        };
        let paid = shop.pay(&order).await.map_err(|error| pay::no(error.trouble()))?;
        Ok(json!({"simulated": true, "requestId": order.request_id, "payment": {
            "amountMsats": paid.amount, "feeMsats": paid.fee, "paymentHash": order.payment_hash,
            "preimageHex": paid.preimage.map(|preimage| preimage.hex())}}))
    }
}
