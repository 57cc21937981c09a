//! `POST /admin/v1/pools/withdrawals/execute_due`: pays what is due now (§8.1). The background does the same by itself.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::PoolsExecuteDue, wire::pool_signing::DueExecuted};

use crate::Runtime;

const USUAL_LIMIT: u64 = 50;
const LARGEST_LIMIT: u64 = 5_000;

impl Handle<PoolsExecuteDue> for Runtime {
    async fn handle(&self, ask: Ask<PoolsExecuteDue>) -> Result<Answer<DueExecuted>, Stop> {
        let limit = ask.body.limit.unwrap_or(USUAL_LIMIT).clamp(1, LARGEST_LIMIT);
        Ok(self.execute_due(limit).await?.into())
    }
}
