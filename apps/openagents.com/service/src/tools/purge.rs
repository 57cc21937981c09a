//! Decides what is forgotten of tools, answers that have expired and credentials that are no good any more, and
//! that payments nobody heard the end of are asked about.

use oa_contract::{Stop, Timestamp};
use oa_store::{
    Tx,
    tables::{l402, tools as rows},
};

use super::Tools;

/// Expired answers are kept so much longer: their first moment is still shown.
const KEPT_SECONDS: i64 = 7 * 24 * 3_600;
/// At most so many of a kind at a time.
const BATCH: u32 = 500;
/// A payment is asked about when nothing was heard of it for so long.
const QUIET_SECONDS: i64 = 60;

/// How much was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgedTools {
    pub calls: u64,
    pub credentials: u64,
}

impl PurgedTools {
    /// Whether another call would find more.
    pub fn is_full(self) -> bool {
        self.calls >= u64::from(BATCH) || self.credentials >= u64::from(BATCH)
    }
}

impl Tools {
    /// Forgets one batch. To be called now and then, and again while it [`PurgedTools::is_full`].
    pub async fn purge(&self) -> Result<PurgedTools, Stop> {
        self.store.write("tools_purge", (), self.now(), forget).await
    }

    /// Asks the payer about payments whose end nobody heard. Returns how many it looked at.
    pub async fn settle_open_payments(&self) -> Result<usize, Stop> {
        let before = self.now().plus_seconds(-QUIET_SECONDS);
        let read = async |tx: &mut Tx, before: &Timestamp| l402::unresolved(tx, *before, 20).await;
        let open = self.store.read("l402_unresolved", before, read).await?;
        let looked_at = open.len();
        for payment in open {
            self.resume(payment).await?;
        }
        Ok(looked_at)
    }
}

async fn forget(tx: &mut Tx, now: &Timestamp) -> Result<PurgedTools, Stop> {
    Ok(PurgedTools {
        calls: rows::purge_calls(tx, now.plus_seconds(-KEPT_SECONDS), BATCH).await?,
        credentials: l402::purge_credentials(tx, *now, BATCH).await?,
    })
}
