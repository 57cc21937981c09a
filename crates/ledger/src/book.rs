//! Decides what a transfer does: given the accounts that it touches and what is known under its id, either
//! everything that is to be written, or what was written before, or why nothing is.

use std::collections::{BTreeMap, BTreeSet};

use oa_contract::{Amount, Timestamp};

use crate::{
    account::{Account, AccountId},
    denied::Denied,
    transfer::{
        BookedLeg, Capture, Entry, Leg, Moves, Order, Places, Side, State, Transfer, TransferId, Unplaced,
    },
};

/// The accounts that were read, by their names. Iterated in the one order in which accounts are locked.
pub type Accounts = BTreeMap<AccountId, Account>;

/// What is to be written, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub transfer: Transfer,
    /// Every account that changed, as it is afterwards.
    pub accounts: Vec<Account>,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Write(Ruling),
    /// It was asked for before, and this is what stands.
    Stands(Transfer),
}

/// The rows that an order writes to.
pub fn rows_of(order: &Order) -> Result<BTreeSet<AccountId>, Denied> {
    Ok(order.placed()?.into_iter().flat_map(|leg| [leg.debit, leg.credit]).collect())
}

/// The rows that the end of a hold writes to.
pub fn rows_held(transfer: &Transfer) -> BTreeSet<AccountId> {
    let rows = |booked: &BookedLeg| [booked.leg.debit.clone(), booked.leg.credit.clone()];
    transfer.legs.iter().flat_map(rows).collect()
}

/// Moves or holds. `known` is what stands under the order's id.
pub fn open(
    order: &Order,
    known: Option<Transfer>,
    accounts: &Accounts,
    now: Timestamp,
) -> Result<Decision, Denied> {
    let legs = order.placed()?;
    if let Some(known) = known {
        return match known.answers(order, &legs) {
            true => Ok(Decision::Stands(known)),
            false => Err(Denied::Reused { id: order.id.clone() }),
        };
    }
    let expires_at = order.hold.and_then(|hold| hold.expires_at);
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Denied::Expired { id: order.id.clone() });
    }
    let held = order.hold.is_some();
    let mut page = Page::new(&order.id, accounts);
    for account in accounts.values().filter(|account| account.closed) {
        if legs.iter().any(|leg| leg.debit == account.id || leg.credit == account.id) {
            return Err(Denied::Closed { account: account.id.clone() });
        }
    }
    let mut booked = Vec::with_capacity(legs.len());
    for (at, leg) in legs.into_iter().enumerate() {
        let opened = page.pair(at, &leg, Moves::opening(held, leg.amount))?;
        let captured = (!held).then_some(leg.amount);
        booked.push(BookedLeg { leg, captured, opened, ended: None });
    }
    let transfer = Transfer {
        id: order.id.clone(),
        state: if held { State::Pending } else { State::Posted },
        held,
        expires_at,
        reference: order.reference.clone(),
        legs: booked,
        opened_at: now,
        ended_at: (!held).then_some(now),
    };
    page.close(transfer)
}

/// Takes what is held, all or part of it; the rest is released.
pub fn post(
    transfer: Transfer,
    capture: &Capture,
    accounts: &Accounts,
    now: Timestamp,
) -> Result<Decision, Denied> {
    let parts = parts(&transfer, capture)?;
    match transfer.state {
        State::Posted if transfer.held && captured(&transfer) == parts => {
            return Ok(Decision::Stands(transfer));
        }
        State::Pending => {}
        state => return Err(Denied::Settled { id: transfer.id, state }),
    }
    if let Some(leg) = transfer.legs.iter().zip(&parts).position(|(booked, part)| *part > booked.leg.amount) {
        return Err(Denied::OverCapture { id: transfer.id, leg });
    }
    if parts.iter().all(|part| part.is_zero()) {
        let why = format!("capturing nothing of {} would be releasing it", transfer.id);
        return Err(Denied::Malformed(why));
    }
    if is_over(&transfer, now) {
        return Err(Denied::Expired { id: transfer.id });
    }
    end(transfer, State::Posted, &parts, accounts, now)
}

/// Gives back what is held.
pub fn void(transfer: Transfer, accounts: &Accounts, now: Timestamp) -> Result<Decision, Denied> {
    match transfer.state {
        // What expired is given back as well: whoever wanted that has it.
        State::Voided | State::Expired => Ok(Decision::Stands(transfer)),
        State::Posted => Err(Denied::Settled { id: transfer.id, state: State::Posted }),
        State::Pending => {
            let nothing = vec![Amount::ZERO; transfer.legs.len()];
            end(transfer, State::Voided, &nothing, accounts, now)
        }
    }
}

/// Gives back what is held because its time is over. A hold without a time never is.
pub fn expire(transfer: Transfer, accounts: &Accounts, now: Timestamp) -> Result<Decision, Denied> {
    match transfer.state {
        State::Expired => Ok(Decision::Stands(transfer)),
        State::Pending if is_over(&transfer, now) => {
            let nothing = vec![Amount::ZERO; transfer.legs.len()];
            end(transfer, State::Expired, &nothing, accounts, now)
        }
        State::Pending => Err(Denied::NotDue { id: transfer.id }),
        state => Err(Denied::Settled { id: transfer.id, state }),
    }
}

/// Takes the time off a hold, before its effect on the world begins: from here on nobody may conclude from
/// silence that it failed.
pub fn pin(transfer: Transfer, now: Timestamp) -> Result<Decision, Denied> {
    match (transfer.state, transfer.expires_at) {
        (State::Pending, None) => Ok(Decision::Stands(transfer)),
        (State::Pending, Some(_)) if is_over(&transfer, now) => Err(Denied::Expired { id: transfer.id }),
        (State::Pending, Some(_)) => {
            let transfer = Transfer { expires_at: None, ..transfer };
            Ok(Decision::Write(Ruling { transfer, accounts: Vec::new(), entries: Vec::new() }))
        }
        (state, _) => Err(Denied::Settled { id: transfer.id, state }),
    }
}

fn is_over(transfer: &Transfer, now: Timestamp) -> bool {
    transfer.expires_at.is_some_and(|at| at <= now)
}

fn captured(transfer: &Transfer) -> Vec<Amount> {
    transfer.legs.iter().map(|booked| booked.captured.unwrap_or_default()).collect()
}

fn parts(transfer: &Transfer, capture: &Capture) -> Result<Vec<Amount>, Denied> {
    match capture {
        Capture::Full => Ok(transfer.legs.iter().map(|booked| booked.leg.amount).collect()),
        Capture::Part(parts) if parts.len() == transfer.legs.len() => Ok(parts.clone()),
        Capture::Part(parts) => Err(Denied::Malformed(format!(
            "{} has {} legs, and {} amounts are to be captured",
            transfer.id,
            transfer.legs.len(),
            parts.len()
        ))),
    }
}

fn end(
    mut transfer: Transfer,
    state: State,
    parts: &[Amount],
    accounts: &Accounts,
    now: Timestamp,
) -> Result<Decision, Denied> {
    let mut page = Page::new(&transfer.id, accounts);
    for (at, (booked, part)) in transfer.legs.iter_mut().zip(parts).enumerate() {
        booked.ended = Some(page.pair(at, &booked.leg, Moves::ending(booked.leg.amount, *part))?);
        booked.captured = Some(*part);
    }
    transfer.state = state;
    transfer.ended_at = Some(now);
    page.close(transfer)
}

/// The accounts of one transfer while its entries are written.
struct Page<'a> {
    id: TransferId,
    before: &'a Accounts,
    after: Accounts,
    entries: Vec<Entry>,
}

impl<'a> Page<'a> {
    fn new(id: &TransferId, before: &'a Accounts) -> Self {
        Page { id: id.clone(), before, after: Accounts::new(), entries: Vec::new() }
    }

    fn pair(&mut self, at: usize, leg: &Leg, moves: Moves) -> Result<Places, Denied> {
        Ok(Places {
            debit: self.write(&leg.debit, at, Side::Debit, moves)?,
            credit: self.write(&leg.credit, at, Side::Credit, moves)?,
        })
    }

    fn write(&mut self, id: &AccountId, leg: usize, side: Side, moves: Moves) -> Result<u64, Denied> {
        // A new account needs nobody's leave: whoever reads it first sees it empty.
        let found = || self.before.get(id).cloned().unwrap_or_else(|| Account::fresh(id.clone()));
        let account = self.after.entry(id.clone()).or_insert_with(found);
        let entry = account.write(Unplaced::new(&self.id, leg, side, moves))?;
        let seq = entry.seq;
        self.entries.push(entry);
        Ok(seq)
    }

    /// All entries stand: does every floor hold?
    fn close(self, transfer: Transfer) -> Result<Decision, Denied> {
        for account in self.after.values() {
            if let Some(below @ ..0) = account.available() {
                let before = self.before.get(&account.id).and_then(Account::available);
                let available = before.or_else(|| Account::fresh(account.id.clone()).available());
                let available = available.unwrap_or_default();
                let needed = available - below;
                return Err(Denied::Insufficient { account: account.id.clone(), available, needed });
            }
        }
        let accounts = self.after.into_values().collect();
        Ok(Decision::Write(Ruling { transfer, accounts, entries: self.entries }))
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Asset;

    use super::*;
    use crate::{
        account::{Floor, Kind},
        transfer::{Hold, MOST_LEGS},
    };

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

    fn amount(units: u64) -> Amount {
        Amount::new(units).expect("an amount")
    }

    fn account(kind: Kind, asset: &str, subject: &str) -> AccountId {
        let asset = Asset::new(asset).expect("an asset");
        AccountId::new(kind, asset, subject).expect("an account")
    }

    fn order(legs: usize, units: u64) -> Order {
        let leg = Leg {
            debit: account(Kind::Wallet, "msats", "main"),
            credit: account(Kind::Provider, "msats", "p"),
            amount: amount(units),
        };
        let id = TransferId::new("t").expect("an id");
        Order { id, legs: vec![leg; legs], hold: None, reference: "test".into() }
    }

    fn opened(order: &Order) -> Result<Decision, Denied> {
        open(order, None, &Accounts::new(), NOW)
    }

    fn ruling(decision: Result<Decision, Denied>) -> Ruling {
        match decision {
            Ok(Decision::Write(ruling)) => ruling,
            other => panic!("a ruling, not {other:?}"),
        }
    }

    #[test]
    fn what_no_account_could_admit_is_refused() {
        let malformed = |order: Order| match opened(&order) {
            Err(Denied::Malformed(why)) => why,
            other => panic!("malformed, not {other:?}"),
        };
        assert!(malformed(order(0, 1)).contains("legs are needed"));
        assert!(malformed(order(MOST_LEGS + 1, 1)).contains("legs are needed"));
        assert!(malformed(order(1, 0)).contains("leg 0 moves nothing"));
        let mut foreign = order(1, 1);
        foreign.legs[0].credit = account(Kind::Provider, "USD.cents", "p");
        assert!(malformed(foreign).contains("leg 0 moves msats into USD.cents"));
        let mut round = order(1, 1);
        round.legs[0].credit = round.legs[0].debit.clone();
        assert!(malformed(round).contains("leg 0 ends where it begins"));
        assert!(malformed(Order { reference: "x".repeat(513), ..order(1, 1) }).contains("a reference"));
        assert!(TransferId::new("").is_err() && TransferId::new("a\nb").is_err());
        assert!(opened(&order(MOST_LEGS, 1)).is_ok());
    }

    #[test]
    fn a_sum_that_cannot_be_kept_is_refused() {
        let all = order(2, Amount::MAX.get());
        assert!(matches!(opened(&all), Err(Denied::Overflow { .. })));
    }

    #[test]
    fn a_hold_that_is_over_already_is_refused() {
        let over = Order { hold: Some(Hold { expires_at: Some(NOW) }), ..order(1, 1) };
        assert!(matches!(opened(&over), Err(Denied::Expired { .. })));
    }

    #[test]
    fn what_was_moved_at_once_is_neither_captured_nor_released() {
        let moved = ruling(opened(&order(1, 1)));
        let accounts = moved.accounts.into_iter().map(|account| (account.id.clone(), account)).collect();
        let settled = |decision| matches!(decision, Err(Denied::Settled { state: State::Posted, .. }));
        assert!(settled(post(moved.transfer.clone(), &Capture::Full, &accounts, NOW)));
        assert!(settled(void(moved.transfer.clone(), &accounts, NOW)));
        assert!(settled(expire(moved.transfer.clone(), &accounts, NOW)));
        assert!(settled(pin(moved.transfer, NOW)));
    }

    #[test]
    fn legs_that_cross_in_one_account_need_only_what_remains() {
        let owner = account(Kind::Owner, "msats", "user:1");
        let mut before = Account::fresh(owner.clone());
        before.floor = Floor::Limit(Amount::ZERO);
        let accounts = Accounts::from([(owner.clone(), before)]);
        let mut crossing = order(2, 5);
        crossing.legs[0] =
            Leg { debit: owner.clone(), credit: crossing.legs[1].credit.clone(), amount: amount(5) };
        crossing.legs[1].credit = owner.clone();
        let written = ruling(open(&crossing, None, &accounts, NOW));
        let after = written.accounts.iter().find(|account| account.id == owner).expect("the owner");
        assert_eq!((after.available(), after.entries), (Some(0), 2));
        crossing.legs[1].amount = amount(4);
        let denied = open(&crossing, None, &accounts, NOW).expect_err("one is missing");
        assert_eq!(denied, Denied::Insufficient { account: owner, available: 0, needed: 1 });
    }
}
