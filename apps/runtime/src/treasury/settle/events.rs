//! Decides what a settlement leaves in its run: which events, under which keys, in which order (§10.4).

use oa_contract::{Fault, canonical, wire::runs::Actor, wire::treasury::JobStatus};
use serde_json::{Value, json};

use super::{
    asked::Asked,
    credit::Done,
    plan::{Plan, reservation},
    price::Integrity,
};
use crate::{
    runs::log::Entry,
    treasury::{job_name, raw, told},
};

/// The keys of a settlement's events are the service's ([`told`]): nobody else can have used them.
fn entry(event_type: &str, key: String, payload: &Value) -> Result<Entry, Fault> {
    Ok(Entry {
        event_type: event_type.to_owned(),
        payload: raw(payload)?,
        idempotency_key: Some(key),
        actor: Actor::Service,
    })
}

fn receipt(receipt_type: &str, key: String, payload: &Value) -> Result<Entry, Fault> {
    entry("receipt", key, &json!({"receipt_type": receipt_type, "payload": payload}))
}

/// What is told when money is reserved: the price that was promised and how it is kept, then the reservation.
/// `reservations`: the first has the plain key, a reservation made anew its number.
pub fn reserving(asked: &Asked, plan: &Plan, reservations: u32) -> Result<Vec<Entry>, Fault> {
    let job = job_name(&asked.job_hash, asked.attempt);
    let mut entries = Vec::new();
    if let Some(integrity) = &plan.integrity {
        entries.push(committed(asked, integrity, &job)?);
        entries.push(compared(asked, integrity, &job)?);
    }
    let key = match reservations {
        0 | 1 => told::BUDGET_RESERVED.key(&job),
        again => told::BUDGET_RESERVED.key(format_args!("{job}:{again}")),
    };
    let payload = json!({
        "scope": "compute_job",
        "amount_msats": plan.price.provider,
        "reservation_id": reservation(asked),
        "job_hash": asked.job_hash,
        "provider_id": asked.provider_id,
    });
    entries.push(receipt("BudgetReserved", key, &payload)?);
    Ok(entries)
}

fn committed(asked: &Asked, integrity: &Integrity, job: &str) -> Result<Entry, Fault> {
    let quote = &integrity.quote;
    let payload = json!({
        "job_hash": asked.job_hash,
        "quote_id": quote.quote_id,
        "quote_sha256": quote.quote_sha256,
        "issued_at_unix": quote.issued_at_unix,
        "valid_until_unix": quote.valid_until_unix,
        "provider_id": quote.provider_id,
        "provider_worker_id": quote.provider_worker_id,
        "quoted_provider_price_msats": quote.provider_price_msats,
        "quoted_total_price_msats": quote.total_price_msats,
    });
    receipt("QuoteCommitted", told::QUOTE_COMMIT.key(format_args!("{job}:{}", quote.quote_sha256)), &payload)
}

fn compared(asked: &Asked, integrity: &Integrity, job: &str) -> Result<Entry, Fault> {
    let quote = &integrity.quote;
    let fees = [integrity.delivered, quote.operator_fee_msats, quote.policy_adder_msats];
    // Three amounts of at most all the money there is fit.
    let estimate = fees.iter().fold(0_u64, |sum, part| sum.saturating_add(part.get()));
    let payload = json!({
        "job_hash": asked.job_hash,
        "quote_id": quote.quote_id,
        "quote_sha256": quote.quote_sha256,
        "quoted_provider_price_msats": quote.provider_price_msats,
        "quoted_total_price_msats": quote.total_price_msats,
        "delivered_provider_amount_msats": integrity.delivered,
        "delivered_total_price_msats_estimate": estimate,
        "variance_msats": integrity.variance_msats,
        "variance_bps": integrity.variance_bps,
        "tolerance_msats": 0,
    });
    let name = if integrity.passed() { "PriceIntegrityPassed" } else { "PriceIntegrityFailed" };
    receipt(name, told::PRICE_INTEGRITY.key(format_args!("{job}:{}", quote.quote_sha256)), &payload)
}

/// The receipt of the verification, as it stands in the run and is hashed.
pub fn verification_receipt(asked: &Asked, plan: &Plan) -> Value {
    let name = if plan.verdict.passed { "VerificationPassed" } else { "VerificationFailed" };
    json!({"receipt_type": name, "payload": {
        "job_hash": asked.job_hash,
        "exit_code": plan.verdict.exit_code,
        "violations": plan.verdict.violations,
    }})
}

pub fn verification_receipt_sha256(asked: &Asked, plan: &Plan) -> String {
    canonical::canonical_hash(&verification_receipt(asked, plan))
}

/// What is told when the money has gone its way: the verification, then the payment.
pub fn settling(
    asked: &Asked,
    plan: &Plan,
    receipt_sha256: &str,
    credit: Option<&Done>,
) -> Result<Vec<Entry>, Fault> {
    let job = job_name(&asked.job_hash, asked.attempt);
    let status = if plan.released() { JobStatus::Released } else { JobStatus::Withheld };
    let last = asked.response.runs.last();
    let verified = json!({
        "command": asked.request.commands.last().map_or("sandbox_run", |command| &command.cmd),
        "exit_code": plan.verdict.exit_code,
        "cwd": asked.request.repo.mount_path,
        "duration_ms": last.map(|run| run.duration_ms),
    });
    let paid = match credit {
        _ if !plan.released() => 0,
        Some(done) => done.paid_msats,
        None => plan.price.provider.get(),
    };
    let reason = plan.withheld_reason();
    let reservation_id = reservation(asked);
    let liquidity_sha256 = credit.and_then(|done| done.settlement.liquidity_receipt_sha256.as_ref());
    let proof = match (reason, credit) {
        (None, Some(done)) => json!({
            "type": "cep_envelope", "reservation_id": reservation_id, "provider_id": asked.provider_id,
            "offer_id": done.offer_id, "envelope_id": done.settlement.envelope_id,
            "settlement_id": done.settlement.settlement_id, "liquidity_receipt_sha256": liquidity_sha256,
        }),
        (None, None) => {
            json!({"type": "internal_ledger", "reservation_id": reservation_id, "provider_id": asked.provider_id})
        }
        (Some(reason), _) => json!({
            "type": "withheld", "reservation_id": reservation_id, "reason": reason,
            "exit_code": plan.verdict.exit_code,
        }),
    };
    let payment = json!({
        "rail": "lightning", "asset_id": "BTC_LN", "amount_msats": paid, "payment_proof": proof,
        "job_hash": asked.job_hash, "status": status.name(),
    });
    let quote = asked.quote.as_ref();
    let integrity = plan.integrity.as_ref();
    let told = json!({
        "job_hash": asked.job_hash,
        "amount_msats": paid,
        "reason": reason,
        "quoted_provider_price_msats": quote.map(|quote| quote.provider_price_msats),
        "quoted_total_price_msats": quote.map(|quote| quote.total_price_msats),
        "delivered_provider_amount_msats": asked.amount,
        "price_integrity_variance_msats": integrity.map_or(0, |integrity| integrity.variance_msats),
        "price_integrity_variance_bps": integrity.map_or(0, |integrity| integrity.variance_bps),
        "reservation_id": reservation_id,
        "provider_id": asked.provider_id,
        "settlement_route": if plan.credit.is_some() { "cep_envelope" } else { "direct_liquidity" },
        "verification_receipt_sha256": receipt_sha256,
        "credit_offer_id": credit.map(|done| &done.offer_id),
        "credit_envelope_id": credit.map(|done| &done.settlement.envelope_id),
        "credit_settlement_id": credit.map(|done| &done.settlement.settlement_id),
        "credit_liquidity_receipt_sha256": liquidity_sha256,
    });
    let name = if plan.released() { "PaymentReleased" } else { "PaymentWithheld" };
    let mut entries = vec![
        entry("receipt", told::VERIFY.key(&job), &verification_receipt(asked, plan))?,
        entry("verification", told::VERIFICATION.key(&job), &verified)?,
    ];
    if let Some(done) = credit {
        let linked = json!({
            "job_hash": asked.job_hash,
            "offer_id": done.offer_id,
            "envelope_id": done.settlement.envelope_id,
            "settlement_id": done.settlement.settlement_id,
            "settlement_outcome": done.settlement.outcome,
            "liquidity_receipt_sha256": liquidity_sha256,
            "verification_receipt_sha256": receipt_sha256,
        });
        let key = told::CEP_SETTLEMENT.key(format_args!("{job}:{}", done.settlement.settlement_id));
        entries.push(receipt("CepSettlementLinked", key, &linked)?);
    }
    entries.push(entry("payment", told::PAYMENT.key(format_args!("{job}:{}", status.name())), &payment)?);
    entries.push(receipt(name, told::RECEIPT_PAYMENT.key(format_args!("{job}:{}", status.name())), &told)?);
    Ok(entries)
}

/// Points from the run to an incident.
pub fn fraud(asked: &Asked, incident: &oa_contract::wire::fraud::Incident) -> Result<Entry, Fault> {
    let payload = json!({
        "schema": "openagents.fraud.incident_pointer.v1",
        "incident_id": incident.incident_id,
        "incident_type": incident.incident_type,
        "severity": incident.severity.name(),
        "job_hash": asked.job_hash,
    });
    let job = job_name(&asked.job_hash, asked.attempt);
    entry("fraud", told::FRAUD.key(format_args!("{job}:{}", incident.incident_type)), &payload)
}
