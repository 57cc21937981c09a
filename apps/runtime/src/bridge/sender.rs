//! Decides when a relay is told what waits for it, and what becomes of an event that it did not take: it stays in the
//! store until the relay has it, under the one id that it was given.

use std::{sync::Arc, time::Duration};

use oa_contract::{Port as _, Stop, Timestamp, bridge::HANDLER};
use oa_store::{
    Tx,
    tables::bridge::{self as table, Again, OutgoingRow, Queue},
};
use tokio::time::{Instant, sleep};

use super::link::{Answer, Link};
use crate::Runtime;

/// Looked at so often while nothing waits.
const IDLE: Duration = Duration::from_millis(500);
/// A connection that nothing was sent over for so long is given up: nobody answers its pings.
const UNUSED: Duration = Duration::from_secs(10);
/// Sent at one time.
const BATCH: u32 = 32;
/// How long nobody else sends the same: longer than everything of one batch takes when a relay is silent.
const LEASE_SECONDS: i64 = 300;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// An event that was not taken waits this long, twice as long each time, an hour at most.
const AGAIN_SECONDS: i64 = 5;
const LATEST_SECONDS: i64 = 3_600;
/// Refused so often for a reason that stays, an event is tried no more.
const REFUSALS: u64 = 12;
/// How often the queue is measured and cut.
const MEASURE: Duration = Duration::from_secs(30);

/// Tells one relay what waits for it, until it is cancelled.
pub async fn run(runtime: Arc<Runtime>, url: String) {
    let mut sender = Sender {
        name: name_of(&url),
        runtime,
        url,
        link: None,
        used: Instant::now(),
        pause: FIRST_PAUSE,
        measured: None,
    };
    loop {
        match sender.turn().await {
            Ok(true) => {}
            Ok(false) => sleep(IDLE).await,
            Err(stop) => {
                tracing::warn!(relay = sender.name, error = %stop, "what waits for a relay could not be looked at");
                sleep(LONGEST_PAUSE.min(IDLE * 10)).await;
            }
        }
    }
}

/// Host and port: what relays are called in logs and metrics.
pub(crate) fn name_of(url: &str) -> String {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    host.rsplit('@').next().unwrap_or_default().to_owned()
}

struct Sender {
    name: String,
    runtime: Arc<Runtime>,
    url: String,
    link: Option<Link>,
    used: Instant,
    pause: Duration,
    measured: Option<Instant>,
}

impl Sender {
    /// Says whether there was anything to do.
    async fn turn(&mut self) -> Result<bool, Stop> {
        // An instance that does not write cannot note what was delivered either.
        if self.runtime.admits_writes().is_err() {
            return Ok(false);
        }
        if self.measured.is_none_or(|at| at.elapsed() > MEASURE) {
            self.measure().await?;
            self.measured = Some(Instant::now());
        }
        let due = self.claim().await?;
        if due.is_empty() {
            if self.used.elapsed() > UNUSED {
                self.link = None;
            }
            return Ok(false);
        }
        // What was sent in vain before goes alone: were it why a relay hangs up, it would take the others along.
        let (fresh, tried): (Vec<_>, Vec<_>) = due.into_iter().partition(|row| row.attempts == 0);
        let mut groups: Vec<Vec<OutgoingRow>> = tried.into_iter().map(|row| vec![row]).collect();
        if !fresh.is_empty() {
            groups.insert(0, fresh);
        }
        let mut groups = groups.into_iter();
        while let Some(group) = groups.next() {
            if !self.deliver(&group).await? {
                let rest: Vec<OutgoingRow> = groups.flatten().collect();
                self.give_back(rest, "the relay is away").await?;
                sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                break;
            }
        }
        Ok(true)
    }

    /// Sends some events and notes what came of it. Says whether the relay was there.
    async fn deliver(&mut self, group: &[OutgoingRow]) -> Result<bool, Stop> {
        let events: Vec<_> = group.iter().map(|row| (row.event_id.as_str(), row.event.as_str())).collect();
        // A connection that stood idle may be one no more, and that is no event's fault: one new one is tried.
        let mut known = self.link.take();
        let exchange = loop {
            let reused = known.is_some();
            let mut link = match known.take() {
                Some(link) => link,
                None => match Link::connect(&self.url).await {
                    Ok(link) => {
                        self.count("oa_bridge_connects_total", "connected", 1);
                        link
                    }
                    Err(why) => {
                        self.count("oa_bridge_connects_total", "failed", 1);
                        tracing::info!(relay = self.name, why, "a relay is away; what waits for it stays");
                        self.give_back(group.to_vec(), &why).await?;
                        return Ok(false);
                    }
                },
            };
            let exchange = link.exchange(&events).await;
            self.used = Instant::now();
            match &exchange.broken {
                None => self.link = Some(link),
                Some(_) if reused && exchange.answers.is_empty() => continue,
                Some(why) => tracing::info!(relay = self.name, why, "a connection to a relay broke off"),
            }
            break exchange;
        };
        // A relay that asks for less has it: everything waits, and the longer the more often it asks.
        let slower =
            exchange.answers.values().any(|answer| matches!(answer, Answer::Refused { slower: true, .. }));
        let there = !exchange.answers.is_empty() && !slower;
        if there {
            self.pause = FIRST_PAUSE;
        }
        let silence = exchange.broken.unwrap_or_default();
        let outcomes: Vec<(OutgoingRow, Option<Answer>)> =
            group.iter().map(|row| (row.clone(), exchange.answers.get(&row.event_id).cloned())).collect();
        self.note(outcomes, silence).await?;
        Ok(there)
    }

    async fn claim(&self) -> Result<Vec<OutgoingRow>, Stop> {
        let ask = (self.url.clone(), self.runtime.now());
        let anything =
            async |tx: &mut Tx, (url, now): &(String, Timestamp)| table::is_due(tx, url, *now).await;
        if !self.runtime.store.read("bridge.due", ask.clone(), anything).await? {
            return Ok(Vec::new());
        }
        let take = async |tx: &mut Tx, (url, now): &(String, Timestamp)| {
            table::claim(tx, url, (*now, now.plus_seconds(LEASE_SECONDS)), BATCH).await
        };
        self.runtime.store.write("bridge.claim", (), ask, take).await
    }

    async fn give_back(&self, rows: Vec<OutgoingRow>, why: &str) -> Result<(), Stop> {
        let back = async |tx: &mut Tx, (rows, why): &(Vec<OutgoingRow>, String)| {
            for row in rows {
                table::give_back(tx, row, Again::Unsent, why).await?;
            }
            Ok::<_, Stop>(())
        };
        self.runtime.store.write("bridge.give_back", (), (rows, why.to_owned()), back).await
    }

    async fn note(&self, outcomes: Vec<(OutgoingRow, Option<Answer>)>, silence: String) -> Result<(), Stop> {
        let mut rulings = Vec::with_capacity(outcomes.len());
        for (row, answer) in outcomes {
            let ruling = ruling(&row, answer, &silence, self.runtime.now());
            let outcome = match &ruling {
                Ruling::Done => "accepted",
                Ruling::Again { again: Again::Never, why } => {
                    tracing::warn!(
                        relay = self.name,
                        event = row.event_id,
                        why,
                        "a relay will not take an event"
                    );
                    "given_up"
                }
                Ruling::Again { .. } => "put_off",
            };
            self.count("oa_bridge_events_total", outcome, 1);
            rulings.push((row, ruling));
        }
        let write = async |tx: &mut Tx, rulings: &Vec<(OutgoingRow, Ruling)>| {
            for (row, ruling) in rulings {
                match ruling {
                    Ruling::Done => table::done(tx, row).await?,
                    Ruling::Again { again, why } => table::give_back(tx, row, *again, why).await?,
                }
            }
            Ok::<_, Stop>(())
        };
        self.runtime.store.write("bridge.note", (), rulings, write).await
    }

    /// Cuts the queue where it is too long, and says how long it is.
    async fn measure(&self) -> Result<(), Stop> {
        let look = async |tx: &mut Tx, url: &String| table::queue(tx, url, HANDLER).await;
        let mut queue = self.runtime.store.read("bridge.queue", self.url.clone(), look).await?;
        let keep = self.runtime.config.bridge.queue_limit;
        if queue.kept > keep {
            let trim =
                async |tx: &mut Tx, (url, keep): &(String, u64)| table::trim(tx, url, *keep, HANDLER).await;
            let ask = (self.url.clone(), keep);
            let forgotten = self.runtime.store.write("bridge.trim", (), ask, trim).await?;
            self.count("oa_bridge_events_total", "forgotten", forgotten);
            tracing::warn!(
                relay = self.name,
                forgotten,
                "more waits for a relay than is kept; the oldest went"
            );
            queue = self.runtime.store.read("bridge.queue", self.url.clone(), look).await?;
        }
        self.show(queue);
        Ok(())
    }

    fn show(&self, queue: Queue) {
        let age = queue.oldest.map_or(0, |at| self.runtime.now().millis_since(at).max(0) / 1_000);
        let gauge = |name: &'static str, value: u64| {
            metrics::gauge!(name, "relay" => self.name.clone()).set(value as f64);
        };
        gauge("oa_bridge_waiting", queue.waiting);
        gauge("oa_bridge_given_up", queue.given_up);
        gauge("oa_bridge_oldest_seconds", age.unsigned_abs());
    }

    fn count(&self, name: &'static str, outcome: &'static str, by: u64) {
        metrics::counter!(name, "relay" => self.name.clone(), "outcome" => outcome).increment(by);
    }
}

/// What becomes of an event that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ruling {
    Done,
    Again { again: Again, why: String },
}

fn ruling(row: &OutgoingRow, answer: Option<Answer>, silence: &str, now: Timestamp) -> Ruling {
    let doublings = u32::try_from(row.attempts.min(16)).unwrap_or(16);
    let later = Again::At(now.plus_seconds((AGAIN_SECONDS << doublings).min(LATEST_SECONDS)));
    match answer {
        Some(Answer::Accepted) => Ruling::Done,
        Some(Answer::Refused { hopeless, why, .. }) => {
            let again = if hopeless && row.attempts + 1 >= REFUSALS { Again::Never } else { later };
            Ruling::Again { again, why }
        }
        None => Ruling::Again { again: later, why: silence.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);

    fn row(attempts: u64) -> OutgoingRow {
        OutgoingRow {
            relay: "wss://a/".into(),
            address: "a".into(),
            event_id: "e".into(),
            event: "{}".into(),
            queued_at: NOW,
            attempts,
        }
    }

    fn again(attempts: u64, answer: Option<Answer>) -> Again {
        match ruling(&row(attempts), answer, "it hung up", NOW) {
            Ruling::Again { again, .. } => again,
            Ruling::Done => panic!("done"),
        }
    }

    #[test]
    fn an_event_that_was_not_taken_waits_ever_longer_but_no_longer_than_an_hour() {
        assert_eq!(again(0, None), Again::At(NOW.plus_seconds(5)));
        assert_eq!(again(3, None), Again::At(NOW.plus_seconds(40)));
        assert_eq!(again(60, None), Again::At(NOW.plus_seconds(3_600)), "silence never ends it");
    }

    #[test]
    fn only_a_reason_that_stays_ends_it() {
        let refused = |hopeless| Some(Answer::Refused { hopeless, slower: false, why: "no".into() });
        assert_eq!(again(10, refused(true)), Again::At(NOW.plus_seconds(3_600)));
        assert_eq!(again(11, refused(true)), Again::Never);
        assert_eq!(again(999, refused(false)), Again::At(NOW.plus_seconds(3_600)));
        assert_eq!(ruling(&row(5), Some(Answer::Accepted), "", NOW), Ruling::Done);
    }

    #[test]
    fn a_relay_is_called_by_its_host_and_port() {
        assert_eq!(name_of("wss://a.example/x?y"), "a.example");
        assert_eq!(name_of("ws://127.0.0.1:7"), "127.0.0.1:7");
        assert_eq!(name_of("wss://me:secret@a.example/"), "a.example");
    }
}
