//! The runtime service: the authority for `/internal/v1/*`. One folder per first path word, one file per
//! operation. It knows neither HTTP servers nor SQL text nor the control service.

pub mod audit;
pub mod auth;
pub mod background;
pub mod bridge;
pub mod budgets;
pub mod comms;
pub mod config;
pub mod credit;
pub mod fraud;
pub mod health;
pub mod hub;
pub mod hydra;
pub mod liquidity;
pub mod marketplace;
pub mod openapi;
pub mod pools;
pub mod projectors;
pub mod route_ownership;
pub mod runs;
pub mod runtime;
pub mod spacetime;
pub mod streams;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub mod treasury;
pub mod verifications;
pub mod workers;

pub use config::{AuthMode, Config, ConfigError, TrustMode, WriteMode};
pub use runtime::{Parts, Runtime};
