//! `POST /admin/v1/pools/:pool_id/signing_requests/:request_id/approve`: a signer's signature over the payload's digest.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::PoolsApprove,
    receipt::ReceiptSignature,
    signer,
    wire::pool_signing::{SigningApproval, SigningRequest, SigningRequestReply, SigningStatus},
};
use oa_store::{Tx, tables::pool_signing as table};

use crate::{
    Runtime,
    pools::{key, schema},
};

const SCHEMA: &str = "openagents.liquidity.pool_signing_approval_submit_request.v1";

struct Approve {
    pool_id: String,
    request_id: String,
    signature: ReceiptSignature,
    approval_id: String,
    now: Timestamp,
}

impl Handle<PoolsApprove> for Runtime {
    async fn handle(&self, ask: Ask<PoolsApprove>) -> Result<Answer<SigningRequestReply>, Stop> {
        schema(&ask.body.schema, SCHEMA)?;
        let now = self.now();
        let approve = Approve {
            pool_id: ask.path.pool_id,
            request_id: ask.path.request_id,
            signature: ask.body.signature,
            approval_id: format!("sigapp_{}", self.ids.uuid_v7(now)),
            now,
        };
        let keys = key(&approve.pool_id);
        Ok(self.store.write("pools.approve", keys, approve, approved).await?.into())
    }
}

pub(super) async fn find(tx: &mut Tx, pool_id: &str, request_id: &str) -> Result<SigningRequest, Stop> {
    let request = table::signing(tx, request_id).await?.filter(|request| request.pool_id == pool_id);
    Ok(request.ok_or_else(|| Refusal::not_found("no such signing request"))?)
}

async fn approved(tx: &mut Tx, ask: &Approve) -> Result<SigningRequestReply, Stop> {
    let request = find(tx, &ask.pool_id, &ask.request_id).await?;
    let set = table::signer_set(tx, &ask.pool_id).await?;
    let pubkey = ask.signature.signer_pubkey.trim().to_ascii_lowercase();
    if !set.is_some_and(|set| set.signers.iter().any(|signer| signer.pubkey == pubkey)) {
        return Err(Refusal::invalid("signer is not in signer set").into());
    }
    proves(&request, &pubkey, &ask.signature)?;
    let known = table::approvals(tx, &request.request_id).await?;
    match known.into_iter().find(|approval| approval.signer_pubkey == pubkey) {
        // The same in other letters is the same.
        Some(known) if known.signature.signature_hex.eq_ignore_ascii_case(&ask.signature.signature_hex) => {}
        Some(_) => {
            return Err(Refusal::conflict("approval already exists with different signature").into());
        }
        None if request.status != SigningStatus::Pending => {
            return Err(Refusal::conflict("signing request is not pending").into());
        }
        None => {
            let approval = SigningApproval {
                approval_id: ask.approval_id.clone(),
                request_id: request.request_id.clone(),
                signer_pubkey: pubkey,
                signature: ask.signature.clone(),
                created_at: ask.now,
            };
            table::insert_approval(tx, &approval).await?;
        }
    }
    super::shown(tx, request).await
}

/// Only `signed_sha256`, the key and the signature are looked at (§1.4).
fn proves(request: &SigningRequest, pubkey: &str, signature: &ReceiptSignature) -> Result<(), Refusal> {
    if signature.signed_sha256 != request.payload_sha256 {
        return Err(Refusal::invalid("signed_sha256 must match signing request payload sha"));
    }
    match signer::verify(pubkey, &signature.signed_sha256, &signature.signature_hex) {
        true => Ok(()),
        false => Err(Refusal::invalid("signature verification failed")),
    }
}
