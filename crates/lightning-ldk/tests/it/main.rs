//! Proof over real nodes, channels and files.
#![cfg(feature = "ldk")]

mod killed;
mod payments;
mod wallet;
mod world;
