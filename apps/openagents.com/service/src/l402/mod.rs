//! Decides how the receipts of lightning calls are shown to their owner (control §19).

mod transaction;
mod transactions;

use oa_contract::{Fault, wire::l402::Transaction};
use oa_store::tables::l402::Receipt;
use serde_json::Value;

/// A receipt as its owner reads it; `result` replaces what the row had no room for.
fn view(receipt: Receipt, result: Option<String>) -> Result<Transaction, Fault> {
    let Receipt { event_id, receipt } = receipt;
    let unreadable = |error| Fault::new("reading a receipt", error);
    let mut payload: Value = serde_json::from_str(&receipt.payload).map_err(unreadable)?;
    if let Some(result) = result {
        payload["result"] = serde_json::from_str(&result).map_err(unreadable)?;
    }
    let text = |name: &str| payload[name].as_str().map(str::to_owned);
    let number = |name: &str| payload[name].as_u64();
    Ok(Transaction {
        event_id,
        receipt_id: receipt.receipt_id,
        autopilot_id: Some(receipt.autopilot).filter(|autopilot| !autopilot.is_empty()),
        thread_id: receipt.thread_id,
        run_id: receipt.run_id,
        run_status: receipt.run_status,
        status: receipt.status,
        host: text("host"),
        scope: text("scope"),
        paid: receipt.paid,
        cache_hit: payload["cacheHit"] == true,
        cache_status: text("cacheStatus"),
        amount_msats: number("amountMsats"),
        quoted_amount_msats: number("quotedAmountMsats"),
        max_spend_msats: number("maxSpendMsats"),
        proof_reference: text("proofReference"),
        deny_code: text("denyCode"),
        task_id: text("taskId"),
        approval_required: payload["approvalRequired"] == true,
        response_status_code: number("responseStatusCode").and_then(|status| u16::try_from(status).ok()),
        response_body_sha256: text("responseBodySha256"),
        tool_call_id: text("toolCallId"),
        operation: text("operation"),
        created_at: receipt.created_at.zulu_seconds(),
        raw_payload: payload,
    })
}
