//! Decides how signer sets, what they are asked to sign, and their signatures are kept.

use oa_contract::{
    refusal::{Fault, Stop},
    wire::pool_signing::{SignerSet, SigningApproval, SigningRequest, SigningStatus},
};

use super::{pools::word, runs::json};
use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
};

pub const SIGNER_SET_SCHEMA: &str = "openagents.liquidity.pool_signer_set.v1";

static SET: Statement = sealed_statement!("pools/signer_set", "liquidity_pool_signer_sets");
static PUT_SET: Statement = sealed_statement!("pools/put_signer_set", "liquidity_pool_signer_sets");
static SIGNING: Statement = sealed_statement!("pools/signing", "liquidity_pool_signing_requests");
static SIGNING_BY_KEY: Statement =
    sealed_statement!("pools/signing_by_key", "liquidity_pool_signing_requests");
static SIGNINGS: Statement = sealed_statement!("pools/signings", "liquidity_pool_signing_requests");
static SIGNINGS_OF_STATUS: Statement =
    sealed_statement!("pools/signings_of_status", "liquidity_pool_signing_requests");
static PUT_SIGNING: Statement = sealed_statement!("pools/put_signing", "liquidity_pool_signing_requests");
static APPROVALS: Statement = sealed_statement!("pools/approvals", "liquidity_pool_signing_approvals");
static INSERT_APPROVAL: Statement =
    sealed_statement!("pools/insert_approval", "liquidity_pool_signing_approvals");

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::new("reading what was stored of signers", error))
}

fn written<T: serde::Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::new("writing down signers", error))
}

fn small(row: &Row<'_>, column: usize) -> Result<u32, Fault> {
    u32::try_from(row.uint(column)?).map_err(|error| Fault::new("reading a stored number of signers", error))
}

impl FromRow for SignerSet {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SignerSet {
            pool_id: row.text(0)?.to_owned(),
            schema: SIGNER_SET_SCHEMA.into(),
            threshold: small(row, 1)?,
            signers: read(row.text(2)?)?,
            policy: read(row.text(3)?)?,
            canonical_json_sha256: row.text(4)?.to_owned(),
            created_at: row.timestamp(5)?,
            updated_at: row.timestamp(6)?,
        })
    }
}

pub async fn signer_set(tx: &mut Tx, pool_id: &str) -> Result<Option<SignerSet>, Stop> {
    tx.one(&SET, params![pool_id]).await
}

/// The caller holds the pool's key.
pub async fn put_signer_set(tx: &mut Tx, set: &SignerSet) -> Result<(), Stop> {
    let (signers, policy) = (written(&set.signers)?, written(&set.policy)?);
    let params = params![
        &set.pool_id,
        set.threshold,
        &signers,
        &policy,
        &set.canonical_json_sha256,
        set.created_at,
        set.updated_at
    ];
    tx.execute(&PUT_SET, params).await?;
    Ok(())
}

impl FromRow for SigningRequest {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SigningRequest {
            request_id: row.text(0)?.to_owned(),
            pool_id: row.text(1)?.to_owned(),
            action_class: row.text(2)?.to_owned(),
            idempotency_key: row.text(3)?.to_owned(),
            payload_json: json(row.text(4)?)?,
            payload_sha256: row.text(5)?.to_owned(),
            required_signatures: small(row, 6)?,
            status: word(row.text(7)?, SigningStatus::parse, "status of a signing request")?,
            execution_result_json: row.opt_text(8)?.map(json).transpose()?,
            executed_at: row.opt_timestamp(9)?,
            created_at: row.timestamp(10)?,
            remaining_signatures: None,
        })
    }
}

pub async fn signing(tx: &mut Tx, request_id: &str) -> Result<Option<SigningRequest>, Stop> {
    tx.one(&SIGNING, params![request_id]).await
}

pub async fn signing_by_key(
    tx: &mut Tx,
    pool_id: &str,
    action_class: &str,
    key: &str,
) -> Result<Option<SigningRequest>, Stop> {
    tx.one(&SIGNING_BY_KEY, params![pool_id, action_class, key]).await
}

/// The latest first.
pub async fn signings(
    tx: &mut Tx,
    pool_id: &str,
    status: Option<SigningStatus>,
    limit: u32,
) -> Result<Vec<SigningRequest>, Stop> {
    match status {
        Some(status) => tx.all(&SIGNINGS_OF_STATUS, params![pool_id, status.name(), limit]).await,
        None => tx.all(&SIGNINGS, params![pool_id, limit]).await,
    }
}

/// Writes the whole row. The caller holds the pool's key.
pub async fn put_signing(tx: &mut Tx, row: &SigningRequest) -> Result<(), Stop> {
    let params = params![
        &row.request_id,
        &row.pool_id,
        &row.action_class,
        &row.idempotency_key,
        row.payload_json.get(),
        &row.payload_sha256,
        row.required_signatures,
        row.status.name(),
        row.execution_result_json.as_ref().map(|result| result.get()),
        row.executed_at,
        row.created_at
    ];
    tx.execute(&PUT_SIGNING, params).await?;
    Ok(())
}

impl FromRow for SigningApproval {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SigningApproval {
            request_id: row.text(0)?.to_owned(),
            signer_pubkey: row.text(1)?.to_owned(),
            approval_id: row.text(2)?.to_owned(),
            signature: read(row.text(3)?)?,
            created_at: row.timestamp(4)?,
        })
    }
}

/// In the order of the signers' keys; at most one a signer.
pub async fn approvals(tx: &mut Tx, request_id: &str) -> Result<Vec<SigningApproval>, Stop> {
    tx.all(&APPROVALS, params![request_id]).await
}

pub async fn insert_approval(tx: &mut Tx, approval: &SigningApproval) -> Result<(), Stop> {
    let signature = written(&approval.signature)?;
    let params = params![
        &approval.request_id,
        &approval.signer_pubkey,
        &approval.approval_id,
        &signature,
        approval.created_at
    ];
    tx.execute(&INSERT_APPROVAL, params).await?;
    Ok(())
}
