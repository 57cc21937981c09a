//! Decides what a repeated request gets: the first answer again, or a refusal when it asks for something
//! else under the same key. Kept in the transaction of the effect itself.

use oa_contract::instant::Timestamp;
use oa_contract::refusal::{Fault, Stop};

use crate::row::{FromRow, Row};
use crate::statement::Statement;
use crate::transaction::Tx;
use crate::{params, sealed_statement};

static FIND: Statement = sealed_statement!("idempotency/find", "idempotency_records");
static KEEP: Statement = sealed_statement!("idempotency/keep", "idempotency_records");

/// What is known about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Never used: do the work, then `keep` its answer.
    Fresh,
    /// The same request was answered before, with this.
    Replay { status: u16, reply: String },
    /// The key was used for another request.
    Mismatch,
}

struct Record {
    fingerprint: Vec<u8>,
    status: i64,
    reply: String,
}

impl FromRow for Record {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Record { fingerprint: row.bytes(2)?.into(), status: row.int(3)?, reply: row.text(4)?.into() })
    }
}

/// Looks a key up. `scope` says whose keys these are and what they are for.
pub async fn find(tx: &mut Tx, scope: &str, key: &str, fingerprint: &[u8]) -> Result<Known, Stop> {
    let Some(record) = tx.one::<Record>(&FIND, params![scope, key]).await? else { return Ok(Known::Fresh) };
    if record.fingerprint != fingerprint {
        return Ok(Known::Mismatch);
    }
    let status = u16::try_from(record.status).map_err(|error| Fault::new("reading a kept status", error))?;
    Ok(Known::Replay { status, reply: record.reply })
}

/// Keeps the answer to a fresh key. Two commands that keep the same key at once on PostgreSQL collide; the
/// second runs again and finds the first's answer.
pub async fn keep(
    tx: &mut Tx,
    scope: &str,
    key: &str,
    fingerprint: &[u8],
    status: u16,
    reply: &str,
    now: Timestamp,
) -> Result<(), Stop> {
    tx.execute(&KEEP, params![scope, key, fingerprint, status, reply, now]).await?;
    Ok(())
}
