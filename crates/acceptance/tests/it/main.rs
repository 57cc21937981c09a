//! One binary for all acceptance tests, so that they are linked once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod contract;
mod routes;
mod scenarios;
