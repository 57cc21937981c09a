//! Decides how JSON is written where its bytes matter: the canonical form that is hashed, the compact
//! form that is stored and echoed, and the SHA-256 texts taken over them (runtime-core §8).

use std::fmt::{self, Write as _};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};
use sha2::{Digest, Sha256};

/// Where text goes: into memory, or straight into a hash.
pub trait Sink {
    fn put(&mut self, text: &str);
}

impl Sink for String {
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Sink for Sha256 {
    fn put(&mut self, text: &str) {
        self.update(text.as_bytes());
    }
}

/// `canon(v)` of §8: keys sorted by their UTF-8 bytes, no whitespace, our own numbers.
pub fn canon(value: &Value) -> String {
    let mut out = String::new();
    write_canon(value, &mut out);
    out
}

/// Writes `canon(v)` into any sink, so that a hash needs no copy of the text.
pub fn write_canon(value: &Value, out: &mut impl Sink) {
    write_value::<true, _>(value, out);
}

/// The same strings and numbers as `canon`, but keys in the caller's order: what is stored and echoed (§1).
pub fn compact(value: &Value) -> String {
    let mut out = String::new();
    write_value::<false, _>(value, &mut out);
    out
}

/// `canonical_hash(v)` of §8: lower-case hex, no prefix.
pub fn canonical_hash(value: &Value) -> String {
    hex(&canonical_digest(value))
}

/// The 32 bytes that `canonical_hash` spells.
pub fn canonical_digest(value: &Value) -> [u8; 32] {
    let mut hasher = Sha256::new();
    write_canon(value, &mut hasher);
    hasher.finalize().into()
}

/// `canonical_hash` of a typed value, after its own serialisation rules (§8 rule 1).
pub fn hash_of<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_value(value).map(|value| canonical_hash(&value))
}

/// `"sha256:"` and the hex SHA-256 of the text (§8).
pub fn sha256_prefixed(text: &str) -> String {
    prefixed(&Sha256::digest(text.as_bytes()))
}

/// The hex SHA-256 of the text, without a prefix (liquidity §1.3).
pub fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// A finished SHA-256 in its prefixed form.
pub(crate) fn prefixed(digest: &[u8]) -> String {
    let mut out = String::with_capacity(7 + 2 * digest.len());
    out.push_str("sha256:");
    push_hex(digest, &mut out);
    out
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    push_hex(bytes, &mut out);
    out
}

const HEX: &str = "0123456789abcdef";

fn hex_digit(nibble: u8) -> &'static str {
    let at = usize::from(nibble & 15);
    &HEX[at..=at]
}

fn push_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push_str(hex_digit(byte >> 4));
        out.push_str(hex_digit(*byte));
    }
}

/// Reads exactly `N` bytes of hex, in either case.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}

fn write_value<const SORTED: bool, S: Sink>(value: &Value, out: &mut S) {
    match value {
        Value::Null => out.put("null"),
        Value::Bool(flag) => out.put(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => write_array::<SORTED, S>(items, out),
        Value::Object(members) => write_object::<SORTED, S>(members, out),
    }
}

fn write_array<const SORTED: bool, S: Sink>(items: &[Value], out: &mut S) {
    out.put("[");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.put(",");
        }
        write_value::<SORTED, S>(item, out);
    }
    out.put("]");
}

fn write_object<const SORTED: bool, S: Sink>(members: &Map<String, Value>, out: &mut S) {
    // Rust orders strings by their UTF-8 bytes, which is the order of code points that §8 asks for.
    if SORTED && !members.keys().is_sorted() {
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| key.as_str());
        write_members::<SORTED, S>(sorted.into_iter(), out);
    } else {
        write_members::<SORTED, S>(members.iter(), out);
    }
}

fn write_members<'a, const SORTED: bool, S: Sink>(
    members: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut S,
) {
    out.put("{");
    for (at, (key, value)) in members.enumerate() {
        if at > 0 {
            out.put(",");
        }
        write_string(key, out);
        out.put(":");
        write_value::<SORTED, S>(value, out);
    }
    out.put("}");
}

/// Escapes only the quote, the backslash and the control characters below U+0020 (§8 rule 4).
pub fn write_string(text: &str, out: &mut impl Sink) {
    out.put("\"");
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0c => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => {
                if byte < 0x10 {
                    "\\u000"
                } else {
                    "\\u001"
                }
            }
            _ => continue,
        };
        // Every escaped byte is ASCII, so both ends of the slice lie between characters.
        out.put(&text[from..at]);
        out.put(escape);
        if escape.len() > 2 {
            out.put(hex_digit(byte));
        }
        from = at + 1;
    }
    out.put(&text[from..]);
    out.put("\"");
}

fn write_number(number: &Number, out: &mut impl Sink) {
    if let Some(n) = number.as_u64() {
        write_u64(n, out);
    } else if let Some(n) = number.as_i64() {
        write_i64(n, out);
    } else if let Some(x) = number.as_f64() {
        write_float(x, out);
    }
}

/// Decimal digits, without an allocation.
pub(crate) fn write_u64(n: u64, out: &mut impl Sink) {
    let mut digits = Digits::default();
    let _ = write!(digits, "{n}");
    out.put(digits.text());
}

fn write_i64(n: i64, out: &mut impl Sink) {
    let mut digits = Digits::default();
    let _ = write!(digits, "{n}");
    out.put(digits.text());
}

/// §8 rule 6. The digits are Rust's shortest round trip; where the point goes is decided here, because
/// printers of different ages disagree about `1e16` and `1e-5`.
fn write_float(x: f64, out: &mut impl Sink) {
    let mut digits = Digits::default();
    let _ = write!(digits, "{x:e}");
    let Some((mantissa, exponent)) = digits.text().split_once('e') else {
        // Only an infinity or a NaN has no exponent, and JSON has neither.
        return out.put("null");
    };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (lead, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    out.put(sign);
    match exponent.parse::<i32>() {
        Ok(e @ 0..=15) => write_large(lead, rest, e as usize, out),
        Ok(e @ -5..=-1) => {
            out.put("0.");
            out.put(zeros(-e as usize - 1));
            out.put(lead);
            out.put(rest);
        }
        _ => write_scientific(lead, rest, exponent, out),
    }
}

/// `lead.rest × 10^exponent` with the point moved right; an integral value ends in `.0`.
fn write_large(lead: &str, rest: &str, exponent: usize, out: &mut impl Sink) {
    let (whole, fraction) = rest.split_at(exponent.min(rest.len()));
    out.put(lead);
    out.put(whole);
    out.put(zeros(exponent - whole.len()));
    out.put(".");
    out.put(if fraction.is_empty() { "0" } else { fraction });
}

fn write_scientific(lead: &str, rest: &str, exponent: &str, out: &mut impl Sink) {
    out.put(lead);
    if !rest.is_empty() {
        out.put(".");
        out.put(rest);
    }
    out.put(if exponent.starts_with('-') { "e" } else { "e+" });
    out.put(exponent);
}

fn zeros(count: usize) -> &'static str {
    &"0000000000000000"[..count.min(16)]
}

/// Room on the stack for the longest number: `-1.7976931348623157e308` has 23 characters.
#[derive(Default)]
struct Digits {
    room: [u8; 32],
    used: usize,
}

impl Digits {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.room[..self.used]).unwrap_or_default()
    }
}

impl fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.room.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Brings the caller's JSON into its stored form, `compact(parse(raw))` (§1): own key order, the last of
/// equal keys at the place of the first, at most 127 levels.
///
/// The text is copied token by token into one buffer; only an object that repeats a key, or has very
/// many, takes the detour over a tree.
pub fn normalise(raw: &str) -> Result<Box<RawValue>, serde_json::Error> {
    let mut transcript =
        Transcript { out: String::with_capacity(raw.len()), keys: Vec::new(), needs_tree: false };
    let mut reader = serde_json::Deserializer::from_str(raw);
    Scribe(&mut transcript).deserialize(&mut reader)?;
    reader.end()?;
    if transcript.needs_tree {
        return RawValue::from_string(compact(&serde_json::from_str(raw)?));
    }
    RawValue::from_string(transcript.out)
}

/// Above this many keys, looking for an equal one in a list costs more than a tree.
const MANY_KEYS: usize = 32;

/// With its `raw_value` feature, serde_json takes an object that begins with this key for a document
/// inside a string. Such an object would be hashed as something else than it is, so it is refused.
const RESERVED_KEY: &str = "\"$serde_json::private::RawValue\"";

struct Transcript {
    out: String,
    /// Where the keys of the open objects stand in `out`, outermost object first.
    keys: Vec<(usize, usize)>,
    needs_tree: bool,
}

impl Transcript {
    fn key(&mut self, key: &str, first_of_object: usize) -> bool {
        if self.keys.len() > first_of_object {
            self.out.push(',');
        }
        let start = self.out.len();
        write_string(key, &mut self.out);
        let end = self.out.len();
        self.out.push(':');
        let written = &self.out[start..end];
        let siblings = &self.keys[first_of_object..];
        self.needs_tree = self.needs_tree
            || siblings.len() >= MANY_KEYS
            || siblings.iter().any(|&(from, to)| &self.out[from..to] == written);
        let allowed = written != RESERVED_KEY;
        self.keys.push((start, end));
        allowed
    }
}

struct Scribe<'a>(&'a mut Transcript);

impl<'de> DeserializeSeed<'de> for Scribe<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scribe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.0.out.push_str(if flag { "true" } else { "false" });
        Ok(())
    }

    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        write_u64(n, &mut self.0.out);
        Ok(())
    }

    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        write_i64(n, &mut self.0.out);
        Ok(())
    }

    fn visit_f64<E>(self, x: f64) -> Result<(), E> {
        write_float(x, &mut self.0.out);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        write_string(text, &mut self.0.out);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let open = self.0.out.len();
        loop {
            // The mark before an item is `[` or `,`; after the last item it becomes the end.
            let mark = self.0.out.len();
            self.0.out.push(if mark == open { '[' } else { ',' });
            if items.next_element_seed(Scribe(&mut *self.0))?.is_none() {
                if mark != open {
                    self.0.out.truncate(mark);
                }
                self.0.out.push(']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let first = self.0.keys.len();
        self.0.out.push('{');
        while members.next_key_seed(KeyScribe { transcript: &mut *self.0, first })?.is_some() {
            members.next_value_seed(Scribe(&mut *self.0))?;
        }
        self.0.out.push('}');
        self.0.keys.truncate(first);
        Ok(())
    }
}

struct KeyScribe<'a> {
    transcript: &'a mut Transcript,
    first: usize,
}

impl<'de> DeserializeSeed<'de> for KeyScribe<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyScribe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if self.transcript.key(key, self.first) {
            Ok(())
        } else {
            Err(E::custom("a key beginning with $serde_json::private is reserved"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn escapes_and_numbers_are_those_of_the_golden_vector() {
        let value = parse(
            "{\"s\":\"a/bé\\u2028\\u007f\\u0001\",\"w\":-0.0,\"x\":1.0,\"y\":100000000000000000000,\"z\":1E2}",
        );
        let want = "{\"s\":\"a/bé\u{2028}\u{7f}\\u0001\",\"w\":-0.0,\"x\":1.0,\"y\":1e+20,\"z\":100.0}";
        assert_eq!(canon(&value), want);
    }

    #[test]
    fn keys_are_ordered_by_code_point_and_not_by_utf16() {
        let value = parse("{\"é\":1,\"z\":2,\"𐀀\":3,\"\u{ffff}\":4}");
        assert_eq!(canon(&value), "{\"z\":2,\"é\":1,\"\u{ffff}\":4,\"𐀀\":3}");
    }

    #[test]
    fn floats_change_to_scientific_form_at_the_specified_borders() {
        for (x, text) in [
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.00001, "0.00001"),
            (0.000015, "0.000015"),
            (1e-6, "1e-6"),
            (1.25e-6, "1.25e-6"),
            (1e15, "1000000000000000.0"),
            (1234567890123456.8, "1234567890123456.8"),
            (9999999999999998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.2345678901234568e17, "1.2345678901234568e+17"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-1.5, "-1.5"),
            (-123.456, "-123.456"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (f64::from(0.9f32), "0.8999999761581421"),
        ] {
            assert_eq!(canon(&json!(x)), text);
        }
        assert_eq!(canon(&json!(0.9f32)), "0.8999999761581421");
    }

    #[test]
    fn integers_keep_every_digit() {
        let value = parse("[18446744073709551615,-9223372036854775808,0,-1]");
        assert_eq!(canon(&value), "[18446744073709551615,-9223372036854775808,0,-1]");
    }

    #[test]
    fn control_characters_have_the_short_escape_where_there_is_one() {
        let text: String = (0u8..0x20).map(char::from).collect();
        let want = "\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f\
                    \\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f\"";
        assert_eq!(canon(&Value::String(text)), want);
        assert_eq!(canon(&json!("\"\\/")), "\"\\\"\\\\/\"");
    }

    #[test]
    fn the_sandbox_job_has_the_golden_canon_and_hash() {
        let job = parse(
            r#"{"sandbox":{"provider":"docker","image_digest":"sha256:test","network_policy":"none","resources":{"memory_mb":512,"cpus":1.0,"timeout_secs":60}},"repo":{"source":"","mount_path":"/workspace"},"commands":[{"cmd":"echo hi","continue_on_fail":false}],"verification":{"mode":"objective","redundancy":1,"adjudication":"none"}}"#,
        );
        assert_eq!(
            canon(&job),
            r#"{"commands":[{"cmd":"echo hi","continue_on_fail":false}],"repo":{"mount_path":"/workspace","source":""},"sandbox":{"image_digest":"sha256:test","network_policy":"none","provider":"docker","resources":{"cpus":1.0,"memory_mb":512,"timeout_secs":60}},"verification":{"adjudication":"none","mode":"objective","redundancy":1}}"#
        );
        assert_eq!(canonical_hash(&job), "45350e7c071f6cb6ed6c8e5029f2dfd9f9e48a2debbc1f522b48d365bb6da1e9");
    }

    #[test]
    fn the_repository_index_job_has_the_golden_hash() {
        let job = json!({
            "repo_url": "https://example.com/r.git", "git_ref": "main", "expected_tree_sha256": "00",
            "index_types": ["digests"],
            "verification": {"mode": "objective", "redundancy": 1, "adjudication": "none"},
        });
        assert_eq!(canonical_hash(&job), "338628e8f29783cf25a21c6d01d628eaa39fb93db6b8c5f1990ed270a1786d23");
    }

    #[test]
    fn the_tree_has_the_golden_hash() {
        let tree = json!([
            {"path": "a.txt", "sha256": "0".repeat(64), "bytes": 1},
            {"path": "b.txt", "sha256": "1".repeat(64), "bytes": 2},
        ]);
        assert_eq!(canonical_hash(&tree), "f8a07e1648496b14c851c3f83930b74e008ed3c01ee24ec785375eb05949a9ce");
    }

    #[test]
    fn the_incident_has_the_golden_id() {
        #[derive(Serialize)]
        struct Incident {
            incident_type: &'static str,
            provider_worker_id: &'static str,
            job_hash: &'static str,
            quote_sha256: Option<&'static str>,
        }
        let hash = hash_of(&Incident {
            incident_type: "provider_quarantined",
            provider_worker_id: "desktop:w1",
            job_hash: "job1",
            quote_sha256: None,
        })
        .expect("a hash");
        assert_eq!(&hash[..16], "a23dca4d1929e415");
    }

    #[test]
    fn a_text_hash_carries_its_prefix() {
        assert_eq!(
            sha256_prefixed(r#"{"source":"runtime"}"#),
            "sha256:cf40aa17d3f50914072dc3aff5d5303a7e58348da8e2b98f7b109f45fe564a6e"
        );
    }

    #[test]
    fn the_stored_form_keeps_the_key_order_and_the_last_of_equal_keys() {
        let text =
            normalise(" { \"z\" : 1 , \"a\" : [ 1E2 , {} , [ ] ] , \"z\" : \"\\u00e9\\/\" } ").expect("JSON");
        assert_eq!(text.get(), r#"{"z":"é/","a":[100.0,{},[]]}"#);
        let text = normalise("{\"b\":{\"x\":1},\"a\":{\"x\":2}}\n").expect("JSON");
        assert_eq!(text.get(), r#"{"b":{"x":1},"a":{"x":2}}"#);
    }

    #[test]
    fn a_repeated_key_is_found_in_any_spelling_and_at_any_size() {
        assert_eq!(normalise(r#"{"\u0061":1,"b":2,"a":3}"#).expect("JSON").get(), r#"{"a":3,"b":2}"#);
        let many: Vec<String> = (0..100).map(|n| format!("\"k{n}\":{n}")).collect();
        let raw = format!("{{{},\"k0\":true}}", many.join(","));
        let text = normalise(&raw).expect("JSON");
        assert_eq!(text.get(), compact(&parse(&raw)));
        assert!(text.get().starts_with("{\"k0\":true,\"k1\":1,"));
    }

    #[test]
    fn nesting_beyond_127_levels_is_a_syntax_error() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(normalise(&deep(127)).is_ok());
        assert!(normalise(&deep(128)).is_err());
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for raw in ["", "{", "1 2", "[1,]", "nul", "1e999", "\"\u{1}\"", "{\"a\":1,}"] {
            assert!(normalise(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn a_key_that_the_parser_would_take_for_itself_is_refused() {
        assert!(normalise(r#"{"$serde_json::private::RawValue":"[1]"}"#).is_err());
        assert!(normalise(r#"{"a":1,"a":{"\u0024serde_json::private::RawValue":"[1]"}}"#).is_err());
    }

    #[test]
    fn hex_is_read_back_and_nothing_else_is() {
        assert_eq!(unhex::<2>("0aFf"), Some([0x0a, 0xff]));
        for text in ["0a", "0aFg", "+aff", "0affff"] {
            assert_eq!(unhex::<2>(text), None);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |x| x.is_finite()).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canon_is_a_fixpoint(value in any_json()) {
            let text = canon(&value);
            prop_assert_eq!(canon(&parse(&text)), text);
        }

        #[test]
        fn the_fast_copy_equals_the_tree(value in any_json()) {
            let raw = serde_json::to_string_pretty(&value).expect("JSON");
            let text = normalise(&raw).expect("JSON");
            prop_assert_eq!(text.get(), compact(&parse(&raw)));
        }

        #[test]
        fn every_float_survives_its_text(bits in any::<u64>()) {
            let x = f64::from_bits(bits);
            prop_assume!(x.is_finite());
            let back: f64 = canon(&json!(x)).parse().expect("a float");
            prop_assert_eq!(back.to_bits(), x.to_bits());
        }
    }
}
