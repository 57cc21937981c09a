//! Decides who may see how streams would be delivered: whoever knows the probe's secret.

use oa_contract::{
    Answer, Ask, Code, Handle, Refusal, Stop,
    matrix::SmokeStream,
    operation::Data,
    wire::shell::{EventContract, SmokeDelivery, StreamSmoke, StreamSmokeReply},
};
use subtle::ConstantTimeEq;

use crate::Control;

const TRANSPORT: &str = "spacetime_ws";
const TOPIC: &str = "runtime.codex_worker_events";

impl Handle<SmokeStream> for Control {
    async fn handle(&self, ask: Ask<SmokeStream>) -> Result<Answer<StreamSmokeReply>, Stop> {
        let secret = self.config.shell.smoke_secret.as_ref().map(|secret| secret.reveal().as_bytes());
        let given = ask.meta.header("x-oa-smoke-secret").map(str::as_bytes);
        let known = secret.zip(given).is_some_and(|(secret, given)| secret.ct_eq(given).into());
        if !known {
            return Err(Refusal::new(Code::Unauthorized, "Unauthenticated.").into());
        }
        Ok(Answer::new(Data { data: smoke() })
            .with_header("x-oa-smoke", "1")
            .with_header("cache-control", "no-store"))
    }
}

fn smoke() -> StreamSmoke {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    StreamSmoke {
        status: "ok".into(),
        stream_protocol: TRANSPORT.into(),
        delivery: SmokeDelivery {
            transport: TRANSPORT.into(),
            topic: TOPIC.into(),
            scope: TOPIC.into(),
            sync_token_route: "/api/spacetime/token".into(),
            sse_enabled: false,
        },
        event_contract: EventContract {
            chat: names(&["turn.start", "turn.finish", "turn.error", "turn.tool"]),
            worker: names(&["worker.event", "worker.response", "worker.stopped"]),
        },
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn only_the_secret_opens_and_without_one_nothing_does() {
        let world = World::with_runtime(&[("OA_SMOKE_SECRET", "secret")]).await;
        let ask = async |world: &World, secret| {
            world.ask_with::<SmokeStream>(Nothing {}, &[("x-oa-smoke-secret", secret)]).await.is_ok()
        };
        assert!(ask(&world, "secret").await);
        assert!(!ask(&world, "secre").await && !ask(&world, "").await);
        assert!(world.ask::<SmokeStream>(Nothing {}).await.is_err());
        assert!(!ask(&World::new().await, "").await);
    }

    #[test]
    fn the_body_is_the_specified_one() {
        assert_eq!(
            serde_json::to_string(&Data { data: smoke() }).expect("json"),
            r#"{"data":{"status":"ok","stream_protocol":"spacetime_ws","delivery":{"transport":"spacetime_ws","topic":"runtime.codex_worker_events","scope":"runtime.codex_worker_events","syncTokenRoute":"/api/spacetime/token","sseEnabled":false},"event_contract":{"chat":["turn.start","turn.finish","turn.error","turn.tool"],"worker":["worker.event","worker.response","worker.stopped"]}}}"#
        );
    }
}
