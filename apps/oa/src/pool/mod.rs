//! Decides what can be done with `oa pool`: a provider fetches the proof of its shares and checks it offline, an operator
//! says whom the pool lends to.

pub mod lend;
pub mod prove;
pub mod verify;
