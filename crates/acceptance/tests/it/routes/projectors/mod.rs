//! `/internal/v1/projectors/*`.

mod drift;
mod summaries;
