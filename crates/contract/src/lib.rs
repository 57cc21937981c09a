//! What is promised: the table of routes, the shapes on the wire, the closed list of refusals, and the
//! hashes and receipts by which every step can be proved. No IO, no runtime, no HTTP, no SQL.

pub mod instant;
pub mod refusal;
pub mod wire;

pub use instant::{Clock, Ids, Timestamp};
pub use refusal::{Code, Fault, Refusal, Retry, Service, Stop};
