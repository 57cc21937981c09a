//! Decides what a provider of a pool can do with `oa pool`: fetch the proof of its shares, and check it offline.

pub mod prove;
pub mod verify;
