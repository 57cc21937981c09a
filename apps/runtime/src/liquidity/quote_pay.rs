//! `POST /internal/v1/liquidity/quote_pay`: fixes what paying an invoice may cost (§4.1). No wallet is asked.

use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Msats, Owner, Refusal, Stop, Timestamp,
    canonical::{canonical_hash, compact},
    matrix::LiquidityQuotePay,
    wire::liquidity::{PayQuote, QUOTE_PAY_REQUEST, QUOTE_PAY_RESPONSE, QuotePay},
};
use oa_lightning::bolt11::{self, Network};
use oa_store::{
    Key, Tx,
    tables::liquidity::{self as table, QuoteRow},
};
use serde_json::{Value, json, value::RawValue};

use super::payments::Payer;
use crate::{Runtime, TrustMode};

/// Keys and hosts are words, not documents.
const LONGEST_KEY: usize = 512;
const LONGEST_HOST: usize = 255;

impl Handle<LiquidityQuotePay> for Runtime {
    async fn handle(&self, ask: Ask<LiquidityQuotePay>) -> Result<Answer<PayQuote>, Stop> {
        let owner = payer_of(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let quote = self.quote(read(ask.body)?, owner).await?;
        Ok(said(&quote).into())
    }
}

/// Who pays: whom the request names, or whom the credential speaks for; nobody is the operator.
pub fn payer_of(
    caller: &Caller,
    user_id: Option<u64>,
    guest: Option<&str>,
) -> Result<Option<Owner>, Refusal> {
    if user_id.is_none() && guest.is_none_or(|scope| scope.trim().is_empty()) {
        return Ok(caller.owner());
    }
    let owner = Owner::from_parts(user_id, guest)?;
    caller.must_speak_for(&owner)?;
    Ok(Some(owner))
}

/// Whose keys those of the operator's own quotes are.
pub const OPERATOR: &str = "operator";

/// What was asked, once it is whole. Other lanes price their invoices with this too.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub idempotency_key: String,
    pub invoice: String,
    pub host: String,
    pub max_amount: Msats,
    pub max_fee: Msats,
    pub urgency: Option<String>,
    pub policy_context: Value,
}

fn read(body: QuotePay) -> Result<Wanted, Refusal> {
    if body.schema.trim() != QUOTE_PAY_REQUEST {
        return Err(Refusal::field("schema", format!("schema must be {QUOTE_PAY_REQUEST}")));
    }
    let idempotency_key = needed("idempotency_key", &body.idempotency_key, LONGEST_KEY)?;
    let invoice = needed("invoice", &body.invoice, bolt11::LONGEST)?;
    let host = needed("host", &body.host, LONGEST_HOST)?.to_ascii_lowercase();
    Ok(Wanted {
        idempotency_key,
        invoice,
        host,
        max_amount: body.max_amount_msats,
        max_fee: body.max_fee_msats,
        urgency: super::some(body.urgency),
        policy_context: body.policy_context,
    })
}

fn needed(field: &str, text: &str, longest: usize) -> Result<String, Refusal> {
    match text.trim() {
        "" => Err(Refusal::field(field, format!("{field} is required"))),
        long if long.len() > longest => {
            Err(Refusal::field(field, format!("{field} must be at most {longest} bytes")))
        }
        text => Ok(text.to_owned()),
    }
}

/// A quote that is to be made, unless it is there.
struct Quoting {
    wanted: Wanted,
    principal: String,
    payer: Payer,
    lenient: bool,
    network: Network,
    quote_id: String,
    ttl_seconds: i64,
    now: Timestamp,
}

impl Runtime {
    /// The quote for this key: the one that stands, or a new one.
    pub async fn quote(&self, wanted: Wanted, owner: Option<Owner>) -> Result<QuoteRow, Stop> {
        let now = self.now();
        let principal = owner.as_ref().map_or(OPERATOR.to_owned(), Owner::to_string);
        let key = Key::text("liquidity_quote", format!("{principal}/{}", wanted.idempotency_key));
        let quoting = Quoting {
            wanted,
            principal,
            payer: owner.map_or_else(Payer::operator, |owner| Ok(Payer::Owner(owner)))?,
            lenient: self.config.trust_mode == TrustMode::Lenient,
            network: self.config.liquidity.network,
            quote_id: format!("liq_quote_{}", self.ids.uuid_v7(now)),
            ttl_seconds: self.config.liquidity.quote_ttl_seconds,
            now,
        };
        self.store.write("liquidity.quote_pay", key, quoting, keep).await
    }
}

async fn keep(tx: &mut Tx, quoting: &Quoting) -> Result<QuoteRow, Stop> {
    let key = &quoting.wanted.idempotency_key;
    let known = table::quote_by_key(tx, &quoting.principal, key).await?;
    let known_amount = known.as_ref().map(|known| known.quoted);
    let ruled = rule(quoting, known_amount)?;
    match known {
        Some(known) if known.fingerprint == ruled.fingerprint => Ok(known),
        Some(_) => Err(Refusal::conflict("idempotency_key reused with different quote parameters").into()),
        None => {
            table::insert_quote(tx, &ruled).await?;
            Ok(ruled)
        }
    }
}

/// The quote that is asked for. One that is known is only compared: its invoice may have expired since.
fn rule(quoting: &Quoting, known: Option<Msats>) -> Result<QuoteRow, Stop> {
    let wanted = &quoting.wanted;
    let checked = match quoting.lenient || known.is_some() {
        true => None,
        false => Some(
            bolt11::check(&wanted.invoice, quoting.network, quoting.now)
                .map_err(|why| Refusal::field("invoice", why.to_string()))?,
        ),
    };
    let quoted = match &checked {
        Some(checked) => checked.amount,
        None => amount(&wanted.invoice)?,
    };
    if wanted.max_amount < quoted {
        let (max, amount) = (wanted.max_amount.get(), quoted.get());
        let message = format!("max_amount_msats {max} is below invoice amount {amount}");
        return Err(Refusal::field("max_amount_msats", message).into());
    }
    let invoice_hash = bolt11::invoice_hash(&wanted.invoice);
    let policy_context_sha256 = canonical_hash(&wanted.policy_context);
    let fingerprint = canonical_hash(&json!({
        "schema": QUOTE_PAY_REQUEST,
        "invoice_hash": invoice_hash,
        "host": wanted.host,
        "quoted_amount_msats": quoted,
        "max_amount_msats": wanted.max_amount,
        "max_fee_msats": wanted.max_fee,
        "urgency": wanted.urgency,
        "policy_context_sha256": policy_context_sha256,
    }));
    let until = quoting.now.plus_seconds(quoting.ttl_seconds);
    let payer = quoting.payer.account()?.ok_or_else(|| Fault::msg("a quote without a payer"))?;
    let policy_context = RawValue::from_string(compact(&wanted.policy_context));
    Ok(QuoteRow {
        quote_id: quoting.quote_id.clone(),
        principal: quoting.principal.clone(),
        idempotency_key: wanted.idempotency_key.clone(),
        fingerprint,
        invoice: wanted.invoice.clone(),
        invoice_hash,
        // An invoice that can be read whole is paid once, however much a caller is believed.
        payment_hash: bolt11::payment_hash(&wanted.invoice),
        payee: checked.as_ref().map(|checked| checked.payee.clone()),
        host: wanted.host.clone(),
        quoted,
        max_amount: wanted.max_amount,
        max_fee: wanted.max_fee,
        urgency: wanted.urgency.clone(),
        policy_context: policy_context.map_err(|error| Fault::new("keeping a policy context", error))?,
        policy_context_sha256,
        payer: payer.to_string(),
        valid_until: checked.map_or(until, |checked| until.min(checked.expires_at)),
        created_at: quoting.now,
    })
}

/// The amount in the prefix; a whole invoice says it too where the prefix is of a network that §3 does not read.
fn amount(invoice: &str) -> Result<Msats, Refusal> {
    let msats = bolt11::prefix_amount_msats(invoice).or_else(|| bolt11::whole_amount_msats(invoice));
    msats
        .and_then(Msats::new)
        .ok_or_else(|| Refusal::field("invoice", bolt11::BadInvoice::NoAmount.to_string()))
}

fn said(quote: &QuoteRow) -> PayQuote {
    PayQuote {
        schema: QUOTE_PAY_RESPONSE.into(),
        quote_id: quote.quote_id.clone(),
        idempotency_key: quote.idempotency_key.clone(),
        invoice_hash: quote.invoice_hash.clone(),
        host: quote.host.clone(),
        quoted_amount_msats: quote.quoted.get(),
        max_amount_msats: quote.max_amount.get(),
        max_fee_msats: quote.max_fee.get(),
        policy_context_sha256: quote.policy_context_sha256.clone(),
        valid_until: quote.valid_until,
        created_at: quote.created_at,
    }
}
