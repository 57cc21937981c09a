//! Decides what an account is: whose it is, what it holds, how far below zero it may go, and how an entry
//! changes it.

use std::fmt;

use oa_contract::{Amount, Asset};

use crate::{
    budget::DEFAULT_BUDGET,
    denied::Denied,
    transfer::{Entry, Side, Unplaced},
};

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $kind:ident $name:literal $floor:ident $spread:ident; )+) => {
        /// What an account is for. It says how far a new account may go below zero, and whether so many write to
        /// it at one time that it is spread over several rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $( $(#[doc = $doc])+ $kind, )+ }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),+ }
            }

            const fn has_floor(self) -> bool {
                match self { $(Kind::$kind => kinds!($floor)),+ }
            }

            /// Whether the account is several rows, one of which each transfer chooses by its id.
            pub const fn is_spread(self) -> bool {
                match self { $(Kind::$kind => kinds!($spread)),+ }
            }
        }
    };
    (floored) => { true };
    (open) => { false };
    (spread) => { true };
    (single) => { false };
}

kinds! {
    /// What an owner may spend. Below zero it is what the owner owes; the floor is the owner's budget.
    Owner "owner" floored single;
    /// How much of a nested budget is used. Not money: it holds its own asset.
    Budget "budget" floored single;
    /// The other side of an owner's nested budgets.
    BudgetUse "budget_use" open single;
    /// What a party to exchanges holds of an asset that is no owner.
    Exchange "exchange" floored single;
    /// What a provider has earned and was not yet paid.
    Provider "provider" floored single;
    /// The operator's fees.
    OperatorFee "operator_fee" floored spread;
    /// What a policy adds to prices.
    PolicyAdder "policy_adder" floored spread;
    /// The world outside, seen through one wallet: what came in is below zero here, what went out above.
    Wallet "wallet" open spread;
    /// One partition of a liquidity pool.
    Pool "pool" floored single;
    /// The shares that somebody holds of a pool's partition; the asset says of which.
    Shares "shares" floored single;
    /// Where shares of a pool's partition come from and go to; what is below zero here is outstanding.
    Issuance "issuance" open single;
    /// What an agent has drawn on credit, and how much it may.
    Agent "agent" floored single;
    /// What agents owe one pool. Not money: it holds the asset in which debts are counted.
    Receivable "receivable" open single;
    /// Money that has moved but cannot be told yet whose it is.
    Suspense "suspense" open single;
}

/// Rows of an account of a spread kind. More of them wait less for each other; fewer are summed sooner.
pub const STRIPES: u8 = 16;
const LONGEST_SUBJECT: usize = 640;

/// The name of an account: `<kind>/<asset>/<subject>`, and behind it `~<stripe>` where the kind is spread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId {
    kind: Kind,
    asset: Asset,
    subject: String,
    /// Of a spread kind only; none until a transfer or the caller has chosen one.
    stripe: Option<u8>,
}

impl AccountId {
    /// Refuses a subject that cannot be part of a name.
    pub fn new(kind: Kind, asset: Asset, subject: impl Into<String>) -> Result<Self, Denied> {
        let subject = subject.into();
        let wrong = |why: &str| Err(Denied::Malformed(format!("an account's subject {why}")));
        match subject.as_str() {
            "" => wrong("must not be empty"),
            long if long.len() > LONGEST_SUBJECT => {
                wrong(&format!("must be at most {LONGEST_SUBJECT} bytes"))
            }
            text if text.chars().any(char::is_control) => wrong("must not contain control characters"),
            _ => Ok(AccountId { kind, asset, subject, stripe: None }),
        }
    }

    /// Reads the form that is stored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let name = parts.next()?;
        let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name)?;
        let asset = Asset::new(parts.next()?)?;
        let subject = parts.next()?;
        if !kind.is_spread() {
            return AccountId::new(kind, asset, subject).ok();
        }
        let (subject, stripe) = subject.rsplit_once('~')?;
        let stripe = stripe.parse().ok().filter(|stripe| *stripe < STRIPES)?;
        Some(AccountId { stripe: Some(stripe), ..AccountId::new(kind, asset, subject).ok()? })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn asset(&self) -> &Asset {
        &self.asset
    }

    /// Every row of the account: itself, or all its stripes.
    pub fn stripes(&self) -> Vec<AccountId> {
        match self.kind.is_spread() && self.stripe.is_none() {
            true => (0..STRIPES).map(|stripe| self.at(stripe)).collect(),
            false => vec![self.clone()],
        }
    }

    fn at(&self, stripe: u8) -> AccountId {
        AccountId { stripe: Some(stripe), ..self.clone() }
    }

    /// The row that a transfer writes to: always the same one for the same transfer, so that a repetition
    /// finds it again.
    pub fn row_for(&self, transfer: &str) -> AccountId {
        match self.kind.is_spread() && self.stripe.is_none() {
            // FNV-1a: spreads short ids well, and never changes.
            true => {
                let hash = transfer
                    .bytes()
                    .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
                self.at(((hash ^ (hash >> 16)) % u32::from(STRIPES)) as u8)
            }
            false => self.clone(),
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.name(), self.asset, self.subject)?;
        self.stripe.map_or(Ok(()), |stripe| write!(f, "~{stripe:02}"))
    }
}

/// How far below zero an account may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// So far and no further.
    Limit(Amount),
    /// The account stands for the world, which has no floor.
    Open,
}

/// The four sums of an account. What is pending on the debit side is reserved; what is pending on the credit
/// side is promised, and cannot be spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    pub debits_pending: Amount,
    pub debits_posted: Amount,
    pub credits_pending: Amount,
    pub credits_posted: Amount,
}

impl Balances {
    /// None when a sum would fall below zero or grow beyond what can be kept.
    pub fn changed(self, side: Side, pending: i64, posted: i64) -> Option<Self> {
        Some(match side {
            Side::Debit => Balances {
                debits_pending: self.debits_pending.moved(pending)?,
                debits_posted: self.debits_posted.moved(posted)?,
                ..self
            },
            Side::Credit => Balances {
                credits_pending: self.credits_pending.moved(pending)?,
                credits_posted: self.credits_posted.moved(posted)?,
                ..self
            },
        })
    }

    /// What was posted, with its sign. The sum over all accounts of an asset is zero.
    pub fn posted(self) -> i128 {
        i128::from(self.credits_posted.get()) - i128::from(self.debits_posted.get())
    }

    /// What is pending, with its sign. The sum over all accounts of an asset is zero.
    pub fn pending(self) -> i128 {
        i128::from(self.credits_pending.get()) - i128::from(self.debits_pending.get())
    }
}

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub floor: Floor,
    pub closed: bool,
    pub balances: Balances,
    /// How many entries it has; the next one gets the next number.
    pub entries: u64,
}

impl Account {
    /// As it is before its first entry. An owner begins with the default budget, in millisatoshis.
    pub fn fresh(id: AccountId) -> Self {
        let floor = match (id.kind, id.kind.has_floor()) {
            (_, false) => Floor::Open,
            (Kind::Owner, true) if id.asset == Asset::msats() => Floor::Limit(DEFAULT_BUDGET.into()),
            (_, true) => Floor::Limit(Amount::ZERO),
        };
        Account { id, floor, closed: false, balances: Balances::default(), entries: 0 }
    }

    /// What may still be taken: never negative, and none where there is no floor.
    pub fn available(&self) -> Option<i128> {
        match self.floor {
            Floor::Open => None,
            Floor::Limit(limit) => Some(
                i128::from(limit.get()) + self.balances.posted()
                    - i128::from(self.balances.debits_pending.get()),
            ),
        }
    }

    /// Another floor, unless more than that is used already.
    pub fn with_limit(&self, limit: Amount) -> Result<Account, Denied> {
        let limited = Account { floor: Floor::Limit(limit), ..self.clone() };
        match (self.floor, limited.available()) {
            (Floor::Limit(_), Some(0..)) => Ok(limited),
            (Floor::Limit(_), Some(below)) => {
                let least = i128::from(limit.get()) - below;
                Err(Denied::BelowUse { account: self.id.clone(), least })
            }
            _ => Err(Denied::Malformed(format!("the account {} has no limit to change", self.id))),
        }
    }

    /// Takes no transfers any more. It must be empty, or what it holds would be nobody's.
    pub fn shut(&self) -> Result<Account, Denied> {
        let Balances { debits_pending, credits_pending, .. } = self.balances;
        let empty = self.balances.posted() == 0 && debits_pending.is_zero() && credits_pending.is_zero();
        match empty {
            true => Ok(Account { closed: true, ..self.clone() }),
            false => Err(Denied::NotEmpty { account: self.id.clone() }),
        }
    }

    /// Writes the next entry. Whether the floor holds is asked once, after all entries of a transfer.
    pub(crate) fn write(&mut self, entry: Unplaced) -> Result<Entry, Denied> {
        let beyond = || Denied::Overflow { account: self.id.clone() };
        let changed = self.balances.changed(entry.side, entry.pending, entry.posted).ok_or_else(beyond)?;
        self.entries = self.entries.checked_add(1).ok_or_else(beyond)?;
        self.balances = changed;
        Ok(entry.at(self.id.clone(), self.entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(units: u64) -> Amount {
        Amount::new(units).expect("an amount")
    }

    fn id(kind: Kind, subject: &str) -> AccountId {
        AccountId::new(kind, Asset::msats(), subject).expect("an account")
    }

    #[test]
    fn a_name_is_read_back_as_it_was_written() {
        for kind in Kind::ALL {
            for row in id(*kind, "guest:a/b~03 c").stripes() {
                assert_eq!(AccountId::parse(&row.to_string()), Some(row));
            }
        }
        for wrong in [
            "",
            "owner",
            "owner/msats",
            "owner/msats/",
            "nobody/msats/x",
            "wallet/msats/x",
            "wallet/msats/x~16",
        ] {
            assert_eq!(AccountId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_subject_that_cannot_be_a_name_is_refused() {
        for wrong in [String::new(), "a\nb".into(), "x".repeat(641)] {
            assert!(AccountId::new(Kind::Owner, Asset::msats(), wrong).is_err());
        }
    }

    #[test]
    fn transfers_spread_evenly_and_each_finds_its_row_again() {
        let fees = id(Kind::OperatorFee, "operator");
        let mut met = std::collections::BTreeMap::<_, u32>::new();
        for n in 0..16_000 {
            *met.entry(fees.row_for(&format!("settle:{n}"))).or_default() += 1;
        }
        assert_eq!(met.len(), usize::from(STRIPES));
        assert!(met.values().all(|count| (800..=1_200).contains(count)), "{met:?}");
        assert_eq!(fees.row_for("x"), fees.row_for("x"));
        let chosen = fees.stripes()[3].clone();
        assert_eq!(chosen.row_for("x"), chosen, "a row that was chosen stays");
    }

    #[test]
    fn an_owner_begins_with_the_default_budget_and_everybody_else_with_nothing() {
        let available = |id| Account::fresh(id).available();
        assert_eq!(available(id(Kind::Owner, "user:1")), Some(10_000_000_000));
        let dollars = AccountId::new(Kind::Owner, Asset::new("USD.cents").expect("an asset"), "user:1");
        assert_eq!(available(dollars.expect("an account")), Some(0));
        assert_eq!(available(id(Kind::Provider, "p")), Some(0));
        assert_eq!(available(id(Kind::Wallet, "main")), None);
    }

    #[test]
    fn a_limit_never_falls_below_what_is_used() {
        let mut owner = Account::fresh(id(Kind::Owner, "user:1"));
        owner.balances.debits_posted = amount(70);
        owner.balances.debits_pending = amount(30);
        assert_eq!(owner.with_limit(amount(100)).map(|owner| owner.available()), Ok(Some(0)));
        let denied = owner.with_limit(amount(99)).expect_err("denied");
        assert_eq!(denied, Denied::BelowUse { account: owner.id.clone(), least: 100 });
        assert!(Account::fresh(id(Kind::Wallet, "main")).with_limit(amount(1)).is_err());
    }

    #[test]
    fn only_an_empty_account_is_closed() {
        let mut provider = Account::fresh(id(Kind::Provider, "p"));
        provider.balances.credits_pending = amount(1);
        assert!(provider.shut().is_err());
        provider.balances =
            Balances { credits_posted: amount(5), debits_posted: amount(5), ..Balances::default() };
        assert!(provider.shut().expect("closed").closed);
    }
}
