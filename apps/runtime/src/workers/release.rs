//! `POST /admin/v1/workers/:worker_id/release`: an operator ends a quarantine. The provider may be chosen again, in
//! the lowest tier: its jobs are run once more before they are paid, and the next strike of the kind that put it in
//! quarantine puts it there again, until it has proved itself (marketplace §17.4).

use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Refusal, Stop, canonical,
    matrix::WorkersRelease,
    wire::workers::{ReleaseReply, ReleaseWorker, WorkerStatus},
};
use oa_store::{
    Key, Tx,
    idempotency::{self, Known},
    tables::{
        provider_signals::{self, SignalRow},
        workers::{self, WorkerRow},
    },
};
use serde_json::json;

use super::{
    LONGEST_TEXT, at_most, key,
    reputation::{self, PROBATION_STRIKES},
    ruling::Ruling,
    snapshot::{self, Moment},
    status, unknown,
};
use crate::Runtime;

/// Whose idempotency keys these are: an operator's.
const KEYS: &str = "workers.release";
const LONGEST_KEY: usize = 255;

#[derive(Debug)]
struct Release {
    worker_id: String,
    reason: String,
    by: String,
    key: Option<(String, [u8; 32])>,
    moment: Moment,
}

impl Handle<WorkersRelease> for Runtime {
    async fn handle(&self, ask: Ask<WorkersRelease>) -> Result<Answer<ReleaseReply>, Stop> {
        let release = read(ask.path.worker_id, ask.body, &ask.caller, Moment::of(self))?;
        let mut keys = vec![key(&release.worker_id)];
        keys.extend(release.key.iter().map(|(key, _)| Key::text(KEYS, key)));
        Ok(self.store.write("workers.release", keys, release, commit).await?.into())
    }
}

async fn commit(tx: &mut Tx, release: &Release) -> Result<ReleaseReply, Stop> {
    if let Some((key, fingerprint)) = &release.key {
        match idempotency::find(tx, KEYS, key, fingerprint).await? {
            Known::Fresh => {}
            Known::Mismatch => {
                return Err(Refusal::conflict("idempotency_key already used for another release").into());
            }
            Known::Replay { reply, .. } => {
                let unread = |error| Fault::new("reading a kept answer", error);
                return Ok(serde_json::from_str(&reply).map_err(unread)?);
            }
        }
    }
    let known = workers::get(tx, &release.worker_id).await?.ok_or_else(|| unknown(&release.worker_id))?;
    let released = known.reputation.quarantined_at.is_some();
    let row = match released {
        true => end(tx, known, release).await?,
        false => known,
    };
    let reply = ReleaseReply { released, worker: snapshot::snapshot(&row, release.moment)? };
    if let Some((key, fingerprint)) = &release.key {
        let text = serde_json::to_string(&reply).map_err(|error| Fault::new("writing an answer", error))?;
        idempotency::keep(tx, KEYS, key, fingerprint, 200, &text, release.moment.now).await?;
    }
    Ok(reply)
}

async fn end(tx: &mut Tx, known: WorkerRow, release: &Release) -> Result<WorkerRow, Stop> {
    let moment = release.moment;
    let was = &known.reputation;
    let detail = json!({
        "by": release.by,
        "reason": release.reason,
        "quarantine_reason": was.quarantine_reason,
        "failure_strikes": was.failure_strikes,
    });
    // The log of a worker is cut one day; this stays.
    let signal = SignalRow {
        worker_id: known.worker_id.clone(),
        kind: "quarantine_released".into(),
        subject_id: was.quarantined_at.unwrap_or(moment.now).micros().to_string(),
        job_hash: None,
        detail: reputation::raw(&detail)?,
        seen_at: moment.now,
    };
    provider_signals::keep(tx, &signal).await?;
    let row = reputation::on_probation(&known, &release.reason, moment)?;
    let payload = json!({
        "status": row.status.name(), "reason": release.reason, "by": release.by,
        "quarantine_reason": was.quarantine_reason, "failure_strikes": PROBATION_STRIKES,
    });
    let ruled = Ruling::new(Some(&known), row, "worker.quarantine_released", &payload, moment)?;
    let row = ruled.commit(tx).await?;
    match row.status {
        // That is what the quarantine made of it. Whoever is silent is stale, and not chosen.
        WorkerStatus::Failed => {
            status::decide(&row, WorkerStatus::Running, "quarantine_released", moment)?.commit(tx).await
        }
        _ => Ok(row),
    }
}

fn read(worker_id: String, body: ReleaseWorker, caller: &Caller, moment: Moment) -> Result<Release, Refusal> {
    let reason = body.reason.trim().to_owned();
    if reason.is_empty() {
        return Err(Refusal::invalid("reason must say why the quarantine ends"));
    }
    at_most("reason", &reason, LONGEST_TEXT)?;
    let key = body.idempotency_key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| key.len() > LONGEST_KEY || key.chars().any(char::is_control)) {
        let message =
            format!("idempotency_key must be at most {LONGEST_KEY} bytes without control characters");
        return Err(Refusal::invalid(message));
    }
    let by = match caller {
        Caller::Service { name, .. } => name.clone(),
        Caller::User(user) => format!("user:{}", user.owner_user_id),
        Caller::Anyone => "anyone".into(),
    };
    let fingerprint = canonical::canonical_digest(&json!([worker_id, reason]));
    Ok(Release { worker_id, reason, by, key: key.map(|key| (key, fingerprint)), moment })
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::marketplace::Tier;
    use oa_contract::{
        Code, Nothing,
        wire::{paths::WorkerPath, workers::RegisterWorker},
    };

    use super::*;
    use crate::{
        marketplace::market,
        testing::{HealthRoute, World, on_each_engine, operator, refused},
        workers::{
            reputation::{Seen, Signal},
            tests_support::{raw, register, stored, user},
        },
    };

    async fn provider(world: &World) -> HealthRoute {
        let route = HealthRoute::answering(200).await;
        let metadata = format!(
            r#"{{"roles":["provider"],"provider_base_url":"{}","capabilities":["oa.sandbox_run.v1"]}}"#,
            route.base()
        );
        let body = RegisterWorker { worker_id: Some("p".into()), metadata: Some(raw(&metadata)), ..user(1) };
        register(world, &operator(), body).await.expect("registered");
        route
    }

    async fn seen(world: &World, subject: &str, signal: Signal) -> Option<&'static str> {
        let seen = Seen { worker_id: "p".into(), subject_id: subject.into(), job_hash: "j".into(), signal };
        let ask = (seen, Moment::of(&world.runtime));
        let write =
            async |tx: &mut Tx, (seen, moment): &(Seen, Moment)| reputation::count(tx, seen, *moment).await;
        world.runtime.store.write("test.signal", key("p"), ask, write).await.expect("counted").quarantined
    }

    fn violation() -> Signal {
        Signal::Violation { violations: vec!["cmd mismatch".into()] }
    }

    async fn release(world: &World, reason: &str, key: Option<&str>) -> Result<ReleaseReply, Stop> {
        let body = ReleaseWorker { reason: reason.into(), idempotency_key: key.map(str::to_owned) };
        let path = WorkerPath { worker_id: "p".into() };
        world.call::<WorkersRelease>(&operator(), path, Nothing {}, body).await.map(|(_, reply)| reply)
    }

    async fn tier(world: &World) -> Tier {
        let (row, _) = stored(world, "p").await;
        market::offer(&row, false).expect("read").expect("a provider").tier
    }

    #[tokio::test]
    async fn a_release_ends_the_quarantine_once_and_the_provider_is_on_probation() {
        on_each_engine(async |world: World| {
            let _route = provider(&world).await;
            for n in 0..4 {
                seen(&world, &format!("v{n}"), violation()).await;
            }
            assert_eq!(stored(&world, "p").await.0.status, WorkerStatus::Failed);
            let first = release(&world, " looked at it ", Some("once")).await.expect("released");
            assert!(first.released);
            assert_eq!(first.worker.worker.status, WorkerStatus::Running);
            let (row, events) = stored(&world, "p").await;
            assert_eq!((row.reputation.quarantined_at, row.reputation.failure_strikes), (None, 2));
            assert_eq!(tier(&world).await, Tier::Provisional);
            let told = events.iter().find(|event| event.event_type == "worker.quarantine_released");
            let told = told.expect("the event").payload.get();
            assert!(told.contains(r#""reason":"looked at it""#) && told.contains(r#""by":"operator""#));
            // Again there is nothing to release, and nothing is written.
            assert!(!release(&world, "again", None).await.expect("answered").released);
            assert_eq!(stored(&world, "p").await.0.latest_seq, row.latest_seq);
            // The next violation is one too many, and a late repetition of the release does not undo that.
            assert_eq!(seen(&world, "v9", violation()).await, Some("verification_violations"));
            let late = release(&world, "looked at it", Some("once")).await.expect("answered as before");
            assert_eq!(late.worker.worker.latest_seq, first.worker.worker.latest_seq);
            assert!(stored(&world, "p").await.0.reputation.quarantined_at.is_some());
            assert_eq!(refused(release(&world, "other", Some("once")).await).code, Code::Conflict);
        })
        .await;
    }

    #[tokio::test]
    async fn who_proves_itself_after_a_release_is_trusted_again() {
        on_each_engine(async |world: World| {
            let _route = provider(&world).await;
            seen(&world, "old", Signal::Success).await;
            seen(&world, "r", Signal::Refuted { violations: vec!["wrong".into()] }).await;
            release(&world, "a broken disk, replaced", None).await.expect("released");
            for n in 0..5 {
                assert_eq!(tier(&world).await, Tier::Provisional, "after {n}");
                seen(&world, &format!("s{n}"), Signal::Success).await;
            }
            let (row, _) = stored(&world, "p").await;
            assert_eq!(row.reputation.failure_strikes, 0);
            assert_ne!(tier(&world).await, Tier::Provisional);
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_malformed_or_unknown_is_refused() {
        let world = World::sqlite().await;
        assert_eq!(refused(release(&world, "why", None).await).code, Code::NotFound);
        let _route = provider(&world).await;
        for (reason, key) in [("  ", None), ("why", Some("a\nb"))] {
            assert_eq!(refused(release(&world, reason, key).await).code, Code::InvalidRequest);
        }
        assert_eq!(refused(release(&world, &"x".repeat(4_097), None).await).code, Code::InvalidRequest);
    }
}
