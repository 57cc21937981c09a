//! Decides what a leader may still write: while it works under its term, every command that it sends to a store is kept
//! only if nobody has begun another term of that lease. Nothing it calls has to know about that, so nothing can
//! forget it.

use oa_contract::refusal::Stop;

use crate::tables::leases::{self, Term};
use crate::transaction::Tx;

tokio::task_local! {
    static UNDER: Term;
}

impl Term {
    /// Does the work under this term. What the work spawns is on its own.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        UNDER.scope(self, work).await
    }
}

/// What a command sent now has to prove.
#[derive(Debug, Default)]
pub(crate) struct Fence(Option<Term>);

impl Fence {
    pub(crate) fn here() -> Self {
        Fence(UNDER.try_with(Term::clone).ok())
    }

    pub(crate) async fn admit(&self, tx: &mut Tx) -> Result<(), Stop> {
        match &self.0 {
            Some(term) => leases::hold(tx, term).await,
            None => Ok(()),
        }
    }
}
