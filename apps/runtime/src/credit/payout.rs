//! Decides what the end of a payment does to its envelope, in the very transaction that ends the payment: the money, the
//! settlement, the receipt, the debt, and the envelope, or none of them.

use oa_contract::{
    Fault, Msats, Stop, Timestamp,
    signer::Signer,
    wire::credit::{CreditSettlement, EnvelopeStatus, LoanStatus, Outcome, SettleEnvelope},
};
use oa_store::{
    Key, Tx,
    tables::{
        credit::{self as table, EnvelopeRow, PaymentRow as Attempt, SettlementRow},
        credit_sums::{self, LoanRow},
        liquidity::{self, PaymentRow, PaymentStatus},
    },
};

use super::{agent_key, evidence, keep_receipt, legs, read_back, receipts, recorded, underwriting, written};

pub const REPLY: &str = "openagents.credit.settle_response.v1";

/// Called once a payment, when it has succeeded or failed; its receipt is there. While it was open, nobody else
/// touched the envelope.
pub async fn ended(tx: &mut Tx, payment: &PaymentRow, signer: Option<&Signer>) -> Result<(), Stop> {
    let gone = |what: &str| Fault::msg(format!("the payment {} has no {what}", payment.payment_id));
    let attempt = table::payment(tx, &payment.payment_id).await?.ok_or_else(|| gone("attempt"))?;
    let row = table::envelope(tx, &attempt.envelope_id).await?.ok_or_else(|| gone("envelope"))?;
    let attempt =
        Attempt { status: payment.status.name().into(), error_code: payment.error_code.clone(), ..attempt };
    table::put_payment(tx, &attempt).await?;
    match payment.status {
        PaymentStatus::Succeeded => paid(tx, payment, &attempt, row, signer).await,
        _ => {
            if let Some(evidence_id) = &attempt.evidence_id {
                evidence::give_back(tx, evidence_id, &attempt.envelope_id).await?;
            }
            table::put_envelope(tx, &EnvelopeRow { payment_id: None, ..row }).await
        }
    }
}

async fn paid(
    tx: &mut Tx,
    payment: &PaymentRow,
    attempt: &Attempt,
    mut row: EnvelopeRow,
    signer: Option<&Signer>,
) -> Result<(), Stop> {
    let unended = || Fault::msg(format!("the payment {} has no end", payment.payment_id));
    let now = payment.completed_at.ok_or_else(unended)?;
    let receipt = liquidity::receipt(tx, &payment.payment_id).await?.ok_or_else(unended)?;
    let liquidity_sha256 = receipt.canonical_json_sha256;
    let (asked, due_at): (SettleEnvelope, Timestamp) = read_back(&attempt.asked)?;
    let verification = asked.verification_receipt_sha256.trim();
    let spent_sats = underwriting::sats(payment.amount.get());
    let fee_sats = underwriting::fee_sats(spent_sats, row.envelope.fee_bps);
    let principal = payment.settled.unwrap_or(payment.amount);
    let routing = payment.fee.unwrap_or_default();
    let fee = Msats::new(fee_sats.saturating_mul(1_000)).unwrap_or(Msats::MAX);
    let total = |parts: &[Msats]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.get()));
    let hold_id = row.hold_id.clone().ok_or_else(unended)?;
    let gone = total(&[principal, routing]);
    let taken = legs::capture(tx, &hold_id, gone, fee.get(), now).await?;
    // What the pool did not pay is no debt to it: the operator bears what left beyond the hold.
    let principal = principal.min(taken.msats);
    let rest = taken.msats.get().saturating_sub(principal.get());
    let routing = routing.min(Msats::new(rest).unwrap_or_default());
    let owed = total(&[principal, routing, fee]);
    let account = taken.account;
    let settlement_id = receipts::settlement_id(&attempt.fingerprint);
    // The label says the moment that the settlement says: when it began.
    let label = signer.map(|signer| receipts::label(&row.envelope, true, attempt.created_at, signer));
    let paid = receipts::Paid {
        spent_sats,
        fee_sats,
        verification_receipt_sha256: verification,
        liquidity_receipt_sha256: &liquidity_sha256,
        created_at: attempt.created_at,
    };
    let receipt = receipts::settled(&row.envelope, &paid, label.as_ref(), signer);
    keep_receipt(tx, "settlement", &settlement_id, &receipt, now).await?;
    let loan = LoanRow {
        settlement_id: settlement_id.clone(),
        envelope_id: attempt.envelope_id.clone(),
        agent_id: row.envelope.agent_id.clone(),
        pool_id: row.envelope.pool_id.clone(),
        borrower: row.borrower.clone(),
        account: account.to_string(),
        principal,
        routing,
        fee,
        repaid: Msats::ZERO,
        repayments: 0,
        status: LoanStatus::Open,
        due_at,
        opened_at: now,
        closed_at: None,
        defaulted_at: None,
    };
    credit_sums::put_loan(tx, &loan).await?;
    let reply = CreditSettlement {
        schema: REPLY.into(),
        envelope_id: attempt.envelope_id.clone(),
        settlement_id: settlement_id.clone(),
        outcome: Outcome::Success,
        spent_sats,
        fee_sats,
        verification_receipt_sha256: verification.to_owned(),
        liquidity_receipt_sha256: Some(liquidity_sha256),
        receipt: receipt.document,
        owed_msats: Some(owed),
        due_at: Some(due_at),
        quote_id: Some(payment.payment_id.clone()),
    };
    let settlement = SettlementRow {
        settlement_id,
        envelope_id: attempt.envelope_id.clone(),
        agent_id: row.envelope.agent_id.clone(),
        pool_id: row.envelope.pool_id.clone(),
        provider_id: row.envelope.provider_id.clone(),
        borrower: row.borrower.clone(),
        outcome: Outcome::Success,
        spent_sats,
        fee_sats,
        fingerprint: attempt.fingerprint.clone(),
        reply: written(&reply)?,
        created_at: attempt.created_at,
        recorded_at: recorded(tx, &row.envelope.agent_id, now).await?,
    };
    table::insert_settlement(tx, &settlement).await?;
    row.envelope.status = EnvelopeStatus::Settled;
    row.closed_at = Some(settlement.recorded_at);
    row.payment_id = None;
    row.freed = true;
    table::put_envelope(tx, &row).await
}

/// The wallet did not say how it ended: until it does, that counts as a failure of the wallet. The caller holds the
/// payment's key.
pub async fn unknown(tx: &mut Tx, payment_id: &str) -> Result<(), Stop> {
    match table::payment(tx, payment_id).await? {
        Some(attempt) if attempt.status == PaymentStatus::InFlight.name() => {
            let status = PaymentStatus::Unknown.name().into();
            table::put_payment(tx, &Attempt { status, ..attempt }).await
        }
        _ => Ok(()),
    }
}

/// What the end of a payment is written behind, beside the payment's own key: what is known of an agent changes with it.
pub async fn keys(tx: &mut Tx, payment_id: &str) -> Result<Vec<Key>, Stop> {
    let Some(attempt) = table::payment(tx, payment_id).await? else { return Ok(Vec::new()) };
    let row = table::envelope(tx, &attempt.envelope_id).await?;
    let of =
        |row: EnvelopeRow| vec![agent_key(&row.envelope.agent_id), evidence::key(&row.envelope.scope_id)];
    Ok(row.map(of).unwrap_or_default())
}
