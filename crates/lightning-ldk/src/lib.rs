//! Decides nothing itself: real LDK nodes in this process, on a chain that is simulated and says so.
//!
//! Channels, HTLCs, onions, signatures, preimages and what is on disk are real; only the chain is not. It has blocks
//! and work as regtest has, but it takes coins out of nothing and checks no script.
//!
//! One rule makes a killed node safe, and everything here serves it: **nothing leaves a node before what it promises
//! is on disk.** A node's turn ends with one commit that holds its channels, its monitors and what it knows of its
//! payments; only then are its messages handed to others. So there is no moment at which a payment is on its way and
//! unknown, or known and forgotten.
#![cfg(feature = "ldk")]

mod chain;
mod events;
mod keeper;
mod node;
mod payments;
mod regtest;
mod store;
mod wallet;
mod wire;

pub use keeper::Watch;
pub use node::Now;
pub use payments::{Asked, Invoiced, Received, Sent, State};
pub use regtest::{Channels, Failure, Place, Regtest, Settings, Wish};
pub use store::Moment;
pub use wallet::{Config, LdkWallet};
