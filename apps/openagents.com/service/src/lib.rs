//! The control service: who may ask, what they may ask for, and where each `/api/runtime` row is answered.

mod audit;
pub mod config;
mod control;
mod env;
mod headers;
pub mod identity;
mod l402;
mod port;
mod proxy;
pub mod runtime_ownership;
mod status;
#[cfg(test)]
mod testing;
pub mod tools;

pub use config::{Config, ConfigError};
pub use control::{Control, Parts};
pub use proxy::runtime_client;
