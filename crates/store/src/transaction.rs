//! Decides what a command may do to the store: run named statements inside one transaction that is kept
//! whole or not at all, and ask for wakes that are given only once it is durable.

use std::ops::ControlFlow;

use oa_contract::refusal::{Fault, Stop};
use uuid::Uuid;

use crate::engine::{EngineKind, postgres, sqlite};
use crate::row::{FromRow, Row};
use crate::seal;
use crate::statement::Statement;
use crate::value::{Value, refuse_nul};

/// Who should look again after a commit. Small on purpose: it says where, never what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    Run {
        run_id: Uuid,
        seq: u64,
    },
    Stream {
        stream_id: String,
        seq: u64,
    },
    /// What the store knows of a worker has changed.
    Worker {
        worker_id: String,
    },
    Outbox,
}

/// A transaction of either engine. It stays on the thread that runs it.
pub struct Tx {
    pub(crate) engine: Session,
    pub(crate) name: &'static str,
    pub(crate) read_only: bool,
    pub(crate) wakes: Vec<Wake>,
    /// A statement failed: whatever the command answers, nothing of it is kept.
    pub(crate) failed: bool,
}

/// The engine's half of a transaction.
pub(crate) enum Session {
    Sqlite(Box<sqlite::Session>),
    Postgres(Box<postgres::Session>),
}

impl Tx {
    pub(crate) fn new(engine: Session, name: &'static str, read_only: bool) -> Self {
        Tx { engine, name, read_only, wakes: Vec::new(), failed: false }
    }

    /// Which engine this is, for the rare command that needs two texts.
    pub const fn engine(&self) -> EngineKind {
        match self.engine {
            Session::Sqlite(_) => EngineKind::Sqlite,
            Session::Postgres(_) => EngineKind::Postgres,
        }
    }

    /// The name the transaction was started under.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Asks that somebody look again, after the commit and only if this transaction is kept.
    pub fn wake(&mut self, wake: Wake) {
        self.wakes.push(wake);
    }

    /// Runs a statement that answers no rows; says how many rows it changed.
    pub async fn execute(&mut self, statement: &Statement, params: &[Value<'_>]) -> Result<u64, Stop> {
        let seal = self.admit(statement, params)?;
        let done = match &mut self.engine {
            Session::Sqlite(session) => session.execute(statement, params, seal),
            Session::Postgres(session) => session.execute(statement, params, seal).await,
        };
        self.note(done)
    }

    /// The first row of the answer, if there is one.
    pub async fn one<T: FromRow>(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> Result<Option<T>, Stop> {
        let mut found = None;
        self.visit(statement, params, |row| {
            if found.is_none() {
                found = Some(T::from_row(row)?);
            }
            Ok(ControlFlow::Break(()))
        })
        .await?;
        Ok(found)
    }

    /// All rows of the answer.
    pub async fn all<T: FromRow>(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> Result<Vec<T>, Stop> {
        let mut rows = Vec::new();
        self.visit(statement, params, |row| {
            rows.push(T::from_row(row)?);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(rows)
    }

    /// Shows each row of the answer to `look`, until it breaks off.
    pub async fn visit(
        &mut self,
        statement: &Statement,
        params: &[Value<'_>],
        mut look: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Stop> {
        let seal = self.admit(statement, params)?;
        let checked = match statement.writes() {
            true => None,
            false => statement.seal(),
        };
        let mut each = |row: &Row<'_>| {
            checked.map_or(Ok(()), |table| row.check_seal(table))?;
            look(row)
        };
        let done = match &mut self.engine {
            Session::Sqlite(session) => session.visit(statement, params, seal, &mut each),
            Session::Postgres(session) => session.visit(statement, params, seal, &mut each).await,
        };
        self.note(done)
    }

    /// Checks what both engines must treat alike, and computes the seal of a row to be written.
    fn admit(&mut self, statement: &Statement, params: &[Value<'_>]) -> Result<Option<i64>, Stop> {
        if statement.writes() && self.read_only {
            self.failed = true;
            let what = format!("the statement `{}` writes inside the read `{}`", statement.name(), self.name);
            return Err(Fault::msg(what).into());
        }
        refuse_nul(params)?;
        Ok(statement.seal().filter(|_| statement.writes()).map(|table| seal::seal(table, params)))
    }

    fn note<T>(&mut self, done: Result<T, Fault>) -> Result<T, Stop> {
        self.failed |= done.is_err();
        Ok(done?)
    }
}
