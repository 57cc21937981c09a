//! Decides how incidents are kept: one row each, in the order of their first occurrence, with a count of how
//! often they were seen.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
    wire::fraud::{Incident, ListIncidents, Severity},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    tables::runs::json,
    transaction::Tx,
    value::Value,
};

static INSERT: Statement = sealed_statement!("fraud/insert", "fraud_incidents");
static UPDATE: Statement = sealed_statement!("fraud/update", "fraud_incidents");
static GET: Statement = sealed_statement!("fraud/get", "fraud_incidents");
static LIST: Statement = sealed_statement!("fraud/list", "fraud_incidents");
static LIST_BY_TYPE: Statement = sealed_statement!("fraud/list_by_type", "fraud_incidents");
static LIST_BY_RUN: Statement = sealed_statement!("fraud/list_by_run", "fraud_incidents");
static LIST_BY_PROVIDER: Statement = sealed_statement!("fraud/list_by_provider", "fraud_incidents");
static LIST_BY_SEVERITY: Statement = sealed_statement!("fraud/list_by_severity", "fraud_incidents");
static LIST_BY_WORKER: Statement = sealed_statement!("fraud/list_by_worker", "fraud_incidents");

/// The one shape that incidents are answered in.
pub const SCHEMA: &str = "openagents.fraud.incident.v1";

/// An incident and where it stands among all.
#[derive(Clone, Debug)]
pub struct IncidentRow {
    pub position: i64,
    pub incident: Incident,
}

fn severity(name: &str) -> Result<Severity, Fault> {
    Severity::parse(name)
        .ok_or_else(|| Fault::msg(format!("a stored incident has the unknown severity {name:?}")))
}

fn actions(text: &str) -> Result<Vec<String>, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::new("reading the actions of a stored incident", error))
}

impl FromRow for IncidentRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let incident = Incident {
            schema: SCHEMA.into(),
            incident_id: row.text(0)?.to_owned(),
            incident_type: row.text(1)?.to_owned(),
            severity: severity(row.text(2)?)?,
            provider_id: row.opt_text(3)?.map(str::to_owned),
            provider_worker_id: row.opt_text(4)?.map(str::to_owned),
            job_hash: row.opt_text(5)?.map(str::to_owned),
            run_id: row.opt_uuid(6)?,
            quote_sha256: row.opt_text(7)?.map(str::to_owned),
            actions: actions(row.text(8)?)?,
            evidence: row.opt_text(9)?.map(json).transpose()?,
            created_at: row.timestamp(10)?,
            occurrences: row.uint(11)?,
            last_seen_at: row.timestamp(12)?,
        };
        Ok(IncidentRow { incident, position: row.int(14)? })
    }
}

pub async fn get(tx: &mut Tx, incident_id: &str) -> Result<Option<Incident>, Stop> {
    Ok(tx.one::<IncidentRow>(&GET, params![incident_id]).await?.map(|row| row.incident))
}

/// Writes an incident that was never seen.
pub async fn insert(tx: &mut Tx, incident: &Incident) -> Result<(), Stop> {
    write(tx, &INSERT, incident).await?;
    Ok(())
}

/// Writes an incident that was seen once more; `false` when somebody else counted first, and it has to be
/// read again.
pub async fn update(tx: &mut Tx, incident: &Incident) -> Result<bool, Stop> {
    Ok(write(tx, &UPDATE, incident).await? > 0)
}

async fn write(tx: &mut Tx, statement: &Statement, incident: &Incident) -> Result<u64, Stop> {
    let actions = serde_json::to_string(&incident.actions)
        .map_err(|error| Fault::new("writing the actions of an incident", error))?;
    let params = params![
        &incident.incident_id,
        &incident.incident_type,
        incident.severity.name(),
        &incident.provider_id,
        &incident.provider_worker_id,
        &incident.job_hash,
        &incident.run_id,
        &incident.quote_sha256,
        &actions,
        incident.evidence.as_ref().map(|evidence| evidence.get()),
        incident.created_at,
        Value::unsigned(incident.occurrences)?,
        incident.last_seen_at
    ];
    tx.execute(statement, params).await
}

/// Up to `limit` incidents that fit the filters, newest first. The narrowest filter leads, and each has its index.
pub async fn list(tx: &mut Tx, filter: &ListIncidents, limit: u32) -> Result<Vec<IncidentRow>, Stop> {
    let incident_type = filter.incident_type.as_deref().unwrap_or_default();
    let common = [
        Value::from(filter.before.unwrap_or(i64::MAX)),
        Value::from(limit),
        Value::from(filter.severity.map_or("", Severity::name)),
        Value::from(filter.provider_id.as_deref().unwrap_or_default()),
        Value::from(&filter.run_id),
        Value::from(filter.since.map_or(i64::MIN, Timestamp::micros)),
        Value::from(filter.until.map_or(i64::MAX, Timestamp::micros)),
    ];
    let worker = filter.provider_worker_id.as_deref().unwrap_or_default();
    let provider = filter.provider_id.as_deref().unwrap_or_default();
    let (statement, more): (&Statement, &[&str]) = if filter.run_id.is_some() {
        (&LIST_BY_RUN, &[incident_type, worker])
    } else if !provider.is_empty() {
        (&LIST_BY_PROVIDER, &[incident_type, worker])
    } else if !worker.is_empty() {
        (&LIST_BY_WORKER, &[worker, incident_type])
    } else if !incident_type.is_empty() {
        (&LIST_BY_TYPE, &[incident_type])
    } else if filter.severity.is_some() {
        (&LIST_BY_SEVERITY, &[])
    } else {
        (&LIST, &[])
    };
    let params: Vec<Value> = common.into_iter().chain(more.iter().copied().map(Value::from)).collect();
    tx.all(statement, &params).await
}
