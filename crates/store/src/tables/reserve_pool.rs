//! Decides how it is kept which workers an operator has put into the reserve pool.

use oa_contract::{Timestamp, refusal::Stop};

use crate::{params, sealed_statement, statement, statement::Statement, transaction::Tx};

static RESERVED: Statement = sealed_statement!("market/reserved", "reserve_pool");
static ENTER: Statement = sealed_statement!("market/enter_reserve", "reserve_pool");
static LEAVE: Statement = statement!("market/leave_reserve");

/// Since when the worker is in the pool, if it is.
pub async fn since(tx: &mut Tx, worker_id: &str) -> Result<Option<Timestamp>, Stop> {
    let found = tx.one::<(String, Timestamp)>(&RESERVED, params![worker_id]).await?;
    Ok(found.map(|(_, since)| since))
}

/// Puts the worker in, or takes it out; says whether that changed anything.
pub async fn set(tx: &mut Tx, worker_id: &str, member: bool, now: Timestamp) -> Result<bool, Stop> {
    let changed = match member {
        true => tx.execute(&ENTER, params![worker_id, now]).await?,
        false => tx.execute(&LEAVE, params![worker_id]).await?,
    };
    Ok(changed == 1)
}
