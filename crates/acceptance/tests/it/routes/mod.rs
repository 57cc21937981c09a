//! One file per operation, at the place that its URL suggests.

pub mod budgets;
mod control_status;
mod projectors;
mod proxied_workers;
mod runs;
mod streams;
