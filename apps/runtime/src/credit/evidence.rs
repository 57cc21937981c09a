//! Decides which verification an envelope may be paid on: one that we made ourselves, that passed, for the very job that
//! the envelope is for, and that nothing else was paid on.

use oa_contract::{Refusal, Stop, Timestamp};
use oa_store::{
    Key, Tx,
    tables::credit::{self as table, EvidenceRow},
};

/// Verifications with one receipt that are looked at.
const MOST: u32 = 64;

/// Verifications of one receipt are used by one at a time.
pub fn key(receipt_sha256: &str) -> Key {
    Key::text("credit_evidence", receipt_sha256)
}

/// Remembers a verification of ours, by the settlement that made it.
pub async fn issued(
    tx: &mut Tx,
    settlement_id: &str,
    receipt_sha256: &str,
    job_hash: &str,
    passed: bool,
    now: Timestamp,
) -> Result<(), Stop> {
    let known = table::evidence(tx, settlement_id).await?;
    let row = EvidenceRow {
        evidence_id: settlement_id.to_owned(),
        receipt_sha256: receipt_sha256.to_owned(),
        job_hash: job_hash.to_owned(),
        passed,
        consumed_by: None,
        issued_at: now,
    };
    match known {
        Some(known) if known.receipt_sha256 == row.receipt_sha256 => Ok(()),
        _ => table::put_evidence(tx, &row).await,
    }
}

/// Takes one for this envelope; the caller holds [`key`]. `only`: the one that is meant, where it is known.
pub async fn consume(
    tx: &mut Tx,
    receipt_sha256: &str,
    scope_id: &str,
    envelope_id: &str,
    only: Option<&str>,
) -> Result<String, Stop> {
    let found = table::evidence_of(tx, receipt_sha256, MOST).await?;
    let ours = |row: &&EvidenceRow| only.is_none_or(|id| row.evidence_id == id);
    let mut passed = found.iter().filter(ours).filter(|row| row.passed && names(scope_id, &row.job_hash));
    let free = |row: &&EvidenceRow| row.consumed_by.as_deref().is_none_or(|by| by == envelope_id);
    match passed.clone().find(free) {
        Some(row) => {
            let consumed = EvidenceRow { consumed_by: Some(envelope_id.to_owned()), ..row.clone() };
            table::put_evidence(tx, &consumed).await?;
            Ok(consumed.evidence_id)
        }
        None if passed.next().is_some() => {
            Err(Refusal::conflict("verification_receipt_sha256 has paid for another envelope already").into())
        }
        None => Err(Refusal::invalid(
            "verification_receipt_sha256 is not the receipt of a verification of ours that this job passed",
        )
        .into()),
    }
}

/// What was not paid may be paid on again.
pub async fn give_back(tx: &mut Tx, evidence_id: &str, envelope_id: &str) -> Result<(), Stop> {
    match table::evidence(tx, evidence_id).await? {
        Some(row) if row.consumed_by.as_deref() == Some(envelope_id) => {
            table::put_evidence(tx, &EvidenceRow { consumed_by: None, ..row }).await
        }
        _ => Ok(()),
    }
}

/// A scope is the job's hash, or something and behind a colon the hash.
pub fn names(scope_id: &str, job_hash: &str) -> bool {
    scope_id == job_hash || scope_id.rsplit(':').next() == Some(job_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_a_job_whole_or_behind_a_colon() {
        assert!(names("abc", "abc") && names("oa.sandbox_run.v1:abc", "abc"));
        assert!(!names("xabc", "abc") && !names("abc:x", "abc") && !names("", "abc"));
    }
}
