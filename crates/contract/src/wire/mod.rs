//! The shapes on the wire, one file a domain. Requests are verbs, replies are nouns.

pub mod runs;
