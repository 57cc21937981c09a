//! Decides what becomes of what codex says: every message an event, every question an answer, every answer the end of a request.

use std::io;

use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use super::{BATCH, Pending, Question, Worker};
use crate::{
    codex_worker::{
        app_server::{Message, RpcError},
        approvals::{self, Decision, Policy},
        requests,
        say::{Belongs, Passed},
        spool::OpenTurn,
    },
    output::{plain, shortened},
};

impl Worker {
    /// A message, and those that are there already: they share one sync.
    pub(super) fn said_all(&mut self, first: Message) -> io::Result<()> {
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(message) = next else { break };
            self.said(message)?;
            next = match self.spool.has_room() {
                true => self.codex.as_mut().and_then(|codex| codex.said.try_recv().ok()),
                false => None,
            };
        }
        // One more may have been read behind the last of the batch.
        next.map_or(Ok(()), |message| self.said(message))
    }

    pub(super) fn said(&mut self, mut message: Message) -> io::Result<()> {
        match (message.method.take(), message.id.take()) {
            (Some(method), None) => self.told(&message, &method),
            (Some(method), Some(id)) => self.questioned(&message, method, id),
            (None, Some(id)) => self.answered(&id, message.result, message.error),
            (None, None) => Ok(()),
        }
    }

    /// A message as an event, with what we know about where it belongs.
    pub(super) fn passed(&self, message: &Message, method: &str, belongs: &Belongs) -> Passed {
        let mut passed = Passed::on(message, method);
        passed.thread_id = belongs.thread().and_then(|thread| self.threads.of_control(thread).cloned());
        passed.turn_id = belongs.turn().map(str::to_owned);
        passed.request_id = passed
            .turn_id
            .as_ref()
            .and_then(|turn_id| self.spool.look(|state| state.turns.get(turn_id)?.request_id.clone()));
        passed
    }

    pub(super) fn told(&mut self, message: &Message, method: &str) -> io::Result<()> {
        let belongs = Belongs::of(message.params.as_deref());
        self.event(self.passed(message, method, &belongs))?;
        match (method, belongs.thread(), belongs.turn()) {
            ("turn/started", Some(thread), Some(turn_id)) => {
                if self.spool.look(|state| !state.turns.contains_key(turn_id)) {
                    self.spool.turn_began(OpenTurn {
                        turn_id: turn_id.to_owned(),
                        codex_thread_id: thread.to_owned(),
                        request_id: None,
                    })?;
                }
                self.note(&format!("turn {turn_id} has begun"));
            }
            ("turn/completed", _, Some(turn_id)) => {
                self.spool.turn_ended(turn_id)?;
                let params = parsed(message.params.as_deref());
                let status = params["turn"]["status"].as_str().unwrap_or("ended");
                self.note(&format!("turn {turn_id}: {}", plain(status)));
            }
            // The turn ended over it: an answer would come too late.
            ("serverRequest/resolved", _, _) => {
                let resolved = parsed(message.params.as_deref())["requestId"].clone();
                self.questions.retain(|_, question| question.rpc_id != resolved);
            }
            ("item/started", _, _) => {
                let params = parsed(message.params.as_deref());
                if let (Some("commandExecution"), Some(command)) =
                    (params["item"]["type"].as_str(), params["item"]["command"].as_str())
                {
                    self.note(&format!("runs: {}", shortened(&plain(command), 200)));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Codex wants something of us: permission, or something that we do not have.
    pub(super) fn questioned(&mut self, message: &Message, method: String, rpc_id: Value) -> io::Result<()> {
        let belongs = Belongs::of(message.params.as_deref());
        let mut passed = self.passed(message, &method, &belongs);
        if !approvals::is_for_permission(&method) {
            self.event(passed)?;
            let why = format!("oa codex-worker does not answer {method}");
            if let Some(codex) = &mut self.codex {
                codex.answer(&rpc_id, Err((-32601, why)));
            }
            return Ok(());
        }
        // The id of the event is as good a name as any, and unique.
        let approval_id = self.spool.next_event_id();
        passed.approval_id = Some(approval_id.clone());
        self.event(passed)?;
        let params = parsed(message.params.as_deref());
        let until = Instant::now() + self.manners.patience;
        self.questions.insert(approval_id.clone(), Question { rpc_id, method, params, until });
        match self.manners.approvals {
            Policy::Decline => self.decide(&approval_id, Decision::Decline, "the rule of this worker"),
            Policy::Accept => self.decide(&approval_id, Decision::Accept, "the rule of this worker"),
            Policy::Ask => {
                self.note(&format!("codex asks for permission ({approval_id})"));
                Ok(())
            }
        }
    }

    /// Answers a question of codex, and says so to whoever watches.
    pub(super) fn decide(&mut self, approval_id: &str, decision: Decision, because: &str) -> io::Result<()> {
        let Some(question) = self.questions.remove(approval_id) else { return Ok(()) };
        let Some(answer) = approvals::answer(&question.method, &question.params, decision) else {
            return Ok(());
        };
        let command = question.params["command"].as_str().map(|command| shortened(&plain(command), 200));
        self.note(&format!(
            "permission {}: {} ({because})",
            decision.word(),
            command.as_deref().unwrap_or(&question.method)
        ));
        let params = json!({"decision": decision.word(), "because": because, "question": question.method});
        let mut passed = Passed::own("approval/decided", &params);
        let thread = question.params["threadId"].as_str();
        passed.thread_id = thread.and_then(|thread| self.threads.of_control(thread).cloned());
        passed.turn_id = question.params["turnId"].as_str().map(str::to_owned);
        passed.approval_id = Some(approval_id.to_owned());
        self.event(passed)?;
        if let Some(codex) = &mut self.codex {
            codex.answer(&question.rpc_id, Ok(answer));
        }
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        id: &Value,
        result: Option<Box<RawValue>>,
        error: Option<RpcError>,
    ) -> io::Result<()> {
        let Some((pending, _)) = id.as_u64().and_then(|id| self.pending.remove(&id)) else { return Ok(()) };
        let outcome = match error {
            Some(error) => Err(error),
            None => Ok(parsed(result.as_deref())),
        };
        match (pending, outcome) {
            (Pending::Initialize, Ok(about)) => self.greeted(&about),
            (Pending::Initialize, Err(error)) => {
                self.note(&format!("codex does not want to talk: {}", error.message));
                if let Some(codex) = &mut self.codex {
                    codex.kill();
                }
                Ok(())
            }
            (Pending::Open { thread_id }, Ok(result)) => self.opened(&thread_id, &result),
            (Pending::Open { thread_id }, Err(error)) => {
                for request in self.threads.failed(&thread_id) {
                    self.refuse(&request.request_id, &request.method, requests::refused(&error))?;
                }
                Ok(())
            }
            (Pending::Request(request), Ok(result)) => self.did(request, &result),
            (Pending::Request(request), Err(error)) => {
                self.refuse(&request.request_id, &request.method, requests::refused(&error))
            }
            (Pending::Nobody, _) => Ok(()),
        }
    }

    pub(super) fn greeted(&mut self, about: &Value) -> io::Result<()> {
        if let Some(codex) = &mut self.codex {
            codex.notify("initialized");
        }
        (self.ready, self.ever_ready) = (true, true);
        let agent = about["userAgent"].as_str().unwrap_or("codex");
        self.note(&format!("codex is ready in {} ({})", self.launch.workspace.display(), plain(agent)));
        self.event(Passed::own("codex/started", &json!({"user_agent": agent})))?;
        for request in std::mem::take(&mut self.queue) {
            self.hand_on(request)?;
        }
        Ok(())
    }
}

fn parsed(text: Option<&RawValue>) -> Value {
    text.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
}
