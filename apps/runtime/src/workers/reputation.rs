//! Decides what a signal about a provider changes (marketplace §11): its counts, its marks, and whether it is
//! quarantined. Each kind of signal counts once for each subject, whoever repeats it. A signal is no sign of
//! life: when the provider was last heard of stays as it was.

use oa_contract::{
    Fault, Msats, Refusal, Stop, canonical, wire::fraud::Severity, wire::workers::WorkerStatus,
};
use oa_store::{
    Tx,
    tables::{
        provider_signals::{self, SignalRow},
        workers::{self, WorkerRow},
    },
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{metadata, ruling::Ruling, snapshot::Moment, status};
use crate::fraud::{NewIncident, record};

const VIOLATIONS_THRESHOLD: u64 = 3;
const FAILURES_THRESHOLD: u64 = 5;
const PRICE_VIOLATIONS_THRESHOLD: u64 = 3;
/// What is left of the strikes of whoever was released from quarantine: the lowest tier, and one violation from it.
pub const PROBATION_STRIKES: u64 = VIOLATIONS_THRESHOLD - 1;
/// Jobs done well after which a released provider is trusted again.
const PROBATION_JOBS: u64 = 5;
/// How many jobs it had done well when it was released.
const PROBATION: &str = "last_release_success_count";

/// What was seen.
#[derive(Clone, Debug)]
pub enum Signal {
    /// It did not answer well, or not at all.
    DispatchFailure { reason: String },
    /// Its evidence does not hold.
    Violation { violations: Vec<String> },
    /// Others who ran the same job agree that its answer is not what the job comes to: no second time is needed.
    Refuted { violations: Vec<String> },
    /// Its evidence holds, whatever became of the job.
    Success,
    /// What it took, compared with what it had promised to take.
    PriceIntegrity(PriceFacts),
}

#[derive(Clone, Debug)]
pub struct PriceFacts {
    pub quote_id: String,
    pub quote_sha256: String,
    pub quoted: Msats,
    pub delivered: Msats,
    pub variance_msats: i64,
    pub variance_bps: u64,
    pub violation: bool,
}

/// A signal, about whom, and what it was seen in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub worker_id: String,
    /// The id of a dispatch or of a settlement.
    pub subject_id: String,
    pub job_hash: String,
    pub signal: Signal,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The provider as it stands now.
    pub row: WorkerRow,
    /// Whether it had not been counted before.
    pub fresh: bool,
    /// Why the provider is quarantined from now on, if it is.
    pub quarantined: Option<&'static str>,
}

impl Signal {
    pub const fn kind(&self) -> &'static str {
        match self {
            Signal::DispatchFailure { .. } => "dispatch_failure",
            Signal::Violation { .. } => "violation",
            Signal::Refuted { .. } => "refuted",
            Signal::Success => "success",
            Signal::PriceIntegrity(_) => "price_integrity",
        }
    }

    fn detail(&self) -> Value {
        match self {
            Signal::DispatchFailure { reason } => json!({"reason": reason}),
            Signal::Violation { violations } | Signal::Refuted { violations } => {
                json!({"violations": violations})
            }
            Signal::Success => json!({}),
            Signal::PriceIntegrity(facts) => json!({
                "quote_id": facts.quote_id,
                "quote_sha256": facts.quote_sha256,
                "quoted_provider_price_msats": facts.quoted,
                "delivered_provider_amount_msats": facts.delivered,
                "variance_msats": facts.variance_msats,
                "variance_bps": facts.variance_bps,
                "violation": facts.violation,
            }),
        }
    }
}

/// Counts a signal, in the transaction of its cause. The caller holds the key of the worker.
pub async fn count(tx: &mut Tx, seen: &Seen, moment: Moment) -> Result<Counted, Stop> {
    let unknown = || Refusal::invalid(format!("unknown provider worker_id {}", seen.worker_id));
    let known = workers::get(tx, &seen.worker_id).await?.ok_or_else(unknown)?;
    let signal = SignalRow {
        worker_id: seen.worker_id.clone(),
        kind: seen.signal.kind().to_owned(),
        subject_id: seen.subject_id.clone(),
        job_hash: Some(seen.job_hash.clone()),
        detail: raw(&seen.signal.detail())?,
        seen_at: moment.now,
    };
    if !provider_signals::keep(tx, &signal).await? {
        return Ok(Counted { row: known, fresh: false, quarantined: None });
    }
    let Decided { row, quarantined } = decide(&known, seen, moment)?;
    let payload = json!({
        "status": row.status.name(), "signal": seen.signal.kind(), "subject_id": seen.subject_id,
    });
    let mut row = Ruling::new(Some(&known), row, "worker.reputation", &payload, moment)?.commit(tx).await?;
    if let Some(reason) = quarantined {
        if row.status != WorkerStatus::Failed && row.status.may_become(WorkerStatus::Failed) {
            row = status::decide(&row, WorkerStatus::Failed, "quarantined", moment)?.commit(tx).await?;
        }
        record(tx, &incident(&row, seen, reason)?, moment.now).await?;
    }
    Ok(Counted { row, fresh: true, quarantined })
}

struct Decided {
    row: WorkerRow,
    quarantined: Option<&'static str>,
}

/// What the provider's row becomes. The threshold is that of the signal that is counted; both kinds of strikes
/// share one count.
fn decide(known: &WorkerRow, seen: &Seen, moment: Moment) -> Result<Decided, Fault> {
    let mut row = known.clone();
    let mut marks = marks(known)?;
    let at = moment.now.offset();
    let mut put = |key: &str, value: Value| marks.insert(key.to_owned(), value);
    let (count, threshold, reason) = match &seen.signal {
        Signal::Violation { violations } | Signal::Refuted { violations } => {
            row.reputation.failure_strikes += 1;
            put("last_violation_at", at.into());
            let first = violations.first().map_or("violation", String::as_str);
            put("last_violation_reason", short(first).into());
            put("last_violation_job_hash", seen.job_hash.as_str().into());
            match seen.signal {
                Signal::Refuted { .. } => (1, 1, "reexecution_refuted"),
                _ => (row.reputation.failure_strikes, VIOLATIONS_THRESHOLD, "verification_violations"),
            }
        }
        Signal::DispatchFailure { reason } => {
            row.reputation.failure_strikes += 1;
            put("last_failure_at", at.into());
            put("last_failure_reason", short(reason).into());
            put("last_failure_job_hash", seen.job_hash.as_str().into());
            (row.reputation.failure_strikes, FAILURES_THRESHOLD, "provider_failures")
        }
        Signal::Success => {
            row.reputation.success_count += 1;
            put("last_success_at", at.into());
            put("last_success_job_hash", seen.job_hash.as_str().into());
            let since = marks.get(PROBATION).and_then(Value::as_u64);
            if since.is_some_and(|since| row.reputation.success_count >= since + PROBATION_JOBS) {
                marks.remove(PROBATION);
                row.reputation.failure_strikes = 0;
            }
            (0, u64::MAX, "")
        }
        Signal::PriceIntegrity(facts) => {
            let samples = number(known, "price_integrity_samples")? + 1;
            let violations = number(known, "price_integrity_violations")? + u64::from(facts.violation);
            put("price_integrity_samples", samples.into());
            put("price_integrity_violations", violations.into());
            put("last_price_variance_bps", facts.variance_bps.into());
            put("last_price_integrity_at", at.into());
            put("last_price_integrity_job_hash", seen.job_hash.as_str().into());
            put("last_price_integrity_quote_id", facts.quote_id.as_str().into());
            put("last_price_integrity_quote_sha256", facts.quote_sha256.as_str().into());
            put("last_price_integrity_quoted_provider_price_msats", facts.quoted.get().into());
            put("last_price_integrity_delivered_provider_amount_msats", facts.delivered.get().into());
            put("last_price_integrity_variance_msats", facts.variance_msats.into());
            (violations, PRICE_VIOLATIONS_THRESHOLD, "price_integrity")
        }
    };
    row.reputation.marks = raw(&Value::Object(marks))?;
    let quarantined = (count >= threshold && known.reputation.quarantined_at.is_none()).then_some(reason);
    if let Some(reason) = quarantined {
        row.reputation.quarantined_at = Some(moment.now);
        row.reputation.quarantine_reason = Some(reason.to_owned());
    }
    Ok(Decided { row, quarantined })
}

/// The row of whoever is released from quarantine: no more strikes than the lowest tier has, and none fewer.
pub fn on_probation(known: &WorkerRow, reason: &str, moment: Moment) -> Result<WorkerRow, Fault> {
    let mut row = known.clone();
    let mut marks = marks(known)?;
    let violations = number(known, "price_integrity_violations")?;
    if violations > 0 {
        let left = violations.min(PRICE_VIOLATIONS_THRESHOLD - 1);
        marks.insert("price_integrity_violations".into(), left.into());
    }
    marks.insert("last_release_at".into(), moment.now.offset().into());
    marks.insert("last_release_reason".into(), short(reason).into());
    marks.insert(PROBATION.into(), row.reputation.success_count.into());
    row.reputation.marks = raw(&Value::Object(marks))?;
    row.reputation.failure_strikes = PROBATION_STRIKES;
    row.reputation.quarantined_at = None;
    row.reputation.quarantine_reason = None;
    Ok(row)
}

/// Reasons come from elsewhere and may be long.
fn short(text: &str) -> String {
    text.chars().take(500).collect()
}

pub fn raw(value: &Value) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(canonical::compact(value)).map_err(|error| Fault::new("writing a signal", error))
}

fn marks(row: &WorkerRow) -> Result<Map<String, Value>, Fault> {
    match metadata::read(&row.reputation.marks)? {
        Value::Object(marks) => Ok(marks),
        _ => Ok(Map::new()),
    }
}

/// A count that stands among the marks.
pub fn number(row: &WorkerRow, mark: &str) -> Result<u64, Fault> {
    Ok(marks(row)?.get(mark).and_then(Value::as_u64).unwrap_or(0))
}

fn incident(row: &WorkerRow, seen: &Seen, reason: &'static str) -> Result<NewIncident, Fault> {
    let (quote_sha256, counted, threshold) = match &seen.signal {
        Signal::PriceIntegrity(facts) => {
            let violations = number(row, "price_integrity_violations")?;
            (Some(facts.quote_sha256.clone()), violations, PRICE_VIOLATIONS_THRESHOLD)
        }
        Signal::Refuted { .. } => (None, 1, 1),
        Signal::Violation { .. } => (None, row.reputation.failure_strikes, VIOLATIONS_THRESHOLD),
        _ => (None, row.reputation.failure_strikes, FAILURES_THRESHOLD),
    };
    let said = metadata::read(&row.metadata)?;
    let provider_id = said.get("provider_id").and_then(Value::as_str).unwrap_or(&row.worker_id);
    let mut evidence = json!({
        "reason_code": reason,
        "failure_strikes": row.reputation.failure_strikes,
        "counted": counted,
        "threshold": threshold,
        "subject_id": seen.subject_id,
    });
    metadata::merge(&mut evidence, &seen.signal.detail());
    Ok(NewIncident {
        incident_type: "provider_quarantined".into(),
        severity: Severity::Critical,
        provider_id: Some(provider_id.to_owned()),
        provider_worker_id: Some(row.worker_id.clone()),
        job_hash: Some(seen.job_hash.clone()),
        run_id: None,
        quote_sha256,
        actions: vec!["quarantined".into(), reason.into()],
        evidence,
    })
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::workers::RegisterWorker;

    use super::*;
    use crate::{
        testing::{HealthRoute, World, on_each_engine, operator},
        workers::{
            key,
            tests_support::{raw as json_text, register, stored, user},
        },
    };

    async fn provider(world: &World) -> HealthRoute {
        let route = HealthRoute::answering(200).await;
        let metadata = format!(
            r#"{{"roles":["provider"],"provider_id":"prov","provider_base_url":"{}","capabilities":["oa.sandbox_run.v1"]}}"#,
            route.base()
        );
        let body =
            RegisterWorker { worker_id: Some("p".into()), metadata: Some(json_text(&metadata)), ..user(1) };
        register(world, &operator(), body).await.expect("registered");
        route
    }

    async fn counted(world: &World, subject_id: &str, signal: Signal) -> Counted {
        let seen = Seen {
            worker_id: "p".into(),
            subject_id: subject_id.into(),
            job_hash: format!("job-{subject_id}"),
            signal,
        };
        let ask = (seen, Moment::of(&world.runtime));
        let write = async |tx: &mut Tx, (seen, moment): &(Seen, Moment)| count(tx, seen, *moment).await;
        world.runtime.store.write("test.signal", key("p"), ask, write).await.expect("counted")
    }

    fn failure() -> Signal {
        Signal::DispatchFailure { reason: "dispatch_error".into() }
    }

    #[tokio::test]
    async fn a_signal_counts_once_for_its_subject_however_often_and_in_whatever_turn_it_comes() {
        on_each_engine(async |world: World| {
            let _route = provider(&world).await;
            for _ in 0..3 {
                counted(&world, "a", failure()).await;
                counted(&world, "b", failure()).await;
                counted(&world, "a", Signal::Success).await;
            }
            let (row, _) = stored(&world, "p").await;
            assert_eq!((row.reputation.failure_strikes, row.reputation.success_count), (2, 1));
            assert!(!counted(&world, "a", failure()).await.fresh);
        })
        .await;
    }

    #[tokio::test]
    async fn signals_at_one_time_are_all_counted() {
        on_each_engine(async |world: World| {
            let _route = provider(&world).await;
            let all = (0..16).map(|n| (n, Signal::Success)).map(|(n, signal)| {
                let world = &world;
                async move { counted(world, &format!("s{n}"), signal).await }
            });
            futures_util::future::join_all(all).await;
            assert_eq!(stored(&world, "p").await.0.reputation.success_count, 16);
        })
        .await;
    }

    #[tokio::test]
    async fn a_signal_is_no_sign_of_life() {
        let world = World::sqlite().await;
        let _route = provider(&world).await;
        let heard = stored(&world, "p").await.0.last_heartbeat_at;
        world.clock.advance_ms(200_000);
        counted(&world, "a", failure()).await;
        assert_eq!(stored(&world, "p").await.0.last_heartbeat_at, heard);
    }

    #[tokio::test]
    async fn three_violations_or_five_strikes_quarantine_and_are_one_incident() {
        on_each_engine(async |world: World| {
            let _route = provider(&world).await;
            for n in 0..4 {
                assert_eq!(counted(&world, &format!("f{n}"), failure()).await.quarantined, None);
            }
            let violation = || Signal::Violation { violations: vec!["cmd mismatch".into(), "more".into()] };
            let last = counted(&world, "v", violation()).await;
            assert_eq!(last.quarantined, Some("verification_violations"), "five is above three");
            assert_eq!(last.row.status, WorkerStatus::Failed);
            assert_eq!(counted(&world, "w", violation()).await.quarantined, None, "it is already");
            let (row, events) = stored(&world, "p").await;
            assert_eq!(row.reputation.quarantine_reason.as_deref(), Some("verification_violations"));
            let told: Value =
                serde_json::from_str(metadata::answered(&row).expect("told").get()).expect("JSON");
            assert_eq!(told["last_violation_reason"], "cmd mismatch");
            assert_eq!(told["failure_strikes"], 6);
            let failed = events.iter().find(|event| event.event_type == "worker.failed").expect("the event");
            assert_eq!(failed.payload.get(), r#"{"status":"failed","reason":"quarantined"}"#);
        })
        .await;
    }

    #[tokio::test]
    async fn prices_that_were_not_kept_are_marked() {
        let world = World::sqlite().await;
        let _route = provider(&world).await;
        let msats = |amount| Msats::new(amount).expect("an amount");
        let facts = |violation| {
            Signal::PriceIntegrity(PriceFacts {
                quote_id: "quote_1".into(),
                quote_sha256: "q".into(),
                quoted: msats(1000),
                delivered: msats(1500),
                variance_msats: 500,
                variance_bps: 5000,
                violation,
            })
        };
        let counted = counted(&world, "s", facts(true)).await;
        let told: Value =
            serde_json::from_str(metadata::answered(&counted.row).expect("told").get()).expect("JSON");
        assert_eq!(told["price_integrity_samples"], 1);
        assert_eq!(told["price_integrity_violations"], 1);
        assert_eq!(told["last_price_variance_bps"], 5000);
        assert_eq!(told["success_count"], 0);
    }
}
