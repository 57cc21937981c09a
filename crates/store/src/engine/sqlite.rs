//! Decides how SQLite runs commands: one thread writes everything that waits in one commit, a few others
//! read, each from its own snapshot.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use oa_contract::refusal::{Fault, Refusal, Stop};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, PrepFlags};
use self_cell::self_cell;
use tokio::sync::mpsc;

use super::{Engine, EngineKind, Health, Message, OnCommit, give_wakes, sqlite_file};
use crate::config::{OpenError, SqliteConfig};
use crate::job::{Ended, Job};
use crate::measure::CommitMetrics;
use crate::row::{Inner, Row};
use crate::statement::Statement;
use crate::transaction::{Session as Either, Tx, Wake};
use crate::value::Value;

static BEGIN_WRITE: Statement = Statement::new("begin", "BEGIN IMMEDIATE", None);
static BEGIN_READ: Statement = Statement::new("begin", "BEGIN DEFERRED", None);
static COMMIT: Statement = Statement::new("commit", "COMMIT", None);
static ROLLBACK: Statement = Statement::new("rollback", "ROLLBACK", None);
static SAVEPOINT: Statement = Statement::new("savepoint", "SAVEPOINT job", None);
static RELEASE: Statement = Statement::new("release", "RELEASE job", None);
static ROLLBACK_TO: Statement = Statement::new("rollback to", "ROLLBACK TO job", None);

/// When the log has grown past this although it is checkpointed all the time, readers have kept it from
/// starting over, and the writer waits for them once.
const LOG_LIMIT: u64 = 256 << 20;
const COMMITS_BETWEEN_LOOKS: u32 = 4096;

type Slots<'c> = Vec<Option<rusqlite::Statement<'c>>>;

self_cell!(
    /// A connection with its prepared statements, each at the slot of its static.
    struct Prepared {
        owner: Connection,
        #[not_covariant]
        dependent: Slots,
    }
);

/// SQLite's half of a transaction: the connection of the thread it runs on.
pub(crate) struct Session {
    prepared: Prepared,
    /// The running command has written: its savepoint is open.
    savepoint: bool,
    /// An error after which nothing this connection says can be trusted.
    broken: Option<String>,
}

impl Session {
    pub(crate) fn new(connection: Connection) -> Self {
        Session { prepared: Prepared::new(connection, |_| Vec::new()), savepoint: false, broken: None }
    }

    pub(crate) fn execute(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
        seal: Option<i64>,
    ) -> Result<u64, Fault> {
        self.prepare_to_write(statement)?;
        let done = self.with(statement, |prepared| {
            bind(prepared, statement, params, seal)?;
            prepared.raw_execute()
        });
        done.map(|rows| rows as u64).map_err(|error| self.fault(statement, error))
    }

    pub(crate) fn visit(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
        seal: Option<i64>,
        each: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        self.prepare_to_write(statement)?;
        let mut looked: Result<(), Fault> = Ok(());
        let done = self.with(statement, |prepared| {
            bind(prepared, statement, params, seal)?;
            let mut rows = prepared.raw_query();
            while let Some(row) = rows.next()? {
                match each(&Row { statement, inner: Inner::Sqlite(row) }) {
                    Ok(ControlFlow::Continue(())) => {}
                    // A statement that writes runs to its end, so that all of it happens.
                    Ok(ControlFlow::Break(())) if statement.writes() => {}
                    Ok(ControlFlow::Break(())) => break,
                    Err(fault) => {
                        looked = Err(fault);
                        break;
                    }
                }
            }
            Ok(())
        });
        done.map_err(|error| self.fault(statement, error))?;
        looked
    }

    /// Opened at the first write only: a command that refuses before it writes costs nothing.
    fn prepare_to_write(&mut self, statement: &Statement) -> Result<(), Fault> {
        if statement.writes() && !self.savepoint {
            self.control(&SAVEPOINT)?;
            self.savepoint = true;
        }
        Ok(())
    }

    fn control(&mut self, statement: &Statement) -> Result<(), Fault> {
        let done = self.with(statement, |prepared| prepared.raw_execute());
        done.map(drop).map_err(|error| self.fault(statement, error))
    }

    fn with<T>(
        &mut self,
        statement: &Statement,
        run: impl FnOnce(&mut rusqlite::Statement<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.prepared.with_dependent_mut(|connection, slots| {
            let slot = statement.slot();
            if slots.len() <= slot {
                slots.resize_with(slot + 1, || None);
            }
            match &mut slots[slot] {
                Some(prepared) => run(prepared),
                empty => run(empty.insert(prepare(connection, statement.for_sqlite())?)),
            }
        })
    }

    fn fault(&mut self, statement: &Statement, error: rusqlite::Error) -> Fault {
        use ErrorCode::{DatabaseCorrupt, NotADatabase, SystemIoFailure};
        if let Some(DatabaseCorrupt | NotADatabase | SystemIoFailure) = error.sqlite_error_code() {
            self.broken = Some(format!("running `{}`: {error}", statement.name()));
        }
        Fault::new(format!("running `{}`", statement.name()), error)
    }

    /// Keeps or undoes what the command just run has written.
    fn end(&mut self, ended: Ended) -> Result<(), Fault> {
        if !std::mem::take(&mut self.savepoint) {
            return Ok(());
        }
        if ended == Ended::Undo {
            self.control(&ROLLBACK_TO)?;
        }
        self.control(&RELEASE)
    }

    /// Some errors (a full disk) make SQLite undo the whole transaction by itself.
    fn in_transaction(&self) -> bool {
        !self.prepared.borrow_owner().is_autocommit()
    }
}

fn prepare<'c>(connection: &'c Connection, text: &str) -> rusqlite::Result<rusqlite::Statement<'c>> {
    connection.prepare_with_flags(text, PrepFlags::SQLITE_PREPARE_PERSISTENT)
}

/// Gives a statement its parameters, and holds its first word to what SQLite knows about it: a write that
/// looks like a read would escape its savepoint.
fn bind(
    prepared: &mut rusqlite::Statement<'_>,
    statement: &Statement,
    params: &[Value<'_>],
    seal: Option<i64>,
) -> rusqlite::Result<()> {
    if !statement.writes() && !prepared.readonly() {
        let what = "the statement changes rows, so its first word must be INSERT, UPDATE or DELETE";
        return Err(rusqlite::Error::InvalidParameterName(what.into()));
    }
    let given = params.len() + usize::from(seal.is_some());
    let wanted = prepared.parameter_count();
    if given != wanted {
        return Err(rusqlite::Error::InvalidParameterCount(given, wanted));
    }
    for (at, value) in params.iter().enumerate() {
        match *value {
            Value::Int(number) => prepared.raw_bind_parameter(at + 1, number)?,
            Value::Text(text) => prepared.raw_bind_parameter(at + 1, text)?,
            Value::Bytes(bytes) => prepared.raw_bind_parameter(at + 1, bytes)?,
            Value::Null => prepared.raw_bind_parameter(at + 1, rusqlite::types::Null)?,
        }
    }
    seal.map_or(Ok(()), |seal| prepared.raw_bind_parameter(wanted, seal))
}

type ColumnError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn column<'r>(row: &'r rusqlite::Row<'_>, column: usize) -> Result<Value<'r>, ColumnError> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Int(number)),
        ValueRef::Text(bytes) => Ok(Value::Text(std::str::from_utf8(bytes)?)),
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes)),
        ValueRef::Real(_) => Err("a number with a fraction is stored here".into()),
    }
}

/// Opens the file and starts the threads. Blocks.
pub(crate) fn start(
    config: &SqliteConfig,
    on_commit: OnCommit,
    runtime: &tokio::runtime::Handle,
) -> Result<Engine, OpenError> {
    let opened = sqlite_file::open(config)?;
    let health = Arc::new(Health::default());
    let (writes, inbox) = mpsc::channel(config.queue);
    let (reads, questions) = mpsc::channel(config.queue);
    let questions = Arc::new(Mutex::new(questions));
    let mut threads = Vec::new();
    for number in 0..config.readers.max(1) {
        let connection = sqlite_file::open_reader(config)?;
        let questions = questions.clone();
        threads.push(spawn(format!("store-read-{number}"), move || read_loop(connection, &questions))?);
    }
    let (answers, batches) = mpsc::unbounded_channel();
    let told = on_commit.clone();
    runtime.spawn(answer_loop(batches, on_commit));
    let (seat, limit) = (health.clone(), config.batch_limit.max(1));
    let path = config.path.clone();
    threads.push(spawn("store-write".into(), move || {
        Writer {
            tx: writing_tx(opened.connection),
            inbox,
            answers,
            on_commit: told,
            health: seat,
            metrics: CommitMetrics::new(),
            limit,
            log: sqlite_file::beside(&path, "-wal"),
            commits: 0,
            _lock: opened.lock,
        }
        .run();
    })?);
    Ok(Engine { kind: EngineKind::Sqlite, writes, reads, health, threads: Mutex::new(threads) })
}

fn writing_tx(connection: Connection) -> Tx {
    Tx::new(Either::Sqlite(Box::new(Session::new(connection))), "idle", false)
}

fn spawn(
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name).spawn(run);
    thread.map_err(|error| OpenError::new(format!("the store could not start its threads: {error}")))
}

/// The commands of one commit, on their way to whoever asked.
struct Batch {
    jobs: Vec<Box<dyn Job>>,
    wakes: Vec<Wake>,
}

impl Batch {
    fn deliver(self, on_commit: &OnCommit) {
        give_wakes(on_commit, &self.wakes);
        self.jobs.into_iter().for_each(|job| job.send());
    }
}

/// Answers batches away from the writer, which has the next one to commit meanwhile.
async fn answer_loop(mut batches: mpsc::UnboundedReceiver<Batch>, on_commit: OnCommit) {
    while let Some(batch) = batches.recv().await {
        batch.deliver(&on_commit);
    }
}

/// The one thread that writes.
struct Writer {
    tx: Tx,
    inbox: mpsc::Receiver<Message>,
    answers: mpsc::UnboundedSender<Batch>,
    on_commit: OnCommit,
    health: Arc<Health>,
    metrics: CommitMetrics,
    limit: usize,
    log: PathBuf,
    commits: u32,
    /// Held as long as the file may be written.
    _lock: File,
}

impl Writer {
    fn run(mut self) {
        while let Some(message) = self.inbox.blocking_recv() {
            if let Some(job) = self.unpack(message) {
                self.batch(job);
            }
        }
        self.checkpoint("TRUNCATE");
    }

    /// Closing lets in nobody new; what is queued already still runs.
    fn unpack(&mut self, message: Message) -> Option<Box<dyn Job>> {
        match message {
            Message::Run(job) => Some(job),
            Message::Close => {
                self.inbox.close();
                None
            }
        }
    }

    /// One commit for everything that waits, and for what arrives while it is run.
    fn batch(&mut self, mut first: Box<dyn Job>) {
        if let Err(stop) = self.begin() {
            first.stop(stop);
            return self.answer(vec![first]);
        }
        let mut jobs = Vec::with_capacity(32);
        let kept = self.collect(first, &mut jobs).and_then(|()| self.commit(jobs.len()));
        if let Err(fault) = kept {
            self.lose(&mut jobs, &fault);
        }
        self.answer(jobs);
        self.tend_log();
    }

    fn answer(&mut self, jobs: Vec<Box<dyn Job>>) {
        let wakes = std::mem::take(&mut self.tx.wakes);
        // Alone, a command gains more from one hand-over less than the writer from being free a little sooner.
        if jobs.len() == 1 {
            return Batch { jobs, wakes }.deliver(&self.on_commit);
        }
        if let Err(refused) = self.answers.send(Batch { jobs, wakes }) {
            // The runtime that answered is gone: answer from here, wake nobody.
            refused.0.jobs.into_iter().for_each(|job| job.send());
        }
    }

    /// Nothing is lost when a transaction cannot begin: another program may hold the file for a while.
    fn begin(&mut self) -> Result<(), Stop> {
        self.health.refuse_if_poisoned()?;
        session(&mut self.tx).control(&BEGIN_WRITE).map_err(|fault| {
            tracing::error!(%fault, "no transaction could begin");
            if let Some(why) = session(&mut self.tx).broken.take() {
                self.health.poison(why);
            }
            Refusal::unavailable("the store could not be written just now; try again").into()
        })
    }

    fn collect(&mut self, first: Box<dyn Job>, jobs: &mut Vec<Box<dyn Job>>) -> Result<(), Fault> {
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            let ran = self.run_one(&mut *job);
            jobs.push(job);
            ran?;
            while next.is_none() && jobs.len() < self.limit {
                let Ok(message) = self.inbox.try_recv() else { break };
                next = self.unpack(message);
            }
        }
        Ok(())
    }

    /// Runs one command. An error is not the command's own: the whole batch is lost with it.
    fn run_one(&mut self, job: &mut dyn Job) -> Result<(), Fault> {
        let mark = self.tx.wakes.len();
        self.tx.name = job.name();
        self.tx.failed = false;
        let ended = job.run_at_once(&mut self.tx);
        if ended == Ended::Undo {
            self.tx.wakes.truncate(mark);
        }
        let session = session(&mut self.tx);
        if let Some(why) = session.broken.take() {
            return Err(Fault::msg(why));
        }
        if !session.in_transaction() {
            return Err(Fault::msg(format!("SQLite gave up the transaction while running `{}`", job.name())));
        }
        session.end(ended)
    }

    fn commit(&mut self, jobs: usize) -> Result<(), Fault> {
        let since = Instant::now();
        session(&mut self.tx).control(&COMMIT)?;
        self.metrics.seconds.record(since.elapsed());
        self.metrics.jobs.record(jobs as f64);
        Ok(())
    }

    /// Nothing of the batch is known to be kept: everybody is told so, and no write is taken any more.
    fn lose(&mut self, jobs: &mut [Box<dyn Job>], fault: &Fault) {
        let session = session(&mut self.tx);
        session.savepoint = false;
        if session.in_transaction() {
            let _ = session.control(&ROLLBACK);
        }
        self.tx.wakes.clear();
        self.health.poison(fault.to_string());
        for job in jobs {
            job.stop(Fault::msg(format!("the commit of `{}` was lost: {fault}", job.name())).into());
        }
    }

    /// Looks at the log now and then: readers that overlap for ever would let it grow for ever.
    fn tend_log(&mut self) {
        self.commits = (self.commits + 1) % COMMITS_BETWEEN_LOOKS;
        let grown = |log: &PathBuf| std::fs::metadata(log).is_ok_and(|data| data.len() > LOG_LIMIT);
        if self.commits == 0 && grown(&self.log) {
            self.checkpoint("RESTART");
        }
    }

    fn checkpoint(&mut self, mode: &str) {
        let connection = session(&mut self.tx).prepared.borrow_owner();
        let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, mode, "the write-ahead log could not be checkpointed");
        }
    }
}

/// The threads here only ever hold SQLite's half.
fn session(tx: &mut Tx) -> &mut Session {
    match &mut tx.engine {
        Either::Sqlite(session) => session,
        Either::Postgres(_) => unreachable!("a SQLite thread holds a SQLite transaction"),
    }
}

/// A thread that reads: each command in a snapshot of its own, taken after the command was asked for.
fn read_loop(connection: Connection, questions: &Mutex<mpsc::Receiver<Message>>) {
    let mut tx = Tx::new(Either::Sqlite(Box::new(Session::new(connection))), "idle", true);
    loop {
        let mut waiting = questions.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.blocking_recv() {
            None => return,
            Some(Message::Close) => waiting.close(),
            Some(Message::Run(mut job)) => {
                drop(waiting);
                read_one(&mut tx, &mut *job);
                job.send();
            }
        }
    }
}

fn read_one(tx: &mut Tx, job: &mut dyn Job) {
    tx.name = job.name();
    tx.failed = false;
    if let Err(fault) = session(tx).control(&BEGIN_READ) {
        return job.stop(fault.into());
    }
    job.run_at_once(tx);
    tx.wakes.clear();
    if let Err(fault) = session(tx).control(&COMMIT) {
        let _ = session(tx).control(&ROLLBACK);
        job.stop(fault.into());
    }
}
