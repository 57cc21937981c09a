//! Keeps the index of offers true: whatever was committed about a worker in this process is in it before the next
//! choice is made; what other processes committed follows within a second.

use std::{
    collections::{HashMap, HashSet},
    sync::{PoisonError, RwLock},
};

use oa_contract::{Fault, Owner, Stop, Timestamp};
use oa_market::{Candidate, Index, Need, Offer, Standing, index::Ranked};
use oa_store::{
    Store, Tx,
    tables::{
        reserve_pool,
        workers::{self, WorkerRow},
    },
};

use crate::{
    hub::Hub,
    workers::{metadata, reputation},
};

/// Workers in one look.
const BATCH: usize = 500;
/// Changes that were begun earlier may be committed later, by so much.
const OVERLAP_MS: i64 = 10_000;

/// The offers, and how far the store was looked through.
#[derive(Default)]
pub struct Market {
    index: RwLock<Index>,
    seen: tokio::sync::Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    loaded: bool,
    /// Changes that were looked at, by worker, as far back as they may still be overtaken.
    changes: HashMap<String, Timestamp>,
    latest: Option<Timestamp>,
}

/// Names of changed workers that were taken to be looked up. Those that were not go back, also when whoever looked is
/// not there any more: a request may end, or be ended, at any place where it waits.
struct Taken<'a> {
    hub: &'a Hub,
    names: HashSet<String>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.names.is_empty() {
            self.hub.return_changed_workers(std::mem::take(&mut self.names));
        }
    }
}

impl Market {
    /// Brings the index up to what is committed.
    pub async fn refresh(&self, store: &Store, hub: &Hub) -> Result<(), Stop> {
        let mut seen = self.seen.lock().await;
        let mut taken = Taken { hub, names: hub.take_changed_workers() };
        if !seen.loaded {
            taken.names.extend(everybody(store).await?);
        }
        self.look(store, taken).await?;
        seen.loaded = true;
        Ok(())
    }

    /// Looks for what other processes have changed.
    pub async fn follow(&self, store: &Store, hub: &Hub, now: Timestamp) -> Result<(), Stop> {
        self.refresh(store, hub).await?;
        let mut seen = self.seen.lock().await;
        let since = seen.latest.unwrap_or(now).plus_millis(-OVERLAP_MS);
        let mut changes = HashMap::new();
        let mut place = (since, String::new());
        loop {
            let page = store.read("market.changed", place.clone(), changed).await?;
            let whole = page.len() == BATCH;
            if let Some((worker_id, at)) = page.last() {
                place = (*at, worker_id.clone());
            }
            changes.extend(page);
            if !whole {
                break;
            }
        }
        let fresh = changes.iter().filter(|(name, at)| seen.changes.get(*name) != Some(at));
        let names: HashSet<String> = fresh.map(|(name, _)| name.clone()).collect();
        self.look(store, Taken { hub, names }).await?;
        seen.latest = changes.values().copied().max().or(Some(now)).max(seen.latest);
        seen.changes = changes;
        Ok(())
    }

    async fn look(&self, store: &Store, mut taken: Taken<'_>) -> Result<(), Stop> {
        while !taken.names.is_empty() {
            let batch: Vec<String> = taken.names.iter().take(BATCH).cloned().collect();
            let offers = store.read("market.look", batch, look).await?;
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            for (worker_id, offer) in offers {
                index.put(&worker_id, offer);
                taken.names.remove(&worker_id);
            }
        }
        Ok(())
    }

    pub fn rank(&self, need: Need<'_>, limit: usize) -> Ranked {
        self.at(need, |index| index.rank(need, limit))
    }

    /// How many could be had now.
    pub fn count(&self, need: Need<'_>) -> (usize, (u64, u64)) {
        self.at(need, |index| (index.len(), index.count(need)))
    }

    /// Adds this one to those that were found, if it can do the job at all.
    pub fn with_named(&self, ranked: &mut Ranked, need: Need<'_>, worker_id: &str) {
        let there = |one: &Candidate| one.offer.standing.worker_id == worker_id;
        if !ranked.candidates.iter().any(there) {
            ranked.candidates.extend(self.with(|index| index.candidate(need, worker_id)));
        }
    }

    /// Looks into the index as it is at this moment: whoever is silent by now is put apart before.
    fn at<T>(&self, need: Need<'_>, look: impl FnOnce(&Index) -> T) -> T {
        let settled = self.with(|index| index.is_settled(need.now, need.stale_after_ms));
        if !settled {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            index.settle(need.now, need.stale_after_ms);
        }
        self.with(look)
    }

    /// Looks into the index.
    pub fn with<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn everybody(store: &Store) -> Result<HashSet<String>, Stop> {
    let page = async |tx: &mut Tx, after: &String| workers::all_after(tx, after, BATCH as u32).await;
    let mut all = HashSet::new();
    let mut after = String::new();
    loop {
        let page = store.read("market.everybody", after, page).await?;
        let Some(last) = page.last().cloned() else { return Ok(all) };
        after = last;
        all.extend(page);
    }
}

async fn changed(
    tx: &mut Tx,
    (since, after): &(Timestamp, String),
) -> Result<Vec<(String, Timestamp)>, Stop> {
    workers::changed(tx, *since, after, BATCH as u32).await
}

async fn look(tx: &mut Tx, names: &Vec<String>) -> Result<Vec<(String, Option<Offer>)>, Stop> {
    let mut offers = Vec::with_capacity(names.len());
    for name in names {
        let offer = match workers::get(tx, name).await? {
            // What does not even name the role is not read any further.
            Some(row) if row.metadata.get().contains("\"provider\"") => {
                let reserved = reserve_pool::since(tx, name).await?.is_some();
                offer(&row, reserved)?
            }
            _ => None,
        };
        offers.push((name.clone(), offer));
    }
    Ok(offers)
}

/// What a worker offers, if it is a provider.
pub fn offer(row: &WorkerRow, reserved: bool) -> Result<Option<Offer>, Fault> {
    let known = &row.reputation;
    let marks = metadata::read(&known.marks)?;
    let standing = Standing {
        worker_id: row.worker_id.clone(),
        owner: row.owner.clone(),
        adapter: row.adapter.clone(),
        status: row.status,
        last_heartbeat_at: row.last_heartbeat_at,
        updated_at: row.updated_at,
        latest_seq: row.latest_seq,
        failure_strikes: known.failure_strikes,
        success_count: known.success_count,
        quarantine: known.quarantined_at.map(|_| known.quarantine_reason.clone()),
        price_integrity_samples: reputation::number(row, "price_integrity_samples")?,
        price_integrity_violations: reputation::number(row, "price_integrity_violations")?,
        last_price_variance_bps: marks.get("last_price_variance_bps").and_then(serde_json::Value::as_u64),
        reserve_pool: reserved,
        qualified: known.qualified_at.is_some(),
    };
    Ok(Offer::read(standing, &metadata::read(&row.metadata)?))
}

/// Whether two offers are the same to whoever buys: what is asked for and what is known has not changed.
pub fn still_stands(seen: &Offer, now: &Offer, owner: &Owner) -> bool {
    let reachable = now.base() == seen.base() && now.standing.qualified && !now.is_quarantined();
    let allowed = now.standing.owner == *owner || now.standing.reserve_pool;
    reachable && allowed && now.standing.status == seen.standing.status
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use oa_contract::wire::workers::RegisterWorker;

    use super::*;
    use crate::{
        testing::{HealthRoute, World, on_each_engine, operator},
        workers::tests_support::{raw, register, user},
    };

    #[tokio::test]
    async fn what_changed_is_looked_up_also_when_the_first_who_looks_goes_away() {
        on_each_engine(async |world: World| {
            let runtime = &world.runtime;
            let market = Market::default();
            market.refresh(&runtime.store, &runtime.hub).await.expect("loaded");
            let route = HealthRoute::answering(200).await;
            let metadata = format!(
                r#"{{"roles":["provider"],"provider_base_url":"{}","capabilities":["oa.sandbox_run.v1"]}}"#,
                route.base()
            );
            let mut left = None;
            // The store may be so quick that nobody has to wait for it; then somebody else tries.
            for number in 0..100 {
                let id = format!("p{number}");
                let body =
                    RegisterWorker { worker_id: Some(id.clone()), metadata: Some(raw(&metadata)), ..user(1) };
                register(&world, &operator(), body).await.expect("registered");
                // It has taken the names and waits for the store when its request ends.
                let mut leaves = pin!(market.refresh(&runtime.store, &runtime.hub));
                if leaves.as_mut().now_or_never().is_none() {
                    left = Some(id);
                    break;
                }
            }
            let left = left.expect("somebody who waits");
            assert!(market.with(|index| index.get(&left).is_none()));
            market.refresh(&runtime.store, &runtime.hub).await.expect("refreshed");
            assert!(market.with(|index| index.get(&left).is_some()));
            assert!(runtime.hub.take_changed_workers().is_empty());
        })
        .await;
    }
}
