//! Streams of durable events, followed live (runtime-core §12).

pub mod cursor;
pub mod subscribe;
