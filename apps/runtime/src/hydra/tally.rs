//! Decides what Hydra counts, and where breakers and the throttle stood when somebody last looked. Counters are added
//! to in memory and written in the background; breakers are written when they change, so that both outlive us.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use oa_contract::{Stop, Timestamp};
use oa_store::{
    Key, Store, Tx,
    tables::hydra::{self as table, Breaker},
};

use super::sources::{CreditView, Throttle, ThrottleView};

pub const NEW_ENVELOPES: &str = "halt_new_envelopes";
pub const LARGE_SETTLEMENTS: &str = "halt_large_settlements";

type Deltas = BTreeMap<&'static str, u64>;

#[derive(Default)]
pub struct Tally {
    deltas: Mutex<Deltas>,
    /// Held while what was counted goes from here to the store, so that nobody reads in between.
    moving: tokio::sync::Mutex<()>,
    throttle: Mutex<Option<Throttle>>,
    /// As they are kept, as far as we know.
    breakers: Mutex<Option<[bool; 2]>>,
}

/// How a withdrawal was treated by the throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttled {
    Stressed,
    Rejected,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn count(&self, name: &'static str) {
        *locked(&self.deltas).entry(name).or_default() += 1;
    }

    /// A decision between routes was made; a repetition counts again.
    pub fn decided(&self, provider_id: &str, confidence: f64, throttle: &ThrottleView) {
        self.count("routing.decision_total");
        self.count(match provider_id {
            "route-direct" => "routing.selected_route_direct",
            "route-cep" => "routing.selected_route_cep",
            _ => "routing.selected_route_other",
        });
        self.count(match confidence {
            low if low < 0.40 => "routing.confidence_lt_040",
            middling if middling < 0.70 => "routing.confidence_040_070",
            high if high < 0.90 => "routing.confidence_070_090",
            _ => "routing.confidence_gte_090",
        });
        match throttle.mode() {
            None | Some("normal") => {}
            Some("stressed") => {
                self.count("throttle.affected");
                self.count("throttle.stressed");
            }
            Some(_) => self.count("throttle.affected"),
        }
    }

    /// A withdrawal met the throttle.
    pub fn withdrawal(&self, throttled: Throttled) {
        self.count("throttle.affected");
        self.count(match throttled {
            Throttled::Stressed => "throttle.stressed",
            Throttled::Rejected => "throttle.rejected",
        });
    }

    /// Somebody looked at the risks: remembers the throttle, and writes breakers that have changed, unless nothing is
    /// written here at all.
    pub async fn saw(
        &self,
        store: &Store,
        credit: &CreditView,
        throttle: &ThrottleView,
        writes: bool,
        now: Timestamp,
    ) -> Result<(), Stop> {
        *locked(&self.throttle) = match throttle {
            ThrottleView::Read(throttle) => Some(throttle.clone()),
            _ => None,
        };
        let seen = [credit.halt_new_envelopes, credit.halt_large_settlements];
        if !writes || *locked(&self.breakers) == Some(seen) {
            return Ok(());
        }
        let keys =
            vec![Key::text("hydra_breaker", NEW_ENVELOPES), Key::text("hydra_breaker", LARGE_SETTLEMENTS)];
        let changed = store.write("hydra.breakers", keys, (seen, now), note).await?;
        for (name, is_open) in changed {
            tracing::warn!(
                breaker = name,
                is_open,
                loss_rate = credit.loss_rate,
                ln_failure_rate = credit.ln_failure_rate,
                "a breaker of credit has changed"
            );
        }
        *locked(&self.breakers) = Some(seen);
        Ok(())
    }

    pub fn throttle(&self) -> Option<Throttle> {
        locked(&self.throttle).clone()
    }

    /// Writes what was counted since the last time.
    pub async fn flush(&self, store: &Store) -> Result<(), Stop> {
        let _moving = self.moving.lock().await;
        let deltas = std::mem::take(&mut *locked(&self.deltas));
        if deltas.is_empty() {
            return Ok(());
        }
        let written = store.write("hydra.count", Key::text("hydra", "counters"), deltas.clone(), add).await;
        if written.is_err() {
            let mut pending = locked(&self.deltas);
            for (name, by) in deltas {
                *pending.entry(name).or_default() += by;
            }
        }
        written
    }

    /// What was ever counted, here and by every other replica; and the breakers.
    pub async fn read(&self, store: &Store) -> Result<(BTreeMap<String, u64>, [Breaker; 2]), Stop> {
        let _moving = self.moving.lock().await;
        let (counted, breakers) = store.read("hydra.counted", (), read).await?;
        let mut all: BTreeMap<String, u64> = counted
            .into_iter()
            .map(|(name, counted)| (name, u64::try_from(counted).unwrap_or_default()))
            .collect();
        for (name, by) in locked(&self.deltas).iter() {
            *all.entry((*name).to_owned()).or_default() += by;
        }
        Ok((all, breakers))
    }
}

async fn add(tx: &mut Tx, deltas: &Deltas) -> Result<(), Stop> {
    for (name, by) in deltas {
        table::count(tx, name, *by).await?;
    }
    Ok(())
}

async fn read(tx: &mut Tx, (): &()) -> Result<(Vec<(String, i64)>, [Breaker; 2]), Stop> {
    let breakers = [table::breaker(tx, NEW_ENVELOPES).await?, table::breaker(tx, LARGE_SETTLEMENTS).await?];
    Ok((table::counted(tx).await?, breakers))
}

async fn note(tx: &mut Tx, (seen, now): &([bool; 2], Timestamp)) -> Result<Vec<(&'static str, bool)>, Stop> {
    let mut changed = Vec::new();
    for (name, is_open) in [NEW_ENVELOPES, LARGE_SETTLEMENTS].into_iter().zip(*seen) {
        let known = table::breaker(tx, name).await?;
        if known.is_open != is_open {
            table::put_breaker(tx, &flipped(known, *now)).await?;
            changed.push((name, is_open));
        }
    }
    Ok(changed)
}

/// Either way is a transition; closing is a recovery too.
fn flipped(known: Breaker, now: Timestamp) -> Breaker {
    Breaker {
        is_open: !known.is_open,
        transitions: known.transitions + 1,
        recoveries: known.recoveries + u64::from(known.is_open),
        changed_at: Some(now),
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_that_closes_has_recovered() {
        let now = Timestamp::from_unix_seconds(7);
        let opened = flipped(Breaker::default(), now);
        assert_eq!((opened.is_open, opened.transitions, opened.recoveries), (true, 1, 0));
        let closed = flipped(opened, now);
        assert_eq!((closed.is_open, closed.transitions, closed.recoveries), (false, 2, 1));
    }

    #[test]
    fn decisions_are_counted_by_route_confidence_and_throttle() {
        let tally = Tally::default();
        let throttle = |mode: &str| {
            ThrottleView::Read(Throttle {
                mode: mode.into(),
                reasons: Vec::new(),
                extra_delay_hours: 0,
                execution_cap_per_tick: None,
            })
        };
        tally.decided("route-cep", 0.39, &throttle("halted"));
        tally.decided("somebody", 0.90, &throttle("stressed"));
        tally.decided("route-direct", 0.40, &ThrottleView::Off);
        tally.withdrawal(Throttled::Rejected);
        let deltas = locked(&tally.deltas).clone();
        let of = |name: &str| deltas.get(name).copied().unwrap_or_default();
        assert_eq!(of("routing.decision_total"), 3);
        assert_eq!((of("routing.selected_route_cep"), of("routing.selected_route_other")), (1, 1));
        assert_eq!((of("routing.confidence_lt_040"), of("routing.confidence_gte_090")), (1, 1));
        assert_eq!(of("routing.confidence_040_070"), 1);
        assert_eq!((of("throttle.affected"), of("throttle.stressed"), of("throttle.rejected")), (3, 1, 1));
    }
}
