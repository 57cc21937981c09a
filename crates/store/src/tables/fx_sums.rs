//! Decides how exchanges are counted: sums that change with what they count, so that nobody has to add up rows. A
//! median needs no list of settlements, only how many had which spread.

use oa_contract::refusal::{Fault, Stop};

use crate::{
    job::Key,
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static MAKER: Statement = sealed_statement!("fx/maker", "fx_makers");
static PUT_MAKER: Statement = sealed_statement!("fx/put_maker", "fx_makers");
static COUNTER: Statement = sealed_statement!("fx/counter", "fx_counters");
static COUNTERS: Statement = sealed_statement!("fx/counters", "fx_counters");
static PUT_COUNTER: Statement = sealed_statement!("fx/put_counter", "fx_counters");
static SPREAD: Statement = sealed_statement!("fx/spread", "fx_spreads");
static SPREADS: Statement = sealed_statement!("fx/spreads", "fx_spreads");
static PUT_SPREAD: Statement = sealed_statement!("fx/put_spread", "fx_spreads");

/// Rows of the counters.
const STRIPES: u32 = 16;

/// How a provider's settlements ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maker {
    pub released: u64,
    /// The quote's time was over.
    pub late: u64,
    /// The requester did not allow it, which says nothing of the provider.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rfqs: u64,
    pub quotes: u64,
    pub settlements: u64,
    pub withheld: u64,
    /// Providers of at least one settlement.
    pub providers: u64,
}

/// Everything that `hydra.observability` says of exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    pub counters: Counters,
    pub spread_bps_average: f64,
    pub spread_bps_median: f64,
}

impl FromRow for Maker {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Maker { released: row.uint(1)?, late: row.uint(2)?, refused: row.uint(3)? })
    }
}

impl FromRow for Counters {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Counters {
            rfqs: row.uint(1)?,
            quotes: row.uint(2)?,
            settlements: row.uint(3)?,
            withheld: row.uint(4)?,
            providers: row.uint(5)?,
        })
    }
}

impl Counters {
    pub fn plus(self, more: Counters) -> Counters {
        Counters {
            rfqs: self.rfqs + more.rfqs,
            quotes: self.quotes + more.quotes,
            settlements: self.settlements + more.settlements,
            withheld: self.withheld + more.withheld,
            providers: self.providers + more.providers,
        }
    }
}

/// The row in which what belongs to a request is counted.
fn stripe(rfq_id: &str) -> u32 {
    rfq_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
        % STRIPES
}

/// What a command must hold that counts something of a request.
pub fn counter_key(rfq_id: &str) -> Key {
    Key::text("fx_counter", stripe(rfq_id).to_string())
}

/// What a command must hold that counts a settlement.
pub fn settlement_keys(provider_id: &str, spread_bps: u32) -> [Key; 2] {
    [Key::text("fx_maker", provider_id), Key::text("fx_spread", spread_bps.to_string())]
}

pub async fn count(tx: &mut Tx, rfq_id: &str, more: Counters) -> Result<(), Stop> {
    let stripe = stripe(rfq_id);
    let known = tx.one::<Counters>(&COUNTER, params![stripe]).await?.unwrap_or_default().plus(more);
    let params = params![
        stripe,
        Value::unsigned(known.rfqs)?,
        Value::unsigned(known.quotes)?,
        Value::unsigned(known.settlements)?,
        Value::unsigned(known.withheld)?,
        Value::unsigned(known.providers)?
    ];
    tx.execute(&PUT_COUNTER, params).await?;
    Ok(())
}

pub async fn maker(tx: &mut Tx, provider_id: &str) -> Result<Option<Maker>, Stop> {
    tx.one(&MAKER, params![provider_id]).await
}

pub async fn put_maker(tx: &mut Tx, provider_id: &str, maker: &Maker) -> Result<(), Stop> {
    let params = params![
        provider_id,
        Value::unsigned(maker.released)?,
        Value::unsigned(maker.late)?,
        Value::unsigned(maker.refused)?
    ];
    tx.execute(&PUT_MAKER, params).await?;
    Ok(())
}

/// One more settlement at this spread.
pub async fn count_spread(tx: &mut Tx, spread_bps: u32) -> Result<(), Stop> {
    let known = tx.one::<Spread>(&SPREAD, params![spread_bps]).await?.map_or(0, |spread| spread.settlements);
    tx.execute(&PUT_SPREAD, params![spread_bps, Value::unsigned(known + 1)?]).await?;
    Ok(())
}

struct Spread {
    bps: u64,
    settlements: u64,
}

impl FromRow for Spread {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Spread { bps: row.uint(0)?, settlements: row.uint(1)? })
    }
}

/// Reads a bounded number of rows, however much was exchanged.
pub async fn observed(tx: &mut Tx) -> Result<Observed, Stop> {
    let all = tx.all::<Counters>(&COUNTERS, params![]).await?;
    let counters = all.into_iter().fold(Counters::default(), Counters::plus);
    let spreads = tx.all::<Spread>(&SPREADS, params![]).await?;
    let settlements: u64 = spreads.iter().map(|spread| spread.settlements).sum();
    if settlements == 0 {
        return Ok(Observed { counters, ..Observed::default() });
    }
    let total: u64 = spreads.iter().map(|spread| spread.bps * spread.settlements).sum();
    let mut before = (settlements - 1) / 2;
    let median = spreads.iter().find(|spread| match before.checked_sub(spread.settlements) {
        Some(rest) => {
            before = rest;
            false
        }
        None => true,
    });
    Ok(Observed {
        counters,
        spread_bps_average: total as f64 / settlements as f64,
        spread_bps_median: median.map_or(0.0, |spread| spread.bps as f64),
    })
}
