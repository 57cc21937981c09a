//! Decides how the wallet remembers: a request is written before it is done, with what it may spend, and kept with
//! what came of it. The same request is answered; another under its id is a conflict.

use oa_contract::{Fault, Msats, Stop, Timestamp};
use oa_store::{
    Key, Store, Tx,
    tables::wallet::{self as table, RequestRow, RequestState},
};
use serde_json::{Value, json, value::to_raw_value};

use super::{Caps, Limits, http::No};

/// A request that is about to be done.
#[derive(Clone, Debug)]
pub struct Begin {
    pub kind: &'static str,
    pub id: String,
    pub fingerprint: String,
    pub spend: Msats,
    /// What has to be known to ask about it later.
    pub asked: Value,
    pub lane: Lane,
    pub limits: Limits,
    pub now: Timestamp,
}

/// Whose limits a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Pay,
    /// Of pools to those who leave: fewer and larger.
    Payout,
}

impl Lane {
    pub const fn name(self) -> &'static str {
        match self {
            Lane::Pay => "pay",
            Lane::Payout => "payout",
        }
    }
}

/// What is known of a request when somebody wants it done.
#[derive(Debug)]
pub enum Begun {
    /// It is yours to do, and so much has been spent lately, with it.
    Yours {
        window_msats: u64,
    },
    /// It was done before.
    Done(Value),
    /// Somebody is at it, or nobody knows how it ended.
    InFlight,
    /// It was refused, and stays so.
    Refused(No),
    Conflict,
    /// The window does not hold it.
    Full {
        spent_msats: u64,
    },
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum End {
    Done(Value),
    /// Surely not done, and never to be under this id.
    Refused(No),
    /// Surely not done; the id may be used again.
    Forgotten,
}

fn key(kind: &str, id: &str) -> Key {
    Key::text("wallet_request", format!("{kind}/{id}"))
}

/// Begins a request, unless it is known or does not fit.
pub async fn begin(store: &Store, begin: Begin) -> Result<Begun, Stop> {
    // One spends at a time: what the window holds is counted in the transaction that adds to it.
    let keys = vec![key(begin.kind, &begin.id), Key::text("wallet", "window")];
    store.write("wallet.begin", keys, begin, begun).await
}

async fn begun(tx: &mut Tx, begin: &Begin) -> Result<Begun, Stop> {
    if let Some(known) = table::request(tx, begin.kind, &begin.id).await? {
        return known_as(&known, &begin.fingerprint).map_err(Stop::from);
    }
    let since = begin.now.plus_millis(-begin.limits.window_ms);
    let (spent_msats, _) = table::spent(tx, since, begin.lane.name()).await?;
    let window_msats = spent_msats.saturating_add(begin.spend.get());
    if begin.spend > Msats::ZERO && window_msats > begin.limits.of(begin.lane).window_msats {
        return Ok(Begun::Full { spent_msats });
    }
    let asked = to_raw_value(&begin.asked).map_err(|error| Fault::new("keeping a request", error))?;
    let row = RequestRow {
        kind: begin.kind.into(),
        request_id: begin.id.clone(),
        fingerprint: begin.fingerprint.clone(),
        state: RequestState::InFlight,
        spend: begin.spend,
        asked,
        reply: None,
        error_code: None,
        error_message: None,
        begun_at: begin.now,
        changed_at: begin.now,
        lane: begin.lane.name().into(),
    };
    table::put_request(tx, &row).await?;
    Ok(Begun::Yours { window_msats })
}

/// What is known of a request under its id.
pub fn known_as(known: &RequestRow, fingerprint: &str) -> Result<Begun, Fault> {
    if known.fingerprint != fingerprint {
        return Ok(Begun::Conflict);
    }
    Ok(match known.state {
        RequestState::InFlight => Begun::InFlight,
        RequestState::Refused => Begun::Refused(refusal(known)),
        RequestState::Done => Begun::Done(reply(known)?),
    })
}

pub fn reply(known: &RequestRow) -> Result<Value, Fault> {
    let text = known.reply.as_ref().map_or("null", |reply| reply.get());
    serde_json::from_str(text).map_err(|error| Fault::new("reading a kept answer", error))
}

pub fn refusal(known: &RequestRow) -> No {
    let code = known.error_code.clone().unwrap_or_else(|| "payment_failed".into());
    No::new(super::status_of(&code), code, known.error_message.clone().unwrap_or_default())
}

pub async fn find(store: &Store, kind: &'static str, id: &str) -> Result<Option<RequestRow>, Stop> {
    let read = async |tx: &mut Tx, (kind, id): &(&'static str, String)| table::request(tx, kind, id).await;
    store.read("wallet.request", (kind, id.to_owned()), read).await
}

/// Requests begun before `until` whose end nobody knows.
pub async fn open(store: &Store, until: Timestamp) -> Result<Vec<RequestRow>, Stop> {
    let read = async |tx: &mut Tx, until: &Timestamp| table::open_requests(tx, *until, 64).await;
    store.read("wallet.open", until, read).await
}

/// Ends a request that is open; what has ended stays as it is.
pub async fn end(store: &Store, kind: &'static str, id: &str, end: End, now: Timestamp) -> Result<(), Stop> {
    let ask = (kind, id.to_owned(), end, now);
    store.write("wallet.end", key(kind, id), ask, ended).await
}

async fn ended(tx: &mut Tx, (kind, id, end, now): &(&str, String, End, Timestamp)) -> Result<(), Stop> {
    let Some(row) = table::request(tx, kind, id).await? else { return Ok(()) };
    if row.state != RequestState::InFlight {
        return Ok(());
    }
    match end {
        End::Forgotten => table::forget_request(tx, kind, id).await,
        End::Done(reply) => {
            let reply = to_raw_value(reply).map_err(|error| Fault::new("keeping an answer", error))?;
            let done = RequestRow { state: RequestState::Done, reply: Some(reply), changed_at: *now, ..row };
            table::put_request(tx, &done).await
        }
        End::Refused(no) => {
            let refused = RequestRow {
                state: RequestState::Refused,
                spend: Msats::ZERO,
                error_code: Some(no.code.clone()),
                error_message: Some(no.message.clone()),
                changed_at: *now,
                ..row
            };
            table::put_request(tx, &refused).await
        }
    }
}

/// The name of this memory: made with it, so that a store that was lost is never taken for it.
pub async fn memory(store: &Store, name: String, now: Timestamp) -> Result<String, Stop> {
    store.write("wallet.memory", key("memory", "name"), (name, now), named).await
}

async fn named(tx: &mut Tx, (name, now): &(String, Timestamp)) -> Result<String, Stop> {
    if let Some(known) = table::request(tx, "memory", "name").await? {
        let name = reply(&known)?["recordId"].as_str().map(str::to_owned);
        return Ok(name.ok_or_else(|| Fault::msg("the wallet's memory has lost its name"))?);
    }
    let written = |value: &Value| to_raw_value(value).map_err(|error| Fault::new("naming a memory", error));
    let row = RequestRow {
        kind: "memory".into(),
        request_id: "name".into(),
        fingerprint: String::new(),
        state: RequestState::Done,
        spend: Msats::ZERO,
        asked: written(&Value::Null)?,
        reply: Some(written(&json!({"recordId": name}))?),
        error_code: None,
        error_message: None,
        begun_at: *now,
        changed_at: *now,
        lane: Lane::Pay.name().into(),
    };
    table::put_request(tx, &row).await?;
    Ok(name.clone())
}

/// What was spent lately, in how many requests, and the latest payment.
pub async fn lately(store: &Store, since: Timestamp) -> Result<(u64, Option<RequestRow>), Stop> {
    let read = async |tx: &mut Tx, since: &Timestamp| {
        let (_, payments) = table::spent(tx, *since, Lane::Pay.name()).await?;
        let (_, payouts) = table::spent(tx, *since, Lane::Payout.name()).await?;
        Ok((payments + payouts, table::last_paid(tx).await?))
    };
    store.read("wallet.lately", since, read).await
}

impl Begun {
    /// As it is answered to somebody who wants it done; nothing when it is theirs to do.
    pub fn answered(self, caps: Caps) -> Option<Result<Value, No>> {
        Some(match self {
            Begun::Yours { .. } => return None,
            Begun::Done(reply) => Ok(reply),
            Begun::Refused(no) => Err(no),
            Begun::InFlight => {
                Err(No::new(409, "idempotency_in_flight", "the same request is being worked on"))
            }
            Begun::Conflict => {
                Err(No::new(409, "idempotency_conflict", "the request id was used for something else"))
            }
            Begun::Full { spent_msats } => {
                let no = No::new(403, "window_cap_exceeded", "too much was spent lately");
                Err(no.with(json!({"windowSpendMsats": spent_msats, "windowCapMsats": caps.window_msats})))
            }
        })
    }
}
