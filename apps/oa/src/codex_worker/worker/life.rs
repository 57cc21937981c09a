//! Decides when codex is started again, and what becomes of what it was doing when it ended or does not answer.

use std::{io, path::PathBuf};

use oa_contract::wire::codex::CodexRequestError;
use serde_json::json;
use tokio::time::Instant;

use super::{FIRST_WAIT, LONGEST_WAIT, Pending, READY, Worker};
use crate::{
    codex_worker::{
        app_server::AppServer,
        approvals::Decision,
        left_behind,
        requests::{fault, lost, unavailable},
        say::{self, Passed},
    },
    failure::Failure,
};

impl Worker {
    pub(super) fn start(&mut self) -> io::Result<()> {
        let mut codex = AppServer::start(&self.launch)?;
        // Without it a later worker may find threads held for a moment; that is no reason not to work.
        let _ = left_behind::remember(&self.pid_file(), codex.pid());
        let about = json!({"clientInfo": {"name": "oa_codex_worker", "title": "oa codex-worker", "version": env!("CARGO_PKG_VERSION")}});
        let id = codex.ask("initialize", &about);
        self.pending.insert(id, (Pending::Initialize, Instant::now() + READY));
        self.codex = Some(codex);
        self.since = Instant::now();
        Ok(())
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.spool.path().with_file_name("codex.pid")
    }

    pub(super) fn could_not_start(&mut self, error: &io::Error) -> io::Result<()> {
        self.note(&format!("codex cannot be started: {error}"));
        self.drop_all(&format!("codex cannot be started: {error}"))?;
        self.restart_later();
        Ok(())
    }

    pub(super) fn restart_later(&mut self) {
        if self.since.elapsed() > LONGEST_WAIT {
            self.wait = FIRST_WAIT;
        }
        self.note(&format!("codex is started again in {} s", self.wait.as_secs()));
        self.restart = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// Codex has closed its output, which it does not do while it lives.
    pub(super) async fn ended(&mut self) -> Result<io::Result<()>, Failure> {
        let Some(codex) = self.codex.take() else { return Ok(Ok(())) };
        let words = codex.last_words();
        let status = codex.end().await;
        let how = status.map_or_else(|| "it is not known how".to_owned(), |status| status.to_string());
        if !self.ever_ready {
            return Err(Failure::wrong(format!(
                "codex ended before it was ready ({how}). Its last words:\n{words}"
            )));
        }
        self.ready = false;
        self.note(&format!("codex has ended ({how})"));
        let params = json!({"status": how, "last_words": words});
        let told = self
            .event(Passed::own("codex/ended", &params))
            .and_then(|()| self.drop_all(&format!("codex ended ({how})")));
        self.restart_later();
        Ok(told)
    }

    /// Answers everything that codex has not, and ends every turn that it will not end.
    pub(super) fn drop_all(&mut self, why: &str) -> io::Result<()> {
        self.pending.clear();
        self.questions.clear();
        let mut waiting: Vec<_> = self.queue.drain(..).collect();
        waiting.extend(self.threads.closed());
        for request in waiting {
            self.refuse(&request.request_id, &request.method, unavailable(why))?;
        }
        self.give_up(&format!("{why}; what became of it is not known"))
    }

    pub(super) fn give_up(&mut self, why: &str) -> io::Result<()> {
        let (taken, turns) = self.spool.look(|state| {
            (
                state.taken.values().cloned().collect::<Vec<_>>(),
                state.turns.values().cloned().collect::<Vec<_>>(),
            )
        });
        for taken in taken {
            self.refuse(&taken.request_id, &taken.method, lost(why))?;
        }
        for turn in turns {
            let mut passed = say::turn_failed(&turn.codex_thread_id, &turn.turn_id, why);
            passed.thread_id = self.threads.of_control(&turn.codex_thread_id).cloned();
            passed.request_id = turn.request_id;
            self.event(passed)?;
            self.spool.turn_ended(&turn.turn_id)?;
        }
        Ok(())
    }

    pub(super) fn event(&self, passed: Passed) -> io::Result<()> {
        self.spool.event("worker.event", &passed, None)
    }

    pub(super) fn tick(&mut self) -> io::Result<()> {
        let time = Instant::now();
        if let Some(codex) = &mut self.codex {
            left_behind::bury(codex.pid());
            codex.look_whether_it_lives();
        }
        let late: Vec<u64> =
            self.pending.iter().filter(|(_, (_, until))| *until <= time).map(|(id, _)| *id).collect();
        for id in late {
            let Some((pending, _)) = self.pending.remove(&id) else { continue };
            let slow = CodexRequestError {
                retryable: Some(false),
                ..fault("timeout", "codex did not answer in time")
            };
            match pending {
                Pending::Request(request) => self.refuse(&request.request_id, &request.method, slow)?,
                Pending::Open { thread_id } => {
                    for request in self.threads.failed(&thread_id) {
                        self.refuse(&request.request_id, &request.method, slow.clone())?;
                    }
                }
                // A codex that does not even greet is ended, and its end is seen as any other.
                Pending::Initialize => {
                    if let Some(codex) = &mut self.codex {
                        self.manners.format.note("codex does not answer, and is ended");
                        codex.kill();
                    }
                }
                Pending::Nobody => {}
            }
        }
        let late: Vec<String> = self
            .questions
            .iter()
            .filter(|(_, question)| question.until <= time)
            .map(|(approval_id, _)| approval_id.clone())
            .collect();
        for approval_id in late {
            self.decide(&approval_id, Decision::Decline, "nobody decided in time")?;
        }
        Ok(())
    }
}
