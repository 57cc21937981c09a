//! Decides how counters leave the process: as whoever renders them writes them, with what is known at this moment.

use metrics::gauge;
use oa_contract::{
    Answer, Ask, Handle, Stop, Streamed, Timestamp, matrix::ControlMetrics, operation::Prometheus,
};
use oa_store::{Health, Tx, tables::watch};

use crate::Control;

impl Handle<ControlMetrics> for Control {
    async fn handle(&self, _: Ask<ControlMetrics>) -> Result<Answer<Streamed<Prometheus>>, Stop> {
        let writable = self.store.health() == Health::Ready;
        gauge!("oa_ready", "service" => "control").set(truth(writable && !(self.draining)()));
        gauge!("oa_store_writable", "service" => "control").set(truth(writable));
        Ok(Streamed::whole((self.metrics)()).into())
    }
}

/// Reads which payments of tool calls are open, for the next renderings.
pub(crate) async fn look_at_the_store(control: &Control) {
    let open = async |tx: &mut Tx, (): &()| watch::open_tool_payments(tx).await;
    match control.store.read("watch.look", (), open).await {
        Ok(open) => {
            let age = |since: Timestamp| control.clock.now().millis_since(since).max(0) as f64 / 1_000.0;
            gauge!("oa_tool_payments_open").set(open.count as f64);
            gauge!("oa_tool_payments_oldest_open_seconds").set(open.oldest.map_or(0.0, age));
        }
        Err(stop) => tracing::warn!(error = %stop, "open payments could not be counted; tried again"),
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
