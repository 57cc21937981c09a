//! Decides what of a worker's metadata is the worker's to say: everything but the members that the service
//! keeps itself (§14.6), which are dropped from whatever a client writes and laid over whatever is answered.

use oa_contract::{Fault, Refusal, canonical, wire::null};
use oa_store::tables::workers::{Reputation, WorkerRow};
use serde_json::{Map, Value, value::RawValue};

/// Metadata larger than this, merged and without spaces, is refused.
pub const LIMIT_BYTES: usize = 64 * 1024;

/// Members that only the service writes. `last_` and `price_integrity_` are whole families, so that no later
/// mark can have been claimed before.
pub fn is_service_owned(key: &str) -> bool {
    const PREFIXES: [&str; 4] = ["qualified", "quarantine", "last_", "price_integrity_"];
    matches!(key, "failure_strikes" | "success_count" | "tier")
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// What a client wrote, without the members that are not its own; `null` when it wrote nothing.
pub fn written(field: &str, raw: Option<&RawValue>) -> Result<Value, Refusal> {
    let Some(raw) = raw else { return Ok(Value::Null) };
    let unreadable = |error: serde_json::Error| Refusal::invalid(format!("{field} cannot be read: {error}"));
    let text = canonical::normalise(raw.get()).map_err(unreadable)?;
    let mut value = serde_json::from_str(text.get()).map_err(unreadable)?;
    if let Value::Object(members) = &mut value {
        members.retain(|key, _| !is_service_owned(key));
    }
    Ok(value)
}

/// Lays `patch` over `stored`, member by member; a member keeps its place. Nothing happens unless both are
/// objects.
pub fn merge(stored: &mut Value, patch: &Value) {
    if let (Value::Object(stored), Value::Object(patch)) = (stored, patch) {
        stored.extend(patch.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// The metadata as it is stored, if it is not too much.
pub fn sized(metadata: &Value) -> Result<Box<RawValue>, Refusal> {
    let text = canonical::compact(metadata);
    if text.len() > LIMIT_BYTES {
        let message = format!("metadata must be at most {LIMIT_BYTES} bytes, and it would be {}", text.len());
        return Err(Refusal::invalid(message));
    }
    // What the own writer wrote is JSON; were it not, nothing is kept of it.
    Ok(RawValue::from_string(text).unwrap_or_else(|_| null()))
}

/// Stored metadata, to be looked into.
pub fn read(stored: &RawValue) -> Result<Value, Fault> {
    serde_json::from_str(stored.get()).map_err(|error| Fault::new("reading stored metadata", error))
}

/// The strings of an array member; anything else in it is dropped.
pub fn strings<'a>(metadata: &'a Value, member: &str) -> impl Iterator<Item = &'a str> {
    metadata.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

pub fn is_provider(metadata: &Value) -> bool {
    strings(metadata, "roles").any(|role| role == "provider")
}

/// The metadata as it is answered: a provider's carries what the service knows of it.
pub fn overlaid(row: &WorkerRow) -> Result<Value, Fault> {
    let mut metadata = read(&row.metadata)?;
    if (is_provider(&metadata) || is_known(&row.reputation))
        && let Value::Object(members) = &mut metadata
    {
        lay_over(members, &row.reputation)?;
    }
    Ok(metadata)
}

/// As [`overlaid`], as text; what is not a provider's is not even parsed. Stored text has no escapes that it
/// does not need, so a role of this name can only be written in this way.
pub fn answered(row: &WorkerRow) -> Result<Box<RawValue>, Fault> {
    if !row.metadata.get().contains("\"provider\"") && !is_known(&row.reputation) {
        return Ok(row.metadata.clone());
    }
    RawValue::from_string(canonical::compact(&overlaid(row)?))
        .map_err(|error| Fault::new("writing metadata", error))
}

/// Whether the service has anything to say of the worker. Who was a provider once cannot hide it by giving the
/// role up.
fn is_known(known: &Reputation) -> bool {
    known.qualified_at.is_some()
        || known.quarantined_at.is_some()
        || known.failure_strikes > 0
        || known.success_count > 0
}

/// Whether what was qualified is no longer what the worker says of itself.
pub fn differs_from_qualified(before: &Value, after: &Value) -> bool {
    ["provider_base_url", "capabilities"].iter().any(|member| before.get(member) != after.get(member))
}

fn lay_over(members: &mut Map<String, Value>, known: &Reputation) -> Result<(), Fault> {
    let mut put = |key: &str, value: Value| members.insert(key.to_owned(), value);
    put("qualified", known.qualified_at.is_some().into());
    if let Some(at) = known.qualified_at {
        put("qualified_at", at.offset().into());
    }
    put("failure_strikes", known.failure_strikes.into());
    put("quarantined", known.quarantined_at.is_some().into());
    put("success_count", known.success_count.into());
    if let Some(reason) = &known.quarantine_reason {
        put("quarantine_reason", reason.as_str().into());
    }
    if let Some(at) = known.quarantined_at {
        put("quarantined_at", at.offset().into());
    }
    if let Value::Object(marks) = read(&known.marks)? {
        members.extend(marks);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn what_belongs_to_the_service_is_dropped_and_the_order_of_the_rest_stays() {
        let said = raw(
            r#"{"z":1,"qualified":true,"qualified_at":"x","quarantined":false,"quarantine_reason":"","a":2,
                "failure_strikes":0,"success_count":9,"last_violation_at":"x","price_integrity_samples":3,"tier":"preferred","m":3}"#,
        );
        let kept = written("metadata", Some(&said)).expect("kept");
        assert_eq!(canonical::compact(&kept), r#"{"z":1,"a":2,"m":3}"#);
    }

    #[test]
    fn a_patch_changes_members_in_their_place_and_appends_new_ones() {
        let mut stored = serde_json::json!({"b": 1, "a": {"x": 1}});
        merge(&mut stored, &serde_json::json!({"a": {"y": 2}, "c": 3, "b": 0}));
        assert_eq!(canonical::compact(&stored), r#"{"b":0,"a":{"y":2},"c":3}"#);
        for odd in [serde_json::json!([1]), Value::Null, serde_json::json!("text")] {
            let mut kept = stored.clone();
            merge(&mut kept, &odd);
            assert_eq!(kept, stored);
            let mut kept = odd.clone();
            merge(&mut kept, &stored);
            assert_eq!(kept, odd);
        }
    }

    #[test]
    fn metadata_ends_at_its_limit_and_at_the_depth_of_json() {
        assert!(sized(&Value::String("x".repeat(LIMIT_BYTES - 2))).is_ok());
        assert!(sized(&Value::String("x".repeat(LIMIT_BYTES - 1))).is_err());
        let deep = raw(&format!("{}{}", "[".repeat(200), "]".repeat(200)));
        assert!(
            written("metadata", Some(&deep))
                .expect_err("refused")
                .message
                .starts_with("metadata cannot be read")
        );
    }
}
