//! Decides that a call is worked on once in this process, by a task of its own: callers come and go, and all who ask
//! for the same wait for the same answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oa_contract::{Fault, Refusal, Stop, current, wire::tools::ToolOutcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    Tools,
    call::Call,
    execute::Work,
    ledger::{LEASE_SECONDS, Reserved},
};

/// Calls under way at one time; each may hold an answer of a megabyte.
const MOST: usize = 512;
/// How often the store is asked whether another process has ended, and how many times: for ten minutes.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const LOOKS: u32 = 3_000;

type Flight = (String, String);
type Landing = watch::Receiver<Option<Landed>>;

/// How a flight ended. What broke is told once in the log, and to callers as a fault.
#[derive(Clone)]
enum Landed {
    Answered(Box<ToolOutcome>),
    Refused(Refusal),
    Broke(String),
}

pub struct Flights {
    known: Arc<Mutex<HashMap<Flight, Landing>>>,
    places: Arc<Semaphore>,
}

impl Default for Flights {
    fn default() -> Self {
        Flights { known: Arc::default(), places: Arc::new(Semaphore::new(MOST)) }
    }
}

/// Forgets a flight however it ends.
struct Airborne {
    known: Arc<Mutex<HashMap<Flight, Landing>>>,
    flight: Flight,
    landed: watch::Sender<Option<Landed>>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Airborne {
    fn drop(&mut self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.flight);
    }
}

fn still_running() -> Refusal {
    let mut refusal = Refusal::conflict(
        "this call is still running: ask again with exactly the same request, and it is answered once",
    );
    refusal.retry_after_ms = Some(1_000);
    refusal
}

impl Tools {
    /// Executes a call, or waits for whoever does.
    pub(super) async fn run(&self, call: Call, work: Work) -> Result<ToolOutcome, Stop> {
        let (mut landing, mine) = self.join(call, work)?;
        let waited = tokio::time::timeout(self.config.wait, landing.wait_for(Option::is_some)).await;
        let landed = match waited {
            Err(_) => return Err(still_running().into()),
            Ok(Err(_)) => return Err(Fault::msg("a call broke off").into()),
            Ok(Ok(landed)) => landed.clone(),
        };
        match landed {
            Some(Landed::Answered(outcome)) => {
                let idempotent_replay = outcome.idempotent_replay || !mine;
                Ok(ToolOutcome { idempotent_replay, ..*outcome })
            }
            Some(Landed::Refused(refusal)) => Err(refusal.into()),
            Some(Landed::Broke(why)) => Err(Fault::msg(why).into()),
            None => Err(Fault::msg("a call ended without an answer").into()),
        }
    }

    /// The flight of a call, begun now if there is none; and whether it was.
    fn join(&self, call: Call, work: Work) -> Result<(Landing, bool), Refusal> {
        let flight = (call.owner(), call.hash.clone());
        let mut known = self.flights.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = known.get(&flight) {
            return Ok((landing.clone(), false));
        }
        let place = self.flights.places.clone().try_acquire_owned();
        let place = place
            .map_err(|_| Refusal::unavailable("too many tool calls are under way; ask again in a moment"))?;
        let (landed, landing) = watch::channel(None);
        known.insert(flight.clone(), landing.clone());
        drop(known);
        let airborne = Airborne { known: self.flights.known.clone(), flight, landed, _place: place };
        let tools = self.clone();
        tokio::spawn(current::carried(async move {
            let landed = match tools.fly(&call, &work).await {
                Ok(outcome) => Landed::Answered(Box::new(outcome)),
                Err(Stop::Refusal(refusal)) => Landed::Refused(refusal),
                Err(Stop::Fault(fault)) => Landed::Broke(fault.to_string()),
            };
            airborne.landed.send_replace(Some(landed));
        }));
        Ok((landing, true))
    }

    async fn fly(&self, call: &Call, work: &Work) -> Result<ToolOutcome, Stop> {
        let mut waited_since = None;
        for _ in 0..LOOKS {
            match self.reserve(call, waited_since).await? {
                Reserved::Known(reply) | Reserved::Ended(Some(reply)) => return replayed(&reply),
                Reserved::Ended(None) => {
                    let why = "the call that this one waited for ended without an answer; ask again";
                    return Err(Refusal::unavailable(why).into());
                }
                Reserved::Mine(row) => {
                    let executing = self.execute(call, work, &row);
                    let finished = tokio::select! {
                        finished = executing => finished,
                        never = self.stay_alive(&row) => match never {},
                    };
                    return match finished {
                        Ok(finished) => self.finish(row, finished).await,
                        Err(stop) => {
                            self.release(row).await?;
                            Err(stop)
                        }
                    };
                }
                Reserved::Taken => {
                    waited_since.get_or_insert_with(|| self.now());
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
        Err(still_running().into())
    }

    /// Gives signs of life while a call is executed.
    async fn stay_alive(&self, row: &oa_store::tables::tools::ToolCall) -> std::convert::Infallible {
        let every = Duration::from_secs(LEASE_SECONDS.unsigned_abs() / 3);
        loop {
            tokio::time::sleep(every).await;
            match self.renew(row).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(receipt_hash = row.receipt_hash, "a call was taken over while it ran");
                    std::future::pending::<()>().await;
                }
                Err(stop) => tracing::warn!(error = %stop, "a call could not say that it still runs"),
            }
        }
    }
}

fn replayed(reply: &str) -> Result<ToolOutcome, Stop> {
    let known: ToolOutcome =
        serde_json::from_str(reply).map_err(|error| Fault::new("reading what a call came to", error))?;
    Ok(ToolOutcome { idempotent_replay: true, ..known })
}
