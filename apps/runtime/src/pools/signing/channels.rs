//! `POST /admin/v1/pools/:pool_id/treasury/open_channel` and `…/close_channel`: asks the signers (§8).

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::{PoolsCloseChannel, PoolsOpenChannel},
    wire::pool_signing::SigningRequestReply,
};
use oa_store::{Tx, tables::pools};
use serde_json::json;

use super::{
    policy::{CLOSE_CHANNEL, OPEN_CHANNEL},
    requests::{self, Wanted},
};
use crate::{
    Runtime,
    pools::{key, name, no_pool, schema},
};

const OPEN: &str = "openagents.liquidity.pool_treasury.open_channel_request.v1";
const CLOSE: &str = "openagents.liquidity.pool_treasury.close_channel_request.v1";

impl Handle<PoolsOpenChannel> for Runtime {
    async fn handle(&self, ask: Ask<PoolsOpenChannel>) -> Result<Answer<SigningRequestReply>, Stop> {
        let (pool_id, body) = (ask.path.pool_id, ask.body);
        schema(&body.schema, OPEN)?;
        let idempotency_key = name(&body.idempotency_key, "idempotency_key")?;
        let peer_id = name(&body.peer_id, "peer_id")?;
        match body.amount_sats {
            0 => return Err(Refusal::invalid("amount_sats must be > 0").into()),
            sats if i64::try_from(sats).is_err() => {
                return Err(Refusal::invalid("amount_sats too large").into());
            }
            _ => {}
        }
        let payload = json!({
            "schema": OPEN, "pool_id": pool_id, "action_class": OPEN_CHANNEL,
            "idempotency_key": idempotency_key, "peer_id": peer_id, "amount_sats": body.amount_sats,
        });
        self.ask_signers(pool_id, OPEN_CHANNEL, idempotency_key, payload, Some(body.amount_sats)).await
    }
}

impl Handle<PoolsCloseChannel> for Runtime {
    async fn handle(&self, ask: Ask<PoolsCloseChannel>) -> Result<Answer<SigningRequestReply>, Stop> {
        let (pool_id, body) = (ask.path.pool_id, ask.body);
        schema(&body.schema, CLOSE)?;
        let idempotency_key = name(&body.idempotency_key, "idempotency_key")?;
        let channel_id = name(&body.channel_id, "channel_id")?;
        let payload = json!({
            "schema": CLOSE, "pool_id": pool_id, "action_class": CLOSE_CHANNEL,
            "idempotency_key": idempotency_key, "channel_id": channel_id,
        });
        self.ask_signers(pool_id, CLOSE_CHANNEL, idempotency_key, payload, None).await
    }
}

impl Runtime {
    async fn ask_signers(
        &self,
        pool_id: String,
        class: &'static str,
        idempotency_key: String,
        payload: serde_json::Value,
        sats: Option<u64>,
    ) -> Result<Answer<SigningRequestReply>, Stop> {
        let now = self.now();
        let request_id = format!("sigreq_{}", self.ids.uuid_v7(now));
        let wanted = Wanted { pool_id, class, key: idempotency_key, payload, sats, request_id, now };
        let keys = key(&wanted.pool_id);
        Ok(self.store.write("pools.ask_signers", keys, wanted, create).await?.into())
    }
}

async fn create(tx: &mut Tx, wanted: &Wanted) -> Result<SigningRequestReply, Stop> {
    pools::pool(tx, &wanted.pool_id).await?.ok_or_else(no_pool)?;
    let (request, _) = requests::create_or_get(tx, wanted).await?;
    super::shown(tx, request).await
}
