//! Chapters: the agent mends the code and has no money to have that checked; a pool pays the honest provider over
//! Lightning, out of an envelope of the agent's credit, and is paid back.

use oa_contract::{
    Msats, Nothing, Timestamp,
    canonical::{hex, unhex},
    matrix::{CreditExplain, CreditIntent, CreditLoanGet},
    operation::Call,
    wire::{
        credit::{DeclareIntent, Explanation, INTENT_REQUEST, Intent, Loan, LoanStatus, ScopeType},
        paths::{CreditSettlementPath, OfferPath},
        treasury::{CepTerms, JobStatus, Settlement, SettlementRoute},
    },
};
use oa_lightning::Invoice;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Stage,
    book::{Book, short},
    caught::Done,
    pool::Pool,
    strangers::fresh_key,
};
use crate::{
    credit::same,
    failure::Failure,
    job::report::{checked, paid},
};

/// The name of the receipt that holds the proof of the payment in the run.
pub const PAID: &str = "InvoicePaid";
/// What the way to the provider may cost.
const MAX_FEE_MSATS: u64 = 2_000;
/// How long the agent wants to be able to spend, and the offer to be good.
const INTENT_SECONDS: i64 = 1_800;
const OFFER_SECONDS: i64 = 900;

/// What the agent wants, and what the provider wants for it.
struct Deal {
    done: Done,
    intent: Intent,
    bill: Invoice,
    bill_id: String,
    cep: CepTerms,
}

pub async fn second_patch(stage: &Stage<'_>, book: &mut Book, pool: &Pool) -> Result<(), Failure> {
    book.chapter("The agent patches it again. It has no money: it asks for credit")?;
    let deal = deal(stage, book, pool).await?;
    book.chapter("The pool pays the provider over Lightning")?;
    let Deal { done, cep, .. } = &deal;
    let (run_id, talk) = (stage.run_id, &stage.talk);
    let answered = (done.quote(), &done.reply);
    let settled = talk.settle_by(run_id, &done.request, answered, true, Some(cep.clone())).await?;
    let provider = &done.reply.selection.provider.provider_id;
    book.indented(&checked(settled.reexecution.as_ref()))?;
    if settled.settlement_status != JobStatus::Released
        || settled.settlement_route != SettlementRoute::CepEnvelope
    {
        return Err(Failure::wrong(
            "the honest provider was not paid: please report this with the output above",
        ));
    }
    book.indented(&paid(&settled, done.quote(), provider))?;
    let explained = underwritten(stage, book, &settled).await?;
    let loan = loan(stage, &settled).await?;
    let proof = proved(stage, book, &deal, &loan).await?;
    owed(book, &loan)?;
    stage.talk.receipt(run_id, PAID, "demo:paid", proof.clone()).await?;
    book.keep(
        "credit",
        json!({"intent": deal.intent, "settlement": settled, "explanation": explained, "loan": loan, "payment": proof}),
    );
    Ok(())
}

/// Everything up to the moment at which somebody has to pay.
async fn deal(stage: &Stage<'_>, book: &mut Book, pool: &Pool) -> Result<Deal, Failure> {
    stage.code.mended.told(book)?;
    book.line("")?;
    let done = Done::ask(stage, book, stage.code.check(&stage.code.mended)?).await?;
    for run in &done.reply.response.runs {
        book.quoted(run.stdout_preview.as_deref().unwrap_or_default())?;
    }
    let price = done.quote().provider_price_msats;
    let agent_id = fresh_key()?;
    book.name(&agent_id, "the-agent");
    let body = DeclareIntent {
        schema: INTENT_REQUEST.into(),
        idempotency_key: format!("intent-{}", done.reply.job_hash),
        agent_id: agent_id.clone(),
        scope_type: ScopeType::Nip90,
        scope_id: done.reply.job_hash.clone(),
        max_sats: (price.get() + MAX_FEE_MSATS).div_ceil(1_000),
        agent_signature: None,
        exp: now().plus_seconds(INTENT_SECONDS),
        policy_context: Some(json!({"why": "the check of a patch"})),
    };
    let call = Call::<CreditIntent> { path: Nothing {}, query: Nothing {}, body };
    let intent = stage.talk.asked(&call).await?.intent;
    book.line("")?;
    book.indented(&format!(
        "the-agent wants to be able to spend {} sats, for job {} only: {}",
        intent.max_sats,
        short(&intent.scope_id),
        intent.intent_id
    ))?;
    let provider = &done.reply.selection.provider.provider_id;
    let bill_id = format!("bill:{}", done.reply.job_hash);
    let bill = stage.purse.bill(&bill_id, price, "a check of a patch").await?;
    book.indented(&format!(
        "{provider} hands in an invoice of {} msats: {}",
        price.get(),
        short(&bill.bolt11)
    ))?;
    let cep = CepTerms {
        agent_id,
        pool_id: pool.id.clone(),
        provider_invoice: bill.bolt11.clone(),
        provider_host: book.named(provider),
        scope_id: None,
        intent_id: Some(intent.intent_id.clone()),
        max_fee_msats: Some(MAX_FEE_MSATS),
        offer_ttl_seconds: Some(OFFER_SECONDS),
    };
    Ok(Deal { done, intent, bill, bill_id, cep })
}

fn now() -> Timestamp {
    oa_contract::Clock::now(&crate::system::SystemClock::default())
}

fn missing(what: &str) -> Failure {
    Failure::wrong(format!("{what}: please report this with the output above"))
}

/// Why the agent was offered what it was, decided once more.
async fn underwritten(stage: &Stage<'_>, book: &Book, settled: &Settlement) -> Result<Explanation, Failure> {
    let offer_id = settled.credit_offer_id.clone().ok_or_else(|| missing("there is no offer"))?;
    let path = OfferPath { offer_id };
    let call = Call::<CreditExplain> { path, query: Nothing {}, body: Nothing {} };
    let told = stage.talk.asked(&call).await?;
    let (inputs, decision) = (&told.audit["inputs"], &told.audit["decision"]);
    book.indented(&format!(
        "offer {}: {} sats at {} bps. An agent with {} settlements may have {} sats; decided once more: {}",
        told.offer.offer_id,
        told.offer.max_sats,
        told.offer.fee_bps,
        inputs["settledCount30d"],
        decision["limitSats"],
        if same(&told) { "the same" } else { "something else" }
    ))?;
    let envelope = settled.credit_envelope_id.as_deref().unwrap_or_default();
    book.indented(&format!(
        "envelope {envelope}: of the-pool, to nobody but that provider, for that job only"
    ))?;
    match same(&told) && told.audit["intentId"].is_string() {
        true => Ok(told),
        false => Err(missing("the underwriting does not come out the same")),
    }
}

async fn loan(stage: &Stage<'_>, settled: &Settlement) -> Result<Loan, Failure> {
    let settlement_id = settled.credit_settlement_id.clone();
    let settlement_id = settlement_id.ok_or_else(|| missing("there is no settlement of credit"))?;
    let path = CreditSettlementPath { settlement_id };
    let call = Call::<CreditLoanGet> { path, query: Nothing {}, body: Nothing {} };
    Ok(stage.talk.asked(&call).await?.loan)
}

/// That the invoice was paid, from the preimage and the invoice alone.
async fn proved(stage: &Stage<'_>, book: &Book, deal: &Deal, loan: &Loan) -> Result<Value, Failure> {
    let payment = loan.payment.as_ref().ok_or_else(|| missing("nobody says how the invoice was paid"))?;
    let said = payment.payment_proof.as_ref().and_then(|said| said.pointer("/result/payment/preimageHex"));
    let preimage = said.and_then(Value::as_str).ok_or_else(|| missing("the wallet shows no preimage"))?;
    let opens = opened_by(preimage).ok_or_else(|| missing("the preimage is none"))?;
    let hash = oa_lightning::bolt11::payment_hash(&deal.bill.bolt11).unwrap_or_default();
    book.indented(&format!("preimage      {preimage}"))?;
    book.indented(&format!("its SHA-256   {opens}"))?;
    book.indented(&format!("payment hash  {hash}, as it stands in the invoice"))?;
    if opens != hash {
        return Err(missing("the preimage does not open the invoice's payment hash"));
    }
    let received = stage.purse.received(&deal.bill_id).await?;
    let received = received.filter(|got| *got == deal.bill.amount);
    let received =
        received.ok_or_else(|| missing("the provider's wallet has not received what it asked for"))?;
    let host = &deal.cep.provider_host;
    book.indented(&format!("{host}'s own wallet has received {} msats", received.get()))?;
    Ok(json!({
        "invoice": deal.bill.bolt11, "payment_hash": hash, "preimage": preimage, "amount_msats": received,
        "quote_id": payment.quote_id, "wallet_receipt_sha256": payment.wallet_receipt_sha256,
        "credit_settlement_id": loan.settlement_id, "simulated": true, "real_lightning": stage.purse.real,
    }))
}

/// The payment hash that a preimage opens.
pub fn opened_by(preimage: &str) -> Option<String> {
    unhex::<32>(preimage).map(|bytes| hex(&Sha256::digest(bytes)))
}

/// What the agent owed for it, and what became of that.
fn owed(book: &Book, loan: &Loan) -> Result<(), Failure> {
    let sats = |msats: u64| Msats::new(msats).map_or(0, |msats| msats.get() / 1_000);
    book.indented(&format!(
        "the-agent owed the-pool {} sats for it, {} for the way and {} as fee; repaid out of what was held: {} sats, {}",
        sats(loan.principal_msats),
        sats(loan.routing_msats),
        sats(loan.fee_msats),
        sats(loan.repaid_msats),
        match loan.status {
            LoanStatus::Repaid => "all of it".to_owned(),
            _ => format!("{} msats are still owed", loan.owed_msats),
        }
    ))
}
