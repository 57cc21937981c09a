//! Decides how it is read how things stand, for whoever watches from outside: counts that end at a bound, and the
//! oldest of what waits. Nothing here reads more than so many rows, however much there is.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
    wire::pools::PartitionKind,
};

use crate::{params, row::FromRow, statement, statement::Statement, transaction::Tx, value::Value};

static OUTBOX: Statement = statement!("watch/outbox");
static PAYMENTS: Statement = statement!("watch/payments");
static TOOL_PAYMENTS: Statement = statement!("watch/tool_payments");
static WITHDRAWALS: Statement = statement!("watch/withdrawals");
static FINDINGS: Statement = statement!("watch/findings");
static SNAPSHOT: Statement = statement!("watch/snapshot");

/// How many there are, up to a bound, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub count: u64,
    pub oldest: Option<Timestamp>,
}

/// What the publisher has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    pub waiting: Waiting,
    /// Given up.
    pub dead: u64,
}

pub async fn outbox(tx: &mut Tx) -> Result<Outbox, Stop> {
    let (count, oldest, dead) = only::<(u64, Option<Timestamp>, u64)>(tx, &OUTBOX, &[]).await?;
    Ok(Outbox { waiting: Waiting { count, oldest }, dead })
}

/// Payments that have begun and of which nobody knows how they ended.
pub async fn open_payments(tx: &mut Tx) -> Result<Waiting, Stop> {
    waiting(tx, &PAYMENTS, &[]).await
}

/// The same of control's tool calls.
pub async fn open_tool_payments(tx: &mut Tx) -> Result<Waiting, Stop> {
    waiting(tx, &TOOL_PAYMENTS, &[]).await
}

/// Withdrawals that the queue has to pay and whose day has come.
pub async fn overdue_withdrawals(tx: &mut Tx, now: Timestamp) -> Result<Waiting, Stop> {
    waiting(tx, &WITHDRAWALS, params![now]).await
}

/// What was found to differ between settlements, the ledger and the runs.
pub async fn findings(tx: &mut Tx) -> Result<u64, Stop> {
    Ok(only::<(u64,)>(tx, &FINDINGS, &[]).await?.0)
}

/// When a pool was last snapshot, or else when it was opened; nothing when there is no such pool.
pub async fn snapshot(tx: &mut Tx, pool_id: &str) -> Result<Option<Timestamp>, Stop> {
    let params = params![pool_id, PartitionKind::Llp.name()];
    let found = tx.one::<(Timestamp, Option<Timestamp>)>(&SNAPSHOT, params).await?;
    Ok(found.map(|(opened, snapshot)| snapshot.unwrap_or(opened)))
}

async fn waiting(tx: &mut Tx, statement: &'static Statement, params: &[Value<'_>]) -> Result<Waiting, Stop> {
    let (count, oldest) = only::<(u64, Option<Timestamp>)>(tx, statement, params).await?;
    Ok(Waiting { count, oldest })
}

async fn only<T: FromRow>(
    tx: &mut Tx,
    statement: &'static Statement,
    params: &[Value<'_>],
) -> Result<T, Stop> {
    let row = tx.one(statement, params).await?;
    row.ok_or_else(|| Fault::msg(format!("`{}` gave no row", statement.name())).into())
}
