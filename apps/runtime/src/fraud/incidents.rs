//! `GET /internal/v1/fraud/incidents`: what went wrong, newest first (§16). An incident names providers and
//! jobs of anybody and has no owner of its own, so the row is for operators.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::FraudIncidents,
    wire::fraud::{IncidentList, ListIncidents},
};
use oa_store::{
    Tx,
    tables::fraud::{self, IncidentRow},
};

use crate::Runtime;

const SCHEMA: &str = "openagents.fraud.incident_list.v1";
const USUAL_PAGE: u64 = 50;
const LARGEST_PAGE: u64 = 200;

impl Handle<FraudIncidents> for Runtime {
    async fn handle(&self, ask: Ask<FraudIncidents>) -> Result<Answer<IncidentList>, Stop> {
        let page = ask.query.limit.unwrap_or(USUAL_PAGE).clamp(1, LARGEST_PAGE) as usize;
        let found = self.store.read("fraud.incidents", (ask.query, page), read).await?;
        Ok(listed(found, page).into())
    }
}

/// One row more than a page, so that it is known whether another follows.
async fn read(tx: &mut Tx, (filter, page): &(ListIncidents, usize)) -> Result<Vec<IncidentRow>, Stop> {
    fraud::list(tx, filter, *page as u32 + 1).await
}

fn listed(mut found: Vec<IncidentRow>, page: usize) -> IncidentList {
    let more = found.len() > page;
    found.truncate(page);
    let next = found.last().filter(|_| more).map(|row| row.position);
    IncidentList {
        schema: SCHEMA.into(),
        incidents: found.into_iter().map(|row| row.incident).collect(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Nothing, Timestamp, wire::fraud::Severity};
    use uuid::Uuid;

    use super::*;
    use crate::{
        fraud::{
            NewIncident,
            record::tests::{golden, recorded},
        },
        testing::{World, on_each_engine, operator},
    };

    async fn ask(world: &World, query: ListIncidents) -> IncidentList {
        world.call::<FraudIncidents>(&operator(), Nothing {}, query, Nothing {}).await.expect("listed").1
    }

    fn jobs(list: &IncidentList) -> Vec<&str> {
        list.incidents.iter().map(|one| one.job_hash.as_deref().unwrap_or("-")).collect()
    }

    #[tokio::test]
    async fn an_incident_is_told_with_what_it_has_and_nothing_else() {
        on_each_engine(async |world: World| {
            recorded(&world, golden()).await;
            let bare = NewIncident {
                incident_type: "compute_price_integrity_violation".into(),
                severity: Severity::High,
                provider_id: None,
                provider_worker_id: None,
                job_hash: None,
                run_id: None,
                quote_sha256: None,
                actions: Vec::new(),
                evidence: serde_json::Value::Null,
            };
            let bare = recorded(&world, bare).await.incident;
            let at = world.clock_now();
            let told = serde_json::to_string(&ask(&world, ListIncidents::default()).await).expect("JSON");
            assert_eq!(
                told,
                format!(
                    r#"{{"schema":"openagents.fraud.incident_list.v1","incidents":[{{"schema":"openagents.fraud.incident.v1","incident_id":"{}","incident_type":"compute_price_integrity_violation","severity":"high","created_at":"{at}","occurrences":1,"last_seen_at":"{at}"}},{{"schema":"openagents.fraud.incident.v1","incident_id":"incident_a23dca4d1929e415","incident_type":"provider_quarantined","severity":"critical","provider_id":"prov-1","provider_worker_id":"desktop:w1","job_hash":"job1","actions":["quarantined","provider_failures"],"evidence":{{"reason_code":"provider_failures","threshold":5}},"created_at":"{at}","occurrences":1,"last_seen_at":"{at}"}}]}}"#,
                    bare.incident_id
                )
            );
        })
        .await;
    }

    #[tokio::test]
    async fn pages_follow_each_other_and_end() {
        on_each_engine(async |world: World| {
            for n in 0..53 {
                let found = NewIncident { job_hash: Some(format!("j{n:02}")), ..golden() };
                recorded(&world, found).await;
            }
            let usual = ask(&world, ListIncidents::default()).await;
            assert_eq!((usual.incidents.len(), jobs(&usual)[0]), (50, "j52"));
            let rest = ask(&world, ListIncidents { before: usual.next, ..ListIncidents::default() }).await;
            assert_eq!((jobs(&rest), rest.next), (vec!["j02", "j01", "j00"], None));
            let limited = async |limit| {
                let list =
                    ask(&world, ListIncidents { limit: Some(limit), ..ListIncidents::default() }).await;
                (list.incidents.len(), list.next.is_some())
            };
            assert_eq!(limited(0).await, (1, true));
            assert_eq!(limited(53).await, (53, false));
            assert_eq!(limited(u64::MAX).await, (53, false));
        })
        .await;
    }

    #[tokio::test]
    async fn every_filter_narrows_the_list() {
        on_each_engine(async |world: World| {
            let run_id = Uuid::from_u128(7);
            let found = |job: &str| NewIncident { job_hash: Some(job.into()), ..golden() };
            recorded(&world, NewIncident { incident_type: "other".into(), ..found("a") }).await;
            recorded(&world, NewIncident { severity: Severity::Medium, ..found("b") }).await;
            recorded(&world, NewIncident { provider_id: Some("prov-2".into()), ..found("c") }).await;
            recorded(&world, NewIncident { provider_worker_id: Some("w2".into()), ..found("d") }).await;
            recorded(&world, NewIncident { run_id: Some(run_id), ..found("e") }).await;
            let before = world.clock_now();
            world.clock.advance_ms(1);
            recorded(&world, found("f")).await;
            let all = ListIncidents::default;
            let narrowed = async |query| {
                let list = ask(&world, query).await;
                jobs(&list).join("")
            };
            assert_eq!(narrowed(all()).await, "fedcba");
            assert_eq!(narrowed(ListIncidents { incident_type: Some("other".into()), ..all() }).await, "a");
            assert_eq!(narrowed(ListIncidents { severity: Some(Severity::Medium), ..all() }).await, "b");
            assert_eq!(narrowed(ListIncidents { provider_id: Some("prov-2".into()), ..all() }).await, "c");
            assert_eq!(narrowed(ListIncidents { provider_worker_id: Some("w2".into()), ..all() }).await, "d");
            assert_eq!(narrowed(ListIncidents { run_id: Some(run_id), ..all() }).await, "e");
            let after = Timestamp::from_micros(before.micros() + 1);
            assert_eq!(narrowed(ListIncidents { since: Some(after), ..all() }).await, "f");
            assert_eq!(narrowed(ListIncidents { until: Some(after), ..all() }).await, "edcba");
            let several = ListIncidents {
                incident_type: Some("provider_quarantined".into()),
                provider_worker_id: Some("desktop:w1".into()),
                severity: Some(Severity::Critical),
                since: Some(before),
                ..all()
            };
            assert_eq!(narrowed(several).await, "fec");
            let typed = ListIncidents {
                incident_type: Some("provider_quarantined".into()),
                run_id: Some(run_id),
                ..all()
            };
            assert_eq!(narrowed(typed).await, "e");
        })
        .await;
    }
}
