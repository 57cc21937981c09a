//! The face of an LND node over REST. It knows payments by their hash and pays a hash once, so what became of one can
//! always be asked.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use oa_contract::{Msats, Timestamp, canonical::unhex};
use oa_fetch::{FetchError, Fetched, Fetcher, Policy, Request, Trust};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    bolt11,
    wallet::{
        About, Balances, ChannelHealth, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, NodeBalances,
        OnchainOrder, OnchainSent, OnchainState, Paid, PayOrder, PaymentRef, PaymentState, Preimage,
        ReceiveAddress, Received, Speed, Trouble, Wallet, WalletError,
    },
};

/// A node with many channels says much.
const LARGEST: usize = 16 * 1024 * 1024;

/// How a node is reached.
pub struct Settings {
    pub base_url: String,
    /// Hex, as in the header.
    pub macaroon_hex: String,
    /// One more root, as PEM or DER.
    pub certificate: Option<Vec<u8>>,
    /// Any certificate will do; ignored when one is given.
    pub any_certificate: bool,
    pub timeout: Duration,
}

/// The certificate of a node as it is configured: base64 of PEM or DER.
pub fn certificate(base64: &str) -> Option<Vec<u8>> {
    STANDARD.decode(base64.trim()).ok()
}

pub struct Lnd {
    http: Fetcher,
    base: String,
    macaroon: String,
    timeout: Duration,
}

impl Lnd {
    pub fn new(settings: Settings) -> Result<Self, FetchError> {
        let policy = Policy {
            allow_private_networks: true,
            allow_loopback: true,
            timeout: settings.timeout,
            max_bytes: LARGEST,
            concurrency: 32,
        };
        let any = settings.any_certificate && settings.certificate.is_none();
        Ok(Lnd {
            http: Fetcher::trusting(policy, Trust { root: settings.certificate, any })?,
            base: settings.base_url.trim_end_matches('/').to_owned(),
            macaroon: settings.macaroon_hex,
            timeout: settings.timeout,
        })
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Fetched, FetchError> {
        let headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("grpc-metadata-macaroon".to_owned(), self.macaroon.clone()),
        ];
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let url = format!("{}{path}", self.base);
        self.http.send(Request { method: method.into(), url, headers, body, timeout: None }).await
    }

    /// For everything that moves no money.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, WalletError> {
        let place = path.split('?').next().unwrap_or(path);
        let fetched = self.send(method, path, body).await.map_err(|error| {
            WalletError::not_done("dependency_unavailable", format!("lnd {place}: {error}"))
        })?;
        let body: Option<Value> = serde_json::from_slice(&fetched.body).ok();
        match (fetched.status, body) {
            (200..=299, Some(body)) => Ok(body),
            (status, body) => {
                let why = body.as_ref().and_then(message).unwrap_or_else(|| "no JSON".into());
                let text = format!("lnd {place} answered {status}: {why}");
                Err(WalletError::NotDone(Trouble::new("dependency_unavailable", text).with_evidence(body)))
            }
        }
    }

    async fn pay_bolt11(&self, order: &PayOrder) -> Result<Paid, WalletError> {
        // The node should give up before we stop listening.
        let patience = self.timeout.as_secs().saturating_sub(2).max(1);
        let body = json!({
            "payment_request": order.invoice,
            "timeout_seconds": patience,
            "fee_limit_msat": order.max_fee.get().to_string(),
            "no_inflight_updates": true,
        });
        match self.send("POST", "/v2/router/send", Some(&body)).await {
            Ok(fetched) => judge(&fetched),
            Err(error @ (FetchError::Forbidden(_) | FetchError::Unsent(_))) => {
                Err(WalletError::not_done("connect_failed", format!("lnd /v2/router/send: {error}")))
            }
            Err(error) => {
                Err(WalletError::unknown("payment_pending", format!("lnd /v2/router/send: {error}")))
            }
        }
    }

    async fn look_up(&self, payment: &PaymentRef) -> Result<PaymentState, WalletError> {
        let Some(hash) = payment.payment_hash.as_deref().and_then(unhex::<32>) else {
            return Err(WalletError::not_done(
                "payment_hash_missing",
                "lnd knows payments by their hash only",
            ));
        };
        let path = format!("/v2/router/track/{}?no_inflight_updates=true", URL_SAFE.encode(hash));
        let fetched = self.send("GET", &path, None).await;
        let fetched = fetched
            .map_err(|error| WalletError::not_done("payment_pending", format!("lnd track: {error}")))?;
        let body = last_line(&fetched.body);
        if not_found(&body) {
            return Ok(PaymentState::NeverHeardOf);
        }
        match judged(&body) {
            Some(Judged::Paid(paid)) => Ok(PaymentState::Succeeded(*paid)),
            // A hash may have been tried before, by another request. How that ended says nothing about this one.
            Some(Judged::Failed(_)) if is_older(&body, payment.begun_at) => Ok(PaymentState::NeverHeardOf),
            Some(Judged::Failed(trouble)) => Ok(PaymentState::Failed(trouble)),
            Some(Judged::InFlight) => Ok(PaymentState::InFlight),
            None => {
                let text = format!("lnd track answered {}", fetched.status);
                Err(WalletError::NotDone(Trouble::new("unread", text).with_evidence(Some(body))))
            }
        }
    }

    /// The preimage of an invoice follows from its id and from what only we and the node know: asked again, it is
    /// the same invoice.
    fn preimage_of(&self, request_id: &str) -> Preimage {
        let mut hash = Sha256::new();
        hash.update("oa lnd invoice\0");
        hash.update(&self.macaroon);
        hash.update("\0");
        hash.update(request_id);
        Preimage(hash.finalize().into())
    }

    async fn make_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, WalletError> {
        let preimage = self.preimage_of(&order.request_id);
        let hash = preimage.payment_hash();
        let mut body = json!({
            "r_preimage": STANDARD.encode(preimage.0),
            "value_msat": order.amount.get().to_string(),
            "memo": order.memo.as_deref().unwrap_or_default(),
        });
        if let Some(seconds) = order.expiry_seconds {
            body["expiry"] = seconds.to_string().into();
        }
        let made = match self.ask("POST", "/v1/invoices", Some(&body)).await {
            Ok(made) => made,
            // It is there already.
            Err(error) => match self.ask("GET", &format!("/v1/invoice/{hash}"), None).await {
                Ok(known) => known,
                Err(_) => return Err(error),
            },
        };
        let Some(bolt11) = made["payment_request"].as_str().filter(|text| !text.is_empty()) else {
            return Err(WalletError::unknown("empty_invoice", "lnd named no invoice"));
        };
        Ok(Invoice {
            bolt11: bolt11.to_owned(),
            invoice_hash: bolt11::invoice_hash(bolt11),
            payment_hash: Some(hash),
            amount: order.amount,
            created_at_ms: None,
            expires_at_ms: None,
            receipt_sha256: None,
        })
    }

    async fn look_up_invoice(&self, invoice: &InvoiceRef) -> Result<InvoiceState, WalletError> {
        let hash = match &invoice.payment_hash {
            Some(hash) => hash.clone(),
            None => self.preimage_of(&invoice.request_id).payment_hash(),
        };
        let known = match self.ask("GET", &format!("/v1/invoice/{hash}"), None).await {
            Ok(known) => known,
            Err(error) => {
                let nothing = error.trouble().evidence.as_ref().is_some_and(|said| not_found(said))
                    || error.trouble().message.contains("unable to locate invoice");
                return if nothing { Ok(InvoiceState::NeverHeardOf) } else { Err(error) };
            }
        };
        match known["state"].as_str() {
            Some("OPEN") => Ok(InvoiceState::Open),
            Some("ACCEPTED") => Ok(InvoiceState::Accepted),
            Some("CANCELED") => Ok(InvoiceState::Canceled),
            Some("SETTLED") => match number(&known["amt_paid_msat"]).and_then(Msats::new) {
                Some(received) => Ok(InvoiceState::Settled {
                    received,
                    settled_at_ms: number(&known["settle_date"])
                        .and_then(|seconds| i64::try_from(seconds).ok())
                        .map(|seconds| seconds.saturating_mul(1_000)),
                }),
                None => Err(WalletError::unknown("unread", "lnd does not say how much it received")),
            },
            _ => Err(WalletError::unknown("unread", "lnd does not say where the invoice stands")),
        }
    }

    async fn transactions(&self) -> Result<Vec<Value>, WalletError> {
        let mut known = self.ask("GET", "/v1/transactions", None).await?;
        match known["transactions"].take() {
            Value::Array(all) => Ok(all),
            _ => Err(WalletError::not_done("dependency_unavailable", "lnd /v1/transactions names none")),
        }
    }

    /// A sending is labelled with its id.
    async fn labelled(&self, request_id: &str) -> Result<Option<OnchainSent>, WalletError> {
        let known = self.transactions().await?;
        let found = known.into_iter().find(|one| one["label"] == request_id);
        Ok(found.map(|one| OnchainSent {
            txid: one["tx_hash"].as_str().unwrap_or_default().to_owned(),
            fee_sats: number(&one["total_fees"]),
            sent_at_ms: None,
            receipt_sha256: None,
            evidence: Some(one),
        }))
    }

    async fn send_coins(&self, order: &OnchainOrder) -> Result<OnchainSent, WalletError> {
        if let Some(sent) = self.labelled(&order.request_id).await? {
            return Ok(sent);
        }
        let body = json!({
            "addr": order.address,
            "amount": order.amount_sats.to_string(),
            "target_conf": target_blocks(order.speed),
            "label": order.request_id,
        });
        let fetched = match self.send("POST", "/v1/transactions", Some(&body)).await {
            Ok(fetched) => fetched,
            Err(error @ (FetchError::Forbidden(_) | FetchError::Unsent(_))) => {
                return Err(WalletError::not_done(
                    "connect_failed",
                    format!("lnd /v1/transactions: {error}"),
                ));
            }
            Err(error) => {
                return Err(WalletError::unknown(
                    "payment_pending",
                    format!("lnd /v1/transactions: {error}"),
                ));
            }
        };
        let said: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
        match (fetched.status, said["txid"].as_str()) {
            (200..=299, Some(txid)) => Ok(OnchainSent {
                txid: txid.to_owned(),
                fee_sats: None,
                sent_at_ms: None,
                receipt_sha256: None,
                evidence: Some(said),
            }),
            (400..=499, _) => Err(WalletError::NotDone(
                Trouble::new("send_refused", message(&said).unwrap_or_default()).with_evidence(Some(said)),
            )),
            (status, _) => Err(WalletError::Unknown(
                Trouble::new("send_failed", format!("lnd /v1/transactions answered {status}"))
                    .with_evidence(Some(said)),
            )),
        }
    }

    async fn onchain_sats(&self) -> Result<u64, WalletError> {
        let said = self.ask("GET", "/v1/balance/blockchain", None).await?;
        let sats = number(&said["total_balance"]).or_else(|| number(&said["confirmed_balance"]));
        sats.ok_or_else(|| {
            WalletError::not_done("dependency_unavailable", "lnd /v1/balance/blockchain names no balance")
        })
    }
}

impl Wallet for Lnd {
    fn about(&self) -> About {
        About { face: "lnd", wallet_id: "lnd".into(), simulated: false, honours_deadlines: false }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        Box::pin(self.pay_bolt11(order))
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        Box::pin(self.look_up(payment))
    }

    fn create_invoice<'a>(&'a self, order: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        Box::pin(self.make_invoice(order))
    }

    fn invoice<'a>(&'a self, invoice: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        Box::pin(self.look_up_invoice(invoice))
    }

    /// The node gives another address every time: whoever asks remembers which is whose.
    fn receive_address<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<ReceiveAddress, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", "/v1/newaddress?type=WITNESS_PUBKEY_HASH", None).await?;
            match said["address"].as_str() {
                None | Some("") => Err(WalletError::unknown("empty_address", "lnd named no address")),
                Some(address) => Ok(ReceiveAddress {
                    request_id: request_id.to_owned(),
                    address: address.to_owned(),
                    network: None,
                }),
            }
        })
    }

    fn received<'a>(&'a self, address: &'a ReceiveAddress) -> Later<'a, Result<Received, WalletError>> {
        Box::pin(async move {
            let known = self.transactions().await?;
            Ok(received_at(&known, &address.address))
        })
    }

    fn send_onchain<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<OnchainSent, WalletError>> {
        Box::pin(self.send_coins(order))
    }

    fn onchain_fee<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<u64, WalletError>> {
        Box::pin(async move {
            let plain = order.address.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !plain {
                return Err(WalletError::not_done("invalid_request", "the address cannot be read"));
            }
            let path = format!(
                "/v1/transactions/fee?target_conf={}&AddrToAmount[{}]={}",
                target_blocks(order.speed),
                order.address,
                order.amount_sats
            );
            let said = self.ask("GET", &path, None).await?;
            number(&said["fee_sat"])
                .ok_or_else(|| WalletError::not_done("dependency_unavailable", "lnd names no fee"))
        })
    }

    fn onchain_payment<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<OnchainState, WalletError>> {
        Box::pin(async move {
            let sent = self.labelled(request_id).await?;
            Ok(sent.map_or(OnchainState::NeverHeardOf, OnchainState::Sent))
        })
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", "/v1/balance/channels", None).await?;
            let msats = number(&said["local_balance"]["msat"])
                .or_else(|| number(&said["balance"])?.checked_mul(1_000))
                .unwrap_or_default();
            Ok(Balances { spendable_msats: msats, onchain_sats: Some(self.onchain_sats().await?) })
        })
    }

    fn node_balances<'a>(&'a self) -> Later<'a, Result<NodeBalances, WalletError>> {
        Box::pin(async move { Ok(NodeBalances { onchain_sats: self.onchain_sats().await? }) })
    }

    fn channel_health<'a>(&'a self) -> Later<'a, Result<ChannelHealth, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", "/v1/channels", None).await?;
            health(&said).ok_or_else(|| {
                WalletError::not_done("dependency_unavailable", "lnd /v1/channels names no channels")
            })
        })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async move {
            let balances = self.balances().await?;
            Ok(json!({"ok": true, "status": {"balanceSats": balances.spendable_msats / 1_000,
                "onchainSats": balances.onchain_sats, "lifecycle": "connected", "ready": true}}))
        })
    }
}

/// Sums over the channels (§10); none without an array.
fn health(said: &Value) -> Option<ChannelHealth> {
    let channels = said["channels"].as_array()?;
    let mut health = ChannelHealth { channel_count: channels.len() as u64, ..ChannelHealth::default() };
    for channel in channels {
        let local = number(&channel["local_balance"]).unwrap_or_default();
        let total = match number(&channel["capacity"]).unwrap_or_default() {
            0 => local,
            capacity => capacity,
        };
        let outbound = local.min(total);
        health.total_sats = health.total_sats.saturating_add(total);
        health.outbound_sats = health.outbound_sats.saturating_add(outbound);
        health.inbound_sats = health.inbound_sats.saturating_add(total - outbound);
        health.connected_channel_count += u64::from(truth(&channel["active"]));
    }
    Some(health)
}

fn target_blocks(speed: Speed) -> u32 {
    match speed {
        Speed::Fast => 2,
        Speed::Medium => 6,
        Speed::Slow => 24,
    }
}

/// What came in at one address, over all transactions that the node knows.
fn received_at(transactions: &[Value], address: &str) -> Received {
    let mut received = Received::default();
    let mut least: Option<u32> = None;
    for transaction in transactions {
        let depth = number(&transaction["num_confirmations"]).unwrap_or_default();
        let outputs = transaction["output_details"].as_array().map(Vec::as_slice).unwrap_or_default();
        for output in outputs.iter().filter(|output| output["address"] == address) {
            let sats = number(&output["amount"]).unwrap_or_default();
            match depth {
                0 => received.unconfirmed_sats = received.unconfirmed_sats.saturating_add(sats),
                _ => {
                    received.confirmed_sats = received.confirmed_sats.saturating_add(sats);
                    let depth = u32::try_from(depth).unwrap_or(u32::MAX);
                    least = Some(least.map_or(depth, |known| known.min(depth)));
                }
            }
        }
    }
    received.confirmations = least.unwrap_or_default();
    received
}

/// A number, or its digits.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_u64() == Some(1),
        Value::String(text) => matches!(text.trim().to_ascii_lowercase().as_str(), "true" | "1"),
        _ => false,
    }
}

/// A stream of documents, one a line; the last one says where the payment stands.
fn last_line(body: &[u8]) -> Value {
    let mut lines = body.split(|byte| *byte == b'\n').rev();
    let line = lines.find(|line| !line.iter().all(u8::is_ascii_whitespace)).unwrap_or_default();
    serde_json::from_slice(line).unwrap_or_default()
}

fn code(body: &Value) -> Option<u64> {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    error.get("code").or_else(|| error.get("grpc_code"))?.as_u64()
}

/// NOT_FOUND of gRPC.
fn not_found(body: &Value) -> bool {
    code(body) == Some(5)
}

fn message(body: &Value) -> Option<String> {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    error["message"].as_str().map(|text| text.chars().take(300).collect())
}

enum Judged {
    Paid(Box<Paid>),
    Failed(Trouble),
    InFlight,
}

/// Where a payment stands, as the node writes it; none when it does not say.
fn judged(body: &Value) -> Option<Judged> {
    let result = &body["result"];
    match result["status"].as_str()? {
        "SUCCEEDED" => {
            let preimage = result["payment_preimage"].as_str()?;
            let preimage = unhex::<32>(preimage)
                .or_else(|| STANDARD.decode(preimage).ok()?.try_into().ok())
                .map(Preimage)?;
            let amount = number(&result["value_msat"]).and_then(Msats::new);
            Some(Judged::Paid(Box::new(Paid {
                payment_id: result["payment_hash"]
                    .as_str()
                    .map(str::to_owned)
                    .or_else(|| Some(preimage.payment_hash())),
                preimage: Some(preimage),
                amount,
                fee: number(&result["fee_msat"]).and_then(Msats::new),
                paid_at_ms: number(&result["creation_time_ns"])
                    .and_then(|nanos| i64::try_from(nanos / 1_000_000).ok()),
                receipt_sha256: None,
                preimage_sha256: Some(preimage.text_sha256()),
                evidence: Some(body.clone()),
            })))
        }
        "FAILED" => {
            let reason = result["failure_reason"].as_str().unwrap_or("FAILED").to_owned();
            Some(Judged::Failed(Trouble::new("payment_failed", reason).with_evidence(Some(body.clone()))))
        }
        _ => Some(Judged::InFlight),
    }
}

/// Whether the node began what it tells of before this request was there. What has no time is taken for older: a
/// failure that may be another's ends nothing.
fn is_older(body: &Value, begun_at: Option<Timestamp>) -> bool {
    let Some(begun_at) = begun_at else { return false };
    let created = number(&body["result"]["creation_time_ns"]).filter(|nanos| *nanos > 0);
    let created = created.and_then(|nanos| i64::try_from(nanos / 1_000).ok());
    created.is_none_or(|micros| micros < begun_at.micros())
}

/// What an answer to a payment comes to.
fn judge(fetched: &Fetched) -> Result<Paid, WalletError> {
    let body = last_line(&fetched.body);
    let why = message(&body).unwrap_or_else(|| format!("lnd answered {}", fetched.status));
    match judged(&body) {
        Some(Judged::Paid(paid)) => return Ok(*paid),
        Some(Judged::Failed(trouble)) => return Err(WalletError::NotDone(trouble)),
        Some(Judged::InFlight) => {
            return Err(WalletError::unknown("payment_pending", "the payment is in flight"));
        }
        None => {}
    }
    let trouble = |code: &str| Trouble::new(code, why.clone()).with_evidence(Some(body.clone()));
    match (fetched.status, code(&body)) {
        // ALREADY_EXISTS: paid, or being paid; the hash tells.
        (_, Some(6)) => Err(WalletError::Unknown(trouble("payment_pending"))),
        // INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED: it was not begun.
        (_, Some(3 | 7 | 16)) => Err(WalletError::NotDone(trouble("prepare_failed"))),
        (400..=499, _) if !matches!(fetched.status, 408 | 409) && !in_flight(&why) => {
            Err(WalletError::NotDone(trouble("prepare_failed")))
        }
        _ => Err(WalletError::Unknown(trouble("send_failed"))),
    }
}

/// What LND says when it pays the hash already, or has paid it.
fn in_flight(why: &str) -> bool {
    let why = why.to_lowercase();
    ["transition", "already paid", "in flight", "timeout", "already exists"]
        .iter()
        .any(|word| why.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, lines: &[Value]) -> Fetched {
        let text: Vec<String> = lines.iter().map(Value::to_string).collect();
        Fetched { status, headers: Vec::new(), body: text.join("\n").into_bytes() }
    }

    #[test]
    fn the_last_line_says_where_a_payment_stands() {
        let done = json!({"result": {"status": "SUCCEEDED", "payment_preimage": "ab".repeat(32),
            "payment_hash": "h", "value_msat": "42000", "fee_msat": "7"}});
        let open = json!({"result": {"status": "IN_FLIGHT"}});
        let paid = judge(&answer(200, &[open.clone(), done])).expect("paid");
        assert_eq!((paid.amount, paid.fee), (Msats::new(42_000), Msats::new(7)));
        assert_eq!(paid.preimage, Some(Preimage([0xab; 32])));
        assert!(judge(&answer(200, &[open])).expect_err("open").is_unknown());
        let failed = json!({"result": {"status": "FAILED", "failure_reason": "FAILURE_REASON_NO_ROUTE"}});
        let failed = judge(&answer(200, &[failed])).expect_err("failed");
        assert!(!failed.is_unknown() && failed.trouble().message == "FAILURE_REASON_NO_ROUTE");
    }

    #[test]
    fn the_failure_of_an_earlier_try_is_not_this_ones() {
        let at = Timestamp::from_unix_seconds(1_772_000_000);
        let failed = |nanos: Value| json!({"result": {"status": "FAILED", "creation_time_ns": nanos}});
        assert!(is_older(&failed("1771999999999999000".into()), Some(at)));
        assert!(!is_older(&failed("1772000000000000000".into()), Some(at)));
        assert!(is_older(&failed(Value::Null), Some(at)));
        assert!(!is_older(&failed(Value::Null), None));
    }

    #[test]
    fn a_node_that_may_have_paid_leaves_it_open() {
        for (status, body) in [
            (409, json!({"error": {"code": 6, "message": "payment is in transition"}})),
            (500, json!({"error": {"code": 2, "message": "invoice is already paid"}})),
            (400, json!({"code": 2, "message": "payment is in transition"})),
            (200, json!({"result": {"status": "SUCCEEDED", "payment_preimage": ""}})),
            (200, json!({})),
            (504, json!(null)),
        ] {
            assert!(
                judge(&answer(status, std::slice::from_ref(&body))).expect_err("open").is_unknown(),
                "{body}"
            );
        }
        for (status, body) in [
            (400, json!({"error": {"code": 3, "message": "invalid payment request"}})),
            (401, json!({"code": 16, "message": "verification failed"})),
        ] {
            assert!(
                !judge(&answer(status, std::slice::from_ref(&body))).expect_err("refused").is_unknown(),
                "{body}"
            );
        }
    }

    #[test]
    fn channels_are_summed_from_numbers_and_from_digits() {
        let said = json!({"channels": [
            {"capacity": "1000", "local_balance": "400", "active": true},
            {"capacity": 0, "local_balance": 50, "active": 0},
            {"capacity": 100, "local_balance": "300", "active": "true"},
        ]});
        let wanted = ChannelHealth {
            total_sats: 1_150,
            outbound_sats: 550,
            inbound_sats: 600,
            channel_count: 3,
            connected_channel_count: 2,
        };
        assert_eq!(health(&said), Some(wanted));
        assert_eq!(health(&json!({})), None);
    }

    #[test]
    fn what_an_address_received_is_told_by_its_depth() {
        let paid = |address: &str, amount: u64, depth: u64| json!({"num_confirmations": depth, "output_details": [{"address": address, "amount": amount.to_string()}]});
        let known = [paid("a", 5, 0), paid("a", 7, 3), paid("a", 1, 9), paid("b", 100, 9)];
        let wanted = Received { confirmed_sats: 8, unconfirmed_sats: 5, confirmations: 3 };
        assert_eq!(received_at(&known, "a"), wanted);
    }
}
