//! Decides how an LND node is asked to pay over REST. It knows payments by their hash and pays a hash once, so what
//! became of one can always be asked.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use oa_contract::{Refusal, canonical::unhex, wire::identity::Secret};
use oa_fetch::{FetchError, Fetched, Fetcher, Request, Trust};
use serde_json::{Value, json};

use super::{Order, Payer, Said, msats, preimage, refused, text, unknown};
use crate::tools::{Later, trusted};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Of what is paid, so much may be added for routing: five per cent, and never less than a satoshi.
const FEE_SHARE: u64 = 20;

pub struct Lnd {
    http: Result<Fetcher, String>,
    base: String,
    macaroon: Secret,
}

impl Lnd {
    pub fn new(base: &str, macaroon: Secret, trust: Trust) -> Self {
        let http = trusted(TIMEOUT, trust).map_err(|error| error.to_string());
        Lnd { http, base: base.to_owned(), macaroon }
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Result<Fetched, FetchError> {
        let http = self.http.as_ref().map_err(|why| FetchError::Unsent(why.clone()))?;
        let headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("grpc-metadata-macaroon".to_owned(), self.macaroon.reveal().to_owned()),
        ];
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let url = format!("{}{path}", self.base);
        http.send(Request { method: method.into(), url, headers, body, timeout: None }).await
    }

    async fn ask_to_pay(&self, order: &Order) -> Said {
        let fee = (order.max_msats / FEE_SHARE).max(1_000);
        let body = json!({"payment_request": order.invoice, "fee_limit": {"fixed_msat": fee.to_string()}});
        match self.send("POST", "/v1/channels/transactions", Some(body)).await {
            Ok(fetched) => judge(&fetched),
            Err(FetchError::Forbidden(_) | FetchError::Unsent(_)) => {
                refused("node_unreachable", "the Lightning node could not be reached", true)
            }
            Err(FetchError::Failed(_)) => unknown("node_silent", "the Lightning node did not answer"),
        }
    }

    async fn look_up(&self, order: &Order) -> Said {
        let Some(hash) = unhex::<32>(&order.payment_hash) else {
            return unknown("node_cannot_tell", "the payment has no hash that the node knows");
        };
        let path = format!("/v2/router/track/{}?no_inflight_updates=true", URL_SAFE.encode(hash));
        let Ok(fetched) = self.send("GET", &path, None).await else {
            return unknown("node_silent", "the Lightning node did not answer");
        };
        // A stream of documents, one a line; the first one says where the payment stands.
        let first = fetched.body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let body: Value = serde_json::from_slice(first).unwrap_or_default();
        match tracked(&body) {
            Some(said) => said,
            // The node never heard of the hash; and it pays a hash once, whatever else is still on its way.
            None if not_found(&body) => self.ask_to_pay(order).await,
            None => unknown("node_cannot_tell", format!("the Lightning node answered {}", fetched.status)),
        }
    }
}

impl Payer for Lnd {
    fn backend(&self) -> &'static str {
        "lnd_rest"
    }

    fn prepare<'a>(&'a self, _: &'a str) -> Later<'a, Result<(), Refusal>> {
        // The node is the wallet.
        Box::pin(async { Ok(()) })
    }

    fn pay<'a>(&'a self, order: &'a Order) -> Later<'a, Said> {
        Box::pin(self.ask_to_pay(order))
    }

    fn resolve<'a>(&'a self, order: &'a Order) -> Later<'a, Said> {
        Box::pin(self.look_up(order))
    }
}

/// NOT_FOUND of gRPC.
fn not_found(body: &Value) -> bool {
    let code =
        body["error"].get("code").or_else(|| body["error"].get("grpc_code")).or_else(|| body.get("code"));
    code.and_then(Value::as_u64) == Some(5)
}

fn judge(fetched: &Fetched) -> Said {
    let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    let why = text(body.get("payment_error"));
    match (fetched.status, preimage(body.get("payment_preimage")), why) {
        (200..=299, _, Some(why)) if in_flight(&why) => unknown("payment_in_flight", why),
        (200..=299, _, Some(why)) => refused("payment_failed", why, true),
        (200..=299, Some(preimage), None) => Said::Paid {
            payment_id: text(body.get("payment_hash")),
            preimage,
            amount_msats: msats(body["payment_route"].get("total_amt_msat")),
        },
        (400..=499, ..) => refused("node_refused", message(&body, fetched.status), true),
        _ => {
            let message = message(&body, fetched.status);
            unknown(if in_flight(&message) { "payment_in_flight" } else { "node_failed" }, message)
        }
    }
}

fn message(body: &Value, status: u16) -> String {
    text(body.get("message")).unwrap_or_else(|| format!("the node answered {status}"))
}

/// What LND says when it pays the hash already, or has paid it.
fn in_flight(why: &str) -> bool {
    let why = why.to_lowercase();
    why.contains("transition")
        || why.contains("already paid")
        || why.contains("in flight")
        || why.contains("timeout")
}

/// Where a payment stands that the node knows.
fn tracked(body: &Value) -> Option<Said> {
    let result = body.get("result")?;
    Some(match (result["status"].as_str()?, preimage(result.get("payment_preimage"))) {
        ("SUCCEEDED", Some(preimage)) => Said::Paid {
            payment_id: text(result.get("payment_hash")),
            preimage,
            amount_msats: msats(result.get("value_msat")),
        },
        ("FAILED", _) => {
            refused("payment_failed", text(result.get("failure_reason")).unwrap_or_default(), true)
        }
        (status, _) => unknown("payment_in_flight", format!("the payment is {status}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: Value) -> Said {
        judge(&Fetched { status, headers: Vec::new(), body: body.to_string().into() })
    }

    #[test]
    fn the_node_says_one_of_three_things() {
        let preimage = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
        let paid = judged(
            200,
            json!({"payment_preimage": preimage, "payment_error": "", "payment_route": {"total_amt_msat": "1005"}}),
        );
        assert!(paid == Said::Paid { payment_id: None, preimage: [0xab; 32], amount_msats: Some(1005) });
        assert!(
            matches!(judged(200, json!({"payment_error": "no_route"})), Said::Refused { code, .. } if code == "payment_failed")
        );
        assert!(matches!(judged(401, json!({"message": "verification failed"})), Said::Refused { .. }));
        for (status, body) in [
            (200, json!({"payment_error": "payment is in transition"})),
            (200, json!({"payment_preimage": "", "payment_error": ""})),
            (500, json!({"message": "invoice is already paid"})),
            (504, json!(null)),
        ] {
            assert!(matches!(judged(status, body.clone()), Said::Unknown { .. }), "{body}");
        }
    }

    #[test]
    fn a_tracked_payment_is_where_the_node_says() {
        let at = |status: &str| json!({"result": {"status": status, "payment_preimage": "ab".repeat(32), "value_msat": "7", "failure_reason": "X"}});
        assert!(matches!(tracked(&at("SUCCEEDED")), Some(Said::Paid { amount_msats: Some(7), .. })));
        assert!(matches!(tracked(&at("FAILED")), Some(Said::Refused { .. })));
        assert!(matches!(tracked(&at("IN_FLIGHT")), Some(Said::Unknown { .. })));
        assert!(
            tracked(&json!({"error": {"code": 5}})).is_none() && not_found(&json!({"error": {"code": 5}}))
        );
    }
}
