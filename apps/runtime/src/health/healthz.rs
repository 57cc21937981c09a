//! Decides that a process which answers lives.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::RuntimeHealth, wire::health};

use crate::Runtime;

impl Handle<RuntimeHealth> for Runtime {
    async fn handle(&self, _: Ask<RuntimeHealth>) -> Result<Answer<health::RuntimeHealth>, Stop> {
        let mode = self.config.write_mode;
        let reply = health::RuntimeHealth {
            status: "ok".into(),
            service: self.config.service_name.clone(),
            build_sha: self.config.build_sha.clone(),
            uptime_seconds: self.now().millis_since(self.started_at) / 1_000,
            authority_write_mode: mode.name().into(),
            authority_writer_active: mode.writes_enabled(),
            db_configured: self.config.db_configured,
        };
        Ok(reply.into())
    }
}
