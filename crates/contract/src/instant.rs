//! Decides what a moment is: a UTC instant, cut to microseconds when it is taken, written in the two
//! forms of runtime-core §1. Clocks and id sources enter through the traits here, so a test can own them.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// Nanoseconds since 1970 (UTC). Stored and taken in whole microseconds; finer digits only appear when a
/// document from elsewhere (a golden vector, an import) carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);

    pub const fn from_micros(micros: i64) -> Self {
        Timestamp(micros.saturating_mul(1_000))
    }

    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(1_000_000_000))
    }

    /// Every digit that there is, for hashes.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    pub const fn micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    pub const fn plus_millis(self, millis: i64) -> Self {
        Timestamp(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }

    pub const fn plus_seconds(self, seconds: i64) -> Self {
        self.plus_millis(seconds.saturating_mul(1_000))
    }

    /// Milliseconds from `earlier` to this; negative when this is the earlier one.
    pub const fn millis_since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(1_000_000)
    }

    /// Reads RFC 3339 with any offset.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos()).ok().map(Timestamp)
    }

    /// Writes the moment with the given zone suffix and 0, 3, 6 or 9 digits of fraction: the shortest
    /// group that is exact.
    fn write(self, out: &mut impl fmt::Write, suffix: &str) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).map_err(|_| fmt::Error)?;
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second, nanos) = moment.to_hms_nano();
        write!(out, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))?;
        match nanos {
            0 => {}
            n if n % 1_000_000 == 0 => write!(out, ".{:03}", n / 1_000_000)?,
            n if n % 1_000 == 0 => write!(out, ".{:06}", n / 1_000)?,
            n => write!(out, ".{n:09}")?,
        }
        out.write_str(suffix)
    }

    /// `2026-02-01T00:00:00.250Z`: the form of JSON bodies.
    pub fn zulu(self) -> String {
        let mut text = String::with_capacity(30);
        let _ = self.write(&mut text, "Z");
        text
    }

    /// `2026-02-01T00:00:00.250+00:00`: the form of receipts, replays and hash preimages.
    pub fn offset(self) -> String {
        let mut text = String::with_capacity(35);
        let _ = self.write(&mut text, "+00:00");
        text
    }

    /// `2026-02-01T00:00:00.250Z` with exactly three digits, the control service's `ts_ms`.
    pub fn zulu_millis(self) -> String {
        let whole = self.zulu_seconds();
        format!("{}.{:03}Z", whole.trim_end_matches('Z'), self.millis().rem_euclid(1_000))
    }

    /// `2026-02-01T00:00:00Z`: whole seconds, the control service's `ts_sec`.
    pub fn zulu_seconds(self) -> String {
        Timestamp::from_unix_seconds(self.unix_seconds()).zulu()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not an RFC 3339 timestamp")))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// Where identifiers and secrets come from.
pub trait Ids: Send + Sync + 'static {
    /// A UUIDv7 for something that begins at `now`.
    fn uuid_v7(&self, now: Timestamp) -> Uuid;
    /// 128 random bits as 32 lower-case hex digits (`uuid32` of the control spec §4).
    fn uuid32(&self) -> String;
    /// 256 random bits, for secrets.
    fn secret(&self) -> [u8; 32];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_has_the_shortest_exact_group_of_digits() {
        for text in [
            "2026-02-01T00:00:00Z",
            "2026-02-01T00:00:00.250Z",
            "2026-02-01T00:00:00.000001Z",
            "2026-02-01T00:00:02.123456789Z",
        ] {
            let moment = Timestamp::parse(text).expect("a timestamp");
            assert_eq!(moment.zulu(), text);
            assert_eq!(moment.offset(), text.replace('Z', "+00:00"));
        }
    }

    #[test]
    fn milliseconds_always_have_three_digits() {
        for (text, wanted) in [
            ("2026-02-01T00:00:00Z", "2026-02-01T00:00:00.000Z"),
            ("2026-02-01T00:00:02.054070Z", "2026-02-01T00:00:02.054Z"),
        ] {
            assert_eq!(Timestamp::parse(text).expect("a timestamp").zulu_millis(), wanted);
        }
    }

    #[test]
    fn other_offsets_are_read_as_utc() {
        let moment = Timestamp::parse("2026-02-01T02:00:00+02:00").expect("a timestamp");
        assert_eq!(moment.zulu(), "2026-02-01T00:00:00Z");
        assert_eq!(Timestamp::parse("yesterday"), None);
        // Beyond what a moment holds, with an offset that leads past the last year of the calendar.
        assert_eq!(Timestamp::parse("9999-12-31T23:59:59-01:00"), None);
    }
}
