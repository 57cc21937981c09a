//! What dispatching works with, apart from the request that asked for it: it goes on when nobody waits any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oa_contract::{Clock, Fault, Ids, Stop, signer::Signer};
use oa_fetch::{FetchError, Fetcher, Policy};
use oa_store::Store;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{Runtime, config::Config, hub::Hub, marketplace::market::Market};

/// Calls of one provider at one time.
const AT_ONE_PROVIDER: usize = 16;
/// Calls of all providers at one time.
const AT_ALL: usize = 512;
/// The longest answer that is read: every preview and artifact of the largest job fits into it.
const LONGEST_ANSWER_BYTES: usize = 1024 * 1024;
/// Providers after which places of those that nobody calls are forgotten.
const MANY_PROVIDERS: usize = 1_024;

/// The connections to providers, the places at each of them, and who waits for which dispatch.
pub struct Calls {
    pub fetcher: Fetcher,
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Calls {
    pub fn new(config: &Config) -> Result<Self, FetchError> {
        let policy = Policy {
            allow_private_networks: config.allow_private_networks,
            allow_loopback: config.allow_loopback_providers,
            timeout: Duration::from_secs(310),
            max_bytes: LONGEST_ANSWER_BYTES,
            concurrency: AT_ALL,
        };
        let fetcher = Fetcher::new(policy)?.denying(config.denied_places.iter().map(String::as_str));
        Ok(Calls { fetcher, places: Mutex::default(), waiting: Mutex::default() })
    }

    /// A place at a provider; it is given back when it is dropped.
    pub async fn place(&self, worker_id: &str) -> Result<OwnedSemaphorePermit, Stop> {
        let places = {
            let mut known = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() > MANY_PROVIDERS {
                known.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let places = known
                .entry(worker_id.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(AT_ONE_PROVIDER)));
            places.clone()
        };
        Ok(places.acquire_owned().await.map_err(|error| Fault::new("waiting for a provider", error))?)
    }

    /// Waits until somebody says that the dispatch has ended, or for a while: other processes say nothing here.
    pub async fn wait(&self, dispatch_id: &str) {
        const A_WHILE: Duration = Duration::from_millis(250);
        let ended = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.entry(dispatch_id.to_owned()).or_default().clone()
        };
        let _ = tokio::time::timeout(A_WHILE, ended.notified()).await;
        drop(ended);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(dispatch_id).is_some_and(|one| Arc::strong_count(one) == 1) {
            waiting.remove(dispatch_id);
        }
    }

    /// Says that a dispatch has ended.
    pub fn ended(&self, dispatch_id: &str) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiters) = waiting.get(dispatch_id) {
            waiters.notify_waiters();
        }
    }
}

/// Cheap to clone; every clone is the same desk.
#[derive(Clone)]
pub struct Desk {
    pub store: Store,
    pub hub: Arc<Hub>,
    pub market: Arc<Market>,
    pub calls: Arc<Calls>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub signer: Option<Signer>,
    pub stale_after_ms: i64,
    /// How long a price is held for a job that nobody settles.
    pub hold_seconds: i64,
    /// Whether what is seen of providers is counted: not while writes are frozen.
    pub counts_signals: bool,
}

impl Runtime {
    pub(in crate::marketplace) fn desk(&self) -> Desk {
        Desk {
            store: self.store.clone(),
            hub: self.hub.clone(),
            market: self.market.clone(),
            calls: self.calls.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            signer: self.signer.clone(),
            stale_after_ms: self.config.heartbeat_stale_after_ms,
            hold_seconds: self.config.reservation_ttl_seconds,
            counts_signals: self.config.write_mode.writes_enabled(),
        }
    }
}
