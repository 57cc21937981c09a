//! Decides how snapshots of pools are kept, each with the tree of shares that it was signed with, and which of them are
//! forgotten.

use oa_contract::{
    Timestamp,
    receipt::ReceiptSignature,
    refusal::{Fault, Stop},
    sum_tree::Leaf,
    wire::pools::{PartitionKind, SharesTree, Snapshot},
};

use super::{pools::word, runs::json};
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static LATEST: Statement = sealed_statement!("pools/latest_snapshot", "liquidity_pool_snapshots");
static SNAPSHOT: Statement = sealed_statement!("pools/snapshot", "liquidity_pool_snapshots");
static INSERT: Statement = sealed_statement!("pools/insert_snapshot", "liquidity_pool_snapshots");
static OLD: Statement = statement!("pools/old_snapshots");
static REMOVE: Statement = statement!("pools/remove_snapshot");
static TREE: Statement = sealed_statement!("pools/tree", "liquidity_pool_trees");
static INSERT_TREE: Statement = sealed_statement!("pools/insert_tree", "liquidity_pool_trees");
static TREE_OF_VERSION: Statement = statement!("pools/tree_of_version");
static REMOVE_TREE: Statement = statement!("pools/remove_tree");

#[derive(Clone, Debug)]
pub struct SnapshotRow {
    pub snapshot: Snapshot,
    pub tree_id: String,
    pub shares_tree: SharesTree,
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::new("reading a stored snapshot", error))
}

fn written<T: serde::Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::new("writing a snapshot", error))
}

impl FromRow for SnapshotRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SnapshotRow {
            snapshot: Snapshot {
                snapshot_id: row.text(0)?.to_owned(),
                pool_id: row.text(1)?.to_owned(),
                partition_kind: word(row.text(2)?, PartitionKind::parse, "partition")?,
                as_of: row.timestamp(3)?,
                assets_json: json(row.text(4)?)?,
                liabilities_json: json(row.text(5)?)?,
                share_price_sats: row.uint(6)?,
                canonical_json_sha256: row.text(7)?.to_owned(),
                signature_json: row.opt_text(8)?.map(read::<ReceiptSignature>).transpose()?,
                created_at: row.timestamp(11)?,
            },
            tree_id: row.text(9)?.to_owned(),
            shares_tree: read(row.text(10)?)?,
        })
    }
}

/// The newest by its moment.
pub async fn latest(tx: &mut Tx, pool_id: &str, kind: PartitionKind) -> Result<Option<SnapshotRow>, Stop> {
    tx.one(&LATEST, params![pool_id, kind.name()]).await
}

pub async fn get(tx: &mut Tx, snapshot_id: &str) -> Result<Option<SnapshotRow>, Stop> {
    tx.one(&SNAPSHOT, params![snapshot_id]).await
}

pub async fn insert(tx: &mut Tx, row: &SnapshotRow) -> Result<(), Stop> {
    let snapshot = &row.snapshot;
    let signature = snapshot.signature_json.as_ref().map(written).transpose()?;
    let tree = written(&row.shares_tree)?;
    let params = params![
        &snapshot.snapshot_id,
        &snapshot.pool_id,
        snapshot.partition_kind.name(),
        snapshot.as_of,
        snapshot.assets_json.get(),
        snapshot.liabilities_json.get(),
        Value::unsigned(snapshot.share_price_sats)?,
        &snapshot.canonical_json_sha256,
        &signature,
        &row.tree_id,
        &tree,
        snapshot.created_at
    ];
    tx.execute(&INSERT, params).await?;
    Ok(())
}

/// Forgets what is older than the newest `keep`, up to `limit` at a time, and trees that no snapshot needs any more.
pub async fn prune(
    tx: &mut Tx,
    pool_id: &str,
    kind: PartitionKind,
    keep: u32,
    limit: u32,
) -> Result<usize, Stop> {
    let old = tx.all::<(String, String)>(&OLD, params![pool_id, kind.name(), limit, keep]).await?;
    for (snapshot_id, tree_id) in &old {
        tx.execute(&REMOVE, params![snapshot_id]).await?;
        tx.execute(&REMOVE_TREE, params![tree_id]).await?;
    }
    Ok(old.len())
}

/// The leaves of a tree, in the order of their providers' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeRow {
    pub tree_id: String,
    pub pool_id: String,
    pub kind: PartitionKind,
    pub shares_version: u64,
    pub leaves: Vec<Leaf>,
    pub created_at: Timestamp,
}

impl FromRow for TreeRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(TreeRow {
            tree_id: row.text(0)?.to_owned(),
            pool_id: row.text(1)?.to_owned(),
            kind: word(row.text(2)?, PartitionKind::parse, "partition")?,
            shares_version: row.uint(3)?,
            leaves: read(row.text(4)?)?,
            created_at: row.timestamp(5)?,
        })
    }
}

pub async fn tree(tx: &mut Tx, tree_id: &str) -> Result<Option<TreeRow>, Stop> {
    tx.one(&TREE, params![tree_id]).await
}

/// The tree of shares that have not moved since.
pub async fn tree_of_version(
    tx: &mut Tx,
    pool_id: &str,
    kind: PartitionKind,
    shares_version: u64,
) -> Result<Option<String>, Stop> {
    let version = Value::unsigned(shares_version)?;
    let found = tx.one::<(String,)>(&TREE_OF_VERSION, params![pool_id, kind.name(), version]).await?;
    Ok(found.map(|(tree_id,)| tree_id))
}

/// The caller holds the pool's key.
pub async fn insert_tree(tx: &mut Tx, row: &TreeRow) -> Result<(), Stop> {
    let leaves = written(&row.leaves)?;
    let version = Value::unsigned(row.shares_version)?;
    let params = params![&row.tree_id, &row.pool_id, row.kind.name(), version, &leaves, row.created_at];
    tx.execute(&INSERT_TREE, params).await?;
    Ok(())
}
