//! What dispatching works with, apart from the request that asked for it: it goes on when nobody waits any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oa_contract::{Clock, Ids, provider_token, signer::Signer};
use oa_fetch::{FetchError, Fetched, Fetcher, Policy, Request};
use oa_market::Offer;
use oa_store::Store;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{Runtime, config::Config, hub::Hub, marketplace::market::Market};

/// Calls of one provider at one time, unless it says that it does fewer.
const AT_ONE_PROVIDER: usize = 16;
/// Calls of all providers at one time.
const AT_ALL: usize = 512;
/// The longest answer that is read: every preview and artifact of the largest job fits into it.
const LONGEST_ANSWER_BYTES: usize = 1024 * 1024;
/// Providers after which places of those that nobody calls are forgotten.
const MANY_PROVIDERS: usize = 1_024;
/// How long somebody waits for a place at a provider before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connections to providers, the places at each of them, and who waits for which dispatch.
pub struct Calls {
    fetcher: Fetcher,
    /// The secret that tokens for providers follow from.
    secret: Option<provider_token::Secret>,
    /// At all providers together. Whoever calls one holds a place here, so that the fetcher's own places are never
    /// waited for.
    everywhere: Arc<Semaphore>,
    places: Mutex<HashMap<String, Places>>,
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
}

/// The places at one provider.
struct Places {
    count: usize,
    free: Arc<Semaphore>,
}

/// A place to call a provider from; it is given back when it is dropped.
pub struct Place {
    _there: OwnedSemaphorePermit,
    _everywhere: OwnedSemaphorePermit,
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
        let everywhere = Arc::new(Semaphore::new(AT_ALL));
        let secret = config.provider_token.clone();
        Ok(Calls { fetcher, secret, everywhere, places: Mutex::default(), waiting: Mutex::default() })
    }

    /// Sends to the provider at this base URL, which may want to know who asks.
    pub async fn send(&self, base: &str, mut request: Request) -> Result<Fetched, FetchError> {
        if let Some(secret) = &self.secret {
            request.headers.push(("authorization".into(), format!("Bearer {}", secret.token(base))));
        }
        self.fetcher.send(request).await
    }

    /// A place at this provider, among all; nothing when none becomes free for a while. It is taken before anything
    /// is written down, so that whoever waits holds no money and looks to nobody as if it were at work.
    pub async fn place(&self, offer: &Offer) -> Option<Place> {
        let until = Instant::now() + PATIENCE;
        let there = self.places_at(offer).acquire_owned();
        let there = tokio::time::timeout_at(until, there).await.ok()?.ok()?;
        let everywhere = self.everywhere.clone().acquire_owned();
        let everywhere = tokio::time::timeout_at(until, everywhere).await.ok()?.ok()?;
        Some(Place { _there: there, _everywhere: everywhere })
    }

    fn places_at(&self, offer: &Offer) -> Arc<Semaphore> {
        let most = offer.caps.max_jobs.and_then(|most| usize::try_from(most).ok());
        let count = most.unwrap_or(AT_ONE_PROVIDER).clamp(1, AT_ONE_PROVIDER);
        let mut known = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MANY_PROVIDERS {
            known.retain(|_, places| {
                Arc::strong_count(&places.free) > 1 || places.free.available_permits() < places.count
            });
        }
        let fresh = || Places { count, free: Arc::new(Semaphore::new(count)) };
        let places = known.entry(offer.standing.worker_id.clone()).or_insert_with(fresh);
        // It does more or fewer than before: calls under way keep the places that they have.
        if places.count != count {
            *places = fresh();
        }
        places.free.clone()
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
        }
    }
}
