//! Decides how a request to a worker passes the ledger: once per id, whoever asks how often at the same time. A detached
//! worker is answered for in process; an attached one is asked through its feed, and its receipt awaited for a while
//! (control §14.3, §14.4, §21.2.1, §21.3.1).

mod wanted;

use std::time::Duration;

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop, Timestamp, User,
    matrix::CodexRequests,
    operation::Data,
    wire::codex::{CodexRequestReply, CodexRequestState},
};
use oa_store::{
    Key, Tx,
    tables::{
        codex::{self as rows, Request, RequestState, Worker},
        threads,
    },
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

pub(super) use wanted::Wanted;

use super::{answer, dispatch, fresh, is_attached, owned_if_any, receipt, save, state, stream_of, worker_id};
use crate::{
    Control, audit,
    hub::Follower,
    identity::{signed_in, throttle},
};

/// Looked at without a wake at least so often: another replica's commit does not wake us.
const POLL: Duration = Duration::from_millis(500);
/// Today's desktop uses this lane as its own fallback; what it asks is never sent back to it.
const OWN_FALLBACK: &str = "autopilot-desktop";

impl Handle<CodexRequests> for Control {
    async fn handle(&self, ask: Ask<CodexRequests>) -> Result<Answer<CodexRequestReply>, Stop> {
        let now = self.clock.now();
        let user = signed_in(&ask.caller)?.clone();
        self.throttle.admit(throttle::CODEX_REQUEST, &user.user_id, now)?;
        let worker_id = worker_id(&ask.path.worker_id)?;
        let wanted = Wanted::read(ask.body.request)?;
        let patience = Duration::from_millis(wanted.wait_ms.unwrap_or(self.config.codex.request_wait_ms));
        let mut asked = Asked {
            user,
            worker_id,
            wanted,
            known_thread: None,
            new_thread_id: format!("thread_{}", self.ids.uuid32()),
            turn_id: format!("turn_{}", self.ids.uuid32()),
            message_id: format!("msg_{}", self.ids.uuid32()),
            now,
            deadline_at: now.plus_seconds(self.config.codex.request_deadline_seconds),
            keep: self.config.codex.event_retention,
        };
        asked.known_thread = self.workers_own_thread(&asked).await?;
        // Followed before the request is placed: its receipt wakes us.
        let follower = self.hub.follow(&stream_of(&asked.worker_id));
        let keys = asked.keys();
        let (request, replay) = self.store.write("codex.request", keys, asked, place).await?;
        let request = match request.state {
            RequestState::Pending => self.awaited(request, follower, patience).await?,
            RequestState::Done | RequestState::Failed => request,
        };
        let data = view(&request, replay)?;
        let event = audit::Event {
            name: "runtime.codex.control.request.accepted",
            user_id: signed_in(&ask.caller).ok().map(|user| user.user_id.as_str()),
            attributes: &[
                ("worker_id", &data.worker_id),
                ("control_request_id", &data.request_id),
                ("method", &data.method),
                ("idempotent_replay", if replay { "true" } else { "false" }),
            ],
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, now);
        let status = if data.ok.is_some() { 200 } else { 202 };
        Ok(Answer::new(Data { data }).with_status(status))
    }
}

impl Control {
    /// The thread that the worker says it is about, for requests that name none.
    async fn workers_own_thread(&self, asked: &Asked) -> Result<Option<String>, Stop> {
        if asked.wanted.thread_id.is_some() || !asked.wanted.needs_thread() {
            return Ok(None);
        }
        let worker = self.store.read("codex.request_target", (asked.worker_id.clone(),), read_worker).await?;
        Ok(worker.and_then(|worker| dispatch::thread_of(&worker)))
    }

    /// Waits for the receipt of a request as long as its caller has patience.
    async fn awaited(
        &self,
        mut request: Request,
        mut follower: Follower,
        patience: Duration,
    ) -> Result<Request, Stop> {
        let until = Instant::now() + patience;
        loop {
            follower.mark_unchanged();
            let key = (request.worker_id.clone(), request.request_key);
            if let Some(now) = self.store.read("codex.request_state", key, read_request).await? {
                request = now;
            }
            let left = until.saturating_duration_since(Instant::now());
            if request.state != RequestState::Pending || left.is_zero() || (self.draining)() {
                return Ok(request);
            }
            let _ = timeout(left.min(POLL), follower.changed()).await;
        }
    }
}

async fn read_worker(tx: &mut Tx, (worker_id,): &(String,)) -> Result<Option<Worker>, Stop> {
    rows::worker(tx, worker_id).await
}

async fn read_request(tx: &mut Tx, (id, key): &(String, [u8; 32])) -> Result<Option<Request>, Stop> {
    rows::request(tx, id, key).await
}

/// A request and what it may need, ids included.
pub(super) struct Asked {
    pub user: User,
    pub worker_id: String,
    pub wanted: Wanted,
    /// The thread that the worker was about when this was looked at.
    pub known_thread: Option<String>,
    pub new_thread_id: String,
    pub turn_id: String,
    pub message_id: String,
    pub now: Timestamp,
    pub deadline_at: Timestamp,
    pub keep: u64,
}

impl Asked {
    /// The worker, and whichever thread may be written to.
    fn keys(&self) -> Vec<Key> {
        let thread =
            self.wanted.thread_id.as_ref().or(self.known_thread.as_ref()).unwrap_or(&self.new_thread_id);
        vec![rows::key(&self.worker_id), threads::key(thread)]
    }

    /// The row of this request, pending.
    pub fn row(&self, thread_id: Option<String>) -> Request {
        let Wanted { request_id, request_key, fingerprint, method, .. } = &self.wanted;
        Request {
            worker_id: self.worker_id.clone(),
            request_key: *request_key,
            request_id: request_id.clone(),
            fingerprint: *fingerprint,
            method: (*method).to_owned(),
            thread_id,
            source: self.wanted.source.clone(),
            request_version: self.wanted.request_version.clone(),
            session_id: self.wanted.session_id.clone(),
            state: RequestState::Pending,
            answer: None,
            receipt: None,
            created_at: self.now,
            deadline_at: Some(self.deadline_at),
        }
    }
}

/// The request as it stands, and whether it had been placed before. Reservation, effect and event are one commit.
async fn place(tx: &mut Tx, asked: &Asked) -> Result<(Request, bool), Stop> {
    let worker = owned_if_any(tx, &asked.worker_id, &asked.user.user_id).await?;
    if let Some(request) = rows::request(tx, &asked.worker_id, &asked.wanted.request_key).await? {
        return Ok((replay(tx, worker, request, asked).await?, true));
    }
    let mut worker = worker.unwrap_or_else(|| fresh(&asked.worker_id, &asked.user.user_id, asked.now));
    state::takes_requests(worker.status)?;
    let fallback = asked.wanted.source.as_ref().is_some_and(|source| source.starts_with(OWN_FALLBACK));
    let request = match is_attached(&worker, asked.now) && !fallback {
        true => dispatch::send(tx, &mut worker, asked).await?,
        false => answer::in_process(tx, &mut worker, asked).await?,
    };
    save(tx, &mut worker).await?;
    Ok((request, false))
}

/// What a request that was placed before has come to. Its deadline is kept even while no sweeper runs.
async fn replay(
    tx: &mut Tx,
    worker: Option<Worker>,
    request: Request,
    asked: &Asked,
) -> Result<Request, Stop> {
    if request.fingerprint != asked.wanted.fingerprint {
        let message = "this request_id was used for another request; choose a new one";
        return Err(Refusal::conflict(message).into());
    }
    let overdue = request.deadline_at.is_some_and(|deadline| deadline <= asked.now);
    match worker {
        Some(mut worker) if overdue => {
            let request = receipt::time_out(tx, &mut worker, request, asked.now, asked.keep).await?;
            save(tx, &mut worker).await?;
            Ok(request)
        }
        _ => Ok(request),
    }
}

fn view(request: &Request, idempotent_replay: bool) -> Result<CodexRequestState, Fault> {
    let mut view = CodexRequestState {
        worker_id: request.worker_id.clone(),
        request_id: request.request_id.clone(),
        ok: None,
        status: None,
        method: request.method.clone(),
        idempotent_replay,
        response: None,
        error: None,
        source: request.source.clone(),
        request_version: request.request_version.clone(),
        session_id: request.session_id.clone(),
        thread_id: None,
    };
    match request.state {
        RequestState::Pending => {
            view.status = Some("pending".into());
            view.thread_id = request.thread_id.clone();
        }
        RequestState::Done => {
            view.ok = Some(true);
            view.response = request.answer.clone();
        }
        RequestState::Failed => {
            let error = request.answer.as_ref().map_or("null", |answer| answer.get());
            let error: Result<Value, _> = serde_json::from_str(error);
            let error = error.and_then(serde_json::from_value);
            view.ok = Some(false);
            view.error = Some(error.map_err(|error| Fault::new("reading a kept error", error))?);
        }
    }
    Ok(view)
}
