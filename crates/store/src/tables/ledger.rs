//! Decides how the ledger is kept: the accounts that a transfer touches are locked in the order of their names,
//! `oa_ledger` rules on what was read, and everything it rules is written in the same transaction.
//!
//! A transfer costs the same however many there are: statements per leg, and none that scans. On PostgreSQL two
//! transfers wait for each other only where they share a row; accounts that everybody's transfers share are
//! spread over several rows by their kind.

use oa_contract::{
    Amount, Asset, Timestamp,
    refusal::{Fault, Stop},
};
use oa_ledger::{
    Account, AccountId, Accounts, Balances, BookedLeg, Capture, Decision, Denied, Entry, Floor, Leg, Order,
    Places, Ruling, Side, State, Step, Transfer, TransferId, book,
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

static ACCOUNT: Statement = sealed_statement!("ledger/account", "ledger_accounts");
static LOCK_ACCOUNT: Statement = sealed_statement!("ledger/lock_account.postgres", "ledger_accounts");
static OPEN_ACCOUNT: Statement = sealed_statement!("ledger/open_account", "ledger_accounts");
static UPDATE_ACCOUNT: Statement = sealed_statement!("ledger/update_account", "ledger_accounts");
static ACCOUNTS_AFTER: Statement = sealed_statement!("ledger/accounts_after", "ledger_accounts");
static TOTALS: Statement = statement!("ledger/totals");
static TRANSFER: Statement = sealed_statement!("ledger/transfer", "ledger_transfers");
static LOCK_TRANSFER: Statement = sealed_statement!("ledger/lock_transfer.postgres", "ledger_transfers");
static INSERT_TRANSFER: Statement = sealed_statement!("ledger/insert_transfer", "ledger_transfers");
static UPDATE_TRANSFER: Statement = sealed_statement!("ledger/update_transfer", "ledger_transfers");
static TRANSFERS_AFTER: Statement = sealed_statement!("ledger/transfers_after", "ledger_transfers");
static IDS_AFTER: Statement = statement!("ledger/ids_after");
static DUE: Statement = statement!("ledger/due");
static LEGS: Statement = sealed_statement!("ledger/legs", "ledger_legs");
static INSERT_LEG: Statement = sealed_statement!("ledger/insert_leg", "ledger_legs");
static UPDATE_LEG: Statement = sealed_statement!("ledger/update_leg", "ledger_legs");
static INSERT_ENTRY: Statement = sealed_statement!("ledger/insert_entry", "ledger_entries");
static ENTRY: Statement = sealed_statement!("ledger/entry", "ledger_entries");
static ENTRIES_AFTER: Statement = sealed_statement!("ledger/entries_after", "ledger_entries");
static ENTRIES_BEFORE: Statement = sealed_statement!("ledger/entries_before", "ledger_entries");

/// A transfer as it stands, and whether it was this very call that changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    pub transfer: Transfer,
    pub fresh: bool,
}

/// An entry and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    pub entry: Entry,
    pub at: Timestamp,
}

/// Moves or holds what the order says. The same id and content is answered with what stands; the same id with
/// other content is a conflict.
pub async fn transfer(tx: &mut Tx, order: &Order, now: Timestamp) -> Result<Booked, Stop> {
    let accounts = lock_all(tx, book::rows_of(order)?).await?;
    // Only now: whoever had the same id first may just have let go of the accounts.
    let known = get(tx, &order.id).await?;
    written(tx, book::open(order, known, &accounts, now)?, true, now).await
}

/// Captures a hold, all or part of it.
pub async fn post(tx: &mut Tx, id: &TransferId, capture: &Capture, now: Timestamp) -> Result<Booked, Stop> {
    let (held, accounts) = lock_hold(tx, id).await?;
    written(tx, book::post(held, capture, &accounts, now)?, false, now).await
}

/// Gives back what is held.
pub async fn void(tx: &mut Tx, id: &TransferId, now: Timestamp) -> Result<Booked, Stop> {
    let (held, accounts) = lock_hold(tx, id).await?;
    written(tx, book::void(held, &accounts, now)?, false, now).await
}

/// Gives back what is held because its time is over; refuses while it is not.
pub async fn expire(tx: &mut Tx, id: &TransferId, now: Timestamp) -> Result<Booked, Stop> {
    let (held, accounts) = lock_hold(tx, id).await?;
    written(tx, book::expire(held, &accounts, now)?, false, now).await
}

/// Takes the time off a hold, before its effect on the world begins.
pub async fn pin(tx: &mut Tx, id: &TransferId, now: Timestamp) -> Result<Booked, Stop> {
    let held = lock_transfer(tx, id).await?;
    written(tx, book::pin(held, now)?, false, now).await
}

/// Holds whose time is over, the longest over first.
pub async fn due(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<TransferId>, Stop> {
    let found = tx.all::<(String,)>(&DUE, params![now, limit]).await?;
    Ok(found.into_iter().map(|(id,)| transfer_id(&id)).collect::<Result<_, _>>()?)
}

pub async fn get(tx: &mut Tx, id: &TransferId) -> Result<Option<Transfer>, Stop> {
    let Some(found) = tx.one::<Head>(&TRANSFER, params![id.as_str()]).await? else { return Ok(None) };
    Ok(Some(with_legs(tx, found).await?))
}

/// None when nothing was ever written to it.
pub async fn find(tx: &mut Tx, id: &AccountId) -> Result<Option<Account>, Stop> {
    tx.one(&ACCOUNT, params![&id.to_string()]).await
}

/// An account that nothing was written to stands as it would begin.
pub async fn account(tx: &mut Tx, id: &AccountId) -> Result<Account, Stop> {
    Ok(find(tx, id).await?.unwrap_or_else(|| Account::fresh(id.clone())))
}

/// Another floor for an account, unless more than that is used already.
pub async fn set_limit(tx: &mut Tx, id: &AccountId, limit: Amount) -> Result<Account, Stop> {
    let limited = lock(tx, id).await?.with_limit(limit)?;
    update(tx, &limited).await?;
    Ok(limited)
}

/// An empty account takes no transfers any more.
pub async fn close(tx: &mut Tx, id: &AccountId) -> Result<Account, Stop> {
    let closed = lock(tx, id).await?.shut()?;
    update(tx, &closed).await?;
    Ok(closed)
}

/// The entries of one row of an account, newest first; `before` is the number behind which to go on.
pub async fn entries(
    tx: &mut Tx,
    account: &AccountId,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<EntryRow>, Stop> {
    let before = before.map_or(Ok(Value::Int(i64::MAX)), Value::unsigned)?;
    tx.all(&ENTRIES_BEFORE, &[Value::from(&account.to_string()), before, limit.into()]).await
}

pub(super) async fn entries_after(
    tx: &mut Tx,
    account: &AccountId,
    after: u64,
    limit: u32,
) -> Result<Vec<EntryRow>, Stop> {
    tx.all(&ENTRIES_AFTER, params![&account.to_string(), Value::unsigned(after)?, limit]).await
}

pub(super) async fn entry(tx: &mut Tx, account: &AccountId, seq: u64) -> Result<Option<Entry>, Stop> {
    let found = tx.one::<EntryRow>(&ENTRY, params![&account.to_string(), Value::unsigned(seq)?]).await?;
    Ok(found.map(|row| row.entry))
}

/// The accounts behind this one, in the order of their names.
pub async fn accounts(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<Account>, Stop> {
    tx.all(&ACCOUNTS_AFTER, params![after, limit]).await
}

pub(super) async fn account_after(tx: &mut Tx, after: &str) -> Result<Option<Account>, Stop> {
    tx.one(&ACCOUNTS_AFTER, params![after, 1_u32]).await
}

pub(super) async fn transfers_after(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<Transfer>, Stop> {
    let mut transfers = Vec::new();
    for head in tx.all::<Head>(&TRANSFERS_AFTER, params![after, limit]).await? {
        transfers.push(with_legs(tx, head).await?);
    }
    Ok(transfers)
}

/// The ids of transfers behind `after`, in their order; also of rows that cannot be read any more.
pub async fn ids_after(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<TransferId>, Stop> {
    let found = tx.all::<(String,)>(&IDS_AFTER, params![after, limit]).await?;
    Ok(found.into_iter().map(|(id,)| transfer_id(&id)).collect::<Result<_, _>>()?)
}

/// What the accounts of each asset hold together.
pub(super) async fn totals(tx: &mut Tx) -> Result<Vec<(Asset, Balances)>, Stop> {
    let totals = tx.all::<Total>(&TOTALS, params![]).await?;
    Ok(totals.into_iter().map(|Total(asset, sums)| (asset, sums)).collect())
}

/// Keeps everybody else from what an order would move until the transaction ends: what is read of these accounts from
/// here on stays as it is.
pub async fn hold_still(tx: &mut Tx, order: &Order) -> Result<(), Stop> {
    lock_all(tx, book::rows_of(order)?).await?;
    Ok(())
}

/// Locks one row after the other, in the order of their names: two transfers never wait in a circle.
async fn lock_all(tx: &mut Tx, rows: impl IntoIterator<Item = AccountId>) -> Result<Accounts, Stop> {
    let mut accounts = Accounts::new();
    for id in rows {
        accounts.insert(id.clone(), lock(tx, &id).await?);
    }
    Ok(accounts)
}

/// The account, made if it is new, and nobody else's until the transaction ends.
async fn lock(tx: &mut Tx, id: &AccountId) -> Result<Account, Stop> {
    let statement = match tx.engine() {
        EngineKind::Sqlite => &ACCOUNT,
        EngineKind::Postgres => &LOCK_ACCOUNT,
    };
    let name = id.to_string();
    if let Some(account) = tx.one(statement, params![&name]).await? {
        return Ok(account);
    }
    tx.execute(&OPEN_ACCOUNT, &columns(&name, &Account::fresh(id.clone()))?).await?;
    let found = tx.one(statement, params![&name]).await?;
    Ok(found.ok_or_else(|| Fault::msg(format!("the account {name} was opened, but is not there")))?)
}

async fn lock_transfer(tx: &mut Tx, id: &TransferId) -> Result<Transfer, Stop> {
    let statement = match tx.engine() {
        EngineKind::Sqlite => &TRANSFER,
        EngineKind::Postgres => &LOCK_TRANSFER,
    };
    let found = tx.one::<Head>(statement, params![id.as_str()]).await?;
    let found = found.ok_or_else(|| Denied::Unknown { id: id.clone() })?;
    with_legs(tx, found).await
}

async fn lock_hold(tx: &mut Tx, id: &TransferId) -> Result<(Transfer, Accounts), Stop> {
    let held = lock_transfer(tx, id).await?;
    let accounts = lock_all(tx, book::rows_held(&held)).await?;
    Ok((held, accounts))
}

async fn written(tx: &mut Tx, decision: Decision, new: bool, now: Timestamp) -> Result<Booked, Stop> {
    let Ruling { transfer, accounts, entries } = match decision {
        Decision::Stands(transfer) => return Ok(Booked { transfer, fresh: false }),
        Decision::Write(ruling) => ruling,
    };
    let changed = tx.execute(if new { &INSERT_TRANSFER } else { &UPDATE_TRANSFER }, &head(&transfer)).await?;
    one_row(changed, transfer.id.as_str())?;
    // A pin changes no leg.
    let legs = if new { Some(&INSERT_LEG) } else { transfer.ended_at.map(|_| &UPDATE_LEG) };
    if let Some(statement) = legs {
        for (at, booked) in transfer.legs.iter().enumerate() {
            put_leg(tx, statement, &transfer.id, at, booked).await?;
        }
    }
    for entry in &entries {
        let account = entry.account.to_string();
        let params = params![
            &account,
            Value::unsigned(entry.seq)?,
            entry.transfer.as_str(),
            leg_number(entry.leg)?,
            entry.side.name(),
            entry.step.name(),
            entry.pending,
            entry.posted,
            now
        ];
        tx.execute(&INSERT_ENTRY, params).await?;
    }
    for account in &accounts {
        update(tx, account).await?;
    }
    Ok(Booked { transfer, fresh: true })
}

async fn update(tx: &mut Tx, account: &Account) -> Result<(), Stop> {
    let name = account.id.to_string();
    let changed = tx.execute(&UPDATE_ACCOUNT, &columns(&name, account)?).await?;
    Ok(one_row(changed, &name)?)
}

fn one_row(changed: u64, what: &str) -> Result<(), Fault> {
    match changed {
        1 => Ok(()),
        _ => Err(Fault::msg(format!("writing {what} of the ledger changed {changed} rows"))),
    }
}

async fn put_leg(
    tx: &mut Tx,
    statement: &Statement,
    id: &TransferId,
    at: usize,
    booked: &BookedLeg,
) -> Result<(), Stop> {
    let place = |seq: Option<u64>| seq.map_or(Ok(Value::Null), Value::unsigned);
    let (debit, credit) = (booked.leg.debit.to_string(), booked.leg.credit.to_string());
    let params = params![
        id.as_str(),
        leg_number(at)?,
        &debit,
        &credit,
        booked.leg.amount.signed(),
        booked.captured.map(Amount::signed),
        Value::unsigned(booked.opened.debit)?,
        Value::unsigned(booked.opened.credit)?,
        place(booked.ended.map(|ended| ended.debit))?,
        place(booked.ended.map(|ended| ended.credit))?
    ];
    tx.execute(statement, params).await?;
    Ok(())
}

fn leg_number(at: usize) -> Result<i64, Fault> {
    i64::try_from(at).map_err(|error| Fault::new("numbering a leg", error))
}

fn columns<'a>(name: &'a str, account: &'a Account) -> Result<[Value<'a>; 9], Fault> {
    let Balances { debits_pending, debits_posted, credits_pending, credits_posted } = account.balances;
    let overdraft = match account.floor {
        Floor::Limit(limit) => Value::Int(limit.signed()),
        Floor::Open => Value::Null,
    };
    Ok([
        name.into(),
        account.id.asset().code().into(),
        overdraft,
        account.closed.into(),
        debits_pending.signed().into(),
        debits_posted.signed().into(),
        credits_pending.signed().into(),
        credits_posted.signed().into(),
        Value::unsigned(account.entries)?,
    ])
}

fn head(transfer: &Transfer) -> [Value<'_>; 7] {
    [
        transfer.id.as_str().into(),
        transfer.state.name().into(),
        transfer.held.into(),
        transfer.expires_at.into(),
        (&transfer.reference).into(),
        transfer.opened_at.into(),
        transfer.ended_at.into(),
    ]
}

/// A transfer without its legs.
struct Head(Transfer);

struct Total(Asset, Balances);

async fn with_legs(tx: &mut Tx, Head(mut transfer): Head) -> Result<Transfer, Stop> {
    transfer.legs = tx.all::<BookedLeg>(&LEGS, params![transfer.id.as_str()]).await?;
    Ok(transfer)
}

fn amount(row: &Row<'_>, column: usize) -> Result<Amount, Fault> {
    Amount::try_from(row.int(column)?).map_err(|error| Fault::new("reading a stored amount", error))
}

fn account_id(text: &str) -> Result<AccountId, Fault> {
    AccountId::parse(text).ok_or_else(|| unknown("account", text))
}

fn transfer_id(text: &str) -> Result<TransferId, Fault> {
    TransferId::new(text).map_err(|error| Fault::new("reading a stored transfer's id", error))
}

fn unknown(what: &str, text: &str) -> Fault {
    Fault::msg(format!("a stored {what} of the ledger is unknown: {text:?}"))
}

fn balances(row: &Row<'_>, column: usize) -> Result<Balances, Fault> {
    Ok(Balances {
        debits_pending: amount(row, column)?,
        debits_posted: amount(row, column + 1)?,
        credits_pending: amount(row, column + 2)?,
        credits_posted: amount(row, column + 3)?,
    })
}

impl FromRow for Account {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let floor = match row.opt_int(2)? {
            None => Floor::Open,
            Some(_) => Floor::Limit(amount(row, 2)?),
        };
        Ok(Account {
            id: account_id(row.text(0)?)?,
            floor,
            closed: row.bool(3)?,
            balances: balances(row, 4)?,
            entries: row.uint(8)?,
        })
    }
}

impl FromRow for Total {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let code = row.text(0)?;
        Ok(Total(Asset::new(code).ok_or_else(|| unknown("asset", code))?, balances(row, 1)?))
    }
}

impl FromRow for Head {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let state = row.text(1)?;
        Ok(Head(Transfer {
            id: transfer_id(row.text(0)?)?,
            state: State::parse(state).ok_or_else(|| unknown("state", state))?,
            held: row.bool(2)?,
            expires_at: row.opt_timestamp(3)?,
            reference: row.text(4)?.to_owned(),
            legs: Vec::new(),
            opened_at: row.timestamp(5)?,
            ended_at: row.opt_timestamp(6)?,
        }))
    }
}

impl FromRow for BookedLeg {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let captured = match row.opt_int(5)? {
            None => None,
            Some(_) => Some(amount(row, 5)?),
        };
        let ended = match (row.opt_uint(8)?, row.opt_uint(9)?) {
            (Some(debit), Some(credit)) => Some(Places { debit, credit }),
            _ => None,
        };
        Ok(BookedLeg {
            leg: Leg {
                debit: account_id(row.text(2)?)?,
                credit: account_id(row.text(3)?)?,
                amount: amount(row, 4)?,
            },
            captured,
            opened: Places { debit: row.uint(6)?, credit: row.uint(7)? },
            ended,
        })
    }
}

impl FromRow for EntryRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let leg = row.uint(3)?;
        let (side, step) = (row.text(4)?, row.text(5)?);
        Ok(EntryRow {
            entry: Entry {
                account: account_id(row.text(0)?)?,
                seq: row.uint(1)?,
                transfer: transfer_id(row.text(2)?)?,
                leg: usize::try_from(leg).map_err(|error| Fault::new("reading a stored leg", error))?,
                side: Side::parse(side).ok_or_else(|| unknown("side", side))?,
                step: Step::parse(step).ok_or_else(|| unknown("step", step))?,
                pending: row.int(6)?,
                posted: row.int(7)?,
            },
            at: row.timestamp(8)?,
        })
    }
}
