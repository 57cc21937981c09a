//! Fraud incidents (runtime-core §16): recorded by the lanes that find them, listed for operators.

pub mod incidents;
mod record;

pub use record::{NewIncident, Recorded, incident_id, record};
