//! Decides how everything that was ever settled is compared, round after round (§17.3): each settlement with the
//! ledger and its run, each transfer that moved with its settlement and its wallet, each payment that a run tells of
//! with its settlement. What is read is read outside of the writer, each in a snapshot of its own; only what was found
//! and how far it came is written. What cannot be read is a finding, and stops nothing.

use std::collections::BTreeMap;

use oa_contract::{Fault, Owner, Stop, Timestamp, wire::runs::Actor, wire::treasury::JobStatus};
use oa_ledger::{State, TransferId};
use oa_store::{
    Tx,
    tables::{
        ledger, runs,
        treasury::{self as table},
        treasury_watch as watch,
    },
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    drift::{self, Differs},
    job_name, told, wallet,
};
use crate::Runtime;

/// The one watch over all settlements.
pub(crate) const WATCH: &str = "compute";
/// Keys of a run in one read.
const KEYS: u32 = 500;
/// What cursors begin with that stand behind the settlements.
const LEDGER: &str = "ledger:";
const RUNS: &str = "runs:";

pub(crate) fn watch_key() -> oa_store::Key {
    oa_store::Key::text("treasury_watch", WATCH)
}

/// What a portion showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Settlements.
    pub jobs: u64,
    pub findings: u64,
    /// Where to go on; empty when everything was compared.
    pub next: String,
}

/// What was compared with what, and where it differs now.
struct Subject {
    id: String,
    differs: Differs,
    /// Whether it is to be written: something differs, or differed.
    counts: bool,
}

/// Where the comparison stands. Its text is the cursor of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// Behind this settlement.
    Settlements(String),
    /// Behind this transfer.
    Ledger(String),
    /// In this run, behind this key.
    Runs(Uuid, String),
}

impl At {
    fn parse(cursor: &str) -> Self {
        if let Some(transfer) = cursor.strip_prefix(LEDGER) {
            return At::Ledger(transfer.to_owned());
        }
        let Some(rest) = cursor.strip_prefix(RUNS) else { return At::Settlements(cursor.to_owned()) };
        let (run, key) = rest.split_once(':').unwrap_or((rest, ""));
        At::Runs(run.parse().unwrap_or_default(), key.to_owned())
    }

    fn text(&self) -> String {
        match self {
            At::Settlements(id) => id.clone(),
            At::Ledger(id) => format!("{LEDGER}{id}"),
            At::Runs(run, key) => format!("{RUNS}{run}:{key}"),
        }
    }
}

impl Runtime {
    /// Compares about `limit` of what is next, and keeps what differs.
    pub(crate) async fn compare_portion(&self, limit: u32) -> Result<Compared, Stop> {
        let standing = async |tx: &mut Tx, name: &&'static str| watch::get(tx, name).await;
        let from = self.store.read("treasury.watch", WATCH, standing).await?.cursor;
        let mut at = Some(At::parse(&from));
        let (mut subjects, mut compared, mut left) = (Vec::new(), Compared::default(), limit);
        while let Some(here) = at.take() {
            if left == 0 {
                at = Some(here);
                break;
            }
            let (found, used, next) = match here {
                At::Settlements(after) => {
                    let page = self.settlements(after, left).await?;
                    compared.jobs += page.0.len() as u64;
                    page
                }
                At::Ledger(after) => self.transfers(after, left).await?,
                At::Runs(run, after) => self.payments(run, after).await?,
            };
            subjects.extend(found);
            left = left.saturating_sub(used.max(1));
            at = next;
        }
        compared.next = at.as_ref().map(At::text).unwrap_or_default();
        for Subject { id, differs, .. } in &subjects {
            compared.findings += differs.len() as u64;
            for (kind, detail) in differs {
                tracing::error!(subject = id, kind, detail, "the treasury does not add up");
            }
        }
        subjects.retain(|subject| subject.counts);
        let kept = (from, compared.next.clone(), subjects, self.now());
        self.store.write("treasury.compared", watch_key(), kept, keep).await?;
        Ok(compared)
    }

    async fn settlements(&self, after: String, limit: u32) -> Result<Page, Stop> {
        let page =
            async |tx: &mut Tx, (after, limit): &(String, u32)| table::ids_after(tx, after, *limit).await;
        let ids = self.store.read("treasury.ids", (after, limit), page).await?;
        let next = match (ids.len() == limit as usize, ids.last()) {
            (true, Some(last)) => At::Settlements(last.clone()),
            _ => At::Ledger(String::new()),
        };
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let judged = self
                .store
                .read("treasury.compare", id.clone(), async |tx, id: &String| settlement(tx, id).await)
                .await;
            found.push(self.subject(id, judged).await?);
        }
        let used = u32::try_from(found.len()).unwrap_or(u32::MAX);
        Ok((found, used, Some(next)))
    }

    async fn transfers(&self, after: String, limit: u32) -> Result<Page, Stop> {
        let page =
            async |tx: &mut Tx, (after, limit): &(String, u32)| ledger::ids_after(tx, after, *limit).await;
        let ids = self.store.read("treasury.transfers", (after, limit), page).await?;
        let used = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let next = match (used == limit, ids.last()) {
            (true, Some(last)) => At::Ledger(last.to_string()),
            _ => At::Runs(Uuid::nil(), String::new()),
        };
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let judged = match self.store.read("treasury.moved", id.clone(), moved).await {
                Ok((mut differs, out)) => {
                    if let Some((transfer, amount)) = out {
                        let receipt = self.wallet.receipt(&transfer, self.now()).await?;
                        differs.extend(wallet::judge(amount, self.wallet.name(), receipt));
                    }
                    Ok(differs)
                }
                Err(stop) => Err(stop),
            };
            found.push(self.subject(id.to_string(), judged).await?);
        }
        Ok((found, used, Some(next)))
    }

    /// The payments of one run, or of a part of it.
    async fn payments(&self, run: Uuid, after: String) -> Result<Page, Stop> {
        let run = match after.is_empty() {
            false => run,
            true => {
                let next = async |tx: &mut Tx, run: &Uuid| runs::next(tx, *run).await;
                match self.store.read("treasury.run", run, next).await? {
                    Some(run) => run,
                    None => return Ok((Vec::new(), 1, None)),
                }
            }
        };
        let page =
            async |tx: &mut Tx, (run, after): &(Uuid, String)| runs::keys_after(tx, *run, after, KEYS).await;
        let keys = self.store.read("treasury.keys", (run, after), page).await?;
        let next = match (keys.len() == KEYS as usize, keys.last()) {
            (true, Some(last)) => At::Runs(run, last.clone()),
            _ => At::Runs(run, String::new()),
        };
        let mut found = Vec::new();
        for key in keys.into_iter().filter(|key| told::PAYMENT.strip(key).is_some()) {
            let judged = self.store.read("treasury.told", (run, key.clone()), told).await;
            found.push(self.subject(format!("run:{run}:{key}"), judged).await?);
        }
        let used = u32::try_from(found.len()).unwrap_or(u32::MAX);
        Ok((found, used, Some(next)))
    }

    /// A damaged row gives a fault, and is a finding of its own.
    async fn subject(&self, id: String, judged: Result<Differs, Stop>) -> Result<Subject, Stop> {
        let differs = match judged {
            Ok(differs) => differs,
            Err(Stop::Fault(fault)) => vec![("unreadable", fault.to_string())],
            Err(stop) => return Err(stop),
        };
        let counts = match differs.is_empty() {
            false => true,
            true => {
                let known = async |tx: &mut Tx, id: &String| watch::is_found(tx, id).await;
                self.store.read("treasury.found", id.clone(), known).await?
            }
        };
        Ok(Subject { id, differs, counts })
    }
}

/// What was compared, how much of the portion it took, and where to go on.
type Page = (Vec<Subject>, u32, Option<At>);

async fn keep(
    tx: &mut Tx,
    (from, next, subjects, now): &(String, String, Vec<Subject>, Timestamp),
) -> Result<(), Stop> {
    for subject in subjects {
        watch::keep(tx, &subject.id, &subject.differs, *now).await?;
    }
    let standing = watch::get(tx, WATCH).await?;
    // Somebody else may have gone on from the same place meanwhile.
    if standing.cursor == *from {
        let rounds = standing.rounds + u64::from(next.is_empty());
        watch::put(tx, WATCH, &watch::Watch { cursor: next.clone(), rounds, ..standing }).await?;
    }
    Ok(())
}

async fn settlement(tx: &mut Tx, id: &str) -> Result<Differs, Stop> {
    let Some(row) = table::get(tx, id).await? else { return Ok(Vec::new()) };
    let transfer = ledger::get(tx, &TransferId::new(row.hold_id.as_str())?).await?;
    let key =
        told::PAYMENT.key(format_args!("{}:{}", job_name(&row.job_hash, row.attempt), row.status.name()));
    let paid = match runs::key(tx, row.run_id, Actor::Service, &key).await? {
        None => None,
        Some(known) => {
            let event = runs::event_at(tx, row.run_id, known.position).await?;
            let payload: Value = serde_json::from_str(event.payload.get()).unwrap_or(Value::Null);
            match event.event_type == "payment" {
                true => payload["amount_msats"].as_u64(),
                false => None,
            }
        }
    };
    Ok(drift::judge(&row, transfer.as_ref(), paid)?)
}

/// What went out through a wallet.
type Out = Option<(oa_ledger::Transfer, oa_contract::Amount)>;

/// A transfer of the market that has moved money belongs to a settlement that says so.
async fn moved(tx: &mut Tx, id: &TransferId) -> Result<(Differs, Out), Stop> {
    let missing = || Fault::msg(format!("the transfer {id} is gone"));
    let transfer = ledger::get(tx, id).await?.ok_or_else(missing)?;
    if transfer.state != State::Posted {
        return Ok((Vec::new(), None));
    }
    let mut parts = id.as_str().splitn(3, ':');
    let (kind, name) = (parts.next(), parts.next().unwrap_or_default());
    let settled = match kind {
        Some("treasury") => Some(table::get(tx, name).await?),
        Some("market") => Some(table::by_dispatch(tx, name).await?),
        _ => None,
    };
    let mut differs = Vec::new();
    if let Some(settled) = settled {
        // What an agent no longer owes goes with what paid for it (`settle/credit.rs`).
        let named = match id.as_str().strip_suffix(":relief") {
            Some(front) => format!("{front}:credit"),
            None => id.to_string(),
        };
        let says = settled.is_some_and(|row| row.hold_id == named && row.status == JobStatus::Released);
        if !says {
            let total = transfer.legs.iter().filter_map(|booked| booked.captured).map(|part| part.get());
            let total: u64 = total.fold(0, u64::saturating_add);
            differs.push(("settlement_missing", format!("{total} were moved, and no settlement says so")));
        }
    }
    let out = match wallet::is_excess(&transfer) {
        true => None,
        false => wallet::moved_out(&transfer),
    };
    let Some(mut amount) = out else { return Ok((differs, None)) };
    let excess = ledger::get(tx, &TransferId::new(wallet::excess_id(id.as_str()))?).await?;
    if let Some(more) = excess.as_ref().and_then(wallet::moved_out) {
        amount = amount.plus(more).unwrap_or(oa_contract::Amount::MAX);
    }
    Ok((differs, Some((transfer, amount))))
}

/// A payment that a run tells of belongs to a settlement that ended like that.
async fn told(tx: &mut Tx, (run, key): &(Uuid, String)) -> Result<Differs, Stop> {
    let unsettled = |why: &str| vec![("payment_unsettled", format!("{key}: {why}"))];
    let Some((job, status)) = told::PAYMENT.strip(key).and_then(|rest| rest.rsplit_once(':')) else {
        return Ok(unsettled("no settlement writes such a payment"));
    };
    let (hash, attempt) = match job.rsplit_once('#') {
        Some((hash, attempt)) => (hash, attempt.parse().unwrap_or(0)),
        None => (job, 1),
    };
    let owner = runs::head(tx, *run).await?.and_then(|head| head.owner_key);
    let owner = owner.as_deref().and_then(Owner::parse);
    let rows = table::of_job(tx, *run, hash, attempt, KEYS).await?;
    let ended: BTreeMap<String, JobStatus> = rows
        .into_iter()
        .filter(|row| owner.as_ref().is_none_or(|owner| row.owner == *owner))
        .map(|row| (row.settlement_id, row.status))
        .collect();
    Ok(match ended.values().any(|ended| ended.name() == status) {
        true => Vec::new(),
        false if ended.is_empty() => unsettled("there is no such settlement"),
        false => unsettled("the settlement has ended otherwise"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_says_where_it_stands() {
        let run = Uuid::from_u128(7);
        for at in [
            At::Settlements(String::new()),
            At::Settlements("stl_1".into()),
            At::Ledger(String::new()),
            At::Ledger("market:dsp_1:1".into()),
            At::Runs(Uuid::nil(), String::new()),
            At::Runs(run, "payment:job:released".into()),
        ] {
            assert_eq!(At::parse(&at.text()), at);
        }
    }
}
