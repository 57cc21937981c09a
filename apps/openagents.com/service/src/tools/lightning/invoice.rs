//! Decides what an invoice is worth: its amount and the hash that its payment proves. Believed strictly, it is
//! checked whole; leniently, the amount stands in its prefix and the text is its own hash (control §11.6).

use std::time::Duration;

use lightning_invoice::{Bolt11Invoice, Currency};
use oa_contract::{Timestamp, canonical::hex};
use sha2::{Digest, Sha256};

use crate::tools::config::{MOST_MSATS, TrustMode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    pub text: String,
    /// 64 hex digits.
    pub payment_hash: String,
    /// Unknown when the invoice names none that can be read.
    pub amount_msats: Option<u64>,
}

impl Invoice {
    /// Reads an invoice, or says why it is none that may be paid.
    pub fn read(text: &str, trust: TrustMode, network: &Currency, now: Timestamp) -> Result<Self, String> {
        let text = text.trim();
        let parsed = text.parse::<Bolt11Invoice>();
        match trust {
            TrustMode::Strict => {
                let invoice = parsed.map_err(|error| format!("the invoice is none: {error}"))?;
                Self::checked(text, &invoice, network, now)
            }
            TrustMode::Lenient => Ok(Invoice {
                text: text.to_owned(),
                payment_hash: match &parsed {
                    Ok(invoice) => hash_of(invoice),
                    Err(_) => hex(&Sha256::digest(text.as_bytes())),
                },
                amount_msats: amount(text),
            }),
        }
    }

    fn checked(
        text: &str,
        invoice: &Bolt11Invoice,
        network: &Currency,
        now: Timestamp,
    ) -> Result<Self, String> {
        if invoice.currency() != *network {
            return Err(format!("the invoice is for another network than {network:?}"));
        }
        let since = Duration::from_micros(u64::try_from(now.micros()).unwrap_or_default());
        if invoice.would_expire(since) {
            return Err("the invoice has expired".into());
        }
        match invoice.amount_milli_satoshis() {
            None | Some(0) => Err("the invoice names no amount".into()),
            Some(msats) if msats > MOST_MSATS => Err("the invoice asks for more than there is".into()),
            Some(msats) => Ok(Invoice {
                text: text.to_owned(),
                payment_hash: hash_of(invoice),
                amount_msats: Some(msats),
            }),
        }
    }
}

fn hash_of(invoice: &Bolt11Invoice) -> String {
    invoice.payment_hash().to_string()
}

/// The amount in the prefix of an invoice, whatever follows.
fn amount(text: &str) -> Option<u64> {
    let text = text.to_lowercase();
    let rest = text.strip_prefix("ln")?;
    let network = rest.get(..2)?;
    if !network.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let rest = &rest[2..];
    // The amount ends where a `1` begins the data; the digits before it are read greedily but for that `1`.
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, multiplier, data) = match rest.as_bytes().get(digits) {
        Some(multiplier @ (b'm' | b'u' | b'n' | b'p')) if digits > 0 => {
            (&rest[..digits], Some(*multiplier), &rest[digits + 1..])
        }
        _ => {
            let one = rest[..digits].rfind('1').filter(|one| *one > 0)?;
            (&rest[..one], None, &rest[one..])
        }
    };
    if !data.starts_with('1') {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    let msats = match multiplier {
        None => number.checked_mul(100_000_000_000)?,
        Some(b'm') => number.checked_mul(100_000_000)?,
        Some(b'u') => number.checked_mul(100_000)?,
        Some(b'n') => number.checked_mul(100)?,
        Some(_) if number.is_multiple_of(10) => number / 10,
        Some(_) => return None,
    };
    (msats <= MOST_MSATS).then_some(msats)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second example of BOLT 11: 2500 µBTC, one minute.
    const COFFEE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
    const MADE: i64 = 1_496_314_658;

    fn strict(text: &str, second: i64) -> Result<Invoice, String> {
        Invoice::read(text, TrustMode::Strict, &Currency::Bitcoin, Timestamp::from_unix_seconds(second))
    }

    #[test]
    fn a_good_invoice_gives_its_amount_and_its_hash() {
        let invoice = strict(COFFEE, MADE + 59).expect("an invoice");
        assert_eq!(invoice.amount_msats, Some(250_000_000));
        assert_eq!(invoice.payment_hash, "0001020304050607080900010203040506070809000102030405060708090102");
        assert_eq!(
            strict(&COFFEE.to_uppercase(), MADE).expect("an invoice").payment_hash,
            invoice.payment_hash
        );
    }

    #[test]
    fn an_altered_expired_or_foreign_invoice_is_none() {
        let mut altered = COFFEE.to_owned();
        altered.replace_range(10..11, "q");
        assert!(strict(&altered, MADE).is_err());
        assert_eq!(strict(COFFEE, MADE + 61).expect_err("late"), "the invoice has expired");
        let regtest =
            Invoice::read(COFFEE, TrustMode::Strict, &Currency::Regtest, Timestamp::from_unix_seconds(MADE));
        assert!(regtest.is_err());
        assert!(strict("lnbc420n1test", MADE).is_err() && strict("", MADE).is_err());
    }

    #[test]
    fn leniently_the_amount_stands_in_the_prefix() {
        let lenient = |text: &str| {
            Invoice::read(text, TrustMode::Lenient, &Currency::Bitcoin, Timestamp::EPOCH).expect("an invoice")
        };
        for (text, amount) in [
            ("lnbc420n1test", Some(42_000)),
            ("LNBC1m1TEST", Some(100_000_000)),
            ("lnbc2500u1test", Some(250_000_000)),
            ("lnbc10p1test", Some(1)),
            ("lnbc21x", Some(200_000_000_000)),
            ("lnbc1p1test", None),
            ("lnbc10x1test", None),
            ("lnbc1amountless", None),
            ("not-an-invoice", None),
            ("lnbc99999999999999999999n1x", None),
            ("lnbc", None),
            ("ln", None),
            ("lnüü10n1", None),
        ] {
            assert_eq!(lenient(text).amount_msats, amount, "{text}");
        }
        assert_eq!(lenient("lnbc420n1test").payment_hash, hex(&Sha256::digest(b"lnbc420n1test")));
    }
}
