//! Decides which rows there are, one file a domain: the statements, and the types that they read and write.

pub mod codex;
pub mod comms;
pub mod drifts;
pub mod fraud;
pub mod identity;
pub mod revocations;
pub mod runs;
pub mod streams;
pub mod threads;
pub mod workers;
