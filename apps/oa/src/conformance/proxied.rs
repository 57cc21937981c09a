//! Decides whether control passes the five proxied rows on to its runtime, or says that it has none.

use std::collections::BTreeSet;

use oa_contract::{Code, Lane, Method, Row, Service, matrix::CONTROL};
use oa_control::identity::principal_number;
use serde_json::Value;

use super::{
    Group, Wrong, name_of,
    plan::some_path,
    probe::{Asker, Heard, Probe},
};

const LIST: &str = "/api/runtime/workers";

fn rows() -> Vec<&'static Row> {
    CONTROL.iter().copied().filter(|row| row.lane == Lane::Proxied).collect()
}

/// A question that the row refuses for its members, after it has found a runtime and before it asks it.
fn misfit(row: &Row, nothing: &str) -> Probe {
    let probe = Probe::of(Service::Control, row.method.name(), some_path(row, nothing));
    match row.method {
        Method::Get => probe,
        // No state is called so, and neither of the other two may be a number.
        Method::Post | Method::Delete => {
            probe.saying(r#"{"status":"none of them","metadata":1,"metadataPatch":1}"#)
        }
    }
}

/// Control has no runtime, or its runtime is down.
pub async fn without_runtime(asker: &Asker) -> Group {
    let rows = rows();
    let probes: Vec<Probe> = rows.iter().map(|row| misfit(row, asker.nothing())).collect();
    let heard = asker.all(&probes).await;
    let told = |heard: &Heard| {
        heard.status() == Some(503) && heard.code().as_deref() == Some(Code::ServiceUnavailable.name())
    };
    // A runtime that is down is configured: fields are looked at before it is called.
    let down = heard.iter().any(|heard| heard.status() == Some(422));
    let mut wrong = Vec::new();
    for (probe, heard) in probes.iter().zip(&heard) {
        let looked_at = down && probe.method != "GET" && heard.status() == Some(422);
        if !told(heard) && !looked_at {
            wrong.push(Wrong::heard(probe, "503 service_unavailable", heard));
        }
    }
    let claim = match down {
        true => "control's runtime does not answer: its questions are 503, its acts are checked first",
        false => "control has no runtime: all five are 503 service_unavailable",
    };
    Group::new("proxied rows", probes.len(), claim, wrong)
}

/// Control's runtime is the one that was named: both tell of the same workers, and members are looked at.
pub async fn with_runtime(asker: &Asker) -> Group {
    let rows = rows();
    let probes: Vec<Probe> = rows.iter().map(|row| misfit(row, asker.nothing())).collect();
    let heard = asker.all(&probes).await;
    let mut wrong = Vec::new();
    for ((row, probe), heard) in rows.iter().zip(&probes).zip(&heard) {
        let wanted = match (probe.method, row.path.contains(':')) {
            ("GET", true) => 404,
            ("GET", false) => 200,
            _ => 422,
        };
        if heard.status() != Some(wanted) {
            wrong.push(Wrong::heard(probe, wanted.to_string(), heard));
        }
    }
    let mut requests = probes.len();
    let claim = match owner(asker).await {
        Err(heard) => {
            wrong.push(Wrong::heard(&Probe::get(Service::Control, "/api/me"), "the caller's id", &heard));
            requests += 1;
            "the caller is not known".to_owned()
        }
        Ok(owner) => {
            requests += 4;
            let (count, differing) = same_workers(asker, owner).await;
            wrong.extend(differing);
            format!("both services tell of the same {count} workers, and control looks at members first")
        }
    };
    Group::new("proxied rows", requests, claim, wrong)
}

/// The number by which the runtime knows the caller.
async fn owner(asker: &Asker) -> Result<u64, Heard> {
    let heard = asker.ask(&Probe::get(Service::Control, "/api/me")).await;
    match heard.json()["data"]["user"]["id"].as_str() {
        Some(user_id) => Ok(principal_number(user_id)),
        None => Err(heard),
    }
}

/// The runtime is asked before and after, because workers may come and go meanwhile.
async fn same_workers(asker: &Asker, owner: u64) -> (usize, Option<Wrong>) {
    let direct = Probe::get(Service::Runtime, format!("/internal/v1/workers?owner_user_id={owner}"));
    let public = Probe::get(Service::Control, LIST);
    let before = workers(&asker.ask(&direct).await.json()["workers"]);
    let shown = workers(&asker.ask(&public).await.json()["data"]);
    let after = workers(&asker.ask(&direct).await.json()["workers"]);
    let (Some(before), Some(shown), Some(after)) = (before, shown, after) else {
        return (0, Some(differs("a list of workers on both".to_owned(), "none".to_owned())));
    };
    let count = shown.len();
    let missing: Vec<_> = before.intersection(&after).filter(|one| !shown.contains(*one)).cloned().collect();
    let extra: Vec<_> =
        shown.iter().filter(|one| !before.contains(*one) && !after.contains(*one)).cloned().collect();
    match missing.is_empty() && extra.is_empty() {
        true => (count, None),
        false => {
            let got = format!("without {missing:?}, with {extra:?} besides");
            (count, Some(differs("the workers of the runtime that was named".to_owned(), got)))
        }
    }
}

fn differs(wanted: String, got: String) -> Wrong {
    Wrong { service: name_of(Service::Control), asked: format!("GET {LIST}"), wanted, got }
}

fn workers(list: &Value) -> Option<BTreeSet<String>> {
    let id = |one: &Value| one["worker"]["worker_id"].as_str().map(str::to_owned);
    list.as_array()?.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_question_about_a_proxied_row_passes_its_validation() {
        use oa_contract::{
            Nothing, Operation,
            matrix::{PublicWorkersHeartbeat, PublicWorkersRegister, PublicWorkersStatus},
            operation::{Enveloped, Proxied},
            wire::paths::WorkerPath,
        };
        fn refused<O: Proxied<Query = Nothing, Reply = Enveloped>>(path: O::Path) {
            let probe = misfit(O::ROW, "x");
            let body: O::Body = serde_json::from_str(probe.body.expect("a body")).expect("the public shape");
            let refusal = O::translate(path, Nothing {}, body, 1).err().expect("refused");
            assert_eq!(refusal.status(Service::Control), 422, "{}", <O as Operation>::ROW.name);
        }
        let path = || WorkerPath { worker_id: "x".into() };
        refused::<PublicWorkersRegister>(Nothing {});
        refused::<PublicWorkersHeartbeat>(path());
        refused::<PublicWorkersStatus>(path());
        assert_eq!(rows().len(), 5);
        assert!(oa_contract::matrix::owner_of(Service::Control, "GET", LIST).is_some());
    }
}
