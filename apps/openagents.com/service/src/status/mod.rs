//! Decides what the service says of itself: whether it lives, whether it can work, what it counts, what it
//! serves; one file a route.

mod control;
mod health;
pub(crate) mod metrics;
mod openapi;
mod ready;

pub(crate) use openapi::matches;
