//! Decides how PostgreSQL runs commands: one thread drives a pool of connections, each command is a real
//! transaction behind the locks of its keys, and runs again when the server says that it collided.

use std::error::Error as StdError;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use oa_contract::refusal::{Fault, Refusal, Stop};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

use super::tls::Tls;
use super::{Engine, EngineKind, Health, Message, OnCommit, give_wakes, postgres_schema};
use crate::config::{OpenError, PostgresConfig};
use crate::job::{Ended, Job, Keys, waited};
use crate::measure::CommitMetrics;
use crate::row::{Inner, Row};
use crate::statement::Statement;
use crate::transaction::{Session as Either, Tx, Wake};
use crate::value::Value;

/// How often a command runs before its collision is the caller's to hear of.
const ATTEMPTS: u32 = 12;
/// A unique violation is mostly two first writers who met: the second finds the first's row when it looks
/// again. When it does not, running again does not help.
const DUPLICATE_ATTEMPTS: u32 = 4;

/// Why running a command again may end better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Collided,
    Duplicate,
    Disconnected,
    /// The server ended a statement that took too long, mostly one that waited for a lock.
    Waited,
}

impl Again {
    fn attempts(self) -> u32 {
        match self {
            Again::Collided => ATTEMPTS,
            Again::Duplicate => DUPLICATE_ATTEMPTS,
            Again::Disconnected => 2,
            Again::Waited => 1,
        }
    }

    fn because(error: &tokio_postgres::Error) -> Option<Self> {
        match error.code() {
            Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => {
                Some(Again::Collided)
            }
            Some(&SqlState::UNIQUE_VIOLATION) => Some(Again::Duplicate),
            Some(
                &SqlState::ADMIN_SHUTDOWN
                | &SqlState::CRASH_SHUTDOWN
                | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            ) => Some(Again::Disconnected),
            Some(&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE) => Some(Again::Waited),
            None if error.is_closed() => Some(Again::Disconnected),
            _ => None,
        }
    }
}

/// PostgreSQL's half of a transaction.
pub(crate) struct Session {
    client: Object,
    /// What opens the transaction; sent together with the first statement.
    opening: Option<String>,
    again: Option<Again>,
}

impl Session {
    fn new(client: Object, opening: String) -> Self {
        Session { client, opening: Some(opening), again: None }
    }

    pub(crate) async fn execute(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
        seal: Option<i64>,
    ) -> Result<u64, Fault> {
        let done = async {
            let prepared = self.client.prepare_cached(statement.text()).await?;
            let given = Given::new(params, seal);
            after(&self.client, self.opening.take(), self.client.execute(&prepared, &given.all())).await
        };
        let done = done.await;
        done.map_err(|error| self.fault(statement, error))
    }

    pub(crate) async fn visit(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
        seal: Option<i64>,
        each: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let rows = async {
            let prepared = self.client.prepare_cached(statement.text()).await?;
            let given = Given::new(params, seal);
            after(&self.client, self.opening.take(), self.client.query(&prepared, &given.all())).await
        };
        let rows = rows.await;
        for row in rows.map_err(|error| self.fault(statement, error))? {
            if each(&Row { statement, inner: Inner::Postgres(&row) })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn fault(&mut self, statement: &Statement, error: tokio_postgres::Error) -> Fault {
        self.again = self.again.or(Again::because(&error));
        Fault::new(format!("running `{}`", statement.name()), error)
    }

    /// Whether anything was sent that a `COMMIT` or `ROLLBACK` has to end.
    fn open(&self) -> bool {
        self.opening.is_none()
    }
}

/// Runs a statement behind the opening of its transaction, both in one journey.
async fn after<T>(
    client: &Object,
    opening: Option<String>,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    let Some(opening) = opening else { return statement.await };
    // The first poll of each sends it: the opening goes first.
    let (opened, done) = tokio::join!(biased; client.batch_execute(&opening), statement);
    opened?;
    done
}

/// Parameters in the form the client takes them.
struct Given<'a>(Vec<Value<'a>>);

impl<'a> Given<'a> {
    fn new(params: &[Value<'a>], seal: Option<i64>) -> Self {
        Given(params.iter().copied().chain(seal.map(Value::Int)).collect())
    }

    fn all(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
    }
}

type Boxed = Box<dyn StdError + Send + Sync>;

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match (self, ty) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Int(number), &Type::INT8) => number.to_sql(ty, out),
            (Value::Int(number), &Type::INT4) => i32::try_from(*number)?.to_sql(ty, out),
            (Value::Text(text), &Type::TEXT | &Type::VARCHAR) => text.to_sql(ty, out),
            (Value::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            _ => Err(format!("{} was given where PostgreSQL takes {ty}", self.kind()).into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column as one of the four kinds.
struct Stored<'a>(Value<'a>);

impl<'a> FromSql<'a> for Stored<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(Stored(match *ty {
            Type::INT8 => Value::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Value::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT2 => Value::Int(i16::from_sql(ty, raw)?.into()),
            Type::BOOL => Value::Int(bool::from_sql(ty, raw)?.into()),
            Type::TEXT | Type::VARCHAR | Type::NAME => Value::Text(<&str>::from_sql(ty, raw)?),
            Type::BYTEA => Value::Bytes(raw),
            _ => return Err(format!("{ty} is not a kind the store keeps; cast it").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Boxed> {
        Ok(Stored(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

pub(crate) fn column(row: &tokio_postgres::Row, column: usize) -> Result<Value<'_>, Boxed> {
    Ok(row.try_get::<_, Stored<'_>>(column)?.0)
}

/// Connects, brings the schema up to date and starts the thread.
pub(crate) async fn start(config: PostgresConfig, on_commit: OnCommit) -> Result<Engine, OpenError> {
    let (writes, inbox) = mpsc::channel(config.queue);
    let (reads, questions) = mpsc::channel(config.queue);
    let (opened, opening) = oneshot::channel();
    let thread = std::thread::Builder::new().name("store-postgres".into()).spawn(move || {
        drive(config, on_commit, opened, inbox, questions);
    });
    let no_thread = |error| OpenError::new(format!("the store could not start its thread: {error}"));
    let thread = thread.map_err(no_thread)?;
    let died = |_| OpenError::new("the store's thread ended while it was opening; see the log".to_owned());
    opening.await.map_err(died)??;
    let health = Arc::new(Health::default());
    Ok(Engine { kind: EngineKind::Postgres, writes, reads, health, threads: Mutex::new(vec![thread]) })
}

/// The life of the thread.
fn drive(
    config: PostgresConfig,
    on_commit: OnCommit,
    opened: oneshot::Sender<Result<(), OpenError>>,
    inbox: mpsc::Receiver<Message>,
    questions: mpsc::Receiver<Message>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ =
                opened.send(Err(OpenError::new(format!("the store could not start its thread: {error}"))));
            return;
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let pool = match connect(&config).await {
            Ok(pool) => pool,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let _ = opened.send(Ok(()));
        let readers = (config.pool_size / 3).max(1);
        let writers = config.pool_size.saturating_sub(readers).max(1);
        let server = Rc::new(Server { pool, config, on_commit, metrics: CommitMetrics::new() });
        tokio::join!(
            serve(server.clone(), inbox, writers, Kind::Write),
            serve(server.clone(), questions, readers, Kind::Read),
        );
        server.pool.close();
    });
}

async fn connect(config: &PostgresConfig) -> Result<Pool, OpenError> {
    let target = postgres_schema::target(config)?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(target, Tls::new(config.authority.as_deref())?, recycling);
    let pool = Pool::builder(manager)
        // One of each at least, so that reading never waits behind writing.
        .max_size(config.pool_size.max(2))
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .create_timeout(Some(config.connect_timeout))
        .recycle_timeout(Some(config.connect_timeout))
        .build()
        .map_err(|error| OpenError::new(format!("the pool of connections could not be built: {error}")))?;
    let mut client = pool.get().await.map_err(|error| postgres_schema::unreachable(&error))?;
    postgres_schema::check_durability(&client).await?;
    postgres_schema::migrate(&mut client, config).await?;
    drop(client);
    Ok(pool)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Read,
}

/// What every command on this engine needs.
struct Server {
    pool: Pool,
    config: PostgresConfig,
    on_commit: OnCommit,
    metrics: CommitMetrics,
}

/// Takes commands as long as there are connections for them.
async fn serve(server: Rc<Server>, mut inbox: mpsc::Receiver<Message>, connections: usize, kind: Kind) {
    let permits = Arc::new(Semaphore::new(connections));
    while let Some(message) = inbox.recv().await {
        let Message::Run(job) = message else {
            inbox.close();
            continue;
        };
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let server = server.clone();
        tokio::task::spawn_local(async move {
            server.run(job, kind).await;
            drop(permit);
        });
    }
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    // Every permit is back when the last command has answered.
    let _ = permits.acquire_many(all).await;
}

/// How one attempt ended.
enum Attempt {
    Kept(Vec<Wake>),
    /// The job holds its answer.
    Stopped,
    Again(Again),
}

impl Server {
    async fn run(&self, mut job: Box<dyn Job>, kind: Kind) {
        let mut attempt = 1;
        loop {
            match self.attempt(&mut *job, kind).await {
                Attempt::Kept(wakes) => {
                    give_wakes(&self.on_commit, &wakes);
                    break;
                }
                Attempt::Stopped => break,
                Attempt::Again(why) if attempt < why.attempts() => {
                    job.metrics().retried();
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                Attempt::Again(Again::Collided) => {
                    job.stop(Refusal::unavailable("too many writers met here; try again").into());
                    break;
                }
                // Nothing was committed: a commit whose end nobody knows does not come here.
                Attempt::Again(Again::Disconnected) => {
                    job.stop(Refusal::unavailable("the database went away; try again").into());
                    break;
                }
                Attempt::Again(Again::Waited) => {
                    job.stop(
                        Refusal::unavailable("others were at the same thing for too long; try again").into(),
                    );
                    break;
                }
                Attempt::Again(Again::Duplicate) => break,
            }
        }
        job.send();
    }

    async fn attempt(&self, job: &mut dyn Job, kind: Kind) -> Attempt {
        let client = match self.pool.get().await {
            Ok(client) => client,
            Err(error) => {
                job.stop(out_of_reach(&error));
                return Attempt::Stopped;
            }
        };
        let opening = opening(kind, job.keys(), &self.config.schema);
        let session = Either::Postgres(Box::new(Session::new(client, opening)));
        let mut tx = Tx::new(session, job.name(), kind == Kind::Read);
        let ended = tokio::time::timeout(self.config.transaction_timeout, job.run(&mut tx)).await;
        let wakes = std::mem::take(&mut tx.wakes);
        let Either::Postgres(session) = tx.engine else { return Attempt::Stopped };
        match ended {
            Ok(Ended::Keep) => self.commit(job, *session, wakes).await,
            Ok(Ended::Undo) => undo(*session, tx.failed).await,
            Err(_) => {
                // A statement may still be running there: the connection goes, and the server undoes.
                drop(Object::take(session.client));
                job.stop(waited(job.name()).into());
                Attempt::Stopped
            }
        }
    }

    async fn commit(&self, job: &mut dyn Job, session: Session, wakes: Vec<Wake>) -> Attempt {
        if !session.open() {
            return Attempt::Kept(wakes);
        }
        let since = Instant::now();
        match session.client.batch_execute("COMMIT").await {
            Ok(()) => {
                self.metrics.seconds.record(since.elapsed());
                self.metrics.jobs.record(1.0);
                Attempt::Kept(wakes)
            }
            Err(error) => {
                let again = Again::because(&error)
                    .filter(|again| matches!(again, Again::Collided | Again::Duplicate));
                drop(Object::take(session.client));
                // When the connection broke here, or the server lost patience, nobody knows whether it is kept:
                // never run it twice.
                job.stop(Fault::new(format!("committing `{}`", job.name()), error).into());
                again.map_or(Attempt::Stopped, Attempt::Again)
            }
        }
    }
}

/// Undoes on the server; a connection that cannot do that is not used again.
async fn undo(session: Session, failed: bool) -> Attempt {
    let again = session.again.filter(|_| failed);
    if session.open() && session.client.batch_execute("ROLLBACK").await.is_err() {
        drop(Object::take(session.client));
    }
    again.map_or(Attempt::Stopped, Attempt::Again)
}

fn out_of_reach(error: &PoolError) -> Stop {
    tracing::error!(%error, "the database could not be reached");
    Refusal::unavailable("the database could not be reached; try again").into()
}

/// The words that open a transaction and take its locks, in the order of their numbers: two commands never
/// wait for each other in a circle. A lock that is held by chance for another key only makes one wait.
fn opening(kind: Kind, keys: &Keys, schema: &str) -> String {
    use std::fmt::Write as _;
    if kind == Kind::Read {
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".into();
    }
    let mut locks: Vec<i64> = keys.all().iter().map(|key| lock_number(&key.lock_name(schema))).collect();
    locks.sort_unstable();
    locks.dedup();
    locks.iter().fold("BEGIN ISOLATION LEVEL READ COMMITTED".into(), |mut text, lock| {
        let _ = write!(text, "; SELECT pg_advisory_xact_lock({lock})");
        text
    })
}

fn lock_number(name: &str) -> i64 {
    let hash = Sha256::digest(name);
    hash.iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// Longer after every collision, and never the same for two who collided.
fn pause(attempt: u32) -> Duration {
    let spread = std::hash::RandomState::new().build_hasher().finish() % 1000;
    let longest = 2_u64 << attempt.min(7);
    Duration::from_micros(longest * (250 + spread))
}
