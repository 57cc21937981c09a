//! `POST /internal/v1/pools/:pool_id/admin/create`: opens a pool, or gives the one that stands (§5.1).

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::PoolsCreate,
    wire::pools::{CreatePool, Pool, PoolReply},
};
use oa_store::{Tx, tables::pools as table};

use super::{key, name, pool_name, schema};
use crate::Runtime;

const SCHEMA: &str = "openagents.liquidity.pool.create_request.v1";
const REPLY: &str = "openagents.liquidity.pool.create_response.v1";
/// A configuration is kept verbatim, and not without end.
const LONGEST_CONFIG: usize = 64 * 1024;

impl Handle<PoolsCreate> for Runtime {
    async fn handle(&self, ask: Ask<PoolsCreate>) -> Result<Answer<PoolReply>, Stop> {
        let wanted = read(&ask.path.pool_id, ask.body, self.now())?;
        let pool = self.store.write("pools.create", key(&wanted.pool_id), wanted, create).await?;
        Ok(PoolReply { schema: REPLY.into(), pool }.into())
    }
}

async fn create(tx: &mut Tx, wanted: &Pool) -> Result<Pool, Stop> {
    match table::pool(tx, &wanted.pool_id).await? {
        Some(known) => Ok(decide(wanted, known)?),
        None => {
            table::insert_pool(tx, wanted).await?;
            Ok(wanted.clone())
        }
    }
}

/// Status and configuration of a pool that stands are not looked at: they are not changed here.
fn decide(wanted: &Pool, known: Pool) -> Result<Pool, Refusal> {
    match known.pool_kind == wanted.pool_kind && known.operator_id == wanted.operator_id {
        true => Ok(known),
        false => Err(Refusal::conflict("pool_id reused with different pool metadata")),
    }
}

fn read(pool_id: &str, body: CreatePool, now: oa_contract::Timestamp) -> Result<Pool, Refusal> {
    schema(&body.schema, SCHEMA)?;
    let operator_id = name(&body.operator_id, "operator_id")?;
    let pool_id = pool_name(pool_id)?;
    if body.config.get().len() > LONGEST_CONFIG {
        return Err(Refusal::invalid(format!("config must be at most {LONGEST_CONFIG} bytes")));
    }
    Ok(Pool {
        pool_id,
        pool_kind: body.pool_kind.unwrap_or_default(),
        operator_id,
        status: body.status.unwrap_or_default(),
        config: body.config,
        created_at: now,
    })
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::pools::{PoolKind, PoolStatus};

    use super::*;

    fn pool(operator_id: &str) -> Pool {
        Pool {
            pool_id: "p".into(),
            pool_kind: PoolKind::Llp,
            operator_id: operator_id.into(),
            status: PoolStatus::Active,
            config: oa_contract::wire::null(),
            created_at: oa_contract::Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_pool_belongs_to_the_operator_who_opened_it() {
        let paused = Pool { status: PoolStatus::Paused, ..pool("a") };
        assert_eq!(decide(&pool("a"), paused).map(|pool| pool.status), Ok(PoolStatus::Paused));
        let refused = decide(&pool("b"), pool("a")).expect_err("refused");
        assert_eq!(refused.message, "pool_id reused with different pool metadata");
    }
}
