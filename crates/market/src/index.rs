//! Decides who comes first (marketplace §5). Offers stand on shelves, one a capability, in the order in which they
//! are chosen; an offer moves when its worker changes, so choosing looks at no more offers than it answers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use oa_contract::{
    Owner, Timestamp,
    wire::{
        jobs::Resources,
        marketplace::{Considered, ConsideredOutcome, SelectionTier, SupplyClass, Tier},
        workers::{HeartbeatState, WorkerStatus},
    },
};

use crate::{
    offer::{Caps, Offer},
    price::{AllIn, all_in},
};

const STRIKE_COST: u64 = 500;
const PROVISIONAL_COST: u64 = 1_000;
const PRICE_VIOLATION_COST: u64 = 2_000;
/// Offers of the owner that cannot be had, of which it is said why.
const IDLE_EXPLAINED: usize = 8;
/// Offers that are passed over in one look, of which it is said why.
const PASSED_EXPLAINED: usize = 16;

/// What is compared, from left to right; the smallest wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    cost: u64,
    tier: u8,
    topology: u8,
    failure_strikes: u64,
    provider_id: String,
    worker_id: String,
}

type Ordered = BTreeMap<Rank, Arc<Offer>>;
type Listed = BTreeMap<(String, String), Arc<Offer>>;

/// Offers that can be had for one capability, as long as they are heard of.
#[derive(Default)]
struct Shelf {
    owned: HashMap<Owner, Ordered>,
    reserve: Ordered,
}

/// All offers.
#[derive(Default)]
pub struct Index {
    offers: HashMap<String, Arc<Offer>>,
    shelves: HashMap<String, Shelf>,
    listed: Listed,
    listed_by_owner: HashMap<Owner, Listed>,
    /// Offers that cannot be had, by owner.
    idle: HashMap<Owner, Listed>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    pub capability: &'a str,
    pub owner: &'a Owner,
    /// What the job may use; whoever offers less cannot do it.
    pub resources: Option<&'a Resources>,
    pub now: Timestamp,
    pub stale_after_ms: i64,
}

/// Somebody who can do it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub offer: Arc<Offer>,
    pub tier: SelectionTier,
    /// None when no price is asked.
    pub price: Option<AllIn>,
    pub ranked_cost: u64,
}

/// Who can do it, best first, and of whoever could not, why.
#[derive(Clone, Debug, Default)]
pub struct Ranked {
    pub candidates: Vec<Candidate>,
    pub passed: Vec<Considered>,
}

impl Index {
    /// What is known of a worker from now on; nothing when it is no provider any more.
    pub fn put(&mut self, worker_id: &str, offer: Option<Offer>) {
        if let Some(old) = self.offers.remove(worker_id) {
            self.take_down(&old);
        }
        if let Some(offer) = offer {
            let offer = Arc::new(offer);
            self.offers.insert(worker_id.to_owned(), offer.clone());
            self.put_up(&offer);
        }
    }

    pub fn get(&self, worker_id: &str) -> Option<&Arc<Offer>> {
        self.offers.get(worker_id)
    }

    pub fn len(&self) -> usize {
        self.offers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// Every offer, or an owner's, behind a place in the list: ascending by provider, then by worker.
    pub fn listed<'a>(
        &'a self,
        owner: Option<&Owner>,
        after: Option<(String, String)>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Offer>> + 'a> {
        let listed = match owner {
            None => Some(&self.listed),
            Some(owner) => self.listed_by_owner.get(owner),
        };
        let Some(listed) = listed else { return Box::new(std::iter::empty()) };
        match after {
            None => Box::new(listed.values()),
            Some(after) => {
                let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
                Box::new(listed.range(behind).map(|(_, offer)| offer))
            }
        }
    }

    /// The best `limit` who can do it: the owner's own first, then the reserve pool.
    pub fn rank(&self, need: Need<'_>, limit: usize) -> Ranked {
        let mut ranked = Ranked::default();
        let capability = need.capability.trim();
        if let Some(shelf) = self.shelves.get(capability).filter(|_| !capability.is_empty()) {
            let owned = shelf.owned.get(need.owner).into_iter().flatten();
            let owned = owned.map(|(rank, offer)| (rank, offer, SelectionTier::Owned));
            let reserve = shelf.reserve.iter().filter(|(_, offer)| offer.standing.owner != *need.owner);
            let reserve = reserve.map(|(rank, offer)| (rank, offer, SelectionTier::ReservePool));
            for (rank, offer, tier) in owned.chain(reserve) {
                if ranked.candidates.len() >= limit {
                    break;
                }
                ranked.look(need, capability, rank, offer, tier);
            }
        }
        let idle = self.idle.get(need.owner).into_iter().flatten().take(IDLE_EXPLAINED);
        ranked.passed.extend(idle.map(|(_, offer)| considered(offer, None, idle_reason(offer))));
        ranked
    }

    /// How many could be had now: the owner's own, and others in the reserve pool.
    pub fn count(&self, need: Need<'_>) -> (u64, u64) {
        let capability = need.capability.trim();
        let Some(shelf) = self.shelves.get(capability).filter(|_| !capability.is_empty()) else {
            return (0, 0);
        };
        let fresh =
            |offer: &Arc<Offer>| offer.liveness(need.now, need.stale_after_ms).0 == HeartbeatState::Fresh;
        let owned = shelf.owned.get(need.owner).into_iter().flatten().filter(|(_, offer)| fresh(offer));
        let others = shelf.reserve.values().filter(|offer| offer.standing.owner != *need.owner);
        (owned.count() as u64, others.filter(|offer| fresh(offer)).count() as u64)
    }

    fn put_up(&mut self, offer: &Arc<Offer>) {
        let place = place(offer);
        let owner = &offer.standing.owner;
        self.listed.insert(place.clone(), offer.clone());
        self.listed_by_owner.entry(owner.clone()).or_default().insert(place.clone(), offer.clone());
        if !can_be_had(offer) {
            self.idle.entry(owner.clone()).or_default().insert(place, offer.clone());
            return;
        }
        for capability in &offer.capabilities {
            let shelf = self.shelves.entry(capability.clone()).or_default();
            let rank = rank(offer, capability);
            shelf.owned.entry(owner.clone()).or_default().insert(rank.clone(), offer.clone());
            if offer.supply_class == SupplyClass::ReservePool {
                shelf.reserve.insert(rank, offer.clone());
            }
        }
    }

    fn take_down(&mut self, offer: &Arc<Offer>) {
        let place = place(offer);
        let owner = &offer.standing.owner;
        self.listed.remove(&place);
        remove_from(&mut self.listed_by_owner, owner, &place);
        remove_from(&mut self.idle, owner, &place);
        for capability in &offer.capabilities {
            let Some(shelf) = self.shelves.get_mut(capability) else { continue };
            let rank = rank(offer, capability);
            shelf.reserve.remove(&rank);
            remove_from(&mut shelf.owned, owner, &rank);
            if shelf.owned.is_empty() && shelf.reserve.is_empty() {
                self.shelves.remove(capability);
            }
        }
    }
}

impl Ranked {
    fn look(
        &mut self,
        need: Need<'_>,
        capability: &str,
        rank: &Rank,
        offer: &Arc<Offer>,
        tier: SelectionTier,
    ) {
        let (state, age) = offer.liveness(need.now, need.stale_after_ms);
        let unfit = match state {
            HeartbeatState::Fresh => need.resources.and_then(|resources| unfit(&offer.caps, resources)),
            HeartbeatState::Missing => Some("it was never heard of".to_owned()),
            _ => Some(format!("it was last heard of {} ms ago", age.unwrap_or_default())),
        };
        match unfit {
            None => self.candidates.push(Candidate {
                offer: offer.clone(),
                tier,
                price: all_in(offer, capability),
                ranked_cost: rank.cost,
            }),
            Some(why) if self.passed.len() < PASSED_EXPLAINED => {
                self.passed.push(considered(offer, Some(tier), why));
            }
            Some(_) => {}
        }
    }
}

impl Candidate {
    /// Why this one was chosen, or what it lost to.
    pub fn considered(&self, winner: Option<&Candidate>) -> Considered {
        let (outcome, reason) = match winner {
            None if self.tier == SelectionTier::Owned => {
                (ConsideredOutcome::Selected, "the best of the owner's own".to_owned())
            }
            None => (
                ConsideredOutcome::Selected,
                "the best of the reserve pool; none of the owner's own can do it".into(),
            ),
            Some(winner) => (ConsideredOutcome::Outranked, lost(self, winner)),
        };
        Considered {
            provider_id: self.offer.provider_id.clone(),
            worker_id: self.offer.standing.worker_id.clone(),
            tier: Some(self.tier),
            total_price_msats: self.total(),
            ranked_cost_msats: self.price.is_some().then_some(self.ranked_cost),
            outcome,
            reason,
        }
    }

    pub fn total(&self) -> Option<u64> {
        self.price.and_then(|price| price.total().ok()).map(|total| total.get())
    }
}

fn lost(one: &Candidate, winner: &Candidate) -> String {
    let name = &winner.offer.provider_id;
    if one.tier != winner.tier {
        return format!("the owner's own come before the reserve pool, and {name} is one");
    }
    if one.price.is_none() {
        return format!("it names no price, and {name} does");
    }
    if one.ranked_cost != winner.ranked_cost {
        return format!("{name} costs less: {} instead of {}", winner.ranked_cost, one.ranked_cost);
    }
    if one.offer.tier != winner.offer.tier {
        return format!("{name} costs the same and has the better record");
    }
    format!("{name} costs the same and comes first by its kind or name")
}

fn considered(offer: &Offer, tier: Option<SelectionTier>, reason: String) -> Considered {
    Considered {
        provider_id: offer.provider_id.clone(),
        worker_id: offer.standing.worker_id.clone(),
        tier,
        total_price_msats: None,
        ranked_cost_msats: None,
        outcome: ConsideredOutcome::Ineligible,
        reason,
    }
}

/// What a job asks for beyond what the provider offers.
pub fn unfit(caps: &Caps, resources: &Resources) -> Option<String> {
    let whole = [
        ("timeout_secs", u64::from(resources.timeout_secs), Some(caps.max_timeout_secs)),
        ("memory_mb", u64::from(resources.memory_mb), caps.max_memory_mb),
        ("disk_mb", resources.disk_mb.map_or(0, u64::from), caps.max_disk_mb),
    ];
    for (member, wanted, most) in whole {
        if let Some(most) = most.filter(|most| wanted > *most) {
            return Some(format!("the job asks for {member} {wanted}, and it offers {most}"));
        }
    }
    let cpus = caps.max_cpus.filter(|most| f64::from(resources.cpus) > *most);
    cpus.map(|most| format!("the job asks for cpus {}, and it offers {most}", resources.cpus))
}

/// Whether an offer can be had as long as its worker is heard of.
fn can_be_had(offer: &Offer) -> bool {
    offer.base().is_some()
        && !offer.is_quarantined()
        && offer.standing.qualified
        && offer.standing.status == WorkerStatus::Running
}

fn idle_reason(offer: &Offer) -> String {
    if offer.is_quarantined() {
        return "it is quarantined".into();
    }
    if offer.standing.status != WorkerStatus::Running {
        return format!("it is {}", offer.standing.status.name());
    }
    if offer.base().is_none() {
        return "it says no address".into();
    }
    "its address or capabilities are not those that were checked: register it again".into()
}

fn place(offer: &Offer) -> (String, String) {
    (offer.provider_id.clone(), offer.standing.worker_id.clone())
}

fn remove_from<V: Ord>(all: &mut HashMap<Owner, BTreeMap<V, Arc<Offer>>>, owner: &Owner, key: &V) {
    if let Some(owned) = all.get_mut(owner) {
        owned.remove(key);
        if owned.is_empty() {
            all.remove(owner);
        }
    }
}

fn rank(offer: &Offer, capability: &str) -> Rank {
    let standing = &offer.standing;
    let total = all_in(offer, capability).and_then(|price| price.total().ok());
    let cost = total.map_or(u64::MAX, |total| {
        total
            .get()
            .saturating_add(STRIKE_COST.saturating_mul(standing.failure_strikes))
            .saturating_add(if offer.tier == Tier::Provisional { PROVISIONAL_COST } else { 0 })
            .saturating_add(PRICE_VIOLATION_COST.saturating_mul(standing.price_integrity_violations))
    });
    let tier = match offer.tier {
        Tier::Preferred => 0,
        Tier::Qualified => 1,
        Tier::Provisional => 2,
    };
    let topology = match offer.supply_class {
        SupplyClass::LocalCluster if offer.cluster_members.len() >= 2 => 0,
        SupplyClass::LocalCluster | SupplyClass::BundleRack => 1,
        SupplyClass::InstanceMarket => 2,
        SupplyClass::SingleNode => 3,
        SupplyClass::ReservePool => 4,
    };
    Rank {
        cost,
        tier,
        topology,
        failure_strikes: standing.failure_strikes,
        provider_id: offer.provider_id.clone(),
        worker_id: standing.worker_id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::offer::{
        Standing,
        tests::{NOW, offer, standing},
    };

    const SANDBOX: &str = "oa.sandbox_run.v1";

    fn priced(standing: Standing, price: u64, mut more: Value) -> Offer {
        more["min_price_msats"] = price.into();
        offer(standing, more)
    }

    fn index(offers: impl IntoIterator<Item = Offer>) -> Index {
        let mut index = Index::default();
        for offer in offers {
            index.put(&offer.standing.worker_id.clone(), Some(offer));
        }
        index
    }

    fn need<'a>(owner: &'a Owner, resources: Option<&'a Resources>) -> Need<'a> {
        Need { capability: SANDBOX, owner, resources, now: NOW, stale_after_ms: 120_000 }
    }

    fn order(index: &Index, owner: u64) -> Vec<(String, &'static str)> {
        let ranked = index.rank(need(&Owner::User(owner), None), 100);
        let name = |one: Candidate| (one.offer.standing.worker_id.clone(), one.tier.name());
        ranked.candidates.into_iter().map(name).collect()
    }

    fn first(offers: impl IntoIterator<Item = Offer>) -> String {
        order(&index(offers), 1)[0].0.clone()
    }

    #[test]
    fn the_worked_checks_of_the_specification_hold() {
        let struck = Standing { failure_strikes: 2, ..standing("struck", 1) };
        assert_eq!(
            first([priced(struck, 1000, json!({})), priced(standing("clean", 1), 1200, json!({}))]),
            "clean"
        );
        let market = Standing { adapter: "instance_market_adapter".into(), ..standing("market", 1) };
        assert_eq!(
            first([priced(market, 900, json!({})), priced(standing("single", 1), 1000, json!({}))]),
            "single"
        );
        let preferred = Standing { success_count: 5, ..standing("z", 1) };
        assert_eq!(
            first([priced(preferred, 1000, json!({})), priced(standing("a", 1), 1000, json!({}))]),
            "z"
        );
        let cluster = json!({"supply_class": "local_cluster", "cluster_members": ["a", "b"]});
        assert_eq!(
            first([priced(standing("z", 1), 1000, cluster), priced(standing("a", 1), 1000, json!({}))]),
            "z"
        );
    }

    #[test]
    fn broken_prices_cost_and_no_price_comes_last() {
        let broken = Standing { price_integrity_violations: 1, ..standing("broken", 1) };
        let all = index([
            priced(broken, 1000, json!({})),
            priced(standing("dear", 1), 2980, json!({})),
            offer(standing("free", 1), json!({})),
        ]);
        let names: Vec<_> = order(&all, 1).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["dear", "broken", "free"]);
    }

    #[test]
    fn the_owners_own_come_first_and_strangers_only_from_the_reserve() {
        let pool = |name: &str, owner| Standing { reserve_pool: true, ..standing(name, owner) };
        let all = index([
            priced(standing("own", 1), 9000, json!({})),
            priced(pool("own-pool", 1), 10_000, json!({})),
            priced(pool("pool-b", 2), 20, json!({})),
            priced(pool("pool-a", 3), 10, json!({})),
            priced(standing("stranger", 2), 1, json!({})),
        ]);
        let expected =
            [("own", "owned"), ("own-pool", "owned"), ("pool-a", "reserve_pool"), ("pool-b", "reserve_pool")];
        assert_eq!(order(&all, 1), expected.map(|(name, tier)| (name.to_owned(), tier)));
        assert_eq!(all.count(need(&Owner::User(1), None)), (2, 2));
        assert_eq!(all.count(need(&Owner::User(2), None)), (2, 2));
    }

    #[test]
    fn who_cannot_be_had_is_not_and_it_is_said_why() {
        let mut all = index([
            priced(Standing { quarantine: Some(None), ..standing("q", 1) }, 1, json!({})),
            priced(Standing { status: WorkerStatus::Stopping, ..standing("s", 1) }, 1, json!({})),
            priced(standing("u", 1), 1, json!({"provider_base_url": " / "})),
            priced(standing("c", 1), 1, json!({"capabilities": ["other"]})),
            priced(
                Standing { last_heartbeat_at: Some(NOW.plus_millis(-120_001)), ..standing("old", 1) },
                1,
                json!({}),
            ),
            priced(standing("small", 1), 1, json!({"caps": {"max_timeout_secs": 59}})),
            priced(standing("good", 1), 1000, json!({})),
        ]);
        let resources = Resources::default();
        let ranked = all.rank(need(&Owner::User(1), Some(&resources)), 3);
        assert_eq!(ranked.candidates.len(), 1);
        let said: Vec<_> =
            ranked.passed.iter().map(|one| format!("{}: {}", one.worker_id, one.reason)).collect();
        assert_eq!(
            said,
            [
                "old: it was last heard of 120001 ms ago",
                "small: the job asks for timeout_secs 60, and it offers 59",
                "q: it is quarantined",
                "s: it is stopping",
                "u: it says no address",
            ]
        );
        // Coming back is one change.
        all.put("q", Some(priced(standing("q", 1), 1, json!({}))));
        assert_eq!(order(&all, 1)[0].0, "q");
        all.put("q", None);
        assert_eq!((order(&all, 1)[0].0.as_str(), all.len()), ("small", 6));
    }

    #[test]
    fn a_blank_capability_finds_nobody() {
        let all = index([priced(standing("w", 1), 1, json!({"capabilities": ["", " ", SANDBOX]}))]);
        for (capability, found) in [("", 0), ("  ", 0), (" oa.sandbox_run.v1 ", 1), ("oa.sandbox_run", 0)] {
            let owner = Owner::User(1);
            let ranked = all.rank(Need { capability, ..need(&owner, None) }, 9);
            assert_eq!(ranked.candidates.len(), found, "{capability:?}");
        }
    }

    #[test]
    fn whatever_changes_the_index_is_that_of_the_offers_that_stand() {
        // Offers change at random; in the end choosing answers as if only the last ones had been put up.
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut changing = Index::default();
        let mut last: HashMap<String, Offer> = HashMap::new();
        for _ in 0..3000 {
            let name = format!("w{}", random(40));
            let said = Standing {
                failure_strikes: random(3),
                success_count: random(7),
                reserve_pool: random(4) == 0,
                quarantine: (random(9) == 0).then_some(None),
                ..standing(&name, random(3))
            };
            let new = (random(10) > 0).then(|| priced(said, 1 + random(5), json!({})));
            changing.put(&name, new.clone());
            match new {
                Some(offer) => last.insert(name, offer),
                None => last.remove(&name),
            };
        }
        let standing = index(last.into_values());
        for owner in 0..4 {
            assert_eq!(order(&changing, owner), order(&standing, owner));
        }
        let names = |index: &Index| index.listed(None, None).map(|offer| place(offer)).collect::<Vec<_>>();
        assert_eq!(names(&changing), names(&standing));
    }

    #[test]
    fn pages_of_the_list_go_on_behind_a_place() {
        let named = |worker: &str, provider: &str, owner| {
            offer(standing(worker, owner), json!({"provider_id": provider}))
        };
        let all = index([named("w2", "a", 1), named("w1", "b", 2), named("w1b", "a", 1)]);
        let names = |owner: Option<u64>, after: Option<(&str, &str)>| {
            let after = after.map(|(provider, worker)| (provider.to_owned(), worker.to_owned()));
            let owner = owner.map(Owner::User);
            all.listed(owner.as_ref(), after)
                .map(|offer| offer.standing.worker_id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(None, None), ["w1b", "w2", "w1"]);
        assert_eq!(names(None, Some(("a", "w1b"))), ["w2", "w1"]);
        assert_eq!(names(Some(1), None), ["w1b", "w2"]);
        assert_eq!(names(Some(9), None), Vec::<String>::new());
    }
}
