//! Decides what the rest of the system sees of storage: named commands that write, named questions that
//! read, and whether both still can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oa_contract::current;
use oa_contract::refusal::{Fault, Refusal, Stop};
use tokio::sync::{mpsc, oneshot};

use crate::config::{OpenError, StoreConfig};
use crate::engine::{Engine, EngineKind, Message, OnCommit, postgres, sqlite};
use crate::fence::Fence;
use crate::job::{Command, Keys};
use crate::measure::Names;
use crate::statement::Statement;
use crate::transaction::Tx;

static BEAT: Statement = crate::statement!("store/beat");
static HEARD: Statement = crate::statement!("store/heard");

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    names: Names,
    config: StoreConfig,
}

/// What the store says about itself without being touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// A commit failed or the file is damaged; nothing is written any more until a restart.
    Poisoned(String),
    Closed,
}

impl Store {
    /// Opens a store that wakes nobody.
    pub async fn open(config: impl Into<StoreConfig>) -> Result<Self, OpenError> {
        Self::open_with(config, Arc::new(|_| {})).await
    }

    /// Opens a store; `on_commit` is called once per commit with the wakes of what was kept. It must be
    /// quick, and must not wait for the store.
    pub async fn open_with(config: impl Into<StoreConfig>, on_commit: OnCommit) -> Result<Self, OpenError> {
        let config = config.into();
        let engine = match config.clone() {
            StoreConfig::Postgres(config) => postgres::start(config, on_commit).await?,
            StoreConfig::Sqlite(config) => {
                let runtime = tokio::runtime::Handle::current();
                let start = move || sqlite::start(&config, on_commit, &runtime);
                let died = |error| OpenError::new(format!("opening the store broke off: {error}"));
                tokio::task::spawn_blocking(start).await.map_err(died)??
            }
        };
        Ok(Store(Arc::new(Inner { engine, names: Names::default(), config })))
    }

    /// Runs `f` in a transaction that is kept when it answers `Ok` and undone when it stops. The answer
    /// comes back only after the commit. `f` may run several times; only the last run counts.
    ///
    /// `keys` name what the command must have for itself (a run, an account): on an engine with several
    /// writers, commands that share a key run one after the other.
    pub async fn write<F, Ask, Ans>(
        &self,
        name: &'static str,
        keys: impl Into<Keys>,
        ask: Ask,
        f: F,
    ) -> Result<Ans, Stop>
    where
        F: AsyncFn(&mut Tx, &Ask) -> Result<Ans, Stop> + Send + 'static,
        Ask: Send + 'static,
        Ans: Send + 'static,
    {
        self.0.engine.health.refuse_if_poisoned()?;
        self.run(&self.0.engine.writes, name, keys.into(), Fence::here(), ask, f).await
    }

    /// Runs `f` on a snapshot that includes everything answered before it was asked, and cannot write.
    pub async fn read<F, Ask, Ans>(&self, name: &'static str, ask: Ask, f: F) -> Result<Ans, Stop>
    where
        F: AsyncFn(&mut Tx, &Ask) -> Result<Ans, Stop> + Send + 'static,
        Ask: Send + 'static,
        Ans: Send + 'static,
    {
        self.run(&self.0.engine.reads, name, Keys::None, Fence::default(), ask, f).await
    }

    async fn run<F, Ask, Ans>(
        &self,
        queue: &mpsc::Sender<Message>,
        name: &'static str,
        keys: Keys,
        fence: Fence,
        ask: Ask,
        f: F,
    ) -> Result<Ans, Stop>
    where
        F: AsyncFn(&mut Tx, &Ask) -> Result<Ans, Stop> + Send + 'static,
        Ask: Send + 'static,
        Ans: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Command {
            name,
            keys,
            fence,
            ask,
            f,
            metrics: self.0.names.of(name),
            request: current::request(),
            since: Instant::now(),
            answer: Command::<F, Ask, Ans>::unanswered(),
            reply,
        });
        queue.send(Message::Run(job)).await.map_err(|_| closed())?;
        let unanswered = |_| Fault::msg(format!("the store ended before `{name}` was answered"));
        answer.await.map_err(unanswered)?
    }

    /// Which engine keeps this store.
    pub fn engine(&self) -> EngineKind {
        self.0.engine.kind
    }

    /// Whether the store takes writes, as far as it knows without trying.
    pub fn health(&self) -> Health {
        match self.0.engine.health.poisoned() {
            Some(why) => Health::Poisoned(why.to_owned()),
            None if self.0.engine.writes.is_closed() => Health::Closed,
            None => Health::Ready,
        }
    }

    /// Writes something small, durably, and reads it back. It shares its commit with whatever else waits.
    pub async fn probe(&self, limit: Duration) -> Result<(), Stop> {
        let beat = async {
            let beat = self.write("store_probe_write", (), (), beat).await?;
            let heard = self.read("store_probe_read", (), heard).await?;
            match heard >= beat {
                true => Ok(()),
                false => Err(Fault::msg(format!("wrote beat {beat}, but read beat {heard}")).into()),
            }
        };
        let late =
            |_| Refusal::unavailable(format!("the store did not answer within {} ms", limit.as_millis()));
        tokio::time::timeout(limit, beat).await.map_err(late)?
    }

    /// Takes nothing new, lets everything that is queued run to its end, and leaves the file tidy.
    pub async fn close(&self) {
        self.0.engine.close().await;
    }

    pub(crate) fn config(&self) -> &StoreConfig {
        &self.0.config
    }
}

async fn beat(tx: &mut Tx, (): &()) -> Result<i64, Stop> {
    Ok(tx.one::<(i64,)>(&BEAT, &[]).await?.map_or(0, |(beats,)| beats))
}

async fn heard(tx: &mut Tx, (): &()) -> Result<i64, Stop> {
    Ok(tx.one::<(i64,)>(&HEARD, &[]).await?.map_or(0, |(beats,)| beats))
}

fn closed() -> Stop {
    Refusal::unavailable("the store is closing; try again in a moment").into()
}
