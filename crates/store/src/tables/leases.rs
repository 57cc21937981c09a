//! Decides who does a job that one replica at a time should do: whoever took the lease, until its time is over or
//! somebody else has it. The token of a term is what fences: it is looked at again inside each transaction of
//! whoever leads, so that a replica that stood still and comes back changes nothing on the word of an old term.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    engine::EngineKind,
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static GET: Statement = sealed_statement!("leases/get", "leases");
static HOLD: Statement = sealed_statement!("leases/hold.postgres", "leases");
static PUT: Statement = sealed_statement!("leases/put", "leases");
static INSERT_TERM: Statement = sealed_statement!("leases/insert_term", "lease_terms");
static TERMS: Statement = sealed_statement!("leases/terms", "lease_terms");
static FORGET_TERMS: Statement = statement!("leases/forget_terms");

/// Terms that are kept of each lease, for whoever wants to see who led when.
const KEPT_TERMS: u64 = 1_000;

/// One stretch of time in which one replica does a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub name: String,
    pub holder: String,
    /// Grows by one with each term of the lease.
    pub token: u64,
    pub taken_at: Timestamp,
    /// How far it was prolonged. Over it, anybody may take the lease.
    pub until: Timestamp,
}

impl FromRow for Term {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Term {
            name: row.text(0)?.to_owned(),
            holder: row.text(1)?.to_owned(),
            token: row.uint(2)?,
            taken_at: row.timestamp(3)?,
            until: row.timestamp(4)?,
        })
    }
}

struct Past(Term);

impl FromRow for Past {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Past(Term {
            name: row.text(0)?.to_owned(),
            token: row.uint(1)?,
            holder: row.text(2)?.to_owned(),
            taken_at: row.timestamp(3)?,
            until: row.timestamp(4)?,
        }))
    }
}

/// The term that stands, over or not.
pub async fn standing(tx: &mut Tx, name: &str) -> Result<Option<Term>, Stop> {
    tx.one(&GET, params![name]).await
}

/// Terms that are over, the latest first.
pub async fn past(tx: &mut Tx, name: &str, limit: u32) -> Result<Vec<Term>, Stop> {
    Ok(tx.all::<Past>(&TERMS, params![name, limit]).await?.into_iter().map(|Past(term)| term).collect())
}

/// Prolongs the holder's own term, or begins one if nobody has the lease. None: somebody else has it. The caller
/// holds the lease's key.
pub async fn take(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Term>, Stop> {
    let before = standing(tx, name).await?;
    let term = match before {
        Some(term) if term.until > now && term.holder != holder => return Ok(None),
        Some(term) if term.until > now => Term { until: until.max(term.until), ..term },
        over => {
            let token = match &over {
                Some(term) => {
                    keep(tx, term).await?;
                    term.token + 1
                }
                None => 1,
            };
            Term { name: name.to_owned(), holder: holder.to_owned(), token, taken_at: now, until }
        }
    };
    put(tx, &term).await?;
    Ok(Some(term))
}

/// Ends the holder's term now, if it is still the holder's, so that nobody has to wait for it to run out.
pub async fn release(tx: &mut Tx, name: &str, holder: &str, now: Timestamp) -> Result<bool, Stop> {
    match standing(tx, name).await? {
        Some(term) if term.holder == holder && term.until > now => {
            put(tx, &Term { until: now, ..term }).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether this term is still the one that stands; nobody takes the lease before this transaction is over. That its
/// time has run out does not matter as long as nobody else has begun.
pub(crate) async fn hold(tx: &mut Tx, term: &Term) -> Result<(), Stop> {
    let statement = match tx.engine() {
        EngineKind::Sqlite => &GET,
        EngineKind::Postgres => &HOLD,
    };
    let standing = tx.one::<Term>(statement, params![&term.name]).await?;
    if standing.is_some_and(|standing| standing.token == term.token && standing.holder == term.holder) {
        return Ok(());
    }
    metrics::counter!("oa_lease_lost_total", "lease" => term.name.clone()).increment(1);
    let what = format!(
        "the lease `{}` is another's since term {}: nothing of `{}` is kept",
        term.name,
        term.token,
        tx.name()
    );
    Err(Fault::msg(what).into())
}

async fn put(tx: &mut Tx, term: &Term) -> Result<(), Stop> {
    let params = params![&term.name, &term.holder, Value::unsigned(term.token)?, term.taken_at, term.until];
    tx.execute(&PUT, params).await?;
    Ok(())
}

async fn keep(tx: &mut Tx, term: &Term) -> Result<(), Stop> {
    let token = Value::unsigned(term.token)?;
    tx.execute(&INSERT_TERM, params![&term.name, token, &term.holder, term.taken_at, term.until]).await?;
    if term.token > KEPT_TERMS {
        let last = Value::unsigned(term.token - KEPT_TERMS)?;
        tx.execute(&FORGET_TERMS, params![&term.name, last]).await?;
    }
    Ok(())
}
