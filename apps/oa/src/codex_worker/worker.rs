//! Decides what happens next: one loop takes what codex says, what control asks and what time brings, and does one thing after the other, so that everything has one order.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use oa_contract::wire::codex::{Approval, CodexRequestError, DeliveredRequest};
use serde_json::{Map, Value, json, value::RawValue};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    app_server::{AppServer, Launch, Message, RpcError},
    approvals::{self, Decision, Policy},
    feed::Order,
    left_behind,
    poster::Verdict,
    requests::{self, Request, Wanted, fault, lost, unavailable},
    say::{self, Belongs, Passed, now},
    spool::{Link, OpenTurn, Spool, Taken},
    threads::{Threads, Way},
};
use crate::{
    exec::Signals,
    failure::Failure,
    output::{Format, plain, shortened},
};

/// How long codex may take to answer.
const ANSWER: Duration = Duration::from_secs(120);
/// How long it may take to get ready.
const READY: Duration = Duration::from_secs(30);
/// How long turns may take to end when the worker is told to stop.
const WINDING_UP: Duration = Duration::from_secs(10);
/// Waits between restarts of codex; one that lived for long begins with the first again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// More requests than this are not taken at once.
const AT_ONCE: usize = 256;
/// Messages that share one sync of the disk, at most.
const BATCH: usize = 256;

/// How the worker decides where it has a choice.
#[derive(Clone, Debug)]
pub struct Manners {
    pub approvals: Policy,
    /// How long whoever is asked may think; then it is a no.
    pub patience: Duration,
    pub format: Format,
}

/// Why the worker ended.
#[derive(Debug)]
pub enum End {
    /// A signal told it to.
    Told,
    /// Somebody stopped it at control.
    Stopped(String),
    Broken(Failure),
}

/// What an answer of codex is for.
enum Pending {
    Initialize,
    /// The thread of control that is being opened.
    Open {
        thread_id: String,
    },
    Request(Request),
    /// Nobody waits for it.
    Nobody,
}

/// A question of codex that somebody else answers.
struct Question {
    rpc_id: Value,
    method: String,
    params: Value,
    until: Instant,
}

pub struct Worker {
    launch: Launch,
    manners: Manners,
    spool: Arc<Spool>,
    codex: Option<AppServer>,
    /// Whether codex has been greeted.
    ready: bool,
    /// Whether any codex ever was: one that never gets ready is a mistake in the set-up.
    ever_ready: bool,
    since: Instant,
    restart: Option<Instant>,
    wait: Duration,
    pending: HashMap<u64, (Pending, Instant)>,
    /// Requests that came before codex was ready.
    queue: VecDeque<Request>,
    threads: Threads,
    questions: BTreeMap<String, Question>,
}

/// What the loop woke up for.
enum Happened {
    Said(Message),
    /// Codex has closed its output.
    Ended,
    Asked(Order),
    NoFeed,
    Restart,
    Tick,
    Signal,
    Posted(Verdict),
    Room,
}

impl Worker {
    pub fn new(launch: Launch, manners: Manners, spool: Arc<Spool>) -> Self {
        let threads = spool.look(|state| Threads::new(state.links.values()));
        Worker {
            launch,
            manners,
            spool,
            codex: None,
            ready: false,
            ever_ready: false,
            since: Instant::now(),
            restart: None,
            wait: FIRST_WAIT,
            pending: HashMap::new(),
            queue: VecDeque::new(),
            threads,
            questions: BTreeMap::new(),
        }
    }

    /// Works until it is told to stop, and winds up.
    pub async fn work(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        poster: &mut JoinHandle<Verdict>,
        signals: &mut Signals,
    ) -> End {
        let end = match self.begin().await {
            Ok(()) => self.turn_round(&mut orders, poster, signals).await,
            Err(failure) => End::Broken(failure),
        };
        drop(orders);
        if let End::Told = end {
            self.wind_up(signals).await;
        }
        let why = match &end {
            End::Told => "the worker was told to stop",
            End::Stopped(_) => "the worker was stopped",
            End::Broken(_) => "the worker broke off",
        };
        self.close(why).await;
        end
    }

    /// Says what became of the work of an earlier process that ended in the middle of it, and starts codex.
    async fn begin(&mut self) -> Result<(), Failure> {
        let broke = |error: io::Error| Failure::wrong(format!("the spool cannot be written: {error}"));
        let why = "the worker ended in the middle of it; what became of it is not known";
        self.give_up(why).map_err(broke)?;
        self.commit().await;
        self.start().map_err(|error| {
            Failure::wrong(format!("{} cannot be started: {error}", self.launch.program.display()))
        })
    }

    async fn turn_round(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        poster: &mut JoinHandle<Verdict>,
        signals: &mut Signals,
    ) -> End {
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let happened = tokio::select! {
                happened = listen(&mut self.codex, &self.spool) => happened,
                order = orders.recv(), if self.takes_more() => order.map_or(Happened::NoFeed, Happened::Asked),
                () = sleep_until(self.restart) => Happened::Restart,
                _ = ticks.tick() => Happened::Tick,
                _ = signals.next() => Happened::Signal,
                verdict = &mut *poster => Happened::Posted(verdict.unwrap_or_else(|error| {
                    Verdict::Broken(Failure::wrong(format!("the poster broke: {error}")))
                })),
            };
            let done = match happened {
                Happened::Signal => return End::Told,
                Happened::Posted(Verdict::Broken(failure)) => return End::Broken(failure),
                Happened::Posted(Verdict::Stopped) => return End::Stopped("requested".to_owned()),
                // The feed ends only when control refuses, which the poster meets too and says better.
                Happened::NoFeed => {
                    return match tokio::time::timeout(WINDING_UP, &mut *poster).await {
                        Ok(Ok(Verdict::Broken(failure))) => End::Broken(failure),
                        Ok(Ok(Verdict::Stopped)) => End::Stopped("requested".to_owned()),
                        _ => End::Broken(Failure::wrong("the feed of the worker has ended")),
                    };
                }
                Happened::Asked(Order::Stopped(reason)) => return End::Stopped(reason),
                Happened::Asked(order) => self.asked(order).await,
                Happened::Said(message) => self.said_all(message),
                Happened::Ended => match self.ended().await {
                    Ok(done) => done,
                    Err(failure) => return End::Broken(failure),
                },
                Happened::Restart => {
                    self.restart = None;
                    self.start().or_else(|error| self.could_not_start(&error))
                }
                Happened::Tick => self.tick(),
                Happened::Room => Ok(()),
            };
            if let Err(error) = done {
                // Only what cannot be written as JSON at all; nothing that was read from JSON.
                self.note(&format!("something could not be recorded: {error}"));
            }
            self.commit().await;
        }
    }

    fn note(&self, sentence: &str) {
        self.manners.format.note(sentence);
    }

    /// Makes what was staged durable. A full disk is waited for: codex waits with us, and nothing is lost.
    async fn commit(&self) {
        let mut wait = Duration::from_millis(100);
        while let Err(error) = tokio::task::block_in_place(|| self.spool.commit()) {
            if wait == Duration::from_millis(100) {
                self.note(&format!(
                    "{}: {error}; codex waits until it can be written",
                    self.spool.path().display()
                ));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    fn takes_more(&self) -> bool {
        self.queue.len() + self.pending.len() < AT_ONCE
    }

    // Codex's life.

    fn start(&mut self) -> io::Result<()> {
        let mut codex = AppServer::start(&self.launch)?;
        let about = json!({"clientInfo": {"name": "oa_codex_worker", "title": "oa codex-worker", "version": env!("CARGO_PKG_VERSION")}});
        let id = codex.ask("initialize", &about);
        self.pending.insert(id, (Pending::Initialize, Instant::now() + READY));
        self.codex = Some(codex);
        self.since = Instant::now();
        Ok(())
    }

    fn could_not_start(&mut self, error: &io::Error) -> io::Result<()> {
        self.note(&format!("codex cannot be started: {error}"));
        self.drop_all(&format!("codex cannot be started: {error}"))?;
        self.restart_later();
        Ok(())
    }

    fn restart_later(&mut self) {
        if self.since.elapsed() > LONGEST_WAIT {
            self.wait = FIRST_WAIT;
        }
        self.note(&format!("codex is started again in {} s", self.wait.as_secs()));
        self.restart = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// Codex has closed its output, which it does not do while it lives.
    async fn ended(&mut self) -> Result<io::Result<()>, Failure> {
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
    fn drop_all(&mut self, why: &str) -> io::Result<()> {
        self.pending.clear();
        self.questions.clear();
        self.queue.clear();
        self.threads.closed();
        self.give_up(&format!("{why}; what became of it is not known"))
    }

    fn give_up(&mut self, why: &str) -> io::Result<()> {
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
            let params = say::turn_failed(&turn.codex_thread_id, &turn.turn_id, why);
            let mut passed = Passed::own("turn/completed", &params);
            passed.thread_id = self.threads.of_control(&turn.codex_thread_id).cloned();
            passed.turn_id = Some(turn.turn_id.clone());
            passed.request_id = turn.request_id;
            self.event(passed)?;
            self.spool.turn_ended(&turn.turn_id)?;
        }
        Ok(())
    }

    fn event(&self, passed: Passed) -> io::Result<()> {
        self.spool.event("worker.event", &passed, None)
    }

    fn tick(&mut self) -> io::Result<()> {
        let time = Instant::now();
        if let Some(codex) = &self.codex {
            left_behind::bury(codex.pid());
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

    // What codex says.

    /// A message, and those that are there already: they share one sync.
    fn said_all(&mut self, first: Message) -> io::Result<()> {
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

    fn said(&mut self, mut message: Message) -> io::Result<()> {
        match (message.method.take(), message.id.take()) {
            (Some(method), None) => self.told(&message, &method),
            (Some(method), Some(id)) => self.questioned(&message, method, id),
            (None, Some(id)) => self.answered(&id, message.result, message.error),
            (None, None) => Ok(()),
        }
    }

    /// A message as an event, with what we know about where it belongs.
    fn passed(&self, message: &Message, method: &str, belongs: &Belongs) -> Passed {
        let mut passed = Passed::on(message, method);
        passed.thread_id = belongs.thread().and_then(|thread| self.threads.of_control(thread).cloned());
        passed.turn_id = belongs.turn().map(str::to_owned);
        passed.request_id = passed
            .turn_id
            .as_ref()
            .and_then(|turn_id| self.spool.look(|state| state.turns.get(turn_id)?.request_id.clone()));
        passed
    }

    fn told(&mut self, message: &Message, method: &str) -> io::Result<()> {
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
    fn questioned(&mut self, message: &Message, method: String, rpc_id: Value) -> io::Result<()> {
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
    fn decide(&mut self, approval_id: &str, decision: Decision, because: &str) -> io::Result<()> {
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

    fn answered(
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

    fn greeted(&mut self, about: &Value) -> io::Result<()> {
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

    // What control asks.

    async fn asked(&mut self, order: Order) -> io::Result<()> {
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

    fn take_on(&mut self, asked: &DeliveredRequest) -> io::Result<()> {
        let request = match Request::read(asked) {
            Ok(request) => request,
            Err(fault) => return self.refuse(&asked.request_id, &asked.method, fault),
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

    fn approved(&mut self, approval: &Approval) -> io::Result<()> {
        match Decision::parse(&approval.decision) {
            Some(decision) => self.decide(&approval.approval_id, decision, "whoever was asked"),
            None => {
                self.note(&format!("{} is no decision", plain(&shortened(&approval.decision, 40))));
                Ok(())
            }
        }
    }

    /// Hands a request to codex, or to the thread that has to be opened first.
    fn hand_on(&mut self, request: Request) -> io::Result<()> {
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

    fn hand_on_in_thread(
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

    fn opened(&mut self, thread_id: &str, result: &Value) -> io::Result<()> {
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
    fn go_on(&mut self, codex_thread_id: &str, request: Request) -> io::Result<()> {
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
    fn did(&mut self, request: Request, result: &Value) -> io::Result<()> {
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

    fn ask(&mut self, method: &str, params: &Value, pending: Pending) {
        if let Some(codex) = &mut self.codex {
            let id = codex.ask(method, params);
            self.pending.insert(id, (pending, Instant::now() + ANSWER));
        }
    }

    fn respond(&self, request: &Request, response: Value) -> io::Result<()> {
        let payload = json!({
            "request_id": request.request_id,
            "method": request.method,
            "ok": true,
            "response": say::response(response),
            "occurred_at": now(),
        });
        self.spool.event("worker.response", &payload, Some(request.request_id.clone()))
    }

    fn refuse(&self, request_id: &str, method: &str, error: CodexRequestError) -> io::Result<()> {
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

    // The end.

    /// Interrupts what runs and waits for it to end, for a while or until the second signal.
    async fn wind_up(&mut self, signals: &mut Signals) {
        let turns: Vec<OpenTurn> = self.spool.look(|state| state.turns.values().cloned().collect());
        if !turns.is_empty() {
            self.note(&format!(
                "{} turns are interrupted; a second signal does not wait for them",
                turns.len()
            ));
        }
        for approval_id in self.questions.keys().cloned().collect::<Vec<_>>() {
            let _ = self.decide(&approval_id, Decision::Cancel, "the worker ends");
        }
        for turn in turns {
            let params = json!({"threadId": turn.codex_thread_id, "turnId": turn.turn_id});
            self.ask("turn/interrupt", &params, Pending::Nobody);
        }
        let until = tokio::time::sleep(WINDING_UP);
        tokio::pin!(until);
        while self.codex.is_some() && self.spool.look(|state| !state.turns.is_empty()) {
            tokio::select! {
                happened = listen(&mut self.codex, &self.spool) => match happened {
                    Happened::Said(message) => {
                        let _ = self.said_all(message);
                        self.commit().await;
                    }
                    Happened::Room => {}
                    _ => return,
                },
                () = &mut until => return,
                _ = signals.next() => return,
            }
        }
    }

    /// Ends codex and says what became of everything.
    async fn close(&mut self, why: &str) {
        if let Some(codex) = self.codex.take() {
            codex.end().await;
        }
        if self.drop_all(why).is_ok() {
            self.commit().await;
        }
    }
}

/// The next message of codex, when there is room for it.
async fn listen(codex: &mut Option<AppServer>, spool: &Spool) -> Happened {
    if !spool.has_room() {
        spool.room().await;
        return Happened::Room;
    }
    match codex {
        Some(codex) => codex.said.recv().await.map_or(Happened::Ended, Happened::Said),
        None => std::future::pending().await,
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn parsed(text: Option<&RawValue>) -> Value {
    text.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
}
