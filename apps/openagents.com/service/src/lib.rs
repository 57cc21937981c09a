//! The control service: who may ask, what they may ask for, and where each `/api/runtime` row is answered.

mod audit;
pub mod background;
pub mod config;
mod control;
mod env;
mod forwarded;
mod headers;
pub mod identity;
mod port;
mod proxy;
pub mod runtime_ownership;
mod skills;
mod status;
#[cfg(test)]
mod testing;

pub use config::{Config, ConfigError};
pub use control::{Control, Parts};
pub use proxy::runtime_client;
