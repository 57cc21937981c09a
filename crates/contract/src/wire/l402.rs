//! The receipts of lightning calls, as their owner reads them back (control §11.6, §19).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operation::{Data, Query};

/// The query of `GET /api/l402/transactions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListTransactions {
    /// Only what was asked for this autopilot; at most 160 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopilot: Option<String>,
    /// How many a page holds: 20 if absent, held between 1 and 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_page: Option<u32>,
    /// From 1. Pages end at the ten thousandth row; `before` leads further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Only what is older than this event: the `next` of an earlier page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

impl Query for ListTransactions {}

/// What one lightning call came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    pub event_id: i64,
    pub receipt_id: String,
    pub autopilot_id: Option<String>,
    pub thread_id: String,
    pub run_id: String,
    /// The `state` of the call.
    pub run_status: String,
    /// `paid`, `cached`, `succeeded`, `blocked` or `failed`.
    pub status: String,
    pub host: Option<String>,
    pub scope: Option<String>,
    pub paid: bool,
    pub cache_hit: bool,
    pub cache_status: Option<String>,
    pub amount_msats: Option<u64>,
    pub quoted_amount_msats: Option<u64>,
    pub max_spend_msats: Option<u64>,
    pub proof_reference: Option<String>,
    pub deny_code: Option<String>,
    pub task_id: Option<String>,
    pub approval_required: bool,
    pub response_status_code: Option<u16>,
    pub response_body_sha256: Option<String>,
    pub tool_call_id: Option<String>,
    pub operation: Option<String>,
    pub created_at: String,
    /// Everything that was recorded. In a list, a long answer is left out of it.
    pub raw_payload: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    pub current_page: u32,
    pub per_page: u32,
    pub has_more_pages: bool,
    /// What `before` has to be for the rows after these.
    pub next: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transactions {
    /// Newest first.
    pub transactions: Vec<Transaction>,
    pub pagination: Pagination,
}

pub type TransactionsReply = Data<Transactions>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OneTransaction {
    pub transaction: Transaction,
}

pub type TransactionReply = Data<OneTransaction>;
