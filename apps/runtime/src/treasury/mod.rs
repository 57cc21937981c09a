//! The treasury of compute: one settlement for an owner, a run, a job and an attempt, whole or not at all; what
//! it all comes to; and the comparison with ledger and runs (marketplace §10).

pub mod compare;
pub mod drift;
pub mod reconcile;
pub mod settle;
pub mod summary;
pub mod wallet;

use oa_contract::{
    Code, Fault, Owner, Refusal, canonical,
    receipt::VerifierPolicy,
    signer::Signer,
    wire::{jobs::reservation_id, treasury::ComputeJob},
};
use oa_store::{Key, tables::treasury::SettlementRow};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

/// Settlements and expiries of one owner follow each other, as their transfers from the owner's account do.
pub fn key(owner: &Owner) -> Key {
    Key::text("treasury", owner.to_string())
}

/// The name of a settlement. The same job in another run, or once more in the same, is another one.
pub fn settlement_id(owner: &Owner, run_id: Uuid, job_hash: &str, attempt: u32) -> String {
    let hash = canonical::canonical_hash(&json!({
        "owner": owner.to_string(), "run_id": run_id, "job_hash": job_hash, "attempt": attempt,
    }));
    format!("stl_{}", &hash[..32])
}

/// What a job is called in the keys of its events: further attempts have a name of their own.
fn job_name(job_hash: &str, attempt: u32) -> String {
    match attempt {
        1 => job_hash.to_owned(),
        more => format!("{job_hash}#{more}"),
    }
}

fn job(row: &SettlementRow) -> ComputeJob {
    ComputeJob {
        job_hash: row.job_hash.clone(),
        owner_key: row.owner.to_string(),
        provider_id: row.provider_id.clone(),
        provider_worker_id: row.worker_id.clone(),
        reservation_id: reservation_id(&row.job_hash),
        amount_msats: row.amount,
        status: row.status,
        verification_passed: row.verification_passed,
        exit_code: row.exit_code,
        withheld_reason: row.withheld_reason.clone(),
        reserved_at: row.reserved_at,
        settled_at: row.settled_at,
        updated_at: row.updated_at,
        settlement_id: row.settlement_id.clone(),
        run_id: row.run_id,
        attempt: row.attempt,
    }
}

/// A receipt that nobody would believe is found out before anything is done, not after (§10.6, §17.7).
fn receipts_will_be_believed(signer: Option<&Signer>, policy: &VerifierPolicy) -> Result<(), Refusal> {
    let refused = |why: &str| Err(Refusal::new(Code::Internal, why));
    match signer {
        None if policy.strict => refused("receipt signer missing (RUNTIME_VERIFIER_STRICT=true)"),
        Some(signer) => {
            let listed = &policy.active_signers;
            match listed.is_empty() || listed.contains(&signer.public_key_hex()) {
                true => Ok(()),
                false => refused("receipt signer pubkey is not in active key graph"),
            }
        }
        None => Ok(()),
    }
}

fn raw(value: &Value) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(canonical::compact(value)).map_err(|error| Fault::new("writing JSON", error))
}
