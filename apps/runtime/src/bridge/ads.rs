//! Decides which ads of providers stand, and when one is told anew: when what it says has changed, and at no other
//! time. An ad is made from the worker as it is kept, so nothing has to remember that it is due.

use std::collections::BTreeSet;

use oa_contract::{
    Fault, Stop, Timestamp,
    bridge::{Band, Event, HANDLER, ProviderAd, Unsigned},
    signer::Signer,
    wire::{
        marketplace::PricingStage,
        workers::{HeartbeatState, WorkerStatus},
    },
};
use oa_store::{
    Key, Tx,
    tables::{
        bridge::{self as table, AdRow},
        workers::{self, WorkerRow},
    },
};
use serde_json::Value;

use crate::{
    Runtime,
    marketplace::market,
    workers::{metadata, snapshot::Moment},
};

/// Workers that are looked at in one read.
const PAGE: u32 = 200;
/// Silent workers that one round looks at. Who stays silent is failed soon, and is then found as changed.
const SILENT: u32 = 2_000;
/// The longest name under which a provider is told of; others would not fit into a tag that relays index.
const LONGEST_NAME: usize = 200;

/// What is to be said of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    address: String,
    told: Unsigned,
    /// The moment since when it is so.
    since: Timestamp,
}

/// What a worker's ad says, if it is a provider.
fn wanted(row: &WorkerRow, moment: Moment) -> Result<Option<Wanted>, Fault> {
    let Some(offer) = market::offer(row, false)? else { return Ok(None) };
    let nameable =
        offer.provider_id.len() <= LONGEST_NAME && !offer.provider_id.chars().any(char::is_control);
    // Nobody has looked at what it says of itself, so nobody vouches for that either.
    if !nameable || !offer.standing.qualified {
        return Ok(None);
    }
    let (heartbeat, _) = offer.liveness(moment.now, moment.stale_after_ms);
    let said = metadata::read(&row.metadata)?;
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let counted = offer.standing.price_integrity_samples;
    let counted = (counted > 0).then_some((counted, offer.standing.price_integrity_violations));
    let ad = ProviderAd {
        provider_id: &offer.provider_id,
        name: text("name"),
        description: text("description"),
        website: text("website"),
        capabilities: offer.capabilities.iter().map(String::as_str).collect(),
        min_price_msats: offer.min_price_msats,
        pricing_stage: match offer.pricing_stage {
            PricingStage::Fixed => "fixed",
            PricingStage::Banded => "banded",
            PricingStage::Bidding => "bidding",
        },
        bands: offer
            .pricing_bands
            .iter()
            .map(|band| Band {
                capability: band.capability.clone(),
                min_price_msats: band.min_price_msats,
                max_price_msats: band.max_price_msats,
                step_msats: band.step_msats,
            })
            .collect(),
        caps: said.get("caps"),
        available: row.status == WorkerStatus::Running
            && heartbeat == HeartbeatState::Fresh
            && !offer.is_quarantined(),
        worker_status: row.status.name(),
        heartbeat_state: heartbeat.name(),
        price_integrity_samples: counted.map(|(samples, _)| samples),
        price_integrity_violations: counted.map(|(_, violations)| violations),
        price_variance_bps_last: offer.standing.last_price_variance_bps,
    };
    // A provider without a name is none that anybody could be told of.
    let Ok(told) = ad.told() else { return Ok(None) };
    let since = match (heartbeat, row.last_heartbeat_at) {
        (HeartbeatState::Stale, Some(at)) => at.plus_millis(moment.stale_after_ms).max(row.updated_at),
        _ => row.updated_at,
    };
    let address = format!("{HANDLER}:{}", ProviderAd::name_of(&offer.provider_id));
    Ok(Some(Wanted { address, told, since }))
}

/// What there is to do about a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// The ad that stands, for relays that do not know it yet.
    AsItStands,
    Anew,
}

/// Whether the ad that stands is the one that is wanted.
fn due(wanted: Option<&Wanted>, standing: &[AdRow], unprimed: bool) -> Due {
    let current = wanted.and_then(|wanted| standing.iter().find(|ad| ad.address == wanted.address));
    match (wanted, current) {
        (None, _) if standing.is_empty() => Due::Nothing,
        (Some(wanted), Some(ad)) if standing.len() == 1 && ad.digest == wanted.told.digest() => {
            match unprimed {
                true => Due::AsItStands,
                false => Due::Nothing,
            }
        }
        _ => Due::Anew,
    }
}

/// A later event must not be of the same second as the one that it replaces, or nobody knows which is the later.
fn moment_of(since: Timestamp, before: Option<&AdRow>) -> i64 {
    let after = before.map_or(i64::MIN, |ad| ad.created_at_unix.saturating_add(1));
    since.unix_seconds().max(after)
}

/// Which workers the last round has seen.
#[derive(Debug, Default)]
pub struct Place {
    since: Option<Timestamp>,
    /// Those that could not be dealt with, each looked at again in the next round.
    again: BTreeSet<String>,
}

/// So many are remembered to be looked at again; whoever is beyond is found when it changes.
const MOST_AGAIN: usize = 1_000;
/// Taken back so long ago, an ad is remembered no more: whoever takes the name now is later by itself.
const FORGOTTEN_SECONDS: i64 = 86_400;

/// Changes that were committed late are looked for so long.
const OVERLAP_SECONDS: i64 = 60;

impl Runtime {
    /// One round: everybody the first time, and then whoever was changed or fell silent.
    pub async fn advertise(&self, place: &mut Place) -> Result<usize, Stop> {
        let Some(signer) = self.signer.clone() else { return Ok(0) };
        let begun = self.now();
        let (before, mut again) = (std::mem::take(&mut place.again), BTreeSet::new());
        let mut told = self.look(&signer, before.into_iter().collect(), &[], &mut again).await?;
        told += match place.since {
            None => self.advertise_all(&signer, &mut again).await?,
            Some(since) => self.advertise_changed(&signer, since, &mut again).await?,
        };
        place.again = again;
        let forget = async |tx: &mut Tx, before: &i64| table::forget_ads(tx, *before).await;
        let before = begun.unix_seconds() - FORGOTTEN_SECONDS;
        self.store.write("bridge.forget_ads", Key::text("bridge", "ads"), before, forget).await?;
        place.since = Some(begun.plus_seconds(-OVERLAP_SECONDS));
        Ok(told)
    }

    async fn advertise_all(&self, signer: &Signer, again: &mut BTreeSet<String>) -> Result<usize, Stop> {
        let unprimed = async |tx: &mut Tx, (): &()| {
            let relays = table::relays(tx).await?;
            Ok::<_, Stop>(relays.into_iter().filter(|one| !one.primed).map(|one| one.url).collect())
        };
        let unprimed: Vec<String> = self.store.read("bridge.relays", (), unprimed).await?;
        let (mut told, mut after) = (0, String::new());
        loop {
            let page = async |tx: &mut Tx, after: &String| workers::all_after(tx, after, PAGE).await;
            let names = self.store.read("bridge.workers", after.clone(), page).await?;
            let Some(last) = names.last() else { break };
            after.clone_from(last);
            told += self.look(signer, names, &unprimed, again).await?;
        }
        for url in unprimed {
            let prime = async |tx: &mut Tx, url: &String| table::prime(tx, url).await;
            self.store.write("bridge.prime", Key::text("bridge", "ads"), url, prime).await?;
        }
        Ok(told)
    }

    async fn advertise_changed(
        &self,
        signer: &Signer,
        since: Timestamp,
        again: &mut BTreeSet<String>,
    ) -> Result<usize, Stop> {
        let (mut told, mut place) = (0, (since, String::new()));
        loop {
            let page = async |tx: &mut Tx, (since, after): &(Timestamp, String)| {
                workers::changed(tx, *since, after, PAGE).await
            };
            let changed = self.store.read("bridge.changed", place.clone(), page).await?;
            let Some((last, at)) = changed.last() else { break };
            place = (*at, last.clone());
            let names = changed.into_iter().map(|(name, _)| name).collect();
            told += self.look(signer, names, &[], again).await?;
        }
        let before = self.now().plus_millis(-self.config.heartbeat_stale_after_ms);
        let silent = async |tx: &mut Tx, before: &Timestamp| {
            workers::lost(tx, WorkerStatus::Running, *before, SILENT).await
        };
        let silent = self.store.read("bridge.silent", before, silent).await?;
        for names in silent.chunks(PAGE as usize) {
            told += self.look(signer, names.to_vec(), &[], again).await?;
        }
        Ok(told)
    }

    /// Looks at some workers, and tells what is to be told of them. One that cannot be read or told of stops no other.
    async fn look(
        &self,
        signer: &Signer,
        names: Vec<String>,
        unprimed: &[String],
        again: &mut BTreeSet<String>,
    ) -> Result<usize, Stop> {
        if names.is_empty() {
            return Ok(0);
        }
        let moment = Moment::of(self);
        let ask = (names, moment, !unprimed.is_empty());
        let differing = async |tx: &mut Tx, (names, moment, unprimed): &(Vec<String>, Moment, bool)| {
            let mut differing = Vec::new();
            for name in names {
                // What is wrong with it is told when it is dealt with.
                if !matches!(differs(tx, name, *moment, *unprimed).await, Ok(false)) {
                    differing.push(name.clone());
                }
            }
            Ok::<_, Stop>(differing)
        };
        let mut told = 0;
        for worker_id in self.store.read("bridge.look", ask, differing).await? {
            let ask = Tell {
                worker_id: worker_id.clone(),
                moment,
                signer: signer.clone(),
                unprimed: unprimed.to_vec(),
            };
            match self.store.write("bridge.ad", Key::text("bridge", "ads"), ask, tell).await {
                Ok(fresh) => told += usize::from(fresh),
                Err(stop) => {
                    tracing::warn!(worker_id, error = %stop, "a provider's ad could not be told; tried again");
                    if again.len() < MOST_AGAIN {
                        again.insert(worker_id);
                    }
                }
            }
        }
        Ok(told)
    }
}

async fn differs(tx: &mut Tx, name: &str, moment: Moment, unprimed: bool) -> Result<bool, Stop> {
    let Some(row) = workers::get(tx, name).await? else { return Ok(false) };
    let standing = table::ads_of(tx, name).await?;
    Ok(due(wanted(&row, moment)?.as_ref(), &standing, unprimed) != Due::Nothing)
}

struct Tell {
    worker_id: String,
    moment: Moment,
    signer: Signer,
    unprimed: Vec<String>,
}

/// Tells what is to be told of one worker. Everything is looked at again: it may have changed.
async fn tell(tx: &mut Tx, ask: &Tell) -> Result<bool, Stop> {
    let Some(row) = workers::get(tx, &ask.worker_id).await? else { return Ok(false) };
    let wanted = wanted(&row, ask.moment)?;
    let standing = table::ads_of(tx, &ask.worker_id).await?;
    match due(wanted.as_ref(), &standing, !ask.unprimed.is_empty()) {
        Due::Nothing => return Ok(false),
        Due::AsItStands => {
            for ad in &standing {
                let event = read(ad)?;
                for relay in &ask.unprimed {
                    table::enqueue(tx, relay, &event, ask.moment.now).await?;
                }
            }
            return Ok(true);
        }
        Due::Anew => {}
    }
    for ad in standing.iter().filter(|ad| wanted.as_ref().is_none_or(|wanted| wanted.address != ad.address)) {
        take_back(tx, ask, ad, &row).await?;
    }
    let Some(wanted) = wanted else { return Ok(true) };
    let before = table::ad(tx, &wanted.address).await?;
    if let Some(holder) =
        before.as_ref().map(|ad| ad.worker_id.as_str()).filter(|holder| *holder != row.worker_id)
        && !holder.is_empty()
        && let Some(holder) = workers::get(tx, holder).await?
        && self::wanted(&holder, ask.moment)?.is_some_and(|other| other.address == wanted.address)
    {
        // Whoever was there first keeps the name for as long as it goes by it.
        return Ok(false);
    }
    let digest = wanted.told.digest();
    let event = wanted.told.signed(&ask.signer, moment_of(wanted.since, before.as_ref()));
    put(tx, ask, &event, (&row.worker_id, digest)).await?;
    Ok(true)
}

/// Says of a provider that it is not to be had under this name any more.
async fn take_back(tx: &mut Tx, ask: &Tell, ad: &AdRow, row: &WorkerRow) -> Result<(), Stop> {
    let Event { kind, mut tags, content, .. } = read(ad)?;
    for tag in tags.iter_mut().filter(|tag| tag.first().is_some_and(|name| name == "oa_availability")) {
        *tag = vec!["oa_availability".to_owned(), "unavailable".to_owned()];
    }
    let told = Unsigned { kind, tags, content };
    let digest = told.digest();
    let event = told.signed(&ask.signer, moment_of(row.updated_at, Some(ad)));
    put(tx, ask, &event, ("", digest)).await
}

async fn put(
    tx: &mut Tx,
    ask: &Tell,
    event: &Event,
    (worker_id, digest): (&str, String),
) -> Result<(), Stop> {
    let row = AdRow {
        address: event.address(),
        worker_id: worker_id.to_owned(),
        digest,
        created_at_unix: event.created_at,
        event: event.text(),
    };
    table::put_ad(tx, &row).await?;
    for relay in table::relays(tx).await? {
        table::enqueue(tx, &relay.url, event, ask.moment.now).await?;
    }
    Ok(())
}

fn read(ad: &AdRow) -> Result<Event, Fault> {
    serde_json::from_str(&ad.event).map_err(|error| Fault::new("reading a stored ad", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(content: &str) -> Wanted {
        let told = Unsigned { kind: HANDLER, tags: Vec::new(), content: content.into() };
        Wanted { address: "31990:p".into(), told, since: Timestamp::from_unix_seconds(100) }
    }

    fn ad(content: &str, created_at_unix: i64) -> AdRow {
        AdRow {
            address: "31990:p".into(),
            worker_id: "w".into(),
            digest: told(content).told.digest(),
            created_at_unix,
            event: String::new(),
        }
    }

    #[test]
    fn an_ad_is_told_anew_only_when_it_says_something_else() {
        assert_eq!(due(Some(&told("a")), &[ad("a", 1)], false), Due::Nothing);
        assert_eq!(due(Some(&told("a")), &[ad("a", 1)], true), Due::AsItStands);
        assert_eq!(due(Some(&told("b")), &[ad("a", 1)], false), Due::Anew);
        assert_eq!(due(Some(&told("a")), &[], false), Due::Anew);
        assert_eq!(due(None, &[ad("a", 1)], false), Due::Anew, "it is taken back");
        assert_eq!(due(None, &[], false), Due::Nothing);
        let other = AdRow { address: "31990:former".into(), ..ad("a", 1) };
        assert_eq!(due(Some(&told("a")), &[ad("a", 1), other], false), Due::Anew, "the other is taken back");
    }

    #[test]
    fn a_later_ad_is_always_of_a_later_second() {
        let since = Timestamp::from_unix_seconds(100);
        assert_eq!(moment_of(since, None), 100);
        assert_eq!(moment_of(since, Some(&ad("a", 40))), 100);
        assert_eq!(moment_of(since, Some(&ad("a", 100))), 101);
        assert_eq!(moment_of(since, Some(&ad("a", 170))), 171);
    }
}
