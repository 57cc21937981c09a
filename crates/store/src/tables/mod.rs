//! Decides which rows there are, one file a domain: the statements, and the types that they read and write.

pub mod budgets;
pub mod comms;
pub mod drifts;
pub mod fraud;
pub mod identity;
pub mod ledger;
pub mod ledger_audit;
pub mod revocations;
pub mod runs;
pub mod streams;
pub mod workers;
