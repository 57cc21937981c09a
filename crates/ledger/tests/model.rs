//! Any sequence of orders does to the ledger what it does to a model that knows no accounts at all: it keeps
//! a list of transfers and adds everything up again for every question.

use std::collections::BTreeMap;

use oa_contract::{Amount, Asset, Timestamp};
use oa_ledger::{
    Account, AccountId, Accounts, Balances, Capture, Decision, Denied, Entry, Floor, Hold, Kind, Leg, Order,
    Ruling, State, Transfer, TransferId, audit, book,
};
use proptest::prelude::*;

const SEQUENCES: u32 = 10_000;
const LONGEST: usize = 24;

fn amount(units: u64) -> Amount {
    Amount::new(units).expect("an amount")
}

/// Who takes part: two assets, floors and none, and one account that is spread over rows.
fn people() -> Vec<AccountId> {
    let usd = || Asset::new("USD.cents").expect("an asset");
    let id = |kind, asset, subject: &str| AccountId::new(kind, asset, subject).expect("an account");
    vec![
        id(Kind::Owner, Asset::msats(), "user:1"),
        id(Kind::Owner, Asset::msats(), "user:2"),
        id(Kind::Provider, Asset::msats(), "p"),
        id(Kind::OperatorFee, Asset::msats(), "operator"),
        id(Kind::Wallet, Asset::msats(), "main"),
        id(Kind::Owner, usd(), "user:1"),
        id(Kind::Wallet, usd(), "bank"),
    ]
}

/// Taking from one row of a spread account depends on the row; the model does not know rows.
const FEES: usize = 3;
const BEGIN_LIMIT: u64 = 60;

#[derive(Clone, Debug)]
enum Act {
    Open { id: u8, legs: Vec<(usize, usize, u64)>, hold: Option<Option<i64>> },
    Post { id: u8, parts: Option<Vec<u64>> },
    Void { id: u8 },
    Expire { id: u8 },
    Pin { id: u8 },
    Wait { millis: i64 },
    Limit { who: usize, limit: u64 },
    Close { who: usize },
}

fn legs() -> impl Strategy<Value = Vec<(usize, usize, u64)>> {
    // Mostly legs that could be: from an owner or the world to somebody else, of one asset.
    let likely = prop_oneof![
        (0..2_usize, prop_oneof![Just(2_usize), Just(3), Just(4)], 1..40_u64),
        (Just(4_usize), 0..3_usize, 1..40_u64),
        (Just(2_usize), Just(4_usize), 1..40_u64),
        (Just(5_usize), Just(6_usize), 1..40_u64),
        (Just(6_usize), Just(5_usize), 1..40_u64),
    ];
    let any = (0..7_usize, 0..7_usize, 0..40_u64).prop_filter("rows", |leg| leg.0 != FEES);
    prop::collection::vec(prop_oneof![9 => likely, 1 => any], 1..4)
}

fn act() -> impl Strategy<Value = Act> {
    let id = || 0..8_u8;
    let hold = prop_oneof![
        2 => Just(None),
        2 => Just(Some(None)),
        4 => (-1..20_i64).prop_map(|millis| Some(Some(millis))),
    ];
    let parts = prop::option::of(prop::collection::vec(0..40_u64, 1..4));
    prop_oneof![
        8 => (id(), legs(), hold).prop_map(|(id, legs, hold)| Act::Open { id, legs, hold }),
        4 => (id(), parts).prop_map(|(id, parts)| Act::Post { id, parts }),
        2 => id().prop_map(|id| Act::Void { id }),
        2 => id().prop_map(|id| Act::Expire { id }),
        1 => id().prop_map(|id| Act::Pin { id }),
        2 => (0..10_i64).prop_map(|millis| Act::Wait { millis }),
        1 => (0..7_usize, 0..120_u64).prop_map(|(who, limit)| Act::Limit { who, limit }),
        1 => (0..7_usize).prop_filter("rows", |who| *who != FEES && *who != 4 && *who != 6)
            .prop_map(|who| Act::Close { who }),
    ]
}

// ---- the model ----

#[derive(Clone, Debug, PartialEq)]
enum How {
    Pending,
    Moved(Vec<u64>),
    Back { expired: bool },
}

#[derive(Clone, Debug)]
struct Known {
    legs: Vec<(usize, usize, u64)>,
    held: bool,
    ends: Option<i64>,
    how: How,
}

struct Model {
    limits: Vec<Option<u64>>,
    closed: Vec<bool>,
    known: BTreeMap<u8, Known>,
    now: i64,
}

/// What a step ends in, in one word.
type Word = &'static str;

impl Model {
    fn new() -> Self {
        let limits = vec![Some(BEGIN_LIMIT), Some(BEGIN_LIMIT), Some(0), Some(0), None, Some(0), None];
        Model { limits, closed: vec![false; 7], known: BTreeMap::new(), now: 0 }
    }

    /// Posted credits less posted debits, and what is pending on each side.
    fn sums(&self, who: usize) -> (i128, i128, i128) {
        let mut sums = (0, 0, 0);
        for known in self.known.values() {
            for (at, (debit, credit, units)) in known.legs.iter().enumerate() {
                let side = i128::from(*credit == who) - i128::from(*debit == who);
                match &known.how {
                    How::Pending => {
                        sums.1 += i128::from(*debit == who) * i128::from(*units);
                        sums.2 += i128::from(*credit == who) * i128::from(*units);
                    }
                    How::Moved(parts) => sums.0 += side * i128::from(parts[at]),
                    How::Back { .. } => {}
                }
            }
        }
        sums
    }

    fn available(&self, who: usize) -> Option<i128> {
        let (posted, reserved, _) = self.sums(who);
        self.limits[who].map(|limit| i128::from(limit) + posted - reserved)
    }

    fn step(&mut self, act: &Act) -> Word {
        match act {
            Act::Open { id, legs, hold } => self.open(*id, legs, *hold),
            Act::Post { id, parts } => self.post(*id, parts.as_deref()),
            Act::Void { id } => match self.known.get(id).map(|known| &known.how) {
                None => "unknown",
                Some(How::Back { .. }) => "stands",
                Some(How::Moved(_)) => "settled",
                Some(How::Pending) => self.back(*id, false),
            },
            Act::Expire { id } => match self.known.get(id).map(|known| (&known.how, known.ends)) {
                None => "unknown",
                Some((How::Back { expired: true }, _)) => "stands",
                Some((How::Pending, Some(ends))) if ends <= self.now => self.back(*id, true),
                Some((How::Pending, _)) => "not due",
                Some(_) => "settled",
            },
            Act::Pin { id } => match self.known.get_mut(id) {
                None => "unknown",
                Some(known) if known.how != How::Pending => "settled",
                Some(Known { ends: None, .. }) => "stands",
                Some(Known { ends: Some(ends), .. }) if *ends <= self.now => "expired",
                Some(known) => {
                    known.ends = None;
                    "written"
                }
            },
            Act::Wait { millis } => {
                self.now += millis;
                "waited"
            }
            Act::Limit { who, limit } => match self.limits[*who] {
                None => "malformed",
                Some(before) => {
                    self.limits[*who] = Some(*limit);
                    if self.available(*who) < Some(0) {
                        self.limits[*who] = Some(before);
                        return "below use";
                    }
                    "limited"
                }
            },
            Act::Close { who } => match self.sums(*who) {
                (0, 0, 0) => {
                    self.closed[*who] = true;
                    "closed"
                }
                _ => "not empty",
            },
        }
    }

    fn open(&mut self, id: u8, legs: &[(usize, usize, u64)], hold: Option<Option<i64>>) -> Word {
        let asset = |who: usize| who >= 5;
        if legs.iter().any(|(from, to, units)| from == to || *units == 0 || asset(*from) != asset(*to)) {
            return "malformed";
        }
        if let Some(known) = self.known.get(&id) {
            let same = known.legs == legs && known.held == hold.is_some();
            return if same { "stands" } else { "reused" };
        }
        if hold.flatten().is_some_and(|millis| millis <= 0) {
            return "expired";
        }
        if legs.iter().any(|(from, to, _)| self.closed[*from] || self.closed[*to]) {
            return "is closed";
        }
        let how = match hold {
            Some(_) => How::Pending,
            None => How::Moved(legs.iter().map(|leg| leg.2).collect()),
        };
        let ends = hold.flatten().map(|millis| self.now + millis);
        self.known.insert(id, Known { legs: legs.to_vec(), held: hold.is_some(), ends, how });
        if (0..7).any(|who| self.available(who) < Some(0) && self.limits[who].is_some()) {
            self.known.remove(&id);
            return "insufficient";
        }
        "written"
    }

    fn post(&mut self, id: u8, parts: Option<&[u64]>) -> Word {
        let now = self.now;
        let Some(known) = self.known.get_mut(&id) else { return "unknown" };
        let parts = match parts {
            None => known.legs.iter().map(|leg| leg.2).collect(),
            Some(parts) if parts.len() == known.legs.len() => parts.to_vec(),
            Some(_) => return "malformed",
        };
        match &known.how {
            How::Moved(moved) if known.held && *moved == parts => return "stands",
            How::Pending => {}
            _ => return "settled",
        }
        if parts.iter().zip(&known.legs).any(|(part, leg)| *part > leg.2) {
            return "over";
        }
        if parts.iter().all(|part| *part == 0) {
            return "malformed";
        }
        if known.ends.is_some_and(|ends| ends <= now) {
            return "expired";
        }
        known.how = How::Moved(parts);
        "written"
    }

    fn back(&mut self, id: u8, expired: bool) -> Word {
        if let Some(known) = self.known.get_mut(&id) {
            known.how = How::Back { expired };
        }
        "written"
    }
}

// ---- the ledger, with maps for a store ----

#[derive(Default)]
struct Books {
    accounts: Accounts,
    transfers: BTreeMap<TransferId, Transfer>,
    entries: Vec<Entry>,
    now: i64,
}

fn word(denied: &Denied) -> Word {
    match denied {
        Denied::Insufficient { .. } => "insufficient",
        Denied::Closed { .. } => "is closed",
        Denied::Reused { .. } => "reused",
        Denied::Settled { .. } => "settled",
        Denied::Expired { .. } => "expired",
        Denied::NotDue { .. } => "not due",
        Denied::OverCapture { .. } => "over",
        Denied::Overflow { .. } => "overflow",
        Denied::BelowUse { .. } => "below use",
        Denied::NotEmpty { .. } => "not empty",
        Denied::Unknown { .. } => "unknown",
        Denied::Malformed(_) => "malformed",
    }
}

impl Books {
    fn new() -> Self {
        let mut books = Books::default();
        for id in people().into_iter().take(2) {
            let limited = Account::fresh(id).with_limit(amount(BEGIN_LIMIT)).expect("limited");
            books.accounts.insert(limited.id.clone(), limited);
        }
        books
    }

    fn id(id: u8) -> TransferId {
        TransferId::new(format!("t{id}")).expect("an id")
    }

    fn step(&mut self, act: &Act) -> Word {
        self.tried(act).unwrap_or_else(|denied| word(&denied))
    }

    fn tried(&mut self, act: &Act) -> Result<Word, Denied> {
        let now = Timestamp::EPOCH.plus_millis(self.now);
        let decision = match act {
            Act::Open { id, legs, hold } => {
                let people = people();
                let leg = |(from, to, units): &(usize, usize, u64)| Leg {
                    debit: people[*from].clone(),
                    credit: people[*to].clone(),
                    amount: amount(*units),
                };
                let order = Order {
                    id: Self::id(*id),
                    legs: legs.iter().map(leg).collect(),
                    hold: hold.map(|ends| Hold { expires_at: ends.map(|millis| now.plus_millis(millis)) }),
                    reference: "test".into(),
                };
                // Only what the order says it touches, as a store would read it.
                let rows = book::rows_of(&order)?;
                let read = rows.into_iter().filter_map(|id| self.accounts.get_key_value(&id));
                let read: Accounts = read.map(|(id, account)| (id.clone(), account.clone())).collect();
                book::open(&order, self.transfers.get(&order.id).cloned(), &read, now)?
            }
            Act::Post { id, parts: None } => {
                book::post(self.known(*id)?, &Capture::Full, &self.accounts, now)?
            }
            Act::Post { id, parts: Some(parts) } => {
                let capture = Capture::Part(parts.iter().copied().map(amount).collect());
                book::post(self.known(*id)?, &capture, &self.accounts, now)?
            }
            Act::Void { id } => book::void(self.known(*id)?, &self.accounts, now)?,
            Act::Expire { id } => book::expire(self.known(*id)?, &self.accounts, now)?,
            Act::Pin { id } => book::pin(self.known(*id)?, now)?,
            Act::Wait { millis } => {
                self.now += millis;
                return Ok("waited");
            }
            Act::Limit { who, limit } => {
                // A spread account has one limit a row; the model's one is changed on all of them.
                let rows = people()[*who].stripes();
                let rows: Vec<_> =
                    rows.iter().map(|id| self.account(id).with_limit(amount(*limit))).collect();
                for row in rows {
                    let row = row?;
                    self.accounts.insert(row.id.clone(), row);
                }
                return Ok("limited");
            }
            Act::Close { who } => {
                let closed = self.account(&people()[*who]).shut()?;
                self.accounts.insert(closed.id.clone(), closed);
                return Ok("closed");
            }
        };
        Ok(match decision {
            Decision::Stands(_) => "stands",
            Decision::Write(ruling) => {
                self.write(ruling);
                "written"
            }
        })
    }

    fn known(&self, id: u8) -> Result<Transfer, Denied> {
        let id = Self::id(id);
        self.transfers.get(&id).cloned().ok_or(Denied::Unknown { id })
    }

    fn account(&self, id: &AccountId) -> Account {
        self.accounts.get(id).cloned().unwrap_or_else(|| Account::fresh(id.clone()))
    }

    fn write(&mut self, ruling: Ruling) {
        for account in ruling.accounts {
            self.accounts.insert(account.id.clone(), account);
        }
        self.entries.extend(ruling.entries);
        self.transfers.insert(ruling.transfer.id.clone(), ruling.transfer);
    }

    /// The sums of an account over its rows.
    fn sums(&self, who: &AccountId) -> (i128, i128, i128) {
        let mut sums = (0, 0, 0);
        for id in who.stripes() {
            let Balances { debits_pending, credits_pending, .. } = self.account(&id).balances;
            sums.0 += self.account(&id).balances.posted();
            sums.1 += i128::from(debits_pending.get());
            sums.2 += i128::from(credits_pending.get());
        }
        sums
    }

    /// Everything that must always hold, asked with the auditor's own questions.
    fn findings(&self) -> Vec<audit::Finding> {
        let mut findings = Vec::new();
        for account in self.accounts.values() {
            let mut fold = audit::Fold::new(account.id.clone());
            for entry in self.entries.iter().filter(|entry| entry.account == account.id) {
                findings.extend(fold.add(entry).err());
                findings.extend(audit::entry_fits(entry, self.transfers.get(&entry.transfer)));
            }
            findings.extend(fold.compare(account));
        }
        for transfer in self.transfers.values() {
            let at = |wanted: Entry| {
                let here = |entry: &&Entry| entry.account == wanted.account && entry.seq == wanted.seq;
                self.entries.iter().find(here).cloned()
            };
            let found: Vec<_> = transfer.entries().into_iter().map(at).collect();
            findings.extend(audit::transfer_fits(transfer, &found));
        }
        for asset in [Asset::msats(), Asset::new("USD.cents").expect("an asset")] {
            let all = self.accounts.values().filter(|account| *account.id.asset() == asset);
            let sums = all.fold(Balances::default(), |sums, account| {
                let Balances { debits_pending, debits_posted, credits_pending, credits_posted } =
                    account.balances;
                let plus = |a: Amount, b: Amount| a.plus(b).expect("a sum");
                Balances {
                    debits_pending: plus(sums.debits_pending, debits_pending),
                    debits_posted: plus(sums.debits_posted, debits_posted),
                    credits_pending: plus(sums.credits_pending, credits_pending),
                    credits_posted: plus(sums.credits_posted, credits_posted),
                }
            });
            findings.extend(audit::total_fits(&asset, sums));
        }
        findings
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: SEQUENCES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_of_orders_does_what_a_naive_model_says(acts in prop::collection::vec(act(), 1..LONGEST)) {
        let (mut model, mut books) = (Model::new(), Books::new());
        let people = people();
        for (at, act) in acts.iter().enumerate() {
            let before = (books.accounts.clone(), books.transfers.clone(), books.entries.len());
            let (said, done) = (model.step(act), books.step(act));
            prop_assert_eq!(done, said, "step {}: {:?}", at, act);
            if !matches!(said, "written" | "limited" | "closed") {
                let after = (books.accounts.clone(), books.transfers.clone(), books.entries.len());
                prop_assert_eq!(after, before, "step {} changed something: {:?}", at, act);
            }
            for (who, id) in people.iter().enumerate() {
                prop_assert_eq!(books.sums(id), model.sums(who), "step {}: {}", at, id);
                if let Floor::Limit(_) = books.account(&id.stripes()[0]).floor && who != FEES {
                    prop_assert_eq!(books.account(id).available(), model.available(who), "step {}: {}", at, id);
                }
            }
            let findings = books.findings();
            prop_assert!(findings.is_empty(), "step {}: {:?}", at, findings);
        }
        for (id, known) in &model.known {
            let state = match known.how {
                How::Pending => State::Pending,
                How::Moved(_) => State::Posted,
                How::Back { expired: false } => State::Voided,
                How::Back { expired: true } => State::Expired,
            };
            prop_assert_eq!(books.transfers[&Books::id(*id)].state, state);
        }
    }
}
