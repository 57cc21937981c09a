//! Decides whether a projection still says what its log says, by reading the log again (runtime-core §11).

use oa_contract::{
    Answer, Ask, Caller, Handle, Port as _, Refusal, Stop, Timestamp,
    matrix::ProjectorsDrift,
    projection,
    wire::projectors::{Drift, DriftReply, DriftStatus},
};
use oa_store::{
    Key, Tx,
    tables::{
        drifts::{self, DriftRow},
        runs as run_table, workers,
    },
};
use uuid::Uuid;

use super::recomputed;
use crate::{Runtime, runs};

/// What a topic projects.
#[derive(Clone)]
enum Subject {
    Run(Uuid),
    Worker(String),
}

struct Look {
    topic: String,
    subject: Subject,
    caller: Caller,
    now: Timestamp,
}

impl Handle<ProjectorsDrift> for Runtime {
    async fn handle(&self, ask: Ask<ProjectorsDrift>) -> Result<Answer<DriftReply>, Stop> {
        let topic = ask.query.topic;
        if topic.trim().is_empty() {
            return Err(Refusal::invalid("topic is required for drift lookup").into());
        }
        let subject = subject(&topic).ok_or_else(|| none(&topic))?;
        let look = Look { topic, subject, caller: ask.caller, now: self.now() };
        let key = match &look.subject {
            Subject::Run(run_id) => runs::key(*run_id),
            Subject::Worker(worker_id) => Key::text("worker", worker_id),
        };
        let name = look.topic.clone();
        // Reading the log again holds nobody up; only a verdict that is news is written, and only if nothing has
        // been appended since. A read-only instance answers without writing.
        let verdict = self.store.read("projectors.drift", look, examine).await?;
        if verdict.is_news && self.admits_writes().is_ok() {
            self.store.write("projectors.note_drift", key, verdict.clone(), note).await?;
        }
        match verdict.row {
            Some(row) => Ok(DriftReply { drift: row.drift, status: row.status }.into()),
            None => Err(none(&name).into()),
        }
    }
}

/// What is to be reported of a topic, and what it was read off.
#[derive(Clone)]
struct Verdict {
    row: Option<DriftRow>,
    is_news: bool,
    subject: Subject,
    seen_seq: u64,
}

fn none(topic: &str) -> Refusal {
    Refusal::not_found(format!("no drift is known for topic {topic:?}"))
}

/// The subject of `run:<id>:events` and `worker:<id>:lifecycle`; other topics project nothing.
fn subject(topic: &str) -> Option<Subject> {
    if let Some(id) = topic.strip_prefix("run:").and_then(|rest| rest.strip_suffix(":events")) {
        // Matched exactly: only the written form of the id is the topic.
        return id.parse().ok().filter(|run_id: &Uuid| run_id.to_string() == id).map(Subject::Run);
    }
    topic
        .strip_prefix("worker:")
        .and_then(|rest| rest.strip_suffix(":lifecycle"))
        .map(|id| Subject::Worker(id.to_owned()))
}

/// Compares, and says what report should stand.
async fn examine(tx: &mut Tx, look: &Look) -> Result<Verdict, Stop> {
    let (found, seen_seq) = match &look.subject {
        Subject::Run(run_id) => examine_run(tx, look, *run_id).await?,
        Subject::Worker(worker_id) => examine_worker(tx, look, worker_id).await?,
    };
    let known = drifts::get(tx, &look.topic).await?;
    let row = match (found, known.clone()) {
        (Some(drift), known) => {
            Some(DriftRow { drift: keep_first_sight(known, drift), status: DriftStatus::Open })
        }
        (None, Some(known)) => Some(DriftRow { status: DriftStatus::Resolved, ..known }),
        (None, None) => None,
    };
    Ok(Verdict { is_news: row != known, row, subject: look.subject.clone(), seen_seq })
}

/// Notes a verdict, unless the projection has moved since it was read.
async fn note(tx: &mut Tx, verdict: &Verdict) -> Result<(), Stop> {
    let seq = match &verdict.subject {
        Subject::Run(run_id) => run_table::head(tx, *run_id).await?.map(|head| head.projected.seq),
        Subject::Worker(worker_id) => workers::get(tx, worker_id).await?.map(|worker| worker.projected.seq),
    };
    match &verdict.row {
        Some(row) if seq == Some(verdict.seen_seq) => drifts::put(tx, row).await,
        _ => Ok(()),
    }
}

/// The same drift seen again keeps the moment of its first sight.
fn keep_first_sight(known: Option<DriftRow>, drift: Drift) -> Drift {
    match known {
        Some(row)
            if row.status == DriftStatus::Open
                && (Drift { detected_at: drift.detected_at, ..row.drift.clone() }) == drift =>
        {
            row.drift
        }
        _ => drift,
    }
}

async fn examine_run(tx: &mut Tx, look: &Look, run_id: Uuid) -> Result<(Option<Drift>, u64), Stop> {
    let head = runs::visible_head(tx, run_id, &look.caller).await?;
    let (kept, fresh) = (&head.projected, recomputed(tx, &head).await?);
    let drift =
        compare(&look.topic, (kept.seq, kept.count), (fresh.seq, fresh.count), *kept == fresh, look.now);
    Ok((drift, kept.seq))
}

/// A worker's log is shortened by retention, so its newest entry is what the projection must agree with.
async fn examine_worker(tx: &mut Tx, look: &Look, worker_id: &str) -> Result<(Option<Drift>, u64), Stop> {
    let worker = workers::get(tx, worker_id).await?;
    let visible = worker.filter(|worker| look.caller.may_see(Some(&worker.owner)));
    let worker = visible.ok_or_else(|| none(&look.topic))?;
    let kept = &worker.projected;
    let drift = match workers::last_event(tx, worker_id).await? {
        // Retention always leaves the newest event, so an empty log beside a projection is a lost one.
        None => compare(&look.topic, (kept.seq, kept.count), (0, 0), kept.seq == 0, look.now),
        Some(last) => {
            let payload = serde_json::from_str(last.payload.get()).unwrap_or_default();
            let status = projection::worker_status(&last.event_type, &payload);
            let agrees = kept.seq == last.seq && kept.event_type == last.event_type && kept.status == status;
            compare(&look.topic, (kept.seq, kept.count), (last.seq, last.seq), agrees, look.now)
        }
    };
    Ok((drift, kept.seq))
}

/// A drift, if what is kept is not what the log says. A gap is told from another difference by its reason.
fn compare(topic: &str, kept: (u64, u64), log: (u64, u64), agrees: bool, now: Timestamp) -> Option<Drift> {
    let reason = if kept == log { "projection_mismatch" } else { "sequence_gap" };
    (!agrees || kept != log).then(|| Drift {
        topic: topic.to_owned(),
        expected_next_seq: kept.0 + 1,
        last_seen_seq: kept.0,
        incoming_seq: log.0,
        reason: reason.to_owned(),
        detected_at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_difference_is_a_drift_and_a_gap_is_named_one() {
        let at = Timestamp::EPOCH;
        assert_eq!(compare("t", (3, 3), (3, 3), true, at), None);
        assert_eq!(compare("t", (3, 3), (5, 5), false, at).expect("drift").reason, "sequence_gap");
        assert_eq!(compare("t", (3, 3), (3, 3), false, at).expect("drift").reason, "projection_mismatch");
    }

    #[test]
    fn topics_are_matched_exactly() {
        assert!(matches!(subject("run:019503c1-8a6e-7f10-9c55-2b7f0c1d4e90:events"), Some(Subject::Run(_))));
        assert!(subject("run:019503C1-8A6E-7F10-9C55-2B7F0C1D4E90:events").is_none());
        assert!(
            matches!(subject("worker:desktop:w1:lifecycle"), Some(Subject::Worker(id)) if id == "desktop:w1")
        );
        assert!(subject("fleet:user:1:workers").is_none());
    }
}
