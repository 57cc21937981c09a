//! What is promised: the table of routes, the shapes on the wire, the closed list of refusals, and the
//! hashes and receipts by which every step can be proved. No IO, no runtime, no HTTP, no SQL.

pub mod amount;
pub mod caller;
pub mod credential;
pub mod current;
pub mod instant;
pub mod matrix;
pub mod openapi;
pub mod operation;
pub mod port;
pub mod provider_token;
pub mod receipt;
pub mod refusal;
pub mod sunset;
pub mod wire;

pub mod bridge;
pub mod bundle;
pub mod canonical;
pub mod chain;
pub mod export;
#[cfg(test)]
mod golden;
pub mod pool_proof;
pub mod projection;
pub mod replay;
pub mod signer;
pub mod sum_tree;
pub mod transition;

pub use amount::{Amount, Asset, Msats};
pub use caller::{Caller, Credential, Owner, User};
pub use instant::{Clock, Ids, Timestamp};
pub use operation::{
    Answer, Ask, Class, Content, Handle, Lane, Meta, Method, Mount, Nothing, Operation, Reply, Row, Streamed,
};
pub use port::{Arriving, Barred, Port, Presented};
pub use refusal::{Code, Fault, Refusal, Retry, Service, Stop};
