//! Decides what we say of a response: that this provider gave it to us for this job, with both documents by their
//! digests; signed where we have a key.

use oa_contract::{
    Fault, Timestamp,
    canonical::{canon, canonical_digest, canonical_hash, hex},
    signer::Signer,
    wire::{jobs::SandboxRunResponse, marketplace::DispatchEvidence},
};
use oa_store::tables::market_dispatches::JobKey;
use serde::Serialize;
use serde_json::{Value, json};

pub const SCHEMA: &str = "openagents.marketplace.dispatch_evidence.v1";

/// A document in its canonical form, and its digest.
#[derive(Clone, Debug)]
pub struct Document {
    pub text: String,
    pub sha256: String,
}

impl Document {
    pub fn of(value: &impl Serialize) -> Result<Self, Fault> {
        let value = serde_json::to_value(value).map_err(|error| Fault::new("writing a document", error))?;
        Ok(Document { text: canon(&value), sha256: canonical_hash(&value) })
    }
}

/// Who answered what.
pub struct Statement<'a> {
    pub dispatch_id: &'a str,
    pub job: &'a JobKey,
    pub provider_id: &'a str,
    pub worker_id: &'a str,
    pub request_sha256: &'a str,
    pub response_sha256: &'a str,
    pub answered_at: Timestamp,
}

impl Statement<'_> {
    /// What is hashed and signed.
    pub fn document(&self) -> Value {
        json!({
            "schema": SCHEMA,
            "dispatch_id": self.dispatch_id,
            "owner_key": self.job.owner.to_string(),
            "run_id": self.job.run_id,
            "job_hash": self.job.job_hash,
            "attempt": self.job.attempt,
            "provider_id": self.provider_id,
            "provider_worker_id": self.worker_id,
            "request_sha256": self.request_sha256,
            "response_sha256": self.response_sha256,
            "answered_at": self.answered_at,
        })
    }

    pub fn evidence(&self, signer: Option<&Signer>) -> DispatchEvidence {
        let digest = canonical_digest(&self.document());
        DispatchEvidence {
            schema: SCHEMA.into(),
            request_sha256: self.request_sha256.into(),
            response_sha256: self.response_sha256.into(),
            answered_at: self.answered_at,
            statement_sha256: hex(&digest),
            signed_by: signer.map(Signer::public_key_hex),
            signature: signer.map(|signer| hex(&signer.sign_digest(&digest))),
        }
    }
}

/// A response as it is kept.
pub fn document(response: &SandboxRunResponse) -> Result<Document, Fault> {
    Document::of(response)
}
