//! Chapter: what the pool says of itself, signed; and a lender's proof of its own share of that.

use oa_contract::{
    Nothing,
    matrix::{PoolsLatestSnapshot, PoolsProve},
    operation::Call,
    pool_proof,
    wire::pools::{LatestSnapshot, PartitionKind, ProveShares, SharesProof, SnapshotReply},
};
use serde_json::{Value, json};

use super::{
    Stage,
    book::{Book, short},
    pool::{PROVED, Pool},
};
use crate::failure::Failure;

/// The name of the receipt that holds a lender's proof in the run.
pub const PROOF: &str = "PoolSharesProved";

pub async fn prove(stage: &Stage<'_>, book: &mut Book, pool: &Pool) -> Result<(), Failure> {
    book.chapter("The pool signs what it holds, and a lender proves its part of that")?;
    let query = LatestSnapshot { generate: Some(true), partition_kind: Some(PartitionKind::Cep) };
    let call = Call::<PoolsLatestSnapshot> { path: pool.path(), query, body: Nothing {} };
    let taken: SnapshotReply = stage.talk.asked(&call).await?;
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let assets = read(taken.snapshot.assets_json.get());
    let liabilities = read(taken.snapshot.liabilities_json.get());
    book.indented(&format!(
        "snapshot {}: {} sats for {} shares, {} sats promised to envelopes",
        taken.snapshot.snapshot_id,
        assets["bookAssetsSats"],
        liabilities["sharesOutstanding"],
        liabilities["creditReservedCommitmentsSats"]
    ))?;
    book.indented(&format!("the wallet behind it could pay {} sats now", assets["walletBalanceSats"]))?;
    let query = ProveShares {
        lp_id: PROVED.to_owned(),
        partition_kind: Some(PartitionKind::Cep),
        snapshot_id: Some(taken.snapshot.snapshot_id.clone()),
    };
    let call = Call::<PoolsProve> { path: pool.path(), query, body: Nothing {} };
    let proof: SharesProof = stage.talk.asked(&call).await?;
    let checked = pool_proof::check(&proof, None);
    let proved =
        checked.map_err(|unfit| Failure::wrong(format!("{PROVED}'s shares are not proved: {unfit}")))?;
    book.indented(&format!(
        "{}: {} of {} shares of {} lenders, inside the total that {} signed; the proof names nobody else",
        proved.lp_id,
        proved.shares,
        proved.total_shares,
        proved.providers,
        short(&proved.signer)
    ))?;
    let more = SharesProof { shares: proof.shares + 1, ..proof.clone() };
    match pool_proof::check(&more, None) {
        Err(unfit) => book.indented(&format!("With one share more it proves nothing: {unfit}"))?,
        Ok(_) => return Err(Failure::wrong("a proof of other shares fits too: please report this")),
    }
    let document = json!(proof);
    stage.talk.receipt(stage.run_id, PROOF, "demo:shares", document.clone()).await?;
    book.keep("snapshot", json!(taken));
    book.keep("shares_proof", document);
    Ok(())
}
