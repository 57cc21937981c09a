//! Acts of a pool that need signatures (§8.2, §8.3): who signs, how many it takes, what they sign, and doing it once.

pub mod act;
pub mod approve;
pub mod channels;
pub mod execute_signed;
pub mod policy;
pub mod put_signer_set;
pub mod requests;
pub mod signer_set;
pub mod signing_requests;

use oa_contract::{
    Stop,
    wire::pool_signing::{SignerSet, SigningApproval, SigningRequest, SigningRequestReply},
};
use oa_store::{Tx, tables::pool_signing as table};

pub const SET_REPLY: &str = "openagents.liquidity.pool_signer_set_response.v1";
const REQUEST_REPLY: &str = "openagents.liquidity.pool_signing_request_response.v1";

/// Signatures of signers who are in force.
pub fn counted(set: Option<&SignerSet>, approvals: Vec<SigningApproval>) -> Vec<SigningApproval> {
    let known = |key: &str| set.is_some_and(|set| set.signers.iter().any(|signer| signer.pubkey == key));
    approvals.into_iter().filter(|approval| known(&approval.signer_pubkey)).collect()
}

/// A request with the number of signatures that it still lacks.
async fn with_remaining(tx: &mut Tx, request: SigningRequest) -> Result<SigningRequest, Stop> {
    let set = table::signer_set(tx, &request.pool_id).await?;
    let approvals = counted(set.as_ref(), table::approvals(tx, &request.request_id).await?);
    let have = u32::try_from(approvals.len()).unwrap_or(u32::MAX);
    // As many as are asked for now: the signers may have changed since.
    let required =
        set.and_then(|set| policy::required(&set, &request.action_class, act::sats(&request)).ok());
    let remaining = required.unwrap_or(request.required_signatures).saturating_sub(have);
    let remaining_signatures = Some(remaining);
    Ok(SigningRequest { remaining_signatures, ..request })
}

/// A request as it is shown after something was done to it.
async fn shown(tx: &mut Tx, request: SigningRequest) -> Result<SigningRequestReply, Stop> {
    let approvals = table::approvals(tx, &request.request_id).await?;
    Ok(SigningRequestReply {
        schema: REQUEST_REPLY.into(),
        request: with_remaining(tx, request).await?,
        approvals,
    })
}
