//! What exchanges do to requests, quotes and money, on both engines: the acceptance list of credit-fx §11 and what
//! must not fail beyond it.

mod money;
mod order;
mod specified;

use oa_contract::{
    Nothing, Stop,
    matrix::{
        FxAccountGet, FxLimitSet, FxRateTell, HydraFxGet, HydraFxQuote, HydraFxRfq, HydraFxSelect,
        HydraFxSettle,
    },
    wire::{
        fx::{
            FxAccount, FxAccountQuery, FxMoney, FxQuote, FxQuoteReply, FxQuoteStatus, FxSelection,
            FxSettlement, OfferedFxQuote, OpenRfq, Rfq, RfqStatus, SelectFxQuote, SetFxLimit, SettleFx,
            TellFxRate, UpsertFxQuote,
        },
        paths::RfqPath,
    },
};
use oa_store::{
    EngineKind, Tx,
    tables::{fx_sums, ledger_audit},
};
use serde_json::{Value, json};

use super::score;
use crate::{
    Config, TrustMode,
    testing::{self, World, operator},
};

/// The second of the vectors.
pub const NOW: u64 = 1_772_366_400;

fn money(asset: &str, amount: u64, unit: &str) -> FxMoney {
    FxMoney { asset: asset.into(), amount, unit: unit.into() }
}

/// The request of §9.1, under a key.
pub fn opening(key: &str) -> OpenRfq {
    OpenRfq {
        schema: "openagents.hydra.fx_rfq_request.v1".into(),
        idempotency_key: key.into(),
        requester_id: "autopilot:user-1".into(),
        budget_scope_id: "budget:scope-1".into(),
        sell: money("usd", 100_000, "cents"),
        buy_asset: "btc_ln".into(),
        min_buy_amount: 2_000_000,
        max_spread_bps: 100,
        max_fee_bps: 60,
        max_latency_ms: 5_000,
        quote_ttl_seconds: 30,
        policy_context: Some(json!({"policy": "balanced_v1"})),
    }
}

/// The same as it is kept.
pub fn golden_rfq() -> Rfq {
    Rfq {
        rfq_id: "fxrfq_0195e0c0000070008000000000000001".into(),
        requester_id: "autopilot:user-1".into(),
        budget_scope_id: "budget:scope-1".into(),
        sell: money("USD", 100_000, "cents"),
        buy_asset: "BTC_LN".into(),
        min_buy_amount: 2_000_000,
        max_spread_bps: 100,
        max_fee_bps: 60,
        max_latency_ms: 5_000,
        quote_ttl_seconds: 30,
        status: RfqStatus::Open,
        created_at_unix: NOW,
        expires_at_unix: NOW + 30,
        policy_context: json!({"policy": "balanced_v1"}),
        quotes_total: 0,
        selected_quote_id: None,
        settlement_id: None,
    }
}

/// The quote of §9.3.
pub fn offered(quote_id: &str, provider_id: &str, rfq: &Rfq) -> OfferedFxQuote {
    OfferedFxQuote {
        quote_id: quote_id.into(),
        rfq_id: rfq.rfq_id.clone(),
        provider_id: provider_id.into(),
        sell: rfq.sell.clone(),
        buy: money("BTC_LN", 2_500_000, "msats"),
        spread_bps: 70,
        fee_bps: 20,
        latency_ms: 1_000,
        reliability_bps: 9_000,
        valid_until_unix: rfq.expires_at_unix,
        status: FxQuoteStatus::Active,
        constraints: Some(json!({})),
        quote_sha256: String::new(),
        provider_signature: None,
    }
}

/// The same as it is kept.
pub fn golden_quote() -> FxQuote {
    FxQuote {
        quote_id: "quote-a".into(),
        rfq_id: golden_rfq().rfq_id,
        provider_id: "provider-a".into(),
        sell: money("USD", 100_000, "cents"),
        buy: money("BTC_LN", 2_500_000, "msats"),
        spread_bps: 70,
        fee_bps: 20,
        latency_ms: 1_000,
        reliability_bps: 9_000,
        valid_until_unix: NOW + 30,
        status: FxQuoteStatus::Active,
        constraints: json!({}),
        quote_sha256: "b339564a0d224c6a0e00d7a3a5c9d869687ea41d418ea8b1c890603ad63cbb57".into(),
    }
}

fn strict() -> Config {
    testing::config()
}

fn lenient() -> Config {
    Config { trust_mode: TrustMode::Lenient, ..strict() }
}

async fn on_each(config: impl Fn() -> Config, story: impl AsyncFn(World)) {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        story(World::with(engine, config()).await).await;
    }
}

async fn open(world: &World, body: OpenRfq) -> Result<Rfq, Stop> {
    let asked = world.call::<HydraFxRfq>(&operator(), Nothing {}, Nothing {}, body).await;
    asked.map(|(status, reply)| {
        assert_eq!(status, 200);
        reply.rfq
    })
}

async fn get(world: &World, rfq_id: &str) -> Rfq {
    let path = RfqPath { rfq_id: rfq_id.into() };
    world.call::<HydraFxGet>(&operator(), path, Nothing {}, Nothing {}).await.expect("a request").1.rfq
}

async fn status(world: &World, rfq: &Rfq) -> RfqStatus {
    get(world, &rfq.rfq_id).await.status
}

async fn quote(world: &World, key: &str, quote: OfferedFxQuote) -> Result<FxQuoteReply, Stop> {
    let body = UpsertFxQuote {
        schema: "openagents.hydra.fx_quote_upsert_request.v1".into(),
        idempotency_key: key.into(),
        quote,
    };
    world.call::<HydraFxQuote>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

async fn select(world: &World, key: &str, rfq_id: &str, policy: &str) -> Result<FxSelection, Stop> {
    let body = SelectFxQuote {
        schema: "openagents.hydra.fx_select_request.v1".into(),
        idempotency_key: key.into(),
        rfq_id: rfq_id.into(),
        policy: policy.into(),
    };
    world.call::<HydraFxSelect>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

fn settlement(key: &str, rfq_id: &str, quote_id: &str, context: Value) -> SettleFx {
    SettleFx {
        schema: "openagents.hydra.fx_settle_request.v1".into(),
        idempotency_key: key.into(),
        rfq_id: rfq_id.into(),
        quote_id: quote_id.into(),
        reservation_id: score::reservation_id(&score::job_hash(rfq_id, quote_id)),
        policy_context: Some(context),
    }
}

async fn settle(world: &World, body: SettleFx) -> Result<FxSettlement, Stop> {
    world.call::<HydraFxSettle>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

/// A request with quotes of these providers, each at this price.
async fn quoted<const N: usize>(world: &World, name: &str, quotes: [(&str, u64); N]) -> Rfq {
    let rfq = open(world, opening(name)).await.expect("opened");
    for (provider, buy) in quotes {
        let id = format!("{name}-{provider}");
        let mut offer = offered(&id, provider, &rfq);
        offer.buy.amount = buy;
        quote(world, &id, offer).await.expect("quoted");
    }
    rfq
}

async fn limit(world: &World, holder: &str, asset: &str, unit: &str, limit_units: u64) -> FxAccount {
    let body = SetFxLimit { holder_id: holder.into(), asset: asset.into(), unit: unit.into(), limit_units };
    world.call::<FxLimitSet>(&operator(), Nothing {}, Nothing {}, body).await.expect("set").1
}

/// Both parties can pay for this many exchanges of the example.
async fn funded(world: &World, times: u64) {
    limit(world, "autopilot:user-1", "USD", "cents", 100_000 * times).await;
    for provider in ["provider-a", "provider-b"] {
        limit(world, provider, "BTC_LN", "msats", 2_500_000 * times).await;
    }
}

/// Paid, received, held, left.
async fn account(world: &World, holder: &str, asset: &str, unit: &str) -> (u64, u64, u64, u64) {
    let query = FxAccountQuery { holder_id: holder.into(), asset: asset.into(), unit: unit.into() };
    let asked = world.call::<FxAccountGet>(&operator(), Nothing {}, query, Nothing {}).await;
    let it = asked.expect("an account").1;
    (it.paid_units, it.received_units, it.held_units, it.remaining_units)
}

async fn told(world: &World, source: &str, msats: u64) {
    let body = TellFxRate {
        source: source.into(),
        sell: money("USD", 100, "cents"),
        buy: money("BTC_LN", msats, "msats"),
        observed_at_unix: None,
    };
    world.call::<FxRateTell>(&operator(), Nothing {}, Nothing {}, body).await.expect("told");
}

async fn observed(world: &World) -> fx_sums::Observed {
    let look = async |tx: &mut Tx, (): &()| fx_sums::observed(tx).await;
    world.runtime.store.read("test.observed", (), look).await.expect("read")
}

async fn adds_up(world: &World) {
    let look =
        async |tx: &mut Tx, (): &()| ledger_audit::look(tx, &ledger_audit::Cursor::default(), 100_000).await;
    let looked = world.runtime.store.read("test.audit", (), look).await.expect("looked");
    assert_eq!(looked.findings, []);
}
