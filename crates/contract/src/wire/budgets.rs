//! Budgets: how much an owner may spend, and within that an organisation, a repository, an issue, a run
//! (marketplace §10.1, §17.3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{amount::Msats, instant::Timestamp, operation};

/// Sets one budget: that of the narrowest scope that is named, or the owner's own when none is. A limit below
/// what is spent and reserved already is refused, and says what the least is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 11, "organisation": "acme", "repo": "site", "limit_msats": 250_000_000, "idempotency_key": "raise-1"}))]
pub struct SetBudget {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Needs `organisation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Needs `repo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// Known by its id alone, wherever it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<uuid::Uuid>,
    pub limit_msats: Msats,
    /// Under a key, a late repetition is answered as it was the first time and changes nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl operation::Body for SetBudget {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BudgetLevel {
    Owner,
    Organisation,
    Repo,
    Issue,
    Run,
}

/// A budget and how much of it is used. `limit_msats` is always `spent_msats` + `reserved_msats` +
/// `remaining_msats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    pub owner_key: String,
    pub level: BudgetLevel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<uuid::Uuid>,
    pub limit_msats: Msats,
    /// Held for work that has not ended.
    pub reserved_msats: Msats,
    /// What was paid. A nested budget counts from when it was first set.
    pub spent_msats: Msats,
    pub remaining_msats: Msats,
    /// When it was first set; absent for an owner's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetReply {
    /// `openagents.treasury.budget.v1`.
    pub schema: String,
    pub budget: Budget,
}

/// With an owner, the owner's budgets, beginning with the default if none was set for the owner as a whole;
/// without one, everybody's that were set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListBudgets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    /// 1 to 200, 50 by default; 0 is taken as 1, more as 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `next` of an earlier answer: continue behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

impl operation::Query for ListBudgets {}

/// The latest first set first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetList {
    /// `openagents.treasury.budget_list.v1`.
    pub schema: String,
    pub budgets: Vec<Budget>,
    /// Give this as `before` for the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}
