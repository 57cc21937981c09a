//! `POST /internal/v1/hydra/fx/select`: chooses one quote by policy and holds both sides of it (credit-fx §9.4).
//! The choice stands until another one is made; only the quote that is chosen can be settled.

use std::collections::BTreeMap;

use oa_contract::{
    Answer, Ask, Caller, Code, Fault, Handle, Refusal, Stop, Timestamp, canonical,
    matrix::HydraFxSelect,
    wire::fx::{
        FxQuote, FxQuoteStatus, FxReservation, FxReservationStatus, FxSelection, RfqStatus, SelectFxQuote,
    },
};
use oa_store::{
    Tx,
    tables::{
        fx::{self as table, KeyRow, QuoteRow, RfqRow, SelectionRow},
        fx_sums,
    },
};
use serde_json::json;

use super::{
    Asked, FxPolicy, key, legs, named, own, principal,
    quote::MOST_QUOTES,
    rate, read_back, schema, score,
    score::{Ranking, Scales},
    standing, unix, written,
};
use crate::{Runtime, TrustMode};

const SCHEMA: &str = "openagents.hydra.fx_select_request.v1";

/// Each is kept with all that it was chosen from.
const MOST_SELECTIONS: u64 = 64;

struct Choosing {
    asked: Asked,
    caller: Caller,
    rfq_id: String,
    ranking: Ranking,
    policy: FxPolicy,
    lenient: bool,
    now: Timestamp,
}

impl Handle<HydraFxSelect> for Runtime {
    async fn handle(&self, ask: Ask<HydraFxSelect>) -> Result<Answer<FxSelection>, Stop> {
        let (idempotency_key, rfq_id, ranking) = read(&ask.body)?;
        let content = json!({"rfq_id": rfq_id, "policy": ranking.name()});
        let asked = Asked {
            operation: "select",
            principal: principal(&ask.caller),
            key: idempotency_key,
            fingerprint: canonical::canonical_hash(&content),
            conflict: "idempotency key replay with different select payload",
        };
        let keys = vec![asked.lock(), key(&rfq_id)];
        let choosing = Choosing {
            asked,
            caller: ask.caller,
            rfq_id,
            ranking,
            policy: self.config.fx.clone(),
            lenient: self.config.trust_mode == TrustMode::Lenient,
            now: self.now(),
        };
        Ok(self.store.write("fx.select", keys, choosing, choose).await?.into())
    }
}

fn read(body: &SelectFxQuote) -> Result<(String, String, Ranking), Refusal> {
    schema(&body.schema, SCHEMA)?;
    let unsupported = || Refusal::invalid(format!("unsupported FX select policy: {}", body.policy.trim()));
    let ranking = Ranking::parse(&body.policy).ok_or_else(unsupported)?;
    let idempotency_key = named("idempotency_key", &body.idempotency_key)?;
    Ok((idempotency_key, named("rfq_id", &body.rfq_id)?, ranking))
}

async fn choose(tx: &mut Tx, choosing: &Choosing) -> Result<FxSelection, Stop> {
    if let Some(known) = choosing.asked.known(tx).await? {
        return answered(tx, choosing, known).await;
    }
    let now_unix = unix(choosing.now);
    let row = own(tx, &choosing.rfq_id, &choosing.caller).await?;
    match standing(&row, now_unix) {
        RfqStatus::Settled => return Err(Refusal::conflict("rfq is settled already").into()),
        RfqStatus::Expired => return Err(Refusal::conflict("rfq expired").into()),
        RfqStatus::Withheld if row.rfq.expires_at_unix <= now_unix => {
            return Err(Refusal::conflict("rfq expired").into());
        }
        RfqStatus::Open | RfqStatus::Quoted | RfqStatus::Selected | RfqStatus::Withheld => {}
    }
    if row.selections >= MOST_SELECTIONS {
        let message = format!(
            "an rfq is chosen from at most {MOST_SELECTIONS} times; settle what is chosen, or ask anew"
        );
        return Err(Refusal::conflict(message).into());
    }
    let quotes = candidates(tx, choosing, &row, now_unix).await?;
    let nobody = || Refusal::conflict("no eligible FX quotes available for selection");
    let buy_unit = quotes.first().ok_or_else(nobody)?.buy.unit.clone();
    let told = table::rates(tx, &row.rfq.sell.asset, &row.rfq.buy_asset, rate::MOST_SOURCES).await?;
    let reference = rate::reference(&choosing.policy, &told, &row.rfq.sell, &buy_unit, now_unix);
    let makers = makers(tx, choosing.ranking, &quotes).await?;
    let scales = Scales {
        ranking: choosing.ranking,
        policy: &choosing.policy,
        rfq: &row.rfq,
        now_unix,
        makers: &makers,
        reference: reference.as_ref(),
    };
    let ranked = score::rank(&scales, quotes);
    let decided = score::decide(&scales, &ranked)?.ok_or_else(nobody)?;
    let chosen = ranked.first().map(|winner| winner.quote.clone()).ok_or_else(nobody)?;
    let (row, reservation) = bind(tx, choosing, row, chosen).await?;
    let selection = FxSelection {
        schema: "openagents.hydra.fx_select_response.v1".into(),
        rfq_id: choosing.rfq_id.clone(),
        policy: choosing.ranking.name().into(),
        decision_sha256: decided.decision_sha256,
        selected: decided.selected,
        candidates: decided.candidates,
        factors: decided.factors,
        receipt: decided.receipt,
        decided_at_unix: now_unix,
        execution: score::execution(&ranked, reference),
        reservation: Some(reservation),
    };
    keep(tx, choosing, &row, &selection).await?;
    Ok(selection)
}

/// The answer lies with the choice, whose number is kept; in older stores it lies beside the key.
async fn answered(tx: &mut Tx, choosing: &Choosing, known: KeyRow) -> Result<FxSelection, Stop> {
    if let Some(reply) = known.reply {
        return Ok(read_back(&reply)?);
    }
    let gone = || Fault::msg(format!("the choice {} of {} is gone", known.subject, choosing.rfq_id));
    let number = known.subject.parse().map_err(|_| gone())?;
    let reply = table::selection(tx, &choosing.rfq_id, number).await?.ok_or_else(gone)?;
    Ok(read_back(&reply)?)
}

/// What may be chosen. Prices in two units cannot be compared.
async fn candidates(
    tx: &mut Tx,
    choosing: &Choosing,
    row: &RfqRow,
    now_unix: u64,
) -> Result<Vec<FxQuote>, Stop> {
    let all = table::quotes_of(tx, &choosing.rfq_id, MOST_QUOTES).await?;
    let quotes: Vec<_> = all
        .into_iter()
        .map(|row| row.quote)
        .filter(|quote| score::eligible(quote, &row.rfq, &choosing.policy, now_unix))
        .collect();
    let alike = quotes.windows(2).all(|pair| pair[0].buy.unit == pair[1].buy.unit);
    match choosing.ranking == Ranking::BestPriceV1 && !alike {
        true => {
            Err(Refusal::conflict("the quotes are in several units, and prices cannot be compared").into())
        }
        false => Ok(quotes),
    }
}

async fn makers(
    tx: &mut Tx,
    ranking: Ranking,
    quotes: &[FxQuote],
) -> Result<BTreeMap<String, fx_sums::Maker>, Stop> {
    let mut makers = BTreeMap::new();
    for quote in quotes.iter().filter(|_| ranking == Ranking::BestPriceV1) {
        if !makers.contains_key(&quote.provider_id)
            && let Some(maker) = fx_sums::maker(tx, &quote.provider_id).await?
        {
            makers.insert(quote.provider_id.clone(), maker);
        }
    }
    Ok(makers)
}

/// The quote that was chosen before gives way, and what was held for it is free. A side that cannot pay at the moment
/// is told, and asked again by the settlement.
async fn bind(
    tx: &mut Tx,
    choosing: &Choosing,
    mut row: RfqRow,
    chosen: FxQuote,
) -> Result<(RfqRow, FxReservation), Stop> {
    release(tx, &mut row, Some(&chosen.quote_id), choosing.now).await?;
    row.holds += 1;
    let exchange = legs::of(tx, &row.rfq, &chosen, row.holds).await?;
    let held = match exchange.hold(tx, choosing.lenient, choosing.now).await {
        Ok(()) => true,
        Err(Stop::Refusal(refusal)) if refusal.code == Code::Forbidden => false,
        Err(stop) => return Err(stop),
    };
    row.hold_id = held.then(|| exchange.id.to_string());
    row.status = RfqStatus::Selected;
    row.selected_quote_id = Some(chosen.quote_id.clone());
    row.settlement_id = None;
    row.selections += 1;
    table::put_rfq(tx, &row).await?;
    let job_hash = score::job_hash(&row.rfq.rfq_id, &chosen.quote_id);
    table::put_quote(tx, &QuoteRow { quote: FxQuote { status: FxQuoteStatus::Selected, ..chosen } }).await?;
    let reservation = FxReservation {
        reservation_id: score::reservation_id(&job_hash),
        status: if held { FxReservationStatus::Held } else { FxReservationStatus::Uncovered },
        transfer_id: row.hold_id.clone(),
    };
    Ok((row, reservation))
}

/// Gives back what is held, and makes the chosen quote one among others again, unless it is this one.
pub(super) async fn release(
    tx: &mut Tx,
    row: &mut RfqRow,
    but: Option<&str>,
    now: Timestamp,
) -> Result<(), Stop> {
    if let Some(hold_id) = row.hold_id.take() {
        legs::void(tx, &hold_id, now).await?;
    }
    let before = row.selected_quote_id.take().filter(|id| Some(id.as_str()) != but);
    let Some(before) = before else { return Ok(()) };
    if let Some(known) =
        table::quote(tx, &before).await?.filter(|it| it.quote.status == FxQuoteStatus::Selected)
    {
        table::put_quote(tx, &QuoteRow { quote: FxQuote { status: FxQuoteStatus::Active, ..known.quote } })
            .await?;
    }
    Ok(())
}

async fn keep(tx: &mut Tx, choosing: &Choosing, row: &RfqRow, selection: &FxSelection) -> Result<(), Stop> {
    let kept = SelectionRow {
        rfq_id: choosing.rfq_id.clone(),
        number: row.selections,
        quote_id: selection.selected.quote_id.clone(),
        policy: selection.policy.clone(),
        decision_sha256: selection.decision_sha256.clone(),
        reply: written(selection)?,
        decided_at: choosing.now,
    };
    table::insert_selection(tx, &kept).await?;
    choosing.asked.keep(tx, &row.selections.to_string(), None, choosing.now).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_specification() {
        let body = |policy: &str, key: &str, rfq: &str| SelectFxQuote {
            schema: SCHEMA.into(),
            idempotency_key: key.into(),
            rfq_id: rfq.into(),
            policy: policy.into(),
        };
        let said = |body: SelectFxQuote| read(&body).expect_err("refused").message;
        let other = SelectFxQuote { schema: "x".into(), ..body("", "k", "r") };
        assert_eq!(said(other), "schema must be openagents.hydra.fx_select_request.v1");
        assert_eq!(said(body(" cheapest ", "k", "r")), "unsupported FX select policy: cheapest");
        assert_eq!(said(body("", " ", "r")), "idempotency_key must not be empty");
        assert_eq!(said(body("", "k", " ")), "rfq_id must not be empty");
        assert_eq!(read(&body(" ", " k ", " r ")), Ok(("k".into(), "r".into(), Ranking::ReputationFirstV0)));
    }
}
