//! `POST /internal/v1/credit/settle`: pays the provider of an envelope once the work is verified, or closes the envelope
//! without paying (credit-fx §4.4). The attempt is written and what it may cost is pinned before the wallet is asked;
//! what the wallet says is recorded by [`super::payout`], whoever waits for it.

use std::time::Duration;

use oa_contract::{
    Answer, Ask, Caller, Code, Fault, Handle, Msats, Refusal, Stop,
    canonical::{canonical_hash, compact},
    matrix::CreditSettle,
    signer::Signer,
    wire::credit::{CreditSettlement, Envelope, EnvelopeStatus, Outcome, SETTLE_REQUEST, SettleEnvelope},
};
use oa_ledger::AccountId;
use oa_lightning::bolt11::{self, BadInvoice, Network};
use oa_store::{
    Key, Tx,
    tables::{
        credit::{self as table, EnvelopeRow, PaymentRow, SettlementRow},
        liquidity::{self, PaymentStatus, QuoteRow},
    },
};
use serde_json::{Value, json, value::RawValue};

use super::{
    CreditPolicy, LONGEST_KEY, agent_key, context, envelope_key, evidence, health, keep_receipt, legs,
    needed, payout, read_back, receipts, recorded, schema, underwriting, visible, written,
};
use crate::{
    Runtime, TrustMode,
    liquidity::{
        lanes::Lane,
        payments::{self, Begun, Order, Payer, Terms},
    },
};

/// The edge gives a request a minute; the payment goes on without whoever asked.
const PATIENCE: Duration = Duration::from_secs(50);
const LONGEST_DIGEST: usize = 512;
const LONGEST_HOST: usize = 255;
/// How often the payment of one envelope may be begun: each time leaves a quote, a payment and a receipt.
const MOST_ATTEMPTS: u64 = 64;
const IN_FLIGHT: &str = "payment already in flight for this envelope, with different parameters";

/// What is asked, once it is well formed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    envelope_id: String,
    asked: SettleEnvelope,
    context: Value,
    fingerprint: String,
    /// The verification that is meant, where we made it for this.
    pub evidence_id: Option<String>,
    /// What has to be paid, where that is known: the invoice must be for that.
    pub price_msats: Option<u64>,
}

pub(crate) struct Settling {
    wanted: Wanted,
    caller: Caller,
    policy: CreditPolicy,
    signer: Option<Signer>,
    terms: Terms,
    network: Network,
    quote_id: String,
    quote_ttl_seconds: i64,
    lenient: bool,
}

/// What a turn came to.
enum Turned {
    Closed(Box<CreditSettlement>),
    Paying(Box<Begun>),
}

impl Handle<CreditSettle> for Runtime {
    async fn handle(&self, ask: Ask<CreditSettle>) -> Result<Answer<CreditSettlement>, Stop> {
        Ok(self.settle_envelope(read(ask.body)?, ask.caller).await?.into())
    }
}

pub(crate) fn read(body: SettleEnvelope) -> Result<Wanted, Refusal> {
    let context = context("CreditSettleRequestV1", body.policy_context.clone())?;
    schema(&body.schema, SETTLE_REQUEST)?;
    let envelope_id = needed("envelope_id", &body.envelope_id, LONGEST_KEY)?;
    needed("verification_receipt_sha256", &body.verification_receipt_sha256, LONGEST_DIGEST)?;
    for (member, text, longest) in [
        ("provider_invoice", &body.provider_invoice, bolt11::LONGEST),
        ("provider_host", &body.provider_host, LONGEST_HOST),
    ] {
        if text.len() > longest {
            return Err(Refusal::invalid(format!("{member} must be at most {longest} bytes")));
        }
    }
    let fingerprint = receipts::settle_fingerprint(&envelope_id, &body);
    Ok(Wanted { envelope_id, asked: body, context, fingerprint, evidence_id: None, price_msats: None })
}

impl Runtime {
    pub(crate) async fn settle_envelope(
        &self,
        wanted: Wanted,
        caller: Caller,
    ) -> Result<CreditSettlement, Stop> {
        let envelope_id = wanted.envelope_id.clone();
        let mut keys = vec![envelope_key(&envelope_id)];
        // Whose envelope it is, and for what, never changes, so it can be read before.
        let look = async |tx: &mut Tx, id: &String| table::envelope(tx, id).await;
        let row = self.store.read("credit.settle_look", envelope_id.clone(), look).await?;
        // One that is being issued at this very moment is not there yet: nothing is done without all of its keys.
        let row = row.ok_or_else(unknown)?;
        keys.extend([agent_key(&row.envelope.agent_id), evidence::key(&row.envelope.scope_id)]);
        let hash = bolt11::payment_hash(&wanted.asked.provider_invoice);
        keys.extend(hash.map(|hash| Key::text("payment_hash", hash)));
        let terms = self.payments.terms();
        let settling = Settling {
            wanted,
            caller,
            policy: self.config.credit.clone(),
            signer: self.signer.clone(),
            quote_id: format!("liq_quote_{}", self.ids.uuid_v7(terms.now)),
            terms,
            network: self.config.liquidity.network,
            quote_ttl_seconds: self.config.liquidity.quote_ttl_seconds,
            lenient: self.config.trust_mode == TrustMode::Lenient,
        };
        let begun = match self.store.write("credit.settle", keys, settling, turn).await? {
            Turned::Closed(settlement) => return Ok(*settlement),
            Turned::Paying(begun) => *begun,
        };
        let driven = tokio::time::timeout(PATIENCE, self.payments.drive(begun)).await;
        let payment = match driven {
            Ok(payment) => payment?,
            Err(_) => return Err(pending().into()),
        };
        let code = payment.error_code.as_deref();
        match payment.status {
            PaymentStatus::Succeeded => {
                let settled = self
                    .store
                    .read("credit.settled", envelope_id, async |tx, id: &String| settled(tx, id).await)
                    .await?;
                settled.ok_or_else(|| Fault::msg("missing stored receipt").into())
            }
            PaymentStatus::Failed => Err(failed("failed", code).into()),
            PaymentStatus::InFlight | PaymentStatus::Unknown => Err(pending().into()),
        }
    }
}

fn unknown() -> Refusal {
    Refusal::not_found("no such envelope")
}

fn failed(status: &str, code: Option<&str>) -> Refusal {
    Refusal::new(Code::DependencyUnavailable, format!("liquidity pay failed: {status} {code:?}"))
}

/// Nobody knows yet, so it has not failed: the same request again is told when somebody does.
fn pending() -> Refusal {
    in_flight("payment already in flight for quote_id")
}

fn in_flight(message: &str) -> Refusal {
    let mut refusal = Refusal::conflict(message);
    refusal.reason_code = Some("payment_pending");
    refusal.retry_after_ms = Some(2_000);
    refusal
}

async fn settled(tx: &mut Tx, envelope_id: &str) -> Result<Option<CreditSettlement>, Stop> {
    match table::settlement(tx, envelope_id).await? {
        Some(row) => Ok(Some(read_back(&row.reply)?)),
        None => Ok(None),
    }
}

/// In the order of §4.4; what was settled is answered before anything is judged.
async fn turn(tx: &mut Tx, settling: &Settling) -> Result<Turned, Stop> {
    let (wanted, now) = (&settling.wanted, settling.terms.now);
    let row = table::envelope(tx, &wanted.envelope_id).await?.ok_or_else(unknown)?;
    if !answers_for(tx, &settling.caller, &row, settling.lenient).await? {
        return Err(unknown().into());
    }
    if let Some(known) = table::settlement(tx, &wanted.envelope_id).await? {
        return again(wanted, &known);
    }
    if row.envelope.status != EnvelopeStatus::Accepted {
        return Err(Refusal::conflict("envelope is not in accepted status").into());
    }
    let under_way = match &row.payment_id {
        Some(payment_id) => {
            let gone = || Fault::msg(format!("the payment {payment_id} of an envelope is gone"));
            Some(table::payment(tx, payment_id).await?.ok_or_else(gone)?)
        }
        None => None,
    };
    if under_way.as_ref().is_some_and(|payment| payment.fingerprint == wanted.fingerprint) {
        return Err(pending().into());
    }
    let closing = match (now > row.envelope.exp, wanted.asked.verification_passed) {
        (true, _) => Some((Outcome::Expired, "expired")),
        (false, false) => Some((Outcome::Failed, "verification_failed")),
        (false, true) => None,
    };
    match (closing, &under_way) {
        (Some((outcome, reason)), None) => return close(tx, settling, row, outcome, reason).await,
        (Some(_), Some(_)) => return Err(in_flight(IN_FLIGHT).into()),
        (None, _) => {}
    }
    let (amount, payee) = payable(settling, &row.envelope)?;
    breaker(tx, settling, amount).await?;
    if under_way.is_some() {
        return Err(in_flight(IN_FLIGHT).into());
    }
    pay(tx, settling, row, (amount, payee)).await
}

/// An envelope is its borrower's, also when the agent has gone elsewhere since; where nobody owned the agent, it is
/// whoever's the agent is now.
async fn answers_for(tx: &mut Tx, caller: &Caller, row: &EnvelopeRow, lenient: bool) -> Result<bool, Stop> {
    match caller.owner() {
        Some(owner) if row.borrower == owner.to_string() => Ok(true),
        Some(_) if !row.borrower.starts_with("agent:") => Ok(false),
        _ => visible(tx, caller, &row.envelope.agent_id, lenient).await,
    }
}

fn again(wanted: &Wanted, known: &SettlementRow) -> Result<Turned, Stop> {
    match known.fingerprint == wanted.fingerprint {
        true => Ok(Turned::Closed(read_back(&known.reply)?)),
        false => {
            let message = "settlement already exists for envelope with different parameters";
            Err(Refusal::conflict(message).into())
        }
    }
}

/// What the invoice asks for, if it may be paid, and which node it pays, where it was read whole.
fn payable(settling: &Settling, envelope: &Envelope) -> Result<(Msats, Option<String>), Refusal> {
    let asked = &settling.wanted.asked;
    if asked.provider_invoice.trim().is_empty() {
        return Err(Refusal::invalid("provider_invoice is required"));
    }
    if asked.provider_host.trim().is_empty() {
        return Err(Refusal::invalid("provider_host is required"));
    }
    let no_amount = || Refusal::invalid("provider_invoice must be a bolt11 with amount");
    let (amount, payee) = match settling.lenient {
        true => {
            let invoice = &asked.provider_invoice;
            let msats = bolt11::prefix_amount_msats(invoice).or_else(|| bolt11::whole_amount_msats(invoice));
            (msats.and_then(Msats::new).ok_or_else(no_amount)?, None)
        }
        false => match bolt11::check(&asked.provider_invoice, settling.network, settling.terms.now) {
            Ok(checked) => (checked.amount, Some(checked.payee)),
            Err(BadInvoice::NoAmount) => return Err(no_amount()),
            Err(why) => return Err(Refusal::invalid(format!("provider_invoice: {why}"))),
        },
    };
    if amount == Msats::ZERO {
        return Err(no_amount());
    }
    if amount.get() > legs::cap_msats(envelope) {
        return Err(Refusal::invalid("invoice exceeds envelope max_sats"));
    }
    match settling.wanted.price_msats.filter(|price| *price != amount.get() && !settling.lenient) {
        Some(price) => Err(Refusal::invalid(format!(
            "cep.provider_invoice asks for {} msats, and {price} are owed",
            amount.get()
        ))),
        None => Ok((amount, payee)),
    }
}

async fn breaker(tx: &mut Tx, settling: &Settling, amount: Msats) -> Result<(), Stop> {
    let policy = &settling.policy;
    if underwriting::sats(amount.get()) <= policy.ln_failure_large_settlement_cap_sats {
        return Ok(());
    }
    let sample = health::sample(tx, policy, settling.lenient, settling.terms.now).await?;
    match sample.breakers(policy).halt_large_settlements {
        true => Err(health::open("halt_large_settlements").into()),
        false => Ok(()),
    }
}

/// Claims the envelope: the attempt is written, what it may cost is pinned, and the payment is begun.
async fn pay(
    tx: &mut Tx,
    settling: &Settling,
    mut row: EnvelopeRow,
    (amount, payee): (Msats, Option<String>),
) -> Result<Turned, Stop> {
    let (wanted, now) = (&settling.wanted, settling.terms.now);
    if row.attempts >= MOST_ATTEMPTS {
        let message = format!(
            "the payment of this envelope has failed {MOST_ATTEMPTS} times; let it expire and ask for another offer"
        );
        return Err(Refusal::conflict(message).into());
    }
    let evidence_id = match settling.lenient {
        true => None,
        false => {
            let paying = evidence::Paying {
                receipt_sha256: wanted.asked.verification_receipt_sha256.trim(),
                envelope_id: &wanted.envelope_id,
                scope_id: &row.envelope.scope_id,
                borrower: &row.borrower,
                provider_id: &row.envelope.provider_id,
                amount,
                payee: payee.as_deref(),
                only: wanted.evidence_id.as_deref(),
            };
            Some(evidence::consume(tx, &paying).await?)
        }
    };
    reserve(tx, settling, &mut row).await?;
    row.attempts += 1;
    let quote = QuoteRow { payee, ..quote(tx, settling, &row, amount).await? };
    liquidity::insert_quote(tx, &quote).await?;
    let max_fee = quote.max_fee.get().min(legs::cap_msats(&row.envelope) - amount.get());
    let order = Order {
        payment_id: quote.quote_id.clone(),
        lane: Lane::Credit,
        request_id: crate::liquidity::pay::request_id(&quote.quote_id),
        invoice: quote.invoice.clone(),
        payment_hash: quote.payment_hash.clone(),
        host: quote.host.clone(),
        amount,
        max_fee: Msats::new(max_fee).unwrap_or_default(),
        payer: Payer::Lane(row.hold_id.clone().unwrap_or_default()),
        run_id: None,
        trajectory_hash: None,
        fingerprint: Some(wanted.fingerprint.clone()),
    };
    let begun = payments::begin(tx, &order, &settling.terms).await?;
    let after = i64::try_from(settling.policy.repayment_seconds).unwrap_or(i64::MAX);
    let due_at = row.envelope.exp.plus_seconds(after);
    let attempt = PaymentRow {
        payment_id: quote.quote_id.clone(),
        envelope_id: wanted.envelope_id.clone(),
        fingerprint: wanted.fingerprint.clone(),
        // What the end of the payment needs to know, whenever that is.
        asked: written(&(&wanted.asked, due_at))?,
        evidence_id,
        status: PaymentStatus::InFlight.name().into(),
        error_code: None,
        amount,
        host: quote.host,
        created_at: now,
    };
    table::put_payment(tx, &attempt).await?;
    row.payment_id = Some(quote.quote_id);
    table::put_envelope(tx, &row).await?;
    Ok(Turned::Paying(Box::new(begun)))
}

/// From here on only the wallet's word ends the hold. Where it is gone, it is made anew.
async fn reserve(tx: &mut Tx, settling: &Settling, row: &mut EnvelopeRow) -> Result<(), Stop> {
    let now = settling.terms.now;
    if let Some(hold_id) = &row.hold_id
        && legs::stands(tx, hold_id, now).await?
    {
        return legs::pin(tx, hold_id, now).await;
    }
    row.holds += 1;
    // A sweep may have freed the envelope a moment ago, by another clock: what is held now is to be freed again.
    row.freed = false;
    let wallet: AccountId = payments::wallet_account(&settling.terms.wallet_id)?;
    let lenient = settling.lenient;
    row.hold_id = Some(legs::hold(tx, &row.envelope, row.holds, &wallet, lenient, None, now).await?);
    Ok(())
}

/// The quote under which the wallet's receipt is kept (§7.1).
async fn quote(tx: &mut Tx, settling: &Settling, row: &EnvelopeRow, amount: Msats) -> Result<QuoteRow, Stop> {
    let (wanted, envelope, now) = (&settling.wanted, &row.envelope, settling.terms.now);
    let policy_context = json!({
        "schema": "openagents.credit.policy_context.v1",
        "envelope_id": envelope.envelope_id,
        "agent_id": envelope.agent_id,
        "pool_id": envelope.pool_id,
        "provider_id": envelope.provider_id,
        "scope_type": envelope.scope_type,
        "scope_id": envelope.scope_id,
        "caller_context": receipts::doubled(&wanted.context),
    });
    let invoice = wanted.asked.provider_invoice.trim().to_owned();
    let key = &wanted.fingerprint[..24];
    let cap = Msats::new(legs::cap_msats(envelope)).unwrap_or(Msats::MAX);
    let account = legs::source(tx, &envelope.pool_id, settling.lenient).await?;
    Ok(QuoteRow {
        quote_id: settling.quote_id.clone(),
        principal: "credit".into(),
        idempotency_key: match row.attempts {
            1 => format!("cep:quote:{key}"),
            more => format!("cep:quote:{key}:{more}"),
        },
        fingerprint: wanted.fingerprint.clone(),
        invoice_hash: bolt11::invoice_hash(&invoice),
        payment_hash: bolt11::payment_hash(&invoice),
        payee: None,
        host: wanted.asked.provider_host.trim().to_lowercase(),
        quoted: amount,
        max_amount: cap,
        max_fee: Msats::new(wanted.asked.max_fee_msats).unwrap_or(Msats::MAX),
        urgency: Some("normal".into()),
        policy_context_sha256: canonical_hash(&policy_context),
        policy_context: RawValue::from_string(compact(&policy_context))
            .map_err(|error| Fault::new("keeping a policy context", error))?,
        payer: account.to_string(),
        valid_until: now.plus_seconds(settling.quote_ttl_seconds),
        created_at: now,
        invoice,
    })
}

/// Ends an envelope without paying.
async fn close(
    tx: &mut Tx,
    settling: &Settling,
    mut row: EnvelopeRow,
    outcome: Outcome,
    reason: &str,
) -> Result<Turned, Stop> {
    let (wanted, now) = (&settling.wanted, settling.terms.now);
    if let Some(hold_id) = row.hold_id.as_ref().filter(|_| !row.freed) {
        legs::void(tx, hold_id, now).await?;
    }
    let settlement_id = receipts::settlement_id(&wanted.fingerprint);
    let verification = wanted.asked.verification_receipt_sha256.trim();
    let signer = settling.signer.as_ref();
    let label = signer.map(|signer| receipts::label(&row.envelope, false, now, signer));
    let default = receipts::Defaulted {
        settlement_id: &settlement_id,
        reason,
        loss_sats: 0,
        verification_receipt_sha256: Some(verification),
        created_at: now,
    };
    let notice = receipts::defaulted(&row.envelope, &default, label.as_ref(), signer);
    keep_receipt(tx, "settlement", &settlement_id, &notice, now).await?;
    let reply = CreditSettlement {
        schema: payout::REPLY.into(),
        envelope_id: wanted.envelope_id.clone(),
        settlement_id: settlement_id.clone(),
        outcome,
        spent_sats: 0,
        fee_sats: 0,
        verification_receipt_sha256: verification.to_owned(),
        liquidity_receipt_sha256: None,
        receipt: notice.document,
        owed_msats: None,
        due_at: None,
        quote_id: None,
    };
    let settlement = SettlementRow {
        settlement_id,
        envelope_id: wanted.envelope_id.clone(),
        agent_id: row.envelope.agent_id.clone(),
        pool_id: row.envelope.pool_id.clone(),
        provider_id: row.envelope.provider_id.clone(),
        borrower: row.borrower.clone(),
        outcome,
        spent_sats: 0,
        fee_sats: 0,
        fingerprint: wanted.fingerprint.clone(),
        reply: written(&reply)?,
        created_at: now,
        recorded_at: recorded(tx, &row.envelope.agent_id, now).await?,
    };
    table::insert_settlement(tx, &settlement).await?;
    row.envelope.status = EnvelopeStatus::Defaulted;
    row.closed_at = Some(settlement.recorded_at);
    row.freed = true;
    table::put_envelope(tx, &row).await?;
    Ok(Turned::Closed(Box::new(reply)))
}
