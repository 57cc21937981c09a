//! Decides how credit moves: what an envelope may cost is held in the pool's credit partition, and the debt that it may
//! become is held beside it, as two legs of one transfer. They are captured together, or given back together.

use oa_contract::{Amount, Asset, Code, Fault, Msats, Refusal, Stop, Timestamp, wire::credit::Envelope};
use oa_ledger::{
    AccountId, Capture, Denied, Floor, Kind, Leg, Order, State, TransferId,
    pool::{self, PartitionKind},
};
use oa_store::{Tx, tables::ledger};

use super::underwriting;

/// The partition of a pool that credit draws on.
pub fn pool_account(pool_id: &str) -> Result<AccountId, Denied> {
    Ok(pool::Accounts::of(pool_id, PartitionKind::Cep)?.money)
}

/// Debts are counted beside the money, in an asset of their own.
fn debts() -> Asset {
    Asset::new("msats.owed").unwrap_or_else(Asset::msats)
}

/// What an agent owes a pool; as far below zero as it was granted.
fn debtor(agent_id: &str, pool_id: &str) -> Result<AccountId, Denied> {
    AccountId::new(Kind::Agent, debts(), format!("{agent_id}@{pool_id}"))
}

fn receivable(pool_id: &str) -> Result<AccountId, Denied> {
    AccountId::new(Kind::Receivable, debts(), pool_id)
}

fn amount(msats: u64) -> Result<Amount, Refusal> {
    Amount::new(msats).ok_or_else(|| Refusal::invalid("the amount is more than there will ever be"))
}

/// The most that an envelope pays out, routing included.
pub fn cap_msats(envelope: &Envelope) -> u64 {
    envelope.max_sats.saturating_mul(1_000)
}

/// Whose money it is: the pool's credit partition. Where callers are believed a pool need not exist, and the operator
/// answers for it.
pub async fn source(tx: &mut Tx, pool_id: &str, lenient: bool) -> Result<AccountId, Stop> {
    let pool = pool_account(pool_id)?;
    match lenient && ledger::find(tx, &pool).await?.is_none() {
        true => Ok(AccountId::new(Kind::Suspense, Asset::msats(), format!("credit:{pool_id}"))?),
        false => Ok(pool),
    }
}

/// Holds what the envelope may cost and what may be owed for it, until its time is over or without a time.
pub async fn hold(
    tx: &mut Tx,
    envelope: &Envelope,
    number: u64,
    wallet: &AccountId,
    lenient: bool,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<String, Stop> {
    let source = source(tx, &envelope.pool_id, lenient).await?;
    let fee = underwriting::fee_sats(envelope.max_sats, envelope.fee_bps).saturating_mul(1_000);
    let owed = amount(cap_msats(envelope).saturating_add(fee))?;
    let debtor = debtor(&envelope.agent_id, &envelope.pool_id)?;
    grant(tx, &debtor, owed).await?;
    let id = TransferId::new(format!("credit:{}:{number}", envelope.envelope_id))?;
    let reference = format!("{} of {}", envelope.envelope_id, envelope.agent_id);
    let mut order = pool::commitment(&source, id, wallet, cap_msats(envelope), until, &reference)?;
    order.legs.push(Leg { debit: debtor, credit: receivable(&envelope.pool_id)?, amount: owed });
    match ledger::transfer(tx, &order, now).await {
        Ok(booked) => Ok(booked.transfer.id.to_string()),
        // Whose balance is how low is not told.
        Err(Stop::Refusal(refusal)) if refusal.code == Code::Conflict => {
            Err(Refusal::conflict("pool capacity exceeded").into())
        }
        Err(stop) => Err(stop),
    }
}

/// Underwriting has granted so much more: the floor says so.
async fn grant(tx: &mut Tx, debtor: &AccountId, more: Amount) -> Result<(), Stop> {
    let account = ledger::account(tx, debtor).await?;
    let Floor::Limit(limit) = account.floor else { return Ok(()) };
    let available = account.available().unwrap_or_default();
    let short = i128::from(more.get()) - available;
    if short <= 0 {
        return Ok(());
    }
    let raised = u64::try_from(i128::from(limit.get()) + short).ok().and_then(Amount::new);
    let raised = raised.ok_or_else(|| Refusal::invalid("the agent owes more than there will ever be"))?;
    ledger::set_limit(tx, debtor, raised).await?;
    Ok(())
}

/// Before the wallet is asked: only its word ends the hold from here on.
pub async fn pin(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<(), Stop> {
    ledger::pin(tx, &TransferId::new(hold_id)?, now).await?;
    Ok(())
}

pub async fn stands(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<bool, Stop> {
    let held = ledger::get(tx, &TransferId::new(hold_id)?).await?;
    Ok(held.is_some_and(|held| held.state == State::Pending && held.expires_at.is_none_or(|at| at > now)))
}

/// Gives back what is held.
pub async fn void(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<(), Stop> {
    ledger::void(tx, &TransferId::new(hold_id)?, now).await?;
    Ok(())
}

/// What was taken, and from which account: it is to be paid back.
#[derive(Clone, Debug)]
pub struct Taken {
    pub account: AccountId,
    pub msats: Msats,
}

/// Takes what left the wallet, and counts what is owed for it: that, and the fee. Beyond what was held, the operator
/// bears it.
pub async fn capture(
    tx: &mut Tx,
    hold_id: &str,
    gone_msats: u64,
    fee_msats: u64,
    now: Timestamp,
) -> Result<Taken, Stop> {
    let id = TransferId::new(hold_id)?;
    let held = ledger::get(tx, &id).await?.ok_or_else(|| Denied::Unknown { id: id.clone() })?;
    let [paid, owed] = held.legs.as_slice() else {
        return Err(Fault::msg(format!("{id} is no hold of an envelope")).into());
    };
    let (source, wallet) = (paid.leg.debit.clone(), paid.leg.credit.clone());
    let gone = amount(gone_msats)?;
    let taken = gone.min(paid.leg.amount);
    let debt = amount(taken.get().saturating_add(fee_msats))?.min(owed.leg.amount);
    ledger::post(tx, &id, &Capture::Part(vec![taken, debt]), now).await?;
    let excess = gone.minus(taken).unwrap_or_default();
    if !excess.is_zero() {
        tracing::error!(%id, excess = excess.get(), "a wallet took more than it was allowed");
        let order = Order {
            id: TransferId::new(format!("{hold_id}:excess"))?,
            legs: vec![Leg {
                debit: AccountId::new(Kind::Suspense, Asset::msats(), "wallet_excess")?,
                credit: wallet,
                amount: excess,
            }],
            hold: None,
            reference: "more left the wallet than was allowed".into(),
        };
        ledger::transfer(tx, &order, now).await?;
    }
    let msats = Msats::try_from(taken).map_err(|_| Fault::msg("what was taken does not fit"))?;
    Ok(Taken { account: source, msats })
}

/// What is paid back, and whose debt it is.
#[derive(Clone, Debug)]
pub struct Repayment<'a> {
    pub id: String,
    pub payer: AccountId,
    /// The account that was drawn on.
    pub account: &'a str,
    pub agent_id: &'a str,
    pub pool_id: &'a str,
    pub msats: u64,
}

/// The leg that takes off the debt.
pub fn relief(agent_id: &str, pool_id: &str, msats: u64) -> Result<Leg, Stop> {
    Ok(Leg { debit: receivable(pool_id)?, credit: debtor(agent_id, pool_id)?, amount: amount(msats)? })
}

/// Money to the pool, and so much less owed: both, or neither.
pub async fn repay(tx: &mut Tx, repayment: &Repayment<'_>, now: Timestamp) -> Result<(), Stop> {
    let account = AccountId::parse(repayment.account)
        .ok_or_else(|| Fault::msg(format!("{} is no account", repayment.account)))?;
    let order = Order {
        id: TransferId::new(repayment.id.as_str())?,
        legs: vec![
            Leg { debit: repayment.payer.clone(), credit: account, amount: amount(repayment.msats)? },
            relief(repayment.agent_id, repayment.pool_id, repayment.msats)?,
        ],
        hold: None,
        reference: format!("repayment of {}", repayment.agent_id),
    };
    ledger::transfer(tx, &order, now).await?;
    Ok(())
}
