//! Decides whether control can work: the store takes a write and gives it back, nothing is draining, and a named
//! static directory is there. The runtime is reported, not required: everything else works without it.

use std::time::Duration;

use oa_contract::{Answer, Ask, Handle, Stop, matrix::ControlReady, wire::health::ControlReadiness};

use crate::{Control, identity::sync_tokens_ready};

const PROBE: Duration = Duration::from_secs(1);

// Decision: the specification asks for the static directory always. This service has no static files unless
// an operator names a directory of them, so `ready` requires the directory only then; the member stays.
const DEFAULT_STATIC_DIR: &str = "./static";

impl Handle<ControlReady> for Control {
    async fn handle(&self, _: Ask<ControlReady>) -> Result<Answer<ControlReadiness>, Stop> {
        let named = self.config.static_dir.as_deref();
        let missing_dir = match named {
            None => None,
            Some(dir) => (!tokio::fs::metadata(dir).await.is_ok_and(|found| found.is_dir())).then_some(dir),
        };
        let store = self.store.probe(PROBE).await;
        if let Err(stop) = &store {
            tracing::warn!(%stop, "the store did not pass its probe");
        }
        let reason = decide((self.draining)(), store.is_ok(), missing_dir);
        let ready = reason.is_none();
        let body = ControlReadiness {
            status: if ready { "ready" } else { "not_ready" }.into(),
            static_dir: named.unwrap_or(DEFAULT_STATIC_DIR).into(),
            store_ready: store.is_ok(),
            sync_tokens_ready: sync_tokens_ready(&self.config.accounts.sync),
            runtime_configured: self.runtime.is_some(),
            reason,
        };
        Ok(Answer::new(body).with_status(if ready { 200 } else { 503 }))
    }
}

/// What stands in the way, if anything does.
fn decide(draining: bool, store_ready: bool, missing_dir: Option<&str>) -> Option<String> {
    match (draining, store_ready, missing_dir) {
        (true, ..) => Some("the process is about to end".into()),
        (_, false, _) => Some("the store does not take a write and give it back; the log says why".into()),
        (.., Some(dir)) => Some(format!("OA_CONTROL_STATIC_DIR names {dir}, which is not a directory")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::World;

    #[test]
    fn draining_is_said_before_anything_else() {
        assert!(decide(true, false, None).expect("a reason").contains("about to end"));
        assert!(decide(false, false, Some("x")).expect("a reason").contains("store"));
        assert!(decide(false, true, Some("x")).expect("a reason").contains('x'));
        assert_eq!(decide(false, true, None), None);
    }

    #[tokio::test]
    async fn a_working_store_is_ready_without_a_static_directory_or_a_runtime() {
        let world = World::new().await;
        let answer = world.ask::<ControlReady>(Nothing {}).await.expect("answered");
        assert_eq!(answer.status, Some(200));
        assert!(answer.body.store_ready && !answer.body.runtime_configured);
        assert_eq!(answer.body.static_dir, "./static");
    }

    #[tokio::test]
    async fn a_closed_store_is_not_ready() {
        let world = World::new().await;
        world.control.store.close().await;
        let answer = world.ask::<ControlReady>(Nothing {}).await.expect("answered");
        assert_eq!((answer.status, answer.body.status.as_str()), (Some(503), "not_ready"));
    }
}
