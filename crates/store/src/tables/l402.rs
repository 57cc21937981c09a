//! Decides how payments for fetches are kept: each invoice once, what a day has cost, the credentials that were
//! bought, the fetches that wait for approval, and the receipts.

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
    value::Value,
};

static PUT_PAYMENT: Statement = sealed_statement!("l402/put_payment", "l402_payments");
static PAYMENT: Statement = sealed_statement!("l402/payment", "l402_payments");
static OF_SUBJECT: Statement = sealed_statement!("l402/payment_of_subject", "l402_payments");
static UNRESOLVED: Statement = sealed_statement!("l402/unresolved", "l402_payments");
static PUT_SPEND: Statement = sealed_statement!("l402/put_spend", "l402_spends");
static SPEND: Statement = sealed_statement!("l402/spend", "l402_spends");
static PUT_CREDENTIAL: Statement = sealed_statement!("l402/put_credential", "l402_credentials");
static CREDENTIAL: Statement = sealed_statement!("l402/credential", "l402_credentials");
static PURGE_CREDENTIALS: Statement = statement!("l402/purge_credentials");
static PUT_TASK: Statement = sealed_statement!("l402/put_task", "l402_tasks");
static TASK: Statement = sealed_statement!("l402/task", "l402_tasks");
static ADD_RECEIPT: Statement = sealed_statement!("l402/add_receipt", "l402_receipts");
static RECEIPTS: Statement = sealed_statement!("l402/receipts", "l402_receipts");
static OF_AUTOPILOT: Statement = sealed_statement!("l402/receipts_of_autopilot", "l402_receipts");
static RECEIPT: Statement = sealed_statement!("l402/receipt", "l402_receipts");
static PAID_OF_TASK: Statement = sealed_statement!("l402/paid_receipt_of_task", "l402_receipts");
static PUT_RESULT: Statement = sealed_statement!("l402/put_result", "l402_results");
static RESULT: Statement = sealed_statement!("l402/result", "l402_results");

macro_rules! states {
    ($(#[doc = $doc:literal])* $kind:ident { $( $(#[doc = $why:literal])* $variant:ident $name:literal, )+ }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $( $(#[doc = $why])* $variant, )+ }

        impl $kind {
            pub const fn name(self) -> &'static str {
                match self { $($kind::$variant => $name),+ }
            }

            fn read(name: &str) -> Result<Self, Fault> {
                match name {
                    $($name => Ok($kind::$variant),)+
                    _ => Err(Fault::msg(format!("{name:?} is kept as a {}", stringify!($kind)))),
                }
            }
        }
    };
}

states! {
    /// How far a payment has come.
    PaymentState {
        /// Reserved, and nobody was asked to pay yet.
        Pending "pending",
        /// The payer may have heard of it.
        Paying "paying",
        Paid "paid",
        /// The payer said that it did not and will not pay.
        Failed "failed",
        /// The payer did not say; only the payer can end this.
        Unknown "unknown",
    }
}

states! {
    /// How far a fetch that waits for approval has come.
    TaskState {
        Pending "pending",
        Paying "paying",
        Paid "paid",
        /// The payment failed and may be tried again.
        Failed "failed",
        Expired "expired",
    }
}

/// One invoice, and what became of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Payment {
    pub payment_hash: String,
    /// The call or the task that is paid for.
    pub subject: String,
    pub principal: String,
    pub state: PaymentState,
    pub payer: String,
    /// What the payer tells repeated requests by.
    pub request_id: String,
    pub invoice: String,
    /// Sealed by the service.
    pub macaroon: String,
    pub origin: String,
    pub host: String,
    pub scope: String,
    /// Empty without an autopilot.
    pub autopilot: String,
    /// The day (UTC) whose limit it counts against.
    pub day: String,
    pub quoted_msats: Option<u64>,
    pub max_msats: u64,
    pub reserved_msats: u64,
    pub paid_msats: Option<u64>,
    pub payment_id: Option<String>,
    /// Sealed by the service.
    pub preimage: Option<String>,
    pub attempt: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What one day has cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    pub principal: String,
    pub autopilot: String,
    pub day: String,
    pub reserved_msats: u64,
    pub paid_msats: u64,
}

/// A credential that was bought.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub principal: String,
    pub origin: String,
    pub scope: String,
    /// Sealed by the service.
    pub credential: String,
    pub expires_at: Timestamp,
}

/// A fetch that waits for approval.
#[derive(Clone, PartialEq, Eq)]
pub struct Task {
    pub task_id: String,
    pub principal: String,
    pub state: TaskState,
    /// The request, the challenge and the invoice; sealed by the service.
    pub held: String,
    pub payment_hash: String,
    pub origin: String,
    pub host: String,
    pub scope: String,
    pub autopilot: String,
    pub quoted_msats: Option<u64>,
    pub max_msats: u64,
    pub max_day_msats: Option<u64>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub changed_at: Timestamp,
}

/// What a lightning call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReceipt {
    pub receipt_id: String,
    pub principal: String,
    pub autopilot: String,
    pub thread_id: String,
    pub run_id: String,
    pub run_status: String,
    pub status: String,
    /// Empty without a task.
    pub task_id: String,
    pub paid: bool,
    pub payload: String,
    pub created_at: Timestamp,
}

/// A receipt and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub event_id: i64,
    pub receipt: NewReceipt,
}

fn msats(number: Option<u64>) -> Result<Value<'static>, Fault> {
    number.map_or(Ok(Value::Null), Value::unsigned)
}

impl FromRow for Payment {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| row.text(column).map(str::to_owned);
        Ok(Payment {
            payment_hash: text(0)?,
            subject: text(1)?,
            principal: text(2)?,
            state: PaymentState::read(row.text(3)?)?,
            payer: text(4)?,
            request_id: text(5)?,
            invoice: text(6)?,
            macaroon: text(7)?,
            origin: text(8)?,
            host: text(9)?,
            scope: text(10)?,
            autopilot: text(11)?,
            day: text(12)?,
            quoted_msats: row.opt_uint(13)?,
            max_msats: row.uint(14)?,
            reserved_msats: row.uint(15)?,
            paid_msats: row.opt_uint(16)?,
            payment_id: row.opt_text(17)?.map(str::to_owned),
            preimage: row.opt_text(18)?.map(str::to_owned),
            attempt: row.uint(19)?,
            created_at: row.timestamp(20)?,
            updated_at: row.timestamp(21)?,
        })
    }
}

impl FromRow for Spend {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Spend {
            principal: row.text(0)?.into(),
            autopilot: row.text(1)?.into(),
            day: row.text(2)?.into(),
            reserved_msats: row.uint(3)?,
            paid_msats: row.uint(4)?,
        })
    }
}

impl FromRow for Credential {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Credential {
            principal: row.text(0)?.into(),
            origin: row.text(1)?.into(),
            scope: row.text(2)?.into(),
            credential: row.text(3)?.into(),
            expires_at: row.timestamp(4)?,
        })
    }
}

impl FromRow for Task {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| row.text(column).map(str::to_owned);
        Ok(Task {
            task_id: text(0)?,
            principal: text(1)?,
            state: TaskState::read(row.text(2)?)?,
            held: text(3)?,
            payment_hash: text(4)?,
            origin: text(5)?,
            host: text(6)?,
            scope: text(7)?,
            autopilot: text(8)?,
            quoted_msats: row.opt_uint(9)?,
            max_msats: row.uint(10)?,
            max_day_msats: row.opt_uint(11)?,
            created_at: row.timestamp(12)?,
            expires_at: row.timestamp(13)?,
            changed_at: row.timestamp(14)?,
        })
    }
}

impl FromRow for Receipt {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| row.text(column).map(str::to_owned);
        let receipt = NewReceipt {
            receipt_id: text(0)?,
            principal: text(1)?,
            autopilot: text(2)?,
            thread_id: text(3)?,
            run_id: text(4)?,
            run_status: text(5)?,
            status: text(6)?,
            task_id: text(7)?,
            paid: row.bool(8)?,
            payload: text(9)?,
            created_at: row.timestamp(10)?,
        };
        Ok(Receipt { receipt, event_id: row.int(12)? })
    }
}

/// Writes a payment, new or changed.
pub async fn put_payment(tx: &mut Tx, payment: &Payment) -> Result<(), Stop> {
    let params = params![
        &payment.payment_hash,
        &payment.subject,
        &payment.principal,
        payment.state.name(),
        &payment.payer,
        &payment.request_id,
        &payment.invoice,
        &payment.macaroon,
        &payment.origin,
        &payment.host,
        &payment.scope,
        &payment.autopilot,
        &payment.day,
        msats(payment.quoted_msats)?,
        Value::unsigned(payment.max_msats)?,
        Value::unsigned(payment.reserved_msats)?,
        msats(payment.paid_msats)?,
        &payment.payment_id,
        &payment.preimage,
        Value::unsigned(payment.attempt)?,
        payment.created_at,
        payment.updated_at,
    ];
    tx.execute(&PUT_PAYMENT, params).await?;
    Ok(())
}

pub async fn payment(tx: &mut Tx, payment_hash: &str) -> Result<Option<Payment>, Stop> {
    tx.one(&PAYMENT, params![payment_hash]).await
}

/// The payment of a call or a task that has not failed, if there is one.
pub async fn payment_of_subject(tx: &mut Tx, subject: &str) -> Result<Option<Payment>, Stop> {
    tx.one(&OF_SUBJECT, params![subject]).await
}

/// Up to `limit` payments that the payer was asked for and that nobody has looked at since `before`.
pub async fn unresolved(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<Vec<Payment>, Stop> {
    tx.all(&UNRESOLVED, params![before, limit]).await
}

pub async fn put_spend(tx: &mut Tx, spend: &Spend) -> Result<(), Stop> {
    let Spend { principal, autopilot, day, reserved_msats, paid_msats } = spend;
    let (reserved, paid) = (Value::unsigned(*reserved_msats)?, Value::unsigned(*paid_msats)?);
    tx.execute(&PUT_SPEND, params![principal, autopilot, day, reserved, paid]).await?;
    Ok(())
}

/// What a day has cost so far: nothing, when nothing is kept.
pub async fn spend(tx: &mut Tx, principal: &str, autopilot: &str, day: &str) -> Result<Spend, Stop> {
    let kept = tx.one(&SPEND, params![principal, autopilot, day]).await?;
    Ok(kept.unwrap_or_else(|| Spend {
        principal: principal.to_owned(),
        autopilot: autopilot.to_owned(),
        day: day.to_owned(),
        reserved_msats: 0,
        paid_msats: 0,
    }))
}

pub async fn put_credential(tx: &mut Tx, credential: &Credential) -> Result<(), Stop> {
    let Credential { principal, origin, scope, credential, expires_at } = credential;
    tx.execute(&PUT_CREDENTIAL, params![principal, origin, scope, credential, *expires_at]).await?;
    Ok(())
}

pub async fn credential(
    tx: &mut Tx,
    principal: &str,
    origin: &str,
    scope: &str,
) -> Result<Option<Credential>, Stop> {
    tx.one(&CREDENTIAL, params![principal, origin, scope]).await
}

/// Forgets up to `limit` credentials that expired before this moment.
pub async fn purge_credentials(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, Stop> {
    tx.execute(&PURGE_CREDENTIALS, params![before, limit]).await
}

/// Writes a task, new or changed.
pub async fn put_task(tx: &mut Tx, task: &Task) -> Result<(), Stop> {
    let params = params![
        &task.task_id,
        &task.principal,
        task.state.name(),
        &task.held,
        &task.payment_hash,
        &task.origin,
        &task.host,
        &task.scope,
        &task.autopilot,
        msats(task.quoted_msats)?,
        Value::unsigned(task.max_msats)?,
        msats(task.max_day_msats)?,
        task.created_at,
        task.expires_at,
        task.changed_at,
    ];
    tx.execute(&PUT_TASK, params).await?;
    Ok(())
}

pub async fn task(tx: &mut Tx, task_id: &str) -> Result<Option<Task>, Stop> {
    tx.one(&TASK, params![task_id]).await
}

/// Appends a receipt; says its number.
pub async fn add_receipt(tx: &mut Tx, receipt: &NewReceipt) -> Result<i64, Stop> {
    let params = params![
        &receipt.receipt_id,
        &receipt.principal,
        &receipt.autopilot,
        &receipt.thread_id,
        &receipt.run_id,
        &receipt.run_status,
        &receipt.status,
        &receipt.task_id,
        receipt.paid,
        &receipt.payload,
        receipt.created_at,
    ];
    let added = tx.one::<(i64,)>(&ADD_RECEIPT, params).await?;
    Ok(added.ok_or_else(|| Fault::msg("an appended receipt has no number"))?.0)
}

/// Up to `limit` receipts before a number, newest first, after leaving `skip` out.
pub async fn receipts(
    tx: &mut Tx,
    principal: &str,
    autopilot: Option<&str>,
    before: i64,
    (limit, skip): (u32, u32),
) -> Result<Vec<Receipt>, Stop> {
    match autopilot {
        None => tx.all(&RECEIPTS, params![principal, before, limit, skip]).await,
        Some(autopilot) => tx.all(&OF_AUTOPILOT, params![principal, before, limit, skip, autopilot]).await,
    }
}

pub async fn receipt(tx: &mut Tx, event_id: i64, principal: &str) -> Result<Option<Receipt>, Stop> {
    tx.one(&RECEIPT, params![event_id, principal]).await
}

/// The newest receipt that says that the task was paid.
pub async fn paid_receipt_of_task(
    tx: &mut Tx,
    principal: &str,
    task_id: &str,
) -> Result<Option<Receipt>, Stop> {
    tx.one(&PAID_OF_TASK, params![principal, task_id]).await
}

/// Keeps the whole result of a receipt beside it.
pub async fn put_result(tx: &mut Tx, event_id: i64, result: &str) -> Result<(), Stop> {
    tx.execute(&PUT_RESULT, params![event_id, result]).await?;
    Ok(())
}

pub async fn result(tx: &mut Tx, event_id: i64) -> Result<Option<String>, Stop> {
    Ok(tx.one::<(i64, String)>(&RESULT, params![event_id]).await?.map(|(_, result)| result))
}
