//! Decides how spending is bounded: an owner's budget is the floor of the owner's own account, and inside it
//! lie budgets of organisations, repositories, issues and runs. A reservation holds in all that enclose it, as
//! legs of one transfer: all of them, or none.

use std::fmt;

use oa_contract::{Amount, Asset, Msats, Owner};
use uuid::Uuid;

use crate::{
    account::{AccountId, Kind},
    denied::Denied,
    transfer::{Capture, Hold, Leg, Order, Transfer, TransferId},
};

/// What an owner may spend as long as nobody set anything: 10,000,000,000 msats.
pub const DEFAULT_BUDGET: Msats = match Msats::new(10_000_000_000) {
    Some(msats) => msats,
    None => Msats::MAX,
};

const LONGEST_NAME: usize = 128;

/// What a budget is for, from the widest to the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Owner,
    Organisation,
    Repo,
    Issue,
    Run,
}

impl Level {
    pub const fn name(self) -> &'static str {
        match self {
            Level::Owner => "owner",
            Level::Organisation => "organisation",
            Level::Repo => "repo",
            Level::Issue => "issue",
            Level::Run => "run",
        }
    }
}

/// Where work happens. A repo lies in an organisation and an issue in a repo; a run may lie anywhere, and is
/// known by its id alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub organisation: Option<String>,
    pub repo: Option<String>,
    pub issue: Option<String>,
    pub run: Option<Uuid>,
}

/// One budget of an owner: its level and its name, which says the names of what it lies in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    level: Level,
    name: String,
}

impl Place {
    /// Trimmed names; refuses a gap in the chain and names that cannot be kept.
    pub fn checked(self) -> Result<Place, Denied> {
        let place = Place {
            organisation: name("organisation", self.organisation)?,
            repo: name("repo", self.repo)?,
            issue: name("issue", self.issue)?,
            run: self.run,
        };
        let gap = |inner: &str, outer: &str| Err(Denied::Malformed(format!("{inner} needs {outer}")));
        match &place {
            Place { repo: Some(_), organisation: None, .. } => gap("repo", "organisation"),
            Place { issue: Some(_), repo: None, .. } => gap("issue", "repo"),
            _ => Ok(place),
        }
    }

    /// Every scope that work here lies in, the owner's own first.
    pub fn chain(&self) -> Vec<Scope> {
        let mut chain = vec![Scope { level: Level::Owner, name: String::new() }];
        let mut path = Vec::new();
        let named = [
            (Level::Organisation, &self.organisation),
            (Level::Repo, &self.repo),
            (Level::Issue, &self.issue),
        ];
        for (level, name) in named {
            let Some(name) = name else { break };
            path.push(escaped(name));
            chain.push(Scope { level, name: path.join("/") });
        }
        chain.extend(self.run.map(|run| Scope { level: Level::Run, name: run.to_string() }));
        chain
    }

    /// The narrowest scope that is named: what a budget is set for.
    pub fn scope(&self) -> Scope {
        self.chain().pop().unwrap_or(Scope { level: Level::Owner, name: String::new() })
    }
}

/// Blank is absent.
fn name(level: &str, name: Option<String>) -> Result<Option<String>, Denied> {
    let Some(name) = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    match name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        true => Err(Denied::Malformed(format!(
            "{level} must be at most {LONGEST_NAME} bytes without control characters"
        ))),
        false => Ok(Some(name)),
    }
}

/// So that the separators of a scope's name are never part of a name in it.
fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F").replace('@', "%40")
}

impl Scope {
    pub fn level(&self) -> Level {
        self.level
    }

    /// The account whose floor is the budget: the owner's own money, or a count of what a nested scope uses.
    pub fn account(&self, owner: &Owner) -> Result<AccountId, Denied> {
        match self.level {
            Level::Owner => AccountId::new(Kind::Owner, Asset::msats(), owner.to_string()),
            _ => AccountId::new(Kind::Budget, counted(), format!("{self}@{owner}")),
        }
    }
}

/// `owner`, `repo/acme/site`, `run/0193…`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Owner => f.write_str(Level::Owner.name()),
            level => write!(f, "{}/{}", level.name(), self.name),
        }
    }
}

/// Nested budgets count millisatoshis without holding any: an asset of its own keeps them out of the sums.
fn counted() -> Asset {
    Asset::new("msats.budget").unwrap_or_else(Asset::msats)
}

/// What is to be held for one piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: TransferId,
    pub owner: Owner,
    pub place: Place,
    /// Who would get how many millisatoshis.
    pub payees: Vec<(AccountId, Amount)>,
    pub hold: Hold,
    pub reference: String,
}

impl Reservation {
    /// The accounts of the nested budgets that enclose it, whether or not one was set.
    pub fn nested(&self) -> Result<Vec<AccountId>, Denied> {
        let chain = self.place.chain();
        chain
            .iter()
            .filter(|scope| scope.level != Level::Owner)
            .map(|scope| scope.account(&self.owner))
            .collect()
    }

    /// The transfer that holds it: one leg for each payee, then one for each nested budget that is set.
    pub fn order(&self, set: &[AccountId]) -> Result<Order, Denied> {
        let payer = Scope { level: Level::Owner, name: String::new() }.account(&self.owner)?;
        let total = Amount::sum(self.payees.iter().map(|(_, amount)| *amount));
        let total = total.ok_or_else(|| Denied::Overflow { account: payer.clone() })?;
        let used = AccountId::new(Kind::BudgetUse, counted(), self.owner.to_string())?;
        let paid = self.payees.iter().map(|(payee, amount)| Leg {
            debit: payer.clone(),
            credit: payee.clone(),
            amount: *amount,
        });
        let counted =
            set.iter().map(|budget| Leg { debit: budget.clone(), credit: used.clone(), amount: total });
        Ok(Order {
            id: self.id.clone(),
            legs: paid.chain(counted).collect(),
            hold: Some(self.hold),
            reference: self.reference.clone(),
        })
    }
}

/// The nested budgets that a reservation was held in.
pub fn counted_in(transfer: &Transfer) -> Vec<AccountId> {
    let nested = transfer.legs.iter().map(|booked| &booked.leg.debit);
    nested.filter(|debit| debit.kind() == Kind::Budget).cloned().collect()
}

/// Takes so much for each payee, and the sum of it in every nested budget.
pub fn capture(transfer: &Transfer, paid: &[Amount]) -> Result<Capture, Denied> {
    let nested = counted_in(transfer).len();
    let wrong = || Denied::Malformed(format!("{} has other payees", transfer.id));
    if paid.len() + nested != transfer.legs.len() {
        return Err(wrong());
    }
    let total = Amount::sum(paid.iter().copied()).ok_or_else(wrong)?;
    Ok(Capture::Part(paid.iter().copied().chain(std::iter::repeat_n(total, nested)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(organisation: &str, repo: &str, issue: &str) -> Place {
        let some = |name: &str| Some(name.to_owned());
        Place { organisation: some(organisation), repo: some(repo), issue: some(issue), run: None }
    }

    #[test]
    fn work_lies_in_every_scope_around_it() {
        let run = Uuid::from_u128(7);
        let place = Place { run: Some(run), ..named(" acme ", "site", "12") }.checked().expect("a place");
        let chain: Vec<_> = place.chain().iter().map(Scope::to_string).collect();
        let expected = [
            "owner",
            "organisation/acme",
            "repo/acme/site",
            "issue/acme/site/12",
            "run/00000000-0000-0000-0000-000000000007",
        ];
        assert_eq!(chain, expected);
        assert_eq!(place.scope().level(), Level::Run);
        let anywhere = Place { run: Some(run), ..Place::default() };
        assert_eq!(anywhere.chain().last(), place.chain().last(), "a run is known by its id alone");
    }

    #[test]
    fn a_gap_in_the_chain_is_refused() {
        let said = |place: Place| place.checked().expect_err("denied").to_string();
        assert_eq!(said(named("", "site", "")), "repo needs organisation");
        assert_eq!(said(named("acme", " ", "12")), "issue needs repo");
        assert!(said(named(&"x".repeat(129), "", "")).starts_with("organisation must be at most"));
        assert!(said(named("a\nb", "", "")).starts_with("organisation must be at most"));
    }

    #[test]
    fn no_two_scopes_share_an_account() {
        let owner = Owner::Guest("a@b".into());
        let account = |place: Place| {
            let place = place.checked().expect("a place");
            place.scope().account(&owner).expect("an account").to_string()
        };
        assert_ne!(account(named("a/b", "c", "")), account(named("a", "b/c", "")));
        assert_ne!(account(named("a%2Fb", "", "")), account(named("a/b", "", "")));
        assert_eq!(account(named("x@y", "", "")), "budget/msats.budget/organisation/x%40y@guest:a@b");
        assert_eq!(account(Place::default()), "owner/msats/guest:a@b");
    }
}
