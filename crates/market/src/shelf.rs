//! Decides how the offers of one capability lie, so that choosing walks along none that it does not answer with:
//! whoever is not heard of any more lies apart, and the others lie by what they can take, each pile in the order in
//! which they are chosen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
};

use oa_contract::{Owner, wire::jobs::Resources};

use crate::offer::{Caps, Offer};

/// What is compared, from left to right; the smallest wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub cost: u64,
    pub tier: u8,
    pub topology: u8,
    pub failure_strikes: u64,
    pub provider_id: String,
    pub worker_id: String,
}

type Ordered = BTreeMap<Rank, Arc<Offer>>;
pub(crate) type Placed<'a> = (&'a Rank, &'a Arc<Offer>);

/// What an offer can take at most, as a key: a fleet has a handful of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Size {
    timeout_secs: u64,
    memory_mb: Option<u64>,
    cpus: Option<u64>,
    disk_mb: Option<u64>,
}

impl Size {
    fn of(caps: &Caps) -> Self {
        Size {
            timeout_secs: caps.max_timeout_secs,
            memory_mb: caps.max_memory_mb,
            cpus: caps.max_cpus.map(f64::to_bits),
            disk_mb: caps.max_disk_mb,
        }
    }

    fn takes(self, resources: &Resources) -> bool {
        let within = |wanted: u64, most: Option<u64>| most.is_none_or(|most| wanted <= most);
        within(u64::from(resources.timeout_secs), Some(self.timeout_secs))
            && within(u64::from(resources.memory_mb), self.memory_mb)
            && within(resources.disk_mb.map_or(0, u64::from), self.disk_mb)
            && self.cpus.is_none_or(|most| f64::from(resources.cpus) <= f64::from_bits(most))
    }
}

/// Offers among which one is chosen.
#[derive(Default)]
pub(crate) struct Piles {
    heard: HashMap<Size, Ordered>,
    silent: Ordered,
    /// Of those that are heard of.
    count: usize,
}

impl Piles {
    fn put(&mut self, rank: Rank, offer: &Arc<Offer>, heard: bool) {
        if !heard {
            self.silent.insert(rank, offer.clone());
            return;
        }
        let pile = self.heard.entry(Size::of(&offer.caps)).or_default();
        if pile.insert(rank, offer.clone()).is_none() {
            self.count += 1;
        }
    }

    fn take(&mut self, rank: &Rank, offer: &Offer) {
        self.silent.remove(rank);
        let size = Size::of(&offer.caps);
        let Some(pile) = self.heard.get_mut(&size) else { return };
        if pile.remove(rank).is_some() {
            self.count -= 1;
        }
        if pile.is_empty() {
            self.heard.remove(&size);
        }
    }

    fn is_empty(&self) -> bool {
        self.heard.is_empty() && self.silent.is_empty()
    }

    pub fn heard_of(&self) -> usize {
        self.count
    }

    /// How many piles are looked at before the first offer is.
    pub fn width(&self) -> usize {
        self.heard.len() + 1
    }

    /// Those that can do it, best first.
    pub fn fit<'a>(&'a self, resources: Option<&Resources>) -> Merged<'a> {
        self.merged(|size| resources.is_none_or(|resources| size.takes(resources)), false)
    }

    /// Those that cannot: not heard of any more, or too small. Best first.
    pub fn unfit<'a>(&'a self, resources: Option<&Resources>) -> Merged<'a> {
        self.merged(|size| resources.is_some_and(|resources| !size.takes(resources)), true)
    }

    fn merged(&self, wanted: impl Fn(Size) -> bool, silent: bool) -> Merged<'_> {
        let piles = self.heard.iter().filter(|(size, _)| wanted(**size)).map(|(_, pile)| pile);
        Merged::new(piles.chain(silent.then_some(&self.silent)))
    }
}

/// Several piles as one, in order.
pub(crate) struct Merged<'a> {
    piles: Vec<std::collections::btree_map::Iter<'a, Rank, Arc<Offer>>>,
    /// The first of each pile, by rank.
    first: BinaryHeap<Reverse<(&'a Rank, usize)>>,
    offers: Vec<Option<&'a Arc<Offer>>>,
}

impl<'a> Merged<'a> {
    fn new(piles: impl Iterator<Item = &'a Ordered>) -> Self {
        let piles: Vec<_> = piles.map(BTreeMap::iter).collect();
        let mut merged = Merged { offers: vec![None; piles.len()], piles, first: BinaryHeap::new() };
        for at in 0..merged.piles.len() {
            merged.pull(at);
        }
        merged
    }

    fn pull(&mut self, at: usize) {
        if let Some((rank, offer)) = self.piles[at].next() {
            self.offers[at] = Some(offer);
            self.first.push(Reverse((rank, at)));
        }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = Placed<'a>;

    fn next(&mut self) -> Option<Placed<'a>> {
        let Reverse((rank, at)) = self.first.pop()?;
        let offer = self.offers[at].take()?;
        self.pull(at);
        Some((rank, offer))
    }
}

/// Offers that can be had for one capability.
#[derive(Default)]
pub(crate) struct Shelf {
    pub owned: HashMap<Owner, Piles>,
    pub reserve: Piles,
    /// Of the reserve, those of one owner: whoever asks does not buy their own from it.
    pub reserve_owned: HashMap<Owner, Piles>,
}

impl Shelf {
    pub fn put(&mut self, rank: Rank, offer: &Arc<Offer>, reserve: bool, heard: bool) {
        let owner = &offer.standing.owner;
        self.owned.entry(owner.clone()).or_default().put(rank.clone(), offer, heard);
        if reserve {
            self.reserve_owned.entry(owner.clone()).or_default().put(rank.clone(), offer, heard);
            self.reserve.put(rank, offer, heard);
        }
    }

    pub fn take(&mut self, rank: &Rank, offer: &Offer) {
        self.reserve.take(rank, offer);
        for all in [&mut self.owned, &mut self.reserve_owned] {
            let owner = &offer.standing.owner;
            let Some(piles) = all.get_mut(owner) else { continue };
            piles.take(rank, offer);
            if piles.is_empty() {
                all.remove(owner);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.owned.is_empty() && self.reserve.is_empty()
    }
}
