//! Sync tokens (control §7): who gets one, how it is signed, and which keys prove it.

mod jwt;
mod keys;
mod signing;
mod token;

pub(crate) use signing::forget_keys;
