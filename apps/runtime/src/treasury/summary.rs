//! `GET /internal/v1/treasury/compute/summary`: what compute has cost an owner and what is reserved (§10.2).

use oa_contract::{
    Answer, Ask, Handle, Owner, Stop, Timestamp,
    matrix::TreasuryComputeSummary,
    wire::treasury::{BudgetAccount, ComputeSummary, ProviderEarnings},
};
use oa_ledger::budget::{Place, Scope};
use oa_store::{
    Tx,
    tables::{
        ledger,
        treasury::{self as table, Earning},
    },
};

use super::job;
use crate::{Runtime, budgets};

const SCHEMA: &str = "openagents.treasury.compute_summary.v1";
const RECENT_JOBS: u32 = 50;
const MOST_EARNINGS: u32 = 200;

impl Handle<TreasuryComputeSummary> for Runtime {
    async fn handle(&self, ask: Ask<TreasuryComputeSummary>) -> Result<Answer<ComputeSummary>, Stop> {
        let owner = Owner::from_parts(ask.query.owner_user_id, ask.query.owner_guest_scope.as_deref())?;
        ask.caller.must_speak_for(&owner)?;
        let look = (owner, self.now());
        Ok(self.store.read("treasury.compute_summary", look, read).await?.into())
    }
}

async fn read(tx: &mut Tx, (owner, now): &(Owner, Timestamp)) -> Result<ComputeSummary, Stop> {
    let total = table::total(tx, owner).await?;
    let earnings = table::earnings(tx, owner, MOST_EARNINGS).await?;
    let recent = table::recent(tx, owner, RECENT_JOBS).await?;
    Ok(ComputeSummary {
        schema: SCHEMA.into(),
        owner_key: owner.to_string(),
        account: account(tx, &Place::default().scope(), owner, *now).await?,
        released_msats_total: total.released,
        released_count: total.released_jobs,
        withheld_count: total.withheld_jobs,
        provider_earnings: earnings.into_iter().map(earned).collect(),
        recent_jobs: recent.iter().map(job).collect(),
    })
}

fn earned(earning: Earning) -> ProviderEarnings {
    ProviderEarnings {
        provider_id: earning.provider_id,
        earned_msats: earning.sums.released,
        released_jobs: earning.sums.released_jobs,
        withheld_jobs: earning.sums.withheld_jobs,
    }
}

/// The owner's own account in the ledger: fees and whatever is reserved for work under way are in it.
async fn account(tx: &mut Tx, scope: &Scope, owner: &Owner, now: Timestamp) -> Result<BudgetAccount, Stop> {
    let id = scope.account(owner)?;
    let used = budgets::used(&ledger::account(tx, &id).await?)?;
    let last = ledger::entries(tx, &id, None, 1).await?;
    Ok(BudgetAccount {
        limit_msats: used.limit,
        reserved_msats: used.reserved,
        spent_msats: used.spent,
        updated_at: last.first().map_or(now, |entry| entry.at),
    })
}
