//! `POST` and `GET /admin/v1/fx/rates`: what sources say two assets are worth. Quotes are compared with it, and never
//! refused by it.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::{FxRateList as ListRates, FxRateTell},
    wire::fx::{FxMoney, FxRateList, FxRatesQuery, FxToldRate, FxToldRateReply, TellFxRate},
};
use oa_store::{
    Key, Tx,
    tables::fx::{self as table, RateRow},
};

use super::{MOST_UNITS, money, named, policy, rate::MOST_SOURCES, unix};
use crate::Runtime;

/// A rate from later than this is a clock that is wrong.
const AHEAD_SECONDS: u64 = 60;

impl Handle<FxRateTell> for Runtime {
    async fn handle(&self, ask: Ask<FxRateTell>) -> Result<Answer<FxToldRateReply>, Stop> {
        let told = read(ask.body, unix(self.now()))?;
        let key = Key::text("fx_rate", format!("{}/{}", told.sell_asset, told.buy_asset));
        let row = self.store.write("fx.rate_tell", key, told, tell).await?;
        Ok(FxToldRateReply { schema: "openagents.hydra.fx_rate.v1".into(), rate: shown(row) }.into())
    }
}

/// What is older than what is kept changes nothing.
async fn tell(tx: &mut Tx, told: &RateRow) -> Result<RateRow, Stop> {
    let known = table::rates(tx, &told.sell_asset, &told.buy_asset, MOST_SOURCES).await?;
    match known.iter().find(|rate| rate.source == told.source) {
        Some(newer) if newer.observed_at_unix > told.observed_at_unix => return Ok(newer.clone()),
        None if known.len() >= MOST_SOURCES as usize => {
            return Err(Refusal::conflict(format!("the pair has {MOST_SOURCES} sources already")).into());
        }
        _ => {}
    }
    table::put_rate(tx, told).await?;
    Ok(told.clone())
}

impl Handle<ListRates> for Runtime {
    async fn handle(&self, ask: Ask<ListRates>) -> Result<Answer<FxRateList>, Stop> {
        let FxRatesQuery { sell_asset, buy_asset } = ask.query;
        let sell = named("sell_asset", &sell_asset)?.to_uppercase();
        let buy = named("buy_asset", &buy_asset)?.to_uppercase();
        let rows = self.store.read("fx.rate_list", (sell, buy), look).await?;
        let rates = rows.into_iter().map(shown).collect();
        Ok(FxRateList { schema: "openagents.hydra.fx_rate_list.v1".into(), rates }.into())
    }
}

async fn look(tx: &mut Tx, (sell, buy): &(String, String)) -> Result<Vec<RateRow>, Stop> {
    table::rates(tx, sell, buy, MOST_SOURCES).await
}

fn shown(row: RateRow) -> FxToldRate {
    FxToldRate {
        source: row.source,
        sell: FxMoney { asset: row.sell_asset, amount: row.sell_units, unit: row.sell_unit },
        buy: FxMoney { asset: row.buy_asset, amount: row.buy_units, unit: row.buy_unit },
        observed_at_unix: row.observed_at_unix,
    }
}

fn read(body: TellFxRate, now_unix: u64) -> Result<RateRow, Refusal> {
    let source = named("source", &body.source)?;
    let (sell, buy) = (money(&body.sell), money(&body.buy));
    for (side, money) in [("sell", &sell), ("buy", &buy)] {
        named(&format!("{side}.asset"), &money.asset)?;
        named(&format!("{side}.unit"), &money.unit)?;
        policy::unit_fits(&format!("{side}.unit"), &money.asset, &money.unit, false)?;
        if money.amount == 0 || money.amount > MOST_UNITS {
            return Err(Refusal::invalid(format!("{side}.amount must be 1 to {MOST_UNITS}")));
        }
    }
    let observed_at_unix = body.observed_at_unix.unwrap_or(now_unix);
    if observed_at_unix > now_unix.saturating_add(AHEAD_SECONDS) {
        return Err(Refusal::invalid("observed_at_unix must not be in the future"));
    }
    Ok(RateRow {
        sell_asset: sell.asset,
        buy_asset: buy.asset,
        source,
        sell_unit: sell.unit,
        sell_units: sell.amount,
        buy_unit: buy.unit,
        buy_units: buy.amount,
        observed_at_unix,
    })
}
