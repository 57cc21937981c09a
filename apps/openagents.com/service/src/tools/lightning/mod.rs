//! Decides what `lightning.v1` is asked: a fetch that may have to be paid, or the approval of one that waits
//! (control §11.5).

mod approve;
mod challenge;
mod fetch;
mod invoice;
mod payments;
pub mod policy;
mod receipt;
mod settle;
mod target;

use oa_contract::{Code, Refusal, Stop, Timestamp};
use oa_store::{
    Tx,
    tables::{
        l402::{self, Task},
        tools::ToolCall,
    },
};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use self::{
    policy::{CallerLimits, Limits},
    receipt::Facts,
    target::Target,
};
use super::{
    Tools,
    autopilot::{self, Autopilot},
    call::Call,
    execute::Verdict,
    fields::Members,
    ledger::{Finished, Keep},
};

const FETCH: &str = "lightning_l402_fetch";

/// A well-formed request of the pack.
pub struct Lightning {
    what: What,
    tool_call_id: Option<String>,
    autopilot_id: Option<String>,
    limits: CallerLimits,
}

enum What {
    Fetch(Box<Target>),
    Approve { task_id: String },
}

impl Lightning {
    pub(super) fn read(call: &Call) -> Result<Self, Refusal> {
        let members = Members::of(&call.request, "request.");
        let operation = members.text("operation", 120)?.map(str::to_lowercase);
        let tool_call_id = members.text("tool_call_id", 200)?.map(str::to_owned);
        let autopilot_id = members.text("autopilot_id", 160)?.map(str::to_owned);
        let what = match operation.as_deref() {
            Some(FETCH) => What::Fetch(Box::new(Target::read(&members)?)),
            Some("lightning_l402_approve") => {
                What::Approve { task_id: members.required("task_id", 160)?.to_owned() }
            }
            _ => {
                return Err(
                    members.refuse("operation", "must be lightning_l402_fetch or lightning_l402_approve")
                );
            }
        };
        Ok(Lightning { what, tool_call_id, autopilot_id, limits: CallerLimits::read(call)? })
    }

    pub(super) const fn operation(&self) -> &'static str {
        match &self.what {
            What::Fetch(_) => FETCH,
            What::Approve { .. } => "lightning_l402_approve",
        }
    }
}

/// One call under way, with everything that it needs to know.
struct Run<'a> {
    call: &'a Call,
    ask: &'a Lightning,
    row: &'a ToolCall,
    limits: Limits,
    /// What its spending is counted under; empty without an autopilot.
    autopilot: String,
    run_id: String,
    thread_id: String,
}

impl Run<'_> {
    fn principal(&self) -> &str {
        &self.row.principal
    }

    /// Empty without one.
    fn autopilot(&self) -> &str {
        &self.autopilot
    }

    /// What this very call is paid under: again the same when it is taken over, another once its answer expired.
    fn subject(&self) -> String {
        format!("call:{}:{}:{}", self.principal(), self.call.hash, self.row.begun_at.micros())
    }
}

/// How a call ended, before it is recorded.
struct End {
    verdict: Verdict,
    keep: Keep,
    facts: Facts,
    task: Option<Task>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl End {
    fn new(verdict: Verdict, keep: Keep, facts: Facts) -> Self {
        End { verdict, keep, facts, task: None, turn: None }
    }
}

impl Tools {
    pub(super) async fn lightning(
        &self,
        call: &Call,
        ask: &Lightning,
        row: &ToolCall,
    ) -> Result<Finished, Stop> {
        let acting = self.autopilot(call, ask.autopilot_id.as_deref()).await?;
        let behind = match &ask.what {
            What::Fetch(_) => None,
            What::Approve { task_id } => self.autopilot_behind(call, task_id).await?,
        };
        let kept_from = autopilot::forbids(&acting.policy, call.pack, ask.operation())
            || behind.as_ref().is_some_and(|one| autopilot::forbids(&one.policy, call.pack, FETCH));
        let organisation = self.organisations.limits(call.principal).await;
        let counted = behind.as_ref().unwrap_or(&acting).key.clone();
        let policies: Vec<_> = behind.into_iter().chain([acting]).map(|one| one.policy).collect();
        let service = &self.config.l402.limits;
        let limits = Limits::of(&ask.limits, &policies, &organisation, service, self.config.trust);
        let part = &call.hash[..16];
        let run = Run {
            call,
            ask,
            row,
            limits,
            autopilot: counted,
            run_id: call.id_of("run_id").unwrap_or_else(|| format!("run_tools_{part}")),
            thread_id: call.id_of("thread_id").unwrap_or_else(|| format!("thread_tools_{part}")),
        };
        let end = match &ask.what {
            _ if kept_from => self.kept_from(&run),
            What::Fetch(target) => self.fetch(&run, target).await?,
            What::Approve { task_id } => self.approve(&run, task_id).await?,
        };
        let receipt = receipt::of(&run, &end, self.now())?;
        let outcome = end.verdict.outcome(call, row, run.limits.view(), request_view(&run));
        Ok(Finished { outcome, keep: end.keep, receipt: Some(receipt), task: end.task, turn: end.turn })
    }

    /// What the owner of the autopilot keeps from it.
    fn kept_from(&self, run: &Run<'_>) -> End {
        let operation = run.ask.operation();
        let facts = match &run.ask.what {
            What::Fetch(target) => {
                Facts { host: target.host.clone(), scope: target.scope.clone(), ..Facts::default() }
            }
            What::Approve { task_id } => Facts { task_id: Some(task_id.clone()), ..Facts::default() },
        };
        let keep = match &run.ask.what {
            What::Fetch(_) => self.for_a_while(),
            What::Approve { .. } => Keep::No,
        };
        let message = format!("the policy of the autopilot does not allow {operation}");
        let result = json!({"blocked": true, "operation": operation});
        let verdict = Verdict::denied("policy_denied.capability_not_allowed", message, result);
        End::new(verdict, keep, facts)
    }

    /// The autopilot that a task waits for, if the task is the caller's and is for one.
    async fn autopilot_behind(&self, call: &Call, task_id: &str) -> Result<Option<Autopilot>, Stop> {
        let read = async |tx: &mut Tx, task_id: &String| l402::task(tx, task_id).await;
        let task = self.store.read("l402_task", task_id.to_owned(), read).await?;
        let task = task.filter(|task| task.principal == call.owner() && !task.autopilot.is_empty());
        let Some(task) = task else { return Ok(None) };
        self.autopilot_named(&call.user_id, &task.autopilot).await.map(Some)
    }

    /// As long as answers about the world are given again.
    pub(super) fn for_a_while(&self) -> Keep {
        Keep::Until(self.now().plus_seconds(self.config.result_ttl_seconds))
    }
}

fn request_view(run: &Run<'_>) -> Value {
    let (target, task_id) = match &run.ask.what {
        What::Fetch(target) => (Some(target), None),
        What::Approve { task_id } => (None, Some(task_id)),
    };
    json!({
        "operation": run.ask.operation(),
        "url": target.map(|target| &target.given_url),
        "method": target.map(|target| &target.method),
        "host": target.and_then(|target| target.given_host.as_ref()),
        "scope": target.and_then(|target| target.given_scope.as_ref()),
        "task_id": task_id,
        "tool_call_id": run.ask.tool_call_id,
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "user_id": run.call.principal,
    })
}

/// The day (UTC) that something counts against.
fn day_of(now: Timestamp) -> String {
    now.zulu().chars().take(10).collect()
}

/// Somebody else did not answer.
fn bad_gateway(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::ServiceUnavailable, message).with_status(502)
}
