//! Decides what of a settlement is an incident (§11.5), and lets its evidence point at the very events.

use std::collections::BTreeMap;

use oa_contract::{Stop, Timestamp, wire::fraud::Severity};
use oa_store::Tx;
use serde_json::{Value, json};

use super::{Run, asked::Asked, events, plan::Plan, price::Integrity, reexecution::Seen};
use crate::{
    fraud::{NewIncident, record},
    workers::metadata,
};

pub async fn raise(
    tx: &mut Tx,
    asked: &Asked,
    plan: &Plan,
    seen: Option<&Seen>,
    run: &mut Run,
    now: Timestamp,
) -> Result<(), Stop> {
    let mut found = Vec::new();
    if !plan.verdict.violations.is_empty() {
        found.push(violation(asked, plan, seen, run));
    }
    if plan.disputed {
        found.push(dispute(asked, plan, seen, run));
    }
    if let Some(integrity) = plan.integrity.as_ref().filter(|integrity| integrity.violated()) {
        found.push(price(asked, plan, integrity, run));
    }
    for incident in found {
        let recorded = record(tx, &incident, now).await?;
        run.tell(tx, &[events::fraud(asked, &recorded.incident)?], now).await?;
    }
    Ok(())
}

fn violation(asked: &Asked, plan: &Plan, seen: Option<&Seen>, run: &Run) -> NewIncident {
    let mut evidence = common(asked, plan, run);
    metadata::merge(
        &mut evidence,
        &json!({"exit_code": plan.verdict.exit_code, "violations": plan.verdict.violations}),
    );
    metadata::merge(&mut evidence, &observed(asked, seen));
    let actions = ["payment_withheld", "strike_applied"];
    incident(asked, "compute_verification_violation", Severity::Medium, &actions, evidence)
}

/// Nobody is judged: one other came to something else, and there was no third.
fn dispute(asked: &Asked, plan: &Plan, seen: Option<&Seen>, run: &Run) -> NewIncident {
    let mut evidence = common(asked, plan, run);
    metadata::merge(&mut evidence, &observed(asked, seen));
    incident(asked, "compute_reexecution_dispute", Severity::Medium, &["payment_withheld"], evidence)
}

fn price(asked: &Asked, plan: &Plan, integrity: &Integrity, run: &Run) -> NewIncident {
    let quote = &integrity.quote;
    let mut evidence = common(asked, plan, run);
    metadata::merge(
        &mut evidence,
        &json!({
            "quote_id": quote.quote_id,
            "quote_sha256": quote.quote_sha256,
            "quoted_provider_price_msats": quote.provider_price_msats,
            "quoted_total_price_msats": quote.total_price_msats,
            "delivered_provider_amount_msats": integrity.delivered,
            "variance_msats": integrity.variance_msats,
            "variance_bps": integrity.variance_bps,
            "tolerance_msats": 0,
        }),
    );
    let actions = ["payment_withheld", "price_integrity_penalty"];
    let incident = incident(asked, "compute_price_integrity_violation", Severity::High, &actions, evidence);
    NewIncident { quote_sha256: Some(quote.quote_sha256.clone()), ..incident }
}

fn common(asked: &Asked, plan: &Plan, run: &Run) -> Value {
    let run_id = asked.run_id;
    let events: Vec<Value> = run
        .told
        .iter()
        .map(|(entry, position)| {
            json!({
                "seq": position.seq,
                "event_type": entry.event_type,
                "idempotency_key": entry.idempotency_key,
                "hash": position.hash,
            })
        })
        .collect();
    json!({
        "job_hash": asked.job_hash,
        "run_id": run_id,
        "settlement_status": if plan.released() { "released" } else { "withheld" },
        "withheld_reason": plan.withheld_reason(),
        "paths": {
            "run_receipt": format!("/internal/v1/runs/{run_id}/receipt"),
            "run_replay": format!("/internal/v1/runs/{run_id}/replay"),
        },
        "settlement_id": asked.settlement_id,
        "dispatch_id": plan.dispatch.as_ref().map(|dispatch| &dispatch.dispatch_id),
        "response_sha256": asked.response_sha256,
        "events": events,
    })
}

fn observed(asked: &Asked, seen: Option<&Seen>) -> Value {
    match seen {
        None => json!({}),
        Some(seen) => json!({"reexecution": {
            "outcome": seen.report.outcome,
            "differences": seen.report.differences,
            "claimed": {"worker_id": asked.worker_id, "response_sha256": asked.response_sha256},
            "observed": seen.responses.iter().map(|(who, one)| (who, &one.sha256)).collect::<BTreeMap<_, _>>(),
        }}),
    }
}

fn incident(asked: &Asked, name: &str, severity: Severity, actions: &[&str], evidence: Value) -> NewIncident {
    NewIncident {
        incident_type: name.to_owned(),
        severity,
        provider_id: Some(asked.provider_id.clone()),
        provider_worker_id: Some(asked.worker_id.clone()),
        job_hash: Some(asked.job_hash.clone()),
        run_id: Some(asked.run_id),
        quote_sha256: None,
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        evidence,
    }
}
