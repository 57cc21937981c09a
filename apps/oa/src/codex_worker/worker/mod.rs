//! Decides what happens next: one loop takes what codex says, what control asks and what time brings, and does one thing after the other, so that everything has one order.

mod asked;
mod life;
mod said;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    app_server::{AppServer, Launch, Message},
    approvals::{Decision, Policy},
    feed::Order,
    left_behind,
    poster::Verdict,
    requests::Request,
    spool::{OpenTurn, Spool},
    threads::Threads,
};
use crate::{exec::Signals, failure::Failure, output::Format};

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
        left_behind::await_former(&self.pid_file()).await;
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
        self.queue.len() + self.pending.len() + self.threads.waiting() < AT_ONCE
    }

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
