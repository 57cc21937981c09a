//! Decides when something that went wrong is a new incident: the same type, worker, job and quote are one
//! incident, counted each time it is seen and told to its stream once (§16).

use oa_contract::{
    Fault, Stop, Timestamp,
    canonical::{canonical_hash, compact},
    wire::fraud::{Incident, Severity},
};
use oa_store::{
    Tx,
    tables::fraud::{self, SCHEMA},
};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::background::publisher::{self, StreamMessage};

/// The topic of new incidents.
const TOPIC: &str = "fraud:incidents";
/// Others may count the same incident at the same time; each of them has then counted once.
const ATTEMPTS: usize = 64;

/// What was found.
#[derive(Clone, Debug)]
pub struct NewIncident {
    pub incident_type: String,
    pub severity: Severity,
    pub provider_id: Option<String>,
    pub provider_worker_id: Option<String>,
    pub job_hash: Option<String>,
    pub run_id: Option<Uuid>,
    pub quote_sha256: Option<String>,
    /// What was done about it.
    pub actions: Vec<String>,
    /// `null` when there is none.
    pub evidence: Value,
}

/// The incident as it stands, and whether it was seen for the first time.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub incident: Incident,
    pub first: bool,
}

/// The id that equal incidents share.
pub fn incident_id(found: &NewIncident) -> String {
    let hash = canonical_hash(&json!({
        "incident_type": found.incident_type,
        "provider_worker_id": found.provider_worker_id,
        "job_hash": found.job_hash,
        "quote_sha256": found.quote_sha256,
    }));
    format!("incident_{}", &hash[..16])
}

/// Records an incident in the transaction of its cause.
pub async fn record(tx: &mut Tx, found: &NewIncident, now: Timestamp) -> Result<Recorded, Stop> {
    let incident_id = incident_id(found);
    for _ in 0..ATTEMPTS {
        let Some(known) = fraud::get(tx, &incident_id).await? else {
            let incident = begun(incident_id, found, now)?;
            fraud::insert(tx, &incident).await?;
            publisher::send(tx, &message(&incident, now)?, now).await?;
            return Ok(Recorded { incident, first: true });
        };
        let incident = Incident {
            occurrences: known.occurrences + 1,
            last_seen_at: now.max(known.last_seen_at),
            ..known
        };
        if fraud::update(tx, &incident).await? {
            return Ok(Recorded { incident, first: false });
        }
    }
    Err(Fault::msg(format!("the incident {incident_id} was counted by others {ATTEMPTS} times in a row"))
        .into())
}

fn begun(incident_id: String, found: &NewIncident, now: Timestamp) -> Result<Incident, Fault> {
    let evidence = (!found.evidence.is_null()).then(|| RawValue::from_string(compact(&found.evidence)));
    Ok(Incident {
        schema: SCHEMA.into(),
        incident_id,
        incident_type: found.incident_type.clone(),
        severity: found.severity,
        provider_id: found.provider_id.clone(),
        provider_worker_id: found.provider_worker_id.clone(),
        job_hash: found.job_hash.clone(),
        run_id: found.run_id,
        quote_sha256: found.quote_sha256.clone(),
        actions: found.actions.clone(),
        evidence: evidence.transpose().map_err(|error| Fault::new("writing evidence", error))?,
        created_at: now,
        occurrences: 1,
        last_seen_at: now,
    })
}

fn message(incident: &Incident, now: Timestamp) -> Result<StreamMessage, Fault> {
    let payload = serde_json::value::to_raw_value(incident);
    Ok(StreamMessage {
        topics: vec![TOPIC.to_owned()],
        kind: incident.incident_type.clone(),
        payload: payload.map_err(|error| Fault::new("writing an incident", error))?,
        at_micros: now.micros(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        testing::{World, on_each_engine},
        workers::tests_support::topics,
    };

    /// The incident of the golden vector.
    pub(crate) fn golden() -> NewIncident {
        NewIncident {
            incident_type: "provider_quarantined".into(),
            severity: Severity::Critical,
            provider_id: Some("prov-1".into()),
            provider_worker_id: Some("desktop:w1".into()),
            job_hash: Some("job1".into()),
            run_id: None,
            quote_sha256: None,
            actions: vec!["quarantined".into(), "provider_failures".into()],
            evidence: json!({"reason_code": "provider_failures", "threshold": 5}),
        }
    }

    pub(crate) async fn recorded(world: &World, found: NewIncident) -> Recorded {
        let write =
            async |tx: &mut Tx, (found, now): &(NewIncident, Timestamp)| record(tx, found, *now).await;
        world
            .runtime
            .store
            .write("test.record", (), (found, world.clock_now()), write)
            .await
            .expect("recorded")
    }

    #[test]
    fn the_id_is_the_golden_one_and_depends_on_four_members_only() {
        let golden = golden();
        assert_eq!(incident_id(&golden), "incident_a23dca4d1929e415");
        let elsewhere = NewIncident {
            severity: Severity::Low,
            provider_id: None,
            run_id: Some(Uuid::nil()),
            ..golden.clone()
        };
        assert_eq!(incident_id(&elsewhere), incident_id(&golden));
        let quoted = NewIncident { quote_sha256: Some("q".into()), ..golden.clone() };
        assert_ne!(incident_id(&quoted), incident_id(&golden));
    }

    #[tokio::test]
    async fn an_incident_that_recurs_is_counted_and_told_once() {
        on_each_engine(async |world: World| {
            let first = recorded(&world, golden()).await;
            assert!(first.first);
            assert_eq!((first.incident.occurrences, first.incident.created_at), (1, world.clock_now()));
            world.clock.advance_ms(1_000);
            let again = recorded(&world, golden()).await;
            assert!(!again.first);
            assert_eq!((again.incident.occurrences, again.incident.last_seen_at), (2, world.clock_now()));
            assert_eq!(again.incident.created_at, first.incident.created_at);
            assert_eq!(topics(&world).await["runtime.topic.fraud.incidents"], ["provider_quarantined"]);
        })
        .await;
    }

    #[tokio::test]
    async fn incidents_at_one_time_are_all_counted() {
        on_each_engine(async |world: World| {
            let all = (0..16).map(|_| recorded(&world, golden()));
            let all = futures_util::future::join_all(all).await;
            assert_eq!(all.iter().filter(|one| one.first).count(), 1);
            let mut counts: Vec<u64> = all.iter().map(|one| one.incident.occurrences).collect();
            counts.sort_unstable();
            assert_eq!(counts, (1..=16).collect::<Vec<_>>());
            assert_eq!(topics(&world).await["runtime.topic.fraud.incidents"].len(), 1);
        })
        .await;
    }
}
