//! Decides what `coding.v1` may do and what came of it: the caller's manifest and budget first, then the executor
//! (control §11.4).

mod github;
mod synthetic;

use std::sync::Arc;

use oa_contract::{Refusal, Stop};
use oa_store::tables::tools::ToolCall;
use serde_json::{Map, Value, json};

use super::{
    Later, Tools,
    call::Call,
    config::CodingConfig,
    execute::Verdict,
    fields::{self, Members},
    ledger::{Finished, Keep},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    GetIssue,
    GetPullRequest,
    AddIssueComment,
}

impl Operation {
    pub const fn name(self) -> &'static str {
        match self {
            Operation::GetIssue => "get_issue",
            Operation::GetPullRequest => "get_pull_request",
            Operation::AddIssueComment => "add_issue_comment",
        }
    }

    const fn cost_sats(self) -> u64 {
        match self {
            Operation::AddIssueComment => 50,
            Operation::GetPullRequest => 10,
            Operation::GetIssue => 5,
        }
    }
}

/// A well-formed request of the pack.
#[derive(Clone, Debug)]
pub struct Coding {
    pub operation: Operation,
    integration_id: String,
    repository: String,
    issue_number: Option<u64>,
    pull_number: Option<u64>,
    body: Option<String>,
    tool_call_id: Option<String>,
    policy: Policy,
}

/// What an executor is asked.
pub struct Task<'a> {
    pub coding: &'a Coding,
    pub hash: &'a str,
    pub receipt_id: &'a str,
    /// When this was first asked: nothing was done for it before.
    pub first_seen: oa_contract::Timestamp,
}

/// Why an executor did not do it.
#[derive(Debug)]
pub struct Failure {
    pub reason_code: &'static str,
    pub message: String,
    /// The same call may go better later; it is not remembered.
    pub retryable: bool,
}

/// Whoever does what a coding call asks. Doing it again must have no second effect.
pub(crate) trait CodingExecutor: Send + Sync {
    /// The members of the result beyond what was asked.
    fn execute<'a>(&'a self, task: Task<'a>) -> Later<'a, Result<Map<String, Value>, Failure>>;

    /// Whether answers are about the world, which changes.
    fn ages(&self) -> bool;
}

/// The executor that the configuration names.
pub(super) fn executor(config: &CodingConfig) -> Arc<dyn CodingExecutor> {
    match config.github {
        true => Arc::new(github::GitHub::new(config)),
        false => Arc::new(synthetic::Synthetic),
    }
}

impl Coding {
    pub(super) fn read(call: &Call, config: &CodingConfig) -> Result<Self, Refusal> {
        let members = Members::of(&call.request, "request.");
        let integration_id = members.required("integration_id", 200)?.to_owned();
        let operation = match members.required("operation", 120)?.to_lowercase().as_str() {
            "get_issue" => Operation::GetIssue,
            "get_pull_request" => Operation::GetPullRequest,
            "add_issue_comment" => Operation::AddIssueComment,
            _ => {
                return Err(
                    members.refuse("operation", "must be get_issue, get_pull_request or add_issue_comment")
                );
            }
        };
        let repository = members.required("repository", 300)?.to_owned();
        let inner = repository.contains('/') && !repository.starts_with('/') && !repository.ends_with('/');
        if !inner || (config.github && github::place(&repository).is_none()) {
            return Err(members.refuse("repository", "must be `owner/name`"));
        }
        let issue_number = members.number("issue_number")?;
        let pull_number = members.number("pull_number")?;
        let body = members.text("body", 65_536)?.map(str::to_owned);
        let tool_call_id = members.text("tool_call_id", 200)?.map(str::to_owned);
        let needs = match operation {
            Operation::GetIssue if issue_number.is_none() => Some("issue_number"),
            Operation::GetPullRequest if pull_number.is_none() => Some("pull_number"),
            Operation::AddIssueComment if issue_number.is_none() => Some("issue_number"),
            Operation::AddIssueComment if body.is_none() => Some("body"),
            _ => None,
        };
        if let Some(missing) = needs {
            return Err(members.refuse(missing, format!("is required for {}", operation.name())));
        }
        let policy = Policy::read(call, operation)?;
        Ok(Coding {
            operation,
            integration_id,
            repository,
            issue_number,
            pull_number,
            body,
            tool_call_id,
            policy,
        })
    }

    /// What every result says again.
    fn asked(&self) -> Map<String, Value> {
        let mut asked = Map::new();
        asked.insert("integration_id".into(), self.integration_id.clone().into());
        asked.insert("operation".into(), self.operation.name().into());
        asked.insert("repository".into(), self.repository.clone().into());
        match self.operation {
            Operation::GetPullRequest => asked.insert("pull_number".into(), self.pull_number.into()),
            _ => asked.insert("issue_number".into(), self.issue_number.into()),
        };
        asked
    }

    fn request(&self, call: &Call) -> Value {
        json!({
            "integration_id": self.integration_id,
            "operation": self.operation.name(),
            "repository": self.repository,
            "issue_number": self.issue_number,
            "pull_number": self.pull_number,
            "tool_call_id": self.tool_call_id,
            "run_id": call.id_of("run_id"),
            "thread_id": call.id_of("thread_id"),
            "user_id": call.principal,
        })
    }
}

/// What the caller's manifest and policy say about one operation.
#[derive(Clone, Debug)]
struct Policy {
    capabilities: Vec<String>,
    write_approved: bool,
    write_operations_mode: String,
    max_per_call_sats: Option<u64>,
    cost_sats: u64,
}

impl Policy {
    fn read(call: &Call, operation: Operation) -> Result<Self, Refusal> {
        let manifest = call.manifest.as_ref();
        let at = |pointer: &str| manifest.and_then(|manifest| manifest.pointer(pointer));
        let capabilities = at("/capabilities").and_then(Value::as_array).into_iter().flatten();
        let capabilities = capabilities
            .filter_map(Value::as_str)
            .map(|one| one.trim().to_lowercase())
            .filter(|one| !one.is_empty())
            .collect();
        let mode = at("/policy/write_operations_mode").and_then(Value::as_str);
        let mode = mode.map(|mode| mode.trim().to_lowercase()).filter(|mode| !mode.is_empty());
        let budget = call.policy.pointer("/budget/max_per_call_sats").filter(|value| !value.is_null());
        let max_per_call_sats = match budget.map(fields::number) {
            None => None,
            Some(Some(sats)) => Some(sats),
            Some(None) => {
                let field = "policy.budget.max_per_call_sats";
                return Err(Refusal::field(
                    field,
                    format!("{field} must be a whole number that is not negative"),
                ));
            }
        };
        Ok(Policy {
            capabilities,
            write_approved: call.policy.get("write_approved").and_then(fields::switch) == Some(true),
            write_operations_mode: mode.unwrap_or_else(|| "open".into()),
            max_per_call_sats,
            cost_sats: operation.cost_sats(),
        })
    }

    fn view(&self) -> Value {
        json!({
            "writeApproved": self.write_approved,
            "writeOperationsMode": self.write_operations_mode,
            "maxPerCallSats": self.max_per_call_sats,
            "operationCostSats": self.cost_sats,
        })
    }

    /// Why the operation is denied, if it is.
    fn denies(&self, operation: Operation) -> Option<(&'static str, String)> {
        let name = operation.name();
        if !self.capabilities.is_empty() && !self.capabilities.iter().any(|one| one == name) {
            return Some((
                "policy_denied.capability_not_allowed",
                format!("the manifest does not allow {name}"),
            ));
        }
        let enforced = self.write_operations_mode == "enforce";
        if operation == Operation::AddIssueComment && enforced && !self.write_approved {
            return Some((
                "policy_denied.write_approval_required",
                format!("{name} writes, and was not approved"),
            ));
        }
        let budget = self.max_per_call_sats.filter(|budget| *budget < self.cost_sats)?;
        let message = format!("{name} costs {} sats, the budget of a call is {budget}", self.cost_sats);
        Some(("policy_denied.max_per_call_budget_exceeded", message))
    }
}

impl Tools {
    pub(super) async fn code(&self, call: &Call, coding: &Coding, row: &ToolCall) -> Result<Finished, Stop> {
        let (verdict, keep) = match coding.policy.denies(coding.operation) {
            Some((reason, message)) => {
                let result = json!({"blocked": true, "operation": coding.operation.name(), "repository": coding.repository});
                let denied = Verdict::denied(reason, message, result).with_error_code("policy_denied");
                (denied, Keep::Forever)
            }
            None => {
                let receipt_id = call.receipt_id();
                let (hash, first_seen) = (call.hash.as_str(), row.first_seen);
                let task = Task { coding, hash, receipt_id: &receipt_id, first_seen };
                self.judged(coding, self.coding.execute(task).await)
            }
        };
        let outcome = verdict.outcome(call, row, coding.policy.view(), coding.request(call));
        Ok(Finished { outcome, keep, receipt: None, task: None, turn: None })
    }

    fn judged(&self, coding: &Coding, done: Result<Map<String, Value>, Failure>) -> (Verdict, Keep) {
        let aged = Keep::Until(self.now().plus_seconds(self.config.result_ttl_seconds));
        let mut result = coding.asked();
        match done {
            Ok(more) => {
                result.extend(more);
                let lasts = coding.operation == Operation::AddIssueComment || !self.coding.ages();
                let keep = if lasts { Keep::Forever } else { aged };
                (Verdict::allowed("policy_allowed.default", result.into()), keep)
            }
            Err(failure) => {
                result.insert("retryable".into(), failure.retryable.into());
                let keep = if failure.retryable { Keep::No } else { aged };
                (Verdict::failed(failure.reason_code, failure.message, result.into()), keep)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::tools::ToolOutcome;

    use super::*;
    use crate::testing::World;
    use crate::testing::tools::{call_tool, tool_refusal};

    fn body(operation: &str, more: Value) -> Value {
        let mut request =
            json!({"integration_id": "github.primary", "operation": operation, "repository": "acme/widgets"});
        for (name, value) in more.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        json!({"tool_pack": "coding.v1", "manifest": {}, "request": request})
    }

    async fn of(world: &World, body: Value) -> ToolOutcome {
        call_tool(world, body).await
    }

    #[tokio::test]
    async fn every_operation_answers_as_specified_and_says_that_it_is_simulated() {
        let world = World::new().await;
        let issue = of(&world, body("GET_ISSUE", json!({"issueNumber": "42", "toolCallId": " t "}))).await;
        assert_eq!(
            (issue.state.as_str(), issue.reason_code.as_str()),
            ("succeeded", "policy_allowed.default")
        );
        assert_eq!(
            issue.result["issue"],
            json!({"number": 42, "title": "Issue #42", "url": "https://github.com/acme/widgets/issues/42"})
        );
        assert_eq!((&issue.result["simulated"], &issue.request["tool_call_id"]), (&json!(true), &json!("t")));
        let pull = of(&world, body("get_pull_request", json!({"pull_number": 7}))).await;
        assert_eq!(pull.result["pull_request"]["url"], "https://github.com/acme/widgets/pull/7");
        assert_eq!(pull.policy["operationCostSats"], 10);
        let comment = of(&world, body("add_issue_comment", json!({"issue_number": 0, "body": " hi "}))).await;
        let hash = comment.receipt.replay_hash.trim_start_matches("sha256:").to_owned();
        assert_eq!(comment.result["comment"]["id"], format!("comment_{}", &hash[..16]));
        assert_eq!(comment.result["comment"]["body"], "hi");
        assert_eq!(
            comment.result["comment"]["url"],
            format!("https://github.com/acme/widgets/issues/0#issuecomment-{}", &hash[..12])
        );
    }

    #[tokio::test]
    async fn the_first_rule_that_denies_names_the_reason() {
        let world = World::new().await;
        let comment = || body("add_issue_comment", json!({"issue_number": 1, "body": "hi"}));
        let with = |manifest: Value, policy: Value| {
            let mut body = comment();
            body["manifest"] = manifest;
            body["policy"] = policy;
            body
        };
        let enforce = json!({"policy": {"write_operations_mode": " Enforce "}});
        let cases = [
            (
                with(json!({"capabilities": [" Get_Issue ", ""]}), json!([])),
                "policy_denied.capability_not_allowed",
            ),
            (with(enforce.clone(), json!({"write_approved": "no"})), "policy_denied.write_approval_required"),
            (with(enforce.clone(), json!({"write_approved": "yes"})), "policy_allowed.default"),
            (
                with(json!({}), json!({"budget": {"max_per_call_sats": "49"}})),
                "policy_denied.max_per_call_budget_exceeded",
            ),
            (
                with(json!({"capabilities": [" "]}), json!({"budget": {"max_per_call_sats": 50}})),
                "policy_allowed.default",
            ),
        ];
        for (body, reason) in cases {
            let outcome = of(&world, body).await;
            assert_eq!(outcome.reason_code, reason);
            if reason != "policy_allowed.default" {
                assert_eq!((outcome.state.as_str(), outcome.decision.as_str()), ("blocked", "denied"));
                assert_eq!(outcome.error.expect("an error").code, "policy_denied");
                assert_eq!(
                    outcome.result,
                    json!({"blocked": true, "operation": "add_issue_comment", "repository": "acme/widgets"})
                );
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_lacks_something_is_refused_by_its_field() {
        let world = World::new().await;
        for (body, field) in [
            (json!({"tool_pack": "coding.v1", "manifest": {}, "request": {}}), "request.integration_id"),
            (body("merge", json!({})), "request.operation"),
            (body("get_issue", json!({"repository": "/x"})), "request.repository"),
            (body("get_issue", json!({"repository": "x"})), "request.repository"),
            (body("get_issue", json!({})), "request.issue_number"),
            (body("get_issue", json!({"issue_number": -1})), "request.issue_number"),
            (body("get_pull_request", json!({"issue_number": 1})), "request.pull_number"),
            (body("add_issue_comment", json!({"body": "x"})), "request.issue_number"),
            (body("add_issue_comment", json!({"issue_number": 1, "body": " "})), "request.body"),
        ] {
            assert_eq!(tool_refusal(&world, body).await.field.as_deref(), Some(field));
        }
    }

    #[tokio::test]
    async fn the_same_call_is_answered_again_and_only_that_is_different() {
        let world = World::new().await;
        let first = of(&world, body("get_issue", json!({"issue_number": 1}))).await;
        assert!(!first.idempotent_replay);
        world.clock.advance_millis(999_000);
        let mut again = body("get_issue", json!({"issue_number": 1}));
        again["mode"] = json!("replay");
        let second = of(&world, again).await;
        assert_eq!(second, ToolOutcome { idempotent_replay: true, ..first.clone() });
        let other = of(&world, body("get_issue", json!({"issue_number": 2}))).await;
        assert!(!other.idempotent_replay && other.receipt.first_seen != first.receipt.first_seen);
    }
}
