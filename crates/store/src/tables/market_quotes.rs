//! Decides how promised prices are kept: as they were answered, under the owner they were promised to, and with
//! the one dispatch that each may bind.

use oa_contract::{
    Msats, Owner, Timestamp,
    refusal::{Fault, Refusal, Stop},
};
use serde_json::value::RawValue;

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    tables::runs::json,
    transaction::Tx,
};

static QUOTE: Statement = sealed_statement!("market/quote", "market_quotes");
static PUT: Statement = sealed_statement!("market/put_quote", "market_quotes");
static UNUSED: Statement = statement!("market/unused_quotes");
static REMOVE: Statement = statement!("market/remove_quote");

/// A promised price. What is paid is these three parts, whatever anybody says later.
#[derive(Clone, Debug)]
pub struct QuoteRow {
    pub owner: Owner,
    pub quote_id: String,
    pub quote_sha256: String,
    pub job_hash: String,
    pub capability: String,
    pub worker_id: String,
    pub provider_id: String,
    pub provider_price: Msats,
    pub operator_fee: Msats,
    pub policy_adder: Msats,
    pub issued_at_unix: i64,
    pub valid_until_unix: i64,
    /// The quote as it was answered.
    pub quote: Box<RawValue>,
    /// The dispatch that took it.
    pub dispatch_id: Option<String>,
    pub created_at: Timestamp,
}

pub(super) fn owner(key: &str) -> Result<Owner, Fault> {
    Owner::parse(key).ok_or_else(|| Fault::msg(format!("a stored row has the unreadable owner {key:?}")))
}

fn msats(row: &Row<'_>, column: usize) -> Result<Msats, Fault> {
    Msats::new(row.uint(column)?).ok_or_else(|| Fault::msg("a stored price is more than there will ever be"))
}

fn column(amount: Msats) -> i64 {
    oa_contract::Amount::from(amount).signed()
}

impl FromRow for QuoteRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(QuoteRow {
            owner: owner(row.text(0)?)?,
            quote_id: row.text(1)?.to_owned(),
            quote_sha256: row.text(2)?.to_owned(),
            job_hash: row.text(3)?.to_owned(),
            capability: row.text(4)?.to_owned(),
            worker_id: row.text(5)?.to_owned(),
            provider_id: row.text(6)?.to_owned(),
            provider_price: msats(row, 7)?,
            operator_fee: msats(row, 8)?,
            policy_adder: msats(row, 9)?,
            issued_at_unix: row.int(10)?,
            valid_until_unix: row.int(11)?,
            quote: json(row.text(12)?)?,
            dispatch_id: row.opt_text(13)?.map(str::to_owned),
            created_at: row.timestamp(14)?,
        })
    }
}

/// A quote of this owner. Another owner's is not found.
pub async fn get(tx: &mut Tx, owner: &Owner, quote_id: &str) -> Result<Option<QuoteRow>, Stop> {
    tx.one(&QUOTE, params![&owner.to_string(), quote_id]).await
}

/// Keeps a new quote, or finds that the same one was promised already: a price is a function of what it is for,
/// of whom, and of the second.
pub async fn keep(tx: &mut Tx, quote: &QuoteRow) -> Result<QuoteRow, Stop> {
    match get(tx, &quote.owner, &quote.quote_id).await? {
        Some(known) if known.quote_sha256 == quote.quote_sha256 => Ok(known),
        Some(_) => Err(Fault::msg(format!("two quotes share the id {}", quote.quote_id)).into()),
        None => {
            put(tx, quote).await?;
            Ok(quote.clone())
        }
    }
}

/// Binds a quote to the dispatch that takes it. The same dispatch may take it again; another one may not.
pub async fn bind(tx: &mut Tx, quote: QuoteRow, dispatch_id: &str) -> Result<QuoteRow, Stop> {
    match &quote.dispatch_id {
        Some(bound) if bound == dispatch_id => Ok(quote),
        Some(_) => {
            Err(Refusal::conflict(format!("quote {} was taken by another dispatch", quote.quote_id)).into())
        }
        None => {
            let bound = QuoteRow { dispatch_id: Some(dispatch_id.to_owned()), ..quote };
            put(tx, &bound).await?;
            Ok(bound)
        }
    }
}

/// Whether there are quotes older than `before` that nobody took.
pub async fn any_unused(tx: &mut Tx, before: Timestamp) -> Result<bool, Stop> {
    Ok(tx.one::<(String, String)>(&UNUSED, params![before, 1_u32]).await?.is_some())
}

/// Forgets up to `limit` quotes older than `before` that nobody took; says how many.
pub async fn prune(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, Stop> {
    let mut removed = 0;
    for (owner_key, quote_id) in tx.all::<(String, String)>(&UNUSED, params![before, limit]).await? {
        removed += tx.execute(&REMOVE, params![&owner_key, &quote_id]).await?;
    }
    Ok(removed)
}

async fn put(tx: &mut Tx, quote: &QuoteRow) -> Result<(), Stop> {
    let owner_key = quote.owner.to_string();
    let params = params![
        &owner_key,
        &quote.quote_id,
        &quote.quote_sha256,
        &quote.job_hash,
        &quote.capability,
        &quote.worker_id,
        &quote.provider_id,
        column(quote.provider_price),
        column(quote.operator_fee),
        column(quote.policy_adder),
        quote.issued_at_unix,
        quote.valid_until_unix,
        quote.quote.get(),
        &quote.dispatch_id,
        quote.created_at
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}
