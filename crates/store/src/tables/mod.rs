<<<<<<< HEAD
//! What is kept, one file a domain: the rows, and the few statements that touch them.

pub mod comms;
pub mod drifts;
pub mod fraud;
pub mod revocations;
pub mod runs;
pub mod streams;
pub mod workers;
=======
//! Decides which rows there are, one file a domain: the statements, and the types that they read and write.

pub mod identity;
>>>>>>> control
