//! Decides how pools, their partitions and the deposits into them are kept, and the first receipt of each kind for
//! each thing.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
    wire::pools::{DepositRail, DepositStatus, PartitionKind, Pool, PoolKind, PoolStatus},
};
use serde_json::value::RawValue;

use super::runs::json;
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static POOL: Statement = sealed_statement!("pools/pool", "liquidity_pools");
static INSERT_POOL: Statement = sealed_statement!("pools/insert_pool", "liquidity_pools");
static PARTITION: Statement = sealed_statement!("pools/partition", "liquidity_pool_partitions");
static PUT_PARTITION: Statement = sealed_statement!("pools/put_partition", "liquidity_pool_partitions");
static DEPOSIT: Statement = sealed_statement!("pools/deposit", "liquidity_deposits");
static DEPOSIT_BY_KEY: Statement = sealed_statement!("pools/deposit_by_key", "liquidity_deposits");
static DEPOSIT_BY_EVIDENCE: Statement = sealed_statement!("pools/deposit_by_evidence", "liquidity_deposits");
static DEPOSIT_BY_ADDRESS: Statement = sealed_statement!("pools/deposit_by_address", "liquidity_deposits");
static DEPOSITS_OPEN: Statement = sealed_statement!("pools/deposits_open", "liquidity_deposits");
static PUT_DEPOSIT: Statement = sealed_statement!("pools/put_deposit", "liquidity_deposits");
static PUT_PROVIDER: Statement = sealed_statement!("pools/put_provider", "liquidity_lp_accounts");
static PROVIDERS: Statement = sealed_statement!("pools/providers", "liquidity_lp_accounts");
static RECEIPT: Statement = sealed_statement!("pools/receipt", "liquidity_pool_receipts");
static INSERT_RECEIPT: Statement = sealed_statement!("pools/insert_receipt", "liquidity_pool_receipts");

/// A word of a closed list, as it is stored.
pub(super) fn word<T>(text: &str, parse: fn(&str) -> Option<T>, what: &str) -> Result<T, Fault> {
    parse(text).ok_or_else(|| Fault::msg(format!("a stored {what} is unknown: {text:?}")))
}

pub(super) fn owned(row: &Row<'_>, column: usize) -> Result<Option<String>, Fault> {
    Ok(row.opt_text(column)?.map(str::to_owned))
}

pub(super) fn opt_unsigned(number: Option<u64>) -> Result<Value<'static>, Fault> {
    number.map_or(Ok(Value::Null), Value::unsigned)
}

impl FromRow for Pool {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Pool {
            pool_id: row.text(0)?.to_owned(),
            pool_kind: word(row.text(1)?, PoolKind::parse, "kind of pool")?,
            operator_id: row.text(2)?.to_owned(),
            status: word(row.text(3)?, PoolStatus::parse, "status of a pool")?,
            config: json(row.text(4)?)?,
            created_at: row.timestamp(5)?,
        })
    }
}

pub async fn pool(tx: &mut Tx, pool_id: &str) -> Result<Option<Pool>, Stop> {
    tx.one(&POOL, params![pool_id]).await
}

/// The caller holds the pool's key and has looked.
pub async fn insert_pool(tx: &mut Tx, pool: &Pool) -> Result<(), Stop> {
    let params = params![
        &pool.pool_id,
        pool.pool_kind.name(),
        &pool.operator_id,
        pool.status.name(),
        pool.config.get(),
        pool.created_at
    ];
    tx.execute(&INSERT_POOL, params).await?;
    Ok(())
}

/// What would have to be added up over the withdrawals of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    pub pool_id: String,
    pub kind: PartitionKind,
    /// Estimates of withdrawals that are still to be paid.
    pub pending_sats: u64,
    /// Promises to withdrawals whose shares are locked.
    pub owed_msats: u64,
    /// Held for payouts that are under way: the rest of what the partition's account holds back is committed
    /// elsewhere.
    pub paying_msats: u64,
    /// Changes whenever a share moves.
    pub shares_version: u64,
}

impl PartitionRow {
    pub fn fresh(pool_id: &str, kind: PartitionKind) -> Self {
        let pool_id = pool_id.to_owned();
        PartitionRow { pool_id, kind, pending_sats: 0, owed_msats: 0, paying_msats: 0, shares_version: 0 }
    }
}

impl FromRow for PartitionRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(PartitionRow {
            pool_id: row.text(0)?.to_owned(),
            kind: word(row.text(1)?, PartitionKind::parse, "partition")?,
            pending_sats: row.uint(2)?,
            owed_msats: row.uint(3)?,
            paying_msats: row.uint(4)?,
            shares_version: row.uint(5)?,
        })
    }
}

/// As it stands, or as it begins.
pub async fn partition(tx: &mut Tx, pool_id: &str, kind: PartitionKind) -> Result<PartitionRow, Stop> {
    let found = tx.one(&PARTITION, params![pool_id, kind.name()]).await?;
    Ok(found.unwrap_or_else(|| PartitionRow::fresh(pool_id, kind)))
}

/// The caller holds the pool's key.
pub async fn put_partition(tx: &mut Tx, row: &PartitionRow) -> Result<(), Stop> {
    let params = params![
        &row.pool_id,
        row.kind.name(),
        Value::unsigned(row.pending_sats)?,
        Value::unsigned(row.owed_msats)?,
        Value::unsigned(row.paying_msats)?,
        Value::unsigned(row.shares_version)?
    ];
    tx.execute(&PUT_PARTITION, params).await?;
    Ok(())
}

/// Notes that somebody has shares of a partition.
pub async fn put_provider(tx: &mut Tx, pool_id: &str, kind: PartitionKind, lp_id: &str) -> Result<(), Stop> {
    tx.execute(&PUT_PROVIDER, params![pool_id, kind.name(), lp_id]).await?;
    Ok(())
}

/// Whoever has, or had, shares of a partition, behind `after`.
pub async fn providers(
    tx: &mut Tx,
    pool_id: &str,
    kind: PartitionKind,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, Stop> {
    let found =
        tx.all::<(String, String, String)>(&PROVIDERS, params![pool_id, kind.name(), after, limit]).await?;
    Ok(found.into_iter().map(|(_, _, lp_id)| lp_id).collect())
}

/// A deposit, quoted or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositRow {
    pub deposit_id: String,
    pub pool_id: String,
    pub partition: PartitionKind,
    pub lp_id: String,
    pub rail: DepositRail,
    pub amount_sats: u64,
    pub share_price_sats: u64,
    pub shares_minted: u64,
    pub status: DepositStatus,
    pub fingerprint: String,
    pub idempotency_key: String,
    /// Under which the wallet knows its invoice or address.
    pub wallet_request_id: String,
    pub invoice_bolt11: Option<String>,
    pub invoice_hash: Option<String>,
    pub payment_hash: Option<String>,
    pub deposit_address: Option<String>,
    pub received_msats: Option<u64>,
    /// What the shares were minted for; no two deposits have the same.
    pub evidence: Option<String>,
    /// When the wallet is asked about it next.
    pub look_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub confirmed_at: Option<Timestamp>,
}

impl FromRow for DepositRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(DepositRow {
            deposit_id: row.text(0)?.to_owned(),
            pool_id: row.text(1)?.to_owned(),
            partition: word(row.text(2)?, PartitionKind::parse, "partition")?,
            lp_id: row.text(3)?.to_owned(),
            rail: word(row.text(4)?, DepositRail::parse, "rail")?,
            amount_sats: row.uint(5)?,
            share_price_sats: row.uint(6)?,
            shares_minted: row.uint(7)?,
            status: word(row.text(8)?, DepositStatus::parse, "status of a deposit")?,
            fingerprint: row.text(9)?.to_owned(),
            idempotency_key: row.text(10)?.to_owned(),
            wallet_request_id: row.text(11)?.to_owned(),
            invoice_bolt11: owned(row, 12)?,
            invoice_hash: owned(row, 13)?,
            payment_hash: owned(row, 14)?,
            deposit_address: owned(row, 15)?,
            received_msats: row.opt_uint(16)?,
            evidence: owned(row, 17)?,
            look_at: row.opt_timestamp(18)?,
            created_at: row.timestamp(19)?,
            expires_at: row.timestamp(20)?,
            confirmed_at: row.opt_timestamp(21)?,
        })
    }
}

pub async fn deposit(tx: &mut Tx, deposit_id: &str) -> Result<Option<DepositRow>, Stop> {
    tx.one(&DEPOSIT, params![deposit_id]).await
}

pub async fn deposit_by_key(
    tx: &mut Tx,
    pool_id: &str,
    partition: PartitionKind,
    lp_id: &str,
    key: &str,
) -> Result<Option<DepositRow>, Stop> {
    tx.one(&DEPOSIT_BY_KEY, params![pool_id, partition.name(), lp_id, key]).await
}

/// The deposit that this payment has minted for.
pub async fn deposit_by_evidence(tx: &mut Tx, evidence: &str) -> Result<Option<DepositRow>, Stop> {
    tx.one(&DEPOSIT_BY_EVIDENCE, params![evidence]).await
}

/// A deposit that is to be paid to this address.
pub async fn deposit_by_address(tx: &mut Tx, address: &str) -> Result<Option<DepositRow>, Stop> {
    tx.one(&DEPOSIT_BY_ADDRESS, params![address]).await
}

/// Deposits that the wallet should be asked about.
pub async fn deposits_open(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<DepositRow>, Stop> {
    tx.all(&DEPOSITS_OPEN, params![now, limit]).await
}

/// Writes the whole row. The caller holds the pool's key.
pub async fn put_deposit(tx: &mut Tx, row: &DepositRow) -> Result<(), Stop> {
    let params = params![
        &row.deposit_id,
        &row.pool_id,
        row.partition.name(),
        &row.lp_id,
        row.rail.name(),
        Value::unsigned(row.amount_sats)?,
        Value::unsigned(row.share_price_sats)?,
        Value::unsigned(row.shares_minted)?,
        row.status.name(),
        &row.fingerprint,
        &row.idempotency_key,
        &row.wallet_request_id,
        &row.invoice_bolt11,
        &row.invoice_hash,
        &row.payment_hash,
        &row.deposit_address,
        opt_unsigned(row.received_msats)?,
        &row.evidence,
        row.look_at,
        row.created_at,
        row.expires_at,
        row.confirmed_at
    ];
    tx.execute(&PUT_DEPOSIT, params).await?;
    Ok(())
}

/// A receipt as it was given.
#[derive(Clone, Debug)]
pub struct ReceiptRow {
    pub receipt_id: String,
    pub entity_kind: String,
    pub entity_id: String,
    pub schema: String,
    pub sha256: String,
    pub document: Box<RawValue>,
    pub created_at: Timestamp,
}

impl FromRow for ReceiptRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(ReceiptRow {
            receipt_id: row.text(0)?.to_owned(),
            entity_kind: row.text(1)?.to_owned(),
            entity_id: row.text(2)?.to_owned(),
            schema: row.text(3)?.to_owned(),
            sha256: row.text(4)?.to_owned(),
            document: json(row.text(5)?)?,
            created_at: row.timestamp(6)?,
        })
    }
}

pub async fn receipt(
    tx: &mut Tx,
    entity_kind: &str,
    entity_id: &str,
    schema: &str,
) -> Result<Option<ReceiptRow>, Stop> {
    tx.one(&RECEIPT, params![entity_kind, entity_id, schema]).await
}

/// Keeps a receipt unless there is one of its kind for the same thing already: the first stays. Says whether this is
/// the first.
pub async fn keep_receipt(tx: &mut Tx, row: &ReceiptRow) -> Result<bool, Stop> {
    let params = params![
        &row.receipt_id,
        &row.entity_kind,
        &row.entity_id,
        &row.schema,
        &row.sha256,
        row.document.get(),
        row.created_at
    ];
    Ok(tx.execute(&INSERT_RECEIPT, params).await? > 0)
}
