//! The control service: who may ask, what they may ask for, and where each `/api/runtime` row is answered.

mod audit;
mod autopilots;
pub mod background;
mod chat;
mod codex;
pub mod config;
mod control;
mod env;
mod forwarded;
mod gates;
mod headers;
mod hub;
pub mod identity;
mod l402;
mod port;
mod proxy;
mod route_split;
pub mod runtime_ownership;
mod runtime_routing;
mod shell;
mod skills;
mod status;
#[cfg(test)]
mod testing;
mod threads;
pub mod tools;

pub use config::{Config, ConfigError};
pub use control::{Control, Parts};
pub use hub::Hub;
pub use proxy::runtime_client;
