//! Decides how jobs that were sent to providers are kept: one row a job with what came back in the end, a row for
//! each call on the way there, and both documents under their digests.

use oa_contract::{
    Owner, Timestamp,
    refusal::{Fault, Stop},
};
use oa_ledger::budget::Place;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::market_quotes::owner;
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    tables::runs::json,
    transaction::Tx,
    value::Value,
};

static DISPATCH: Statement = sealed_statement!("market/dispatch", "market_dispatches");
static DISPATCH_OF_JOB: Statement = sealed_statement!("market/dispatch_of_job", "market_dispatches");
static PUT_DISPATCH: Statement = sealed_statement!("market/put_dispatch", "market_dispatches");
static CALLS: Statement = sealed_statement!("market/calls", "market_calls");
static PUT_CALL: Statement = sealed_statement!("market/put_call", "market_calls");
static DOCUMENT: Statement = sealed_statement!("market/document", "market_documents");
static KEEP_DOCUMENT: Statement = sealed_statement!("market/keep_document", "market_documents");

/// Where a dispatch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchState {
    /// Somebody is calling providers, until `busy_until`; what the price of the call is, is held.
    Calling,
    /// The job was run (it succeeded or failed of its own): the response stands for ever, its price is held.
    Answered,
    /// A provider answered that it did not run the job to its end. Nothing is held, and it may be tried again.
    Unserved,
    /// No provider answered. Nothing is held, and it may be tried again.
    Failed,
    /// Paid or withheld: whatever the response is, it stands for ever.
    Settled,
}

impl DispatchState {
    const ALL: [DispatchState; 5] = [
        DispatchState::Calling,
        DispatchState::Answered,
        DispatchState::Unserved,
        DispatchState::Failed,
        DispatchState::Settled,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            DispatchState::Calling => "calling",
            DispatchState::Answered => "answered",
            DispatchState::Unserved => "unserved",
            DispatchState::Failed => "failed",
            DispatchState::Settled => "settled",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What one dispatch is: the same job of the same owner in the same run, and which attempt at it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobKey {
    pub owner: Owner,
    /// Outside of any run when none.
    pub run_id: Option<Uuid>,
    pub job_hash: String,
    /// 1, unless the owner wants the same job run once more.
    pub attempt: u32,
}

#[derive(Clone, Debug)]
pub struct DispatchRow {
    pub dispatch_id: String,
    pub job: JobKey,
    pub state: DispatchState,
    /// Calls of providers made so far.
    pub calls: u64,
    /// The worker that is being called or has answered.
    pub worker_id: Option<String>,
    pub provider_id: Option<String>,
    /// The price of that, in `market_quotes`.
    pub quote_id: Option<String>,
    /// The hold of that price in the ledger; none when the work has no price.
    pub hold_id: Option<String>,
    /// Digests of the documents, hex.
    pub request_sha256: String,
    pub response_sha256: Option<String>,
    /// Our key (x-only, hex) and its signature of the statement about the response; none without a key.
    pub signed_by: Option<String>,
    pub signature: Option<String>,
    /// What the dispatch was answered with, for whoever asks again.
    pub reply: Option<Box<RawValue>>,
    pub busy_until: Option<Timestamp>,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
    pub answered_at: Option<Timestamp>,
    /// Where in the owner's budgets it lies; the run is the job's.
    pub place: Place,
}

/// One call of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    pub dispatch_id: String,
    pub call_no: u64,
    pub worker_id: String,
    pub provider_id: String,
    pub tier: String,
    pub quote_id: Option<String>,
    pub hold_id: Option<String>,
    /// `calling` while nobody knows.
    pub outcome: String,
    pub detail: Option<String>,
    pub response_sha256: Option<String>,
    pub latency_ms: Option<u64>,
    pub began_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

impl FromRow for DispatchRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| Ok::<_, Fault>(row.opt_text(column)?.map(str::to_owned));
        let state = row.text(5)?;
        let run_id = row.uuid(2)?;
        let job_run = (!run_id.is_nil()).then_some(run_id);
        Ok(DispatchRow {
            dispatch_id: row.text(0)?.to_owned(),
            job: JobKey {
                owner: owner(row.text(1)?)?,
                run_id: job_run,
                job_hash: row.text(3)?.to_owned(),
                attempt: u32::try_from(row.uint(4)?)
                    .map_err(|error| Fault::new("reading an attempt", error))?,
            },
            state: DispatchState::parse(state)
                .ok_or_else(|| Fault::msg(format!("a stored dispatch has the unknown state {state:?}")))?,
            calls: row.uint(6)?,
            worker_id: text(7)?,
            provider_id: text(8)?,
            quote_id: text(9)?,
            hold_id: text(10)?,
            request_sha256: row.text(11)?.to_owned(),
            response_sha256: text(12)?,
            signed_by: text(13)?,
            signature: text(14)?,
            reply: row.opt_text(15)?.map(json).transpose()?,
            busy_until: row.opt_timestamp(16)?,
            opened_at: row.timestamp(17)?,
            changed_at: row.timestamp(18)?,
            answered_at: row.opt_timestamp(19)?,
            place: Place { organisation: text(20)?, repo: text(21)?, issue: text(22)?, run: job_run },
        })
    }
}

impl FromRow for CallRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| Ok::<_, Fault>(row.opt_text(column)?.map(str::to_owned));
        Ok(CallRow {
            dispatch_id: row.text(0)?.to_owned(),
            call_no: row.uint(1)?,
            worker_id: row.text(2)?.to_owned(),
            provider_id: row.text(3)?.to_owned(),
            tier: row.text(4)?.to_owned(),
            quote_id: text(5)?,
            hold_id: text(6)?,
            outcome: row.text(7)?.to_owned(),
            detail: text(8)?,
            response_sha256: text(9)?,
            latency_ms: row.opt_uint(10)?,
            began_at: row.timestamp(11)?,
            ended_at: row.opt_timestamp(12)?,
        })
    }
}

pub async fn get(tx: &mut Tx, dispatch_id: &str) -> Result<Option<DispatchRow>, Stop> {
    tx.one(&DISPATCH, params![dispatch_id]).await
}

pub async fn find(tx: &mut Tx, job: &JobKey) -> Result<Option<DispatchRow>, Stop> {
    let run_id = job.run_id.unwrap_or_default();
    tx.one(&DISPATCH_OF_JOB, params![&job.owner.to_string(), &run_id, &job.job_hash, job.attempt]).await
}

/// Writes the whole row, new or known. The caller holds the key of the job.
pub async fn put(tx: &mut Tx, row: &DispatchRow) -> Result<(), Stop> {
    let owner_key = row.job.owner.to_string();
    let run_id = row.job.run_id.unwrap_or_default();
    let params = params![
        &row.dispatch_id,
        &owner_key,
        &run_id,
        &row.job.job_hash,
        row.job.attempt,
        row.state.name(),
        Value::unsigned(row.calls)?,
        &row.worker_id,
        &row.provider_id,
        &row.quote_id,
        &row.hold_id,
        &row.request_sha256,
        &row.response_sha256,
        &row.signed_by,
        &row.signature,
        row.reply.as_deref().map(RawValue::get),
        row.busy_until,
        row.opened_at,
        row.changed_at,
        row.answered_at,
        &row.place.organisation,
        &row.place.repo,
        &row.place.issue
    ];
    tx.execute(&PUT_DISPATCH, params).await?;
    Ok(())
}

/// Every call of a dispatch, in order.
pub async fn calls(tx: &mut Tx, dispatch_id: &str) -> Result<Vec<CallRow>, Stop> {
    tx.all(&CALLS, params![dispatch_id]).await
}

pub async fn put_call(tx: &mut Tx, call: &CallRow) -> Result<(), Stop> {
    let params = params![
        &call.dispatch_id,
        Value::unsigned(call.call_no)?,
        &call.worker_id,
        &call.provider_id,
        &call.tier,
        &call.quote_id,
        &call.hold_id,
        &call.outcome,
        &call.detail,
        &call.response_sha256,
        call.latency_ms.map_or(Ok(Value::Null), Value::unsigned)?,
        call.began_at,
        call.ended_at
    ];
    tx.execute(&PUT_CALL, params).await?;
    Ok(())
}

/// Keeps a document under its digest; the same document is kept once.
pub async fn keep_document(tx: &mut Tx, sha256: &str, document: &str, now: Timestamp) -> Result<(), Stop> {
    tx.execute(&KEEP_DOCUMENT, params![sha256, document, now]).await?;
    Ok(())
}

/// The document with this digest.
pub async fn document(tx: &mut Tx, sha256: &str) -> Result<Option<String>, Stop> {
    let found = tx.one::<(String, String)>(&DOCUMENT, params![sha256]).await?;
    Ok(found.map(|(_, document)| document))
}
