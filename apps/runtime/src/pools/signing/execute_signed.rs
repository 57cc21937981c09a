//! `POST /admin/v1/pools/:pool_id/signing_requests/:request_id/execute`: does what enough signers have approved (§8.3).

use oa_contract::{
    Answer, Ask, Handle, Stop, matrix::PoolsExecuteSigned, wire::pool_signing::SigningExecuted,
};

use crate::Runtime;

const REPLY: &str = "openagents.liquidity.pool_signing_request_execute_response.v1";

impl Handle<PoolsExecuteSigned> for Runtime {
    async fn handle(&self, ask: Ask<PoolsExecuteSigned>) -> Result<Answer<SigningExecuted>, Stop> {
        let (request, receipt) = self.act(&ask.path.pool_id, &ask.path.request_id).await?;
        Ok(SigningExecuted { schema: REPLY.into(), request, receipt }.into())
    }
}
