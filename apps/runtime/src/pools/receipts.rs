//! Decides what the receipts of pools say and which digest proves each (§5 to §8). The digests are over exactly the
//! members that the specification lists, and what is unset is `null` there unless it is left out.

use oa_contract::{
    Fault, Stop, Timestamp,
    canonical::{canonical_digest, hex},
    pool_proof::SnapshotDigests,
    receipt::ReceiptSignature,
    signer::Signer,
    wire::{
        pool_signing::{ApprovalProof, SigningApproval, SigningRequest, TreasuryActionReceipt},
        pools::{
            DepositReceipt, PartitionKind, PayoutRail, Snapshot, SnapshotReceipt, ThrottleMode,
            WithdrawRequestReceipt,
        },
    },
};
use oa_store::{
    Tx,
    tables::{
        pool_withdrawals::WithdrawalRow,
        pools::{self as table, DepositRow, ReceiptRow},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use super::said;
use crate::bridge;

pub const DEPOSIT: &str = "openagents.liquidity.deposit_receipt.v1";
pub const WITHDRAW_REQUEST: &str = "openagents.liquidity.withdraw_request_receipt.v1";
pub const WITHDRAW_SETTLEMENT: &str = "openagents.liquidity.withdraw_settlement_receipt.v1";
pub const WITHDRAW_THROTTLE: &str = "openagents.liquidity.withdraw_throttle_receipt.v1";
pub const SNAPSHOT: &str = "openagents.liquidity.pool_snapshot_receipt.v1";
pub const TREASURY_ACTION: &str = "openagents.liquidity.pool_treasury_action_receipt.v1";
pub const SHARES_TREE: &str = "openagents.liquidity.pool_shares_tree.v1";

/// A digest and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    bytes: [u8; 32],
    pub hex: String,
}

impl Digest {
    pub fn of(preimage: &Value) -> Self {
        let bytes = canonical_digest(preimage);
        Digest { bytes, hex: hex(&bytes) }
    }

    /// A name made of the digest.
    pub fn named(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.hex.get(..24).unwrap_or_default())
    }

    pub fn signed(&self, signer: Option<&Signer>) -> Option<ReceiptSignature> {
        signer.map(|signer| ReceiptSignature::new(signer, &self.bytes))
    }
}

/// With the partition where it is not the first one.
fn with_partition(mut preimage: Value, partition: PartitionKind) -> Value {
    if let (Some(kind), Some(members)) = (said(partition), preimage.as_object_mut()) {
        members.insert("partition_kind".into(), json!(kind));
    }
    preimage
}

pub fn deposit(row: &DepositRow, signer: Option<&Signer>) -> DepositReceipt {
    let digest = Digest::of(&with_partition(
        json!({
            "schema": DEPOSIT, "pool_id": row.pool_id, "lp_id": row.lp_id, "deposit_id": row.deposit_id,
            "rail": row.rail, "amount_sats": row.amount_sats, "share_price_sats": row.share_price_sats,
            "shares_minted": row.shares_minted, "invoice_hash": row.invoice_hash,
            "deposit_address": row.deposit_address, "created_at": row.created_at,
        }),
        row.partition,
    ));
    DepositReceipt {
        schema: DEPOSIT.into(),
        receipt_id: digest.named("lpd_"),
        pool_id: row.pool_id.clone(),
        lp_id: row.lp_id.clone(),
        deposit_id: row.deposit_id.clone(),
        partition_kind: said(row.partition),
        rail: row.rail,
        amount_sats: row.amount_sats,
        share_price_sats: row.share_price_sats,
        shares_minted: row.shares_minted,
        invoice_hash: row.invoice_hash.clone(),
        deposit_address: row.deposit_address.clone(),
        created_at: row.created_at,
        signature: digest.signed(signer),
        canonical_json_sha256: digest.hex,
    }
}

pub fn withdraw_request(row: &WithdrawalRow, signer: Option<&Signer>) -> WithdrawRequestReceipt {
    let digest = Digest::of(&with_partition(
        json!({
            "schema": WITHDRAW_REQUEST, "pool_id": row.pool_id, "lp_id": row.lp_id,
            "withdrawal_id": row.withdrawal_id, "shares_burned": row.shares_burned,
            "amount_sats_estimate": row.amount_sats, "rail_preference": row.rail,
            "earliest_settlement_at": row.earliest_settlement_at, "created_at": row.created_at,
        }),
        row.partition,
    ));
    WithdrawRequestReceipt {
        schema: WITHDRAW_REQUEST.into(),
        receipt_id: digest.named("lpwdr_"),
        pool_id: row.pool_id.clone(),
        lp_id: row.lp_id.clone(),
        withdrawal_id: row.withdrawal_id.clone(),
        partition_kind: said(row.partition),
        shares_burned: row.shares_burned,
        amount_sats_estimate: row.amount_sats,
        rail_preference: row.rail,
        earliest_settlement_at: row.earliest_settlement_at,
        created_at: row.created_at,
        signature: digest.signed(signer),
        canonical_json_sha256: digest.hex,
    }
}

/// What a wallet said of a payout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub wallet_receipt_sha256: Option<String>,
    pub payment_id: Option<String>,
    pub txid: Option<String>,
}

/// A receipt as a document, ready to be kept.
pub struct Kept {
    pub receipt_id: String,
    pub sha256: String,
    pub document: Value,
}

/// The receipt of a digest's own members: id, digest and signature are added, what is unset goes.
fn document(preimage: Value, prefix: &str, signer: Option<&Signer>) -> Kept {
    let digest = Digest::of(&preimage);
    let mut members = match preimage {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.retain(|_, value| !value.is_null());
    members.insert("receipt_id".into(), json!(digest.named(prefix)));
    members.insert("canonical_json_sha256".into(), json!(digest.hex));
    if let Some(signature) = digest.signed(signer) {
        members.insert("signature".into(), json!(signature));
    }
    Kept { receipt_id: digest.named(prefix), sha256: digest.hex, document: Value::Object(members) }
}

pub fn settlement(
    row: &WithdrawalRow,
    settled: &Settled,
    paid_at: Timestamp,
    signer: Option<&Signer>,
) -> Kept {
    let (invoice_hash, address) = match row.rail {
        PayoutRail::Lightning => (row.payout_invoice_hash.as_ref(), None),
        PayoutRail::Onchain => (None, row.payout_address.as_ref()),
    };
    let preimage = with_partition(
        json!({
            "schema": WITHDRAW_SETTLEMENT, "pool_id": row.pool_id, "lp_id": row.lp_id,
            "withdrawal_id": row.withdrawal_id, "amount_sats": row.amount_sats, "rail": row.rail,
            "payout_invoice_hash": invoice_hash, "payout_address": address,
            "wallet_receipt_sha256": settled.wallet_receipt_sha256, "payout_payment_id": settled.payment_id,
            "payout_txid": settled.txid, "paid_at": paid_at,
        }),
        row.partition,
    );
    document(preimage, "lpwds_", signer)
}

/// What the throttle has done to a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttled {
    RequestDelayApplied,
    ExecutionHalted,
    ExecutionDeferred,
}

impl Throttled {
    pub const fn name(self) -> &'static str {
        match self {
            Throttled::RequestDelayApplied => "request_delay_applied",
            Throttled::ExecutionHalted => "execution_halted",
            Throttled::ExecutionDeferred => "execution_deferred_throttle_cap",
        }
    }
}

pub fn throttle(
    row: &WithdrawalRow,
    action: Throttled,
    (mode, extra_delay_hours, cap): (ThrottleMode, u32, Option<u32>),
    reasons: &[String],
    signer: Option<&Signer>,
) -> Kept {
    let preimage = json!({
        "schema": WITHDRAW_THROTTLE, "pool_id": row.pool_id, "withdrawal_id": row.withdrawal_id,
        "action": action.name(), "mode": mode, "extra_delay_hours": extra_delay_hours, "reasons": reasons,
        "execution_cap_per_tick": cap, "created_at": row.created_at,
    });
    document(preimage, "lpwdt_", signer)
}

/// A snapshot's digest, and those of its two documents.
pub fn snapshot_digest(snapshot: &Snapshot) -> Result<(Digest, String, String), Fault> {
    let digests = SnapshotDigests::of(snapshot).map_err(|error| Fault::new("reading a snapshot", error))?;
    let digest = Digest::of(&digests.preimage);
    Ok((digest, digests.assets_json_sha256, digests.liabilities_json_sha256))
}

/// The receipt of a snapshot. What was signed stays signed as it was.
pub fn snapshot(snapshot: &Snapshot, signer: Option<&Signer>) -> Result<SnapshotReceipt, Fault> {
    let (digest, assets_json_sha256, liabilities_json_sha256) = snapshot_digest(snapshot)?;
    Ok(SnapshotReceipt {
        schema: SNAPSHOT.into(),
        receipt_id: digest.named("lpsr_"),
        pool_id: snapshot.pool_id.clone(),
        snapshot_id: snapshot.snapshot_id.clone(),
        partition_kind: said(snapshot.partition_kind),
        as_of: snapshot.as_of,
        assets_json_sha256,
        liabilities_json_sha256,
        share_price_sats: snapshot.share_price_sats,
        created_at: snapshot.created_at,
        signature: snapshot.signature_json.clone().or_else(|| digest.signed(signer)),
        canonical_json_sha256: digest.hex,
    })
}

pub fn treasury_action(
    request: &SigningRequest,
    approvals: &[SigningApproval],
    result: &Value,
    executed_at: Timestamp,
    signer: Option<&Signer>,
) -> Result<TreasuryActionReceipt, Fault> {
    let mut proofs: Vec<ApprovalProof> = approvals
        .iter()
        .map(|approval| ApprovalProof {
            signer_pubkey: approval.signer_pubkey.clone(),
            scheme: approval.signature.scheme.clone(),
            signed_sha256: approval.signature.signed_sha256.clone(),
            signature_hex: approval.signature.signature_hex.clone(),
        })
        .collect();
    proofs.sort_by(|one, other| one.signer_pubkey.cmp(&other.signer_pubkey));
    let digest = Digest::of(&json!({
        "schema": TREASURY_ACTION, "pool_id": request.pool_id, "signing_request_id": request.request_id,
        "action_class": request.action_class, "payload_sha256": request.payload_sha256, "approvals": proofs,
        "execution_result_json": result, "executed_at": executed_at,
    }));
    Ok(TreasuryActionReceipt {
        schema: TREASURY_ACTION.into(),
        receipt_id: digest.named("lpta_"),
        pool_id: request.pool_id.clone(),
        signing_request_id: request.request_id.clone(),
        action_class: request.action_class.clone(),
        payload_sha256: request.payload_sha256.clone(),
        approvals: proofs,
        execution_result_json: raw(result)?,
        executed_at,
        signature: digest.signed(signer),
        canonical_json_sha256: digest.hex,
    })
}

pub fn raw<T: Serialize>(value: &T) -> Result<Box<RawValue>, Fault> {
    serde_json::value::to_raw_value(value).map_err(|error| Fault::new("writing a receipt", error))
}

/// Keeps the first receipt of its kind for a thing.
pub async fn keep(
    tx: &mut Tx,
    (entity_kind, entity_id, schema): (&str, &str, &str),
    receipt: &Kept,
    signer: Option<&Signer>,
    now: Timestamp,
) -> Result<(), Stop> {
    let row = ReceiptRow {
        receipt_id: receipt.receipt_id.clone(),
        entity_kind: entity_kind.into(),
        entity_id: entity_id.into(),
        schema: schema.into(),
        sha256: receipt.sha256.clone(),
        document: raw(&receipt.document)?,
        created_at: now,
    };
    if !table::keep_receipt(tx, &row).await? || schema == TREASURY_ACTION {
        return Ok(());
    }
    let pointer = bridge::pointer_of(&receipt.receipt_id, &receipt.sha256, &receipt.document);
    bridge::tell_receipt(tx, signer, pointer, now).await
}

/// A typed receipt as it is kept.
pub fn kept<T: Serialize>(receipt_id: &str, sha256: &str, receipt: &T) -> Result<Kept, Fault> {
    let document = serde_json::to_value(receipt).map_err(|error| Fault::new("writing a receipt", error))?;
    Ok(Kept { receipt_id: receipt_id.into(), sha256: sha256.into(), document })
}

/// The receipt that was given of a thing.
pub async fn given<T: DeserializeOwned>(
    tx: &mut Tx,
    entity_kind: &str,
    entity_id: &str,
    schema: &str,
) -> Result<T, Stop> {
    let row = table::receipt(tx, entity_kind, entity_id, schema).await?;
    let row =
        row.ok_or_else(|| Fault::msg(format!("the {entity_kind} receipt of {entity_id} is not there")))?;
    Ok(serde_json::from_str(row.document.get()).map_err(|error| Fault::new("reading a receipt", error))?)
}

#[cfg(test)]
pub(super) use golden::withdrawal as test_withdrawal;

#[cfg(test)]
mod golden {
    //! The vectors of the specification (§16).

    use oa_contract::wire::pools::{DepositRail, DepositStatus, WithdrawalStatus};

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a moment")
    }

    fn signer() -> Signer {
        let secret = oa_contract::canonical::sha256_hex("openagents:vignette:vignette-liquidity-pool-mvp0");
        Signer::from_secret(&secret).expect("a key")
    }

    pub fn withdrawal() -> WithdrawalRow {
        let created_at = at("2026-02-25T12:00:03.500Z");
        WithdrawalRow {
            withdrawal_id: "liqwd_01976f3c-7de0-7a42-b1c3-2f4e6a8c0d32".into(),
            pool_id: "pool_vignette_llp".into(),
            partition: PartitionKind::Llp,
            lp_id: "lp:vignette".into(),
            shares_burned: 1_000,
            amount_sats: 1_000,
            rail: PayoutRail::Lightning,
            status: WithdrawalStatus::Queued,
            fingerprint: String::new(),
            idempotency_key: "idem:withdraw-ln-1".into(),
            earliest_settlement_at: at("2026-02-26T12:00:03.500Z"),
            payout_invoice: Some("lnbc10000n1vignette".into()),
            payout_invoice_hash: Some(
                "9abfb93c9551d84380d5e090e22873b8ef0c54f4186d1b603b5fb6e0cc582421".into(),
            ),
            payment_hash: None,
            payout_address: None,
            locked: false,
            round: 0,
            request_id: None,
            paying_msats: 0,
            not_after: None,
            signing_request_id: None,
            due_at: None,
            wallet_receipt_sha256: None,
            last_error: None,
            created_at,
            paid_at: None,
            owed_msats: 1_000_000,
            shares_returned: 0,
            tries: 0,
            asks: 0,
        }
    }

    #[test]
    fn the_deposit_receipt_is_the_golden_one() {
        let row = DepositRow {
            deposit_id: "liqdep_01976f3b-0a55-7c31-8f02-9b6c5d4e3f21".into(),
            pool_id: "pool_vignette_llp".into(),
            partition: PartitionKind::Llp,
            lp_id: "lp:vignette".into(),
            rail: DepositRail::LightningInvoice,
            amount_sats: 2_500,
            share_price_sats: 1,
            shares_minted: 2_500,
            status: DepositStatus::Quoted,
            fingerprint: String::new(),
            idempotency_key: "idem:deposit-1".into(),
            wallet_request_id: String::new(),
            invoice_bolt11: Some("lnbc25000n1vignette".into()),
            invoice_hash: Some("30a4d653ea17fb817efe489fe90787060e9819650afbe927a5a07f0a0c3f6dfe".into()),
            payment_hash: None,
            deposit_address: None,
            received_msats: None,
            evidence: None,
            look_at: None,
            created_at: at("2026-02-25T12:00:02.000001Z"),
            expires_at: at("2026-02-25T12:15:02Z"),
            confirmed_at: None,
        };
        let receipt = deposit(&row, Some(&signer()));
        let digest = "09dedfa01d97cceb86a621728b9fd6e7e1739ec98b6df958603fd22fa68db8d9";
        assert_eq!(receipt.canonical_json_sha256, digest);
        assert_eq!(receipt.receipt_id, "lpd_09dedfa01d97cceb86a62172");
        let signature = receipt.signature.expect("signed");
        assert!(signature.proves(digest));
        assert_eq!(
            signature.signer_pubkey,
            "08679d1300a172367f984c5bfb215bba05fca60f55b5e245e90f5676ea1a908c"
        );
        let other = DepositRow { partition: PartitionKind::Cep, ..row };
        assert_ne!(deposit(&other, None).canonical_json_sha256, digest);
        assert_eq!(deposit(&other, None).partition_kind, Some(PartitionKind::Cep));
    }

    #[test]
    fn the_receipts_of_a_withdrawal_are_the_golden_ones() {
        let row = withdrawal();
        let requested = withdraw_request(&row, None);
        assert_eq!(
            requested.canonical_json_sha256,
            "110464c5bdddc1ccb0ee0aa45337065756288d4d272313ee57a784aba4671ee1"
        );
        assert_eq!(requested.receipt_id, "lpwdr_110464c5bdddc1ccb0ee0aa4");
        let settled = Settled {
            wallet_receipt_sha256: Some("ab".repeat(32)),
            payment_id: Some("mock-pay-1".into()),
            txid: None,
        };
        let settlement = settlement(&row, &settled, at("2026-02-25T12:00:04Z"), None);
        assert_eq!(settlement.sha256, "6cfc751e9f1f128e9f9ba4af1e7db0256bf8848ad1812839e37292fe2549f652");
        assert!(settlement.receipt_id.starts_with("lpwds_6cfc75"));
        assert_eq!(settlement.document.get("payout_txid"), None);
        let throttled = throttle(
            &row,
            Throttled::RequestDelayApplied,
            (ThrottleMode::Stressed, 12, Some(1)),
            &["channel_connectivity_stress_threshold".into()],
            None,
        );
        assert_eq!(throttled.sha256, "a2a6470735293444da6c6a00d8122a7d4b4b6fa73e8753d86a23a8e238c1585e");
    }

    #[test]
    fn the_snapshot_is_the_golden_one() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
        let made = Snapshot {
            snapshot_id: "lips_38e97d0c5b81b00ff098f29e".into(),
            pool_id: "pool_vignette_llp".into(),
            partition_kind: PartitionKind::Llp,
            as_of: at("2026-02-25T12:00:02.500100Z"),
            assets_json: raw(
                r#"{"schema":"openagents.liquidity.pool_assets.v1","partitionKind":"llp","walletBalanceSats":252500,"bookAssetsSats":2500,"lightning":{"schema":"openagents.liquidity.llp_lightning_snapshot.v1","backend":"noop","onchainSats":0,"channelTotalSats":0,"channelOutboundSats":0,"channelInboundSats":0,"channelCount":0,"connectedChannelCount":0,"lastError":null}}"#,
            ),
            liabilities_json: raw(
                r#"{"schema":"openagents.liquidity.pool_liabilities.v1","partitionKind":"llp","sharesOutstanding":2500,"pendingWithdrawalsSatsEstimate":0,"creditReservedCommitmentsSats":0}"#,
            ),
            share_price_sats: 1,
            canonical_json_sha256: String::new(),
            signature_json: None,
            created_at: at("2026-02-25T12:00:02.500108Z"),
        };
        let receipt = snapshot(&made, None).expect("a receipt");
        assert_eq!(
            receipt.assets_json_sha256,
            "c8576ebbd6881d170da1d087d034f61d8753a13c658278638f2b989026dd234e"
        );
        assert_eq!(
            receipt.liabilities_json_sha256,
            "f2a83075b26574175dc39ef91a1cccba343a2ef0e3171040a3fab231dc663483"
        );
        assert_eq!(
            receipt.canonical_json_sha256,
            "38e97d0c5b81b00ff098f29efbe68050ed9e177975ea8165dfdd2de2418a2e1c"
        );
    }
}
