//! `POST /internal/v1/hydra/fx/quote`: a provider's quote for an open request (credit-fx §9.3). A quote never
//! changes: the same one is answered as it stands, another one under its id is a conflict.

use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Refusal, Stop, Timestamp, canonical,
    matrix::HydraFxQuote,
    signer,
    wire::fx::{FxQuote, FxQuoteReply, FxQuoteStatus, FxRate, OfferedFxQuote, Rfq, RfqStatus, UpsertFxQuote},
};
use oa_store::{
    Key, Tx,
    tables::{
        fx::{self as table, QuoteRow},
        fx_sums::{self, Counters},
    },
};
use serde_json::{Map, Value};

use super::{
    Asked, FxPolicy, MOST_UNITS, bounded, key, legs, money, named, policy, principal, rate, read_back,
    schema, score, spelt_as_owner, standing, unix, value, written,
};
use crate::{Runtime, TrustMode};

const SCHEMA: &str = "openagents.hydra.fx_quote_upsert_request.v1";
const REPLY: &str = "openagents.hydra.fx_quote_upsert_response.v1";
/// Quotes of one request.
pub(super) const MOST_QUOTES: u32 = 256;

struct Quoting {
    asked: Asked,
    caller: Caller,
    rfq_id: String,
    offered: OfferedFxQuote,
    policy: FxPolicy,
    lenient: bool,
    now: Timestamp,
}

impl Handle<HydraFxQuote> for Runtime {
    async fn handle(&self, ask: Ask<HydraFxQuote>) -> Result<Answer<FxQuoteReply>, Stop> {
        let UpsertFxQuote { schema: said, idempotency_key, quote } = ask.body;
        schema(&said, SCHEMA)?;
        let idempotency_key = named("idempotency_key", &idempotency_key)?;
        let received = serde_json::json!({"schema": said, "quote": value(&quote)?});
        let asked = Asked {
            operation: "quote",
            principal: principal(&ask.caller),
            key: idempotency_key,
            fingerprint: canonical::canonical_hash(&received),
            conflict: "idempotency key replay with different quote payload",
        };
        let rfq_id = quote.rfq_id.trim().to_owned();
        let keys = vec![
            asked.lock(),
            key(&rfq_id),
            Key::text("fx_quote", quote.quote_id.trim()),
            fx_sums::counter_key(&rfq_id),
        ];
        let quoting = Quoting {
            asked,
            caller: ask.caller,
            rfq_id,
            offered: quote,
            policy: self.config.fx.clone(),
            lenient: self.config.trust_mode == TrustMode::Lenient,
            now: self.now(),
        };
        Ok(self.store.write("fx.quote", keys, quoting, upsert).await?.into())
    }
}

async fn upsert(tx: &mut Tx, quoting: &Quoting) -> Result<FxQuoteReply, Stop> {
    let now_unix = unix(quoting.now);
    if let Some(known) = quoting.asked.known(tx).await? {
        let row = table::quote(tx, &known.subject).await?;
        let row = row.ok_or_else(|| Fault::msg(format!("the quote {} is gone", known.subject)))?;
        // As it was answered; only where the quote stands is told as it is now.
        return match known.reply {
            Some(rate) => Ok(replied(row.quote, read_back(&rate)?)),
            None => reply(tx, quoting, row.quote, now_unix).await,
        };
    }
    let rfq = table::rfq(tx, &quoting.rfq_id).await?;
    let mut rfq = rfq.ok_or_else(|| Refusal::not_found("no such request for quotes"))?;
    let quote = decide(&quoting.offered, &rfq.rfq, &quoting.policy, quoting.lenient, now_unix)?;
    speaks_for(&quoting.caller, &quoting.offered, &quote, quoting.lenient)?;
    if let Some(known) = table::quote(tx, &quote.quote_id).await? {
        if known.quote.quote_sha256 != quote.quote_sha256 {
            let message = "quote_id already exists with different immutable quote payload";
            return Err(Refusal::conflict(message).into());
        }
        return answered(tx, quoting, known.quote, now_unix).await;
    }
    match standing(&rfq, now_unix) {
        RfqStatus::Expired => return Err(Refusal::conflict("rfq expired").into()),
        RfqStatus::Settled => return Err(Refusal::conflict("rfq is settled already").into()),
        _ if rfq.quotes >= u64::from(MOST_QUOTES) => {
            return Err(Refusal::conflict(format!("rfq has {MOST_QUOTES} quotes already")).into());
        }
        RfqStatus::Open => rfq.status = RfqStatus::Quoted,
        RfqStatus::Quoted | RfqStatus::Selected | RfqStatus::Withheld => {}
    }
    rfq.quotes += 1;
    table::put_rfq(tx, &rfq).await?;
    table::put_quote(tx, &QuoteRow { quote: quote.clone() }).await?;
    fx_sums::count(tx, &quoting.rfq_id, Counters { quotes: 1, ..Counters::default() }).await?;
    answered(tx, quoting, quote, now_unix).await
}

/// Keeps the rate under the key: the quote itself is kept already.
async fn answered(
    tx: &mut Tx,
    quoting: &Quoting,
    quote: FxQuote,
    now_unix: u64,
) -> Result<FxQuoteReply, Stop> {
    let reply = reply(tx, quoting, quote, now_unix).await?;
    quoting.asked.keep(tx, &reply.quote.quote_id, Some(written(&reply.rate)?), quoting.now).await?;
    Ok(reply)
}

async fn reply(tx: &mut Tx, quoting: &Quoting, quote: FxQuote, now_unix: u64) -> Result<FxQuoteReply, Stop> {
    let rate = rate::rate(tx, &quoting.policy, &quote.sell, &quote.buy, now_unix).await?;
    let rate = rate.reference.is_some().then_some(rate);
    Ok(replied(quote, rate))
}

fn replied(quote: FxQuote, rate: Option<FxRate>) -> FxQuoteReply {
    FxQuoteReply { schema: REPLY.into(), rate, quote }
}

/// Whose word the quote is: that of the key that the provider's id is, the provider's own owner's, or of a service of ours
/// for a provider that has no key. Where callers are believed, of any service of ours.
fn speaks_for(
    caller: &Caller,
    offered: &OfferedFxQuote,
    quote: &FxQuote,
    lenient: bool,
) -> Result<(), Refusal> {
    if let Some(signature) = &offered.provider_signature {
        let id = quote.provider_id.to_ascii_lowercase();
        return match signer::verify(&id, &quote.quote_sha256, signature.trim()) {
            true => Ok(()),
            false => Err(Refusal::forbidden("quote.provider_signature is not the provider's over the quote")),
        };
    }
    match caller.owner() {
        Some(bound) if bound.to_string() != quote.provider_id => Err(Refusal::forbidden(format!(
            "this credential speaks for {bound}; a quote of {} needs its provider_signature",
            quote.provider_id
        ))),
        _ if !lenient && is_key(&quote.provider_id) => {
            Err(Refusal::forbidden("quote.provider_id is a key: its quote needs provider_signature"))
        }
        _ => Ok(()),
    }
}

fn is_key(provider_id: &str) -> bool {
    provider_id.len() == 64 && provider_id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// In the order of §9.3.
fn decide(
    offered: &OfferedFxQuote,
    rfq: &Rfq,
    policy: &FxPolicy,
    lenient: bool,
    now_unix: u64,
) -> Result<FxQuote, Refusal> {
    let invalid = |message: &str| Err(Refusal::invalid(message));
    let denied = |message: &str| Err(Refusal::forbidden(message));
    let quote_id = named("quote.quote_id", &offered.quote_id)?;
    let provider_id = named("quote.provider_id", &offered.provider_id)?;
    spelt_as_owner("quote.provider_id", &provider_id)?;
    let (sell, buy) = (money(&offered.sell), money(&offered.buy));
    if sell.amount == 0 || buy.amount == 0 {
        return invalid("quote.sell.amount and quote.buy.amount must be greater than zero");
    }
    if buy.amount > MOST_UNITS {
        return Err(Refusal::invalid(format!("quote.buy.amount must be at most {MOST_UNITS}")));
    }
    if sell.unit.is_empty() || buy.unit.is_empty() {
        return invalid("quote units must not be empty");
    }
    let mismatch = |member: &str| Err(Refusal::invalid(format!("quote.{member}")));
    match () {
        () if sell.asset != rfq.sell.asset => return mismatch("sell.asset must match RFQ sell.asset"),
        () if buy.asset != rfq.buy_asset => return mismatch("buy.asset must match RFQ buy_asset"),
        () if sell.unit != rfq.sell.unit => return mismatch("sell.unit must match RFQ sell.unit"),
        () if sell.amount != rfq.sell.amount => return mismatch("sell.amount must match RFQ sell.amount"),
        () => {}
    }
    policy::unit_fits("quote.buy.unit", &buy.asset, &buy.unit, lenient)?;
    legs::apart(rfq, &provider_id)?;
    if buy.amount < rfq.min_buy_amount {
        return denied("quote.buy.amount below RFQ minimum");
    }
    if offered.spread_bps > rfq.max_spread_bps.min(policy.max_spread_bps) {
        return denied("quote.spread_bps exceeds policy or RFQ bounds");
    }
    if offered.fee_bps > rfq.max_fee_bps.min(policy.max_fee_bps) {
        return denied("quote.fee_bps exceeds policy or RFQ bounds");
    }
    if offered.latency_ms > rfq.max_latency_ms {
        return denied("quote.latency_ms exceeds RFQ bounds");
    }
    let constraints = match &offered.constraints {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object.clone(),
        Some(_) => return invalid("quote.constraints must be a JSON object"),
    };
    bounded("quote.constraints", &constraints)?;
    if offered.status != FxQuoteStatus::Active {
        return invalid("quote.status must be active for upsert");
    }
    if offered.valid_until_unix <= now_unix.saturating_add(policy.min_quote_validity_seconds.into()) {
        return denied("quote.valid_until_unix does not satisfy minimum validity window");
    }
    let mut quote = FxQuote {
        quote_id,
        rfq_id: rfq.rfq_id.clone(),
        provider_id,
        sell,
        buy,
        spread_bps: offered.spread_bps,
        fee_bps: offered.fee_bps,
        latency_ms: offered.latency_ms,
        reliability_bps: offered.reliability_bps,
        valid_until_unix: offered.valid_until_unix.min(rfq.expires_at_unix),
        status: FxQuoteStatus::Active,
        constraints,
        quote_sha256: String::new(),
    };
    quote.quote_sha256 = score::quote_sha256(&quote);
    let said = offered.quote_sha256.trim();
    match said.is_empty() || said == quote.quote_sha256 {
        true => Ok(quote),
        false => Err(Refusal::conflict("quote.quote_sha256 does not match canonical quote payload")),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::signer::Signer;
    use serde_json::json;

    use super::*;
    use crate::{
        hydra::fx::tests::{NOW, golden_quote, golden_rfq, offered},
        testing::{bound_to, operator},
    };

    fn decided(change: impl FnOnce(&mut OfferedFxQuote)) -> Result<FxQuote, Refusal> {
        let mut quote = offered("quote-a", "provider-a", &golden_rfq());
        change(&mut quote);
        decide(&quote, &golden_rfq(), &FxPolicy::default(), false, NOW)
    }

    fn said(change: impl FnOnce(&mut OfferedFxQuote)) -> (u16, String) {
        let refusal = decided(change).expect_err("refused");
        (refusal.status(oa_contract::Service::Runtime), refusal.message)
    }

    #[test]
    fn the_quote_of_the_vectors_has_its_digest() {
        let quote = decided(|_| {}).expect("a quote");
        assert_eq!(quote, golden_quote());
        assert_eq!(quote.quote_sha256, "b339564a0d224c6a0e00d7a3a5c9d869687ea41d418ea8b1c890603ad63cbb57");
        let own = quote.quote_sha256.clone();
        assert_eq!(decided(|offered| offered.quote_sha256 = own), Ok(quote.clone()));
        assert_eq!(decided(|offered| offered.valid_until_unix = u64::MAX), Ok(quote), "it is clamped");
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_specification() {
        let wrong = |status, message: &str| (status, message.to_owned());
        assert_eq!(said(|quote| quote.quote_id = " ".into()), wrong(400, "quote.quote_id must not be empty"));
        assert_eq!(
            said(|quote| quote.provider_id = " ".into()),
            wrong(400, "quote.provider_id must not be empty")
        );
        let amounts = wrong(400, "quote.sell.amount and quote.buy.amount must be greater than zero");
        assert_eq!(said(|quote| quote.sell.amount = 0), amounts);
        assert_eq!(said(|quote| quote.buy.amount = 0), amounts);
        assert_eq!(said(|quote| quote.buy.unit = " ".into()), wrong(400, "quote units must not be empty"));
        assert_eq!(
            said(|quote| quote.sell.asset = "EUR".into()),
            wrong(400, "quote.sell.asset must match RFQ sell.asset")
        );
        assert_eq!(
            said(|quote| quote.buy.asset = "EUR".into()),
            wrong(400, "quote.buy.asset must match RFQ buy_asset")
        );
        assert_eq!(
            said(|quote| quote.sell.unit = "dollars".into()),
            wrong(400, "quote.sell.unit must match RFQ sell.unit")
        );
        assert_eq!(
            said(|quote| quote.sell.amount = 1),
            wrong(400, "quote.sell.amount must match RFQ sell.amount")
        );
        assert_eq!(
            said(|quote| quote.buy.unit = "sats".into()),
            wrong(400, "quote.buy.unit must be msats for BTC_LN")
        );
        assert_eq!(
            said(|quote| quote.buy.amount = 1_999_999),
            wrong(403, "quote.buy.amount below RFQ minimum")
        );
        assert_eq!(
            said(|quote| quote.spread_bps = 101),
            wrong(403, "quote.spread_bps exceeds policy or RFQ bounds")
        );
        assert_eq!(
            said(|quote| quote.fee_bps = 61),
            wrong(403, "quote.fee_bps exceeds policy or RFQ bounds")
        );
        assert_eq!(said(|quote| quote.latency_ms = 5_001), wrong(403, "quote.latency_ms exceeds RFQ bounds"));
        assert_eq!(
            said(|quote| quote.constraints = Some(json!([1]))),
            wrong(400, "quote.constraints must be a JSON object")
        );
        assert_eq!(
            said(|quote| quote.status = FxQuoteStatus::Selected),
            wrong(400, "quote.status must be active for upsert")
        );
        assert_eq!(
            said(|quote| quote.valid_until_unix = NOW + 10),
            wrong(403, "quote.valid_until_unix does not satisfy minimum validity window")
        );
        assert!(decided(|quote| quote.valid_until_unix = NOW + 11).is_ok());
        assert_eq!(
            said(|quote| quote.quote_sha256 = "0".repeat(64)),
            wrong(409, "quote.quote_sha256 does not match canonical quote payload")
        );
        let itself = golden_rfq().requester_id;
        assert_eq!(said(|quote| quote.provider_id = itself).0, 400);
    }

    #[test]
    fn a_quote_is_the_word_of_its_provider() {
        let signer = Signer::from_secret(&"2a".repeat(32)).expect("a key");
        let quote = decided(|quote| quote.provider_id = signer.public_key_hex()).expect("a quote");
        let digest = canonical::unhex(&quote.quote_sha256).expect("a digest");
        let signed = |signature: Option<String>| OfferedFxQuote {
            provider_signature: signature,
            ..offered("quote-a", "provider-a", &golden_rfq())
        };
        let good = signed(Some(canonical::hex(&signer.sign_digest(&digest))));
        let speaks = |caller: &Caller, offered: &OfferedFxQuote, quote: &FxQuote| {
            speaks_for(caller, offered, quote, false)
        };
        assert_eq!(speaks(&bound_to(7), &good, &quote), Ok(()));
        assert!(speaks(&bound_to(7), &signed(None), &quote).is_err());
        assert!(speaks(&operator(), &signed(Some("00".repeat(64))), &quote).is_err());
        let refused = speaks(&operator(), &signed(None), &quote).expect_err("a key speaks for itself");
        assert_eq!(refused.message, "quote.provider_id is a key: its quote needs provider_signature");
        assert_eq!(speaks_for(&operator(), &signed(None), &quote, true), Ok(()), "as specified");
        let own = FxQuote { provider_id: "user:7".into(), ..quote.clone() };
        assert_eq!(speaks(&bound_to(7), &signed(None), &own), Ok(()));
        let named = FxQuote { provider_id: "provider-a".into(), ..quote };
        assert_eq!(speaks(&operator(), &signed(None), &named), Ok(()), "a provider without a key");
    }
}
