//! Decides which rows there are, one file a domain: the statements, and the types that they read and write.

pub mod accounts;
pub mod autopilots;
pub mod budgets;
pub mod codex;
pub mod comms;
pub mod drifts;
pub mod fraud;
pub mod identity;
pub mod l402;
pub mod ledger;
pub mod ledger_audit;
pub mod revocations;
pub mod routing;
pub mod runs;
pub mod skills;
pub mod streams;
pub mod sync_keys;
pub mod threads;
pub mod tools;
pub mod treasury;
pub mod treasury_watch;
pub mod workers;
