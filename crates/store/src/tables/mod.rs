//! Decides which rows there are, one file a domain: the statements, and the types that they read and write.

pub mod identity;
