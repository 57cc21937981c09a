//! The face of a wallet executor: another process that holds the keys, asked over HTTP (§9). It says three things of a
//! payment: made, surely not made, or nothing that could be relied on.

use std::time::Duration;

use oa_contract::{Msats, canonical::unhex};
use oa_fetch::{FetchError, Fetched, Fetcher, Policy, Request, Trust};
use serde_json::{Value, json};
use url::Url;

use crate::{
    bolt11,
    wallet::{
        About, Balances, ChannelHealth, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, NodeBalances,
        OnchainOrder, OnchainSent, OnchainState, Paid, PayOrder, PaymentRef, PaymentState, Preimage,
        Promises, ReceiveAddress, Received, Trouble, Wallet, WalletError,
    },
};

/// Answers longer than this are not read.
const LARGEST: usize = 1024 * 1024;
/// Text of an answer that is no JSON, so far.
const LONGEST_RAW: usize = 1_000;

/// Errors after which the money may have gone.
const AMBIGUOUS: [&str; 7] = [
    "payment_pending",
    "send_failed",
    "payment_missing_preimage",
    "idempotency_in_flight",
    // Something else was asked under this id, and may have been done.
    "idempotency_conflict",
    // What some executors say of everything that went wrong below them, also after it was sent.
    "spark_executor_error",
    "internal_error",
];

/// An executor, and how it is reached.
pub struct Executor {
    http: Fetcher,
    base: Url,
    token: String,
}

/// Why an executor cannot be asked at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadExecutor(pub String);

impl Executor {
    /// `base` may have a path of its own.
    pub fn new(base: &str, token: impl Into<String>, timeout: Duration) -> Result<Self, BadExecutor> {
        let base = Url::parse(base).map_err(|error| BadExecutor(format!("{base:?} is no URL: {error}")))?;
        if base.cannot_be_a_base() {
            return Err(BadExecutor(format!("{base} has no path")));
        }
        let policy = Policy {
            allow_private_networks: true,
            allow_loopback: true,
            timeout,
            max_bytes: LARGEST,
            concurrency: 64,
        };
        let http =
            Fetcher::trusting(policy, Trust::default()).map_err(|error| BadExecutor(error.to_string()))?;
        Ok(Executor { http, base, token: token.into() })
    }

    async fn send(
        &self,
        method: &str,
        path: &[&str],
        request_id: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Fetched, FetchError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| FetchError::Unsent("the executor's address cannot be used".into()))?
            .pop_if_empty()
            .extend(path);
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("authorization".to_owned(), format!("Bearer {}", self.token)),
        ];
        headers.extend(request_id.map(|id| ("x-request-id".to_owned(), id.to_owned())));
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.http.send(Request { method: method.into(), url: url.into(), headers, body, timeout: None }).await
    }

    /// For everything that moves no money: any failure means that nothing is known, and that is not done.
    async fn ask(
        &self,
        method: &str,
        path: &[&str],
        request_id: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value, WalletError> {
        let fetched = self.send(method, path, request_id, body).await.map_err(|error| transport(&error))?;
        match (fetched.status, read(&fetched)) {
            (200..=299, Some(body)) => Ok(body),
            (200..=299, None) => Err(WalletError::unknown("not_json", "the executor's answer is no JSON")),
            _ => Err(WalletError::NotDone(refusal(&fetched))),
        }
    }

    async fn pay_bolt11(&self, order: &PayOrder) -> Result<Paid, WalletError> {
        let mut body = json!({
            "requestId": order.request_id,
            "payment": {"invoice": order.invoice, "maxAmountMsats": order.max_amount_msats(), "host": order.host},
            "maxFeeMsats": order.max_fee,
        });
        if let Some(moment) = order.not_after {
            body["notAfterMs"] = moment.millis().into();
        }
        let sent = self.send("POST", &["pay-bolt11"], None, Some(&body)).await;
        judge(sent, &order.request_id)
    }

    async fn look_up(&self, payment: &PaymentRef) -> Result<PaymentState, WalletError> {
        let path = ["payments", payment.request_id.as_str()];
        let fetched = self.send("GET", &path, None, None).await.map_err(|error| transport(&error))?;
        let body = read(&fetched).unwrap_or_default();
        match (fetched.status, body["error"]["code"].as_str()) {
            (200..=299, _) => found(&body, &payment.request_id),
            (404, Some("payment_not_found")) => Ok(PaymentState::NeverHeardOf),
            // An executor without this route has no word for what it does not know. The same order may be given
            // again if it tells repeated orders for sure.
            (404 | 405 | 501, _) => Ok(PaymentState::CannotTell { may_ask_again: self.remembers().await }),
            _ => Err(WalletError::NotDone(refusal(&fetched))),
        }
    }

    /// Whether the executor tells repeated orders even after a restart.
    async fn remembers(&self) -> bool {
        let status = self.ask("GET", &["status"], None, None).await.unwrap_or_default();
        status["status"]["durableIdempotency"] == true
    }

    async fn make_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, WalletError> {
        let mut body = json!({"amountSats": order.amount.get().div_ceil(1_000)});
        if let Some(memo) = &order.memo {
            body["description"] = memo.as_str().into();
        }
        if let Some(seconds) = order.expiry_seconds {
            body["expirySecs"] = seconds.into();
        }
        let said = self.ask("POST", &["create-invoice"], Some(&order.request_id), Some(&body)).await?;
        let result = &said["result"];
        let text = |name: &str| result[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (Some(bolt11), Some(invoice_hash)) = (text("invoice"), text("invoiceHash")) else {
            return Err(WalletError::unknown("empty_invoice", "the executor named no invoice"));
        };
        Ok(Invoice {
            payment_hash: text("paymentHash").or_else(|| bolt11::payment_hash(&bolt11)),
            bolt11,
            invoice_hash,
            amount: msats(&result["amountMsats"]).unwrap_or(order.amount),
            created_at_ms: result["createdAtMs"].as_i64(),
            expires_at_ms: result["expiresAtMs"].as_i64(),
            receipt_sha256: result["receipt"]["canonicalJsonSha256"].as_str().map(str::to_owned),
        })
    }

    async fn look_up_invoice(&self, invoice: &InvoiceRef) -> Result<InvoiceState, WalletError> {
        let path = ["invoices", invoice.request_id.as_str()];
        let fetched = self.send("GET", &path, None, None).await.map_err(|error| transport(&error))?;
        let body = read(&fetched).unwrap_or_default();
        if fetched.status == 404 && body["error"]["code"] == "invoice_not_found" {
            return Ok(InvoiceState::NeverHeardOf);
        }
        if !(200..300).contains(&fetched.status) {
            return Err(WalletError::NotDone(refusal(&fetched)));
        }
        let result = &body["result"];
        match result["state"].as_str() {
            Some("open") => Ok(InvoiceState::Open),
            Some("accepted") => Ok(InvoiceState::Accepted),
            Some("canceled") => Ok(InvoiceState::Canceled),
            Some("settled") => match msats(&result["receivedMsats"]) {
                Some(received) => {
                    Ok(InvoiceState::Settled { received, settled_at_ms: result["settledAtMs"].as_i64() })
                }
                None => Err(WalletError::unknown("unread", "the executor does not say how much it received")),
            },
            _ => Err(WalletError::unknown("unread", "the executor does not say where the invoice stands")),
        }
    }

    async fn send_coins(&self, order: &OnchainOrder) -> Result<OnchainSent, WalletError> {
        let id = Some(order.request_id.as_str());
        let body = json!({"requestId": order.request_id, "payment": {"address": order.address,
            "amountSats": order.amount_sats, "confirmationSpeed": order.speed.name()}});
        // A quote moves nothing; that one was made before says nothing either.
        let quoted = self.ask("POST", &["send-onchain", "quote"], id, Some(&body)).await;
        let quoted = quoted.map_err(|error| WalletError::NotDone(error.trouble().clone()))?;
        let fee = quoted["result"]["feeSats"].as_u64();
        if let (Some(fee), Some(most)) = (fee, order.max_fee_sats)
            && fee > most
        {
            let message = format!("the network asks for {fee} sats, and at most {most} are allowed");
            return Err(WalletError::not_done("onchain_fee_too_high", message));
        }
        let plan = quoted["result"]["planId"].as_str().unwrap_or(&order.request_id).to_owned();
        let commit = json!({"planId": plan});
        let said = match self.send("POST", &["send-onchain", "commit"], id, Some(&commit)).await {
            Ok(fetched) => fetched,
            Err(error) => return Err(transport(&error)),
        };
        match (said.status, read(&said)) {
            (200..=299, Some(body)) => sent(body),
            (200..=299, None) => Err(WalletError::unknown("not_json", "the executor's answer is no JSON")),
            _ => Err(refused(&said)),
        }
    }
}

fn sent(body: Value) -> Result<OnchainSent, WalletError> {
    let result = &body["result"];
    let Some(txid) = result["txid"].as_str().filter(|txid| !txid.is_empty()) else {
        return Err(WalletError::unknown("txid_missing", "the executor names no transaction"));
    };
    Ok(OnchainSent {
        txid: txid.to_owned(),
        fee_sats: result["feeSats"].as_u64(),
        sent_at_ms: result["paidAtMs"].as_i64(),
        receipt_sha256: result["receipt"]["canonicalJsonSha256"].as_str().map(str::to_owned),
        evidence: Some(body),
    })
}

impl Wallet for Executor {
    fn about(&self) -> About {
        About {
            face: "wallet_executor",
            wallet_id: "lightning".into(),
            simulated: false,
            honours_deadlines: false,
        }
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

    fn receive_address<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<ReceiveAddress, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", &["receive-address"], Some(request_id), None).await?;
            let address = said["result"]["bitcoinAddress"].as_str().unwrap_or_default();
            match address {
                "" => Err(WalletError::unknown("empty_address", "the executor named no address")),
                address => Ok(ReceiveAddress {
                    request_id: request_id.to_owned(),
                    address: address.to_owned(),
                    network: said["result"]["network"].as_str().map(str::to_owned),
                }),
            }
        })
    }

    fn received<'a>(&'a self, address: &'a ReceiveAddress) -> Later<'a, Result<Received, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", &["received", &address.address], None, None).await?;
            let result = &said["result"];
            let (Some(confirmed_sats), Some(unconfirmed_sats)) =
                (result["confirmedSats"].as_u64(), result["unconfirmedSats"].as_u64())
            else {
                return Err(WalletError::unknown("unread", "the executor does not say what was received"));
            };
            let confirmations = result["confirmations"].as_u64().unwrap_or_default();
            let confirmations = u32::try_from(confirmations).unwrap_or(u32::MAX);
            Ok(Received { confirmed_sats, unconfirmed_sats, confirmations })
        })
    }

    fn send_onchain<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<OnchainSent, WalletError>> {
        Box::pin(self.send_coins(order))
    }

    fn onchain_payment<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<OnchainState, WalletError>> {
        Box::pin(async move {
            let path = ["onchain", request_id];
            let fetched = self.send("GET", &path, None, None).await.map_err(|error| transport(&error))?;
            let body = read(&fetched).unwrap_or_default();
            if fetched.status == 404 && body["error"]["code"] == "payment_not_found" {
                return Ok(OnchainState::NeverHeardOf);
            }
            if !(200..300).contains(&fetched.status) {
                return Err(WalletError::NotDone(refusal(&fetched)));
            }
            match standing(&body) {
                Standing::InFlight => Ok(OnchainState::InFlight),
                Standing::Failed => Ok(OnchainState::Failed(failure(&body))),
                Standing::Done => sent(body).map(OnchainState::Sent),
            }
        })
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async move {
            let status = self.ask("GET", &["status"], None, None).await?;
            let status = &status["status"];
            Ok(Balances {
                spendable_msats: status["balanceSats"].as_u64().unwrap_or_default().saturating_mul(1_000),
                onchain_sats: status["onchainSats"].as_u64(),
            })
        })
    }

    fn node_balances<'a>(&'a self) -> Later<'a, Result<NodeBalances, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", &["channels"], None, None).await?;
            Ok(NodeBalances { onchain_sats: said["result"]["onchainSats"].as_u64().unwrap_or_default() })
        })
    }

    fn channel_health<'a>(&'a self) -> Later<'a, Result<ChannelHealth, WalletError>> {
        Box::pin(async move {
            let said = self.ask("GET", &["channels"], None, None).await?;
            let number = |name: &str| said["result"][name].as_u64().unwrap_or_default();
            Ok(ChannelHealth {
                total_sats: number("channelTotalSats"),
                outbound_sats: number("channelOutboundSats"),
                inbound_sats: number("channelInboundSats"),
                channel_count: number("channelCount"),
                connected_channel_count: number("connectedChannelCount"),
            })
        })
    }

    fn promises<'a>(&'a self) -> Later<'a, Result<Promises, WalletError>> {
        Box::pin(async move { Ok(promised(&self.ask("GET", &["status"], None, None).await?["status"])) })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async move {
            let fetched =
                self.send("GET", &["status"], None, None).await.map_err(|error| transport(&error))?;
            let raw = || String::from_utf8_lossy(&fetched.body).chars().take(LONGEST_RAW).collect::<String>();
            match (fetched.status, read(&fetched)) {
                (200..=299, Some(body)) => Ok(body),
                (200..=299, None) => Ok(json!({"status": "ok", "raw": raw()})),
                (status, _) => {
                    let text = raw();
                    let message =
                        if text.is_empty() { "wallet executor status request failed" } else { &text };
                    Err(WalletError::not_done(format!("wallet_executor_http_{status}"), message))
                }
            }
        })
    }
}

fn read(fetched: &Fetched) -> Option<Value> {
    serde_json::from_slice(&fetched.body).ok()
}

/// The connection failed: before anything was sent it is surely not done.
fn transport(error: &FetchError) -> WalletError {
    const CODE: &str = "wallet_executor_transport_error";
    let words = error.to_string();
    let message = if words.is_empty() { "the wallet executor did not answer".to_owned() } else { words };
    match error {
        FetchError::Forbidden(_) | FetchError::Unsent(_) => WalletError::not_done(CODE, message),
        FetchError::Failed(_) => WalletError::unknown(CODE, message),
    }
}

/// What the executor says went wrong, in its own words as far as it has any.
fn refusal(fetched: &Fetched) -> Trouble {
    let body = read(fetched);
    let error = body.as_ref().map(|body| &body["error"]);
    let word = |name: &str| {
        let text = error?.get(name)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    Trouble {
        code: word("code").unwrap_or_else(|| format!("http_{}", fetched.status)),
        message: word("message").unwrap_or_else(|| "wallet executor error".into()),
        evidence: Some(Box::new(body.unwrap_or_default())),
    }
}

fn failure(body: &Value) -> Trouble {
    let error = if body["error"].is_object() { &body["error"] } else { &body["result"]["error"] };
    let word = |name: &str, default: &str| error[name].as_str().unwrap_or(default).to_owned();
    Trouble {
        code: word("code", "payment_failed"),
        message: word("message", "wallet executor error"),
        evidence: Some(Box::new(body.clone())),
    }
}

/// Whether an answer other than 2xx is a promise that nothing happened (§17.2).
fn refused(fetched: &Fetched) -> WalletError {
    let trouble = refusal(fetched);
    let coded = !trouble.code.starts_with("http_");
    let surely = match fetched.status {
        _ if AMBIGUOUS.contains(&trouble.code.as_str()) => false,
        400..=599 if coded => true,
        // A time-out and a conflict say that something was begun.
        408 | 409 => false,
        300..=499 => true,
        _ => false,
    };
    if surely { WalletError::NotDone(trouble) } else { WalletError::Unknown(trouble) }
}

/// What an answer to a payment comes to.
fn judge(sent: Result<Fetched, FetchError>, request_id: &str) -> Result<Paid, WalletError> {
    let fetched = sent.map_err(|error| transport(&error))?;
    if !(200..300).contains(&fetched.status) {
        return Err(refused(&fetched));
    }
    match read(&fetched) {
        Some(body) => paid(body, request_id),
        None => Err(WalletError::Unknown(
            Trouble::new("not_json", "the wallet executor's answer is no JSON")
                .with_evidence(Some(Value::Null)),
        )),
    }
}

/// A payment that the executor says it has made, under our id.
fn paid(body: Value, request_id: &str) -> Result<Paid, WalletError> {
    let result = &body["result"];
    let unsure = |message: &str| {
        Err(WalletError::Unknown(Trouble::new("unread", message).with_evidence(Some(body.clone()))))
    };
    if !result.is_object() {
        return unsure("the wallet executor does not say what it did");
    }
    if result["requestId"].as_str().is_some_and(|id| id != request_id) {
        return unsure("the wallet executor answered another request");
    }
    let (payment, receipt) = (&result["payment"], &result["receipt"]);
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let preimage = text(&payment["preimageHex"]).or_else(|| text(&result["preimage"]));
    let receipt_sha256 = text(&receipt["canonicalJsonSha256"]);
    // Every answer of the protocol says `ok`; a payment that was made has something to show (§17.2).
    if receipt_sha256.is_none() && preimage.is_none() {
        return unsure("the wallet executor names neither a receipt nor a preimage");
    }
    Ok(Paid {
        payment_id: text(&payment["paymentId"]).or_else(|| text(&receipt["paymentId"])),
        preimage: preimage.and_then(|hex| unhex::<32>(hex.trim())).map(Preimage),
        amount: msats(&payment["amountMsats"]).or_else(|| msats(&receipt["settledAmountMsats"])),
        fee: msats(&payment["feeMsats"]).or_else(|| msats(&result["feeMsats"])),
        paid_at_ms: receipt["paidAtMs"].as_i64().or_else(|| payment["paidAtMs"].as_i64()),
        preimage_sha256: text(&receipt["preimageSha256"]),
        receipt_sha256,
        evidence: Some(body.clone()),
    })
}

/// What `result.state` says of something that the executor has a record of.
enum Standing {
    InFlight,
    Failed,
    /// Also without a word: then it is the answer that it gave when it was done.
    Done,
}

/// A word that is not known is no success and no failure: it is asked about again.
fn standing(body: &Value) -> Standing {
    match &body["result"]["state"] {
        Value::Null => Standing::Done,
        Value::String(word) => match word.as_str() {
            "failed" => Standing::Failed,
            "succeeded" | "done" | "sent" => Standing::Done,
            _ => Standing::InFlight,
        },
        _ => Standing::InFlight,
    }
}

/// Where a payment stands that the executor has a record of.
fn found(body: &Value, request_id: &str) -> Result<PaymentState, WalletError> {
    match standing(body) {
        Standing::InFlight => Ok(PaymentState::InFlight),
        Standing::Failed => Ok(PaymentState::Failed(failure(body))),
        Standing::Done => paid(body.clone(), request_id).map(PaymentState::Succeeded),
    }
}

/// Which wallet an executor's status names, and whether its silence proves anything.
fn promised(status: &Value) -> Promises {
    let text = |name: &str| status[name].as_str().unwrap_or_default().trim();
    let (wallet, record) = (text("walletId"), text("recordId"));
    Promises {
        memory: format!("{wallet}/{record}"),
        // A memory that has no name may be any.
        honours_deadlines: status["honoursDeadlines"] == true && !wallet.is_empty() && !record.is_empty(),
    }
}

/// A number, or its digits; what cannot be is not an amount.
fn msats(value: &Value) -> Option<Msats> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    Msats::new(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "liqpay:liq_quote_1";

    fn answer(status: u16, body: &str) -> Result<Fetched, FetchError> {
        Ok(Fetched { status, headers: Vec::new(), body: body.into() })
    }

    fn error(status: u16, code: &str) -> Result<Paid, WalletError> {
        judge(
            answer(status, &json!({"ok": false, "error": {"code": code, "message": "why"}}).to_string()),
            ID,
        )
    }

    #[test]
    fn a_payment_is_read_where_the_protocol_puts_it() {
        let body = json!({"ok": true, "requestId": "x", "result": {"requestId": ID, "walletId": "w",
            "payment": {"paymentId": "p", "amountMsats": 42000, "preimageHex": "ab".repeat(32), "paidAtMs": 7, "feeMsats": 5},
            "quotedAmountMsats": 42000, "receipt": {"canonicalJsonSha256": "c", "preimageSha256": "d", "paidAtMs": 7}}});
        let paid = judge(answer(200, &body.to_string()), ID).expect("paid");
        assert_eq!(paid.preimage, Some(Preimage([0xab; 32])));
        assert_eq!((paid.amount, paid.fee), (Msats::new(42_000), Msats::new(5)));
        assert_eq!((paid.receipt_sha256.as_deref(), paid.preimage_sha256.as_deref()), (Some("c"), Some("d")));
        assert_eq!(paid.evidence, Some(body));
    }

    #[test]
    fn only_what_surely_did_not_happen_is_refused() {
        for (status, code) in [
            (500, "wallet_fail"),
            (502, "prepare_failed"),
            (502, "payment_failed"),
            (502, "connect_failed"),
            (403, "window_cap_exceeded"),
            (400, "invalid_request"),
            (401, "unauthorized"),
        ] {
            assert!(matches!(error(status, code), Err(WalletError::NotDone(_))), "{code}");
        }
        for (status, code) in [
            (504, "payment_pending"),
            (502, "send_failed"),
            (502, "payment_missing_preimage"),
            (409, "idempotency_in_flight"),
            (409, "idempotency_conflict"),
            (502, "spark_executor_error"),
            (500, "internal_error"),
        ] {
            assert!(matches!(error(status, code), Err(WalletError::Unknown(_))), "{code}");
        }
        let plain = |status| judge(answer(status, "<html>"), ID);
        for status in [400, 404, 422, 302] {
            let refused = plain(status).expect_err("refused");
            assert!(!refused.is_unknown(), "{status}");
            assert_eq!(refused.trouble().code, format!("http_{status}"));
            assert_eq!(refused.trouble().message, "wallet executor error");
            assert_eq!(refused.trouble().evidence.as_deref(), Some(&Value::Null));
        }
        for status in [200, 201, 408, 409, 500, 502, 504] {
            assert!(plain(status).expect_err("unsure").is_unknown(), "{status}");
        }
        let other =
            json!({"ok": true, "result": {"requestId": "another", "receipt": {"canonicalJsonSha256": "c"}}});
        let empty = json!({"ok": true, "requestId": "x", "result": {}});
        let unproved = json!({"ok": true, "result": {"requestId": ID, "payment": {"paymentId": "p"}}});
        for body in [
            other,
            empty,
            unproved,
            json!({}),
            json!([1]),
            json!({"result": {}}),
            json!({"ok": true}),
            json!(null),
        ] {
            let said = judge(answer(200, &body.to_string()), ID).expect_err("unsure");
            assert!(said.is_unknown(), "{body}");
        }
        assert!(!judge(Err(FetchError::Unsent("refused".into())), ID).expect_err("unsent").is_unknown());
        assert!(judge(Err(FetchError::Failed("timed out".into())), ID).expect_err("lost").is_unknown());
    }

    #[test]
    fn a_record_of_a_payment_says_where_it_stands() {
        let at = |state: &str| {
            json!({"ok": true, "result": {"requestId": ID, "state": state,
            "error": {"code": "payment_failed", "message": "no route"}}})
        };
        assert_eq!(found(&at("in_flight"), ID), Ok(PaymentState::InFlight));
        let failed = found(&at("failed"), ID).expect("a state");
        assert!(matches!(failed, PaymentState::Failed(trouble) if trouble.message == "no route"));
        let done = json!({"ok": true, "result": {"requestId": ID, "receipt": {"canonicalJsonSha256": "c"}}});
        assert!(matches!(found(&done, ID), Ok(PaymentState::Succeeded(_))));
        assert!(found(&json!({"ok": true}), ID).is_err());
        for word in ["pending", "created", "expired", "Succeeded", ""] {
            let mut body = done.clone();
            body["result"]["state"] = word.into();
            assert_eq!(found(&body, ID), Ok(PaymentState::InFlight), "{word}");
        }
        for word in ["succeeded", "done"] {
            let mut body = done.clone();
            body["result"]["state"] = word.into();
            assert!(matches!(found(&body, ID), Ok(PaymentState::Succeeded(_))), "{word}");
        }
    }

    #[test]
    fn only_a_wallet_that_names_its_memory_answers_for_its_silence() {
        let whole = json!({"walletId": "w", "recordId": "r", "honoursDeadlines": true});
        assert_eq!(promised(&whole), Promises { memory: "w/r".into(), honours_deadlines: true });
        for missing in ["walletId", "recordId", "honoursDeadlines"] {
            let mut status = whole.clone();
            status[missing] = Value::Null;
            assert!(!promised(&status).honours_deadlines, "{missing}");
        }
    }
}
