//! `GET /admin/v1/pools/:pool_id/signing_requests`: what waits for signatures, and what was done with them.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::PoolsSigningRequests,
    wire::pool_signing::{SigningRequestList, SigningStatus},
};
use oa_store::{
    Tx,
    tables::{pool_signing as table, pools},
};

use crate::{Runtime, pools::no_pool};

const SCHEMA: &str = "openagents.liquidity.pool_signing_request_list.v1";
const USUAL_LIMIT: u64 = 50;
const LARGEST_LIMIT: u64 = 500;

impl Handle<PoolsSigningRequests> for Runtime {
    async fn handle(&self, ask: Ask<PoolsSigningRequests>) -> Result<Answer<SigningRequestList>, Stop> {
        let limit = ask.query.limit.unwrap_or(USUAL_LIMIT).clamp(1, LARGEST_LIMIT) as u32;
        let ask = (ask.path.pool_id, ask.query.status, limit);
        Ok(self.store.read("pools.signing_requests", ask, list).await?.into())
    }
}

async fn list(
    tx: &mut Tx,
    (pool_id, status, limit): &(String, Option<SigningStatus>, u32),
) -> Result<SigningRequestList, Stop> {
    pools::pool(tx, pool_id).await?.ok_or_else(no_pool)?;
    let mut requests = Vec::new();
    for request in table::signings(tx, pool_id, *status, *limit).await? {
        requests.push(super::with_remaining(tx, request).await?);
    }
    Ok(SigningRequestList { schema: SCHEMA.into(), requests })
}
