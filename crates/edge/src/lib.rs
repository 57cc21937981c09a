//! The only crate that knows HTTP servers: mounts the rows of a service, authenticates, bounds, parses, answers.
//! It knows rows, not domains; it does not change when a route is added.

mod extract;
mod meters;
mod mount;
mod problem;
mod serve;
pub mod trace;

pub use meters::{Meters, install_meters};
pub use mount::{Limits, router};
pub use serve::{Drain, Peer, serve};
