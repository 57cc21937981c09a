//! Decides whom a pool's credit partition lends to: `POST` and `GET /admin/v1/pools/:pool_id/lending`, and what an envelope
//! is held against. A pool whose operator has said nothing lends to the agents of its operator; where callers are
//! believed, to everybody.

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop, Timestamp,
    matrix::{PoolsLending, PoolsLendingSet},
    wire::credit::{Borrower, Lending, LendingReply, Offer, SetLending},
};
use oa_store::{
    Key, Tx,
    tables::{
        credit::{self as table, LendingRow},
        credit_sums::{self, Debts},
        pools,
    },
};

use super::{public_key, read_back, written};
use crate::Runtime;

const REPLY: &str = "openagents.credit.pool_lending.v1";
/// Borrowers of one pool.
const MOST: usize = 256;

/// What is drawn of a pool is counted by one at a time, and so are changes of whom it lends to.
pub(crate) fn key(pool_id: &str) -> Key {
    Key::text("credit_lending", pool_id)
}

struct Setting {
    pool_id: String,
    lending: SetLending,
    now: Timestamp,
}

impl Handle<PoolsLendingSet> for Runtime {
    async fn handle(&self, ask: Ask<PoolsLendingSet>) -> Result<Answer<LendingReply>, Stop> {
        let pool_id = ask.path.pool_id;
        let setting = Setting { lending: read(ask.body)?, pool_id, now: self.now() };
        let key = key(&setting.pool_id);
        Ok(self.store.write("pools.lending_set", key, setting, set).await?.into())
    }
}

impl Handle<PoolsLending> for Runtime {
    async fn handle(&self, ask: Ask<PoolsLending>) -> Result<Answer<LendingReply>, Stop> {
        let look = async |tx: &mut Tx, (pool_id, now): &(String, Timestamp)| shown(tx, pool_id, *now).await;
        Ok(self.store.read("pools.lending", (ask.path.pool_id, self.now()), look).await?.into())
    }
}

/// Each is one of the three, once, and may have something.
fn read(body: SetLending) -> Result<SetLending, Refusal> {
    if body.borrowers.len() > MOST {
        return Err(Refusal::invalid(format!("borrowers must be at most {MOST}")));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut borrowers = Vec::new();
    for (at, one) in body.borrowers.into_iter().enumerate() {
        let Borrower { owner_user_id, owner_guest_scope, agent_id, max_sats } = one;
        let wrong = |why: &str| Refusal::invalid(format!("borrowers[{at}]: {why}"));
        let one = match agent_id {
            Some(_) if owner_user_id.is_some() || owner_guest_scope.is_some() => {
                return Err(wrong("an owner or an agent_id, and not both"));
            }
            Some(agent_id) => {
                let agent_id = public_key(&agent_id).map_err(|_| wrong("agent_id must be 64 hex digits"))?;
                Borrower { agent_id: Some(agent_id), max_sats, ..Borrower::default() }
            }
            None => {
                let owner = Owner::from_parts(owner_user_id, owner_guest_scope.as_deref())
                    .map_err(|_| wrong("owner_user_id, owner_guest_scope or agent_id is required"))?;
                Borrower {
                    owner_user_id: owner.user_id(),
                    owner_guest_scope: owner.guest_scope().map(str::to_owned),
                    agent_id: None,
                    max_sats,
                }
            }
        };
        if max_sats == 0 {
            return Err(wrong("max_sats must be greater than zero"));
        }
        if !seen.insert(name(&one)) {
            return Err(wrong("is named twice"));
        }
        borrowers.push(one);
    }
    Ok(SetLending { borrowers, together_sats: body.together_sats })
}

/// As debts are answered for.
fn name(borrower: &Borrower) -> Option<String> {
    match &borrower.agent_id {
        Some(agent_id) => Some(format!("agent:{agent_id}")),
        None => Owner::from_parts(borrower.owner_user_id, borrower.owner_guest_scope.as_deref())
            .ok()
            .map(|owner| owner.to_string()),
    }
}

async fn set(tx: &mut Tx, setting: &Setting) -> Result<LendingReply, Stop> {
    if pools::pool(tx, &setting.pool_id).await?.is_none() {
        return Err(no_pool().into());
    }
    let row = LendingRow {
        pool_id: setting.pool_id.clone(),
        lending: written(&setting.lending)?,
        changed_at: setting.now,
    };
    table::put_lending(tx, &row).await?;
    shown(tx, &setting.pool_id, setting.now).await
}

fn no_pool() -> Refusal {
    Refusal::not_found("no such pool")
}

async fn shown(tx: &mut Tx, pool_id: &str, now: Timestamp) -> Result<LendingReply, Stop> {
    let known = table::lending(tx, pool_id).await?;
    if known.is_none() && pools::pool(tx, pool_id).await?.is_none() {
        return Err(no_pool().into());
    }
    let said: Option<SetLending> = known.as_ref().map(|row| read_back(&row.lending)).transpose()?;
    let committed = credit_sums::committed(tx, Debts::Pool(pool_id), now).await?;
    let lending = Lending {
        pool_id: pool_id.to_owned(),
        together_sats: said.as_ref().map(|said| said.together_sats),
        borrowers: said.map(|said| said.borrowers),
        held_sats: committed.held_sats,
        owed_msats: committed.owed_msats,
        changed_at: known.map(|row| row.changed_at),
    };
    Ok(LendingReply { schema: REPLY.into(), lending })
}

/// Whether the pool lends so much more. The caller holds [`key`], and the borrower's.
pub(super) async fn allows(
    tx: &mut Tx,
    offer: &Offer,
    borrower: &str,
    lenient: bool,
    now: Timestamp,
) -> Result<(), Stop> {
    let Offer { pool_id, agent_id, max_sats, .. } = offer;
    let Some(row) = table::lending(tx, pool_id).await? else {
        if lenient {
            return Ok(());
        }
        let pool = pools::pool(tx, pool_id).await?;
        return match pool.is_some_and(|pool| pool.operator_id == borrower) {
            true => Ok(()),
            false => Err(refused(pool_id, borrower).into()),
        };
    };
    let said: SetLending =
        read_back(&row.lending).map_err(|fault| Fault::new("reading whom a pool lends to", fault))?;
    let agent = format!("agent:{agent_id}");
    let named: Vec<_> = said
        .borrowers
        .iter()
        .filter_map(|one| Some((name(one)?, one.max_sats)))
        .filter(|(name, _)| name == borrower || *name == agent)
        .collect();
    if named.is_empty() {
        return Err(refused(pool_id, borrower).into());
    }
    // An owner's limit holds for all its agents together, and an agent's beside it for that one.
    for (name, limit) in named {
        let debts = match name == agent {
            true => Debts::AgentAt { agent_id, pool_id },
            false => Debts::BorrowerAt { borrower, pool_id },
        };
        within(tx, debts, *max_sats, limit, &format!("{name} may have {limit} sats of this pool"), now)
            .await?;
    }
    let all = said.together_sats;
    let message = format!("all borrowers together may have {all} sats of this pool");
    within(tx, Debts::Pool(pool_id), *max_sats, all, &message, now).await
}

async fn within(
    tx: &mut Tx,
    debts: Debts<'_>,
    more: u64,
    limit: u64,
    message: &str,
    now: Timestamp,
) -> Result<(), Stop> {
    let drawn = credit_sums::committed(tx, debts, now).await?.sats();
    match drawn.saturating_add(more) > limit {
        true => Err(Refusal::conflict(format!("pool lending limit: {message}, open and owed")).into()),
        false => Ok(()),
    }
}

fn refused(pool_id: &str, borrower: &str) -> Refusal {
    let mut refusal = Refusal::forbidden(format!(
        "this pool does not lend to {borrower}; its operator can allow it: POST /admin/v1/pools/{pool_id}/lending, or oa pool lend"
    ));
    refusal.reason_code = Some("pool_does_not_lend");
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(borrowers: Vec<Borrower>) -> Result<SetLending, String> {
        read(SetLending { borrowers, together_sats: 9 }).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_borrower_is_an_owner_or_an_agent_once() {
        let user = |id| Borrower { owner_user_id: Some(id), max_sats: 1, ..Borrower::default() };
        let agent =
            |key: &str| Borrower { agent_id: Some(key.repeat(64)), max_sats: 1, ..Borrower::default() };
        let read = said(vec![user(1), user(2), agent("A")]).expect("read");
        assert_eq!(read.borrowers[2].agent_id, Some("a".repeat(64)));
        assert_eq!(said(vec![user(1), user(1)]), Err("borrowers[1]: is named twice".into()));
        assert_eq!(said(vec![agent("a"), agent("A")]), Err("borrowers[1]: is named twice".into()));
        let both = Borrower { agent_id: Some("a".repeat(64)), ..user(1) };
        assert_eq!(said(vec![both]), Err("borrowers[0]: an owner or an agent_id, and not both".into()));
        assert_eq!(said(vec![agent("x")]), Err("borrowers[0]: agent_id must be 64 hex digits".into()));
        let nobody = Borrower { max_sats: 1, ..Borrower::default() };
        let message = "borrowers[0]: owner_user_id, owner_guest_scope or agent_id is required";
        assert_eq!(said(vec![nobody]), Err(message.into()));
        let nothing = Borrower { max_sats: 0, ..user(1) };
        assert_eq!(said(vec![nothing]), Err("borrowers[0]: max_sats must be greater than zero".into()));
        assert_eq!(said(vec![user(1); 257]), Err("borrowers must be at most 256".into()));
    }
}
