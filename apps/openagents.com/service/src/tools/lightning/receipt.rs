//! Decides what is recorded of a lightning call, so that its owner can read later what was paid for what
//! (control §11.6).

use oa_contract::{Fault, Stop, Timestamp, canonical::hex};
use oa_fetch::Fetched;
use oa_store::tables::l402::NewReceipt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{End, Run};
use crate::tools::ledger::Receipt;

/// What a list can show; a longer result is kept beside the receipt.
const SHORT: usize = 8 * 1024;

/// A document that is nested deeper would be unreadable inside our own.
const DEEPEST: usize = 100;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// What happened, beyond what was answered.
#[derive(Clone, Default)]
pub struct Facts {
    pub host: String,
    pub scope: String,
    /// Money moved in this call, and what it was paid for was had.
    pub paid: bool,
    pub cache_hit: bool,
    pub amount_msats: Option<u64>,
    pub quoted_msats: Option<u64>,
    pub max_msats: Option<u64>,
    pub proof_reference: Option<String>,
    pub task_id: Option<String>,
    pub response: Option<Response>,
}

/// What somebody answered.
#[derive(Clone)]
pub struct Response {
    pub status: u16,
    body: Value,
    sha256: String,
}

impl Response {
    pub fn of(fetched: &Fetched) -> Self {
        let text = String::from_utf8_lossy(&fetched.body);
        let body = match text.trim() {
            "" => Value::Null,
            other => match serde_json::from_str(other) {
                Ok(body) if depth(&body) <= DEEPEST => body,
                _ => json!({"raw": text}),
            },
        };
        Response { status: fetched.status, body, sha256: hex(&Sha256::digest(&fetched.body)) }
    }

    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may fare better.
    pub fn may_pass(&self) -> bool {
        matches!(self.status, 402 | 408 | 425 | 429 | 500..=599)
    }

    pub fn view(&self) -> Value {
        json!({"statusCode": self.status, "body": self.body, "bodySha256": self.sha256})
    }
}

/// The row, with a whole result beside it where the list leaves the body out.
pub fn of(run: &Run<'_>, end: &End, now: Timestamp) -> Result<Receipt, Stop> {
    let (facts, verdict) = (&end.facts, &end.verdict);
    let status = match verdict.reason_code.as_str() {
        _ if facts.paid => "paid",
        "cached_fetch_completed" | "approval_already_executed" => "cached",
        _ => verdict.state,
    };
    let denied = matches!(verdict.decision, "denied" | "failed");
    let whole = verdict.result.to_string();
    let mut shown = verdict.result.clone();
    let long = whole.len() > SHORT;
    if long && let Some(body) = shown.pointer_mut("/response/body") {
        *body = json!({"omitted": true});
    }
    let payload = json!({
        "status": status,
        "host": facts.host,
        "scope": facts.scope,
        "paid": facts.paid,
        "cacheHit": facts.cache_hit,
        "cacheStatus": if facts.cache_hit { "hit" } else { "miss" },
        "amountMsats": facts.amount_msats,
        "quotedAmountMsats": facts.quoted_msats,
        "maxSpendMsats": facts.max_msats,
        "proofReference": facts.proof_reference,
        "denyCode": denied.then_some(&verdict.reason_code),
        "taskId": facts.task_id,
        "approvalRequired": verdict.reason_code == "approval_required",
        "responseStatusCode": facts.response.as_ref().map(|response| response.status),
        "responseBodySha256": facts.response.as_ref().map(|response| &response.sha256),
        "toolCallId": run.ask.tool_call_id,
        "toolPack": run.call.pack.name(),
        "operation": run.ask.operation(),
        "result": shown,
    });
    let row = NewReceipt {
        receipt_id: run.call.receipt_id(),
        principal: run.principal().to_owned(),
        autopilot: run.autopilot().to_owned(),
        thread_id: run.thread_id.clone(),
        run_id: run.run_id.clone(),
        run_status: verdict.state.to_owned(),
        status: status.to_owned(),
        task_id: facts.task_id.clone().unwrap_or_default(),
        paid: facts.paid,
        payload: serde_json::to_string(&payload).map_err(|error| Fault::new("writing a receipt", error))?,
        created_at: now,
    };
    Ok(Receipt { row, result: long.then_some(whole) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(body: &[u8]) -> Response {
        Response::of(&Fetched { status: 200, headers: Vec::new(), body: body.to_vec() })
    }

    #[test]
    fn a_body_is_nothing_json_or_raw_text() {
        assert_eq!(answered(b" \n ").view()["body"], Value::Null);
        assert_eq!(answered(b"{\"ok\":true}").view()["body"], json!({"ok": true}));
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
        assert_eq!(answered(deep.as_bytes()).view()["body"], json!({"raw": deep}));
        assert_eq!(answered(b"<html>").view()["body"], json!({"raw": "<html>"}));
        assert_eq!(answered(b"\xff\xfe").view()["body"], json!({"raw": "\u{fffd}\u{fffd}"}));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(answered(b"").view()["bodySha256"], empty);
    }
}
