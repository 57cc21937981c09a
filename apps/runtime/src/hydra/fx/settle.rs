//! `POST /internal/v1/hydra/fx/settle`: settles the chosen quote, once (credit-fx §9.5). Both sides are posted, or
//! both are given back; what was settled is answered the same for ever.

use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Refusal, Stop, Timestamp, canonical,
    matrix::HydraFxSettle,
    signer::Signer,
    wire::fx::{
        FxProof, FxQuote, FxQuoteStatus, FxReceipt, FxSettlement, FxSettlementStatus, RfqStatus, SettleFx,
    },
};
use oa_store::{
    Tx,
    tables::{
        fx::{self as table, KeyRow, QuoteRow, RfqRow, SettlementRow},
        fx_sums::{self, Counters},
    },
};
use serde_json::{Map, Value, json};

use super::{
    Asked, FxPolicy, bounded, key, legs, named, own, principal, rate, read_back, schema, score, select, unix,
    written,
};
use crate::{Runtime, TrustMode};

const SCHEMA: &str = "openagents.hydra.fx_settle_request.v1";

/// What is asked, once it is well formed.
#[derive(Debug)]
struct Wanted {
    idempotency_key: String,
    rfq_id: String,
    quote_id: String,
    reservation_id: String,
    context: Value,
    release_allowed: bool,
}

struct Settling {
    asked: Asked,
    wanted: Wanted,
    caller: Caller,
    policy: FxPolicy,
    signer: Option<Signer>,
    lenient: bool,
    /// The quote was there when the keys were chosen.
    is_quoted: bool,
    now: Timestamp,
}

impl Handle<HydraFxSettle> for Runtime {
    async fn handle(&self, ask: Ask<HydraFxSettle>) -> Result<Answer<FxSettlement>, Stop> {
        let lenient = self.config.trust_mode == TrustMode::Lenient;
        let wanted = read(ask.body, lenient)?;
        let content = json!({
            "rfq_id": wanted.rfq_id,
            "quote_id": wanted.quote_id,
            "reservation_id": wanted.reservation_id,
            "policy_context": wanted.context,
        });
        let asked = Asked {
            operation: "settle",
            principal: principal(&ask.caller),
            key: wanted.idempotency_key.clone(),
            fingerprint: canonical::canonical_hash(&content),
            conflict: "idempotency key replay with different settle payload",
        };
        let mut keys = vec![asked.lock(), key(&wanted.rfq_id), fx_sums::counter_key(&wanted.rfq_id)];
        // What a quote says never changes, so it can be read before.
        let looked = self
            .store
            .read("fx.settle_look", wanted.quote_id.clone(), async |tx, id: &String| look(tx, id).await)
            .await?;
        let keys_of = |row: &QuoteRow| fx_sums::settlement_keys(&row.quote.provider_id, row.quote.spread_bps);
        keys.extend(looked.iter().flat_map(keys_of));
        let settling = Settling {
            asked,
            wanted,
            caller: ask.caller,
            policy: self.config.fx.clone(),
            signer: self.signer.clone(),
            lenient,
            is_quoted: looked.is_some(),
            now: self.now(),
        };
        Ok(self.store.write("fx.settle", keys, settling, settle).await?.into())
    }
}

async fn look(tx: &mut Tx, quote_id: &str) -> Result<Option<QuoteRow>, Stop> {
    table::quote(tx, quote_id).await
}

fn read(body: SettleFx, lenient: bool) -> Result<Wanted, Refusal> {
    schema(&body.schema, SCHEMA)?;
    let idempotency_key = named("idempotency_key", &body.idempotency_key)?;
    let rfq_id = named("rfq_id", &body.rfq_id)?;
    let quote_id = named("quote_id", &body.quote_id)?;
    let reservation_id = named("reservation_id", &body.reservation_id)?;
    let context = match body.policy_context {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object,
        Some(_) => return Err(Refusal::invalid("policy_context must be a JSON object")),
    };
    bounded("policy_context", &context)?;
    let release_allowed = match context.get("release_allowed") {
        Some(Value::Bool(allowed)) => *allowed,
        Some(_) if !lenient => {
            return Err(Refusal::invalid("policy_context.release_allowed must be true or false"));
        }
        _ => true,
    };
    Ok(Wanted { idempotency_key, rfq_id, quote_id, reservation_id, context, release_allowed })
}

async fn settle(tx: &mut Tx, settling: &Settling) -> Result<FxSettlement, Stop> {
    let wanted = &settling.wanted;
    if let Some(known) = settling.asked.known(tx).await? {
        return answered(tx, wanted, known).await;
    }
    let row = own(tx, &wanted.rfq_id, &settling.caller).await?;
    // One that came since is not settled without its keys.
    let quote = table::quote(tx, &wanted.quote_id).await?.filter(|_| settling.is_quoted);
    let quote = quote.ok_or_else(|| Refusal::not_found("no such quote"))?.quote;
    if quote.rfq_id != wanted.rfq_id {
        return Err(Refusal::invalid("quote.rfq_id does not match settle.rfq_id").into());
    }
    let known = table::settlement(tx, &wanted.quote_id).await?;
    if known.is_none() {
        may_settle(&row, &quote, settling.lenient)?;
    }
    let expected = score::reservation_id(&score::job_hash(&wanted.rfq_id, &wanted.quote_id));
    if wanted.reservation_id != expected {
        return Err(Refusal::conflict(format!("reservation_id conflict: expected {expected}")).into());
    }
    if let Some(known) = known {
        return again(tx, settling, &known).await;
    }
    settled(tx, settling, row, quote).await
}

/// The answer lies with the settlement, or, in older stores, beside the key.
async fn answered(tx: &mut Tx, wanted: &Wanted, known: KeyRow) -> Result<FxSettlement, Stop> {
    if let Some(reply) = known.reply {
        return Ok(read_back(&reply)?);
    }
    let kept = table::settlement(tx, &wanted.quote_id).await?;
    let kept = kept.ok_or_else(|| Fault::msg(format!("the settlement {} is gone", known.subject)))?;
    Ok(read_back(&kept.reply)?)
}

/// Only the quote that is chosen, and nothing once the request is settled. Where callers are believed, any quote
/// that nobody has turned down.
fn may_settle(row: &RfqRow, quote: &FxQuote, lenient: bool) -> Result<(), Refusal> {
    let chosen = row.selected_quote_id.as_ref() == Some(&quote.quote_id);
    let open = row.status != RfqStatus::Settled;
    let fits = match quote.status {
        FxQuoteStatus::Selected => chosen,
        FxQuoteStatus::Active => lenient,
        FxQuoteStatus::Expired | FxQuoteStatus::Withdrawn => false,
    };
    match open && fits {
        true => Ok(()),
        false => Err(Refusal::conflict("quote is not in a settle-eligible status")),
    }
}

/// Asked under another key: the same is answered, whatever has expired since; anything else contradicts it.
async fn again(tx: &mut Tx, settling: &Settling, known: &SettlementRow) -> Result<FxSettlement, Stop> {
    if known.context_sha256 != canonical::canonical_hash(&settling.wanted.context) {
        return Err(Refusal::conflict("treasury settlement conflict").into());
    }
    settling.asked.keep(tx, &known.settlement_id, None, settling.now).await?;
    Ok(read_back(&known.reply)?)
}

async fn settled(
    tx: &mut Tx,
    settling: &Settling,
    mut row: RfqRow,
    quote: FxQuote,
) -> Result<FxSettlement, Stop> {
    let now_unix = unix(settling.now);
    let in_time = quote.valid_until_unix > now_unix;
    let (status, reason) = match (in_time, settling.wanted.release_allowed) {
        (false, _) => (FxSettlementStatus::Withheld, Some("verification_failed")),
        (true, false) => (FxSettlementStatus::Withheld, Some("price_integrity_failed")),
        (true, true) => (FxSettlementStatus::Released, None),
    };
    let chosen = row.selected_quote_id.as_ref() == Some(&quote.quote_id);
    let transfer_id = match status {
        FxSettlementStatus::Released => Some(exchange(tx, settling, &mut row, &quote).await?),
        // What is held is for another quote, and stays.
        FxSettlementStatus::Withheld | FxSettlementStatus::Failed if !chosen => None,
        FxSettlementStatus::Withheld | FxSettlementStatus::Failed => {
            let held = row.hold_id.clone();
            select::release(tx, &mut row, Some(&quote.quote_id), settling.now).await?;
            held
        }
    };
    let rate = rate::rate(tx, &settling.policy, &quote.sell, &quote.buy, now_unix).await?;
    let mut settlement = receipt(settling, &quote, status, reason, now_unix);
    settlement.rate = Some(rate);
    if let Some(proof) = &mut settlement.proof {
        proof.transfer_id.clone_from(&transfer_id);
    }
    let released = status == FxSettlementStatus::Released;
    if released || chosen || row.selected_quote_id.is_none() {
        row.status = if released { RfqStatus::Settled } else { RfqStatus::Withheld };
        row.hold_id = None;
        row.selected_quote_id = Some(quote.quote_id.clone());
        row.settlement_id = Some(settlement.settlement_id.clone());
        table::put_rfq(tx, &row).await?;
    }
    let left = match (status, in_time) {
        (FxSettlementStatus::Released, _) => FxQuoteStatus::Selected,
        (_, false) => FxQuoteStatus::Expired,
        (_, true) => FxQuoteStatus::Withdrawn,
    };
    table::put_quote(tx, &QuoteRow { quote: FxQuote { status: left, ..quote.clone() } }).await?;
    keep(tx, settling, &quote, &settlement, transfer_id).await?;
    count(tx, &quote, status, in_time).await?;
    Ok(settlement)
}

/// Posts both sides of what is held; where nothing is, holds them first. Returns the transfer.
async fn exchange(
    tx: &mut Tx,
    settling: &Settling,
    row: &mut RfqRow,
    quote: &FxQuote,
) -> Result<String, Stop> {
    let chosen = row.selected_quote_id.as_ref() == Some(&quote.quote_id);
    let standing = match &row.hold_id {
        Some(hold_id) if chosen && legs::stands(tx, hold_id, settling.now).await? => Some(hold_id.clone()),
        _ => None,
    };
    let hold_id = match standing {
        Some(hold_id) => hold_id,
        None => {
            select::release(tx, row, Some(&quote.quote_id), settling.now).await?;
            row.holds += 1;
            let exchange = legs::of(tx, &row.rfq, quote, row.holds).await?;
            exchange.hold(tx, settling.lenient, settling.now).await?;
            exchange.id.to_string()
        }
    };
    legs::post(tx, &hold_id, settling.now).await?;
    Ok(hold_id)
}

fn receipt(
    settling: &Settling,
    quote: &FxQuote,
    status: FxSettlementStatus,
    withheld_reason: Option<&str>,
    now_unix: u64,
) -> FxSettlement {
    let wanted = &settling.wanted;
    let settlement_id = score::settlement_id(quote, &wanted.reservation_id, &wanted.context, status);
    let preimage =
        score::settlement_preimage(quote, &settlement_id, &wanted.context, status, withheld_reason, now_unix);
    let digest = canonical::canonical_digest(&preimage);
    let hex = canonical::hex(&digest);
    let signature = settling.signer.as_ref().map(|signer| canonical::hex(&signer.sign_digest(&digest)));
    FxSettlement {
        schema: "openagents.hydra.fx_settle_response.v1".into(),
        settlement_id: settlement_id.clone(),
        status,
        receipt: FxReceipt {
            schema: score::SETTLE_RECEIPT.into(),
            receipt_id: format!("hydrafxsr_{}", &hex[..16]),
            settlement_id,
            rfq_id: quote.rfq_id.clone(),
            quote_id: quote.quote_id.clone(),
            provider_id: quote.provider_id.clone(),
            sell: quote.sell.clone(),
            buy: quote.buy.clone(),
            spread_bps: quote.spread_bps,
            fee_bps: quote.fee_bps,
            settled_at_unix: now_unix,
            wallet_receipt: None,
            canonical_json_sha256: hex,
        },
        withheld_reason: withheld_reason.map(str::to_owned),
        rate: None,
        proof: Some(FxProof {
            transfer_id: None,
            preimage,
            signer_pubkey: settling.signer.as_ref().map(Signer::public_key_hex),
            signature_hex: signature,
        }),
    }
}

async fn keep(
    tx: &mut Tx,
    settling: &Settling,
    quote: &FxQuote,
    settlement: &FxSettlement,
    transfer_id: Option<String>,
) -> Result<(), Stop> {
    let kept = SettlementRow {
        quote_id: quote.quote_id.clone(),
        settlement_id: settlement.settlement_id.clone(),
        rfq_id: quote.rfq_id.clone(),
        provider_id: quote.provider_id.clone(),
        status: settlement.status.name().into(),
        context_sha256: canonical::canonical_hash(&settling.wanted.context),
        transfer_id,
        reply: written(settlement)?,
        settled_at: settling.now,
    };
    table::insert_settlement(tx, &kept).await?;
    settling.asked.keep(tx, &settlement.settlement_id, None, settling.now).await
}

async fn count(tx: &mut Tx, quote: &FxQuote, status: FxSettlementStatus, in_time: bool) -> Result<(), Stop> {
    let known = fx_sums::maker(tx, &quote.provider_id).await?;
    let providers = u64::from(known.is_none());
    let mut maker = known.unwrap_or_default();
    match (status, in_time) {
        (FxSettlementStatus::Released, _) => maker.released += 1,
        (_, false) => maker.late += 1,
        (_, true) => maker.refused += 1,
    }
    fx_sums::put_maker(tx, &quote.provider_id, &maker).await?;
    fx_sums::count_spread(tx, quote.spread_bps).await?;
    let withheld = u64::from(status != FxSettlementStatus::Released);
    let more = Counters { settlements: 1, withheld, providers, ..Counters::default() };
    fx_sums::count(tx, &quote.rfq_id, more).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(context: Option<Value>) -> SettleFx {
        SettleFx {
            schema: SCHEMA.into(),
            idempotency_key: "k".into(),
            rfq_id: "r".into(),
            quote_id: "q".into(),
            reservation_id: "v".into(),
            policy_context: context,
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_specification() {
        let said = |body: SettleFx| read(body, false).expect_err("refused").message;
        let other = SettleFx { schema: "x".into(), ..body(None) };
        assert_eq!(said(other), "schema must be openagents.hydra.fx_settle_request.v1");
        assert_eq!(
            said(SettleFx { idempotency_key: " ".into(), ..body(None) }),
            "idempotency_key must not be empty"
        );
        assert_eq!(said(SettleFx { rfq_id: " ".into(), ..body(None) }), "rfq_id must not be empty");
        assert_eq!(said(SettleFx { quote_id: " ".into(), ..body(None) }), "quote_id must not be empty");
        assert_eq!(
            said(SettleFx { reservation_id: " ".into(), ..body(None) }),
            "reservation_id must not be empty"
        );
        assert_eq!(said(body(Some(json!([])))), "policy_context must be a JSON object");
    }

    #[test]
    fn only_true_and_false_say_whether_to_release() {
        let allowed = |context, lenient| read(body(context), lenient).map(|wanted| wanted.release_allowed);
        for lenient in [false, true] {
            assert_eq!(allowed(None, lenient), Ok(true));
            assert_eq!(allowed(Some(Value::Null), lenient), Ok(true));
            assert_eq!(allowed(Some(json!({"release_allowed": false})), lenient), Ok(false));
        }
        let text = || Some(json!({"release_allowed": "false"}));
        assert_eq!(allowed(text(), true), Ok(true), "as specified");
        let refused = allowed(text(), false).expect_err("refused");
        assert_eq!(refused.message, "policy_context.release_allowed must be true or false");
    }
}
