//! `POST /admin/v1/pools/:pool_id/signer_set`: says who signs for a pool (§8.2). The first set is taken as it is given;
//! strictly, another one has to be approved by those who sign now (§17.1).

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::PoolsPutSignerSet,
    wire::pool_signing::{SignerSet, SignerSetReply},
};
use oa_store::{
    Tx,
    tables::{pool_signing as table, pools},
};
use serde_json::json;

use super::{
    SET_REPLY,
    policy::{self, SIGNER_SET_CHANGE},
    requests::{self, Wanted},
};
use crate::{
    Runtime,
    pools::{key, no_pool},
};

pub const CHANGE: &str = "openagents.liquidity.pool.signer_set_change_action.v1";

impl Handle<PoolsPutSignerSet> for Runtime {
    async fn handle(&self, ask: Ask<PoolsPutSignerSet>) -> Result<Answer<SignerSetReply>, Stop> {
        let (pool_id, now) = (ask.path.pool_id, self.now());
        let exists = async |tx: &mut Tx, pool_id: &String| pools::pool(tx, pool_id).await;
        // An unknown pool is told before anything is said about the set.
        self.store.read("pools.find", pool_id.clone(), exists).await?.ok_or_else(no_pool)?;
        let set = policy::read(&pool_id, ask.body, now)?;
        let request_id = format!("sigreq_{}", self.ids.uuid_v7(now));
        let ask = (set, request_id, !self.believes_callers());
        Ok(self.store.write("pools.put_signer_set", key(&pool_id), ask, put).await?.into())
    }
}

async fn put(
    tx: &mut Tx,
    (set, request_id, strict): &(SignerSet, String, bool),
) -> Result<SignerSetReply, Stop> {
    let known = table::signer_set(tx, &set.pool_id).await?;
    let reply = |signer_set, signing_request| SignerSetReply {
        schema: SET_REPLY.into(),
        signer_set,
        signing_request,
    };
    match known {
        Some(known) if known.canonical_json_sha256 == set.canonical_json_sha256 => Ok(reply(known, None)),
        Some(known) if *strict => {
            let (request, _) = requests::create_or_get(tx, &change(&known, set, request_id)).await?;
            Ok(reply(known, Some(super::with_remaining(tx, request).await?)))
        }
        known => {
            let created_at = known.map_or(set.created_at, |known| known.created_at);
            let set = SignerSet { created_at, ..set.clone() };
            table::put_signer_set(tx, &set).await?;
            Ok(reply(set, None))
        }
    }
}

/// What the signers in force are asked. The key names both sets: changing back and forth is asked each time.
fn change(known: &SignerSet, set: &SignerSet, request_id: &str) -> Wanted {
    let now: Timestamp = set.updated_at;
    Wanted {
        pool_id: set.pool_id.clone(),
        class: SIGNER_SET_CHANGE,
        key: format!(
            "{}:{}:{}",
            known.canonical_json_sha256,
            known.updated_at.micros(),
            set.canonical_json_sha256
        ),
        payload: json!({
            "schema": CHANGE, "pool_id": set.pool_id, "action_class": SIGNER_SET_CHANGE,
            "replaces_sha256": known.canonical_json_sha256, "signer_set_sha256": set.canonical_json_sha256,
            "threshold": set.threshold, "signers": set.signers, "policy": set.policy,
        }),
        sats: None,
        request_id: request_id.to_owned(),
        now,
    }
}
