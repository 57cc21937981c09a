//! Decides how the proof of a provider's shares comes to be a file: as the runtime gives it, and checked before it is
//! written.

use std::path::Path;

use oa_client::Client;
use oa_contract::{
    Nothing,
    matrix::PoolsProve,
    operation::Call,
    pool_proof,
    wire::{
        paths::PoolPath,
        pools::{PartitionKind, ProveShares, SharesProof},
    },
};
use serde_json::json;

use crate::{failure::Failure, output::Format};

/// Whose shares of what.
pub struct Wanted {
    pub pool_id: String,
    pub lp_id: String,
    pub partition: PartitionKind,
    pub snapshot_id: Option<String>,
}

/// Fetches the proof and writes it, to a file or to the standard output.
pub async fn prove(
    client: &Client,
    wanted: Wanted,
    file: Option<&Path>,
    format: Format,
) -> Result<(), Failure> {
    let query = ProveShares {
        lp_id: wanted.lp_id,
        partition_kind: Some(wanted.partition),
        snapshot_id: wanted.snapshot_id,
    };
    let path = PoolPath { pool_id: wanted.pool_id };
    let call = Call::<PoolsProve> { path, query, body: Nothing {} };
    let proof: SharesProof = client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
    let text = serde_json::to_string_pretty(&proof)
        .map_err(|error| Failure::usage(format!("the proof cannot be written: {error}")))?;
    let Some(file) = file else {
        println!("{text}");
        return Ok(());
    };
    std::fs::write(file, format!("{text}\n")).map_err(|error| Failure::file(file, &error))?;
    let checked = match pool_proof::check(&proof, None) {
        Ok(_) => "it fits together".to_owned(),
        Err(unfit) => format!("but it proves nothing: {unfit}"),
    };
    let sentence = format!(
        "{}: {} has {} of {} shares at {}; {checked}",
        file.display(),
        proof.lp_id,
        proof.shares,
        proof.shares_tree.total_shares,
        proof.snapshot.snapshot_id
    );
    let shown = json!({
        "file": file, "lp_id": proof.lp_id, "shares": proof.shares,
        "total_shares": proof.shares_tree.total_shares, "snapshot_id": proof.snapshot.snapshot_id,
    });
    format.show(&sentence, &shown)
}
