//! `GET /admin/v1/pools/:pool_id/signer_set`: the signers in force.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, matrix::PoolsSignerSet, wire::pool_signing::SignerSetReply,
};
use oa_store::{Tx, tables::pool_signing as table};

use super::SET_REPLY;
use crate::Runtime;

impl Handle<PoolsSignerSet> for Runtime {
    async fn handle(&self, ask: Ask<PoolsSignerSet>) -> Result<Answer<SignerSetReply>, Stop> {
        let get = async |tx: &mut Tx, pool_id: &String| table::signer_set(tx, pool_id).await;
        let set = self.store.read("pools.signer_set", ask.path.pool_id, get).await?;
        let signer_set = set.ok_or_else(|| Refusal::not_found("this pool has no signers"))?;
        Ok(SignerSetReply { schema: SET_REPLY.into(), signer_set, signing_request: None }.into())
    }
}
