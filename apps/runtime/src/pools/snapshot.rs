//! Decides how a snapshot of a partition is made and signed (§6.3): what the wallet and the node hold is asked before,
//! everything else is read and written in one transaction, with the tree of all providers' shares.

use oa_contract::{
    Fault, Refusal, Stop, Timestamp,
    canonical::{hex, sha256_hex},
    signer::Signer,
    sum_tree::{Leaf, SumTree},
    wire::pools::{PartitionKind, PoolStatus, SharesTree, Snapshot, SnapshotReply},
};
use oa_store::{
    Tx,
    tables::{
        ledger,
        pool_snapshots::{self as table, SnapshotRow, TreeRow},
        pools,
    },
};
use serde_json::{Value, json};

use super::{
    behind_us, key, no_pool,
    receipts::{self, Digest, SHARES_TREE, raw},
    standing::{Books, books},
};
use crate::{Runtime, bridge};

const REPLY: &str = "openagents.liquidity.pool.snapshot.v1";
const ASSETS: &str = "openagents.liquidity.pool_assets.v1";
const LIABILITIES: &str = "openagents.liquidity.pool_liabilities.v1";
const LIGHTNING: &str = "openagents.liquidity.llp_lightning_snapshot.v1";
/// Providers that are read at one time.
const PORTION: u32 = 500;
/// Within this two snapshots of the same state are one.
const SAME_MOMENT_MS: i64 = 1_000;
/// Snapshots that one round forgets.
const FORGOTTEN_AT_ONCE: u32 = 200;

/// What is outside of our books.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Sats, or why they are not known.
    pub wallet: Result<u64, String>,
    /// Of the node; none for partitions that have none.
    pub lightning: Option<Value>,
}

/// Whether a wallet that does not answer ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Somebody asked for it and wants to know.
    Wallet,
    /// Better a snapshot that says so than none.
    Nothing,
}

impl Runtime {
    pub(crate) async fn make_snapshot(
        &self,
        pool_id: &str,
        kind: PartitionKind,
        need: Need,
    ) -> Result<SnapshotReply, Stop> {
        let exists = async |tx: &mut Tx, pool_id: &String| admit(tx, pool_id).await;
        self.store.read("pools.admit_snapshot", pool_id.to_owned(), exists).await?;
        let outside = self.outside(kind, need).await?;
        let ask = Make {
            pool_id: pool_id.to_owned(),
            kind,
            outside,
            as_of: self.now(),
            created_at: self.now(),
            secret: hex(&self.ids.secret()),
            signer: self.signer.clone(),
        };
        let row = self.store.write("pools.snapshot", key(pool_id), ask, make).await?;
        told(row, self.signer.as_ref())
    }

    async fn outside(&self, kind: PartitionKind, need: Need) -> Result<Outside, Stop> {
        let wallet = match (self.wallet().status().await, need) {
            (Ok(status), _) => Ok(status["balanceSats"]
                .as_u64()
                .or_else(|| status["status"]["balanceSats"].as_u64())
                .unwrap_or_default()),
            (Err(error), Need::Wallet) => {
                return Err(behind_us(format!("wallet executor status failed: {error}")).into());
            }
            (Err(error), Need::Nothing) => Err(error.to_string()),
        };
        let lightning = match kind {
            PartitionKind::Llp => Some(self.lightning().await),
            PartitionKind::Cep | PartitionKind::Rrp => None,
        };
        Ok(Outside { wallet, lightning })
    }

    /// What the node holds. Its trouble is written down, and ends nothing.
    async fn lightning(&self) -> Value {
        let (balances, health) = (self.node.node_balances().await, self.node.channel_health().await);
        let backend = match self.node.about().face {
            // Configured wrongly: every call says why.
            "none" => "unknown",
            face => face,
        };
        let told = |call: &str, error: &oa_lightning::WalletError| {
            let trouble = error.trouble();
            format!("{call} failed ({}): {}", trouble.code, trouble.message)
        };
        let trouble = balances.as_ref().err().map(|error| told("get_balances", error));
        let trouble = trouble.or_else(|| Some(told("channel_health_snapshot", health.as_ref().err()?)));
        let (balances, health) = (balances.unwrap_or_default(), health.unwrap_or_default());
        json!({
            "schema": LIGHTNING, "backend": backend, "onchainSats": balances.onchain_sats,
            "channelTotalSats": health.total_sats, "channelOutboundSats": health.outbound_sats,
            "channelInboundSats": health.inbound_sats, "channelCount": health.channel_count,
            "connectedChannelCount": health.connected_channel_count, "lastError": trouble,
        })
    }

    /// Forgets snapshots beyond those that are kept.
    pub(crate) async fn prune_snapshots(&self, pool_id: &str, kind: PartitionKind) -> Result<usize, Stop> {
        let ask = (pool_id.to_owned(), kind, self.config.pools.snapshot_retention);
        let prune = async |tx: &mut Tx, (pool_id, kind, keep): &(String, PartitionKind, u32)| {
            table::prune(tx, pool_id, *kind, *keep, FORGOTTEN_AT_ONCE).await
        };
        self.store.write("pools.prune_snapshots", key(pool_id), ask, prune).await
    }
}

async fn admit(tx: &mut Tx, pool_id: &str) -> Result<(), Stop> {
    let pool = pools::pool(tx, pool_id).await?.ok_or_else(no_pool)?;
    match pool.status {
        PoolStatus::Disabled => Err(Refusal::conflict("pool is disabled").into()),
        PoolStatus::Active | PoolStatus::Paused => Ok(()),
    }
}

struct Make {
    pool_id: String,
    kind: PartitionKind,
    outside: Outside,
    as_of: Timestamp,
    created_at: Timestamp,
    /// What the nonces of a new tree are made of.
    secret: String,
    signer: Option<Signer>,
}

async fn make(tx: &mut Tx, ask: &Make) -> Result<SnapshotRow, Stop> {
    admit(tx, &ask.pool_id).await?;
    let books = books(tx, &ask.pool_id, ask.kind).await?;
    let tree = tree(tx, ask, &books).await?;
    let (assets, liabilities) = documents(ask, &books);
    let mut snapshot = Snapshot {
        snapshot_id: String::new(),
        pool_id: ask.pool_id.clone(),
        partition_kind: ask.kind,
        as_of: ask.as_of,
        assets_json: raw(&assets)?,
        liabilities_json: raw(&liabilities)?,
        share_price_sats: books.standing.price_sats(),
        canonical_json_sha256: String::new(),
        signature_json: None,
        created_at: ask.created_at,
    };
    let (digest, ..) = receipts::snapshot_digest(&snapshot)?;
    snapshot.snapshot_id = digest.named("lips_");
    if let Some(known) = table::latest(tx, &ask.pool_id, ask.kind).await?
        && known.tree_id == tree.tree_id
        && says_the_same(&known.snapshot, &snapshot)
    {
        return Ok(known);
    }
    snapshot.signature_json = digest.signed(ask.signer.as_ref());
    snapshot.canonical_json_sha256 = digest.hex;
    let shares_tree = signed_tree(&snapshot, &tree, ask.signer.as_ref())?;
    if shares_tree.total_shares != books.standing.shares {
        // Nothing is signed that does not add up.
        let wrong = format!(
            "the shares of {} add up to {}, but {} are outstanding",
            ask.pool_id, shares_tree.total_shares, books.standing.shares
        );
        return Err(Fault::msg(wrong).into());
    }
    let row = SnapshotRow { snapshot, tree_id: tree.tree_id, shares_tree };
    table::insert(tx, &row).await?;
    bridge::tell_snapshot(tx, ask.signer.as_ref(), &row.snapshot, (&assets, &liabilities)).await?;
    Ok(row)
}

/// Whether the newest says already what this one would, a moment ago: asking often is no reason to keep more.
fn says_the_same(known: &Snapshot, made: &Snapshot) -> bool {
    made.as_of.millis_since(known.as_of) < SAME_MOMENT_MS
        && known.as_of <= made.as_of
        && known.assets_json.get() == made.assets_json.get()
        && known.liabilities_json.get() == made.liabilities_json.get()
        && known.share_price_sats == made.share_price_sats
}

fn documents(ask: &Make, books: &Books) -> (Value, Value) {
    let mut assets = json!({
        "schema": ASSETS, "partitionKind": ask.kind, "walletBalanceSats": ask.outside.wallet.as_ref().ok(),
        "bookAssetsSats": books.standing.assets_sats(), "lightning": ask.outside.lightning,
    });
    if let Err(why) = &ask.outside.wallet {
        assets["walletLastError"] = json!(why);
    }
    let committed = if ask.kind == PartitionKind::Cep { books.committed_sats() } else { 0 };
    let liabilities = json!({
        "schema": LIABILITIES, "partitionKind": ask.kind, "sharesOutstanding": books.standing.shares,
        "pendingWithdrawalsSatsEstimate": books.row.pending_sats, "creditReservedCommitmentsSats": committed,
    });
    (assets, liabilities)
}

/// The tree of everybody's shares: that of the last snapshot while no share has moved, or a new one.
async fn tree(tx: &mut Tx, ask: &Make, books: &Books) -> Result<TreeRow, Stop> {
    let version = books.row.shares_version;
    if let Some(tree_id) = table::tree_of_version(tx, &ask.pool_id, ask.kind, version).await?
        && let Some(tree) = table::tree(tx, &tree_id).await?
    {
        return Ok(tree);
    }
    let mut leaves = Vec::new();
    let mut after = String::new();
    loop {
        let providers = pools::providers(tx, &ask.pool_id, ask.kind, &after, PORTION).await?;
        let whole = providers.len() == PORTION as usize;
        for lp_id in providers {
            let account = ledger::account(tx, &books.accounts.shares_of(&lp_id)?).await?;
            let amount = u64::try_from(account.balances.posted())
                .map_err(|error| Fault::new("reading a provider's shares", error))?;
            if amount > 0 {
                let nonce = sha256_hex(&format!("{}|{lp_id}", ask.secret));
                leaves.push(Leaf { name: lp_id.clone(), nonce, amount });
            }
            after = lp_id;
        }
        if !whole {
            break;
        }
    }
    let row = TreeRow {
        tree_id: format!("lipt_{}", sha256_hex(&ask.secret).get(..24).unwrap_or_default()),
        pool_id: ask.pool_id.clone(),
        kind: ask.kind,
        shares_version: version,
        leaves,
        created_at: ask.created_at,
    };
    table::insert_tree(tx, &row).await?;
    Ok(row)
}

fn signed_tree(snapshot: &Snapshot, tree: &TreeRow, signer: Option<&Signer>) -> Result<SharesTree, Fault> {
    let sums = SumTree::of(&tree.leaves).ok_or_else(|| Fault::msg("the shares of a pool do not fit"))?;
    let root = sums.root();
    let mut signed = SharesTree {
        schema: SHARES_TREE.into(),
        pool_id: snapshot.pool_id.clone(),
        partition_kind: snapshot.partition_kind,
        snapshot_id: snapshot.snapshot_id.clone(),
        snapshot_sha256: snapshot.canonical_json_sha256.clone(),
        root: hex(&root.hash),
        total_shares: root.sum,
        providers: tree.leaves.len() as u64,
        canonical_json_sha256: String::new(),
        signature: None,
    };
    let digest = Digest::of(&signed.preimage());
    signed.signature = digest.signed(signer);
    signed.canonical_json_sha256 = digest.hex;
    Ok(signed)
}

/// A snapshot with its receipt. What is stored has to be what its name says.
pub(super) fn told(row: SnapshotRow, signer: Option<&Signer>) -> Result<SnapshotReply, Stop> {
    let receipt = receipts::snapshot(&row.snapshot, signer)?;
    let named = format!("lips_{}", receipt.canonical_json_sha256.get(..24).unwrap_or_default());
    if named != row.snapshot.snapshot_id {
        return Err(behind_us("snapshot_id does not match canonical_json_sha256").into());
    }
    Ok(SnapshotReply { schema: REPLY.into(), snapshot: row.snapshot, receipt, shares_tree: row.shares_tree })
}
