//! Decides what is measured about transactions, with handles that are looked up once per name.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Histogram};
use oa_contract::refusal::Stop;

/// The handles of one transaction name.
pub(crate) struct NameMetrics {
    seconds: Histogram,
    kept: Counter,
    refused: Counter,
    fault: Counter,
    retried: Counter,
}

impl NameMetrics {
    fn new(name: &'static str) -> Self {
        let outcome = |outcome: &'static str| metrics::counter!("oa_store_transactions_total", "name" => name, "outcome" => outcome);
        NameMetrics {
            seconds: metrics::histogram!("oa_store_transaction_seconds", "name" => name),
            kept: outcome("kept"),
            refused: outcome("refused"),
            fault: outcome("fault"),
            retried: outcome("retried"),
        }
    }

    /// `spent` runs from the moment of asking to the moment of answering: what the caller felt.
    pub(crate) fn ended<T>(&self, spent: Duration, answer: &Result<T, Stop>) {
        self.seconds.record(spent);
        match answer {
            Ok(_) => self.kept.increment(1),
            Err(Stop::Refusal(_)) => self.refused.increment(1),
            Err(Stop::Fault(_)) => self.fault.increment(1),
        }
    }

    pub(crate) fn retried(&self) {
        self.retried.increment(1);
    }
}

/// All names of one store. Keyed by the address of the name, which is static and cheap to hash; a name
/// written in two places has two entries with the same handles behind them.
#[derive(Default)]
pub(crate) struct Names(RwLock<HashMap<(usize, usize), Arc<NameMetrics>>>);

impl Names {
    pub(crate) fn of(&self, name: &'static str) -> Arc<NameMetrics> {
        let key = (name.as_ptr() as usize, name.len());
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
            names.entry(key).or_insert_with(|| Arc::new(NameMetrics::new(name))).clone()
        })
    }
}

/// What the engine measures about its commits.
pub(crate) struct CommitMetrics {
    pub seconds: Histogram,
    pub jobs: Histogram,
}

impl CommitMetrics {
    pub(crate) fn new() -> Self {
        CommitMetrics {
            seconds: metrics::histogram!("oa_store_commit_seconds"),
            jobs: metrics::histogram!("oa_store_batch_jobs"),
        }
    }
}
