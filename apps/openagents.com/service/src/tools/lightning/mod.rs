//! Decides what `lightning.v1` is asked: a fetch that may have to be paid, or the approval of one that waits
//! (control §11.5).

mod approve;
mod challenge;
mod fetch;
mod invoice;
pub mod policy;
mod receipt;
mod settle;
mod target;

use oa_contract::{Code, Refusal, Stop, Timestamp};
use oa_store::tables::{l402::Task, tools::ToolCall};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use self::{
    policy::{CallerLimits, Limits},
    receipt::Facts,
    target::Target,
};
use super::{
    Tools,
    call::Call,
    execute::Verdict,
    fields::Members,
    ledger::{Finished, Keep},
};

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
            Some("lightning_l402_fetch") => What::Fetch(Box::new(Target::read(&members)?)),
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
            What::Fetch(_) => "lightning_l402_fetch",
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
    run_id: String,
    thread_id: String,
}

impl Run<'_> {
    fn principal(&self) -> &str {
        &self.row.principal
    }

    /// Empty without one.
    fn autopilot(&self) -> &str {
        self.ask.autopilot_id.as_deref().unwrap_or_default()
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
        let organisation = self.organisations.limits(call.principal).await;
        let limits = Limits::of(&ask.limits, &organisation, &self.config.l402.limits, self.config.trust);
        let part = &call.hash[..16];
        let run = Run {
            call,
            ask,
            row,
            limits,
            run_id: call.id_of("run_id").unwrap_or_else(|| format!("run_tools_{part}")),
            thread_id: call.id_of("thread_id").unwrap_or_else(|| format!("thread_tools_{part}")),
        };
        let end = match &ask.what {
            What::Fetch(target) => self.fetch(&run, target).await?,
            What::Approve { task_id } => self.approve(&run, task_id).await?,
        };
        let receipt = receipt::of(&run, &end, self.now())?;
        let outcome = end.verdict.outcome(call, row, run.limits.view(), request_view(&run));
        Ok(Finished { outcome, keep: end.keep, receipt: Some(receipt), task: end.task, turn: end.turn })
    }

    /// As long as answers about the world are given again.
    fn for_a_while(&self) -> Keep {
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
