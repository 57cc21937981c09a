//! Decides how a run leaves the house: its events and the receipt that belongs to exactly them, verified before the file appears.

use std::{path::Path, time::Duration};

use oa_client::{Client, Manner};
use oa_contract::{
    Nothing,
    export::{Verified, verify_export, write_export},
    matrix::RunsReceipt,
    operation::Call,
    wire::{paths::RunPath, runs::Run},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use super::fetch;
use crate::{
    data_dir::write_atomically,
    failure::Failure,
    output::{Format, print_bytes},
};

/// A run that grows while it is read is read again, so often.
const ATTEMPTS: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// Which events a receipt is about.
#[derive(Deserialize)]
struct Covers {
    event_count: u64,
    last_seq: u64,
}

/// Writes the proof of a run to `file`, or to stdout when that is `-`.
pub async fn export(
    client: &Client,
    run_id: Uuid,
    file: Option<&Path>,
    format: Format,
) -> Result<(), Failure> {
    let (proof, verified) = proof_of(client, run_id).await?;
    match file {
        Some(file) if file == Path::new("-") => print_bytes(&proof),
        Some(file) => write(file, &proof, &verified, format),
        None => write(Path::new(&format!("run-{run_id}.jsonl")), &proof, &verified, format),
    }
}

/// Writes the proof and says nothing.
pub async fn write_proof(client: &Client, run_id: Uuid, file: &Path) -> Result<(), Failure> {
    let (proof, _) = proof_of(client, run_id).await?;
    write_atomically(file, &proof)
}

async fn proof_of(client: &Client, run_id: Uuid) -> Result<(Vec<u8>, Verified), Failure> {
    let (run, receipt) = consistent(client, run_id).await?;
    let mut proof = Vec::new();
    write_export(&run, &receipt, &mut proof)
        .map_err(|error| Failure::wrong(format!("the run cannot be exported: {error}")))?;
    let verified = verify_export(&proof, None).map_err(|unfit| {
        Failure::wrong(format!(
            "nothing was written, because what the server gave does not fit together: {unfit}"
        ))
    })?;
    Ok((proof, verified))
}

fn write(file: &Path, proof: &[u8], verified: &Verified, format: Format) -> Result<(), Failure> {
    write_atomically(file, proof)?;
    let signed =
        verified.signer.as_deref().map_or("unsigned".to_owned(), |signer| format!("signed by {signer}"));
    let text = format!(
        "{}: {} events, {} bytes, receipt sha256 {}, {signed}\ncheck it anywhere with: oa runs verify {}",
        file.display(),
        verified.events,
        proof.len(),
        verified.receipt_sha256,
        file.display()
    );
    format.show(&text, &json!({"file": file, "bytes": proof.len(), "proof": verified}))
}

/// The run and a receipt over exactly its events.
async fn consistent(client: &Client, run_id: Uuid) -> Result<(Run, Box<RawValue>), Failure> {
    for _ in 0..ATTEMPTS {
        let run = fetch(client, run_id).await?;
        let receipt = receipt(client, run_id).await?;
        let covers: Covers = serde_json::from_str(receipt.get())
            .map_err(|error| Failure::wrong(format!("the receipt cannot be read: {error}")))?;
        let last = run.events.last().map_or(0, |event| event.seq);
        if (covers.event_count, covers.last_seq) == (run.events.len() as u64, last) {
            return Ok((run, receipt));
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(Failure::wrong(format!(
        "run {run_id} grows faster than it can be read: export it when it has finished"
    )))
}

/// The receipt as it is served, byte for byte.
async fn receipt(client: &Client, run_id: Uuid) -> Result<Box<RawValue>, Failure> {
    let call = Call::<RunsReceipt> { path: RunPath { run_id }, query: Nothing {}, body: Nothing {} };
    let manner = Manner { timeout: Some(super::WHOLE), ..Manner::default() };
    let raw = client
        .send(call, manner)
        .await
        .and_then(|raw| raw.accepted())
        .map_err(|error| Failure::call(client.base(), error))?;
    serde_json::from_slice(&raw.body)
        .map_err(|error| Failure::wrong(format!("the receipt cannot be read: {error}")))
}
