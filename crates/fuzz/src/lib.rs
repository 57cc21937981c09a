//! Decides what must be true of whatever strangers write: invoices, moments, JSON. Each rule is checked against a second,
//! slower way to the same answer, which shares no code with the first. The targets in `fuzz/` run these on bytes that
//! libFuzzer finds (`cargo +nightly fuzz run canonical_json` in `crates/fuzz`); the tests here run them on every build.

use oa_contract::{
    Timestamp,
    canonical::{canon, normalise},
};
use oa_lightning::bolt11;
use serde_json::Value;

/// The amount in an invoice's prefix is what the grammar of credit-fx §4.4 says, letter by letter.
pub fn invoice_prefix(text: &str) {
    assert_eq!(bolt11::prefix_amount_msats(text), amount_by_the_letter(text), "{text:?}");
    // Whatever was read whole says the same in its prefix, and nothing breaks what reads it.
    if let (Some(whole), Some(prefix)) = (bolt11::whole_amount_msats(text), bolt11::prefix_amount_msats(text))
    {
        assert_eq!(whole, prefix, "{text:?}");
    }
    let _ = (bolt11::payment_hash(text), bolt11::invoice_hash(text));
}

/// One letter at a time, with a wide counter: what does not fit at the end has no amount.
fn amount_by_the_letter(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.len() < 5 {
        return None;
    }
    let mut letters = text.chars().map(|letter| letter.to_ascii_lowercase());
    let mut next = || letters.next();
    if (next()?, next()?) != ('l', 'n') || !next()?.is_ascii_lowercase() || !next()?.is_ascii_lowercase() {
        return None;
    }
    let (mut number, mut digits, mut letter) = (0_u128, 0, next()?);
    while let Some(digit) = letter.to_digit(10) {
        number = (number * 10 + u128::from(digit)).min(u128::from(u64::MAX) + 1);
        digits += 1;
        letter = next()?;
    }
    // Longer than any amount, and than what is looked at.
    if digits == 0 || digits > 26 || number > u128::from(u64::MAX) {
        return None;
    }
    let msats = match letter {
        'm' => number * 100_000_000,
        'u' => number * 100_000,
        'n' => number * 100,
        'p' if number.is_multiple_of(10) => number / 10,
        _ => return None,
    };
    match next()? {
        '1' => u64::try_from(msats).ok(),
        _ => None,
    }
}

/// A moment that is read has an offset, is written as it is read again, and is the second that the calendar says.
pub fn moment(text: &str) {
    let Some(read) = Timestamp::parse(text) else { return };
    assert!(has_offset(text), "{text:?} has no offset");
    for form in [read.zulu(), read.offset()] {
        assert_eq!(Timestamp::parse(&form), Some(read), "{text:?} as {form:?}");
    }
    assert_eq!(Some(read.unix_seconds()), by_the_calendar(text), "{text:?}");
}

fn has_offset(text: &str) -> bool {
    let tail = text.get(19..).unwrap_or_default();
    tail.ends_with(['Z', 'z']) || tail.contains(['+', '-'])
}

/// Days are counted, not looked up. A leap second is the last moment of its minute.
fn by_the_calendar(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut days = 0;
    for year in 1970..year {
        days += if leap(year) { 366 } else { 365 };
    }
    for year in year..1970 {
        days -= if leap(year) { 366 } else { 365 };
    }
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += lengths.iter().take(usize::try_from(month - 1).ok()?).sum::<i64>() + day - 1;
    let seconds = days * 86_400 + number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?.min(59);
    let tail = text.get(19..)?;
    let shift = match tail.find(['+', '-']) {
        None => 0,
        Some(at) => {
            let (hours, minutes) = tail.get(at + 1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if tail.as_bytes().get(at) == Some(&b'-') { -minutes * 60 } else { minutes * 60 }
        }
    };
    Some(seconds - shift)
}

/// JSON in its canonical form is one text for one value: keys in the order of their bytes, no space, read back as it was;
/// and the copy that never builds the value comes to the same.
pub fn canonical_json(text: &str) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(normalise(text).is_err(), "{text:?} is no JSON");
        return;
    };
    let written = canon(&value);
    let read: Value = serde_json::from_str(&written).unwrap_or_default();
    assert_eq!(canon(&read), written, "{text:?}");
    same(&value, &read, text);
    let mut rest = written.as_str();
    skim(&value, &mut rest);
    assert_eq!(rest, "", "{text:?}");
}

/// Numbers may be spelt in several ways; everything else is what it was.
fn same(one: &Value, other: &Value, text: &str) {
    match (one, other) {
        // Whole numbers are what they were, also those that no f64 is.
        (Value::Number(one), Value::Number(other)) if one.is_i64() || one.is_u64() => {
            assert_eq!((one.as_i64(), one.as_u64()), (other.as_i64(), other.as_u64()), "{text:?}");
        }
        (Value::Number(one), Value::Number(other)) => {
            assert_eq!(one.as_f64(), other.as_f64(), "{text:?}");
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{text:?}");
            one.iter().zip(other).for_each(|(one, other)| same(one, other, text));
        }
        (Value::Object(one), Value::Object(other)) => {
            assert!(one.len() == other.len() && one.keys().all(|key| other.contains_key(key)), "{text:?}");
            one.iter().for_each(|(key, one)| same(one, &other[key], text));
        }
        _ => assert_eq!(one, other, "{text:?}"),
    }
}

/// Walks over the written form along with the value: brackets, keys in order, commas, and nothing else.
fn skim(value: &Value, rest: &mut &str) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<_> = members.keys().collect();
            names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
            take(rest, "{");
            for (at, name) in names.into_iter().enumerate() {
                take(rest, if at == 0 { "" } else { "," });
                take(rest, &spelt(name));
                take(rest, ":");
                skim(&members[name], rest);
            }
            take(rest, "}");
        }
        Value::Array(items) => {
            take(rest, "[");
            for (at, item) in items.iter().enumerate() {
                take(rest, if at == 0 { "" } else { "," });
                skim(item, rest);
            }
            take(rest, "]");
        }
        Value::String(text) => take(rest, &spelt(text)),
        Value::Number(number) => {
            let end = rest.find([',', ']', '}']).unwrap_or(rest.len());
            let written = &rest[..end];
            assert!(written.parse::<f64>().is_ok(), "{rest:?}");
            // What is no whole number is never written like one, and the other way round.
            let whole = written.trim_start_matches('-').bytes().all(|letter| letter.is_ascii_digit());
            assert_eq!(whole, !number.is_f64(), "{written:?}");
            *rest = &rest[end..];
        }
        Value::Bool(_) | Value::Null => take(rest, &value.to_string()),
    }
}

/// credit-fx §1.3: the short escapes, other controls by number, everything else as it is.
fn spelt(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn take(rest: &mut &str, expected: &str) {
    assert!(rest.starts_with(expected), "{rest:?} does not begin with {expected:?}");
    *rest = &rest[expected.len()..];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}|[\\x00-\\x7f]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map("\\PC{0,5}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn the_known_ones() {
        for text in [
            "lnbc420n1test",
            "LNBC1m1x",
            "lnbc10p1x",
            "lnbc11p1x",
            "lnbc1x",
            "lnbc1",
            "ln",
            "lnbc18446744073709551616n1",
        ] {
            invoice_prefix(text);
        }
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01 14:00:00.5+02:00",
            "1969-12-31T23:59:59-00:30",
            "2024-02-29t00:00:00z",
            "2026-03-01T12:00:00",
            "2016-12-31T23:59:60Z",
            "0000-01-01T00:00:00Z",
        ] {
            moment(text);
        }
        assert!(Timestamp::parse("2026-03-01T12:00:00").is_none(), "no offset, no moment");
        for text in ["{}", "[1,1.0,1e-7,1e300]", r#"{"b":1,"a":{"\u0001":"\/"}}"#, "nul", "", "[1] x"] {
            canonical_json(text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_text_and_what_looks_like_an_invoice(text in "\\PC{0,64}", invoice in " ?[lL][nN][a-zA-Z]{2}[0-9]{0,28}[munpxMUNP]?1?[a-z0-9]{0,9}") {
            invoice_prefix(&text);
            invoice_prefix(&invoice);
        }

        #[test]
        fn any_text_and_what_looks_like_a_moment(
            text in "\\PC{0,40}",
            moment_text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|z|[+-][01][0-9]:[0-5][0-9])?",
        ) {
            moment(&text);
            moment(&moment_text);
        }

        #[test]
        fn any_text_and_any_json(text in "\\PC{0,40}", value in any_json()) {
            canonical_json(&text);
            canonical_json(&value.to_string());
            canonical_json(&serde_json::to_string_pretty(&value).expect("JSON"));
        }
    }
}
