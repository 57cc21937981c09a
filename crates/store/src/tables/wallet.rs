//! Decides how a wallet remembers what it was asked to do: written before it is done, and kept with what came of it,
//! so that the same request is never done twice, whatever happens to the process.

use oa_contract::{
    Msats, Timestamp,
    refusal::{Fault, Stop},
};
use serde_json::value::RawValue;

use super::{runs::json, treasury::msats};
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
};

static REQUEST: Statement = sealed_statement!("wallet/request", "wallet_requests");
static PUT_REQUEST: Statement = sealed_statement!("wallet/put_request", "wallet_requests");
static FORGET_REQUEST: Statement = statement!("wallet/forget_request");
static OPEN_REQUESTS: Statement = sealed_statement!("wallet/open_requests", "wallet_requests");
static LAST_PAID: Statement = sealed_statement!("wallet/last_paid", "wallet_requests");
static SPENT: Statement = statement!("wallet/spent");

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Begun, and nobody knows how it ended.
    InFlight,
    Done,
    /// Surely not done; kept so that a late copy of the same request does not do it after all.
    Refused,
}

impl RequestState {
    const ALL: [RequestState; 3] = [RequestState::InFlight, RequestState::Done, RequestState::Refused];

    pub const fn name(self) -> &'static str {
        match self {
            RequestState::InFlight => "in_flight",
            RequestState::Done => "done",
            RequestState::Refused => "refused",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[derive(Clone, Debug)]
pub struct RequestRow {
    /// `pay`, `invoice`, `address`, `plan`, `onchain`, or `memory` for the name of this memory.
    pub kind: String,
    pub request_id: String,
    pub fingerprint: String,
    pub state: RequestState,
    /// What it takes of the window while it may have been spent.
    pub spend: Msats,
    /// What was asked, so that it can be looked up after a restart.
    pub asked: Box<RawValue>,
    /// The result that is answered for ever.
    pub reply: Option<Box<RawValue>>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub begun_at: Timestamp,
    pub changed_at: Timestamp,
    /// Whose window its spend is in.
    pub lane: String,
}

impl FromRow for RequestRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let state = row.text(3)?;
        Ok(RequestRow {
            kind: row.text(0)?.to_owned(),
            request_id: row.text(1)?.to_owned(),
            fingerprint: row.text(2)?.to_owned(),
            state: RequestState::parse(state)
                .ok_or_else(|| Fault::msg(format!("a stored request has the unknown state {state:?}")))?,
            spend: msats(row, 4)?,
            asked: json(row.text(5)?)?,
            reply: row.opt_text(6)?.map(json).transpose()?,
            error_code: row.opt_text(7)?.map(str::to_owned),
            error_message: row.opt_text(8)?.map(str::to_owned),
            begun_at: row.timestamp(9)?,
            changed_at: row.timestamp(10)?,
            lane: row.text(11)?.to_owned(),
        })
    }
}

pub async fn request(tx: &mut Tx, kind: &str, request_id: &str) -> Result<Option<RequestRow>, Stop> {
    tx.one(&REQUEST, params![kind, request_id]).await
}

/// Writes the whole row, new or known.
pub async fn put_request(tx: &mut Tx, row: &RequestRow) -> Result<(), Stop> {
    let params = params![
        &row.kind,
        &row.request_id,
        &row.fingerprint,
        row.state.name(),
        oa_contract::Amount::from(row.spend).signed(),
        row.asked.get(),
        row.reply.as_ref().map(|reply| reply.get()),
        &row.error_code,
        &row.error_message,
        row.begun_at,
        row.changed_at,
        &row.lane
    ];
    tx.execute(&PUT_REQUEST, params).await?;
    Ok(())
}

pub async fn forget_request(tx: &mut Tx, kind: &str, request_id: &str) -> Result<(), Stop> {
    tx.execute(&FORGET_REQUEST, params![kind, request_id]).await?;
    Ok(())
}

/// Requests begun before `until` whose end nobody knows.
pub async fn open_requests(tx: &mut Tx, until: Timestamp, limit: u32) -> Result<Vec<RequestRow>, Stop> {
    tx.all(&OPEN_REQUESTS, params![until, limit]).await
}

/// The latest payment.
pub async fn last_paid(tx: &mut Tx) -> Result<Option<RequestRow>, Stop> {
    tx.one(&LAST_PAID, params![]).await
}

/// What was or may have been spent in a lane since, and in how many requests.
pub async fn spent(tx: &mut Tx, since: Timestamp, lane: &str) -> Result<(u64, u64), Stop> {
    let found = tx.one::<(i64, i64)>(&SPENT, params![since, lane]).await?.unwrap_or_default();
    let unsigned = |number: i64| {
        u64::try_from(number).map_err(|error| Fault::new("reading what a wallet has spent", error))
    };
    Ok((unsigned(found.0)?, unsigned(found.1)?))
}
