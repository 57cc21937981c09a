//! Decides how the older group of routes is answered (liquidity §9.4): names of many wallets, one custody. No seed is
//! asked for, kept or given.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Service,
    http::{Asked, No},
    pay::Wanted,
    receive::WantedInvoice,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WalletBody {
    wallet_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvoiceBody {
    wallet_id: String,
    amount_sats: u64,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayBody {
    wallet_id: String,
    invoice: String,
    max_amount_msats: u64,
    #[serde(default)]
    host: Option<String>,
    #[serde(alias = "request_id", default)]
    request_id: Option<String>,
}

fn named(wallet_id: &str) -> Result<&str, No> {
    match wallet_id.trim() {
        "" => Err(No::invalid("walletId is required")),
        long if long.len() > 200 => Err(No::invalid("walletId has at most 200 bytes")),
        id => Ok(id),
    }
}

impl Service {
    pub async fn legacy_wallet(&self, asked: &Asked) -> Result<Value, No> {
        let body: WalletBody = asked.read()?;
        let id = named(&body.wallet_id)?;
        let balances = self.wallet.balances().await;
        let balances = balances
            .map_err(|error| No::new(502, "spark_executor_error", error.trouble().message.clone()))?;
        let plain: String =
            id.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        let digest = oa_contract::canonical::hex(&Sha256::digest(id));
        let kind = self.wallet.about().face;
        Ok(json!({"walletId": id, "sparkAddress": format!("{plain}@{kind}.wallet"), "lightningAddress": null,
            "identityPubkey": format!("{kind}-{}", &digest[..16]), "balanceSats": balances.spendable_msats / 1_000,
            "status": "active", "simulated": self.wallet.about().simulated}))
    }

    pub async fn legacy_invoice(self: &Arc<Self>, asked: &Asked) -> Result<Value, No> {
        let body: InvoiceBody = asked.read()?;
        let id = named(&body.wallet_id)?.to_owned();
        let description = body.description.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let description = description.unwrap_or_else(|| format!("OpenAgents wallet invoice ({id})"));
        let wanted = WantedInvoice {
            request_id: asked.id.clone(),
            amount_sats: body.amount_sats,
            description: Some(description.clone()),
            expiry_seconds: None,
        };
        let made = self.make_invoice(wanted).await?;
        Ok(json!({"walletId": id, "paymentRequest": made["invoice"], "invoice": made["invoice"],
            "amountSats": body.amount_sats, "description": description, "expiresAt": null}))
    }

    pub async fn legacy_pay(self: &Arc<Self>, asked: &Asked) -> Result<Value, No> {
        let body: PayBody = asked.read()?;
        let id = named(&body.wallet_id)?.to_owned();
        let request_id = match (asked.named, body.request_id) {
            (false, Some(id)) if !id.trim().is_empty() => id.trim().to_owned(),
            _ => asked.id.clone(),
        };
        let wanted = Wanted {
            request_id,
            invoice: body.invoice.trim().to_owned(),
            max_amount_msats: body.max_amount_msats,
            max_fee_msats: None,
            host: body.host.unwrap_or_default().trim().to_ascii_lowercase(),
            not_after: None,
        };
        let paid = self.pay(wanted).await.map_err(older)?;
        let payment = &paid["payment"];
        Ok(json!({"walletId": id, "paymentId": payment["paymentId"], "preimage": payment["preimageHex"],
            "status": "completed", "amountMsats": payment["amountMsats"], "paidAtMs": payment["paidAtMs"],
            "simulated": paid["simulated"]}))
    }
}

/// The older group has other statuses for some words; those that leave a payment open keep their own.
fn older(no: No) -> No {
    match no.code.as_str() {
        "quoted_amount_exceeds_cap" | "request_cap_exceeded" | "window_cap_exceeded" => {
            No { status: 422, code: "quoted_amount_exceeds_cap".into(), ..no }
        }
        "payment_failed" if no.message.contains("does not hold") => {
            No { status: 402, code: "insufficient_balance".into(), ..no }
        }
        _ => no,
    }
}
