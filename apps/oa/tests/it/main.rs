//! The binary as a person uses it: real processes, real signals, real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod alerts;
mod backup;
mod codex;
mod conformance;
mod demo;
mod exec;
mod job;
mod kill;
mod kill_settlements;
#[cfg(feature = "ldk")]
mod ldk;
mod logs;
#[cfg(feature = "otlp")]
mod otlp;
mod payments;
mod provider;
mod scale;
mod seller;
mod server;
mod skills;
mod up;
