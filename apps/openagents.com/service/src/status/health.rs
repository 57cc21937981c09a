//! Decides that the process lives; it asks nothing of anybody, so it never fails.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::ControlHealth, wire::health};

use crate::{Control, control::SERVICE_NAME};

impl Handle<ControlHealth> for Control {
    async fn handle(&self, _: Ask<ControlHealth>) -> Result<Answer<health::ControlHealth>, Stop> {
        let health = health::ControlHealth {
            status: "ok".into(),
            service: SERVICE_NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.clock.now().millis_since(self.started_at).max(0) / 1_000,
            auth_provider: self.provider.name().into(),
        };
        Ok(health.into())
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn the_uptime_counts_whole_seconds() {
        let world = World::new().await;
        world.clock.advance_millis(12_999);
        let health = world.ask::<ControlHealth>(Nothing {}).await.expect("alive").body;
        assert_eq!((health.uptime_seconds, health.auth_provider.as_str()), (12, "mock"));
    }
}
