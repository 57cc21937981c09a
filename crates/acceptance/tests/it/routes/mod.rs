//! One file per operation, at the place that its URL suggests.

mod control_status;
mod proxied_workers;
mod projectors;
mod runs;
mod streams;
