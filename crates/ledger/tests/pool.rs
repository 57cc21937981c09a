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
    /// Strictly for what the shares are worth, the way included; leniently by the price of the snapshot, the way
    /// being the pool's.
    Withdraw {
        who: usize,
        shares: u64,
        strict: bool,
    },
    /// Of the withdrawals that wait, that one is paid, with a fee of so many hundredths of what its way may cost; or
    /// its payout fails.
    Pay {
        which: usize,
        spent: u64,
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
        5 => (who(), 1..3_000_u64, prop::bool::weighted(0.8))
            .prop_map(|(who, shares, strict)| Act::Withdraw { who, shares, strict }),
        4 => (0..4_usize, 0..101_u64).prop_map(|(which, spent)| Act::Pay { which, spent }),
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
    shares: u64,
    owed_msats: u64,
    strict: bool,
}

/// What the way of a leniently promised payout may cost the pool, as the service has it.
const LENIENT_WAY_MSATS: u64 = 5_000;

/// What the way of a payout may cost whoever leaves: half a hundredth, at least five sats.
fn way_sats(worth: u64) -> u64 {
    (worth / 200).max(5)
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

    fn withdraw(&mut self, who: usize, shares: u64, strict: bool) {
        let before = self.standing();
        let free = self.free_of(who);
        let by_price = shares * self.price;
        let (owed_sats, sats) = match strict {
            true => {
                let worth = before.worth_sats(shares).unwrap_or(by_price);
                (worth, worth.saturating_sub(way_sats(worth)))
            }
            false => (before.promised_sats(shares, by_price), before.promised_sats(shares, by_price)),
        };
        if strict && sats == 0 {
            // It is refused: its way may cost all that it is worth.
            return;
        }
        let owed_msats = owed_sats * 1_000;
        let name = self.name();
        let lock = pool::lock(&self.accounts, &name, &Self::lp(who), shares).expect("an order");
        match self.order(&lock) {
            Err(_) => assert!(shares > free, "shares that somebody has were refused"),
            Ok(()) => {
                assert!(shares <= free, "shares were locked that nobody has");
                let worth = u128::from(shares) * u128::from(before.net_msats());
                let of_all = u128::from(owed_msats) * u128::from(before.free_shares());
                assert!(of_all <= worth, "more was promised than the shares are worth");
                if strict {
                    let sat = 1_000 * u128::from(before.free_shares());
                    assert!(
                        worth - of_all < sat,
                        "a sat or more of what the shares are worth was not promised"
                    );
                }
                self.owed_msats += owed_msats;
                self.waiting.push(Waiting { id: name, round: 0, sats, shares, owed_msats, strict });
                let after = self.standing();
                if after.free_shares() > 0 {
                    assert!(after.price_msats_e6() >= before.price_msats_e6(), "a promise cost the others");
                }
            }
        }
    }

    /// Ends the lock of a withdrawal: what was not taken of its promise buys shares again. Whoever stays loses
    /// nothing by it.
    fn unlock(&mut self, which: usize, taken_msats: u64, before: Standing, way_is_the_pools: bool) {
        let Waiting { id, shares, owed_msats, .. } = self.waiting.remove(which);
        let back = before.returned(shares, owed_msats, owed_msats.saturating_sub(taken_msats));
        let lock = pool::lock_id(&id).expect("an id");
        match shares - back {
            0 => self.end(&lock, None),
            burned => {
                let burned = Capture::Part(vec![Amount::new(burned).expect("an amount")]);
                self.end(&lock, Some(&burned));
                self.end(&lock, Some(&burned));
            }
        }
        self.owed_msats -= owed_msats;
        let after = self.standing();
        let others = before.free_shares() > 0 && before.net_msats() > 0;
        if others && !way_is_the_pools {
            assert!(after.price_msats_e6() >= before.price_msats_e6(), "whoever stays pays for who leaves");
        }
    }

    fn pay(&mut self, which: usize, spent: u64) {
        if self.waiting.is_empty() {
            return;
        }
        let which = which % self.waiting.len();
        let before = self.standing();
        let Waiting { id, round, sats, owed_msats, strict, .. } = &self.waiting[which];
        let (id, round, msats, strict) = (id.clone(), *round, sats * 1_000, *strict);
        let most = if strict { owed_msats - msats } else { LENIENT_WAY_MSATS };
        let fee = most * spent / 100;
        if msats > 0 {
            let order = pool::payout(&self.accounts, &self.wallet, &id, round, msats, most);
            let order = order.expect("an order");
            if self.order(&order).is_err() {
                // The rest is committed elsewhere, or a loss has eaten it: it waits.
                return;
            }
            let mut parts = vec![Amount::new(msats).expect("an amount")];
            parts.extend((most > 0).then(|| Amount::new(fee).expect("an amount")));
            self.end(&order.id, Some(&Capture::Part(parts.clone())));
            self.end(&order.id, Some(&Capture::Part(parts)));
        }
        // A loss that has eaten what others had is no payout's doing.
        let eaten = before.assets_msats < before.owed_msats;
        self.unlock(which, msats + fee, before, !strict || eaten);
    }

    fn fail(&mut self, which: usize, for_good: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let which = which % self.waiting.len();
        let before = self.standing();
        let Waiting { id, round, sats, .. } = &mut self.waiting[which];
        let (id, msats, tried) = (id.clone(), *sats * 1_000, *round);
        *round += 1;
        if msats > 0 {
            let order = pool::payout(&self.accounts, &self.wallet, &id, tried, msats, 0).expect("an order");
            if self.order(&order).is_ok() {
                self.end(&order.id, None);
            }
        }
        if for_good {
            self.unlock(which, 0, before, before.assets_msats < before.owed_msats);
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Deposit { who, sats, extra_msats } => self.deposit(*who, *sats, *extra_msats),
            Act::Withdraw { who, shares, strict } => self.withdraw(*who, *shares, *strict),
            Act::Pay { which, spent } => self.pay(*which, *spent),
            Act::Fail { which, for_good } => self.fail(*which, *for_good),
            Act::Gain { msats } => self.move_money(*msats, true).expect("a gain"),
            Act::Loss { msats } => drop(self.move_money(*msats, false)),
            Act::Commit { msats } => {
                let id = TransferId::new(self.name()).expect("an id");
                let payee = AccountId::new(Kind::Agent, Asset::msats(), "a").expect("an account");
                let order = pool::commitment(&self.accounts.money, id, &payee, *msats, None, "credit");
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
    let rounds =
        prop::collection::vec((1..2_000_u64, 1..2_000_u64, any::<bool>(), any::<bool>(), 0..101_u64), 1..8);
    let told = runner.run(&rounds, |rounds| {
        let mut world = World::new();
        world.deposit(0, 1_733, 900);
        let others = 1_733_900_u128;
        let (mut brought, mut taken) = (0, 0);
        for (sats, shares, fresh, strict, spent) in rounds {
            world.deposit(1, sats, 0);
            brought += sats;
            if fresh {
                world.price = world.standing().price_sats();
            }
            world.withdraw(1, shares.min(world.free_of(1)).max(1), strict);
            // Who earns the fee is whoever leaves. Leniently the pool bears it, so there it costs nothing here.
            if let Some(waiting) = world.waiting.last() {
                let way = if strict { waiting.owed_msats - waiting.sats * 1_000 } else { 0 };
                taken += waiting.sats * 1_000 + way * spent / 100;
            }
            world.pay(0, if strict { spent } else { 0 });
            world.check();
        }
        let left = world.free_of(1);
        let rest = world.standing().worth_sats(left).unwrap_or_default();
        prop_assert!(taken + rest * 1_000 <= brought * 1_000, "{taken} + {rest} of {brought}");
        let stays = world.held_by(0);
        let worth = world.worth_msats_e6(stays) / 1_000_000;
        prop_assert!(worth + u128::from(stays) >= others, "{worth} msats of {others} are left to who stayed");
        Ok(())
    });
    told.expect("nobody profits");
}
