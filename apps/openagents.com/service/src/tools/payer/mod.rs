//! Decides what it is to pay an invoice: a payer is asked once, and what it says is one of three. What it did not say
//! is unknown, and only the payer can tell later.

mod lnd;
mod spark;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oa_contract::{Refusal, canonical::unhex};
use serde_json::Value;

use super::{Later, config::PayerConfig};

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Order {
    /// The same for every attempt at the same invoice.
    pub request_id: String,
    pub wallet_id: String,
    pub invoice: String,
    /// 64 hex digits.
    pub payment_hash: String,
    pub max_msats: u64,
    pub host: String,
}

/// What the payer said.
#[derive(Clone, PartialEq, Eq)]
pub enum Said {
    Paid {
        payment_id: Option<String>,
        preimage: [u8; 32],
        amount_msats: Option<u64>,
    },
    /// It did not and will not pay.
    Refused {
        code: String,
        message: String,
        retryable: bool,
    },
    /// Nothing that could be relied on.
    Unknown {
        code: String,
        message: String,
    },
}

/// Whoever pays.
pub(crate) trait Payer: Send + Sync {
    /// The name in results: `spark_wallet` or `lnd_rest`.
    fn backend(&self) -> &'static str;
    /// Makes sure that the caller has something to pay from. Nothing is paid.
    fn prepare<'a>(&'a self, wallet_id: &'a str) -> Later<'a, Result<(), Refusal>>;
    /// Pays. Asked twice with one order, it must pay once.
    fn pay<'a>(&'a self, order: &'a Order) -> Later<'a, Said>;
    /// Asks what became of an order that may have been heard; pays it only if the payer surely tells repeated
    /// orders from new ones.
    fn resolve<'a>(&'a self, order: &'a Order) -> Later<'a, Said>;
}

/// The payer that the configuration names.
pub(super) fn payer(config: &PayerConfig) -> Arc<dyn Payer> {
    match config {
        PayerConfig::Spark { base_url, token, timeout } => {
            Arc::new(spark::Spark::new(base_url, token.clone(), *timeout))
        }
        PayerConfig::Lnd { base_url, macaroon, certificate, any_certificate } => {
            let trust = oa_fetch::Trust { root: certificate.clone(), any: *any_certificate };
            Arc::new(lnd::Lnd::new(base_url, macaroon.clone(), trust))
        }
        PayerConfig::Missing(backend) => Arc::new(Missing(backend)),
    }
}

/// No payer is configured.
struct Missing(&'static str);

impl Payer for Missing {
    fn backend(&self) -> &'static str {
        self.0
    }

    fn prepare<'a>(&'a self, _: &'a str) -> Later<'a, Result<(), Refusal>> {
        Box::pin(async { Err(Refusal::unavailable("no payer is configured, so nothing can be paid")) })
    }

    fn pay<'a>(&'a self, _: &'a Order) -> Later<'a, Said> {
        Box::pin(async {
            Said::Refused {
                code: "payer_not_configured".into(),
                message: "no payer is configured".into(),
                retryable: true,
            }
        })
    }

    fn resolve<'a>(&'a self, _: &'a Order) -> Later<'a, Said> {
        Box::pin(async {
            Said::Unknown {
                code: "payer_not_configured".into(),
                message: "the payer that was asked is not configured any more".into(),
            }
        })
    }
}

fn unknown(code: &str, message: impl Into<String>) -> Said {
    Said::Unknown { code: code.into(), message: message.into() }
}

fn refused(code: &str, message: impl Into<String>, retryable: bool) -> Said {
    Said::Refused { code: code.into(), message: message.into(), retryable }
}

/// A preimage as payers write it: 64 hex digits, or base64.
fn preimage(value: Option<&Value>) -> Option<[u8; 32]> {
    let text = value?.as_str()?.trim();
    unhex::<32>(text).or_else(|| STANDARD.decode(text).ok()?.try_into().ok())
}

/// A number, or its digits.
fn msats(value: Option<&Value>) -> Option<u64> {
    super::fields::number(value?)
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?.trim();
    (!text.is_empty()).then(|| text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preimage_is_read_from_hex_and_from_base64() {
        let bytes = [0xab; 32];
        assert_eq!(preimage(Some(&json!("AB".repeat(32)))), Some(bytes));
        assert_eq!(preimage(Some(&json!(STANDARD.encode(bytes)))), Some(bytes));
        for bad in [json!("abab"), json!(""), json!(7), json!(STANDARD.encode([1; 31]))] {
            assert_eq!(preimage(Some(&bad)), None, "{bad}");
        }
    }
}
