//! What is known about delivery (runtime-core §12).

pub mod sync_metrics;
