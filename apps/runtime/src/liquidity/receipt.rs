//! Decides what the receipt of a payment says, and what its digest covers (§4.2).

use oa_contract::{
    Fault, Stop,
    bridge::LiquidityPointer,
    canonical::{canonical_digest, hex},
    receipt::ReceiptSignature,
    signer::Signer,
    wire::liquidity::{InvoicePayReceipt, PaidStatus},
};
use oa_store::{
    Tx,
    tables::liquidity::{self as table, PaymentRow, PaymentStatus, QuoteRow, ReceiptRow},
};
use serde_json::{json, value::to_raw_value};

use crate::bridge;

pub const SCHEMA: &str = "openagents.liquidity.invoice_pay_receipt.v1";

/// The most that a payment may forward (§4.2 step 5).
pub fn max_forwarded_msats(quote: &QuoteRow) -> u64 {
    let wanted = quote.quoted.get().saturating_add(quote.max_fee.get());
    quote.max_amount.get().min(wanted)
}

/// The receipt of a payment that has ended.
pub fn receipt(
    quote: &QuoteRow,
    payment: &PaymentRow,
    signer: Option<&Signer>,
) -> Result<InvoicePayReceipt, Fault> {
    let status = match payment.status {
        PaymentStatus::Succeeded => PaidStatus::Succeeded,
        PaymentStatus::Failed => PaidStatus::Failed,
        PaymentStatus::InFlight | PaymentStatus::Unknown => {
            return Err(Fault::msg("a payment has no receipt before it has ended"));
        }
    };
    let created_at = payment.completed_at.ok_or_else(|| Fault::msg("a payment ended without a moment"))?;
    let max_amount_forwarded_msats = max_forwarded_msats(quote);
    // Kept texts are never hashed as they are not: what is unset is null.
    let digest = canonical_digest(&json!({
        "schema": SCHEMA,
        "quote_id": quote.quote_id,
        "invoice_hash": quote.invoice_hash,
        "host": quote.host,
        "quoted_amount_msats": quote.quoted,
        "max_amount_msats": quote.max_amount,
        "max_fee_msats": quote.max_fee,
        "max_amount_forwarded_msats": max_amount_forwarded_msats,
        "status": payment.status.name(),
        "wallet_receipt_sha256": payment.wallet_receipt_sha256,
        "preimage_sha256": payment.preimage_sha256,
        "paid_at_ms": payment.paid_at_ms,
        "error_code": payment.error_code,
        "error_message": payment.error_message,
        "policy_context_sha256": quote.policy_context_sha256,
        "run_id": payment.run_id,
        "trajectory_hash": payment.trajectory_hash,
        "created_at": created_at,
    }));
    let sha256 = hex(&digest);
    Ok(InvoicePayReceipt {
        schema: SCHEMA.into(),
        receipt_id: format!("lipr_{}", &sha256[..24]),
        quote_id: quote.quote_id.clone(),
        invoice_hash: quote.invoice_hash.clone(),
        host: quote.host.clone(),
        quoted_amount_msats: quote.quoted.get(),
        max_amount_msats: quote.max_amount.get(),
        max_fee_msats: quote.max_fee.get(),
        max_amount_forwarded_msats,
        status,
        wallet_receipt_sha256: payment.wallet_receipt_sha256.clone(),
        preimage_sha256: payment.preimage_sha256.clone(),
        paid_at_ms: payment.paid_at_ms,
        error_code: payment.error_code.clone(),
        error_message: payment.error_message.clone(),
        policy_context_sha256: quote.policy_context_sha256.clone(),
        run_id: payment.run_id.clone(),
        trajectory_hash: payment.trajectory_hash.clone(),
        created_at,
        canonical_json_sha256: sha256,
        signature: signer.map(|signer| ReceiptSignature::new(signer, &digest)),
        fee_msats: payment.fee.map(|fee| fee.get()),
        payment_hash: payment.payment_hash.clone(),
    })
}

/// Writes the receipt of a quote's payment, with what ends it.
pub(super) async fn keep(tx: &mut Tx, payment: &PaymentRow, signer: Option<&Signer>) -> Result<(), Stop> {
    let quote = table::quote(tx, &payment.payment_id).await?;
    let quote = quote.ok_or_else(|| Fault::msg("a payment was begun without its quote"))?;
    let receipt = receipt(&quote, payment, signer)?;
    let row = ReceiptRow {
        quote_id: quote.quote_id,
        receipt_schema: receipt.schema.clone(),
        canonical_json_sha256: receipt.canonical_json_sha256.clone(),
        created_at: receipt.created_at,
        receipt: to_raw_value(&receipt).map_err(|error| Fault::new("writing a receipt", error))?,
    };
    table::insert_receipt(tx, &row).await?;
    let pointer = LiquidityPointer {
        receipt_id: &receipt.receipt_id,
        quote_id: Some(&receipt.quote_id),
        receipt_sha256: &receipt.canonical_json_sha256,
        ..LiquidityPointer::default()
    };
    bridge::tell_receipt(tx, signer, pointer, receipt.created_at).await
}
