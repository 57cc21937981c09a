//! Decides how a command travels: boxed once with its question, its function and the place for its
//! answer, so that an engine can run it where the connection is, several times if it must.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use oa_contract::current;
use oa_contract::refusal::{Fault, Stop};
use tokio::sync::oneshot;

use crate::fence::Fence;
use crate::measure::NameMetrics;
use crate::transaction::Tx;

/// What a transaction must hold on an engine with several writers: one name for one thing that has an
/// order. SQLite has one writer, and leaves keys alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    space: &'static str,
    id: KeyId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyId {
    Uuid(uuid::Uuid),
    Text(String),
}

impl Key {
    pub fn uuid(space: &'static str, id: uuid::Uuid) -> Self {
        Key { space, id: KeyId::Uuid(id) }
    }

    pub fn text(space: &'static str, id: impl Into<String>) -> Self {
        Key { space, id: KeyId::Text(id.into()) }
    }

    /// The name that PostgreSQL hashes into an advisory lock.
    pub(crate) fn lock_name(&self, schema: &str) -> String {
        match &self.id {
            KeyId::Uuid(id) => format!("{schema}/{}/{id}", self.space),
            KeyId::Text(id) => format!("{schema}/{}/{id}", self.space),
        }
    }
}

/// The keys of one command. `()`, a key, an array or a vector of keys become this.
#[derive(Clone, Debug, Default)]
pub enum Keys {
    #[default]
    None,
    One(Key),
    Many(Vec<Key>),
}

impl Keys {
    pub(crate) fn all(&self) -> &[Key] {
        match self {
            Keys::None => &[],
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Many(keys) => keys,
        }
    }
}

impl From<()> for Keys {
    fn from((): ()) -> Self {
        Keys::None
    }
}

impl From<Key> for Keys {
    fn from(key: Key) -> Self {
        Keys::One(key)
    }
}

impl From<Vec<Key>> for Keys {
    fn from(keys: Vec<Key>) -> Self {
        Keys::Many(keys)
    }
}

impl<const N: usize> From<[Key; N]> for Keys {
    fn from(keys: [Key; N]) -> Self {
        Keys::Many(keys.into())
    }
}

/// Whether what a command wrote is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Keep,
    Undo,
}

/// A future on the thread of its connection.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Ended> + 'a>>;

/// A command as an engine sees it.
pub(crate) trait Job: Send {
    fn name(&self) -> &'static str;
    fn keys(&self) -> &Keys;
    fn metrics(&self) -> &NameMetrics;
    /// Runs it where nothing ever waits: one poll is the whole run.
    fn run_at_once(&mut self, tx: &mut Tx) -> Ended;
    /// Runs it where statements wait for a server.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Running<'a>;
    /// Replaces whatever it answered.
    fn stop(&mut self, stop: Stop);
    /// Sends the answer. Only after the commit.
    fn send(self: Box<Self>);
}

/// A command with its types.
pub(crate) struct Command<F, Ask, Ans> {
    pub name: &'static str,
    pub keys: Keys,
    pub fence: Fence,
    pub ask: Ask,
    pub f: F,
    pub metrics: Arc<NameMetrics>,
    /// The request that it is part of, for the log.
    pub request: Option<Arc<str>>,
    pub since: Instant,
    pub answer: Result<Ans, Stop>,
    pub reply: oneshot::Sender<Result<Ans, Stop>>,
}

impl<F, Ask, Ans> Command<F, Ask, Ans> {
    /// What stands in the answer's place before the command ran.
    pub(crate) fn unanswered() -> Result<Ans, Stop> {
        Err(Fault::msg("the command never ran").into())
    }

    /// A leader whose term is over changes nothing.
    async fn fenced(&self, tx: &mut Tx) -> Result<Ans, Stop>
    where
        F: AsyncFn(&mut Tx, &Ask) -> Result<Ans, Stop>,
    {
        self.fence.admit(tx).await?;
        (self.f)(tx, &self.ask).await
    }

    /// A failed statement dooms the command on PostgreSQL, where the transaction is aborted; it dooms it
    /// on SQLite too, so that nobody builds on the difference.
    fn settle(&mut self, tx: &Tx, answer: Result<Ans, Stop>) -> Ended {
        self.answer = match answer {
            Ok(_) if tx.failed => {
                Err(Fault::msg(format!("`{}` went on after a statement had failed", self.name)).into())
            }
            other => other,
        };
        if self.answer.is_ok() { Ended::Keep } else { Ended::Undo }
    }
}

impl<F, Ask, Ans> Job for Command<F, Ask, Ans>
where
    F: AsyncFn(&mut Tx, &Ask) -> Result<Ans, Stop> + Send + 'static,
    Ask: Send + 'static,
    Ans: Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn metrics(&self) -> &NameMetrics {
        &self.metrics
    }

    fn run_at_once(&mut self, tx: &mut Tx) -> Ended {
        let _entered = current::enter(self.request.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = pin!(self.fenced(tx));
            future.poll(&mut Context::from_waker(Waker::noop()))
        }));
        let answer = match polled {
            Ok(Poll::Ready(answer)) => answer,
            Ok(Poll::Pending) => Err(waited(self.name).into()),
            Err(panic) => Err(panicked(self.name, panic).into()),
        };
        self.settle(tx, answer)
    }

    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Running<'a> {
        Box::pin(current::within(self.request.clone(), async move {
            let answer = {
                let mut future = pin!(self.fenced(tx));
                std::future::poll_fn(|context| {
                    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
                        .unwrap_or_else(|panic| Poll::Ready(Err(panicked(self.name, panic).into())))
                })
                .await
            };
            self.settle(tx, answer)
        }))
    }

    fn stop(&mut self, stop: Stop) {
        self.answer = Err(stop);
    }

    fn send(self: Box<Self>) {
        self.metrics.ended(self.since.elapsed(), &self.answer);
        // Nobody waits any more: the caller went away, and the work stays done.
        let _ = self.reply.send(self.answer);
    }
}

pub(crate) fn waited(name: &str) -> Fault {
    Fault::msg(format!("the transaction `{name}` waited for something that is not the store"))
}

fn panicked(name: &str, panic: Box<dyn Any + Send>) -> Fault {
    let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Fault::msg(format!("the transaction `{name}` panicked: {said}"))
}
