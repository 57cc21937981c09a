//! `POST /internal/v1/pools/:pool_id/deposits/:deposit_id/confirm`: mints shares for a deposit that has arrived (§5.3,
//! §17.4). Strictly the wallet has to say so; leniently the caller's word is enough.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::PoolsConfirmDeposit,
    wire::pools::{DepositConfirmed, DepositStatus},
};
use oa_ledger::{AccountId, pool::MSATS_PER_SAT};
use oa_store::{
    Tx,
    tables::pools::{self as table, DepositRow},
};

use super::{
    behind_us,
    deposit_quote::shown,
    deposits::{BELIEVED, Minted, Seen, mint},
    key, may_act_for,
};
use crate::Runtime;

const REPLY: &str = "openagents.liquidity.pool.confirm_deposit_response.v1";

impl Handle<PoolsConfirmDeposit> for Runtime {
    async fn handle(&self, ask: Ask<PoolsConfirmDeposit>) -> Result<Answer<DepositConfirmed>, Stop> {
        let (pool_id, deposit_id) = (ask.path.pool_id, ask.path.deposit_id);
        let row = self.store.read("pools.find_deposit", (pool_id.clone(), deposit_id.clone()), find).await?;
        if may_act_for(&ask.caller, &row.lp_id).is_err() {
            // Somebody else's deposit is as unknown as none.
            return Err(no_deposit().into());
        }
        if row.status == DepositStatus::Confirmed {
            return Ok(confirmed(row, false).into());
        }
        let strict = self.verifies_deposits();
        let seen = match strict {
            true => self.arrived(&row).await?,
            // Where a word is believed, it is not that of the one who is to gain by it.
            false if ask.caller.owner().is_some() => {
                return Err(
                    Refusal::forbidden("a deposit is confirmed by an operator, or by the wallet").into()
                );
            }
            false => Seen::Settled {
                received_msats: row.amount_sats.saturating_mul(MSATS_PER_SAT),
                evidence: format!("{BELIEVED}{}", row.deposit_id),
            },
        };
        let Seen::Settled { received_msats, evidence } = seen else {
            return Err(not_settled(&seen).into());
        };
        let ask = (
            pool_id.clone(),
            deposit_id,
            received_msats,
            evidence,
            self.wallet_account()?,
            self.now(),
            strict,
        );
        let (row, fresh) = self.store.write("pools.confirm_deposit", key(&pool_id), ask, confirm).await?;
        Ok(confirmed(row, fresh).into())
    }
}

impl Runtime {
    async fn arrived(&self, row: &DepositRow) -> Result<Seen, Stop> {
        let seen = self.look_for(row).await;
        Ok(seen.map_err(|error| {
            behind_us(format!("the wallet cannot say whether the deposit arrived: {error}"))
        })?)
    }
}

fn no_deposit() -> Refusal {
    Refusal::not_found("no such deposit")
}

fn not_settled(seen: &Seen) -> Refusal {
    Refusal::conflict(match seen {
        Seen::Arriving => "the deposit is not settled yet: it has not arrived whole, or not deep enough",
        Seen::Never => "the deposit is not settled: the wallet expects it no more",
        _ => "the deposit is not settled: the wallet has not received it",
    })
}

async fn find(tx: &mut Tx, (pool_id, deposit_id): &(String, String)) -> Result<DepositRow, Stop> {
    let row = table::deposit(tx, deposit_id).await?.filter(|row| row.pool_id == *pool_id);
    Ok(row.ok_or_else(no_deposit)?)
}

type Confirm = (String, String, u64, String, AccountId, Timestamp, bool);

async fn confirm(
    tx: &mut Tx,
    (pool_id, deposit_id, received_msats, evidence, wallet, now, strict): &Confirm,
) -> Result<(DepositRow, bool), Stop> {
    let row = find(tx, &(pool_id.clone(), deposit_id.clone())).await?;
    if row.status == DepositStatus::Confirmed {
        return Ok((row, false));
    }
    confirmable(row.status, *strict)?;
    match mint(tx, row, *received_msats, evidence, wallet, *now).await? {
        Minted::Now(row) => Ok((*row, true)),
        Minted::Nothing => {
            Err(Refusal::conflict("the deposit has arrived, and does not buy one share at today's price")
                .into())
        }
        Minted::Spent => Err(Refusal::conflict("what proves this deposit has minted for another one").into()),
    }
}

/// Money that arrives late arrives: by evidence a deposit that was given up is confirmed all the same, at what its
/// shares are worth by then.
fn confirmable(status: DepositStatus, strict: bool) -> Result<(), Refusal> {
    match status {
        DepositStatus::Quoted | DepositStatus::Pending => Ok(()),
        DepositStatus::Expired | DepositStatus::Failed if strict => Ok(()),
        _ => Err(Refusal::conflict("deposit not in a confirmable state")),
    }
}

fn confirmed(row: DepositRow, shares_minted: bool) -> DepositConfirmed {
    DepositConfirmed { schema: REPLY.into(), deposit: shown(row), shares_minted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_confirmed_by_evidence_only() {
        for (status, lenient, strict) in [
            (DepositStatus::Quoted, true, true),
            (DepositStatus::Pending, true, true),
            (DepositStatus::Expired, false, true),
            (DepositStatus::Failed, false, true),
        ] {
            let told = (confirmable(status, false).is_ok(), confirmable(status, true).is_ok());
            assert_eq!(told, (lenient, strict), "{status}");
        }
    }
}
