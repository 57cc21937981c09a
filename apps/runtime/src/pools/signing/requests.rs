//! Decides what signers are asked to sign: payloads of exactly the specified members, whose digest is the thing that is
//! signed, one request a pool, class and key.

use oa_contract::{
    Refusal, Stop, Timestamp,
    canonical::canonical_hash,
    wire::{
        pool_signing::{SigningRequest, SigningStatus},
        pools::{PayoutRail, WithdrawalStatus},
    },
};
use oa_store::{
    Tx,
    tables::{
        pool_signing as table,
        pool_withdrawals::{self, WithdrawalRow},
    },
};
use serde_json::{Value, json};

use super::policy::{self, INVOICE_PAY_LARGE, ONCHAIN_WITHDRAWAL};
use crate::pools::receipts::raw;

const INVOICE_PAY: &str = "openagents.liquidity.pool.withdrawal_invoice_pay_action.v1";
const ONCHAIN: &str = "openagents.liquidity.pool.withdrawal_onchain_action.v1";

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub pool_id: String,
    pub class: &'static str,
    pub key: String,
    pub payload: Value,
    pub sats: Option<u64>,
    /// The name of the request, if it is a new one.
    pub request_id: String,
    pub now: Timestamp,
}

/// Creates the request, or gives the one that stands under its key. The caller holds the pool's key.
pub async fn create_or_get(tx: &mut Tx, wanted: &Wanted) -> Result<(SigningRequest, bool), Stop> {
    let payload_sha256 = canonical_hash(&wanted.payload);
    if let Some(known) = table::signing_by_key(tx, &wanted.pool_id, wanted.class, &wanted.key).await? {
        return match known.payload_sha256 == payload_sha256 {
            true => Ok((known, false)),
            false => Err(Refusal::conflict("idempotency_key reused with different signing payload").into()),
        };
    }
    let set = table::signer_set(tx, &wanted.pool_id).await?;
    let set = set.ok_or_else(|| Refusal::conflict("pool signer set not configured"))?;
    let request = SigningRequest {
        request_id: wanted.request_id.clone(),
        pool_id: wanted.pool_id.clone(),
        action_class: wanted.class.to_owned(),
        idempotency_key: wanted.key.clone(),
        payload_json: raw(&wanted.payload)?,
        payload_sha256,
        required_signatures: policy::required(&set, wanted.class, wanted.sats)?,
        status: SigningStatus::Pending,
        created_at: wanted.now,
        execution_result_json: None,
        executed_at: None,
        remaining_signatures: None,
    };
    table::put_signing(tx, &request).await?;
    Ok((request, true))
}

/// Hands a due withdrawal to the signers; true when they had not been asked before.
pub async fn for_withdrawal(
    tx: &mut Tx,
    (withdrawal_id, request_id, now): &(String, String, Timestamp),
) -> Result<bool, Stop> {
    let row = pool_withdrawals::get(tx, withdrawal_id).await?;
    let Some(row) = row.filter(|row| row.status == WithdrawalStatus::Queued && row.due_at.is_some()) else {
        return Ok(false);
    };
    if row.amount_sats == 0 {
        return Err(Refusal::conflict("the withdrawal is worth nothing").into());
    }
    let (class, payload) = payload(&row);
    let wanted = Wanted {
        pool_id: row.pool_id.clone(),
        class,
        key: format!("withdrawal:{}", row.withdrawal_id),
        payload,
        sats: Some(row.amount_sats),
        request_id: request_id.clone(),
        now: *now,
    };
    let (request, fresh) = create_or_get(tx, &wanted).await?;
    let row = WithdrawalRow {
        signing_request_id: Some(request.request_id),
        // It is the signers' now.
        due_at: None,
        last_error: None,
        ..row
    };
    pool_withdrawals::put(tx, &row).await?;
    Ok(fresh)
}

/// What is signed for a withdrawal.
pub fn payload(row: &WithdrawalRow) -> (&'static str, Value) {
    match row.rail {
        PayoutRail::Lightning => (
            INVOICE_PAY_LARGE,
            json!({
                "schema": INVOICE_PAY, "pool_id": row.pool_id, "action_class": INVOICE_PAY_LARGE,
                "withdrawal_id": row.withdrawal_id, "amount_sats": row.amount_sats,
                "payout_invoice_hash": row.payout_invoice_hash,
            }),
        ),
        PayoutRail::Onchain => (
            ONCHAIN_WITHDRAWAL,
            json!({
                "schema": ONCHAIN, "pool_id": row.pool_id, "action_class": ONCHAIN_WITHDRAWAL,
                "withdrawal_id": row.withdrawal_id, "amount_sats": row.amount_sats,
                "payout_address": row.payout_address, "confirmation_speed": "normal",
            }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::receipts::test_withdrawal;

    #[test]
    fn the_payload_of_an_onchain_payout_is_the_golden_one() {
        let row = WithdrawalRow {
            withdrawal_id: "liqwd_01976f3d-1111-7222-8333-444455556666".into(),
            amount_sats: 500,
            rail: PayoutRail::Onchain,
            payout_address: Some("bc1qvignette000000000000000000000000000000".into()),
            ..test_withdrawal()
        };
        let (class, payload) = payload(&row);
        assert_eq!(class, "onchain_withdrawal_batch");
        assert_eq!(
            canonical_hash(&payload),
            "2b8c9c665e0061fb4bbc4cb3a8c5bb75897c2b95e6372d245074965decd2bb04"
        );
    }
}
