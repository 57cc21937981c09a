//! Decides what may be given to a statement: whole numbers, texts, bytes, nothing. No floats, no engine's
//! own types, so that both engines keep the same thing.

use oa_contract::instant::Timestamp;
use oa_contract::refusal::{Fault, Refusal};
use uuid::Uuid;

/// One parameter of a statement, or one column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Null,
}

impl Value<'_> {
    /// A count or a position; those beyond what a column holds are a fault, never another number.
    pub fn unsigned(number: u64) -> Result<Value<'static>, Fault> {
        i64::try_from(number)
            .map(Value::Int)
            .map_err(|_| Fault::msg(format!("the number {number} does not fit into a column")))
    }

    /// What the value is, for sentences about a wrong one.
    pub const fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "a whole number",
            Value::Text(_) => "a text",
            Value::Bytes(_) => "bytes",
            Value::Null => "nothing",
        }
    }
}

/// PostgreSQL cannot keep U+0000 in a text. SQLite could; refusing it on both keeps them alike, and it is
/// the caller's text that has to change, so this is a refusal.
pub(crate) fn refuse_nul(params: &[Value<'_>]) -> Result<(), Refusal> {
    let bad = |value: &Value<'_>| matches!(value, Value::Text(text) if text.as_bytes().contains(&0));
    match params.iter().any(bad) {
        true => Err(Refusal::invalid("a text must not contain the character U+0000")),
        false => Ok(()),
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),+) => { $(
        impl From<$kind> for Value<'_> {
            fn from(number: $kind) -> Self { Value::Int(i64::from(number)) }
        }
    )+ };
}

whole_numbers!(i64, i32, i16, u32, u16, u8, bool);

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Value::Bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Value::Bytes(bytes)
    }
}

/// An id is kept as its sixteen bytes.
impl<'a> From<&'a Uuid> for Value<'a> {
    fn from(id: &'a Uuid) -> Self {
        Value::Bytes(id.as_bytes())
    }
}

/// A moment is kept as whole microseconds since 1970.
impl From<Timestamp> for Value<'_> {
    fn from(moment: Timestamp) -> Self {
        Value::Int(moment.micros())
    }
}

// Kind by kind: written for every `T`, the compiler would look for options of options without end.
macro_rules! options {
    (owned $($owned:ty),+; borrowed $($borrowed:ty),+) => {
        $(
            impl From<Option<$owned>> for Value<'_> {
                fn from(value: Option<$owned>) -> Self { value.map_or(Value::Null, Value::from) }
            }
        )+
        $(
            impl<'a> From<Option<&'a $borrowed>> for Value<'a> {
                fn from(value: Option<&'a $borrowed>) -> Self { value.map_or(Value::Null, Value::from) }
            }
        )+
    };
}

options!(owned i64, i32, i16, u32, u16, u8, bool, Timestamp; borrowed str, String, [u8], Vec<u8>, [u8; 32], Uuid);

macro_rules! borrowed_options {
    ($($kind:ty),+) => { $(
        impl<'a> From<&'a Option<$kind>> for Value<'a> {
            fn from(value: &'a Option<$kind>) -> Self { value.as_ref().map_or(Value::Null, Value::from) }
        }
    )+ };
}

borrowed_options!(String, Vec<u8>, [u8; 32], Uuid);

/// The parameters of a statement, in order: `params![run_id, seq, text]`.
#[macro_export]
macro_rules! params {
    () => { &[] as &[$crate::Value<'_>] };
    ($($value:expr),+ $(,)?) => { &[$($crate::Value::from($value)),+] as &[$crate::Value<'_>] };
}
