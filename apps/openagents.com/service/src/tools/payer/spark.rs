//! Decides how the wallet executor is asked to pay (liquidity §9.4). It keeps the keys: no seed is ever sent to it
//! or asked of it, only the name of a wallet.

use std::time::Duration;

use oa_contract::{Code, Refusal, wire::identity::Secret};
use oa_fetch::{FetchError, Fetched, Fetcher, Request, Trust};
use serde_json::{Value, json};
use url::Url;

use super::{Order, Payer, Said, msats, preimage, refused, text, unknown};
use crate::tools::{Later, trusted};

pub struct Spark {
    http: Result<Fetcher, String>,
    base: String,
    token: Option<Secret>,
    timeout: Duration,
}

/// Errors after which the money may have gone.
const AMBIGUOUS: [&str; 7] = [
    "payment_pending",
    "send_failed",
    "payment_missing_preimage",
    "idempotency_in_flight",
    "idempotency_conflict",
    // The older executor's word for everything that went wrong below it.
    "spark_executor_error",
    "internal_error",
];
/// Errors that the same order will meet again.
const LASTING: [&str; 5] = [
    "invalid_request",
    "host_not_allowed",
    "request_cap_exceeded",
    "quoted_amount_exceeds_cap",
    "unsupported_payment_method",
];

impl Spark {
    pub fn new(base: &str, token: Option<Secret>, timeout: Duration) -> Self {
        let http = trusted(timeout, Trust::default()).map_err(|error| error.to_string());
        Spark { http, base: base.to_owned(), token, timeout }
    }

    async fn send(
        &self,
        method: &str,
        path: &[&str],
        request_id: Option<&str>,
        body: Option<Value>,
    ) -> Result<Fetched, FetchError> {
        let http = self.http.as_ref().map_err(|why| FetchError::Unsent(why.clone()))?;
        let wrong = || FetchError::Unsent("the executor's address cannot be used".into());
        let mut url = Url::parse(&self.base).map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(path);
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        if let Some(token) = &self.token {
            headers.push(("authorization".into(), format!("Bearer {}", token.reveal())));
        }
        if let Some(id) = request_id {
            headers.push(("x-request-id".into(), id.to_owned()));
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        http.send(Request { method: method.into(), url: url.into(), headers, body, timeout: None }).await
    }

    async fn ask_to_pay(&self, order: &Order) -> Said {
        // The executor should give up before we stop listening.
        let patience = self.timeout.saturating_sub(Duration::from_secs(2)).max(Duration::from_secs(1));
        let body = json!({
            "walletId": order.wallet_id,
            "requestId": order.request_id,
            "invoice": order.invoice,
            "maxAmountMsats": order.max_msats,
            "timeoutMs": u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            "host": order.host,
        });
        let sent = self.send("POST", &["wallets", "pay-bolt11"], Some(&order.request_id), Some(body)).await;
        match sent {
            Ok(fetched) => judge(&fetched),
            Err(FetchError::Forbidden(_) | FetchError::Unsent(_)) => {
                refused("executor_unreachable", "the wallet executor could not be reached", true)
            }
            Err(FetchError::Failed(_)) => unknown("executor_silent", "the wallet executor did not answer"),
        }
    }

    async fn look_up(&self, order: &Order) -> Said {
        let fetched = match self.send("GET", &["payments", &order.request_id], None, None).await {
            Ok(fetched) => fetched,
            Err(_) => return unknown("executor_silent", "the wallet executor did not answer"),
        };
        let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
        match fetched.status {
            200..=299 => found(&body),
            // It keeps a record of payments, and has none of this one: it never heard of it.
            404 if body["error"]["code"] == "payment_not_found" => self.ask_to_pay(order).await,
            404 if self.remembers().await => self.ask_to_pay(order).await,
            status => unknown("executor_cannot_tell", format!("the wallet executor answered {status}")),
        }
    }

    /// Whether the executor tells repeated orders even after a restart.
    async fn remembers(&self) -> bool {
        let Ok(fetched) = self.send("GET", &["status"], None, None).await else { return false };
        let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
        (200..300).contains(&fetched.status) && body["status"]["durableIdempotency"] == true
    }
}

impl Payer for Spark {
    fn backend(&self) -> &'static str {
        "spark_wallet"
    }

    fn prepare<'a>(&'a self, wallet_id: &'a str) -> Later<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let body = json!({"walletId": wallet_id});
            let fetched =
                self.send("POST", &["wallets", "create"], None, Some(body)).await.map_err(|_| {
                    Refusal::unavailable("the wallet executor could not be reached; nothing was paid")
                })?;
            match fetched.status {
                // It is there already.
                200..=299 | 409 => Ok(()),
                // Its opinion of our token is not the caller's business.
                401 | 403 => Err(Refusal::unavailable("the wallet executor does not accept this service")),
                status => {
                    let (_, message) = said(&fetched);
                    let message = format!("the wallet executor made no wallet: {message}");
                    Err(Refusal::new(Code::ServiceUnavailable, message)
                        .with_status(if (400..600).contains(&status) { status } else { 503 }))
                }
            }
        })
    }

    fn pay<'a>(&'a self, order: &'a Order) -> Later<'a, Said> {
        Box::pin(self.ask_to_pay(order))
    }

    fn resolve<'a>(&'a self, order: &'a Order) -> Later<'a, Said> {
        Box::pin(self.look_up(order))
    }
}

/// The code and the message of an error, as far as there are any.
fn said(fetched: &Fetched) -> (Option<String>, String) {
    let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    let code = text(body["error"].get("code"));
    let message = text(body["error"].get("message"));
    (code, message.unwrap_or_else(|| format!("it answered {}", fetched.status)))
}

fn judge(fetched: &Fetched) -> Said {
    if (200..300).contains(&fetched.status) {
        let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
        return found(&body);
    }
    let (code, message) = said(fetched);
    match code {
        Some(code) if AMBIGUOUS.contains(&code.as_str()) => unknown(&code, message),
        Some(code) => {
            let retryable = !LASTING.contains(&code.as_str());
            refused(&code, message, retryable)
        }
        None if (400..500).contains(&fetched.status) => refused("executor_refused", message, true),
        None => unknown("executor_failed", message),
    }
}

/// A payment, wherever its preimage stands.
fn found(body: &Value) -> Said {
    let result = &body["result"];
    let payment = &result["payment"];
    let names = ["preimage", "paymentPreimage", "preimageHex"];
    let place = |value: &Value| names.iter().find_map(|name| preimage(value.get(name)));
    let status = text(result.get("status").or_else(|| payment.get("status"))).unwrap_or_default();
    match place(result).or_else(|| place(payment)) {
        Some(preimage) => Said::Paid {
            payment_id: text(result.get("paymentId").or_else(|| payment.get("paymentId"))),
            preimage,
            amount_msats: msats(result.get("amountMsats").or_else(|| payment.get("amountMsats"))),
        },
        None if status.eq_ignore_ascii_case("failed") => {
            refused("payment_failed", "the payment failed", true)
        }
        None => unknown("payment_missing_preimage", "the wallet executor names no preimage"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Fetched {
        Fetched { status, headers: Vec::new(), body: body.into() }
    }

    fn error(status: u16, code: &str) -> Fetched {
        answer(status, &json!({"ok": false, "error": {"code": code, "message": "why"}}).to_string())
    }

    #[test]
    fn a_payment_needs_its_preimage() {
        let paid = |body: Value| judge(&answer(200, &body.to_string()));
        let preimage = "ab".repeat(32);
        for body in [
            json!({"result": {"paymentId": "p", "preimage": preimage, "amountMsats": 5}}),
            json!({"result": {"payment": {"paymentId": "p", "preimageHex": preimage, "amountMsats": "5"}}}),
            json!({"result": {"paymentId": "p", "payment": {"paymentPreimage": preimage, "amountMsats": 5}}}),
        ] {
            let wanted =
                Said::Paid { payment_id: Some("p".into()), preimage: [0xab; 32], amount_msats: Some(5) };
            assert!(paid(body.clone()) == wanted, "{body}");
        }
        for body in [json!({}), json!({"result": {"paymentId": "p"}}), json!({"ok": true}), json!([1])] {
            assert!(matches!(paid(body.clone()), Said::Unknown { .. }), "{body}");
        }
        assert!(matches!(judge(&answer(200, "<html>")), Said::Unknown { .. }));
    }

    #[test]
    fn only_what_surely_did_not_happen_is_a_failure() {
        let retryable = |fetched: &Fetched| match judge(fetched) {
            Said::Refused { retryable, .. } => Some(retryable),
            _ => None,
        };
        assert_eq!(retryable(&error(402, "insufficient_balance")), Some(true));
        assert_eq!(retryable(&error(422, "quoted_amount_exceeds_cap")), Some(false));
        assert_eq!(retryable(&error(502, "prepare_failed")), Some(true));
        assert_eq!(retryable(&answer(404, "not here")), Some(true));
        for unsure in [
            error(504, "payment_pending"),
            error(409, "idempotency_in_flight"),
            error(409, "idempotency_conflict"),
            error(502, "send_failed"),
            answer(502, "<html>"),
            answer(500, ""),
        ] {
            assert_eq!(retryable(&unsure), None, "{unsure:?}");
        }
    }
}
