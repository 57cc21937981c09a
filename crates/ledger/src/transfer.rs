//! Decides what a transfer is: legs that move together, now or first held; and which entries it leaves in the
//! accounts it touches.

use std::fmt;

use oa_contract::{Amount, Timestamp};

use crate::{account::AccountId, denied::Denied};

/// Legs in one transfer: every stripe of an account, a budget for every scope, and room beside them.
pub const MOST_LEGS: usize = 32;
const LONGEST_ID: usize = 200;
const LONGEST_REFERENCE: usize = 512;

/// Whoever asks chooses it, so that asking twice is one transfer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(String);

impl TransferId {
    pub fn new(id: impl Into<String>) -> Result<Self, Denied> {
        let id = id.into();
        let sound = !id.is_empty() && id.len() <= LONGEST_ID && !id.chars().any(char::is_control);
        let wrong = || format!("a transfer's id must be 1 to {LONGEST_ID} bytes without control characters");
        if sound { Ok(TransferId(id)) } else { Err(Denied::Malformed(wrong())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// From one account to another of the same asset. Legs of one transfer are linked: all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    pub debit: AccountId,
    pub credit: AccountId,
    pub amount: Amount,
}

/// The transfer is held first: what it moves is reserved until it is posted or voided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When it is over by itself. Without one only the truth ends it: that is what a hold needs whose effect
    /// on the world has begun and whose outcome is not known.
    pub expires_at: Option<Timestamp>,
}

/// A transfer that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: TransferId,
    pub legs: Vec<Leg>,
    pub hold: Option<Hold>,
    /// What it is for, in words or as the id of something.
    pub reference: String,
}

impl Order {
    /// With every leg at the row it will be written to; refuses what no state of the accounts could admit.
    pub(crate) fn placed(&self) -> Result<Vec<Leg>, Denied> {
        let wrong = |why: String| Err(Denied::Malformed(format!("transfer {}: {why}", self.id)));
        if self.legs.is_empty() || self.legs.len() > MOST_LEGS {
            return wrong(format!("1 to {MOST_LEGS} legs are needed"));
        }
        if self.reference.len() > LONGEST_REFERENCE {
            return wrong(format!("a reference must be at most {LONGEST_REFERENCE} bytes"));
        }
        for (at, leg) in self.legs.iter().enumerate() {
            if leg.amount.is_zero() {
                return wrong(format!("leg {at} moves nothing"));
            }
            if leg.debit.asset() != leg.credit.asset() {
                return wrong(format!("leg {at} moves {} into {}", leg.debit.asset(), leg.credit.asset()));
            }
        }
        let place = |id: &AccountId| id.row_for(self.id.as_str());
        let legs: Vec<_> = self
            .legs
            .iter()
            .map(|leg| Leg { debit: place(&leg.debit), credit: place(&leg.credit), amount: leg.amount })
            .collect();
        match legs.iter().position(|leg| leg.debit == leg.credit) {
            Some(at) => wrong(format!("leg {at} ends where it begins")),
            None => Ok(legs),
        }
    }
}

/// How a transfer stands. It leaves `Pending` once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Pending,
    Posted,
    /// Given back because somebody said so.
    Voided,
    /// Given back because its time was over.
    Expired,
}

impl State {
    const ALL: [State; 4] = [State::Pending, State::Posted, State::Voided, State::Expired];

    pub const fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Posted => "posted",
            State::Voided => "voided",
            State::Expired => "expired",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// The numbers of a leg's two entries in their accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub debit: u64,
    pub credit: u64,
}

/// A leg that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedLeg {
    pub leg: Leg,
    /// What of it was moved in the end; none as long as it is held.
    pub captured: Option<Amount>,
    pub opened: Places,
    /// Where its hold ended.
    pub ended: Option<Places>,
}

/// A transfer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub id: TransferId,
    pub state: State,
    /// Whether it was held first.
    pub held: bool,
    pub expires_at: Option<Timestamp>,
    pub reference: String,
    pub legs: Vec<BookedLeg>,
    pub opened_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

impl Transfer {
    /// Whether an order asks for this very transfer. When a hold ends is no part of it: whoever asks again
    /// asks later, and would name another moment.
    pub(crate) fn answers(&self, order: &Order, legs: &[Leg]) -> bool {
        self.held == order.hold.is_some()
            && self.reference == order.reference
            && self.legs.len() == legs.len()
            && self.legs.iter().zip(legs).all(|(booked, leg)| booked.leg == *leg)
    }

    /// The entries that it must have left: two a leg, and two more where a hold has ended.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.legs.len() * 4);
        for (at, booked) in self.legs.iter().enumerate() {
            let opening = Moves::opening(self.held, booked.leg.amount);
            entries.extend(self.pair(at, &booked.leg, booked.opened, opening));
            if let Some(ended) = booked.ended {
                let ending = Moves::ending(booked.leg.amount, booked.captured.unwrap_or_default());
                entries.extend(self.pair(at, &booked.leg, ended, ending));
            }
        }
        entries
    }

    fn pair(&self, at: usize, leg: &Leg, places: Places, moves: Moves) -> [Entry; 2] {
        let unplaced = |side| Unplaced::new(&self.id, at, side, moves);
        [
            unplaced(Side::Debit).at(leg.debit.clone(), places.debit),
            unplaced(Side::Credit).at(leg.credit.clone(), places.credit),
        ]
    }

    /// What does not fit within itself: a state without its legs' marks, or marks without the state.
    pub fn inconsistency(&self) -> Option<String> {
        let ended = self.state != State::Pending;
        let whole = |booked: &BookedLeg| match self.state {
            State::Pending => booked.captured.is_none() && booked.ended.is_none(),
            State::Posted if self.held => {
                booked.captured.is_some_and(|part| part <= booked.leg.amount) && booked.ended.is_some()
            }
            State::Posted => booked.captured == Some(booked.leg.amount) && booked.ended.is_none(),
            State::Voided | State::Expired => booked.captured == Some(Amount::ZERO) && booked.ended.is_some(),
        };
        match self.legs.iter().position(|booked| !whole(booked)) {
            Some(at) => Some(format!("leg {at} is not {}", self.state.name())),
            None if self.legs.is_empty() => Some("it has no legs".into()),
            None if self.ended_at.is_some() != ended => Some("it does not say when it ended".into()),
            None if !self.held && !ended => Some("it is pending, but was not held".into()),
            None => None,
        }
    }
}

/// How much of each leg is taken when a hold is posted; what is not taken is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    Full,
    /// One amount a leg, in their order.
    Part(Vec<Amount>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Debit,
    Credit,
}

impl Side {
    pub const fn name(self) -> &'static str {
        match self {
            Side::Debit => "debit",
            Side::Credit => "credit",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Side::Debit, Side::Credit].into_iter().find(|side| side.name() == name)
    }
}

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Moved at once.
    Posted,
    /// Reserved.
    Held,
    /// The hold ended, and at least part of it was moved.
    Captured,
    /// The hold ended, and nothing was moved.
    Released,
}

impl Step {
    const ALL: [Step; 4] = [Step::Posted, Step::Held, Step::Captured, Step::Released];

    pub const fn name(self) -> &'static str {
        match self {
            Step::Posted => "posted",
            Step::Held => "held",
            Step::Captured => "captured",
            Step::Released => "released",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }
}

/// What a step moves on both of its sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moves {
    step: Step,
    pending: i64,
    posted: i64,
}

impl Moves {
    pub(crate) const fn opening(held: bool, amount: Amount) -> Self {
        match held {
            true => Moves { step: Step::Held, pending: amount.signed(), posted: 0 },
            false => Moves { step: Step::Posted, pending: 0, posted: amount.signed() },
        }
    }

    pub(crate) const fn ending(held: Amount, captured: Amount) -> Self {
        let step = if captured.is_zero() { Step::Released } else { Step::Captured };
        Moves { step, pending: -held.signed(), posted: captured.signed() }
    }
}

/// One line of an account: by how much its pending and its posted sum of this side change. Entries of an
/// account are numbered from 1 without gaps and never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub account: AccountId,
    pub seq: u64,
    pub transfer: TransferId,
    pub leg: usize,
    pub side: Side,
    pub step: Step,
    pub pending: i64,
    pub posted: i64,
}

/// An entry that its account has not numbered yet.
pub(crate) struct Unplaced {
    transfer: TransferId,
    leg: usize,
    pub(crate) side: Side,
    step: Step,
    pub(crate) pending: i64,
    pub(crate) posted: i64,
}

impl Unplaced {
    pub(crate) fn new(transfer: &TransferId, leg: usize, side: Side, moves: Moves) -> Self {
        let Moves { step, pending, posted } = moves;
        Unplaced { transfer: transfer.clone(), leg, side, step, pending, posted }
    }

    pub(crate) fn at(self, account: AccountId, seq: u64) -> Entry {
        let Unplaced { transfer, leg, side, step, pending, posted } = self;
        Entry { account, seq, transfer, leg, side, step, pending, posted }
    }
}
