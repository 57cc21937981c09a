//! What message providers say about deliveries (runtime-core §15).

pub mod delivery_events;
