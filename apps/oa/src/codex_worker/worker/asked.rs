//! Decides how a request of control becomes a request of codex, in which thread, and how it is answered.

use std::io;

use oa_contract::wire::codex::{Approval, CodexRequestError, DeliveredRequest};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{ANSWER, Pending, Worker};
use crate::{
    codex_worker::{
        approvals::Decision,
        feed::Order,
        requests::{self, Request, Wanted, fault, unavailable},
        say::{self, now},
        spool::{Link, OpenTurn, Taken},
        threads::Way,
    },
    output::{plain, shortened},
};

impl Worker {
    pub(super) async fn asked(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Request { seq, request } => {
                if self.spool.look(|state| state.seen >= seq) {
                    return Ok(());
                }
                // On the disk before codex hears of it: whatever happens from now on, it is not done twice.
                self.spool.take(Taken {
                    request_id: request.request_id.clone(),
                    method: request.method.clone(),
                    seq,
                })?;
                self.spool.seen(seq)?;
                self.commit().await;
                self.take_on(&request)
            }
            Order::Approval(approval) => self.approved(&approval),
            Order::Seen(seq) => self.spool.seen(seq),
            Order::Stopped(_) => Ok(()),
        }
    }

    pub(super) fn take_on(&mut self, asked: &DeliveredRequest) -> io::Result<()> {
        let request = match Request::read(asked) {
            Ok(request) => request,
            Err(fault) => return self.refuse(&asked.request_id, &asked.method, *fault),
        };
        match (self.ready, self.codex.is_some()) {
            (true, _) => self.hand_on(request),
            (false, true) => {
                self.queue.push_back(request);
                Ok(())
            }
            (false, false) => {
                let why = unavailable("codex has ended and is about to be started again");
                self.refuse(&request.request_id, &request.method, why)
            }
        }
    }

    pub(super) fn approved(&mut self, approval: &Approval) -> io::Result<()> {
        match Decision::parse(&approval.decision) {
            Some(decision) => self.decide(&approval.approval_id, decision, "whoever was asked"),
            None => {
                self.note(&format!("{} is no decision", plain(&shortened(&approval.decision, 40))));
                Ok(())
            }
        }
    }

    /// Hands a request to codex, or to the thread that has to be opened first.
    pub(super) fn hand_on(&mut self, request: Request) -> io::Result<()> {
        let thread_id = request.thread_id.clone().unwrap_or_default();
        let link = self.spool.look(|state| state.links.get(&thread_id).cloned());
        match &request.wanted {
            Wanted::List(params) => {
                let mut params = params.clone();
                // Other threads of whoever runs the worker are none of the caller's business.
                params.insert("cwd".to_owned(), json!(self.launch.workspace));
                self.ask("thread/list", &Value::Object(params), Pending::Request(request));
                Ok(())
            }
            Wanted::Read => match link {
                Some(Link { codex_thread_id, used: true, .. }) => {
                    let params = json!({"threadId": codex_thread_id, "includeTurns": true});
                    self.ask("thread/read", &params, Pending::Request(request));
                    Ok(())
                }
                Some(_) => self.did(request, &Value::Null),
                None => {
                    let why = fault("invalid_request", "this worker has had no part in this thread");
                    self.refuse(&request.request_id, &request.method, why)
                }
            },
            Wanted::Interrupt(turn_id) => {
                let codex_thread_id = link.map(|link| link.codex_thread_id).unwrap_or_default();
                let running = self.spool.look(|state| {
                    let mut turns = state.turns.values();
                    turns
                        .rfind(|turn| turn.codex_thread_id == codex_thread_id)
                        .map(|turn| turn.turn_id.clone())
                });
                match turn_id.clone().or(running) {
                    Some(turn_id) => {
                        let params = json!({"threadId": codex_thread_id, "turnId": turn_id});
                        let request = Request { wanted: Wanted::Interrupt(Some(turn_id)), ..request };
                        self.ask("turn/interrupt", &params, Pending::Request(request));
                        Ok(())
                    }
                    None => {
                        let why = fault("conflict", "no turn is running in this thread");
                        self.refuse(&request.request_id, &request.method, why)
                    }
                }
            }
            Wanted::Thread(_) | Wanted::Turn(_) => self.hand_on_in_thread(&thread_id, link.as_ref(), request),
        }
    }

    pub(super) fn hand_on_in_thread(
        &mut self,
        thread_id: &str,
        link: Option<&Link>,
        request: Request,
    ) -> io::Result<()> {
        let members = match &request.wanted {
            Wanted::Thread(members) => members.clone(),
            _ => Map::new(),
        };
        let open = || Pending::Open { thread_id: thread_id.to_owned() };
        match self.threads.way(thread_id, link, request) {
            (Way::Open(codex_thread_id), Some(request)) => self.go_on(&codex_thread_id, request),
            (Way::Resume(codex_thread_id), _) => {
                self.ask(
                    "thread/resume",
                    &json!({"threadId": codex_thread_id, "excludeTurns": true}),
                    open(),
                );
                Ok(())
            }
            (Way::Start, _) => {
                let mut params = members;
                params.insert("cwd".to_owned(), json!(self.launch.workspace));
                self.ask("thread/start", &Value::Object(params), open());
                Ok(())
            }
            (Way::Wait | Way::Open(_), _) => Ok(()),
        }
    }

    pub(super) fn opened(&mut self, thread_id: &str, result: &Value) -> io::Result<()> {
        let codex_thread_id = result["thread"]["id"].as_str().unwrap_or_default().to_owned();
        let known = self.spool.look(|state| {
            state.links.get(thread_id).is_some_and(|link| link.codex_thread_id == codex_thread_id)
        });
        if !known {
            self.spool.link(Link {
                thread_id: thread_id.to_owned(),
                codex_thread_id: codex_thread_id.clone(),
                used: false,
            })?;
        }
        for request in self.threads.opened(thread_id, &codex_thread_id) {
            self.go_on(&codex_thread_id, request)?;
        }
        Ok(())
    }

    /// The thread is open: what the request wanted in it.
    pub(super) fn go_on(&mut self, codex_thread_id: &str, request: Request) -> io::Result<()> {
        match &request.wanted {
            Wanted::Turn(members) => {
                let mut params = members.clone();
                params.insert("threadId".to_owned(), json!(codex_thread_id));
                self.ask("turn/start", &Value::Object(params), Pending::Request(request));
                Ok(())
            }
            _ => {
                let response = json!({"thread_id": request.thread_id, "codex_thread_id": codex_thread_id});
                self.respond(&request, response)
            }
        }
    }

    /// Codex has done what was asked.
    pub(super) fn did(&mut self, request: Request, result: &Value) -> io::Result<()> {
        let thread_id = request.thread_id.clone().unwrap_or_default();
        let response = match &request.wanted {
            Wanted::Turn(_) => {
                let turn = &result["turn"];
                let turn_id = turn["id"].as_str().unwrap_or_default().to_owned();
                let link = self.spool.look(|state| state.links.get(&thread_id).cloned());
                let codex_thread_id =
                    link.as_ref().map(|link| link.codex_thread_id.clone()).unwrap_or_default();
                if let Some(link) = link.filter(|link| !link.used) {
                    self.spool.link(Link { used: true, ..link })?;
                }
                self.spool.turn_began(OpenTurn {
                    turn_id: turn_id.clone(),
                    codex_thread_id: codex_thread_id.clone(),
                    request_id: Some(request.request_id.clone()),
                })?;
                json!({"thread_id": thread_id, "codex_thread_id": codex_thread_id, "turn": {"id": turn_id, "status": turn["status"]}})
            }
            Wanted::Interrupt(turn_id) => {
                json!({"thread_id": thread_id, "turn_id": turn_id, "status": "interrupted"})
            }
            Wanted::List(_) => requests::listed(result, |codex| self.threads.of_control(codex).cloned()),
            Wanted::Read => requests::read(&thread_id, result),
            Wanted::Thread(_) => json!({"thread_id": thread_id}),
        };
        self.respond(&request, response)
    }

    pub(super) fn ask(&mut self, method: &str, params: &Value, pending: Pending) {
        if let Some(codex) = &mut self.codex {
            let id = codex.ask(method, params);
            self.pending.insert(id, (pending, Instant::now() + ANSWER));
        }
    }

    pub(super) fn respond(&self, request: &Request, response: Value) -> io::Result<()> {
        let payload = json!({
            "request_id": request.request_id,
            "method": request.method,
            "ok": true,
            "response": say::response(response),
            "occurred_at": now(),
        });
        self.spool.event("worker.response", &payload, Some(request.request_id.clone()))
    }

    pub(super) fn refuse(&self, request_id: &str, method: &str, error: CodexRequestError) -> io::Result<()> {
        self.note(&format!(
            "{method} ({}) was not done: {}",
            plain(&shortened(request_id, 80)),
            plain(&error.message)
        ));
        let payload = oa_contract::wire::codex::Error {
            request_id: request_id.to_owned(),
            method: method.to_owned(),
            error,
            occurred_at: now(),
        };
        self.spool.event("worker.error", &payload, Some(request_id.to_owned()))
    }
}
