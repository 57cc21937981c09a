//! `POST /internal/v1/hydra/fx/rfq`: opens a request for quotes (credit-fx §9.1).

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop, Timestamp, canonical,
    matrix::HydraFxRfq,
    wire::fx::{OpenRfq, Rfq, RfqReply, RfqStatus},
};
use oa_store::{
    Tx,
    tables::{
        fx::{self as table, RfqRow},
        fx_sums::{self, Counters},
    },
};
use serde_json::json;

use super::{
    Asked, FxPolicy, MOST_UNITS, bounded, key, money, named, policy, principal, read_back, schema, shown,
    spelt_as_owner, unix, written,
};
use crate::{Runtime, TrustMode};

const SCHEMA: &str = "openagents.hydra.fx_rfq_request.v1";

struct Opening {
    asked: Asked,
    rfq: Rfq,
    policy: FxPolicy,
    lenient: bool,
    now: Timestamp,
}

impl Handle<HydraFxRfq> for Runtime {
    async fn handle(&self, ask: Ask<HydraFxRfq>) -> Result<Answer<RfqReply>, Stop> {
        let now = self.now();
        let lenient = self.config.trust_mode == TrustMode::Lenient;
        let (idempotency_key, mut rfq) = read(ask.body)?;
        if let Some(bound) = ask.caller.owner().filter(|bound| bound.to_string() != rfq.requester_id) {
            let message = format!("this credential speaks for {bound}, not for {}", rfq.requester_id);
            return Err(Refusal::forbidden(message).into());
        }
        rfq.rfq_id = format!("fxrfq_{}", self.ids.uuid_v7(now).simple());
        rfq.created_at_unix = unix(now);
        rfq.expires_at_unix = rfq.created_at_unix.saturating_add(u64::from(rfq.quote_ttl_seconds));
        let asked = Asked {
            operation: "rfq",
            principal: principal(&ask.caller),
            key: idempotency_key,
            fingerprint: fingerprint(&rfq),
            conflict: "idempotency key replay with different request payload",
        };
        let keys = vec![asked.lock(), key(&rfq.rfq_id), fx_sums::counter_key(&rfq.rfq_id)];
        let opening = Opening { asked, rfq, policy: self.config.fx.clone(), lenient, now };
        Ok(self.store.write("fx.rfq", keys, opening, open).await?.into())
    }
}

async fn open(tx: &mut Tx, opening: &Opening) -> Result<RfqReply, Stop> {
    if let Some(known) = opening.asked.known(tx).await? {
        // What was answered stays answered, whatever has become of the policy and of the request.
        return match (known.reply, table::rfq(tx, &known.subject).await?) {
            (Some(reply), _) => Ok(read_back(&reply)?),
            (None, Some(row)) => Ok(shown(&row, unix(opening.now))),
            (None, None) => Err(Fault::msg(format!("the request {} is gone", known.subject)).into()),
        };
    }
    allowed(&opening.rfq, &opening.policy, opening.lenient)?;
    let row = RfqRow {
        rfq: opening.rfq.clone(),
        status: RfqStatus::Open,
        quotes: 0,
        selections: 0,
        selected_quote_id: None,
        hold_id: None,
        holds: 0,
        settlement_id: None,
    };
    table::put_rfq(tx, &row).await?;
    let reply = shown(&row, unix(opening.now));
    opening.asked.keep(tx, &row.rfq.rfq_id, Some(written(&reply)?), opening.now).await?;
    fx_sums::count(tx, &row.rfq.rfq_id, Counters { rfqs: 1, ..Counters::default() }).await?;
    Ok(reply)
}

/// Of the normalised values, without what the service adds.
fn fingerprint(rfq: &Rfq) -> String {
    canonical::canonical_hash(&json!({
        "requester_id": rfq.requester_id,
        "budget_scope_id": rfq.budget_scope_id,
        "sell_asset": rfq.sell.asset,
        "sell_amount": rfq.sell.amount,
        "sell_unit": rfq.sell.unit,
        "buy_asset": rfq.buy_asset,
        "min_buy_amount": rfq.min_buy_amount,
        "max_spread_bps": rfq.max_spread_bps,
        "max_fee_bps": rfq.max_fee_bps,
        "max_latency_ms": rfq.max_latency_ms,
        "quote_ttl_seconds": rfq.quote_ttl_seconds,
        "policy_context": rfq.policy_context,
    }))
}

/// What the policy of the moment says to it, in the order of §9.1 behind [`read`].
fn allowed(rfq: &Rfq, policy: &FxPolicy, lenient: bool) -> Result<(), Refusal> {
    let Rfq { sell, buy_asset, .. } = rfq;
    if !policy.allows(&sell.asset, buy_asset) {
        return Err(Refusal::forbidden(format!("asset pair not allowed: {}->{buy_asset}", sell.asset)));
    }
    policy::unit_fits("sell.unit", &sell.asset, &sell.unit, lenient)?;
    if rfq.max_spread_bps > policy.max_spread_bps {
        let message = format!("max_spread_bps exceeds policy max {}", policy.max_spread_bps);
        return Err(Refusal::forbidden(message));
    }
    if rfq.max_fee_bps > policy.max_fee_bps {
        return Err(Refusal::forbidden(format!("max_fee_bps exceeds policy max {}", policy.max_fee_bps)));
    }
    let (least, most) = (policy.min_quote_ttl_seconds, policy.max_quote_ttl_seconds);
    match (least..=most).contains(&rfq.quote_ttl_seconds) {
        true => Ok(()),
        false => Err(Refusal::invalid(format!("quote_ttl_seconds must be within [{least}..={most}]"))),
    }
}

/// In the order of §9.1, up to where it becomes a matter of policy.
fn read(body: OpenRfq) -> Result<(String, Rfq), Refusal> {
    schema(&body.schema, SCHEMA)?;
    let idempotency_key = named("idempotency_key", &body.idempotency_key)?;
    let requester_id = named("requester_id", &body.requester_id)?;
    spelt_as_owner("requester_id", &requester_id)?;
    let budget_scope_id = named("budget_scope_id", &body.budget_scope_id)?;
    let (sell, buy_asset) = (money(&body.sell), body.buy_asset.trim().to_uppercase());
    let invalid = |message: &str| Err(Refusal::invalid(message));
    if sell.asset.is_empty() || buy_asset.is_empty() {
        return invalid("sell.asset and buy_asset must not be empty");
    }
    if sell.amount == 0 || body.min_buy_amount == 0 {
        return invalid("sell.amount and min_buy_amount must be greater than zero");
    }
    if sell.amount > MOST_UNITS || body.min_buy_amount > MOST_UNITS {
        return Err(Refusal::invalid(format!("sell.amount and min_buy_amount must be at most {MOST_UNITS}")));
    }
    if sell.unit.is_empty() {
        return invalid("sell.unit must not be empty");
    }
    let context = body.policy_context.filter(serde_json::Value::is_object);
    let policy_context = context.ok_or_else(|| Refusal::invalid("policy_context must be a JSON object"))?;
    bounded("policy_context", &policy_context)?;
    let rfq = Rfq {
        rfq_id: String::new(),
        requester_id,
        budget_scope_id,
        sell,
        buy_asset,
        min_buy_amount: body.min_buy_amount,
        max_spread_bps: body.max_spread_bps,
        max_fee_bps: body.max_fee_bps,
        max_latency_ms: body.max_latency_ms,
        quote_ttl_seconds: body.quote_ttl_seconds,
        status: RfqStatus::Open,
        created_at_unix: 0,
        expires_at_unix: 0,
        policy_context,
        quotes_total: 0,
        selected_quote_id: None,
        settlement_id: None,
    };
    Ok((idempotency_key, rfq))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::hydra::fx::tests::opening;

    fn said(change: impl FnOnce(&mut OpenRfq)) -> (u16, String) {
        let mut body = opening("k");
        change(&mut body);
        let judged = read(body).and_then(|(_, rfq)| allowed(&rfq, &FxPolicy::default(), false));
        let refusal = judged.expect_err("refused");
        (refusal.status(oa_contract::Service::Runtime), refusal.message)
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_specification() {
        let wrong = |status, message: &str| (status, message.to_owned());
        assert_eq!(
            said(|body| body.schema = "x".into()),
            wrong(400, "schema must be openagents.hydra.fx_rfq_request.v1")
        );
        assert_eq!(
            said(|body| body.idempotency_key = " ".into()),
            wrong(400, "idempotency_key must not be empty")
        );
        assert_eq!(said(|body| body.requester_id = " ".into()), wrong(400, "requester_id must not be empty"));
        assert_eq!(
            said(|body| body.budget_scope_id = String::new()),
            wrong(400, "budget_scope_id must not be empty")
        );
        let assets = wrong(400, "sell.asset and buy_asset must not be empty");
        assert_eq!(said(|body| body.sell.asset = " ".into()), assets);
        assert_eq!(said(|body| body.buy_asset = " ".into()), assets);
        let amounts = wrong(400, "sell.amount and min_buy_amount must be greater than zero");
        assert_eq!(said(|body| body.sell.amount = 0), amounts);
        assert_eq!(said(|body| body.min_buy_amount = 0), amounts);
        assert_eq!(said(|body| body.sell.unit = " ".into()), wrong(400, "sell.unit must not be empty"));
        let context = wrong(400, "policy_context must be a JSON object");
        assert_eq!(said(|body| body.policy_context = None), context);
        assert_eq!(said(|body| body.policy_context = Some(Value::Null)), context);
        assert_eq!(said(|body| body.policy_context = Some(json!([]))), context);
        assert_eq!(
            said(|body| body.buy_asset = "eur".into()),
            wrong(403, "asset pair not allowed: USD->EUR")
        );
        assert_eq!(
            said(|body| body.max_spread_bps = 301),
            wrong(403, "max_spread_bps exceeds policy max 300")
        );
        assert_eq!(said(|body| body.max_fee_bps = 151), wrong(403, "max_fee_bps exceeds policy max 150"));
        let ttl = wrong(400, "quote_ttl_seconds must be within [5..=300]");
        assert_eq!(said(|body| body.quote_ttl_seconds = 4), ttl);
        assert_eq!(said(|body| body.quote_ttl_seconds = 301), ttl);
        assert_eq!(
            said(|body| body.sell.unit = "dollars".into()),
            wrong(400, "sell.unit must be cents for USD")
        );
        assert!(
            said(|body| body.sell.amount = u64::MAX).1.starts_with("sell.amount and min_buy_amount must")
        );
        assert!(
            said(|body| body.requester_id = "x".repeat(256)).1.starts_with("requester_id must be at most")
        );
    }

    #[test]
    fn values_are_normalised_before_they_are_compared() {
        let fingerprint_of = |body| {
            let (_, rfq) = read(body).expect("read");
            fingerprint(&rfq)
        };
        let mut spelt = opening("k");
        spelt.sell.asset = " UsD ".into();
        spelt.requester_id = format!(" {} ", spelt.requester_id);
        assert_eq!(fingerprint_of(spelt), fingerprint_of(opening("k")));
        let mut other = opening("k");
        other.max_fee_bps = 59;
        assert_ne!(fingerprint_of(other), fingerprint_of(opening("k")));
    }
}
