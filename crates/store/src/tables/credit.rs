//! Decides how credit is kept: intents, offers with why they are what they are, envelopes, attempts at paying, and
//! settlements as they were answered.

use oa_contract::{
    Msats, Timestamp,
    refusal::{Fault, Stop},
    wire::credit::{Envelope, EnvelopeStatus, Intent, Offer, OfferStatus, Outcome},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static AGENT: Statement = sealed_statement!("credit/agent", "credit_agents");
static PUT_AGENT: Statement = sealed_statement!("credit/put_agent", "credit_agents");
static INTENT: Statement = sealed_statement!("credit/intent", "credit_intents");
static INSERT_INTENT: Statement = sealed_statement!("credit/insert_intent", "credit_intents");
static OFFER: Statement = sealed_statement!("credit/offer", "credit_offers");
static PUT_OFFER: Statement = sealed_statement!("credit/put_offer", "credit_offers");
static ENVELOPE: Statement = sealed_statement!("credit/envelope", "credit_envelopes");
static ENVELOPE_OF_OFFER: Statement = sealed_statement!("credit/envelope_of_offer", "credit_envelopes");
static PUT_ENVELOPE: Statement = sealed_statement!("credit/put_envelope", "credit_envelopes");
static MARK_ENVELOPE: Statement = statement!("credit/mark_envelope");
static MARK_SETTLEMENT: Statement = statement!("credit/mark_settlement");
static UNFREED: Statement = statement!("credit/unfreed");
static SETTLEMENT: Statement = sealed_statement!("credit/settlement", "credit_settlements");
static INSERT_SETTLEMENT: Statement = sealed_statement!("credit/insert_settlement", "credit_settlements");
static PAYMENT: Statement = sealed_statement!("credit/payment", "credit_payments");
static PUT_PAYMENT: Statement = sealed_statement!("credit/put_payment", "credit_payments");
static RECEIPT: Statement = sealed_statement!("credit/receipt", "credit_receipts");
static INSERT_RECEIPT: Statement = sealed_statement!("credit/insert_receipt", "credit_receipts");
static EVIDENCE: Statement = sealed_statement!("credit/evidence", "credit_verifications");
static EVIDENCE_FREE: Statement = sealed_statement!("credit/evidence_free", "credit_verifications");
static EVIDENCE_PASSED: Statement = sealed_statement!("credit/evidence_passed", "credit_verifications");
static PUT_EVIDENCE: Statement = sealed_statement!("credit/put_evidence", "credit_verifications");
static TAKE_EVIDENCE: Statement = sealed_statement!("credit/take_evidence", "credit_verifications");
static LENDING: Statement = sealed_statement!("credit/lending", "credit_lending");
static PUT_LENDING: Statement = sealed_statement!("credit/put_lending", "credit_lending");
static LAST_OFFER_AT: Statement = statement!("credit/last_offer_at");

/// Whose an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    pub agent_id: String,
    pub owner_key: String,
    pub claimed_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentRow {
    pub intent: Intent,
    pub fingerprint: String,
    pub policy_context: String,
}

/// An offer; its status is the one that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferRow {
    pub offer: Offer,
    pub fingerprint: String,
    /// Why it is what it is, as it was written down.
    pub audit: String,
    pub audit_sha256: String,
}

/// An envelope; its status is the one that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeRow {
    pub envelope: Envelope,
    /// Who answers for the debt: the agent's owner, or the agent alone.
    pub borrower: String,
    /// The issue receipt, as it was answered.
    pub receipt: String,
    pub closed_at: Option<Timestamp>,
    /// The transfer that holds what it may cost.
    pub hold_id: Option<String>,
    /// How many such transfers there were.
    pub holds: u64,
    /// How often paying it was begun.
    pub attempts: u64,
    /// The payment that is under way.
    pub payment_id: Option<String>,
    /// Nothing is held for it any more.
    pub freed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlementRow {
    pub settlement_id: String,
    pub envelope_id: String,
    pub agent_id: String,
    pub pool_id: String,
    pub provider_id: String,
    pub borrower: String,
    pub outcome: Outcome,
    pub spent_sats: u64,
    pub fee_sats: u64,
    pub fingerprint: String,
    /// As it is answered for ever.
    pub reply: String,
    pub created_at: Timestamp,
    pub recorded_at: Timestamp,
}

/// One attempt at paying an envelope's provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRow {
    pub payment_id: String,
    pub envelope_id: String,
    pub fingerprint: String,
    /// The request that began it, for whoever ends it.
    pub asked: String,
    /// The verification that it is for.
    pub evidence_id: Option<String>,
    pub status: String,
    pub error_code: Option<String>,
    pub amount: Msats,
    pub host: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    pub entity_kind: String,
    pub entity_id: String,
    pub schema: String,
    pub sha256: String,
    pub receipt: String,
    pub created_at: Timestamp,
}

/// A verification of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRow {
    pub evidence_id: String,
    pub receipt_sha256: String,
    pub job_hash: String,
    /// Whose job it was.
    pub owner_key: String,
    /// Who did it, at which price.
    pub provider_id: String,
    pub price: Msats,
    /// The node that the provider is paid at, where that is to be looked at.
    pub payee: Option<String>,
    pub passed: bool,
    /// What has been paid on it: an envelope, or a settlement of the treasury.
    pub consumed_by: Option<String>,
    pub issued_at: Timestamp,
}

/// Whom a pool lends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LendingRow {
    pub pool_id: String,
    /// As the operator has said it.
    pub lending: String,
    pub changed_at: Timestamp,
}

fn text(row: &Row<'_>, column: usize) -> Result<String, Fault> {
    Ok(row.text(column)?.to_owned())
}

fn opt(row: &Row<'_>, column: usize) -> Result<Option<String>, Fault> {
    Ok(row.opt_text(column)?.map(str::to_owned))
}

fn unread(error: serde_json::Error) -> Fault {
    Fault::new("reading kept credit", error)
}

fn unwritten(error: serde_json::Error) -> Fault {
    Fault::new("writing credit", error)
}

fn unknown(what: &str, found: &str) -> Fault {
    Fault::msg(format!("kept credit has the unknown {what} {found:?}"))
}

/// Rounded up, so that what is not over yet is not over in the column either.
fn expiry(exp: Timestamp) -> i64 {
    let micros = exp.micros();
    micros + i64::from(exp.nanos().rem_euclid(1_000) != 0)
}

impl FromRow for AgentRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(AgentRow { agent_id: text(row, 0)?, owner_key: text(row, 1)?, claimed_at: row.timestamp(2)? })
    }
}

impl FromRow for IntentRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(IntentRow {
            fingerprint: text(row, 2)?,
            intent: serde_json::from_str(row.text(3)?).map_err(unread)?,
            policy_context: text(row, 4)?,
        })
    }
}

impl FromRow for OfferRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let offer: Offer = serde_json::from_str(row.text(4)?).map_err(unread)?;
        let status = row.text(5)?;
        let status = OfferStatus::parse(status).ok_or_else(|| unknown("status", status))?;
        Ok(OfferRow {
            fingerprint: text(row, 3)?,
            offer: Offer { status, ..offer },
            audit: text(row, 6)?,
            audit_sha256: text(row, 7)?,
        })
    }
}

impl FromRow for EnvelopeRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let envelope: Envelope = serde_json::from_str(row.text(4)?).map_err(unread)?;
        let status = row.text(6)?;
        let status = EnvelopeStatus::parse(status).ok_or_else(|| unknown("status", status))?;
        Ok(EnvelopeRow {
            envelope: Envelope { status, ..envelope },
            receipt: text(row, 5)?,
            closed_at: row.opt_timestamp(10)?,
            hold_id: opt(row, 11)?,
            holds: row.uint(12)?,
            attempts: row.uint(13)?,
            payment_id: opt(row, 14)?,
            freed: row.bool(15)?,
            borrower: text(row, 17)?,
        })
    }
}

impl FromRow for SettlementRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let outcome = row.text(4)?;
        Ok(SettlementRow {
            settlement_id: text(row, 0)?,
            envelope_id: text(row, 1)?,
            agent_id: text(row, 2)?,
            pool_id: text(row, 3)?,
            outcome: Outcome::parse(outcome).ok_or_else(|| unknown("outcome", outcome))?,
            spent_sats: row.uint(5)?,
            fee_sats: row.uint(6)?,
            fingerprint: text(row, 7)?,
            reply: text(row, 8)?,
            created_at: row.timestamp(9)?,
            recorded_at: row.timestamp(10)?,
            provider_id: text(row, 12)?,
            borrower: text(row, 13)?,
        })
    }
}

impl FromRow for PaymentRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(PaymentRow {
            payment_id: text(row, 0)?,
            envelope_id: text(row, 1)?,
            fingerprint: text(row, 2)?,
            asked: text(row, 3)?,
            evidence_id: opt(row, 4)?,
            status: text(row, 5)?,
            error_code: opt(row, 6)?,
            amount: super::treasury::msats(row, 7)?,
            host: text(row, 8)?,
            created_at: row.timestamp(9)?,
        })
    }
}

impl FromRow for ReceiptRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(ReceiptRow {
            entity_kind: text(row, 0)?,
            entity_id: text(row, 1)?,
            schema: text(row, 2)?,
            sha256: text(row, 3)?,
            receipt: text(row, 4)?,
            created_at: row.timestamp(5)?,
        })
    }
}

impl FromRow for EvidenceRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(EvidenceRow {
            evidence_id: text(row, 0)?,
            receipt_sha256: text(row, 1)?,
            job_hash: text(row, 2)?,
            owner_key: text(row, 3)?,
            provider_id: text(row, 4)?,
            price: super::treasury::msats(row, 5)?,
            payee: opt(row, 6)?,
            passed: row.bool(7)?,
            consumed_by: opt(row, 8)?,
            issued_at: row.timestamp(9)?,
        })
    }
}

impl FromRow for LendingRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(LendingRow { pool_id: text(row, 0)?, lending: text(row, 1)?, changed_at: row.timestamp(2)? })
    }
}

pub async fn agent(tx: &mut Tx, agent_id: &str) -> Result<Option<AgentRow>, Stop> {
    tx.one(&AGENT, params![agent_id]).await
}

/// The caller holds the agent's key.
pub async fn put_agent(tx: &mut Tx, row: &AgentRow) -> Result<(), Stop> {
    tx.execute(&PUT_AGENT, params![&row.agent_id, &row.owner_key, row.claimed_at]).await?;
    Ok(())
}

pub async fn intent(tx: &mut Tx, intent_id: &str) -> Result<Option<IntentRow>, Stop> {
    tx.one(&INTENT, params![intent_id]).await
}

pub async fn insert_intent(tx: &mut Tx, row: &IntentRow) -> Result<(), Stop> {
    let intent = serde_json::to_string(&row.intent).map_err(unwritten)?;
    let params = params![
        &row.intent.intent_id,
        &row.intent.agent_id,
        &row.fingerprint,
        &intent,
        &row.policy_context,
        row.intent.created_at
    ];
    tx.execute(&INSERT_INTENT, params).await?;
    Ok(())
}

pub async fn offer(tx: &mut Tx, offer_id: &str) -> Result<Option<OfferRow>, Stop> {
    tx.one(&OFFER, params![offer_id]).await
}

/// Writes an offer, or its other status.
pub async fn put_offer(tx: &mut Tx, row: &OfferRow) -> Result<(), Stop> {
    // The document is the same whatever became of it.
    let document = Offer { status: OfferStatus::Offered, ..row.offer.clone() };
    let document = serde_json::to_string(&document).map_err(unwritten)?;
    let offer = &row.offer;
    let params = params![
        &offer.offer_id,
        &offer.agent_id,
        &offer.pool_id,
        &row.fingerprint,
        &document,
        offer.status.name(),
        &row.audit,
        &row.audit_sha256,
        offer.issued_at
    ];
    tx.execute(&PUT_OFFER, params).await?;
    Ok(())
}

pub async fn envelope(tx: &mut Tx, envelope_id: &str) -> Result<Option<EnvelopeRow>, Stop> {
    tx.one(&ENVELOPE, params![envelope_id]).await
}

pub async fn envelope_of_offer(tx: &mut Tx, offer_id: &str) -> Result<Option<EnvelopeRow>, Stop> {
    tx.one(&ENVELOPE_OF_OFFER, params![offer_id]).await
}

/// Writes an envelope, or where it stands. Whoever has begun its payment ends it; anybody else holds its key.
pub async fn put_envelope(tx: &mut Tx, row: &EnvelopeRow) -> Result<(), Stop> {
    let document = Envelope { status: EnvelopeStatus::Accepted, ..row.envelope.clone() };
    let document = serde_json::to_string(&document).map_err(unwritten)?;
    let envelope = &row.envelope;
    let params = params![
        &envelope.envelope_id,
        &envelope.offer_id,
        &envelope.agent_id,
        &envelope.pool_id,
        &document,
        &row.receipt,
        envelope.status.name(),
        Value::unsigned(envelope.max_sats)?,
        expiry(envelope.exp),
        envelope.issued_at,
        row.closed_at,
        &row.hold_id,
        Value::unsigned(row.holds)?,
        Value::unsigned(row.attempts)?,
        &row.payment_id,
        row.freed
    ];
    tx.execute(&PUT_ENVELOPE, params).await?;
    tx.execute(&MARK_ENVELOPE, params![&envelope.envelope_id, &row.borrower]).await?;
    Ok(())
}

/// Envelopes whose time is over and for which something may still be held, behind one; also of rows that cannot be read
/// any more.
pub async fn unfreed(
    tx: &mut Tx,
    now: Timestamp,
    (expires_at, envelope_id): &(Timestamp, String),
    limit: u32,
) -> Result<Vec<(Timestamp, String)>, Stop> {
    tx.all(&UNFREED, params![now, limit, *expires_at, envelope_id]).await
}

/// The settlement of an envelope.
pub async fn settlement(tx: &mut Tx, envelope_id: &str) -> Result<Option<SettlementRow>, Stop> {
    tx.one(&SETTLEMENT, params![envelope_id]).await
}

pub async fn insert_settlement(tx: &mut Tx, row: &SettlementRow) -> Result<(), Stop> {
    let params = params![
        &row.settlement_id,
        &row.envelope_id,
        &row.agent_id,
        &row.pool_id,
        row.outcome.name(),
        Value::unsigned(row.spent_sats)?,
        Value::unsigned(row.fee_sats)?,
        &row.fingerprint,
        &row.reply,
        row.created_at,
        row.recorded_at
    ];
    tx.execute(&INSERT_SETTLEMENT, params).await?;
    let params = params![&row.settlement_id, &row.provider_id, &row.borrower];
    tx.execute(&MARK_SETTLEMENT, params).await?;
    Ok(())
}

pub async fn payment(tx: &mut Tx, payment_id: &str) -> Result<Option<PaymentRow>, Stop> {
    tx.one(&PAYMENT, params![payment_id]).await
}

pub async fn put_payment(tx: &mut Tx, row: &PaymentRow) -> Result<(), Stop> {
    let params = params![
        &row.payment_id,
        &row.envelope_id,
        &row.fingerprint,
        &row.asked,
        &row.evidence_id,
        &row.status,
        &row.error_code,
        oa_contract::Amount::from(row.amount).signed(),
        &row.host,
        row.created_at
    ];
    tx.execute(&PUT_PAYMENT, params).await?;
    Ok(())
}

pub async fn receipt(tx: &mut Tx, kind: &str, id: &str, schema: &str) -> Result<Option<ReceiptRow>, Stop> {
    tx.one(&RECEIPT, params![kind, id, schema]).await
}

pub async fn insert_receipt(tx: &mut Tx, row: &ReceiptRow) -> Result<(), Stop> {
    let params =
        params![&row.entity_kind, &row.entity_id, &row.schema, &row.sha256, &row.receipt, row.created_at];
    tx.execute(&INSERT_RECEIPT, params).await?;
    Ok(())
}

pub async fn evidence(tx: &mut Tx, evidence_id: &str) -> Result<Option<EvidenceRow>, Stop> {
    tx.one(&EVIDENCE, params![evidence_id]).await
}

/// A verification behind this receipt that has passed, for this owner, of this provider at this price, and that nothing
/// was paid on: the same job done again has the same receipt.
pub async fn evidence_free(
    tx: &mut Tx,
    receipt_sha256: &str,
    owner_key: &str,
    provider_id: &str,
    price: Msats,
    payee: Option<&str>,
) -> Result<Option<EvidenceRow>, Stop> {
    let price = oa_contract::Amount::from(price).signed();
    tx.one(&EVIDENCE_FREE, params![receipt_sha256, owner_key, provider_id, price, payee]).await
}

/// Some verification behind this receipt that has passed, whoever's.
pub async fn evidence_passed(tx: &mut Tx, receipt_sha256: &str) -> Result<Option<EvidenceRow>, Stop> {
    tx.one(&EVIDENCE_PASSED, params![receipt_sha256]).await
}

pub async fn put_evidence(tx: &mut Tx, row: &EvidenceRow) -> Result<(), Stop> {
    write_evidence(tx, &PUT_EVIDENCE, row).await?;
    Ok(())
}

/// Marks it as paid on; `false` when something else was paid on it first.
pub async fn take_evidence(tx: &mut Tx, row: &EvidenceRow) -> Result<bool, Stop> {
    Ok(write_evidence(tx, &TAKE_EVIDENCE, row).await? > 0)
}

async fn write_evidence(tx: &mut Tx, statement: &Statement, row: &EvidenceRow) -> Result<u64, Stop> {
    let params = params![
        &row.evidence_id,
        &row.receipt_sha256,
        &row.job_hash,
        &row.owner_key,
        &row.provider_id,
        oa_contract::Amount::from(row.price).signed(),
        &row.payee,
        row.passed,
        &row.consumed_by,
        row.issued_at
    ];
    tx.execute(statement, params).await
}

pub async fn lending(tx: &mut Tx, pool_id: &str) -> Result<Option<LendingRow>, Stop> {
    tx.one(&LENDING, params![pool_id]).await
}

/// The caller holds the key of the pool's lending.
pub async fn put_lending(tx: &mut Tx, row: &LendingRow) -> Result<(), Stop> {
    tx.execute(&PUT_LENDING, params![&row.pool_id, &row.lending, row.changed_at]).await?;
    Ok(())
}

/// When an agent was offered something last.
pub async fn last_offer_at(tx: &mut Tx, agent_id: &str) -> Result<Option<Timestamp>, Stop> {
    Ok(tx.one::<(Timestamp,)>(&LAST_OFFER_AT, params![agent_id]).await?.map(|(at,)| at))
}
