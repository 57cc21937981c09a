//! `POST /internal/v1/liquidity/pay`: pays a quoted invoice, once (§4.2). A payment that has ended is answered the same
//! for ever; one whose end nobody knows is a conflict until the wallet has told.

use std::time::Duration;

use oa_contract::{
    Answer, Ask, Fault, Handle, Msats, Owner, Refusal, Stop,
    canonical::canonical_hash,
    matrix::LiquidityPay,
    wire::liquidity::{InvoicePayReceipt, PAY_REQUEST, PAY_RESPONSE, PaidStatus, Pay, Payment},
};
use oa_store::{
    Tx,
    tables::liquidity::{self as table, PaymentRow, PaymentStatus, QuoteRow, ReceiptRow},
};
use serde_json::{json, value::RawValue};

use super::{
    lanes::Lane,
    payments::{self, Begun, Order, Payer, Terms},
    receipt::max_forwarded_msats,
    some,
};
use crate::Runtime;

/// The edge gives a request a minute; the payment goes on without whoever asked.
const PATIENCE: Duration = Duration::from_secs(50);
const LONGEST: usize = 512;

impl Handle<LiquidityPay> for Runtime {
    async fn handle(&self, ask: Ask<LiquidityPay>) -> Result<Answer<Payment>, Stop> {
        let asked = read(ask.body)?;
        Ok(self.pay_quote(asked, ask.caller.owner()).await?.into())
    }
}

/// What was asked, once it is whole. Other lanes pay their quotes with this too.
#[derive(Clone, Debug)]
pub struct Asked {
    pub quote_id: String,
    pub run_id: Option<String>,
    pub trajectory_hash: Option<String>,
}

fn read(body: Pay) -> Result<Asked, Refusal> {
    if body.schema.trim() != PAY_REQUEST {
        return Err(Refusal::field("schema", format!("schema must be {PAY_REQUEST}")));
    }
    let asked = Asked {
        quote_id: body.quote_id.trim().to_owned(),
        run_id: some(body.run_id),
        trajectory_hash: some(body.trajectory_hash),
    };
    if asked.quote_id.is_empty() {
        return Err(Refusal::field("quote_id", "quote_id is required"));
    }
    let members = [
        ("quote_id", Some(&asked.quote_id)),
        ("run_id", asked.run_id.as_ref()),
        ("trajectory_hash", asked.trajectory_hash.as_ref()),
    ];
    for (field, text) in members {
        if text.is_some_and(|text| text.len() > LONGEST) {
            return Err(Refusal::field(field, format!("{field} must be at most {LONGEST} bytes")));
        }
    }
    Ok(asked)
}

impl Asked {
    fn fingerprint(&self) -> String {
        canonical_hash(&json!({"schema": PAY_REQUEST, "quote_id": self.quote_id, "run_id": self.run_id,
            "trajectory_hash": self.trajectory_hash}))
    }
}

/// What is known before anything is done.
struct Facts {
    quote: QuoteRow,
    payment: Option<PaymentRow>,
}

impl Runtime {
    /// Pays a quote, or says how it was paid. `seen_by`: to whom alone quotes of others do not exist.
    pub async fn pay_quote(&self, asked: Asked, seen_by: Option<Owner>) -> Result<Payment, Stop> {
        let facts = self.store.read("liquidity.pay_facts", asked.quote_id.clone(), facts).await?;
        let quote = facts.quote_for(seen_by.as_ref())?;
        if let Some(payment) = &facts.payment {
            return self.replayed(quote, payment, &asked).await;
        }
        let order = order(quote, &asked)?;
        let keys = order.keys();
        let begun = self
            .store
            .write("liquidity.pay", keys, (order, quote.clone(), self.payments.terms()), begin)
            .await?;
        if !begun.fresh {
            return self.replayed(quote, &begun.payment, &asked).await;
        }
        let driven = tokio::time::timeout(PATIENCE, self.payments.drive(begun)).await;
        let payment = driven.map_err(|_| in_flight())??;
        match payment.status.is_final() {
            true => {
                let proof = payment.wallet_response.clone();
                self.answered(&payment, proof).await
            }
            false => Err(in_flight().into()),
        }
    }

    async fn replayed(&self, quote: &QuoteRow, payment: &PaymentRow, asked: &Asked) -> Result<Payment, Stop> {
        if payment.fingerprint != asked.fingerprint() {
            return Err(Refusal::conflict("quote_id reused with different pay context").into());
        }
        if !payment.status.is_final() {
            return Err(in_flight().into());
        }
        let proof = match &payment.wallet_response {
            Some(proof) => proof.clone(),
            None => placeholder(&quote.quote_id)?,
        };
        self.answered(payment, Some(proof)).await
    }

    async fn answered(&self, payment: &PaymentRow, proof: Option<Box<RawValue>>) -> Result<Payment, Stop> {
        let row: Option<ReceiptRow> =
            self.store.read("liquidity.receipt", payment.payment_id.clone(), receipt).await?;
        let row = row.ok_or_else(|| Fault::msg("a payment has ended without its receipt"))?;
        let receipt: InvoicePayReceipt = serde_json::from_str(row.receipt.get())
            .map_err(|error| Fault::new("reading a kept receipt", error))?;
        Ok(Payment {
            schema: PAY_RESPONSE.into(),
            quote_id: payment.payment_id.clone(),
            status: match payment.status {
                PaymentStatus::Succeeded => PaidStatus::Succeeded,
                _ => PaidStatus::Failed,
            },
            wallet_receipt_sha256: payment.wallet_receipt_sha256.clone(),
            preimage_sha256: payment.preimage_sha256.clone(),
            paid_at_ms: payment.paid_at_ms,
            error_code: payment.error_code.clone(),
            error_message: payment.error_message.clone(),
            receipt,
            payment_proof: proof,
        })
    }
}

fn in_flight() -> Refusal {
    let mut refusal = Refusal::conflict("payment already in flight for quote_id");
    refusal.retry_after_ms = Some(2_000);
    refusal
}

fn placeholder(quote_id: &str) -> Result<Box<RawValue>, Fault> {
    let placeholder = json!({"schema": "openagents.liquidity.payment_proof_placeholder.v1",
        "note": "payment_proof missing (older record)", "quoteId": quote_id});
    serde_json::value::to_raw_value(&placeholder).map_err(|error| Fault::new("writing a placeholder", error))
}

impl Facts {
    fn quote_for(&self, seen_by: Option<&Owner>) -> Result<&QuoteRow, Refusal> {
        match seen_by.is_some_and(|owner| owner.to_string() != self.quote.principal) {
            true => Err(Refusal::not_found("no quote has this id")),
            false => Ok(&self.quote),
        }
    }
}

async fn facts(tx: &mut Tx, quote_id: &String) -> Result<Facts, Stop> {
    let quote = table::quote(tx, quote_id).await?;
    let quote = quote.ok_or_else(|| Refusal::not_found("no quote has this id"))?;
    Ok(Facts { payment: table::payment(tx, quote_id).await?, quote })
}

async fn receipt(tx: &mut Tx, quote_id: &String) -> Result<Option<ReceiptRow>, Stop> {
    table::receipt(tx, quote_id).await
}

/// The request id under which a wallet knows the payment of a quote (§1.5).
pub fn request_id(quote_id: &str) -> String {
    format!("liqpay:{quote_id}")
}

fn order(quote: &QuoteRow, asked: &Asked) -> Result<Order, Stop> {
    let payer = Payer::of_account(&quote.payer);
    // What may be forwarded beyond the amount is what routing may cost.
    let max_fee = max_forwarded_msats(quote).saturating_sub(quote.quoted.get());
    Ok(Order {
        payment_id: quote.quote_id.clone(),
        lane: Lane::Quote,
        request_id: request_id(&quote.quote_id),
        invoice: quote.invoice.clone(),
        payment_hash: quote.payment_hash.clone(),
        host: quote.host.clone(),
        amount: quote.quoted,
        max_fee: Msats::new(max_fee).unwrap_or(Msats::MAX),
        payer: payer.ok_or_else(|| Fault::msg(format!("{} is no account", quote.payer)))?,
        run_id: asked.run_id.clone(),
        trajectory_hash: asked.trajectory_hash.clone(),
        fingerprint: Some(asked.fingerprint()),
    })
}

/// An expired quote begins nothing; one that was begun before is found, however old it is.
async fn begin(tx: &mut Tx, (order, quote, terms): &(Order, QuoteRow, Terms)) -> Result<Begun, Stop> {
    if let Some(payment) = table::payment(tx, &order.payment_id).await? {
        return Ok(Begun { payment, fresh: false });
    }
    if quote.valid_until < terms.now {
        return Err(Refusal::field("quote_id", "quote expired").into());
    }
    payments::begin(tx, order, terms).await
}
