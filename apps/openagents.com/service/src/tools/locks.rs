//! Decides that one thing is done by one task of this process at a time. Across processes the store and the payer
//! decide; this only spares them the crowd.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

#[derive(Default)]
pub struct Locks(Mutex<HashMap<String, Weak<Turn<()>>>>);

impl Locks {
    /// Waits for the turn; it lasts until the guard is dropped.
    pub async fn take(&self, what: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() > 1_000 {
                known.retain(|_, turn| turn.strong_count() > 0);
            }
            let turn = known.get(what).and_then(Weak::upgrade).unwrap_or_default();
            known.insert(what.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}
