//! Decides how settlements are kept: one row an owner, run, job and attempt, with the answer that it is given for
//! ever; and the sums of them that a summary shows, changed in the same transaction.

use oa_contract::{
    Msats, Owner, Timestamp,
    refusal::{Fault, Stop},
    wire::treasury::JobStatus,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    tables::runs::json,
    transaction::Tx,
    value::Value,
};

static GET: Statement = sealed_statement!("treasury/get", "compute_settlements");
static BY_DISPATCH: Statement = sealed_statement!("treasury/by_dispatch", "compute_settlements");
static PUT: Statement = sealed_statement!("treasury/put", "compute_settlements");
static RECENT: Statement = sealed_statement!("treasury/recent", "compute_settlements");
static STALE: Statement = sealed_statement!("treasury/stale", "compute_settlements");
static STALE_OF: Statement = sealed_statement!("treasury/stale_of", "compute_settlements");
static IDS_AFTER: Statement = statement!("treasury/ids_after");
static OF_JOB: Statement = sealed_statement!("treasury/of_job", "compute_settlements");
static EARNING: Statement = sealed_statement!("treasury/earning", "compute_earnings");
static PUT_EARNING: Statement = sealed_statement!("treasury/put_earning", "compute_earnings");
static EARNINGS: Statement = sealed_statement!("treasury/earnings", "compute_earnings");
static TOTAL: Statement = sealed_statement!("treasury/total", "compute_totals");
static PUT_TOTAL: Statement = sealed_statement!("treasury/put_total", "compute_totals");

/// A settlement, or the reservation that one is under way for.
#[derive(Clone, Debug)]
pub struct SettlementRow {
    pub settlement_id: String,
    pub owner: Owner,
    pub run_id: Uuid,
    pub job_hash: String,
    pub attempt: u32,
    pub provider_id: String,
    pub worker_id: String,
    /// The provider's part; what was agreed for the operator and the policy comes on top.
    pub amount: Msats,
    pub operator_fee: Msats,
    pub policy_adder: Msats,
    pub status: JobStatus,
    pub verification_passed: Option<bool>,
    pub exit_code: Option<i32>,
    pub withheld_reason: Option<String>,
    pub dispatch_id: Option<String>,
    pub quote_sha256: Option<String>,
    /// The transfer that holds, or held, the money.
    pub hold_id: String,
    /// How often money was reserved: a reservation that expired is made anew.
    pub reservations: u32,
    /// What was asked for; another content is a conflict.
    pub fingerprint: Vec<u8>,
    pub receipt_sha256: Option<String>,
    /// The answer, once there is one.
    pub reply: Option<Box<RawValue>>,
    pub reserved_at: Timestamp,
    pub settled_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

/// What one owner's jobs brought to one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earning {
    pub provider_id: String,
    pub sums: Sums,
}

/// Jobs that were paid for, and jobs that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub released: Msats,
    pub released_jobs: u64,
    pub withheld_jobs: u64,
}

/// One job more or less in the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Released(Msats),
    Withheld,
    /// A reservation that had expired was made anew.
    NoLongerWithheld,
}

impl Sums {
    fn with(self, counted: Counted) -> Result<Self, Fault> {
        let overflow = || Fault::msg("the sums of an owner's settlements do not fit");
        Ok(match counted {
            Counted::Released(amount) => Sums {
                released: self
                    .released
                    .get()
                    .checked_add(amount.get())
                    .and_then(Msats::new)
                    .ok_or_else(overflow)?,
                released_jobs: self.released_jobs + 1,
                ..self
            },
            Counted::Withheld => Sums { withheld_jobs: self.withheld_jobs + 1, ..self },
            Counted::NoLongerWithheld => {
                Sums { withheld_jobs: self.withheld_jobs.checked_sub(1).ok_or_else(overflow)?, ..self }
            }
        })
    }
}

pub(super) fn msats(row: &Row<'_>, column: usize) -> Result<Msats, Fault> {
    Msats::new(row.uint(column)?).ok_or_else(|| Fault::msg("a stored amount is more than there will ever be"))
}

fn column(amount: Msats) -> i64 {
    oa_contract::Amount::from(amount).signed()
}

impl FromRow for SettlementRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| Ok::<_, Fault>(row.opt_text(column)?.map(str::to_owned));
        let small = |column| {
            u32::try_from(row.uint(column)?).map_err(|error| Fault::new("reading a stored settlement", error))
        };
        let (owner, status) = (row.text(1)?, row.text(10)?);
        let unknown = |what: &str| Fault::msg(format!("a stored settlement has the unknown {what}"));
        let exit_code = row.opt_int(12)?.map(i32::try_from).transpose();
        Ok(SettlementRow {
            settlement_id: row.text(0)?.to_owned(),
            owner: Owner::parse(owner).ok_or_else(|| unknown("owner"))?,
            run_id: row.uuid(2)?,
            job_hash: row.text(3)?.to_owned(),
            attempt: small(4)?,
            provider_id: row.text(5)?.to_owned(),
            worker_id: row.text(6)?.to_owned(),
            amount: msats(row, 7)?,
            operator_fee: msats(row, 8)?,
            policy_adder: msats(row, 9)?,
            status: JobStatus::parse(status).ok_or_else(|| unknown("status"))?,
            verification_passed: row.opt_int(11)?.map(|passed| passed != 0),
            exit_code: exit_code.map_err(|error| Fault::new("reading a stored exit code", error))?,
            withheld_reason: text(13)?,
            dispatch_id: text(14)?,
            quote_sha256: text(15)?,
            hold_id: row.text(16)?.to_owned(),
            reservations: small(17)?,
            fingerprint: row.bytes(18)?.to_vec(),
            receipt_sha256: text(19)?,
            reply: row.opt_text(20)?.map(json).transpose()?,
            reserved_at: row.timestamp(21)?,
            settled_at: row.opt_timestamp(22)?,
            updated_at: row.timestamp(23)?,
        })
    }
}

impl FromRow for Earning {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let sums =
            Sums { released: msats(row, 2)?, released_jobs: row.uint(3)?, withheld_jobs: row.uint(4)? };
        Ok(Earning { provider_id: row.text(1)?.to_owned(), sums })
    }
}

impl FromRow for Sums {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Sums { released: msats(row, 1)?, released_jobs: row.uint(2)?, withheld_jobs: row.uint(3)? })
    }
}

pub async fn get(tx: &mut Tx, settlement_id: &str) -> Result<Option<SettlementRow>, Stop> {
    tx.one(&GET, params![settlement_id]).await
}

/// The settlement of what a dispatch received.
pub async fn by_dispatch(tx: &mut Tx, dispatch_id: &str) -> Result<Option<SettlementRow>, Stop> {
    tx.one(&BY_DISPATCH, params![dispatch_id]).await
}

/// Writes the whole row, new or known. The caller holds the owner's key.
pub async fn put(tx: &mut Tx, row: &SettlementRow) -> Result<(), Stop> {
    let owner_key = row.owner.to_string();
    let params = params![
        &row.settlement_id,
        &owner_key,
        &row.run_id,
        &row.job_hash,
        row.attempt,
        &row.provider_id,
        &row.worker_id,
        column(row.amount),
        column(row.operator_fee),
        column(row.policy_adder),
        row.status.name(),
        row.verification_passed,
        row.exit_code,
        &row.withheld_reason,
        &row.dispatch_id,
        &row.quote_sha256,
        &row.hold_id,
        row.reservations,
        &row.fingerprint,
        &row.receipt_sha256,
        row.reply.as_deref().map(RawValue::get),
        row.reserved_at,
        row.settled_at,
        row.updated_at
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}

/// An owner's settlements, the last changed first.
pub async fn recent(tx: &mut Tx, owner: &Owner, limit: u32) -> Result<Vec<SettlementRow>, Stop> {
    tx.all(&RECENT, params![&owner.to_string(), limit]).await
}

/// Reservations made at `until` or before, by their jobs: of one owner, or of all.
pub async fn stale(
    tx: &mut Tx,
    owner: Option<&Owner>,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<SettlementRow>, Stop> {
    match owner {
        Some(owner) => tx.all(&STALE_OF, params![until, limit, &owner.to_string()]).await,
        None => tx.all(&STALE, params![until, limit]).await,
    }
}

/// The ids behind `after`, in their order; also of rows that cannot be read any more.
pub async fn ids_after(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<String>, Stop> {
    let ids = tx.all::<(String,)>(&IDS_AFTER, params![after, limit]).await?;
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

/// Settlements of one attempt at a job in a run: one, unless the run is nobody's in particular.
pub async fn of_job(
    tx: &mut Tx,
    run_id: Uuid,
    job_hash: &str,
    attempt: u32,
    limit: u32,
) -> Result<Vec<SettlementRow>, Stop> {
    tx.all(&OF_JOB, params![&run_id, job_hash, attempt, limit]).await
}

/// Counts a job in the sums of its owner. The caller holds the owner's key.
pub async fn count(tx: &mut Tx, owner: &Owner, provider_id: &str, counted: Counted) -> Result<(), Stop> {
    let owner_key = owner.to_string();
    let earning = tx.one::<Earning>(&EARNING, params![&owner_key, provider_id]).await?;
    let sums = earning.map(|earning| earning.sums).unwrap_or_default().with(counted)?;
    let params = params![
        &owner_key,
        provider_id,
        column(sums.released),
        Value::unsigned(sums.released_jobs)?,
        Value::unsigned(sums.withheld_jobs)?
    ];
    tx.execute(&PUT_EARNING, params).await?;
    let sums = total(tx, owner).await?.with(counted)?;
    let params = params![
        &owner_key,
        column(sums.released),
        Value::unsigned(sums.released_jobs)?,
        Value::unsigned(sums.withheld_jobs)?
    ];
    tx.execute(&PUT_TOTAL, params).await?;
    Ok(())
}

/// All settlements of an owner, added up.
pub async fn total(tx: &mut Tx, owner: &Owner) -> Result<Sums, Stop> {
    Ok(tx.one(&TOTAL, params![&owner.to_string()]).await?.unwrap_or_default())
}

/// What an owner's jobs brought to whom, the most first.
pub async fn earnings(tx: &mut Tx, owner: &Owner, limit: u32) -> Result<Vec<Earning>, Stop> {
    tx.all(&EARNINGS, params![&owner.to_string(), limit]).await
}
