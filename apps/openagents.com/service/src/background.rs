//! What runs by itself beside the requests of control. Each task works on the store alone and may run in every
//! process at once.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Control, identity};

/// Starts the background tasks; they end when the token is cancelled.
pub fn start(control: &Arc<Control>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (telling, stop) = (identity::tell_of_revocations(control.clone()), stop.clone());
    tasks.spawn(async move { stop.run_until_cancelled(telling).await.unwrap_or_default() });
    tasks
}
