//! Decides what an invoice is worth. Believed strictly it is read whole: checksum, signature, network, expiry,
//! amount. Leniently only the amount in its prefix is read (§3), so that made-up invoices keep working.

use std::{fmt, str::FromStr, time::Duration};

use lightning_invoice::{Bolt11Invoice, Currency};
use oa_contract::{Msats, Timestamp, canonical::hex};
use sha2::{Digest as _, Sha256};

/// Nothing longer is looked at.
pub const LONGEST: usize = 8 * 1024;

/// The network whose invoices are paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Mainnet,
    Testnet,
    Signet,
    Regtest,
    Simnet,
}

impl Network {
    pub const fn name(self) -> &'static str {
        match self {
            Network::Mainnet => "mainnet",
            Network::Testnet => "testnet",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
            Network::Simnet => "simnet",
        }
    }

    pub const fn currency(self) -> Currency {
        match self {
            Network::Mainnet => Currency::Bitcoin,
            Network::Testnet => Currency::BitcoinTestnet,
            Network::Signet => Currency::Signet,
            Network::Regtest => Currency::Regtest,
            Network::Simnet => Currency::Simnet,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "mainnet" | "bitcoin" => Ok(Network::Mainnet),
            "testnet" => Ok(Network::Testnet),
            "signet" => Ok(Network::Signet),
            "regtest" => Ok(Network::Regtest),
            "simnet" => Ok(Network::Simnet),
            _ => Err("not one of mainnet, testnet, signet, regtest, simnet".into()),
        }
    }
}

/// An invoice that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub amount: Msats,
    /// 64 hex digits.
    pub payment_hash: String,
    /// The node that is to be paid, 66 hex digits.
    pub payee: String,
    pub expires_at: Timestamp,
}

/// Why an invoice cannot be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadInvoice {
    Malformed(String),
    OtherNetwork(Network),
    Expired,
    NoAmount,
    TooMuch,
}

impl fmt::Display for BadInvoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadInvoice::Malformed(why) => write!(f, "invoice is not valid BOLT11: {why}"),
            BadInvoice::OtherNetwork(network) => write!(f, "invoice is not for {}", network.name()),
            BadInvoice::Expired => f.write_str("invoice has expired"),
            // The words that clients know (§4.1).
            BadInvoice::NoAmount => {
                f.write_str("invoice must include an amount (amountless invoices not supported)")
            }
            BadInvoice::TooMuch => f.write_str("invoice asks for more than there will ever be"),
        }
    }
}

impl std::error::Error for BadInvoice {}

/// Reads an invoice whole.
pub fn check(text: &str, network: Network, now: Timestamp) -> Result<Checked, BadInvoice> {
    let invoice = parse(text)?;
    if invoice.currency() != network.currency() {
        return Err(BadInvoice::OtherNetwork(network));
    }
    let amount = match invoice.amount_milli_satoshis() {
        None | Some(0) => return Err(BadInvoice::NoAmount),
        Some(msats) => Msats::new(msats).ok_or(BadInvoice::TooMuch)?,
    };
    let expires_at = expires_at(&invoice);
    if now >= expires_at {
        return Err(BadInvoice::Expired);
    }
    let payee = payee_of(&invoice);
    Ok(Checked { amount, payment_hash: invoice.payment_hash().to_string(), payee, expires_at })
}

fn payee_of(invoice: &Bolt11Invoice) -> String {
    match invoice.payee_pub_key() {
        Some(key) => key.to_string(),
        None => invoice.recover_payee_pub_key().to_string(),
    }
}

/// The node that an invoice pays, 66 hex digits, if it can be read whole.
pub fn payee(text: &str) -> Option<String> {
    parse(text).ok().map(|invoice| payee_of(&invoice))
}

/// The payment hash of an invoice that can be read whole, whatever its network and age.
pub fn payment_hash(text: &str) -> Option<String> {
    Some(parse(text).ok()?.payment_hash().to_string())
}

/// The amount of an invoice that can be read whole, whatever its network and age.
pub fn whole_amount_msats(text: &str) -> Option<u64> {
    parse(text).ok()?.amount_milli_satoshis()
}

/// Until when an invoice that can be read whole can be paid, whatever its network.
pub fn expires_at_of(text: &str) -> Option<Timestamp> {
    Some(expires_at(&parse(text).ok()?))
}

fn parse(text: &str) -> Result<Bolt11Invoice, BadInvoice> {
    let text = text.trim();
    if text.len() > LONGEST {
        return Err(BadInvoice::Malformed(format!("longer than {LONGEST} bytes")));
    }
    text.parse().map_err(|error| BadInvoice::Malformed(format!("{error}")))
}

fn expires_at(invoice: &Bolt11Invoice) -> Timestamp {
    let end: Duration = invoice.duration_since_epoch().saturating_add(invoice.expiry_time());
    Timestamp::from_unix_seconds(i64::try_from(end.as_secs()).unwrap_or(i64::MAX))
}

/// `invoice_hash`: SHA-256 of the trimmed text as it was written (§4.1).
pub fn invoice_hash(text: &str) -> String {
    hex(&Sha256::digest(text.trim()))
}

/// The amount that stands in the prefix of an invoice, whatever follows it (§3).
pub fn prefix_amount_msats(text: &str) -> Option<u64> {
    let text = text.trim();
    // The prefix is short; what follows it is never looked at.
    let head: String = text.chars().take(32).collect::<String>().to_lowercase();
    if text.len() < 5 {
        return None;
    }
    let rest = head.strip_prefix("ln")?;
    let network = rest.get(..2)?;
    if !network.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let rest = &rest[2..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = rest[..digits].parse().ok()?;
    let mut behind = rest[digits..].bytes();
    let msats = match behind.next()? {
        b'm' => number.checked_mul(100_000_000)?,
        b'u' => number.checked_mul(100_000)?,
        b'n' => number.checked_mul(100)?,
        b'p' if number.is_multiple_of(10) => number / 10,
        // The digits are read greedily, so none can be left to be the separator.
        _ => return None,
    };
    (behind.next()? == b'1').then_some(msats)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second example of BOLT 11: 2500 µBTC, one minute.
    const COFFEE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
    const MADE: i64 = 1_496_314_658;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }

    #[test]
    fn the_amount_of_a_made_up_invoice_stands_in_its_prefix() {
        for (text, msats) in [
            ("lnbc420n1test", Some(42_000)),
            ("LNBC1m1TEST", Some(100_000_000)),
            ("lnbc2500u1test", Some(250_000_000)),
            ("lnbc10p1test", Some(1)),
            (" lntb7n1x ", Some(700)),
            ("lnbc0n1test", Some(0)),
            ("lnbc1amountless", None),
            ("lnbc1p1test", None),
            ("lnbc10x1test", None),
            ("not-an-invoice", None),
            ("lnbc11x", None),
            ("lnbcrt420n1test", None),
            ("lntbs420n1test", None),
            ("lnbc18446744073709551615m1x", None),
            ("lnbc18446744073709551616p1x", None),
            ("lnbc420n", None),
            ("lnbc420n2", None),
            ("ln\u{e9}\u{e9}420n1", None),
            ("lnbc", None),
            ("", None),
        ] {
            assert_eq!(prefix_amount_msats(text), msats, "{text}");
        }
        assert_eq!(prefix_amount_msats(&format!("lnbc420n1{}", "x".repeat(100_000))), Some(42_000));
    }

    #[test]
    fn a_real_invoice_is_read_whole() {
        let checked = check(COFFEE, Network::Mainnet, at(MADE + 59)).expect("an invoice");
        assert_eq!(checked.amount.get(), 250_000_000);
        assert_eq!(checked.payment_hash, "0001020304050607080900010203040506070809000102030405060708090102");
        assert_eq!(checked.payee, "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad");
        assert_eq!(checked.expires_at, at(MADE + 60));
        assert_eq!(payment_hash(COFFEE), Some(checked.payment_hash));
        assert_eq!(prefix_amount_msats(COFFEE), Some(250_000_000));
    }

    #[test]
    fn an_invoice_that_may_not_be_paid_says_why() {
        assert_eq!(check(COFFEE, Network::Mainnet, at(MADE + 60)), Err(BadInvoice::Expired));
        assert_eq!(
            check(COFFEE, Network::Regtest, at(MADE)),
            Err(BadInvoice::OtherNetwork(Network::Regtest))
        );
        let mut broken = COFFEE.to_owned();
        broken.replace_range(100..101, if &COFFEE[100..101] == "q" { "p" } else { "q" });
        for text in [broken.as_str(), "lnbc420n1test", "", &"l".repeat(LONGEST + 1)] {
            assert!(
                matches!(check(text, Network::Mainnet, at(MADE)), Err(BadInvoice::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn the_hash_of_an_invoice_is_that_of_its_text() {
        let golden = "3faa6c5786a2d961801486625507630d05d5a0f2555d2d84bc1a6a2c7b2bd9b7";
        assert_eq!(invoice_hash(" lnbc420n1test\n"), golden);
    }
}
