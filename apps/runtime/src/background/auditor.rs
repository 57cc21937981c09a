//! Decides whether the books may still be written: adds the ledger up again, all of it at the start as far as that
//! takes no long time, and then round after round in small portions. What does not add up stops writes and turns
//! `/readyz` red, until somebody has looked and started the service again.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use oa_contract::{Code, Refusal, Stop};
use oa_store::{
    Tx,
    tables::ledger_audit::{self, Cursor, Looked},
};

use crate::Runtime;

/// Rows in one portion; the snapshot of a portion is short.
const PORTION: u32 = 500;
/// Rows looked at before anybody is served. Larger books are gone through afterwards.
const AT_START: u32 = 100_000;
const BETWEEN_PORTIONS: Duration = Duration::from_millis(500);
const BETWEEN_ROUNDS: Duration = Duration::from_secs(60);
const BEFORE_TRYING_AGAIN: Duration = Duration::from_secs(5);
/// Looks that fail one after the other before it is no accident any more.
const PATIENCE: u32 = 3;

/// What the auditor knows about the books.
#[derive(Default)]
pub struct Books {
    /// Why they do not add up. Nothing that this process does makes that undone.
    broken: OnceLock<String>,
    /// Looks that failed one after the other; a row that cannot be read fails every one.
    failed: AtomicU32,
    cursor: Mutex<Cursor>,
}

impl Books {
    /// Why they may not be written, if so.
    pub fn admit_writes(&self) -> Result<(), Refusal> {
        self.trouble().map_or(Ok(()), |why| Err(Refusal::new(Code::WritePathFrozen, why)))
    }

    /// What is wrong and what to do about it. Which account and which entry it is stands in the log: not
    /// everybody who asks should know.
    pub fn trouble(&self) -> Option<String> {
        const DO: &str = "writes are stopped; the log names the account and the entry: stop the runtime, keep a copy of its store, read it with `oa verify-store`, then restore a backup";
        match (self.broken.get(), self.failed.load(Ordering::Relaxed)) {
            (Some(_), _) => Some(format!("the ledger does not add up: {DO}")),
            (None, PATIENCE..) => Some(format!("the ledger cannot be read: {DO}")),
            _ => None,
        }
    }

    fn note(&self, looked: Result<Looked, Stop>) -> Portion {
        let looked = match looked {
            Ok(looked) => looked,
            Err(stop) => {
                tracing::error!(error = %stop, "the auditor could not read the ledger; it tries again");
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Portion::Unread;
            }
        };
        self.failed.store(0, Ordering::Relaxed);
        for finding in &looked.findings {
            tracing::error!(%finding, "the ledger does not add up; writes are stopped");
            let _ = self.broken.set(finding.to_string());
        }
        let over = looked.next.is_none();
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = looked.next.unwrap_or_default();
        if over { Portion::Last } else { Portion::Rows(looked.rows) }
    }

    fn cursor(&self) -> Cursor {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How one portion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Portion {
    Rows(u32),
    /// The round is over.
    Last,
    Unread,
}

/// Looks at the books from their beginning, before anybody is served: at all of them, unless they are large.
pub async fn at_start(runtime: &Runtime) {
    *runtime.books.cursor.lock().unwrap_or_else(PoisonError::into_inner) = Cursor::default();
    let (mut rows, mut unread) = (0, 0);
    while rows < AT_START && unread < PATIENCE {
        match look(runtime).await {
            Portion::Rows(more) => rows += more,
            Portion::Unread => unread += 1,
            Portion::Last => return,
        }
    }
    tracing::info!(
        rows,
        "the ledger is larger than what is looked at before the start; the auditor goes on behind it"
    );
}

/// Goes on where the start has stopped, round after round, until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>) {
    loop {
        let pause = match look(runtime).await {
            Portion::Last => BETWEEN_ROUNDS,
            Portion::Rows(_) => BETWEEN_PORTIONS,
            Portion::Unread => BEFORE_TRYING_AGAIN,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn look(runtime: &Runtime) -> Portion {
    let from = runtime.books.cursor();
    runtime.books.note(runtime.store.read("auditor.look", from, portion).await)
}

async fn portion(tx: &mut Tx, from: &Cursor) -> Result<Looked, Stop> {
    ledger_audit::look(tx, from, PORTION).await
}

#[cfg(test)]
mod tests {
    use oa_contract::{Fault, Port as _};
    use oa_ledger::audit::Finding;

    use super::*;
    use crate::testing::World;

    fn found(what: &str) -> Result<Looked, Stop> {
        let finding = Finding { account: None, seq: None, what: what.into() };
        Ok(Looked { findings: vec![finding], ..Looked::default() })
    }

    #[test]
    fn what_does_not_add_up_stops_writes_for_good() {
        let books = Books::default();
        assert_eq!(books.note(Ok(Looked::default())), Portion::Last);
        assert_eq!(books.admit_writes(), Ok(()));
        books.note(found("an account"));
        books.note(Ok(Looked::default()));
        let refusal = books.admit_writes().expect_err("refused");
        assert_eq!(refusal.code, Code::WritePathFrozen);
        assert!(refusal.message.contains("oa verify-store"), "{}", refusal.message);
        assert!(!refusal.message.contains("an account"), "what was found stands in the log only");
    }

    #[test]
    fn a_ledger_that_cannot_be_read_stops_writes_as_long_as_it_cannot() {
        let books = Books::default();
        let unread = || Err(Fault::msg("a broken seal").into());
        for _ in 1..PATIENCE {
            assert_eq!(books.note(unread()), Portion::Unread);
            assert_eq!(books.trouble(), None, "once is an accident");
        }
        books.note(unread());
        assert!(books.admit_writes().is_err());
        books.note(Ok(Looked::default()));
        assert_eq!(books.admit_writes(), Ok(()));
    }

    #[tokio::test]
    async fn the_runtime_takes_no_writes_on_books_that_do_not_add_up() {
        let world = World::sqlite().await;
        at_start(&world.runtime).await;
        assert_eq!(world.runtime.admits_writes(), Ok(()));
        world.runtime.books.note(found("an account"));
        assert_eq!(world.runtime.admits_writes().expect_err("refused").code, Code::WritePathFrozen);
    }
}
