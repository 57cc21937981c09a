//! SIMULATIONS of services that tests must not need. Each says so in its name.

mod responses_api;

pub use responses_api::{SimulatedAnswer, SimulatedResponses};
