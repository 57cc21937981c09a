//! `POST /api/runtime/tools/execute`: decides what a call of a tool is, hands it to its pack once, and says what it
//! came to. Allowed, denied and failed calls are answered alike (control §11).

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::ToolsExecute,
    wire::tools::{CallError, CallReceipt, ExecuteTool, ToolOutcome, ToolReply},
};
use oa_store::tables::tools::ToolCall;
use serde_json::Value;

use super::{
    Tools,
    call::{Call, Pack},
    coding,
    ledger::Finished,
    lightning,
};
use crate::{Control, audit, identity::signed_in};

/// What is to be done, well-formed.
pub enum Work {
    Coding(coding::Coding),
    Lightning(lightning::Lightning),
}

impl Work {
    fn read(call: &Call, tools: &Tools) -> Result<Self, Refusal> {
        match call.pack {
            Pack::Coding => coding::Coding::read(call, &tools.config.coding).map(Work::Coding),
            Pack::Lightning => lightning::Lightning::read(call).map(Work::Lightning),
        }
    }

    const fn operation(&self) -> &'static str {
        match self {
            Work::Coding(coding) => coding.operation.name(),
            Work::Lightning(lightning) => lightning.operation(),
        }
    }
}

impl Handle<ToolsExecute> for Control {
    async fn handle(&self, ask: Ask<ToolsExecute>) -> Result<Answer<ToolReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let body: ExecuteTool = ask.body;
        let call = Call::read(body, user)?;
        let work = Work::read(&call, &self.tools)?;
        let operation = work.operation();
        let data = self.tools.run(call, work).await?;
        accepted(&data, operation, &user.user_id, &ask.meta, self.clock.now());
        Ok(ToolReply { data }.into())
    }
}

/// One line and one count for every call that was answered.
fn accepted(
    data: &ToolOutcome,
    operation: &'static str,
    user_id: &str,
    meta: &oa_contract::Meta,
    now: oa_contract::Timestamp,
) {
    let replay = if data.idempotent_replay { "true" } else { "false" };
    let event = audit::Event {
        name: "runtime.tools.execute.accepted",
        user_id: Some(user_id),
        attributes: &[
            ("tool_pack", &data.tool_pack),
            ("operation", operation),
            ("mode", &data.mode),
            ("idempotent_replay", replay),
            ("decision", &data.decision),
            ("reason_code", &data.reason_code),
        ],
        ..audit::Event::default()
    };
    audit::success(event, meta, now);
    metrics::counter!("oa_tools_execute_accepted_total", "operation" => operation, "idempotent_replay" => replay,
        "decision" => data.decision.clone(), "reason_code" => data.reason_code.clone())
    .increment(1);
}

impl Tools {
    /// Does the work. Nothing of it happens inside a transaction.
    pub(super) async fn execute(&self, call: &Call, work: &Work, row: &ToolCall) -> Result<Finished, Stop> {
        match work {
            Work::Coding(coding) => self.code(call, coding, row).await,
            Work::Lightning(lightning) => self.lightning(call, lightning, row).await,
        }
    }
}

/// How a call ended, in the words of the specification.
pub struct Verdict {
    pub state: &'static str,
    pub decision: &'static str,
    pub reason_code: String,
    pub error: Option<CallError>,
    pub result: Value,
}

impl Verdict {
    pub fn allowed(reason_code: &str, result: Value) -> Self {
        Verdict {
            state: "succeeded",
            decision: "allowed",
            reason_code: reason_code.into(),
            error: None,
            result,
        }
    }

    /// The code of the error is the reason, unless it is replaced.
    pub fn denied(reason_code: &str, message: impl Into<String>, result: Value) -> Self {
        let error = CallError { code: reason_code.into(), message: message.into() };
        Verdict {
            state: "blocked",
            decision: "denied",
            reason_code: reason_code.into(),
            error: Some(error),
            result,
        }
    }

    pub fn failed(reason_code: &str, message: impl Into<String>, result: Value) -> Self {
        Verdict { state: "failed", decision: "failed", ..Verdict::denied(reason_code, message, result) }
    }

    pub fn with_error_code(mut self, code: &str) -> Self {
        if let Some(error) = &mut self.error {
            error.code = code.into();
        }
        self
    }

    pub fn outcome(self, call: &Call, row: &ToolCall, policy: Value, request: Value) -> ToolOutcome {
        ToolOutcome {
            state: self.state.into(),
            decision: self.decision.into(),
            reason_code: self.reason_code,
            tool_pack: call.pack.name().into(),
            mode: call.mode.clone(),
            idempotent_replay: false,
            receipt: CallReceipt {
                receipt_id: call.receipt_id(),
                replay_hash: format!("sha256:{}", call.hash),
                first_seen: row.first_seen.zulu(),
            },
            policy,
            request,
            result: self.result,
            error: self.error,
        }
    }
}
