//! Decides what is added up of credit: what an agent has open and owes, how settlements and payments ended lately, and
//! what is due. Every answer is bounded, and found by an index.

use oa_contract::{
    Msats, Timestamp,
    refusal::{Fault, Stop},
    wire::credit::{LoanStatus, Outcome},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static OPEN_OF_AGENT: Statement = statement!("credit/open_of_agent");
static OPEN_ALL: Statement = statement!("credit/open_all");
static HISTORY: Statement = statement!("credit/history");
static OUTCOMES: Statement = statement!("credit/outcomes");
static OUTCOMES_OF_AGENT: Statement = statement!("credit/outcomes_of_agent");
static OUTCOMES_OF_POOL: Statement = statement!("credit/outcomes_of_pool");
static PAYMENT_STATUSES: Statement = statement!("credit/payment_statuses");
static DEFAULTS: Statement = statement!("credit/defaults");
static OWED: Statement = statement!("credit/owed");
static LOAN: Statement = sealed_statement!("credit/loan", "credit_loans");
static PUT_LOAN: Statement = sealed_statement!("credit/put_loan", "credit_loans");
static DUE_LOANS: Statement = sealed_statement!("credit/due_loans", "credit_loans");

/// How many envelopes are open, and for how many sats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub count: u64,
    pub sats: u64,
}

/// A settlement, as far as it counts for underwriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub outcome: Outcome,
    pub spent_sats: u64,
    pub created_at: Timestamp,
}

/// Whose settlements are looked at.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    All,
    Agent(&'a str),
    Pool(&'a str),
}

/// What an agent owes a pool for one settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoanRow {
    pub settlement_id: String,
    pub envelope_id: String,
    pub agent_id: String,
    pub pool_id: String,
    /// The account of the pool that is paid back.
    pub account: String,
    pub principal: Msats,
    pub routing: Msats,
    pub fee: Msats,
    pub repaid: Msats,
    pub repayments: u64,
    pub status: LoanStatus,
    pub due_at: Timestamp,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
}

impl LoanRow {
    /// What is still owed, all in.
    pub fn owed(&self) -> u64 {
        let all = self.principal.get() + self.routing.get() + self.fee.get();
        all.saturating_sub(self.repaid.get())
    }
}

fn outcome(row: &Row<'_>, column: usize) -> Result<Outcome, Fault> {
    let name = row.text(column)?;
    Outcome::parse(name).ok_or_else(|| Fault::msg(format!("a kept settlement has the outcome {name:?}")))
}

impl FromRow for Open {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Open { count: row.uint(0)?, sats: row.uint(1)? })
    }
}

impl FromRow for Settled {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Settled { outcome: outcome(row, 0)?, spent_sats: row.uint(1)?, created_at: row.timestamp(2)? })
    }
}

impl FromRow for LoanRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let msats = |column| super::treasury::msats(row, column);
        let status = row.text(10)?;
        Ok(LoanRow {
            settlement_id: row.text(0)?.to_owned(),
            envelope_id: row.text(1)?.to_owned(),
            agent_id: row.text(2)?.to_owned(),
            pool_id: row.text(3)?.to_owned(),
            account: row.text(4)?.to_owned(),
            principal: msats(5)?,
            routing: msats(6)?,
            fee: msats(7)?,
            repaid: msats(8)?,
            repayments: row.uint(9)?,
            status: LoanStatus::parse(status)
                .ok_or_else(|| Fault::msg(format!("a kept loan has the status {status:?}")))?,
            due_at: row.timestamp(11)?,
            opened_at: row.timestamp(12)?,
            closed_at: row.opt_timestamp(13)?,
        })
    }
}

/// What an agent had open at a moment.
pub async fn open_of_agent(tx: &mut Tx, agent_id: &str, at: Timestamp) -> Result<Open, Stop> {
    Ok(tx.one(&OPEN_OF_AGENT, params![agent_id, at]).await?.unwrap_or_default())
}

/// What everybody has open.
pub async fn open_all(tx: &mut Tx, at: Timestamp) -> Result<Open, Stop> {
    Ok(tx.one(&OPEN_ALL, params![at]).await?.unwrap_or_default())
}

/// An agent's settlements since a moment that were written by another, newest first.
pub async fn history(
    tx: &mut Tx,
    agent_id: &str,
    since: Timestamp,
    at: Timestamp,
    limit: u64,
) -> Result<Vec<Settled>, Stop> {
    tx.all(&HISTORY, params![agent_id, since, at, Value::unsigned(limit)?]).await
}

/// How settlements ended, newest first.
pub async fn outcomes(
    tx: &mut Tx,
    whose: Whose<'_>,
    since: Timestamp,
    limit: u64,
) -> Result<Vec<Outcome>, Stop> {
    struct Ended(Outcome);
    impl FromRow for Ended {
        fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
            outcome(row, 0).map(Ended)
        }
    }
    let limit = Value::unsigned(limit)?;
    let ended: Vec<Ended> = match whose {
        Whose::All => tx.all(&OUTCOMES, &[since.into(), limit]).await?,
        Whose::Agent(id) => tx.all(&OUTCOMES_OF_AGENT, &[since.into(), limit, id.into()]).await?,
        Whose::Pool(id) => tx.all(&OUTCOMES_OF_POOL, &[since.into(), limit, id.into()]).await?,
    };
    Ok(ended.into_iter().map(|Ended(outcome)| outcome).collect())
}

/// How attempts at paying ended, newest first; those that are under way are not told.
pub async fn payment_statuses(tx: &mut Tx, since: Timestamp, limit: u64) -> Result<Vec<String>, Stop> {
    let found = tx.all::<(String,)>(&PAYMENT_STATUSES, params![since, Value::unsigned(limit)?]).await?;
    Ok(found.into_iter().map(|(status,)| status).collect())
}

/// When an agent did not repay what was due, between two moments.
pub async fn defaults(
    tx: &mut Tx,
    agent_id: &str,
    since: Timestamp,
    at: Timestamp,
    limit: u64,
) -> Result<Vec<Timestamp>, Stop> {
    let found =
        tx.all::<(Timestamp,)>(&DEFAULTS, params![agent_id, since, at, Value::unsigned(limit)?]).await?;
    Ok(found.into_iter().map(|(at,)| at).collect())
}

/// What an agent has drawn and not repaid, in millisatoshis.
pub async fn owed(tx: &mut Tx, agent_id: &str) -> Result<u64, Stop> {
    Ok(tx.one::<(u64,)>(&OWED, params![agent_id]).await?.map_or(0, |(owed,)| owed))
}

pub async fn loan(tx: &mut Tx, settlement_id: &str) -> Result<Option<LoanRow>, Stop> {
    tx.one(&LOAN, params![settlement_id]).await
}

/// The caller holds the loan's key, or has just made it.
pub async fn put_loan(tx: &mut Tx, row: &LoanRow) -> Result<(), Stop> {
    let column = |amount: Msats| oa_contract::Amount::from(amount).signed();
    let params = params![
        &row.settlement_id,
        &row.envelope_id,
        &row.agent_id,
        &row.pool_id,
        &row.account,
        column(row.principal),
        column(row.routing),
        column(row.fee),
        column(row.repaid),
        Value::unsigned(row.repayments)?,
        row.status.name(),
        row.due_at,
        row.opened_at,
        row.closed_at
    ];
    tx.execute(&PUT_LOAN, params).await?;
    Ok(())
}

/// Loans that are due, the longest due first.
pub async fn due_loans(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<LoanRow>, Stop> {
    tx.all(&DUE_LOANS, params![now, limit]).await
}
