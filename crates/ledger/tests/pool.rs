//! Whatever providers do with a pool, and in whatever order: its shares are worth what it holds, nobody takes out more
//! than their shares are worth, and the books stay at zero. The moves are the very orders that the service gives.

use std::collections::BTreeMap;

use oa_contract::{Amount, Asset, Timestamp};
use oa_ledger::{
    Account, AccountId, Capture, Decision, Denied, Kind, Order, Transfer, TransferId, book,
    pool::{self, PartitionKind, Standing},
};
use proptest::prelude::*;

const SEQUENCES: u32 = 10_000;
const LONGEST: usize = 24;
const PROVIDERS: usize = 3;

#[derive(Clone, Debug)]
enum Act {
    /// Sats at the price of a snapshot that may be some time old.
    Deposit {
        who: usize,
        sats: u64,
        extra_msats: u64,
    },
    Withdraw {
        who: usize,
        shares: u64,
    },
    /// Of the withdrawals that wait, that one is paid, with a fee; or its payout fails.
    Pay {
        which: usize,
        fee_msats: u64,
    },
    Fail {
        which: usize,
        for_good: bool,
    },
    /// A profit or a loss that is nobody's deposit.
    Gain {
        msats: u64,
    },
    Loss {
        msats: u64,
    },
    Commit {
        msats: u64,
    },
    Snapshot,
}

fn act() -> impl Strategy<Value = Act> {
    let who = || 0..PROVIDERS;
    prop_oneof![
        5 => (who(), 1..5_000_u64, 0..3_000_u64)
            .prop_map(|(who, sats, extra_msats)| Act::Deposit { who, sats, extra_msats }),
        5 => (who(), 1..3_000_u64).prop_map(|(who, shares)| Act::Withdraw { who, shares }),
        4 => (0..4_usize, 0..9_000_u64).prop_map(|(which, fee_msats)| Act::Pay { which, fee_msats }),
        2 => (0..4_usize, any::<bool>()).prop_map(|(which, for_good)| Act::Fail { which, for_good }),
        1 => (1..9_000_000_u64).prop_map(|msats| Act::Gain { msats }),
        1 => (1..900_000_u64).prop_map(|msats| Act::Loss { msats }),
        1 => (1..900_000_u64).prop_map(|msats| Act::Commit { msats }),
        2 => Just(Act::Snapshot),
    ]
}

struct Waiting {
    id: String,
    round: u32,
    sats: u64,
}

struct World {
    accounts: pool::Accounts,
    wallet: AccountId,
    book: BTreeMap<AccountId, Account>,
    transfers: BTreeMap<TransferId, Transfer>,
    owed_msats: u64,
    price: u64,
    waiting: Vec<Waiting>,
    named: u32,
}

const NOW: Timestamp = Timestamp::EPOCH;

impl World {
    fn new() -> Self {
        World {
            accounts: pool::Accounts::of("pool", PartitionKind::Llp).expect("accounts"),
            wallet: AccountId::new(Kind::Wallet, Asset::msats(), "main").expect("an account"),
            book: BTreeMap::new(),
            transfers: BTreeMap::new(),
            owed_msats: 0,
            price: 1,
            waiting: Vec::new(),
            named: 0,
        }
    }

    fn account(&self, id: &AccountId) -> Account {
        self.book.get(id).cloned().unwrap_or_else(|| Account::fresh(id.clone()))
    }

    fn write(&mut self, decision: Decision) {
        if let Decision::Write(ruling) = decision {
            self.book.extend(ruling.accounts.into_iter().map(|account| (account.id.clone(), account)));
            self.transfers.insert(ruling.transfer.id.clone(), ruling.transfer);
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), Denied> {
        let rows = book::rows_of(order)?.into_iter().map(|id| (id.clone(), self.account(&id))).collect();
        let known = self.transfers.get(&order.id).cloned();
        self.write(book::open(order, known, &rows, NOW)?);
        Ok(())
    }

    fn end(&mut self, id: &TransferId, capture: Option<&Capture>) {
        let held = self.transfers[id].clone();
        let rows = book::rows_held(&held).into_iter().map(|id| (id.clone(), self.account(&id))).collect();
        let ended = match capture {
            Some(capture) => book::post(held, capture, &rows, NOW),
            None => book::void(held, &rows, NOW),
        };
        self.write(ended.expect("an end of a hold"));
    }

    fn standing(&self) -> Standing {
        let (money, issuance) = (self.account(&self.accounts.money), self.account(&self.accounts.issuance));
        Standing::read(&money, &issuance, self.owed_msats).expect("a standing")
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("n{}", self.named)
    }

    fn lp(who: usize) -> String {
        format!("lp:{who}")
    }

    fn held_by(&self, who: usize) -> u64 {
        let account = self.account(&self.accounts.shares_of(&Self::lp(who)).expect("an account"));
        u64::try_from(account.balances.posted()).expect("shares are never negative")
    }

    fn free_of(&self, who: usize) -> u64 {
        let account = self.account(&self.accounts.shares_of(&Self::lp(who)).expect("an account"));
        u64::try_from(account.available().expect("a floor")).expect("shares are never negative")
    }

    /// What everything is worth that somebody holds freely, in msats, at the exact price.
    fn worth_msats_e6(&self, shares: u64) -> u128 {
        u128::from(self.standing().price_msats_e6().unwrap_or_default()) * u128::from(shares)
    }

    fn move_money(&mut self, msats: u64, into: bool) -> Result<(), Denied> {
        let id = TransferId::new(self.name())?;
        let (debit, credit) = match into {
            true => (self.wallet.clone(), self.accounts.money.clone()),
            false => (self.accounts.money.clone(), self.wallet.clone()),
        };
        let amount = Amount::new(msats).expect("an amount");
        let legs = vec![oa_ledger::Leg { debit, credit, amount }];
        self.order(&Order { id, legs, hold: None, reference: String::new() })
    }

    fn deposit(&mut self, who: usize, sats: u64, extra_msats: u64) {
        let before = self.standing();
        let quoted = pool::quoted_shares(sats, self.price);
        let paid = sats * 1_000 + extra_msats;
        let shares = before.minted(quoted, paid);
        assert!(shares <= quoted);
        let name = self.name();
        let order = pool::deposit(&self.accounts, &self.wallet, &name, &Self::lp(who), paid, shares);
        let order = order.expect("an order");
        self.order(&order).expect("a deposit");
        self.order(&order).expect("the same deposit again");
        let after = self.standing();
        assert_eq!((after.assets_msats, after.shares), (before.assets_msats + paid, before.shares + shares));
        if before.net_msats() > 0 && before.free_shares() > 0 {
            assert!(after.price_msats_e6() >= before.price_msats_e6(), "a deposit diluted the others");
        }
    }

    fn withdraw(&mut self, who: usize, shares: u64) {
        let before = self.standing();
        let free = self.free_of(who);
        let promised = before.promised_sats(shares, shares * self.price);
        let name = self.name();
        let lock = pool::lock(&self.accounts, &name, &Self::lp(who), shares).expect("an order");
        match self.order(&lock) {
            Err(_) => assert!(shares > free, "shares that somebody has were refused"),
            Ok(()) => {
                assert!(shares <= free, "shares were locked that nobody has");
                let worth = u128::from(shares) * u128::from(before.net_msats());
                assert!(
                    u128::from(promised) * 1_000 * u128::from(before.free_shares()) <= worth,
                    "more was promised than the shares are worth"
                );
                self.owed_msats += promised * 1_000;
                self.waiting.push(Waiting { id: name, round: 0, sats: promised });
                let after = self.standing();
                if after.free_shares() > 0 {
                    assert!(after.price_msats_e6() >= before.price_msats_e6(), "a promise cost the others");
                }
            }
        }
    }

    fn pay(&mut self, which: usize, fee_msats: u64) {
        if self.waiting.is_empty() {
            return;
        }
        let which = which % self.waiting.len();
        let Waiting { id, round, sats } = &self.waiting[which];
        let (id, round, msats) = (id.clone(), *round, sats * 1_000);
        let lock = pool::lock_id(&id).expect("an id");
        if msats > 0 {
            let order = pool::payout(&self.accounts, &self.wallet, &id, round, msats, fee_msats);
            let order = order.expect("an order");
            if self.order(&order).is_err() {
                // The rest is committed elsewhere, or a loss has eaten it: it waits.
                return;
            }
            let fee = Amount::new(fee_msats / 2).expect("an amount");
            let mut parts = vec![Amount::new(msats).expect("an amount")];
            parts.extend((fee_msats > 0).then_some(fee));
            self.end(&order.id, Some(&Capture::Part(parts.clone())));
            self.end(&order.id, Some(&Capture::Part(parts)));
        }
        self.end(&lock, Some(&Capture::Full));
        self.owed_msats -= msats;
        self.waiting.remove(which);
    }

    fn fail(&mut self, which: usize, for_good: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let which = which % self.waiting.len();
        let Waiting { id, round, sats } = &mut self.waiting[which];
        let (id, msats, tried) = (id.clone(), *sats * 1_000, *round);
        *round += 1;
        if msats > 0 {
            let order = pool::payout(&self.accounts, &self.wallet, &id, tried, msats, 0).expect("an order");
            if self.order(&order).is_ok() {
                self.end(&order.id, None);
            }
        }
        if for_good {
            self.end(&pool::lock_id(&id).expect("an id"), None);
            self.owed_msats -= msats;
            self.waiting.remove(which);
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Deposit { who, sats, extra_msats } => self.deposit(*who, *sats, *extra_msats),
            Act::Withdraw { who, shares } => self.withdraw(*who, *shares),
            Act::Pay { which, fee_msats } => self.pay(*which, *fee_msats),
            Act::Fail { which, for_good } => self.fail(*which, *for_good),
            Act::Gain { msats } => self.move_money(*msats, true).expect("a gain"),
            Act::Loss { msats } => drop(self.move_money(*msats, false)),
            Act::Commit { msats } => {
                let id = TransferId::new(self.name()).expect("an id");
                let payee = AccountId::new(Kind::Agent, Asset::msats(), "a").expect("an account");
                let order = pool::commitment(&self.accounts, id, &payee, *msats, None, "credit");
                let _ = self.order(&order.expect("an order"));
            }
            Act::Snapshot => self.price = self.standing().price_sats(),
        }
    }

    fn check(&self) {
        let standing = self.standing();
        // The ledger sums to zero, in every asset, posted and pending.
        let mut sums: BTreeMap<String, (i128, i128)> = BTreeMap::new();
        for account in self.book.values() {
            let sum = sums.entry(account.id.asset().to_string()).or_default();
            sum.0 += account.balances.posted();
            sum.1 += account.balances.pending();
            assert!(account.available().is_none_or(|available| available >= 0), "{}", account.id);
        }
        assert!(sums.values().all(|sums| *sums == (0, 0)), "{sums:?}");
        // The shares of all providers are the shares that were issued.
        let held: u64 = (0..PROVIDERS).map(|who| self.held_by(who)).sum();
        assert_eq!(held, standing.shares);
        let free: u64 = (0..PROVIDERS).map(|who| self.free_of(who)).sum();
        assert_eq!(free, standing.free_shares());
        // Shares times price is what is there, less a remainder that is the pool's.
        let (net, worth) = (u128::from(standing.net_msats()) * 1_000_000, self.worth_msats_e6(free));
        assert!(worth <= net, "the shares are worth more than there is");
        assert!(free == 0 || net - worth < u128::from(free), "more than rounding was lost");
        // All of them leaving at once take no more than there is.
        let leaving: u64 =
            (0..PROVIDERS).map(|who| standing.worth_sats(self.free_of(who)).unwrap_or_default()).sum();
        assert!(leaving * 1_000 <= standing.net_msats());
        if standing.net_msats() / 1_000 >= standing.free_shares() && free > 0 {
            assert!(free * standing.price_sats() <= standing.net_msats() / 1_000);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: SEQUENCES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_worth_what_the_pool_holds_whatever_providers_do(
        acts in prop::collection::vec(act(), 1..LONGEST)
    ) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
            world.check();
        }
    }
}

/// Without a loss from outside, whoever comes and goes takes out at most what they brought.
#[test]
fn coming_and_going_never_pays() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: SEQUENCES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let rounds = prop::collection::vec((1..2_000_u64, 1..2_000_u64, any::<bool>()), 1..8);
    let told = runner.run(&rounds, |rounds| {
        let mut world = World::new();
        world.deposit(0, 1_733, 900);
        let (mut brought, mut taken) = (0, 0);
        for (sats, shares, fresh) in rounds {
            world.deposit(1, sats, 0);
            brought += sats;
            if fresh {
                world.price = world.standing().price_sats();
            }
            world.withdraw(1, shares.min(world.free_of(1)).max(1));
            if let Some(waiting) = world.waiting.last() {
                taken += waiting.sats;
            }
            world.pay(0, 0);
            world.check();
        }
        let left = world.free_of(1);
        let rest = world.standing().worth_sats(left).unwrap_or_default();
        prop_assert!(taken + rest <= brought, "{taken} + {rest} of {brought}");
        Ok(())
    });
    told.expect("nobody profits");
}
