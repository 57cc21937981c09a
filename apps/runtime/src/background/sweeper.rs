//! placeholder
use std::sync::Arc;
use crate::Runtime;
pub async fn run(_runtime: &Arc<Runtime>) { std::future::pending::<()>().await }
