//! Decides nothing: renders the process's metrics.

use oa_contract::{Answer, Ask, Handle, Stop, Streamed, matrix::RuntimeMetrics, operation::Prometheus};

use crate::Runtime;

impl Handle<RuntimeMetrics> for Runtime {
    async fn handle(&self, _: Ask<RuntimeMetrics>) -> Result<Answer<Streamed<Prometheus>>, Stop> {
        Ok(Streamed::whole((self.metrics)()).into())
    }
}
