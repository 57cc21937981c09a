//! Decides who comes first (marketplace §5). Offers stand on shelves, one a capability, in the order in which they
//! are chosen; an offer moves when its worker changes or is not heard of any more, so choosing looks at no more
//! offers than it answers with.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    shelf::{Piles, Placed, Rank, Shelf},
};

const STRIKE_COST: u64 = 500;
const PROVISIONAL_COST: u64 = 1_000;
const PRICE_VIOLATION_COST: u64 = 2_000;
/// Offers of the owner that cannot be had, of which it is said why.
const IDLE_EXPLAINED: usize = 8;
/// Offers that are passed over in one look, of which it is said why.
const PASSED_EXPLAINED: usize = 16;

type Listed = BTreeMap<(String, String), Arc<Offer>>;

/// All offers.
#[derive(Default)]
pub struct Index {
    offers: HashMap<String, Arc<Offer>>,
    shelves: HashMap<String, Shelf>,
    listed: Listed,
    listed_by_owner: HashMap<Owner, Listed>,
    /// Offers that cannot be had, by owner.
    idle: HashMap<Owner, Listed>,
    /// Offers on shelves by when they were last heard of, up to the line and beyond it.
    silent: BTreeSet<(Timestamp, String)>,
    heard: BTreeSet<(Timestamp, String)>,
    /// Whoever was last heard of before this lies with those that are silent. It moves with time.
    line: Option<Timestamp>,
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
    /// Piles and offers that were looked at for it.
    pub looked_at: usize,
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

    /// Whether everybody lies where they belong at this moment.
    pub fn is_settled(&self, now: Timestamp, stale_after_ms: i64) -> bool {
        let line = line(now, stale_after_ms);
        let silent = self.heard.first().is_some_and(|(at, _)| *at < line);
        let back = self.silent.last().is_some_and(|(at, _)| *at >= line);
        !silent && !back
    }

    /// Time has passed: whoever was not heard of since is put apart. Each offer is moved once for each time that it
    /// was heard of.
    pub fn settle(&mut self, now: Timestamp, stale_after_ms: i64) {
        let line = line(now, stale_after_ms);
        self.line = Some(line);
        let before = (line, String::new());
        let rest = self.heard.split_off(&before);
        let mut moved = std::mem::replace(&mut self.heard, rest);
        // Only where the clock went back.
        moved.extend(self.silent.split_off(&before));
        for (_, worker_id) in moved {
            let Some(offer) = self.offers.get(&worker_id).cloned() else { continue };
            self.take_down(&offer);
            self.put_up(&offer);
        }
    }

    /// The best `limit` who can do it: the owner's own first, then the reserve pool.
    pub fn rank(&self, need: Need<'_>, limit: usize) -> Ranked {
        let mut ranked = Ranked::default();
        let capability = need.capability.trim();
        if let Some(shelf) = self.shelves.get(capability).filter(|_| !capability.is_empty()) {
            let sources = [
                (SelectionTier::Owned, shelf.owned.get(need.owner)),
                (SelectionTier::ReservePool, Some(&shelf.reserve)),
            ];
            for (tier, piles) in sources {
                let Some(piles) = piles else { continue };
                if ranked.candidates.len() >= limit {
                    break;
                }
                ranked.look(need, capability, tier, piles, limit);
            }
        }
        let idle = self.idle.get(need.owner).into_iter().flatten().take(IDLE_EXPLAINED);
        ranked.passed.extend(idle.map(|(_, offer)| considered(offer, None, idle_reason(offer))));
        ranked
    }

    /// This very one, if it can do the job at all.
    pub fn candidate(&self, need: Need<'_>, worker_id: &str) -> Option<Candidate> {
        let capability = need.capability.trim();
        let offer = self.offers.get(worker_id).filter(|offer| can_be_had(offer))?;
        let tier = match offer.supply_class {
            _ if offer.standing.owner == *need.owner => SelectionTier::Owned,
            SupplyClass::ReservePool => SelectionTier::ReservePool,
            _ => return None,
        };
        let offers = !capability.is_empty() && offer.capabilities.iter().any(|one| one == capability);
        let can = offers && why_not(offer, need).is_none();
        can.then(|| Candidate {
            offer: offer.clone(),
            tier,
            price: all_in(offer, capability),
            ranked_cost: rank(offer, capability).cost,
        })
    }

    /// How many could be had when everybody was last put where they belong: the owner's own, and others in the
    /// reserve pool.
    pub fn count(&self, need: Need<'_>) -> (u64, u64) {
        let capability = need.capability.trim();
        let Some(shelf) = self.shelves.get(capability).filter(|_| !capability.is_empty()) else {
            return (0, 0);
        };
        let heard_of = |piles: Option<&Piles>| piles.map_or(0, Piles::heard_of) as u64;
        let own_reserve = heard_of(shelf.reserve_owned.get(need.owner));
        (heard_of(shelf.owned.get(need.owner)), heard_of(Some(&shelf.reserve)) - own_reserve)
    }

    /// Whether it lies with those that are heard of.
    fn is_heard(&self, offer: &Offer) -> bool {
        let at = offer.standing.last_heartbeat_at;
        at.is_some_and(|at| self.line.is_none_or(|line| at >= line))
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
        let heard = self.is_heard(offer);
        if let Some(beat) = beat(offer) {
            if heard { &mut self.heard } else { &mut self.silent }.insert(beat);
        }
        let reserve = offer.supply_class == SupplyClass::ReservePool;
        for capability in &offer.capabilities {
            let shelf = self.shelves.entry(capability.clone()).or_default();
            shelf.put(rank(offer, capability), offer, reserve, heard);
        }
    }

    fn take_down(&mut self, offer: &Arc<Offer>) {
        let place = place(offer);
        let owner = &offer.standing.owner;
        self.listed.remove(&place);
        remove_from(&mut self.listed_by_owner, owner, &place);
        remove_from(&mut self.idle, owner, &place);
        if let Some(beat) = beat(offer) {
            self.heard.remove(&beat);
            self.silent.remove(&beat);
        }
        for capability in &offer.capabilities {
            let Some(shelf) = self.shelves.get_mut(capability) else { continue };
            shelf.take(&rank(offer, capability), offer);
            if shelf.is_empty() {
                self.shelves.remove(capability);
            }
        }
    }
}

impl Ranked {
    /// Candidates from these piles, up to the limit; and of those that stand before the last of them but cannot do
    /// it, why.
    fn look(&mut self, need: Need<'_>, capability: &str, tier: SelectionTier, piles: &Piles, limit: usize) {
        self.looked_at += piles.width();
        let theirs =
            |offer: &Offer| tier == SelectionTier::ReservePool && offer.standing.owner == *need.owner;
        let mut last = None;
        let mut passed: Vec<(Placed<'_>, String)> = Vec::new();
        for (rank, offer) in piles.fit(need.resources) {
            if self.candidates.len() >= limit {
                last = Some(rank);
                break;
            }
            self.looked_at += 1;
            if theirs(offer) {
                continue;
            }
            // Time may have passed since they were put in their places.
            match why_not(offer, need) {
                None => self.candidates.push(Candidate {
                    offer: offer.clone(),
                    tier,
                    price: all_in(offer, capability),
                    ranked_cost: rank.cost,
                }),
                Some(why) => passed.push(((rank, offer), why)),
            }
        }
        let room = PASSED_EXPLAINED.saturating_sub(self.passed.len());
        let unfit = piles.unfit(need.resources).take_while(|(rank, _)| last.is_none_or(|last| *rank < last));
        for (rank, offer) in unfit.filter(|(_, offer)| !theirs(offer)).take(room) {
            self.looked_at += 1;
            let why = why_not(offer, need).unwrap_or_else(|| "it was silent a moment ago".to_owned());
            passed.push(((rank, offer), why));
        }
        passed.sort_by_key(|((rank, _), _)| *rank);
        let passed = passed.into_iter().take(room);
        self.passed.extend(passed.map(|((_, offer), why)| considered(offer, Some(tier), why)));
    }
}

/// What keeps an offer on a shelf from doing a job, if anything does.
fn why_not(offer: &Offer, need: Need<'_>) -> Option<String> {
    let (state, age) = offer.liveness(need.now, need.stale_after_ms);
    match state {
        HeartbeatState::Fresh => need.resources.and_then(|resources| unfit(&offer.caps, resources)),
        HeartbeatState::Missing => Some("it was never heard of".to_owned()),
        _ => Some(format!("it was last heard of {} ms ago", age.unwrap_or_default())),
    }
}

/// Whoever was last heard of before this is silent: its age in whole milliseconds is above the limit.
fn line(now: Timestamp, stale_after_ms: i64) -> Timestamp {
    Timestamp::from_micros(now.plus_millis(-stale_after_ms - 1).micros() + 1)
}

/// When an offer was last heard of, and whose it is.
fn beat(offer: &Offer) -> Option<(Timestamp, String)> {
    offer.standing.last_heartbeat_at.map(|at| (at, offer.standing.worker_id.clone()))
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
        index.settle(NOW, 120_000);
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
    fn choosing_looks_at_no_more_than_it_answers_with_however_many_there_are() {
        const ANSWER: usize = 8;
        let old = Some(NOW.plus_millis(-120_001));
        let pool = |name: &str, owner| Standing { reserve_pool: true, ..standing(name, owner) };
        // The best 9,990 are silent, too small, quarantined, or the caller's own in the pool but silent too.
        let offers = (0..10_000_u64).map(|n| {
            let name = format!("w{n:05}");
            let said = match n % 4 {
                _ if n >= 9_990 => (pool(&name, 2), json!({"caps": {"max_timeout_secs": 300}})),
                0 => (Standing { last_heartbeat_at: old, ..pool(&name, 2) }, json!({})),
                1 => (pool(&name, 3), json!({"caps": {"max_timeout_secs": 10 + n % 7}})),
                2 => (Standing { quarantine: Some(None), ..pool(&name, 4) }, json!({})),
                _ => (Standing { last_heartbeat_at: old, ..pool(&name, 1) }, json!({})),
            };
            priced(said.0, n + 1, said.1)
        });
        let mut all = index(offers);
        let resources = Resources { timeout_secs: 300, ..Resources::default() };
        let owner = Owner::User(1);
        let ranked = all.rank(need(&owner, Some(&resources)), ANSWER);
        assert_eq!(ranked.candidates[0].offer.standing.worker_id, "w09990");
        assert_eq!((ranked.candidates.len(), ranked.passed.len()), (ANSWER, PASSED_EXPLAINED));
        let most = ANSWER + PASSED_EXPLAINED + 2 * (8 + 1);
        assert!(ranked.looked_at <= most, "{} of at most {most}", ranked.looked_at);
        assert_eq!(all.count(need(&owner, None)), (0, 2_498 + 10));
        // Somebody in particular is found by name, whoever comes before.
        let named = |worker_id| all.candidate(need(&owner, Some(&resources)), worker_id);
        assert_eq!(named("w09999").expect("it can").offer.standing.worker_id, "w09999");
        for cannot in ["w00000", "w00001", "w00002", "w00003", "nobody"] {
            assert!(named(cannot).is_none(), "{cannot}");
        }
        // Two minutes later nobody was heard of; all are moved at once, and then none is looked at.
        let later = Need { now: NOW.plus_millis(120_002), ..need(&owner, Some(&resources)) };
        assert!(!all.is_settled(later.now, later.stale_after_ms));
        all.settle(later.now, later.stale_after_ms);
        let ranked = all.rank(later, ANSWER);
        assert!(ranked.candidates.is_empty() && ranked.looked_at <= most, "{}", ranked.looked_at);
        assert_eq!(all.count(later), (0, 0));
        // A clock that goes back brings them back.
        assert!(!all.is_settled(NOW, 120_000));
        all.settle(NOW, 120_000);
        assert_eq!(all.rank(need(&owner, Some(&resources)), ANSWER).candidates.len(), ANSWER);
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
