//! Verifications: whether an answer fits what was asked, and itself (marketplace §13).

pub mod repo_index;
pub mod sandbox_run;
