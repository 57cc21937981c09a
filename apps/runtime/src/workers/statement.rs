//! `GET /admin/v1/providers/:worker_id/statement`: what a provider has earned and was not yet paid, and every movement
//! that made it so (marketplace §17.2). For the worker's owner and for operators; to anybody else there is no such
//! worker.

use oa_contract::{
    Amount, Answer, Ask, Fault, Handle, Msats, Stop,
    matrix::ProvidersStatement,
    wire::treasury::{ProviderStatement, StatementEntry, StatementQuery},
};
use oa_ledger::Side;
use oa_store::{
    Tx,
    tables::{
        ledger::{self, EntryRow},
        workers,
    },
};
use serde_json::Value;

use super::{metadata, unknown};
use crate::{Runtime, marketplace::reserve::provider_account};

const SCHEMA: &str = "openagents.treasury.provider_statement.v1";
const USUAL_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

struct Wanted {
    worker_id: String,
    caller: oa_contract::Caller,
    before: Option<u64>,
    page: u32,
}

impl Handle<ProvidersStatement> for Runtime {
    async fn handle(&self, ask: Ask<ProvidersStatement>) -> Result<Answer<ProviderStatement>, Stop> {
        let StatementQuery { limit, before } = ask.query;
        let page = limit.unwrap_or(u64::from(USUAL_PAGE)).clamp(1, u64::from(LARGEST_PAGE)) as u32;
        let wanted = Wanted { worker_id: ask.path.worker_id, caller: ask.caller, before, page };
        Ok(self.store.read("providers.statement", wanted, read).await?.into())
    }
}

/// Balance and entries of one snapshot: the entries behind the newest add up to the balance.
async fn read(tx: &mut Tx, wanted: &Wanted) -> Result<ProviderStatement, Stop> {
    let row = workers::get(tx, &wanted.worker_id).await?;
    let row = row.filter(|row| wanted.caller.may_see(Some(&row.owner)));
    let row = row.ok_or_else(|| unknown(&wanted.worker_id))?;
    let id = provider_account(&row.worker_id)?;
    let account = ledger::account(tx, &id).await?;
    let before = wanted.before.map(|before| before.min(i64::MAX.unsigned_abs()));
    let mut entries = ledger::entries(tx, &id, before, wanted.page + 1).await?;
    let more = entries.len() > wanted.page as usize;
    entries.truncate(wanted.page as usize);
    let next = entries.last().filter(|_| more).map(|row| row.entry.seq);
    let balances = account.balances;
    let earned = msats(balances.credits_posted)?;
    let paid = msats(balances.debits_posted)?;
    let said = metadata::read(&row.metadata)?;
    Ok(ProviderStatement {
        schema: SCHEMA.into(),
        provider_id: said.get("provider_id").and_then(Value::as_str).unwrap_or(&row.worker_id).to_owned(),
        owner_key: row.owner.to_string(),
        worker_id: row.worker_id,
        payable_msats: earned
            .get()
            .checked_sub(paid.get())
            .and_then(Msats::new)
            .ok_or_else(|| Fault::msg(format!("more was paid out of {id} than ever came in")))?,
        earned_msats_total: earned,
        paid_msats_total: paid,
        held_for_jobs_msats: msats(balances.credits_pending)?,
        paying_out_msats: msats(balances.debits_pending)?,
        entries: entries.iter().map(told).collect::<Result<_, _>>()?,
        next,
    })
}

fn msats(amount: Amount) -> Result<Msats, Fault> {
    Msats::try_from(amount).map_err(|_| Fault::msg("a provider's sums are more than there will ever be"))
}

/// What an entry changes, as the provider sees it: a credit is what comes in.
fn told(row: &EntryRow) -> Result<StatementEntry, Fault> {
    let entry = &row.entry;
    let sign = match entry.side {
        Side::Credit => 1,
        Side::Debit => -1,
    };
    Ok(StatementEntry {
        seq: entry.seq,
        at: row.at,
        transfer_id: entry.transfer.to_string(),
        step: entry.step.name().to_owned(),
        pending_msats: sign * entry.pending,
        posted_msats: sign * entry.posted,
    })
}
