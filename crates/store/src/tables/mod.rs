//! What is kept, one file a domain: the rows, and the few statements that touch them.

pub mod comms;
pub mod drifts;
pub mod fraud;
pub mod revocations;
pub mod runs;
pub mod streams;
pub mod workers;
