//! Decides how tool calls are kept: one row for each principal and receipt hash, which says who works on the call
//! and what was answered.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
};

static PUT: Statement = sealed_statement!("tools/put_call", "tool_calls");
static CALL: Statement = sealed_statement!("tools/call", "tool_calls");
static PURGE: Statement = statement!("tools/purge_calls");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// Somebody works on it, as long as the lease lasts.
    Running,
    /// Answered; the answer is given again until it expires.
    Done,
    /// It ended in a way that may be tried again; the answer is only for those who waited for it.
    Open,
}

impl CallState {
    const ALL: [CallState; 3] = [Self::Running, Self::Done, Self::Open];

    pub const fn name(self) -> &'static str {
        match self {
            CallState::Running => "running",
            CallState::Done => "done",
            CallState::Open => "open",
        }
    }
}

/// A call as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The number of the principal, in decimal: it may exceed what a column of numbers holds.
    pub principal: String,
    pub receipt_hash: String,
    pub state: CallState,
    /// Who may write the answer; another holder has taken the call over.
    pub holder: String,
    pub attempt: u64,
    pub lease_until: Timestamp,
    /// When this was first asked, ever.
    pub first_seen: Timestamp,
    /// When the call was begun whose answer this is; later than `first_seen` once an answer has expired.
    pub begun_at: Timestamp,
    pub changed_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub reply: Option<String>,
}

impl FromRow for ToolCall {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let state = row.text(2)?;
        let known = CallState::ALL.into_iter().find(|one| one.name() == state);
        Ok(ToolCall {
            principal: row.text(0)?.into(),
            receipt_hash: row.text(1)?.into(),
            state: known
                .ok_or_else(|| Fault::msg(format!("a tool call is kept with the state {state:?}")))?,
            holder: row.text(3)?.into(),
            attempt: row.uint(4)?,
            lease_until: row.timestamp(5)?,
            first_seen: row.timestamp(6)?,
            begun_at: row.timestamp(7)?,
            changed_at: row.timestamp(8)?,
            expires_at: row.opt_timestamp(9)?,
            reply: row.opt_text(10)?.map(str::to_owned),
        })
    }
}

/// Writes a call, new or changed.
pub async fn put_call(tx: &mut Tx, call: &ToolCall) -> Result<(), Stop> {
    let params = params![
        &call.principal,
        &call.receipt_hash,
        call.state.name(),
        &call.holder,
        crate::Value::unsigned(call.attempt)?,
        call.lease_until,
        call.first_seen,
        call.begun_at,
        call.changed_at,
        call.expires_at,
        &call.reply,
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}

pub async fn call(tx: &mut Tx, principal: &str, receipt_hash: &str) -> Result<Option<ToolCall>, Stop> {
    tx.one(&CALL, params![principal, receipt_hash]).await
}

/// Forgets up to `limit` answers that expired before this moment.
pub async fn purge_calls(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, Stop> {
    tx.execute(&PURGE, params![before, limit]).await
}
