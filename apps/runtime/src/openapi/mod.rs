//! The authority describes itself.

pub mod document;
