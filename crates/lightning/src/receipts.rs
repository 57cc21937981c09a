//! Decides what the receipts of a wallet say (§9.2): compact JSON of exactly these members in this order, and the
//! digest of that.

use oa_contract::canonical::{compact, hex};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::wallet::{Preimage, Speed};

pub const WALLET_RECEIPT: &str = "openagents.lightning.wallet_receipt.v1";
pub const INVOICE_RECEIPT: &str = "openagents.lightning.invoice_receipt.v1";
pub const ONCHAIN_RECEIPT: &str = "openagents.lightning.onchain_send_receipt.v1";

/// A receipt: the document that is answered, its id and its digest among its members.
#[derive(Clone, Debug, PartialEq)]
pub struct WalletReceipt {
    pub document: Value,
    pub receipt_id: String,
    pub sha256: String,
}

/// Of an invoice that was paid.
pub struct Payment<'a> {
    pub request_id: &'a str,
    pub wallet_id: &'a str,
    pub host: &'a str,
    pub payment_id: &'a str,
    pub invoice_hash: &'a str,
    pub quoted_msats: u64,
    pub settled_msats: u64,
    /// The hex text of the preimage.
    pub preimage_hex: &'a str,
    pub paid_at_ms: i64,
}

impl Payment<'_> {
    pub fn receipt(&self) -> WalletReceipt {
        let preimage_sha256 = hex(&Sha256::digest(self.preimage_hex.to_ascii_lowercase()));
        let document = json!({
            "receiptVersion": WALLET_RECEIPT,
            "requestId": self.request_id,
            "walletId": self.wallet_id,
            "host": self.host.to_ascii_lowercase(),
            "paymentId": self.payment_id,
            "invoiceHash": self.invoice_hash.to_ascii_lowercase(),
            "quotedAmountMsats": self.quoted_msats,
            "settledAmountMsats": self.settled_msats,
            "preimageSha256": preimage_sha256,
            "paidAtMs": self.paid_at_ms.max(0),
            "rail": "lightning",
            "assetId": "BTC_LN",
        });
        sealed("lwr_", document)
    }
}

/// Of an invoice that was made.
pub struct Made<'a> {
    pub request_id: &'a str,
    pub wallet_id: &'a str,
    pub invoice_hash: &'a str,
    pub amount_msats: u64,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
}

impl Made<'_> {
    pub fn receipt(&self) -> WalletReceipt {
        let document = json!({
            "receiptVersion": INVOICE_RECEIPT,
            "requestId": self.request_id,
            "walletId": self.wallet_id,
            "invoiceHash": self.invoice_hash.to_ascii_lowercase(),
            "amountMsats": self.amount_msats,
            "createdAtMs": self.created_at_ms,
            "expiresAtMs": self.expires_at_ms,
        });
        let mut receipt = sealed("lir_", document);
        // Hashed as null, and not shown.
        if self.expires_at_ms.is_none()
            && let Some(members) = receipt.document.as_object_mut()
        {
            members.shift_remove("expiresAtMs");
        }
        receipt
    }
}

/// Of money that was sent on-chain.
pub struct Sent<'a> {
    pub plan_id: &'a str,
    pub wallet_id: &'a str,
    pub address: &'a str,
    pub amount_sats: u64,
    pub fee_sats: u64,
    pub speed: Speed,
    pub txid: &'a str,
    pub sent_at_ms: i64,
}

impl Sent<'_> {
    pub fn receipt(&self) -> WalletReceipt {
        let document = json!({
            "receiptVersion": ONCHAIN_RECEIPT,
            "planId": self.plan_id,
            "walletId": self.wallet_id,
            "address": self.address.to_ascii_lowercase(),
            "amountSats": self.amount_sats,
            "feeSats": self.fee_sats,
            "totalSats": self.amount_sats.saturating_add(self.fee_sats),
            "confirmationSpeed": self.speed.name(),
            "txid": self.txid.to_ascii_lowercase(),
            "sentAtMs": self.sent_at_ms,
            "rail": "onchain",
            "assetId": "BTC",
        });
        sealed("losr_", document)
    }
}

fn sealed(prefix: &str, mut document: Value) -> WalletReceipt {
    let sha256 = hex(&Sha256::digest(compact(&document)));
    let receipt_id = format!("{prefix}{}", &sha256[..24]);
    if let Some(members) = document.as_object_mut() {
        // Where clients know them: the id behind the version, the digest last.
        members.shift_insert(1, "receiptId".into(), receipt_id.clone().into());
        members.insert("canonicalJsonSha256".into(), sha256.clone().into());
    }
    WalletReceipt { document, receipt_id, sha256 }
}

/// The fingerprint under which an executor knows a payment again (§9.2).
pub fn pay_fingerprint(wallet_id: &str, host: &str, invoice_hash: &str, max_amount_msats: u64) -> String {
    let (host, hash) = (host.to_ascii_lowercase(), invoice_hash.to_ascii_lowercase());
    hex(&Sha256::digest(format!("{wallet_id}|{host}|{hash}|{max_amount_msats}")))
}

/// The same for an invoice that is made.
pub fn invoice_fingerprint(
    wallet_id: &str,
    amount_sats: u64,
    description: Option<&str>,
    expiry_seconds: Option<u64>,
) -> String {
    let description = description.map(str::trim).unwrap_or_default();
    let expiry = expiry_seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
    hex(&Sha256::digest(format!("{wallet_id}|{amount_sats}|{description}|{expiry}")))
}

/// The same for a sending.
pub fn onchain_fingerprint(wallet_id: &str, address: &str, amount_sats: u64, speed: Speed) -> String {
    let address = address.to_ascii_lowercase();
    hex(&Sha256::digest(format!("{wallet_id}|{address}|{amount_sats}|{}", speed.name())))
}

/// The digest that proves a preimage in receipts.
pub fn preimage_sha256(preimage: &Preimage) -> String {
    preimage.text_sha256()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receipts_have_the_golden_digests() {
        let preimage = "a".repeat(64);
        let paid = Payment {
            request_id: "req-123",
            wallet_id: "wallet-ep212",
            host: "sats4ai.com",
            payment_id: "pay-123",
            invoice_hash: "abcdef1234",
            quoted_msats: 45_000,
            settled_msats: 45_000,
            preimage_hex: &preimage,
            paid_at_ms: 1_777_000_000_000,
        };
        let receipt = paid.receipt();
        assert_eq!(receipt.sha256, "f022230a70dbbc6ed0fc97d25187f7e3541ace0088affa7432bbb5f18953b386");
        assert_eq!(receipt.receipt_id, "lwr_f022230a70dbbc6ed0fc97d2");
        assert_eq!(receipt.document["canonicalJsonSha256"], receipt.sha256.as_str());

        let made = Made {
            request_id: "req-invoice-1",
            wallet_id: "wallet-ep212",
            invoice_hash: "abcdef1234",
            amount_msats: 42_000,
            created_at_ms: 1_777_000_000_000,
            expires_at_ms: Some(1_777_000_060_000),
        };
        assert_eq!(made.receipt().sha256, "331f3ce9a7c8e045d81bc0782b6762c437fa784caf1fd8837b795b4ae56b998f");
        let lasting = Made { expires_at_ms: None, ..made }.receipt();
        assert!(lasting.document.get("expiresAtMs").is_none());

        let sent = Sent {
            plan_id: "plan-123",
            wallet_id: "wallet-ep212",
            address: "bc1qexampleaddress",
            amount_sats: 50_000,
            fee_sats: 42,
            speed: Speed::Medium,
            txid: &"abcdef".repeat(10),
            sent_at_ms: 1_777_000_000_000,
        };
        assert_eq!(sent.receipt().sha256, "b120f6883ad2ffc498a09171bdcff2453268d9cde62dbea669f37f5c57b44604");
    }

    #[test]
    fn a_payment_is_known_again_by_the_golden_fingerprint() {
        let hash = "3faa6c5786a2d961801486625507630d05d5a0f2555d2d84bc1a6a2c7b2bd9b7";
        assert_eq!(
            pay_fingerprint("openagents-ep212", "Sats4AI.com", hash, 52_000),
            "c248264f974c34c5d9e4441f56d603151178bad2416fdbc00f3200a354295692"
        );
    }
}
