//! The control service: who may ask, what they may ask for, and where each `/api/runtime` row is answered.

mod audit;
pub mod background;
mod codex;
pub mod config;
mod control;
mod env;
mod headers;
mod hub;
pub mod identity;
mod port;
mod proxy;
pub mod runtime_ownership;
mod status;
#[cfg(test)]
mod testing;
mod threads;

pub use config::{Config, ConfigError};
pub use control::{Control, Parts};
pub use hub::Hub;
pub use proxy::runtime_client;
