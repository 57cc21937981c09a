//! Decides how withdrawals from pools are kept, and in which order their queue is looked through.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
    wire::pools::{PartitionKind, PayoutRail, WithdrawalStatus},
};

use super::pools::{owned, word};
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static WITHDRAWAL: Statement = sealed_statement!("pools/withdrawal", "liquidity_withdrawals");
static BY_KEY: Statement = sealed_statement!("pools/withdrawal_by_key", "liquidity_withdrawals");
static BY_HASH: Statement = sealed_statement!("pools/withdrawal_by_hash", "liquidity_withdrawals");
static DUE: Statement = sealed_statement!("pools/withdrawals_due", "liquidity_withdrawals");
static PUT: Statement = sealed_statement!("pools/put_withdrawal", "liquidity_withdrawals");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawalRow {
    pub withdrawal_id: String,
    pub pool_id: String,
    pub partition: PartitionKind,
    pub lp_id: String,
    pub shares_burned: u64,
    pub amount_sats: u64,
    pub rail: PayoutRail,
    pub status: WithdrawalStatus,
    pub fingerprint: String,
    pub idempotency_key: String,
    pub earliest_settlement_at: Timestamp,
    pub payout_invoice: Option<String>,
    pub payout_invoice_hash: Option<String>,
    pub payment_hash: Option<String>,
    pub payout_address: Option<String>,
    /// Whether the shares are locked, and the sum promised.
    pub locked: bool,
    /// How often a payout has failed for certain; each try has holds of its own.
    pub round: u32,
    /// Under which the wallet knows the payout that is under way.
    pub request_id: Option<String>,
    /// What is held for it, its fee included.
    pub paying_msats: u64,
    /// The wallet begins nothing after this.
    pub not_after: Option<Timestamp>,
    pub signing_request_id: Option<String>,
    /// When the queue looks at it next.
    pub due_at: Option<Timestamp>,
    pub wallet_receipt_sha256: Option<String>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub paid_at: Option<Timestamp>,
    /// What the pool sets aside for the shares: the payout, and what its way may cost whoever leaves.
    pub owed_msats: u64,
    /// Shares that came back when it was over: what the way did not cost, or what was promised and not paid.
    pub shares_returned: u64,
    /// How many of the rounds failed because of the payee: so many are borne, and no more.
    pub tries: u32,
    /// How often the wallet was asked to send, in this round.
    pub asks: u32,
}

impl FromRow for WithdrawalRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let small = |at: usize| {
            u32::try_from(row.uint(at)?).map_err(|error| Fault::new("reading a stored withdrawal", error))
        };
        Ok(WithdrawalRow {
            withdrawal_id: row.text(0)?.to_owned(),
            pool_id: row.text(1)?.to_owned(),
            partition: word(row.text(2)?, PartitionKind::parse, "partition")?,
            lp_id: row.text(3)?.to_owned(),
            shares_burned: row.uint(4)?,
            amount_sats: row.uint(5)?,
            rail: word(row.text(6)?, PayoutRail::parse, "rail")?,
            status: word(row.text(7)?, WithdrawalStatus::parse, "status of a withdrawal")?,
            fingerprint: row.text(8)?.to_owned(),
            idempotency_key: row.text(9)?.to_owned(),
            earliest_settlement_at: row.timestamp(10)?,
            payout_invoice: owned(row, 11)?,
            payout_invoice_hash: owned(row, 12)?,
            payment_hash: owned(row, 13)?,
            payout_address: owned(row, 14)?,
            locked: row.bool(15)?,
            round: small(16)?,
            request_id: owned(row, 17)?,
            paying_msats: row.uint(18)?,
            not_after: row.opt_timestamp(19)?,
            signing_request_id: owned(row, 20)?,
            due_at: row.opt_timestamp(21)?,
            wallet_receipt_sha256: owned(row, 22)?,
            last_error: owned(row, 23)?,
            created_at: row.timestamp(24)?,
            paid_at: row.opt_timestamp(25)?,
            owed_msats: row.uint(26)?,
            shares_returned: row.uint(27)?,
            tries: small(28)?,
            asks: small(29)?,
        })
    }
}

pub async fn get(tx: &mut Tx, withdrawal_id: &str) -> Result<Option<WithdrawalRow>, Stop> {
    tx.one(&WITHDRAWAL, params![withdrawal_id]).await
}

pub async fn by_key(
    tx: &mut Tx,
    pool_id: &str,
    partition: PartitionKind,
    lp_id: &str,
    key: &str,
) -> Result<Option<WithdrawalRow>, Stop> {
    tx.one(&BY_KEY, params![pool_id, partition.name(), lp_id, key]).await
}

/// The withdrawal that pays, or has paid, the invoice of this payment hash.
pub async fn by_payment_hash(tx: &mut Tx, payment_hash: &str) -> Result<Option<WithdrawalRow>, Stop> {
    tx.one(&BY_HASH, params![payment_hash]).await
}

/// Where the queue was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub due_at: Timestamp,
    pub created_at: Timestamp,
    pub withdrawal_id: String,
}

impl Default for Place {
    fn default() -> Self {
        Place { due_at: Timestamp::EPOCH, created_at: Timestamp::EPOCH, withdrawal_id: String::new() }
    }
}

impl Place {
    pub fn of(row: &WithdrawalRow) -> Option<Self> {
        let withdrawal_id = row.withdrawal_id.clone();
        Some(Place { due_at: row.due_at?, created_at: row.created_at, withdrawal_id })
    }
}

/// What is due now and stands behind `after`, the longest due first.
pub async fn due(tx: &mut Tx, now: Timestamp, after: &Place, limit: u32) -> Result<Vec<WithdrawalRow>, Stop> {
    tx.all(&DUE, params![now, after.due_at, after.created_at, &after.withdrawal_id, limit]).await
}

/// Writes the whole row. The caller holds the pool's key.
pub async fn put(tx: &mut Tx, row: &WithdrawalRow) -> Result<(), Stop> {
    let params = params![
        &row.withdrawal_id,
        &row.pool_id,
        row.partition.name(),
        &row.lp_id,
        Value::unsigned(row.shares_burned)?,
        Value::unsigned(row.amount_sats)?,
        row.rail.name(),
        row.status.name(),
        &row.fingerprint,
        &row.idempotency_key,
        row.earliest_settlement_at,
        &row.payout_invoice,
        &row.payout_invoice_hash,
        &row.payment_hash,
        &row.payout_address,
        row.locked,
        row.round,
        &row.request_id,
        Value::unsigned(row.paying_msats)?,
        row.not_after,
        &row.signing_request_id,
        row.due_at,
        &row.wallet_receipt_sha256,
        &row.last_error,
        row.created_at,
        row.paid_at,
        Value::unsigned(row.owed_msats)?,
        Value::unsigned(row.shares_returned)?,
        row.tries,
        row.asks
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}
