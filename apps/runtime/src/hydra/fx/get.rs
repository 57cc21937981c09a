//! `GET /internal/v1/hydra/fx/rfq/:rfq_id`: one request for quotes and where it stands (credit-fx §9.2).

use oa_contract::{Answer, Ask, Caller, Handle, Stop, matrix::HydraFxGet, wire::fx::RfqReply};
use oa_store::{Tx, tables::fx::RfqRow};

use super::{named, own, shown, unix};
use crate::Runtime;

impl Handle<HydraFxGet> for Runtime {
    async fn handle(&self, ask: Ask<HydraFxGet>) -> Result<Answer<RfqReply>, Stop> {
        let rfq_id = named("rfq_id", &ask.path.rfq_id)?;
        let row = self.store.read("fx.get", (rfq_id, ask.caller), look).await?;
        Ok(shown(&row, unix(self.now())).into())
    }
}

async fn look(tx: &mut Tx, (rfq_id, caller): &(String, Caller)) -> Result<RfqRow, Stop> {
    own(tx, rfq_id, caller).await
}
