//! Decides which verification an envelope may be paid on: one that we made ourselves, that passed, for the very job that
//! the envelope is for, of the agent's owner, of this provider and at this price; and that nothing was paid on. Whichever
//! way pays first takes it.

use oa_contract::{Msats, Refusal, Stop, Timestamp};
use oa_store::{
    Key, Tx,
    tables::credit::{self as table, EvidenceRow},
};

/// Verifications of one job are used by one at a time; a scope names its job.
pub fn key(scope_id: &str) -> Key {
    Key::text("credit_evidence", scope_id.rsplit(':').next().unwrap_or(scope_id))
}

/// A verification of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The settlement that made it.
    pub evidence_id: String,
    pub receipt_sha256: String,
    pub job_hash: String,
    pub owner_key: String,
    pub provider_id: String,
    pub price: Msats,
    /// The node that the provider is paid at, where that is to be looked at.
    pub payee: Option<String>,
    pub passed: bool,
}

/// Remembers a verification of ours. What was paid on stays as it was; anything else gives way to what we know now.
pub async fn issued(tx: &mut Tx, issued: &Issued, now: Timestamp) -> Result<(), Stop> {
    match table::evidence(tx, &issued.evidence_id).await? {
        Some(known) if known.consumed_by.is_some() => Ok(()),
        Some(known) if kept(issued, None, known.issued_at) == known => Ok(()),
        _ => table::put_evidence(tx, &kept(issued, None, now)).await,
    }
}

/// Remembers a verification that is being paid on without an envelope, or refuses where an envelope was.
pub async fn paid_otherwise(tx: &mut Tx, issued: &Issued, now: Timestamp) -> Result<(), Stop> {
    let by = format!("treasury:{}", issued.evidence_id);
    match table::evidence(tx, &issued.evidence_id).await?.and_then(|known| known.consumed_by) {
        Some(other) if other != by => {
            let message = format!("this job was paid for already, through {other}");
            Err(Refusal::conflict(message).into())
        }
        Some(_) => Ok(()),
        None => {
            let known = kept(issued, None, now);
            table::put_evidence(tx, &known).await?;
            take(tx, known, &by).await?;
            Ok(())
        }
    }
}

fn kept(issued: &Issued, consumed_by: Option<String>, issued_at: Timestamp) -> EvidenceRow {
    let issued = issued.clone();
    EvidenceRow {
        evidence_id: issued.evidence_id,
        receipt_sha256: issued.receipt_sha256,
        job_hash: issued.job_hash,
        owner_key: issued.owner_key,
        provider_id: issued.provider_id.to_ascii_lowercase(),
        price: issued.price,
        payee: issued.payee,
        passed: issued.passed,
        consumed_by,
        issued_at,
    }
}

/// What is to be paid, and on which word.
#[derive(Clone, Copy, Debug)]
pub struct Paying<'a> {
    pub receipt_sha256: &'a str,
    pub envelope_id: &'a str,
    pub scope_id: &'a str,
    /// Who answers for the debt.
    pub borrower: &'a str,
    pub provider_id: &'a str,
    pub amount: Msats,
    /// Whom the invoice pays.
    pub payee: Option<&'a str>,
    /// The one that is meant, where it is known.
    pub only: Option<&'a str>,
}

/// Takes one for this envelope; the caller holds [`key`].
pub async fn consume(tx: &mut Tx, paying: &Paying<'_>) -> Result<String, Stop> {
    let Paying { receipt_sha256, envelope_id, scope_id, borrower, provider_id, amount, payee, only } =
        *paying;
    let fits = |row: &EvidenceRow| {
        row.receipt_sha256 == receipt_sha256
            && row.passed
            && names(scope_id, &row.job_hash)
            && row.owner_key == borrower
            && row.provider_id == provider_id
            && row.price == amount
    };
    let found = match only {
        Some(id) => table::evidence(tx, id).await?,
        None => table::evidence_free(tx, receipt_sha256, borrower, provider_id, amount, payee).await?,
    };
    let free = |row: &EvidenceRow| row.consumed_by.as_deref().is_none_or(|by| by == envelope_id);
    let elsewhere = |row: &EvidenceRow| row.payee.as_deref().is_some_and(|named| Some(named) != payee);
    match found.filter(fits) {
        Some(row) if elsewhere(&row) => {
            Err(another_node().into())
        }
        Some(row) if free(&row) => {
            take(tx, row, envelope_id).await
        }
        Some(_) => Err(used().into()),
        None => match table::evidence_passed(tx, receipt_sha256).await? {
            Some(row) if fits(&row) && free(&row) && elsewhere(&row) => Err(another_node().into()),
            Some(row) if fits(&row) => Err(used().into()),
            Some(row) if names(scope_id, &row.job_hash) => Err(Refusal::invalid(
                "verification_receipt_sha256 is of a job of another owner, of another provider or at another price",
            )
            .into()),
            _ => Err(Refusal::invalid(
                "verification_receipt_sha256 is not the receipt of a verification of ours that this job passed",
            )
            .into()),
        },
    }
}

/// Whoever else has taken it in between keeps it, though nobody should: see [`key`].
async fn take(tx: &mut Tx, row: EvidenceRow, by: &str) -> Result<String, Stop> {
    let taken = EvidenceRow { consumed_by: Some(by.to_owned()), ..row };
    match table::take_evidence(tx, &taken).await? {
        true => Ok(taken.evidence_id),
        false => Err(used().into()),
    }
}

fn another_node() -> Refusal {
    Refusal::invalid("provider_invoice pays another node than the one that the provider has named")
}

fn used() -> Refusal {
    Refusal::conflict("verification_receipt_sha256 has been paid on already")
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
