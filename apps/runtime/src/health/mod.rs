//! Whether the runtime lives, whether it can work, and how it is doing (runtime-core §6).

pub mod gauges;
pub mod healthz;
pub mod metrics;
pub mod readyz;
