//! The market for compute: who offers, at what price, who is chosen, and how a job gets there and back
//! (marketplace §4 to §8).

pub mod catalog_job_types;
pub mod catalog_providers;
pub mod decision;
pub mod dispatch;
pub mod dispatch_sandbox_run;
pub mod market;
pub mod place;
pub mod quote_sandbox_run;
pub mod rate;
pub mod reserve;
pub mod route_provider;
pub mod router_select;
pub mod telemetry;
pub mod telemetry_compute;

use oa_store::{Key, tables::market_dispatches::JobKey};

/// What makes dispatches of one job, and whatever follows from one, follow each other.
pub fn job_key(job: &JobKey) -> Key {
    let run = job.run_id.map(|run| run.to_string()).unwrap_or_default();
    Key::text("market_job", format!("{}/{run}/{}/{}", job.owner, job.job_hash, job.attempt))
}
