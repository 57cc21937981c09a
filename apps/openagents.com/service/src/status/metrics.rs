//! Decides how counters leave the process: as whoever renders them writes them.

use oa_contract::{Answer, Ask, Handle, Stop, Streamed, matrix::ControlMetrics, operation::Prometheus};

use crate::Control;

impl Handle<ControlMetrics> for Control {
    async fn handle(&self, _: Ask<ControlMetrics>) -> Result<Answer<Streamed<Prometheus>>, Stop> {
        Ok(Streamed::whole((self.metrics)()).into())
    }
}
