//! Decides how exchanges are kept: what was asked and offered as documents that never change, beside them where
//! each stands; choices and settlements as they were answered.

use oa_contract::{
    Timestamp,
    refusal::{Fault, Stop},
    wire::fx::{FxQuote, FxQuoteStatus, Rfq, RfqStatus},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static RFQ: Statement = sealed_statement!("fx/rfq", "fx_rfqs");
static PUT_RFQ: Statement = sealed_statement!("fx/put_rfq", "fx_rfqs");
static DUE: Statement = statement!("fx/due_rfqs");
static QUOTE: Statement = sealed_statement!("fx/quote", "fx_quotes");
static QUOTES_OF: Statement = sealed_statement!("fx/quotes_of", "fx_quotes");
static PUT_QUOTE: Statement = sealed_statement!("fx/put_quote", "fx_quotes");
static SELECTION: Statement = sealed_statement!("fx/selection", "fx_selections");
static INSERT_SELECTION: Statement = sealed_statement!("fx/insert_selection", "fx_selections");
static SETTLEMENT: Statement = sealed_statement!("fx/settlement", "fx_settlements");
static INSERT_SETTLEMENT: Statement = sealed_statement!("fx/insert_settlement", "fx_settlements");
static KEY: Statement = sealed_statement!("fx/key", "fx_keys");
static INSERT_KEY: Statement = sealed_statement!("fx/insert_key", "fx_keys");
static RATES: Statement = sealed_statement!("fx/rates", "fx_rates");
static PUT_RATE: Statement = sealed_statement!("fx/put_rate", "fx_rates");

/// A request for quotes. `rfq` is what was asked; what it says of its own state is not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RfqRow {
    pub rfq: Rfq,
    pub status: RfqStatus,
    pub quotes: u64,
    pub selections: u64,
    pub selected_quote_id: Option<String>,
    /// The transfer that holds both sides of the chosen quote.
    pub hold_id: Option<String>,
    /// How many such transfers there were.
    pub holds: u64,
    pub settlement_id: Option<String>,
}

/// A quote; its status is the one that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct QuoteRow {
    pub quote: FxQuote,
}

/// A choice as it was answered.
#[derive(Clone, Debug)]
pub struct SelectionRow {
    pub rfq_id: String,
    pub number: u64,
    pub quote_id: String,
    pub policy: String,
    pub decision_sha256: String,
    pub reply: String,
    pub decided_at: Timestamp,
}

/// A settlement as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlementRow {
    pub quote_id: String,
    pub settlement_id: String,
    pub rfq_id: String,
    pub provider_id: String,
    pub status: String,
    /// Of the caller's context, which is part of what was asked.
    pub context_sha256: String,
    pub transfer_id: Option<String>,
    pub reply: String,
    pub settled_at: Timestamp,
}

/// What was asked under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub operation: String,
    pub principal: String,
    pub key: String,
    pub fingerprint: String,
    /// The id of what was made.
    pub subject: String,
    /// The answer, where it is given for ever; otherwise the subject is answered as it stands.
    pub reply: Option<String>,
    pub kept_at: Timestamp,
}

/// What a source said last of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateRow {
    pub sell_asset: String,
    pub buy_asset: String,
    pub source: String,
    pub sell_unit: String,
    pub sell_units: u64,
    pub buy_unit: String,
    pub buy_units: u64,
    pub observed_at_unix: u64,
}

fn unread(error: serde_json::Error) -> Fault {
    Fault::new("reading a kept exchange", error)
}

fn unwritten(error: serde_json::Error) -> Fault {
    Fault::new("writing an exchange", error)
}

fn optional(row: &Row<'_>, column: usize) -> Result<Option<String>, Fault> {
    Ok(row.opt_text(column)?.map(str::to_owned))
}

struct Answered(String);

impl FromRow for Answered {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Answered(row.text(5)?.to_owned()))
    }
}

impl FromRow for RfqRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let rfq: Rfq = serde_json::from_str(row.text(2)?).map_err(unread)?;
        let status = RfqStatus::parse(row.text(3)?);
        let unknown = || Fault::msg(format!("the request for quotes {} has an unknown status", rfq.rfq_id));
        Ok(RfqRow {
            status: status.ok_or_else(unknown)?,
            quotes: row.uint(5)?,
            selections: row.uint(6)?,
            selected_quote_id: optional(row, 7)?,
            hold_id: optional(row, 8)?,
            holds: row.uint(9)?,
            settlement_id: optional(row, 10)?,
            rfq,
        })
    }
}

impl FromRow for QuoteRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let quote: FxQuote = serde_json::from_str(row.text(3)?).map_err(unread)?;
        let status = FxQuoteStatus::parse(row.text(4)?);
        let status = status
            .ok_or_else(|| Fault::msg(format!("the quote {} has an unknown status", quote.quote_id)))?;
        Ok(QuoteRow { quote: FxQuote { status, ..quote } })
    }
}

impl FromRow for SettlementRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SettlementRow {
            quote_id: row.text(0)?.to_owned(),
            settlement_id: row.text(1)?.to_owned(),
            rfq_id: row.text(2)?.to_owned(),
            provider_id: row.text(3)?.to_owned(),
            status: row.text(4)?.to_owned(),
            context_sha256: row.text(5)?.to_owned(),
            transfer_id: optional(row, 6)?,
            reply: row.text(7)?.to_owned(),
            settled_at: row.timestamp(8)?,
        })
    }
}

impl FromRow for KeyRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(KeyRow {
            operation: row.text(0)?.to_owned(),
            principal: row.text(1)?.to_owned(),
            key: row.text(2)?.to_owned(),
            fingerprint: row.text(3)?.to_owned(),
            subject: row.text(4)?.to_owned(),
            reply: optional(row, 5)?,
            kept_at: row.timestamp(6)?,
        })
    }
}

impl FromRow for RateRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(RateRow {
            sell_asset: row.text(0)?.to_owned(),
            buy_asset: row.text(1)?.to_owned(),
            source: row.text(2)?.to_owned(),
            sell_unit: row.text(3)?.to_owned(),
            sell_units: row.uint(4)?,
            buy_unit: row.text(5)?.to_owned(),
            buy_units: row.uint(6)?,
            observed_at_unix: row.uint(7)?,
        })
    }
}

pub async fn rfq(tx: &mut Tx, rfq_id: &str) -> Result<Option<RfqRow>, Stop> {
    tx.one(&RFQ, params![rfq_id]).await
}

/// Writes where a request stands; what was asked is written once. The caller holds the request's key.
pub async fn put_rfq(tx: &mut Tx, row: &RfqRow) -> Result<(), Stop> {
    let rfq = serde_json::to_string(&row.rfq).map_err(unwritten)?;
    let params = params![
        &row.rfq.rfq_id,
        &row.rfq.requester_id,
        &rfq,
        row.status.name(),
        Value::unsigned(row.rfq.expires_at_unix)?,
        Value::unsigned(row.quotes)?,
        Value::unsigned(row.selections)?,
        &row.selected_quote_id,
        &row.hold_id,
        Value::unsigned(row.holds)?,
        &row.settlement_id
    ];
    tx.execute(&PUT_RFQ, params).await?;
    Ok(())
}

/// Requests whose time is over and of which nothing became, the longest over first.
pub async fn due(
    tx: &mut Tx,
    now_unix: u64,
    (expires_at_unix, rfq_id): &(u64, String),
    limit: u32,
) -> Result<Vec<(u64, String)>, Stop> {
    let (now, after) = (Value::unsigned(now_unix)?, Value::unsigned(*expires_at_unix)?);
    tx.all(&DUE, params![now, limit, after, rfq_id]).await
}

pub async fn quote(tx: &mut Tx, quote_id: &str) -> Result<Option<QuoteRow>, Stop> {
    tx.one(&QUOTE, params![quote_id]).await
}

/// The quotes of a request, by their ids.
pub async fn quotes_of(tx: &mut Tx, rfq_id: &str, limit: u32) -> Result<Vec<QuoteRow>, Stop> {
    tx.all(&QUOTES_OF, params![rfq_id, limit]).await
}

/// Writes a quote, or its other status. The caller holds the request's key, and the quote's where it is new.
pub async fn put_quote(tx: &mut Tx, row: &QuoteRow) -> Result<(), Stop> {
    let quote = &row.quote;
    // The document is the same whatever became of it.
    let document = FxQuote { status: FxQuoteStatus::Active, ..quote.clone() };
    let document = serde_json::to_string(&document).map_err(unwritten)?;
    let params = params![&quote.quote_id, &quote.rfq_id, &quote.provider_id, &document, quote.status.name()];
    tx.execute(&PUT_QUOTE, params).await?;
    Ok(())
}

pub async fn insert_selection(tx: &mut Tx, row: &SelectionRow) -> Result<(), Stop> {
    let params = params![
        &row.rfq_id,
        Value::unsigned(row.number)?,
        &row.quote_id,
        &row.policy,
        &row.decision_sha256,
        &row.reply,
        row.decided_at
    ];
    tx.execute(&INSERT_SELECTION, params).await?;
    Ok(())
}

/// A choice as it was answered.
pub async fn selection(tx: &mut Tx, rfq_id: &str, number: u64) -> Result<Option<String>, Stop> {
    let found = tx.one::<Answered>(&SELECTION, params![rfq_id, Value::unsigned(number)?]).await?;
    Ok(found.map(|Answered(reply)| reply))
}

/// The settlement of a quote.
pub async fn settlement(tx: &mut Tx, quote_id: &str) -> Result<Option<SettlementRow>, Stop> {
    tx.one(&SETTLEMENT, params![quote_id]).await
}

pub async fn insert_settlement(tx: &mut Tx, row: &SettlementRow) -> Result<(), Stop> {
    let params = params![
        &row.quote_id,
        &row.settlement_id,
        &row.rfq_id,
        &row.provider_id,
        &row.status,
        &row.context_sha256,
        &row.transfer_id,
        &row.reply,
        row.settled_at
    ];
    tx.execute(&INSERT_SETTLEMENT, params).await?;
    Ok(())
}

pub async fn key(tx: &mut Tx, operation: &str, principal: &str, key: &str) -> Result<Option<KeyRow>, Stop> {
    tx.one(&KEY, params![operation, principal, key]).await
}

pub async fn insert_key(tx: &mut Tx, row: &KeyRow) -> Result<(), Stop> {
    let params = params![
        &row.operation,
        &row.principal,
        &row.key,
        &row.fingerprint,
        &row.subject,
        &row.reply,
        row.kept_at
    ];
    tx.execute(&INSERT_KEY, params).await?;
    Ok(())
}

/// What the sources of a pair said last, by their names.
pub async fn rates(tx: &mut Tx, sell_asset: &str, buy_asset: &str, limit: u32) -> Result<Vec<RateRow>, Stop> {
    tx.all(&RATES, params![sell_asset, buy_asset, limit]).await
}

/// The caller holds the pair's key.
pub async fn put_rate(tx: &mut Tx, row: &RateRow) -> Result<(), Stop> {
    let params = params![
        &row.sell_asset,
        &row.buy_asset,
        &row.source,
        &row.sell_unit,
        Value::unsigned(row.sell_units)?,
        &row.buy_unit,
        Value::unsigned(row.buy_units)?,
        Value::unsigned(row.observed_at_unix)?
    ];
    tx.execute(&PUT_RATE, params).await?;
    Ok(())
}
