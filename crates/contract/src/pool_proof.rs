//! Decides whether a provider's proof shows that its shares are inside a pool's signed total. Everything is recomputed
//! from the documents; nothing is asked of any server.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    canonical::canonical_hash,
    sum_tree::{self, Leaf},
    wire::pools::{PartitionKind, SharesProof, Snapshot},
};

const SNAPSHOT: &str = "openagents.liquidity.pool_snapshot_receipt.v1";

/// The digests that a snapshot's receipt names, and what its own digest covers (§6.3).
pub struct SnapshotDigests {
    pub preimage: Value,
    pub assets_json_sha256: String,
    pub liabilities_json_sha256: String,
}

impl SnapshotDigests {
    pub fn of(snapshot: &Snapshot) -> Result<Self, serde_json::Error> {
        let digest = |text: &str| serde_json::from_str::<Value>(text).map(|value| canonical_hash(&value));
        let assets_json_sha256 = digest(snapshot.assets_json.get())?;
        let liabilities_json_sha256 = digest(snapshot.liabilities_json.get())?;
        let mut preimage = json!({
            "schema": SNAPSHOT, "pool_id": snapshot.pool_id, "as_of": snapshot.as_of,
            "assets_json_sha256": assets_json_sha256, "liabilities_json_sha256": liabilities_json_sha256,
            "share_price_sats": snapshot.share_price_sats, "created_at": snapshot.created_at,
        });
        if snapshot.partition_kind != PartitionKind::Llp {
            preimage["partition_kind"] = json!(snapshot.partition_kind);
        }
        Ok(SnapshotDigests { preimage, assets_json_sha256, liabilities_json_sha256 })
    }
}

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub lp_id: String,
    pub shares: u64,
    pub total_shares: u64,
    pub providers: u64,
    pub snapshot_id: String,
    /// The key that signed both documents.
    pub signer: String,
}

/// The first thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Malformed(String),
    Snapshot(&'static str),
    Tree(&'static str),
    Path(sum_tree::Broken),
    Unsigned,
    OtherSigner,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Malformed(why) => write!(f, "it cannot be read: {why}"),
            Unfit::Snapshot(why) => write!(f, "the snapshot {why}"),
            Unfit::Tree(why) => write!(f, "the tree of shares {why}"),
            Unfit::Path(why) => write!(f, "{why}"),
            Unfit::Unsigned => f.write_str("nobody has signed it"),
            Unfit::OtherSigner => f.write_str("somebody else has signed it"),
        }
    }
}

impl std::error::Error for Unfit {}

/// Reads and checks a proof; with `signer`, only that key's signatures are good.
pub fn verify(text: &[u8], signer: Option<&str>) -> Result<Proved, Unfit> {
    let proof: SharesProof =
        serde_json::from_slice(text).map_err(|error| Unfit::Malformed(error.to_string()))?;
    check(&proof, signer)
}

/// From the leaf to the signed snapshot, each step by its digest.
pub fn check(proof: &SharesProof, signer: Option<&str>) -> Result<Proved, Unfit> {
    let (snapshot, tree) = (&proof.snapshot, &proof.shares_tree);
    let digests = SnapshotDigests::of(snapshot).map_err(|error| Unfit::Malformed(error.to_string()))?;
    let snapshot_sha256 = canonical_hash(&digests.preimage);
    let named = format!("lips_{}", snapshot_sha256.get(..24).unwrap_or_default());
    if snapshot.canonical_json_sha256 != snapshot_sha256 || snapshot.snapshot_id != named {
        return Err(Unfit::Snapshot("is not what its digest says"));
    }
    let tree_sha256 = canonical_hash(&tree.preimage());
    if tree.canonical_json_sha256 != tree_sha256 {
        return Err(Unfit::Tree("is not what its digest says"));
    }
    let same = tree.pool_id == snapshot.pool_id && tree.partition_kind == snapshot.partition_kind;
    if !same || tree.snapshot_sha256 != snapshot_sha256 || tree.snapshot_id != snapshot.snapshot_id {
        return Err(Unfit::Tree("belongs to another snapshot"));
    }
    let liabilities: Value = serde_json::from_str(snapshot.liabilities_json.get())
        .map_err(|error| Unfit::Malformed(error.to_string()))?;
    if liabilities["sharesOutstanding"].as_u64() != Some(tree.total_shares) {
        return Err(Unfit::Tree("has another total than the snapshot"));
    }
    let leaf = Leaf { name: proof.lp_id.clone(), nonce: proof.nonce.clone(), amount: proof.shares };
    sum_tree::check(&leaf, &proof.path, &tree.root, tree.total_shares).map_err(Unfit::Path)?;
    let signatures = (&snapshot.signature_json, &tree.signature);
    let (Some(of_snapshot), Some(of_tree)) = signatures else { return Err(Unfit::Unsigned) };
    if !of_snapshot.proves(&snapshot_sha256) {
        return Err(Unfit::Snapshot("has a signature that is not good"));
    }
    if !of_tree.proves(&tree_sha256) {
        return Err(Unfit::Tree("has a signature that is not good"));
    }
    let key = &of_snapshot.signer_pubkey;
    if of_tree.signer_pubkey != *key || signer.is_some_and(|signer| signer != key) {
        return Err(Unfit::OtherSigner);
    }
    Ok(Proved {
        lp_id: proof.lp_id.clone(),
        shares: proof.shares,
        total_shares: tree.total_shares,
        providers: tree.providers,
        snapshot_id: snapshot.snapshot_id.clone(),
        signer: key.clone(),
    })
}
