//! Decides what an amount of money is: a whole number of an asset's smallest unit, never below zero, never a
//! fraction, and never changed but by arithmetic that says when it does not fit.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// So many of the smallest unit of whatever asset it is an amount of. At most what a column of a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Amount(u64);

impl Amount {
    pub const ZERO: Amount = Amount(0);
    pub const MAX: Amount = Amount(i64::MAX as u64);

    pub const fn new(units: u64) -> Option<Self> {
        if units <= Self::MAX.0 { Some(Amount(units)) } else { None }
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// As it stands in a column; every amount fits.
    pub const fn signed(self) -> i64 {
        self.0 as i64
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub const fn plus(self, other: Amount) -> Option<Amount> {
        match self.0.checked_add(other.0) {
            Some(sum) => Amount::new(sum),
            None => None,
        }
    }

    pub const fn minus(self, other: Amount) -> Option<Amount> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Amount(rest)),
            None => None,
        }
    }

    /// Moved by so much in either direction.
    pub fn moved(self, by: i64) -> Option<Amount> {
        self.0.checked_add_signed(by).and_then(Amount::new)
    }

    pub fn sum(amounts: impl IntoIterator<Item = Amount>) -> Option<Amount> {
        amounts.into_iter().try_fold(Amount::ZERO, Amount::plus)
    }
}

impl TryFrom<i64> for Amount {
    type Error = std::num::TryFromIntError;

    fn try_from(units: i64) -> Result<Self, Self::Error> {
        u64::try_from(units).map(Amount)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Millisatoshis, on the wire a whole JSON number. At most every bitcoin that there will ever be, so that no
/// sum of a few of them leaves [`Amount`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Msats(u64);

impl Msats {
    pub const ZERO: Msats = Msats(0);
    /// 21 million bitcoin.
    pub const MAX: Msats = Msats(2_100_000_000_000_000_000);

    pub const fn new(msats: u64) -> Option<Self> {
        if msats <= Self::MAX.0 { Some(Msats(msats)) } else { None }
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<Msats> for Amount {
    fn from(msats: Msats) -> Self {
        Amount(msats.0)
    }
}

impl TryFrom<Amount> for Msats {
    type Error = Amount;

    fn try_from(amount: Amount) -> Result<Self, Self::Error> {
        Msats::new(amount.0).ok_or(amount)
    }
}

impl fmt::Display for Msats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msats", self.0)
    }
}

/// A fraction, an exponent and a text are no amounts, whatever their value.
impl<'de> Deserialize<'de> for Msats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let msats = u64::deserialize(deserializer)?;
        Msats::new(msats).ok_or_else(|| {
            D::Error::custom(format!(
                "{msats} msats are more than the {} that there will ever be",
                Msats::MAX.0
            ))
        })
    }
}

impl JsonSchema for Msats {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Msats".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "format": "uint64",
            "minimum": 0,
            "maximum": Msats::MAX.0,
            "description": "Millisatoshis: a whole number, never a fraction."
        })
    }
}

/// What an account holds, down to its unit: `msats`, `USD.cents`, shares of one pool. Two assets never meet in
/// one leg of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asset(String);

impl Asset {
    const LONGEST: usize = 128;

    /// Bitcoin over Lightning, in millisatoshis.
    pub fn msats() -> Self {
        Asset("msats".into())
    }

    /// Printable ASCII without blanks and slashes.
    pub fn new(code: impl Into<String>) -> Option<Self> {
        let code = code.into();
        let plain = code.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        (plain && !code.is_empty() && code.len() <= Self::LONGEST).then_some(Asset(code))
    }

    pub fn code(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_says_when_it_does_not_fit() {
        let one = Amount::new(1).expect("an amount");
        assert_eq!(Amount::MAX.plus(one), None);
        assert_eq!(Amount::ZERO.minus(one), None);
        assert_eq!(Amount::MAX.moved(1), None);
        assert_eq!(Amount::ZERO.moved(-1), None);
        assert_eq!(one.moved(-1), Some(Amount::ZERO));
        assert_eq!(Amount::sum([Amount::MAX, one]), None);
        assert_eq!(Amount::sum([one, one]), Amount::new(2));
        assert_eq!(Amount::new(u64::MAX), None);
        assert!(Amount::try_from(-1).is_err());
    }

    #[test]
    fn money_on_the_wire_is_a_whole_number() {
        let read = |text: &str| serde_json::from_str::<Msats>(text).map(Msats::get).ok();
        assert_eq!(read("2100000000000000000"), Some(Msats::MAX.get()));
        for wrong in ["2100000000000000001", "18446744073709551616", "-1", "1.0", "1e3", "\"1\"", "null"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let all = serde_json::to_string(&Msats::MAX).expect("JSON");
        assert_eq!(all, "2100000000000000000");
    }

    #[test]
    fn an_asset_has_a_plain_name() {
        assert_eq!(Asset::new("USD.cents").map(|asset| asset.to_string()), Some("USD.cents".into()));
        for wrong in ["", "a/b", "a b", "é", &"x".repeat(129)] {
            assert_eq!(Asset::new(wrong), None, "{wrong:?}");
        }
    }
}
