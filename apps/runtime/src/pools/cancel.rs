//! `POST /admin/v1/pools/:pool_id/withdrawals/:withdrawal_id/cancel`: a withdrawal that still waits is taken back
//! (§17.7). What was promised buys its shares again, and never more than there were. Once a payout is under way, only
//! what the wallet says of it ends it.

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop, Timestamp,
    matrix::PoolsCancelWithdrawal,
    wire::pools::{WithdrawalCanceled, WithdrawalStatus},
};
use oa_store::{
    Tx,
    tables::pool_withdrawals::{self as table, WithdrawalRow},
};

use super::{key, may_act_for, payout, withdraw_request::shown};
use crate::Runtime;

const REPLY: &str = "openagents.liquidity.pool.withdrawal_canceled.v1";

impl Handle<PoolsCancelWithdrawal> for Runtime {
    async fn handle(&self, ask: Ask<PoolsCancelWithdrawal>) -> Result<Answer<WithdrawalCanceled>, Stop> {
        let keys = key(&ask.path.pool_id);
        let ask = (ask.path.pool_id, ask.path.withdrawal_id, ask.caller, self.now());
        let row = self.store.write("pools.cancel_withdrawal", keys, ask, cancel).await?;
        Ok(WithdrawalCanceled { schema: REPLY.into(), withdrawal: shown(row) }.into())
    }
}

async fn cancel(
    tx: &mut Tx,
    (pool_id, withdrawal_id, caller, now): &(String, String, Caller, Timestamp),
) -> Result<WithdrawalRow, Stop> {
    let row = table::get(tx, withdrawal_id).await?;
    // Somebody else's withdrawal is as unknown as none.
    let row = row.filter(|row| row.pool_id == *pool_id && may_act_for(caller, &row.lp_id).is_ok());
    let row = row.ok_or_else(|| Refusal::not_found("no such withdrawal"))?;
    match row.status {
        WithdrawalStatus::Canceled => return Ok(row),
        WithdrawalStatus::Queued => {}
        other => {
            let message =
                format!("only a withdrawal that waits can be canceled; this one is {}", other.name());
            return Err(Refusal::conflict(message).into());
        }
    }
    let row = payout::give_up(tx, row, "canceled", *now).await?;
    let row = WithdrawalRow { status: WithdrawalStatus::Canceled, ..row };
    table::put(tx, &row).await?;
    Ok(row)
}
