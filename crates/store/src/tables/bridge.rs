//! Decides how what Nostr relays are told is kept: which relays there are, what each has not acknowledged yet, and
//! which ad stands of whom.

use oa_contract::{
    bridge::Event,
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
};

static RELAYS: Statement = sealed_statement!("bridge/relays", "bridge_relays");
static ADD_RELAY: Statement = sealed_statement!("bridge/add_relay", "bridge_relays");
static REMOVE_RELAY: Statement = statement!("bridge/remove_relay");
static PRIME: Statement = statement!("bridge/prime");
static FORGET: Statement = statement!("bridge/forget");
static ENQUEUE: Statement = sealed_statement!("bridge/enqueue", "bridge_outgoing");
static DUE: Statement = sealed_statement!("bridge/due", "bridge_outgoing");
static IS_DUE: Statement = statement!("bridge/is_due");
static LEASE: Statement = statement!("bridge/lease");
static DONE: Statement = statement!("bridge/done");
static DELAY: Statement = statement!("bridge/delay");
static TRIM: Statement = statement!("bridge/trim");
static QUEUE: Statement = statement!("bridge/queue");
static FORGET_ADS: Statement = statement!("bridge/forget_ads");
static AD: Statement = sealed_statement!("bridge/ad", "bridge_ads");
static ADS_OF: Statement = sealed_statement!("bridge/ads_of", "bridge_ads");
static ADS_AFTER: Statement = sealed_statement!("bridge/ads_after", "bridge_ads");
static PUT_AD: Statement = sealed_statement!("bridge/put_ad", "bridge_ads");

/// The longest reason that is kept.
const REASON_CHARACTERS: usize = 500;

/// A relay that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRow {
    pub url: String,
    /// Whether it has been given every ad that stands.
    pub primed: bool,
}

impl FromRow for RelayRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(RelayRow { url: row.text(0)?.to_owned(), primed: row.int(3)? != 0 })
    }
}

/// An event that a relay has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRow {
    pub relay: String,
    pub address: String,
    pub event_id: String,
    /// The event as it is sent.
    pub event: String,
    pub queued_at: Timestamp,
    /// How often it was sent in vain.
    pub attempts: u64,
}

impl FromRow for OutgoingRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(OutgoingRow {
            relay: row.text(0)?.to_owned(),
            address: row.text(1)?.to_owned(),
            event_id: row.text(2)?.to_owned(),
            event: row.text(4)?.to_owned(),
            queued_at: row.timestamp(5)?,
            attempts: row.uint(7)?,
        })
    }
}

/// The ad that stands under an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdRow {
    pub address: String,
    /// Empty once the ad was taken back.
    pub worker_id: String,
    /// Of what it tells; the moment is not in it.
    pub digest: String,
    pub created_at_unix: i64,
    pub event: String,
}

impl FromRow for AdRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(AdRow {
            address: row.text(0)?.to_owned(),
            worker_id: row.text(1)?.to_owned(),
            digest: row.text(2)?.to_owned(),
            created_at_unix: row.int(3)?,
            event: row.text(4)?.to_owned(),
        })
    }
}

/// What waits for a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub waiting: u64,
    /// Refused so often that it is tried no more.
    pub given_up: u64,
    /// How long the oldest has waited that is still tried.
    pub oldest: Option<Timestamp>,
    /// All but ads.
    pub kept: u64,
}

/// When an event is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It was not sent at all.
    Unsent,
    At(Timestamp),
    Never,
}

pub async fn relays(tx: &mut Tx) -> Result<Vec<RelayRow>, Stop> {
    tx.all(&RELAYS, params![]).await
}

/// Makes these the relays that are told. What waited for others is forgotten.
pub async fn configure(tx: &mut Tx, urls: &[String], now: Timestamp) -> Result<(), Stop> {
    for known in relays(tx).await? {
        if !urls.contains(&known.url) {
            tx.execute(&REMOVE_RELAY, params![&known.url]).await?;
            tx.execute(&FORGET, params![&known.url]).await?;
        }
    }
    for url in urls {
        tx.execute(&ADD_RELAY, params![url, now]).await?;
    }
    Ok(())
}

/// Notes that a relay was given every ad that stands.
pub async fn prime(tx: &mut Tx, url: &str) -> Result<(), Stop> {
    tx.execute(&PRIME, params![url]).await.map(drop)
}

/// Puts an event into the queue of one relay, in the place of an earlier one of the same address.
pub async fn enqueue(tx: &mut Tx, relay: &str, event: &Event, now: Timestamp) -> Result<(), Stop> {
    let (address, text) = (event.address(), event.text());
    let params = params![relay, &address, &event.id, i64::from(event.kind), &text, now];
    tx.execute(&ENQUEUE, params).await.map(drop)
}

/// Whether anything is due for a relay.
pub async fn is_due(tx: &mut Tx, relay: &str, now: Timestamp) -> Result<bool, Stop> {
    Ok(tx.one::<(i64,)>(&IS_DUE, params![relay, now]).await?.is_some())
}

/// Hands out what is due for a relay, the oldest first, and to nobody else until the lease is over.
pub async fn claim(
    tx: &mut Tx,
    relay: &str,
    (now, until): (Timestamp, Timestamp),
    limit: u32,
) -> Result<Vec<OutgoingRow>, Stop> {
    let mut claimed = Vec::new();
    for row in tx.all::<OutgoingRow>(&DUE, params![relay, now, limit]).await? {
        if tx.execute(&LEASE, params![relay, &row.address, &row.event_id, until, now]).await? > 0 {
            claimed.push(row);
        }
    }
    Ok(claimed)
}

/// Forgets what a relay has acknowledged. A later event that has taken its place stays.
pub async fn done(tx: &mut Tx, row: &OutgoingRow) -> Result<(), Stop> {
    tx.execute(&DONE, params![&row.relay, &row.address, &row.event_id]).await.map(drop)
}

/// Gives an event back that was not acknowledged.
pub async fn give_back(tx: &mut Tx, row: &OutgoingRow, again: Again, why: &str) -> Result<(), Stop> {
    let (sent, at) = match again {
        Again::Unsent => (0_i64, Some(Timestamp::EPOCH)),
        Again::At(at) => (1, Some(at)),
        Again::Never => (1, None),
    };
    let why: String = why.chars().filter(|c| *c != '\0').take(REASON_CHARACTERS).collect();
    let params = params![&row.relay, &row.address, &row.event_id, sent, at, &why];
    tx.execute(&DELAY, params).await.map(drop)
}

/// Forgets the oldest events of a relay beyond the newest `keep`, but no ads; says how many.
pub async fn trim(tx: &mut Tx, relay: &str, keep: u64, ads: u32) -> Result<u64, Stop> {
    let keep = i64::try_from(keep.max(1) - 1).unwrap_or(i64::MAX);
    tx.execute(&TRIM, params![relay, keep, i64::from(ads)]).await
}

pub async fn queue(tx: &mut Tx, relay: &str, ads: u32) -> Result<Queue, Stop> {
    let row = tx.one::<(i64, i64, Option<Timestamp>, i64)>(&QUEUE, params![relay, i64::from(ads)]).await?;
    let (all, waiting, oldest, kept) = row.unwrap_or_default();
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(Queue { waiting: count(waiting), given_up: count(all - waiting), oldest, kept: count(kept) })
}

/// Forgets ads that were taken back, and last changed before a second.
pub async fn forget_ads(tx: &mut Tx, before_unix: i64) -> Result<u64, Stop> {
    tx.execute(&FORGET_ADS, params![before_unix]).await
}

pub async fn ad(tx: &mut Tx, address: &str) -> Result<Option<AdRow>, Stop> {
    tx.one(&AD, params![address]).await
}

/// The ads that stand of a worker.
pub async fn ads_of(tx: &mut Tx, worker_id: &str) -> Result<Vec<AdRow>, Stop> {
    tx.all(&ADS_OF, params![worker_id]).await
}

/// Ads behind an address, in the order of the store.
pub async fn ads_after(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<AdRow>, Stop> {
    tx.all(&ADS_AFTER, params![after, limit]).await
}

pub async fn put_ad(tx: &mut Tx, row: &AdRow) -> Result<(), Stop> {
    let params = params![&row.address, &row.worker_id, &row.digest, row.created_at_unix, &row.event];
    tx.execute(&PUT_AD, params).await.map(drop)
}
