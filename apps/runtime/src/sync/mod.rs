//! Sessions that are no longer to be believed (runtime-core §23.1, control §5.8).

pub mod revoke;
