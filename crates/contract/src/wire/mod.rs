//! The shapes on the wire, one file a domain. Requests are verbs, replies are nouns.

pub mod admin;
pub mod budgets;
pub mod comms;
pub mod control;
pub mod fraud;
pub mod health;
pub mod identity;
pub mod openapi;
pub mod paths;
pub mod projectors;
pub mod runs;
pub mod spacetime;
pub mod workers;

use serde_json::value::RawValue;

/// The JSON text `null`, for members that were omitted.
pub fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}
