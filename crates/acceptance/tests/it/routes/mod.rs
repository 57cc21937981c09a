//! One file per operation, at the place that its URL suggests.

mod codex;
mod control_status;
mod projectors;
mod proxied_workers;
mod runs;
mod streams;
mod threads;
