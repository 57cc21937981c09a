//! One file per operation, at the place that its URL suggests.

mod control_status;
mod identity;
mod projectors;
mod proxied_workers;
mod runs;
mod skills;
mod streams;
