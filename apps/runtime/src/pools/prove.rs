//! `GET /admin/v1/pools/:pool_id/proof`: everything that a provider needs to check offline that its shares are inside
//! the signed total. `oa pool verify` checks it.

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop,
    matrix::PoolsProve,
    signer::Signer,
    sum_tree::SumTree,
    wire::pools::{ProveShares, SharesProof},
};
use oa_store::{Tx, tables::pool_snapshots as table};

use super::{may_act_for, name, receipts};
use crate::Runtime;

const SCHEMA: &str = "openagents.liquidity.pool_shares_proof.v1";

impl Handle<PoolsProve> for Runtime {
    async fn handle(&self, ask: Ask<PoolsProve>) -> Result<Answer<SharesProof>, Stop> {
        let lp_id = name(&ask.query.lp_id, "lp_id")?;
        may_act_for(&ask.caller, &lp_id)?;
        let wanted = (ask.path.pool_id, ProveShares { lp_id, ..ask.query }, self.signer.clone());
        Ok(self.store.read("pools.prove", wanted, prove).await?.into())
    }
}

async fn prove(
    tx: &mut Tx,
    (pool_id, wanted, signer): &(String, ProveShares, Option<Signer>),
) -> Result<SharesProof, Stop> {
    let kind = wanted.partition_kind.unwrap_or_default();
    let row = match &wanted.snapshot_id {
        Some(id) => table::get(tx, id)
            .await?
            .filter(|row| row.snapshot.pool_id == *pool_id && row.snapshot.partition_kind == kind),
        None => table::latest(tx, pool_id, kind).await?,
    };
    let row = row.ok_or_else(|| Refusal::not_found("there is no such snapshot of this pool"))?;
    let tree = table::tree(tx, &row.tree_id).await?;
    let tree =
        tree.ok_or_else(|| Fault::msg(format!("the tree of {} is not there", row.snapshot.snapshot_id)))?;
    let at = tree.leaves.iter().position(|leaf| leaf.name == wanted.lp_id);
    let at = at.ok_or_else(|| Refusal::not_found("this provider had no shares at that snapshot"))?;
    let path = SumTree::of(&tree.leaves).and_then(|sums| sums.path(at));
    let leaf = tree.leaves.into_iter().nth(at).zip(path);
    let (leaf, path) = leaf.ok_or_else(|| Fault::msg("a tree of shares has no path to a leaf of its own"))?;
    Ok(SharesProof {
        schema: SCHEMA.into(),
        lp_id: leaf.name,
        shares: leaf.amount,
        nonce: leaf.nonce,
        path,
        shares_tree: row.shares_tree,
        receipt: receipts::snapshot(&row.snapshot, signer.as_ref())?,
        snapshot: row.snapshot,
    })
}
