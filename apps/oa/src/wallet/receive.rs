//! Decides how the wallet is paid: invoices and addresses, the same for the same request id, and what has come in.

use std::sync::Arc;

use oa_contract::Msats;
use oa_lightning::{InvoiceOrder, InvoiceRef, InvoiceState, ReceiveAddress, WalletError, receipts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Service,
    book::{self, Begin, Begun, End, Lane},
    http::{Asked, No},
    pay::no,
    shop::Shop,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvoiceBody {
    amount_sats: u64,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    expiry_secs: Option<u64>,
}

#[derive(Deserialize)]
struct ReceiveBody {
    #[serde(default)]
    invoice: Option<String>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default, rename = "amountSats")]
    amount_sats: Option<u64>,
}

/// An invoice that is asked for, wherever it was asked.
pub struct WantedInvoice {
    pub request_id: String,
    pub amount_sats: u64,
    pub description: Option<String>,
    pub expiry_seconds: Option<u64>,
}

fn failed(error: &WalletError) -> No {
    no(error.trouble())
}

impl Service {
    pub async fn create_invoice(self: &Arc<Self>, asked: &Asked) -> Result<Value, No> {
        let body: InvoiceBody = asked.read()?;
        let wanted = WantedInvoice {
            request_id: asked.id.clone(),
            amount_sats: body.amount_sats,
            description: body.description,
            expiry_seconds: body.expiry_secs,
        };
        self.make_invoice(wanted).await
    }

    pub async fn make_invoice(&self, wanted: WantedInvoice) -> Result<Value, No> {
        let amount = wanted.amount_sats.checked_mul(1_000).and_then(Msats::new);
        let Some(amount) = amount.filter(|amount| *amount > Msats::ZERO) else {
            return Err(No::invalid("amountSats must be a whole number above 0"));
        };
        let description = wanted.description.as_deref();
        let fingerprint = receipts::invoice_fingerprint(
            &self.wallet_id,
            wanted.amount_sats,
            description,
            wanted.expiry_seconds,
        );
        let id = wanted.request_id.clone();
        let work = async {
            let order = InvoiceOrder {
                request_id: id.clone(),
                amount,
                memo: wanted.description.clone(),
                expiry_seconds: wanted.expiry_seconds,
            };
            let invoice = self.wallet.create_invoice(&order).await.map_err(|error| failed(&error))?;
            let created_at_ms = invoice.created_at_ms.unwrap_or_else(|| self.now().millis());
            let receipt = receipts::Made {
                request_id: &id,
                wallet_id: &self.wallet_id,
                invoice_hash: &invoice.invoice_hash,
                amount_msats: amount.get(),
                created_at_ms,
                expires_at_ms: invoice.expires_at_ms,
            }
            .receipt();
            Ok(json!({
                "requestId": id,
                "walletId": self.wallet_id,
                "invoice": invoice.bolt11,
                "invoiceHash": invoice.invoice_hash,
                "paymentHash": invoice.payment_hash,
                "amountMsats": amount,
                "createdAtMs": created_at_ms,
                "expiresAtMs": invoice.expires_at_ms,
                "receipt": receipt.document,
            }))
        };
        self.once("invoice", &id, fingerprint, work).await
    }

    /// Does something that moves no money once, and gives its answer again. The wallet knows the id too, so that it
    /// may be done twice where nobody has written down that it was.
    pub(super) async fn once(
        &self,
        kind: &'static str,
        id: &str,
        fingerprint: String,
        work: impl Future<Output = Result<Value, No>>,
    ) -> Result<Value, No> {
        let broken = |stop: oa_contract::Stop| No::broken(&stop);
        if let Some(known) = book::find(&self.store, kind, id).await.map_err(broken)? {
            let known = book::known_as(&known, &fingerprint).map_err(|fault| No::broken(&fault.into()))?;
            match known {
                Begun::InFlight => {}
                other => {
                    if let Some(answer) = other.answered(self.limits.usual) {
                        return answer;
                    }
                }
            }
        }
        let reply = work.await?;
        let begin = Begin {
            kind,
            id: id.to_owned(),
            fingerprint,
            spend: Msats::ZERO,
            asked: Value::Null,
            lane: Lane::Pay,
            limits: self.limits.clone(),
            now: self.now(),
        };
        match book::begin(&self.store, begin).await.map_err(broken)? {
            Begun::Yours { .. } | Begun::InFlight => {
                book::end(&self.store, kind, id, End::Done(reply.clone()), self.now())
                    .await
                    .map_err(broken)?;
                Ok(reply)
            }
            other => other.answered(self.limits.usual).unwrap_or(Ok(reply)),
        }
    }

    /// `GET /invoices/{id}`: whether an invoice is settled, and with how much.
    pub async fn invoice(&self, id: &str) -> Result<Value, No> {
        let known = book::find(&self.store, "invoice", id).await.map_err(|stop| No::broken(&stop))?;
        let Some(known) = known else {
            return Err(No::new(404, "invoice_not_found", "no invoice was made under this id"));
        };
        let reply = book::reply(&known).map_err(|fault| No::broken(&fault.into()))?;
        let payment_hash = reply["paymentHash"].as_str().map(str::to_owned);
        let invoice = InvoiceRef { request_id: id.to_owned(), payment_hash };
        let state = self.wallet.invoice(&invoice).await.map_err(|error| failed(&error))?;
        let mut told = json!({"requestId": id, "invoiceHash": reply["invoiceHash"], "amountMsats": reply["amountMsats"]});
        told["state"] = match state {
            InvoiceState::Open => "open",
            InvoiceState::Accepted => "accepted",
            InvoiceState::Canceled => "canceled",
            InvoiceState::NeverHeardOf => {
                return Err(No::new(404, "invoice_not_found", "the wallet has not heard of this invoice"));
            }
            InvoiceState::Settled { received, settled_at_ms } => {
                told["receivedMsats"] = received.get().into();
                told["settledAtMs"] = settled_at_ms.into();
                "settled"
            }
        }
        .into();
        Ok(told)
    }

    /// An address for the request id of the header; without one, the same for everybody.
    pub async fn receive_address(&self, asked: &Asked) -> Result<Value, No> {
        let id = if asked.named { asked.id.as_str() } else { "shared" };
        let work = async {
            let address = self.wallet.receive_address(id).await.map_err(|error| failed(&error))?;
            let network = address.network.unwrap_or_else(|| self.network.name().into());
            // Clients of the older wallet want both; this one has one kind.
            Ok(
                json!({"sparkAddress": address.address, "bitcoinAddress": address.address, "network": network}),
            )
        };
        self.once("address", id, self.wallet_id.clone(), work).await
    }

    /// `GET /received/{address}`: what an address of ours has received.
    pub async fn received(&self, address: &str) -> Result<Value, No> {
        let address =
            ReceiveAddress { request_id: String::new(), address: address.to_owned(), network: None };
        let received = self.wallet.received(&address).await.map_err(|error| failed(&error))?;
        Ok(json!({"address": address.address, "confirmedSats": received.confirmed_sats,
            "unconfirmedSats": received.unconfirmed_sats, "confirmations": received.confirmations}))
    }

    /// `POST /simulated/receive`: somebody of the simulated network has paid us.
    pub fn simulate_receipt(&self, asked: &Asked) -> Result<Value, No> {
        let Some(simulated) = self.shop.as_ref().and_then(Shop::ours) else {
            return Err(No::new(404, "not_found", "only a simulated wallet can be paid like this"));
        };
        let body: ReceiveBody = asked.read()?;
        let msats = body.amount_sats.and_then(|sats| sats.checked_mul(1_000)).and_then(Msats::new);
        let settled = match (&body.invoice, &body.address, body.amount_sats) {
            (Some(invoice), None, _) => simulated.receive(invoice.trim(), msats),
            (None, Some(address), Some(sats)) => {
                simulated.receive_onchain(address.trim(), sats);
                true
            }
            _ => return Err(No::invalid("either invoice, or address and amountSats, are needed")),
        };
        Ok(json!({"simulated": true, "settled": settled}))
    }
}
