//! The shapes on the wire, one file a domain. Requests are verbs, replies are nouns.

pub mod accounts;
pub mod admin;
pub mod autopilots;
pub mod budgets;
pub mod chat;
pub mod codex;
pub mod comms;
pub mod control;
pub mod credit;
pub mod fraud;
pub mod fx;
pub mod health;
pub mod hydra;
pub mod identity;
pub mod jobs;
pub mod l402;
pub mod liquidity;
pub mod marketplace;
pub mod openapi;
pub mod paths;
pub mod pool_signing;
pub mod pools;
pub mod projectors;
pub mod resolutions;
pub mod routing;
pub mod runs;
pub mod shell;
pub mod skills;
pub mod spacetime;
pub mod sync;
pub mod threads;
pub mod tools;
pub mod treasury;
pub mod verifications;
pub mod workers;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::{Map, Value, value::RawValue};

/// The JSON text `null`, for members that were omitted.
pub fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// An object or nothing. What has only optional members would be read from `[]` as well, as if that said nothing.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let members = Option::<Map<String, Value>>::deserialize(from)?;
    members.map(|members| T::deserialize(Value::Object(members)).map_err(D::Error::custom)).transpose()
}

/// The schema of what is an object or an array, or is left out.
#[derive(JsonSchema)]
#[schemars(inline, extend("type" = ["object", "array", "null"]))]
struct ObjectOrArray(#[allow(dead_code, reason = "only its schema is used")] Value);
