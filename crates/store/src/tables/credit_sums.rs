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
static OUTCOMES_OF_PROVIDER: Statement = statement!("credit/outcomes_of_provider");
static HISTORY_OF_BORROWER: Statement = statement!("credit/history_of_borrower");
static OF_AGENT: Statement = statement!("credit/committed_of_agent");
static OF_BORROWER: Statement = statement!("credit/committed_of_borrower");
static OF_POOL: Statement = statement!("credit/committed_of_pool");
static BY_BORROWER: Statement = statement!("credit/committed_by_borrower");
static BY_AGENT: Statement = statement!("credit/committed_by_agent");
static OVERDUE: Statement = statement!("credit/overdue");
static PAYMENT_STATUSES: Statement = statement!("credit/payment_statuses");
static DEFAULTS: Statement = statement!("credit/defaults");
static DEFAULTS_OF_BORROWER: Statement = statement!("credit/defaults_of_borrower");
static OWED: Statement = statement!("credit/owed");
static LOAN: Statement = sealed_statement!("credit/loan", "credit_loans");
static PUT_LOAN: Statement = sealed_statement!("credit/put_loan", "credit_loans");
static MARK_LOAN: Statement = statement!("credit/mark_loan");
static DUE_LOANS: Statement = statement!("credit/due_loans");

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
    Provider(&'a str),
}

/// How settlements ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub settlements: u64,
    pub losses: u64,
    /// The same where no borrower counts for more than two.
    pub bounded_losses: u64,
}

/// Whose debts are added up, those to come too.
#[derive(Clone, Copy, Debug)]
pub enum Debts<'a> {
    Agent(&'a str),
    Borrower(&'a str),
    Pool(&'a str),
    BorrowerAt { borrower: &'a str, pool_id: &'a str },
    AgentAt { agent_id: &'a str, pool_id: &'a str },
}

/// What is held for envelopes or being paid, and what was drawn and not repaid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub held_sats: u64,
    pub owed_msats: u64,
}

impl Committed {
    pub fn sats(&self) -> u64 {
        self.held_sats.saturating_add(self.owed_sats())
    }

    pub fn owed_sats(&self) -> u64 {
        self.owed_msats.div_ceil(1_000)
    }
}

/// What an agent owes a pool for one settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoanRow {
    pub settlement_id: String,
    pub envelope_id: String,
    pub agent_id: String,
    pub pool_id: String,
    /// Who answers for it: the agent's owner when the envelope was issued, or the agent alone.
    pub borrower: String,
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
    /// When it was not repaid in time, whatever was repaid since.
    pub defaulted_at: Option<Timestamp>,
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

impl FromRow for Ended {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Ended { settlements: row.uint(0)?, losses: row.uint(1)?, bounded_losses: row.uint(2)? })
    }
}

impl FromRow for Committed {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Committed { held_sats: row.uint(0)?, owed_msats: row.uint(1)? })
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
            borrower: row.text(15)?.to_owned(),
            defaulted_at: row.opt_timestamp(16)?,
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

/// The same of everything that somebody answers for.
pub async fn history_of_borrower(
    tx: &mut Tx,
    borrower: &str,
    since: Timestamp,
    at: Timestamp,
    limit: u64,
) -> Result<Vec<Settled>, Stop> {
    tx.all(&HISTORY_OF_BORROWER, params![borrower, since, at, Value::unsigned(limit)?]).await
}

/// How the latest settlements ended.
pub async fn ended(tx: &mut Tx, whose: Whose<'_>, since: Timestamp, limit: u64) -> Result<Ended, Stop> {
    let limit = Value::unsigned(limit)?;
    let ended = match whose {
        Whose::All => tx.one(&OUTCOMES, &[since.into(), limit]).await?,
        Whose::Agent(id) => tx.one(&OUTCOMES_OF_AGENT, &[since.into(), limit, id.into()]).await?,
        Whose::Pool(id) => tx.one(&OUTCOMES_OF_POOL, &[since.into(), limit, id.into()]).await?,
        Whose::Provider(id) => tx.one(&OUTCOMES_OF_PROVIDER, &[since.into(), limit, id.into()]).await?,
    };
    Ok(ended.unwrap_or_default())
}

/// How many of the latest attempts at paying have ended, and how many of them without success; those that are under way
/// are not counted.
pub async fn payments_ended(tx: &mut Tx, since: Timestamp, limit: u64) -> Result<(u64, u64, u64), Stop> {
    let found = tx.one::<(u64, u64, u64)>(&PAYMENT_STATUSES, params![since, Value::unsigned(limit)?]).await?;
    Ok(found.unwrap_or_default())
}

/// What somebody is committed to at a moment.
pub async fn committed(tx: &mut Tx, debts: Debts<'_>, now: Timestamp) -> Result<Committed, Stop> {
    let found = match debts {
        Debts::Agent(id) => tx.one(&OF_AGENT, params![id, now]).await?,
        Debts::Borrower(name) => tx.one(&OF_BORROWER, params![name, now]).await?,
        Debts::Pool(id) => tx.one(&OF_POOL, params![id, now]).await?,
        Debts::BorrowerAt { borrower, pool_id } => {
            tx.one(&BY_BORROWER, params![borrower, now, pool_id]).await?
        }
        Debts::AgentAt { agent_id, pool_id } => tx.one(&BY_AGENT, params![agent_id, now, pool_id]).await?,
    };
    Ok(found.unwrap_or_default())
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

/// The same of everything that somebody answers for.
pub async fn defaults_of_borrower(
    tx: &mut Tx,
    borrower: &str,
    since: Timestamp,
    at: Timestamp,
    limit: u64,
) -> Result<Vec<Timestamp>, Stop> {
    let params = params![borrower, since, at, Value::unsigned(limit)?];
    let found = tx.all::<(Timestamp,)>(&DEFAULTS_OF_BORROWER, params).await?;
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
    tx.execute(&MARK_LOAN, params![&row.settlement_id, &row.borrower, row.defaulted_at]).await?;
    Ok(())
}

/// Loans that are due, the longest due first, behind one; also those that cannot be read any more.
pub async fn due_loans(
    tx: &mut Tx,
    now: Timestamp,
    (due_at, settlement_id): &(Timestamp, String),
    limit: u32,
) -> Result<Vec<(Timestamp, String)>, Stop> {
    tx.all(&DUE_LOANS, params![now, limit, *due_at, settlement_id]).await
}

/// Loans that were not repaid in time, those first that were asked for the longest ago, behind one; also those that cannot
/// be read any more.
pub async fn overdue(
    tx: &mut Tx,
    until: Timestamp,
    (closed_at, settlement_id): &(Timestamp, String),
    limit: u32,
) -> Result<Vec<(Timestamp, String)>, Stop> {
    tx.all(&OVERDUE, params![until, limit, *closed_at, settlement_id]).await
}
