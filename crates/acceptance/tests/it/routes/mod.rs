//! One file per operation, at the place that its URL suggests.

mod autopilots;
pub mod budgets;
mod chat;
mod codex;
mod control_status;
mod credit;
mod gates;
mod hydra;
mod identity;
pub mod liquidity;
pub mod marketplace;
mod pools;
mod projectors;
mod proxied_workers;
mod route_split;
pub mod runs;
mod runtime_routing;
mod shell;
mod skills;
mod streams;
mod threads;
mod tools;
pub mod treasury;
mod verifications;
