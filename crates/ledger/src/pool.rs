//! Decides what a share of a pool's partition is worth, and which transfers a deposit, a withdrawal and a payout are.
//! It stands beside the book because both are one rule: what a partition holds is what the book says, and a share is
//! worth its part of that and nothing else. Every division leaves its remainder with the pool.

use oa_contract::{Amount, Asset, Timestamp, canonical};

pub use oa_contract::wire::pools::PartitionKind;

use crate::{
    account::{Account, AccountId, Kind},
    denied::Denied,
    transfer::{Hold, Leg, Order, TransferId},
};

pub const MSATS_PER_SAT: u64 = 1_000;
const E6: u128 = 1_000_000;

/// The accounts of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// What the partition holds.
    pub money: AccountId,
    /// Where its shares come from; what is below zero here is outstanding.
    pub issuance: AccountId,
    asset: Asset,
}

impl Accounts {
    pub fn of(pool_id: &str, partition: PartitionKind) -> Result<Self, Denied> {
        let subject = format!("{pool_id}/{partition}");
        // A hash, because a pool's name may be longer than an asset's; its own asset, so that shares of two pools
        // can never meet in one leg.
        let digest = canonical::sha256_hex(&subject);
        let asset = Asset::new(format!("shares.{}", digest.get(..32).unwrap_or_default()))
            .ok_or_else(|| Denied::Malformed("no asset for the shares".into()))?;
        Ok(Accounts {
            money: AccountId::new(Kind::Pool, Asset::msats(), subject.clone())?,
            issuance: AccountId::new(Kind::Issuance, asset.clone(), subject)?,
            asset,
        })
    }

    /// The shares of one provider.
    pub fn shares_of(&self, lp_id: &str) -> Result<AccountId, Denied> {
        AccountId::new(Kind::Shares, self.asset.clone(), lp_id)
    }
}

/// What a partition holds and owes, as the book has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Realised: what came in, less what went out.
    pub assets_msats: u64,
    /// Promised to withdrawals whose shares are locked: a fixed sum, no matter what the rest is worth.
    pub owed_msats: u64,
    /// Every share that somebody holds, locked ones included.
    pub shares: u64,
    /// Shares of withdrawals that are promised their payout.
    pub locked: u64,
}

impl Standing {
    /// `owed_msats` is what the caller keeps of locked withdrawals; everything else is in the accounts.
    pub fn read(money: &Account, issuance: &Account, owed_msats: u64) -> Option<Self> {
        Some(Standing {
            assets_msats: u64::try_from(money.balances.posted()).ok()?,
            owed_msats,
            shares: u64::try_from(-issuance.balances.posted()).ok()?,
            locked: issuance.balances.credits_pending.get(),
        })
    }

    /// What is left for the shares that are not locked.
    pub const fn net_msats(&self) -> u64 {
        self.assets_msats.saturating_sub(self.owed_msats)
    }

    pub const fn free_shares(&self) -> u64 {
        self.shares.saturating_sub(self.locked)
    }

    pub const fn assets_sats(&self) -> u64 {
        self.assets_msats / MSATS_PER_SAT
    }

    /// The price on the wire: whole sats, at least one.
    pub const fn price_sats(&self) -> u64 {
        match self.net_msats() / MSATS_PER_SAT {
            _ if self.free_shares() == 0 => 1,
            net => match net / self.free_shares() {
                0 => 1,
                price => price,
            },
        }
    }

    /// The exact price: msats for a million shares, rounded down. None while there are no shares.
    pub fn price_msats_e6(&self) -> Option<u64> {
        let price = (u128::from(self.net_msats()) * E6).checked_div(self.free_shares().into())?;
        u64::try_from(price).ok()
    }

    /// What so many free shares are worth, in whole sats. None for more shares than there are.
    pub fn worth_sats(&self, shares: u64) -> Option<u64> {
        let free = self.free_shares();
        if shares > free || free == 0 {
            return None;
        }
        let msats = u128::from(shares) * u128::from(self.net_msats()) / u128::from(free);
        u64::try_from(msats / u128::from(MSATS_PER_SAT)).ok()
    }

    /// How many shares a payment buys: what was quoted, and never so many that those of others would be worth less.
    pub fn minted(&self, quoted: u64, paid_msats: u64) -> u64 {
        let (free, net) = (u128::from(self.free_shares()), u128::from(self.net_msats()));
        if free == 0 || net == 0 {
            return quoted;
        }
        let fair = u128::from(paid_msats) * free / net;
        u64::try_from(fair).map_or(quoted, |fair| fair.min(quoted))
    }

    /// What a withdrawal is promised by the price on the wire, and never more than its shares are worth.
    pub fn promised_sats(&self, shares: u64, by_price: u64) -> u64 {
        self.worth_sats(shares).map_or(by_price, |worth| worth.min(by_price))
    }

    /// How many of a withdrawal's shares come back for what was not taken of its promise: what a deposit of that
    /// would buy now, and never more than there were for it. So nobody waits for a better price at the cost of those
    /// who stay. The promise itself is still counted in this standing.
    pub fn returned(&self, shares: u64, owed_msats: u64, unspent_msats: u64) -> u64 {
        let quoted = (u128::from(shares) * u128::from(unspent_msats)).checked_div(owed_msats.into());
        let quoted = quoted.map_or(shares, |quoted| u64::try_from(quoted).unwrap_or(shares).min(shares));
        self.minted(quoted, unspent_msats)
    }
}

/// Shares that a sum buys at a price; the remainder stays with the pool.
pub const fn quoted_shares(amount_sats: u64, price_sats: u64) -> u64 {
    match price_sats {
        0 => 0,
        price => amount_sats / price,
    }
}

fn amount(units: u64, what: &str) -> Result<Amount, Denied> {
    Amount::new(units).ok_or_else(|| Denied::Malformed(format!("{what} of {units} does not fit")))
}

/// Money that came in, and the shares that it buys. Its name is the deposit's: it is booked once.
pub fn deposit(
    accounts: &Accounts,
    wallet: &AccountId,
    deposit_id: &str,
    lp_id: &str,
    paid_msats: u64,
    shares: u64,
) -> Result<Order, Denied> {
    let mut legs = vec![Leg {
        debit: wallet.clone(),
        credit: accounts.money.clone(),
        amount: amount(paid_msats, "a deposit")?,
    }];
    if shares > 0 {
        let credit = accounts.shares_of(lp_id)?;
        legs.push(Leg { debit: accounts.issuance.clone(), credit, amount: amount(shares, "a mint")? });
    }
    let id = TransferId::new(format!("pool:deposit:{deposit_id}"))?;
    Ok(Order { id, legs, hold: None, reference: deposit_id.to_owned() })
}

/// Shares that nobody can use any more until the withdrawal has ended. It carries no time: only the payout or its
/// certain failure ends it.
pub fn lock(accounts: &Accounts, withdrawal_id: &str, lp_id: &str, shares: u64) -> Result<Order, Denied> {
    let debit = accounts.shares_of(lp_id)?;
    Ok(Order {
        id: lock_id(withdrawal_id)?,
        legs: vec![Leg { debit, credit: accounts.issuance.clone(), amount: amount(shares, "a burn")? }],
        hold: Some(Hold { expires_at: None }),
        reference: withdrawal_id.to_owned(),
    })
}

pub fn lock_id(withdrawal_id: &str) -> Result<TransferId, Denied> {
    TransferId::new(format!("pool:shares:{withdrawal_id}"))
}

/// Money set aside for a payout that is about to be made: what is promised, and what its way may cost.
pub fn payout(
    accounts: &Accounts,
    wallet: &AccountId,
    withdrawal_id: &str,
    round: u32,
    payout_msats: u64,
    most_fee_msats: u64,
) -> Result<Order, Denied> {
    let leg = |units, what| {
        let amount = amount(units, what)?;
        Ok::<_, Denied>(Leg { debit: accounts.money.clone(), credit: wallet.clone(), amount })
    };
    let mut legs = vec![leg(payout_msats, "a payout")?];
    if most_fee_msats > 0 {
        legs.push(leg(most_fee_msats, "a fee")?);
    }
    Ok(Order {
        id: payout_id(withdrawal_id, round)?,
        legs,
        hold: Some(Hold { expires_at: None }),
        reference: withdrawal_id.to_owned(),
    })
}

pub fn payout_id(withdrawal_id: &str, round: u32) -> Result<TransferId, Denied> {
    TransferId::new(format!("pool:payout:{withdrawal_id}:{round}"))
}

/// Which withdrawal a payout is of.
pub fn payout_of(transfer_id: &str) -> Option<&str> {
    transfer_id.strip_prefix("pool:payout:")?.rsplit_once(':').map(|(withdrawal_id, _)| withdrawal_id)
}

/// Capacity of a partition that is promised to somebody for a while: how credit draws on the credit partition. The
/// holder captures or releases it like any other hold.
pub fn commitment(
    money: &AccountId,
    id: TransferId,
    payee: &AccountId,
    msats: u64,
    expires_at: Option<Timestamp>,
    reference: &str,
) -> Result<Order, Denied> {
    let amount = amount(msats, "a commitment")?;
    Ok(Order {
        id,
        legs: vec![Leg { debit: money.clone(), credit: payee.clone(), amount }],
        hold: Some(Hold { expires_at }),
        reference: reference.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(assets_sats: u64, owed_sats: u64, shares: u64, locked: u64) -> Standing {
        Standing { assets_msats: assets_sats * 1_000, owed_msats: owed_sats * 1_000, shares, locked }
    }

    #[test]
    fn the_first_deposit_buys_at_one_sat_a_share() {
        let empty = Standing::default();
        assert_eq!((empty.price_sats(), empty.price_msats_e6()), (1, None));
        assert_eq!(empty.minted(quoted_shares(2_500, 1), 2_500_000), 2_500);
    }

    #[test]
    fn a_deposit_never_makes_the_shares_of_others_worth_less() {
        // 1.9 sats a share: the price on the wire is 1, which would give away almost half.
        let rich = standing(1_900, 0, 1_000, 0);
        assert_eq!((rich.price_sats(), rich.price_msats_e6()), (1, Some(1_900_000_000)));
        assert_eq!(rich.minted(quoted_shares(100, 1), 100_000), 52);
        // What was quoted is never exceeded, even when shares have become cheaper since.
        assert_eq!(standing(900, 0, 1_000, 0).minted(100, 100_000), 100);
    }

    #[test]
    fn a_withdrawal_is_never_promised_more_than_its_shares_are_worth() {
        let poor = standing(999, 0, 1_000, 0);
        assert_eq!(poor.price_sats(), 1);
        assert_eq!(poor.promised_sats(1_000, 1_000), 999);
        assert_eq!(poor.promised_sats(1_001, 1_001), 1_001, "the lock refuses it, not the price");
        assert_eq!(standing(1_900, 0, 1_000, 0).promised_sats(10, 10), 10);
    }

    #[test]
    fn whoever_comes_and_goes_at_once_loses_less_than_a_share_and_a_sat() {
        // 1.9 sats a share: the price on the wire would take 48 of these 100 sats away.
        let before = standing(1_900, 0, 1_000, 0);
        let bought = before.minted(quoted_shares(100, 1), 100_000);
        let after = standing(2_000, 0, 1_000 + bought, 0);
        assert_eq!((bought, after.worth_sats(bought)), (52, Some(98)));
    }

    #[test]
    fn what_is_not_taken_of_a_promise_buys_shares_again_and_never_more_than_there_were() {
        // 1000 shares stay at one sat; 500 left for 500 sats, of which 10 were not needed.
        let same = standing(1_500, 500, 1_500, 500);
        assert_eq!(same.returned(500, 500_000, 10_000), 10);
        assert_eq!(same.returned(500, 500_000, 0), 0);
        assert_eq!(same.returned(500, 500_000, 500_000), 500);
        // Shares have doubled since: what was promised buys half of them.
        let risen = standing(2_500, 500, 1_500, 500);
        assert_eq!(risen.returned(500, 500_000, 500_000), 250);
        // They have halved: there were no more.
        let fallen = standing(1_000, 500, 1_500, 500);
        assert_eq!(fallen.returned(500, 500_000, 500_000), 500);
        // Nobody else is there.
        assert_eq!(standing(500, 500, 500, 500).returned(500, 500_000, 500_000), 500);
    }

    #[test]
    fn what_is_promised_is_nobody_elses() {
        let promised = standing(1_000, 400, 1_000, 500);
        assert_eq!((promised.net_msats(), promised.free_shares()), (600_000, 500));
        assert_eq!((promised.price_sats(), promised.price_msats_e6()), (1, Some(1_200_000_000)));
        assert_eq!(promised.worth_sats(500), Some(600));
    }

    #[test]
    fn numbers_as_large_as_they_come_neither_wrap_nor_panic() {
        let huge = Standing { assets_msats: u64::MAX, owed_msats: 0, shares: u64::MAX, locked: 0 };
        assert_eq!(huge.price_sats(), 1);
        assert_eq!(huge.worth_sats(u64::MAX), Some(u64::MAX / 1_000));
        assert_eq!(huge.minted(u64::MAX, u64::MAX), u64::MAX);
        let dear = Standing { shares: 1, ..huge };
        assert_eq!(dear.price_msats_e6(), None);
    }

    #[test]
    fn each_partition_has_money_and_shares_of_its_own() {
        let [llp, cep] = [PartitionKind::Llp, PartitionKind::Cep]
            .map(|kind| Accounts::of("pool", kind).expect("accounts"));
        assert_eq!(llp.money.to_string(), "pool/msats/pool/llp");
        assert_ne!(llp.issuance.asset(), cep.issuance.asset());
    }
}
