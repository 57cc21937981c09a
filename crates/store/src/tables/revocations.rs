//! Decides how revoked sessions and devices are remembered: once, for good.

use oa_contract::{instant::Timestamp, refusal::Stop};

use crate::{params, sealed_statement, statement::Statement, transaction::Tx};

static REVOKE: Statement = sealed_statement!("sync/revoke", "revocations");
static REVOKED: Statement = sealed_statement!("sync/revoked", "revocations");

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Session,
    Device,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Session => "session",
            Kind::Device => "device",
        }
    }
}

/// Says whether it was not revoked before.
pub async fn revoke(
    tx: &mut Tx,
    kind: Kind,
    subject: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, Stop> {
    Ok(tx.execute(&REVOKE, params![kind.name(), subject, reason, now]).await? > 0)
}

pub async fn is_revoked(tx: &mut Tx, kind: Kind, subject: &str) -> Result<bool, Stop> {
    Ok(tx.one::<(String,)>(&REVOKED, params![kind.name(), subject]).await?.is_some())
}
