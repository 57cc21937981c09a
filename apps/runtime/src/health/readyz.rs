//! Decides whether the runtime can work: the store takes a write and gives it back, the background tasks come
//! round, the ledger adds up, and nothing is draining. A read-only instance is still ready, and so is one that other
//! replicas cannot wake: it looks for itself.

use std::time::Duration;

use oa_contract::{Answer, Ask, Handle, Stop, matrix::RuntimeReady, wire::health::RuntimeReadiness};

use crate::Runtime;

pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(2);
pub(super) const TASK_PATIENCE: Duration = Duration::from_secs(60);

impl Handle<RuntimeReady> for Runtime {
    async fn handle(&self, _: Ask<RuntimeReady>) -> Result<Answer<RuntimeReadiness>, Stop> {
        let now = self.now();
        let probed = self.store.probe(STORE_PATIENCE).await.map_err(|stop| stop.to_string());
        let ready = decide(
            probed,
            self.heartbeats.publisher_alive(now, TASK_PATIENCE),
            self.heartbeats.sweeper_alive(now, TASK_PATIENCE),
            self.books.trouble(),
            (self.draining)(),
            self.config.write_mode.writes_enabled(),
        );
        let reply = RuntimeReadiness { degraded: self.hub.relay_trouble(), ..ready };
        let status = if reply.status == "ready" { 200 } else { 503 };
        Ok(Answer::new(reply).with_status(status))
    }
}

fn decide(
    probed: Result<(), String>,
    publisher: bool,
    sweeper: bool,
    books: Option<String>,
    draining: bool,
    writes: bool,
) -> RuntimeReadiness {
    let sound = books.is_none();
    let reason = match (&probed, publisher, sweeper, draining) {
        (Err(why), ..) => Some(format!("the store does not answer: {why}")),
        _ if !sound => books,
        (_, false, ..) => Some("the publisher has not come round for a minute".to_owned()),
        (_, _, false, _) => Some("the worker sweeper has not come round for a minute".to_owned()),
        (.., true) => Some("the service is draining".to_owned()),
        _ => None,
    };
    RuntimeReadiness {
        status: if reason.is_none() { "ready" } else { "not_ready" }.into(),
        authority_ready: probed.is_ok() && sound && !draining,
        projector_ready: publisher,
        workers_ready: sweeper,
        authority_writer_active: writes && sound,
        reason,
        degraded: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_does_not_work_makes_it_unready_and_is_named() {
        assert_eq!(decide(Ok(()), true, true, None, false, false).status, "ready");
        for reply in [
            decide(Err("disk full".into()), true, true, None, false, true),
            decide(Ok(()), false, true, None, false, true),
            decide(Ok(()), true, false, None, false, true),
            decide(Ok(()), true, true, Some("it does not add up".into()), false, true),
            decide(Ok(()), true, true, None, true, true),
        ] {
            assert_eq!(reply.status, "not_ready");
            assert!(reply.reason.is_some());
        }
    }
}
