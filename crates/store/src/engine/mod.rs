//! Decides what an engine is: two queues of commands, one for writing and one for reading, and threads
//! that empty them.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use oa_contract::refusal::Refusal;
use tokio::sync::mpsc;

use crate::job::Job;
use crate::transaction::Wake;

pub(crate) mod postgres;
pub(crate) mod postgres_schema;
pub(crate) mod sqlite;
pub(crate) mod sqlite_file;
mod tls;

/// The two engines that speak the one SQL text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    Sqlite,
    Postgres,
}

impl EngineKind {
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::Sqlite => "sqlite",
            EngineKind::Postgres => "postgres",
        }
    }
}

/// Called once per batch, after its commit, with the wakes of the transactions that were kept.
pub type OnCommit = Arc<dyn Fn(&[Wake]) + Send + Sync>;

/// Gives the wakes of a commit. A hook that panics is a fault of ours, but no reason to owe an answer.
pub(crate) fn give_wakes(on_commit: &OnCommit, wakes: &[Wake]) {
    if wakes.is_empty() {
        return;
    }
    if std::panic::catch_unwind(AssertUnwindSafe(|| on_commit(wakes))).is_err() {
        tracing::error!("the hook for wakes panicked; some may look later than they could");
    }
}

/// What goes through a queue.
pub(crate) enum Message {
    Run(Box<dyn Job>),
    Close,
}

/// A started engine.
pub(crate) struct Engine {
    pub kind: EngineKind,
    pub writes: mpsc::Sender<Message>,
    pub reads: mpsc::Sender<Message>,
    pub health: Arc<Health>,
    /// Readers before the writer: its last checkpoint waits for nobody.
    pub threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Lets everything that is queued run to its end.
    pub(crate) async fn close(&self) {
        let _ = self.reads.send(Message::Close).await;
        let _ = self.writes.send(Message::Close).await;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join())));
        let _ = joined.await;
    }
}

/// Whether the store still takes writes. Once lost, it stays lost until a restart has looked at the file.
#[derive(Default)]
pub(crate) struct Health(OnceLock<String>);

impl Health {
    pub(crate) fn poison(&self, why: String) {
        tracing::error!(%why, "the store stops taking writes");
        let _ = self.0.set(why);
    }

    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<(), Refusal> {
        match self.poisoned() {
            Some(_) => {
                Err(Refusal::unavailable("the store cannot be written; its operator has to look at it"))
            }
            None => Ok(()),
        }
    }
}
