//! Decides how payments over Lightning are kept: what an invoice may cost, what became of paying it, and the receipt
//! that is given of it for ever.

use oa_contract::{
    Msats, Timestamp,
    refusal::{Fault, Stop},
};
use serde_json::value::RawValue;

use super::{runs::json, treasury::msats};
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static QUOTE: Statement = sealed_statement!("liquidity/quote", "liquidity_quotes");
static QUOTE_BY_KEY: Statement = sealed_statement!("liquidity/quote_by_key", "liquidity_quotes");
static INSERT_QUOTE: Statement = sealed_statement!("liquidity/insert_quote", "liquidity_quotes");
static PAYMENT: Statement = sealed_statement!("liquidity/payment", "liquidity_payments");
static PAYMENT_OF_HASH: Statement = sealed_statement!("liquidity/payment_of_hash", "liquidity_payments");
static PAYMENT_OF_HOLD: Statement = sealed_statement!("liquidity/payment_of_hold", "liquidity_payments");
static OPEN_PAYMENTS: Statement = sealed_statement!("liquidity/open_payments", "liquidity_payments");
static PUT_PAYMENT: Statement = sealed_statement!("liquidity/put_payment", "liquidity_payments");
static RECEIPT: Statement = sealed_statement!("liquidity/receipt", "liquidity_receipts");
static INSERT_RECEIPT: Statement = sealed_statement!("liquidity/insert_receipt", "liquidity_receipts");

/// What an invoice may cost.
#[derive(Clone, Debug)]
pub struct QuoteRow {
    pub quote_id: String,
    /// Whose idempotency key it is: an owner, or the operator.
    pub principal: String,
    pub idempotency_key: String,
    pub fingerprint: String,
    pub invoice: String,
    pub invoice_hash: String,
    /// None where the invoice was believed without being read whole.
    pub payment_hash: Option<String>,
    pub payee: Option<String>,
    pub host: String,
    pub quoted: Msats,
    pub max_amount: Msats,
    pub max_fee: Msats,
    pub urgency: Option<String>,
    pub policy_context: Box<RawValue>,
    pub policy_context_sha256: String,
    /// The account that pays.
    pub payer: String,
    pub valid_until: Timestamp,
    pub created_at: Timestamp,
}

/// How a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PaymentStatus {
    /// Begun; the wallet is being asked, or was when the process ended.
    InFlight,
    /// The wallet did not say how it ended. Only what the wallet says later changes that.
    Unknown,
    Succeeded,
    /// It surely was not paid, and nobody asks for it any more.
    Failed,
}

impl PaymentStatus {
    const ALL: [PaymentStatus; 4] =
        [PaymentStatus::InFlight, PaymentStatus::Unknown, PaymentStatus::Succeeded, PaymentStatus::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            PaymentStatus::InFlight => "in_flight",
            PaymentStatus::Unknown => "unknown",
            PaymentStatus::Succeeded => "succeeded",
            PaymentStatus::Failed => "failed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    pub const fn is_final(self) -> bool {
        matches!(self, PaymentStatus::Succeeded | PaymentStatus::Failed)
    }
}

/// One payment, whoever wants it.
#[derive(Clone, Debug)]
pub struct PaymentRow {
    pub payment_id: String,
    /// Who wants it: `quote`, `credit`, `pool`.
    pub lane: String,
    pub fingerprint: String,
    /// Under which the wallet knows it.
    pub request_id: String,
    pub wallet_id: String,
    pub invoice: String,
    pub payment_hash: Option<String>,
    pub host: String,
    pub amount: Msats,
    pub max_fee: Msats,
    /// The account that pays; none when the lane moves its money itself.
    pub payer: Option<String>,
    /// What is held for it in the ledger.
    pub hold_id: Option<String>,
    pub run_id: Option<String>,
    pub trajectory_hash: Option<String>,
    pub status: PaymentStatus,
    /// How often the wallet was asked.
    pub asks: u64,
    /// When whoever comes by asks the wallet again; none once it is over.
    pub next_ask_at: Option<Timestamp>,
    /// The wallet may not begin it after this.
    pub not_after: Timestamp,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub latency_ms: Option<u64>,
    /// Everything the wallet said in the end.
    pub wallet_response: Option<Box<RawValue>>,
    pub wallet_receipt_sha256: Option<String>,
    pub preimage_sha256: Option<String>,
    pub paid_at_ms: Option<i64>,
    pub settled: Option<Msats>,
    pub fee: Option<Msats>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub updated_at: Timestamp,
}

/// The receipt of a payment, as it is answered for ever.
#[derive(Clone, Debug)]
pub struct ReceiptRow {
    pub quote_id: String,
    pub receipt_schema: String,
    pub canonical_json_sha256: String,
    pub receipt: Box<RawValue>,
    pub created_at: Timestamp,
}

fn column(amount: Msats) -> i64 {
    oa_contract::Amount::from(amount).signed()
}

fn text(row: &Row<'_>, column: usize) -> Result<String, Fault> {
    Ok(row.text(column)?.to_owned())
}

fn opt_text(row: &Row<'_>, column: usize) -> Result<Option<String>, Fault> {
    Ok(row.opt_text(column)?.map(str::to_owned))
}

fn opt_msats(row: &Row<'_>, column: usize) -> Result<Option<Msats>, Fault> {
    row.opt_uint(column)?.map(|_| msats(row, column)).transpose()
}

impl FromRow for QuoteRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(QuoteRow {
            quote_id: text(row, 0)?,
            principal: text(row, 1)?,
            idempotency_key: text(row, 2)?,
            fingerprint: text(row, 3)?,
            invoice: text(row, 4)?,
            invoice_hash: text(row, 5)?,
            payment_hash: opt_text(row, 6)?,
            payee: opt_text(row, 7)?,
            host: text(row, 8)?,
            quoted: msats(row, 9)?,
            max_amount: msats(row, 10)?,
            max_fee: msats(row, 11)?,
            urgency: opt_text(row, 12)?,
            policy_context: json(row.text(13)?)?,
            policy_context_sha256: text(row, 14)?,
            payer: text(row, 15)?,
            valid_until: row.timestamp(16)?,
            created_at: row.timestamp(17)?,
        })
    }
}

impl FromRow for PaymentRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let status = row.text(14)?;
        Ok(PaymentRow {
            payment_id: text(row, 0)?,
            lane: text(row, 1)?,
            fingerprint: text(row, 2)?,
            request_id: text(row, 3)?,
            wallet_id: text(row, 4)?,
            invoice: text(row, 5)?,
            payment_hash: opt_text(row, 6)?,
            host: text(row, 7)?,
            amount: msats(row, 8)?,
            max_fee: msats(row, 9)?,
            payer: opt_text(row, 10)?,
            hold_id: opt_text(row, 11)?,
            run_id: opt_text(row, 12)?,
            trajectory_hash: opt_text(row, 13)?,
            status: PaymentStatus::parse(status)
                .ok_or_else(|| Fault::msg(format!("a stored payment has the unknown status {status:?}")))?,
            asks: row.uint(15)?,
            next_ask_at: row.opt_timestamp(16)?,
            not_after: row.timestamp(17)?,
            started_at: row.timestamp(18)?,
            completed_at: row.opt_timestamp(19)?,
            latency_ms: row.opt_uint(20)?,
            wallet_response: row.opt_text(21)?.map(json).transpose()?,
            wallet_receipt_sha256: opt_text(row, 22)?,
            preimage_sha256: opt_text(row, 23)?,
            paid_at_ms: row.opt_int(24)?,
            settled: opt_msats(row, 25)?,
            fee: opt_msats(row, 26)?,
            error_code: opt_text(row, 27)?,
            error_message: opt_text(row, 28)?,
            updated_at: row.timestamp(29)?,
        })
    }
}

impl FromRow for ReceiptRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(ReceiptRow {
            quote_id: text(row, 0)?,
            receipt_schema: text(row, 1)?,
            canonical_json_sha256: text(row, 2)?,
            receipt: json(row.text(3)?)?,
            created_at: row.timestamp(4)?,
        })
    }
}

pub async fn quote(tx: &mut Tx, quote_id: &str) -> Result<Option<QuoteRow>, Stop> {
    tx.one(&QUOTE, params![quote_id]).await
}

pub async fn quote_by_key(tx: &mut Tx, principal: &str, key: &str) -> Result<Option<QuoteRow>, Stop> {
    tx.one(&QUOTE_BY_KEY, params![principal, key]).await
}

/// Writes a quote that is new. The caller holds the key of its principal and idempotency key.
pub async fn insert_quote(tx: &mut Tx, row: &QuoteRow) -> Result<(), Stop> {
    let params = params![
        &row.quote_id,
        &row.principal,
        &row.idempotency_key,
        &row.fingerprint,
        &row.invoice,
        &row.invoice_hash,
        &row.payment_hash,
        &row.payee,
        &row.host,
        column(row.quoted),
        column(row.max_amount),
        column(row.max_fee),
        &row.urgency,
        row.policy_context.get(),
        &row.policy_context_sha256,
        &row.payer,
        row.valid_until,
        row.created_at
    ];
    tx.execute(&INSERT_QUOTE, params).await?;
    Ok(())
}

pub async fn payment(tx: &mut Tx, payment_id: &str) -> Result<Option<PaymentRow>, Stop> {
    tx.one(&PAYMENT, params![payment_id]).await
}

/// The payment that this hold of the ledger is for, the latest begun.
pub async fn payment_of_hold(tx: &mut Tx, hold_id: &str) -> Result<Option<PaymentRow>, Stop> {
    tx.one(&PAYMENT_OF_HOLD, params![hold_id]).await
}

/// The payment of this hash that was made or may be; there is at most one.
pub async fn payment_of_hash(tx: &mut Tx, payment_hash: &str) -> Result<Option<PaymentRow>, Stop> {
    tx.one(&PAYMENT_OF_HASH, params![payment_hash]).await
}

/// Payments whose end nobody knows and that are due to be asked about, the longest due first.
pub async fn open_payments(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<PaymentRow>, Stop> {
    tx.all(&OPEN_PAYMENTS, params![now, limit]).await
}

/// Writes the whole row, new or known. The caller holds the payment's key.
pub async fn put_payment(tx: &mut Tx, row: &PaymentRow) -> Result<(), Stop> {
    let latency = row.latency_ms.map(Value::unsigned).transpose()?.unwrap_or(Value::Null);
    let params = params![
        &row.payment_id,
        &row.lane,
        &row.fingerprint,
        &row.request_id,
        &row.wallet_id,
        &row.invoice,
        &row.payment_hash,
        &row.host,
        column(row.amount),
        column(row.max_fee),
        &row.payer,
        &row.hold_id,
        &row.run_id,
        &row.trajectory_hash,
        row.status.name(),
        Value::unsigned(row.asks)?,
        row.next_ask_at,
        row.not_after,
        row.started_at,
        row.completed_at,
        latency,
        row.wallet_response.as_ref().map(|response| response.get()),
        &row.wallet_receipt_sha256,
        &row.preimage_sha256,
        row.paid_at_ms,
        row.settled.map(column),
        row.fee.map(column),
        &row.error_code,
        &row.error_message,
        row.updated_at
    ];
    tx.execute(&PUT_PAYMENT, params).await?;
    Ok(())
}

pub async fn receipt(tx: &mut Tx, quote_id: &str) -> Result<Option<ReceiptRow>, Stop> {
    tx.one(&RECEIPT, params![quote_id]).await
}

/// Writes a receipt that is new. The caller holds the payment's key.
pub async fn insert_receipt(tx: &mut Tx, row: &ReceiptRow) -> Result<(), Stop> {
    let params = params![
        &row.quote_id,
        &row.receipt_schema,
        &row.canonical_json_sha256,
        row.receipt.get(),
        row.created_at
    ];
    tx.execute(&INSERT_RECEIPT, params).await?;
    Ok(())
}
