//! Decides nothing: renders the process's metrics, with what is known at this moment.

use oa_contract::{Answer, Ask, Handle, Stop, Streamed, matrix::RuntimeMetrics, operation::Prometheus};

use crate::Runtime;

impl Handle<RuntimeMetrics> for Runtime {
    async fn handle(&self, _: Ask<RuntimeMetrics>) -> Result<Answer<Streamed<Prometheus>>, Stop> {
        self.show_what_is_known();
        Ok(Streamed::whole((self.metrics)()).into())
    }
}
