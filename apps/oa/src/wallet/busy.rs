//! Decides that no two ask the wallet about one request at one time: whoever is at it ends it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The requests that somebody of this process is at.
#[derive(Clone, Default)]
pub struct Busy(Arc<Mutex<HashSet<String>>>);

/// Held while a request is worked on.
pub struct Turn {
    busy: Busy,
    name: String,
}

impl Busy {
    /// The turn at a request, unless somebody has it.
    pub fn take(&self, kind: &str, id: &str) -> Option<Turn> {
        let name = format!("{kind}/{id}");
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        fresh.then(|| Turn { busy: self.clone(), name })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_one_persons_until_it_is_over() {
        let busy = Busy::default();
        let turn = busy.take("pay", "a").expect("free");
        assert!(busy.take("pay", "a").is_none());
        assert!(busy.take("onchain", "a").is_some());
        drop(turn);
        assert!(busy.take("pay", "a").is_some());
    }
}
