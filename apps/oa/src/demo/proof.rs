//! Chapter: the services are gone, and one file still tells what happened: every event, who was paid and how, and what a
//! lender has of the pool.

use std::{fs, path::Path};

use oa_contract::{
    export::{Verified, verify_export},
    pool_proof,
    wire::pools::SharesProof,
};
use serde_json::{Value, json};

use super::{book::Book, credit, snapshot};
use crate::failure::Failure;

/// A sum that every payment of the run names.
const SUM: &[u8] = b"\"amount_msats\":1";

pub fn check(book: &mut Book, file: &Path) -> Result<(), Failure> {
    book.chapter("The services have ended. One file proves what happened")?;
    let proof = fs::read(file).map_err(|error| Failure::file(file, &error))?;
    let verified = verify_export(&proof, None)
        .map_err(|unfit| Failure::wrong(format!("{} proves nothing: {unfit}", file.display())))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    book.indented(&format!("{name}: {} events, none missing, none changed", verified.events))?;
    book.indented(&format!("receipt sha256 {}, recomputed from the events", verified.receipt_sha256))?;
    let signer = verified.signer.as_deref().unwrap_or("nobody");
    book.indented(&format!("signed by {signer}"))?;
    paid(book, &proof)?;
    shares(book, &proof, &verified)?;
    changed(book, &proof)?;
    book.keep("proof", json!(verified));
    Ok(())
}

/// What a receipt of the run holds.
fn receipt(proof: &[u8], kind: &str) -> Result<Value, Failure> {
    let events = proof.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let found = events.map(|event: Value| event["payload"].clone()).find(|one| one["receipt_type"] == kind);
    found
        .map(|found| found["payload"].clone())
        .ok_or_else(|| Failure::wrong(format!("the file holds no {kind}: please report this")))
}

fn paid(book: &Book, proof: &[u8]) -> Result<(), Failure> {
    let paid = receipt(proof, credit::PAID)?;
    let text = |member: &str| paid[member].as_str().unwrap_or_default();
    let hash = oa_lightning::bolt11::payment_hash(text("invoice"));
    match hash.is_some() && credit::opened_by(text("preimage")) == hash {
        true => book.indented(&format!(
            "in it: the invoice of {} msats, and the preimage that opens its payment hash",
            paid["amount_msats"]
        )),
        false => Err(Failure::wrong("the file does not prove that the invoice was paid: please report this")),
    }
}

fn shares(book: &Book, proof: &[u8], verified: &Verified) -> Result<(), Failure> {
    let shares: SharesProof = serde_json::from_value(receipt(proof, snapshot::PROOF)?)
        .map_err(|error| Failure::wrong(format!("the proof of the shares cannot be read: {error}")))?;
    let proved = pool_proof::check(&shares, verified.signer.as_deref())
        .map_err(|unfit| Failure::wrong(format!("the file proves no shares: {unfit}")))?;
    book.indented(&format!(
        "in it: {}'s {} of {} shares, inside a total that the same key signed",
        proved.lp_id, proved.shares, proved.total_shares
    ))
}

/// One digit of one payment.
fn changed(book: &Book, proof: &[u8]) -> Result<(), Failure> {
    let at = proof.windows(SUM.len()).position(|part| part == SUM);
    let digit = at.and_then(|at| proof.get(at + SUM.len() - 1).map(|_| at + SUM.len() - 1));
    let digit = digit.ok_or_else(|| Failure::wrong("the file holds no payment: please report this"))?;
    let mut other = proof.to_vec();
    other[digit] = b'2';
    match verify_export(&other, None) {
        Err(unfit) => book.indented(&format!("with one digit of a payment changed: {unfit}")),
        Ok(_) => Err(Failure::wrong("a changed file fits together too: please report this")),
    }
}
