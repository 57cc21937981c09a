//! Decides how an exchange moves: two legs of one transfer, each in its own asset, held, posted and voided together.
//! Nobody's word makes money: a side that cannot pay is a refusal before anything is written.

use oa_contract::{
    Amount, Asset, Code, Fault, Owner, Refusal, Stop, Timestamp,
    wire::fx::{FxMoney, FxQuote, Rfq},
};
use oa_ledger::{
    Account, AccountId, Capture, Denied, Floor, Hold, Kind, Leg, Order, State, TransferId, budget::Place,
};
use oa_store::{
    Tx,
    tables::{budgets, ledger},
};

use super::{policy, score};

/// What every party may pay with where callers are believed and nobody has set anything.
const LENIENT_LIMIT: u64 = 10_000_000_000;

/// The account of a party: an owner's own money, or an exchange account under any other name.
pub fn account(holder_id: &str, asset: &str, unit: &str) -> Result<AccountId, Stop> {
    let asset = policy::ledger_asset(asset, unit)
        .ok_or_else(|| Refusal::invalid(format!("{asset} in {unit} cannot be an account's asset")))?;
    let kind = if Owner::parse(holder_id).is_some() { Kind::Owner } else { Kind::Exchange };
    Ok(AccountId::new(kind, asset, holder_id)?)
}

/// The transfer of one exchange. `number` tells the holds of one exchange apart.
#[derive(Clone, Debug)]
pub struct Legs {
    pub id: TransferId,
    legs: Vec<Leg>,
    reference: String,
    valid_until: Timestamp,
}

fn amount(money: &FxMoney) -> Result<Amount, Fault> {
    Amount::new(money.amount).ok_or_else(|| Fault::msg("a kept amount of an exchange does not fit"))
}

pub async fn of(tx: &mut Tx, rfq: &Rfq, quote: &FxQuote, number: u64) -> Result<Legs, Stop> {
    let side = |from: &str, to: &str, money: &FxMoney| -> Result<Leg, Stop> {
        Ok(Leg {
            debit: account(from, &money.asset, &money.unit)?,
            credit: account(to, &money.asset, &money.unit)?,
            amount: amount(money)?,
        })
    };
    let mut legs = vec![
        side(&rfq.requester_id, &quote.provider_id, &quote.sell)?,
        side(&quote.provider_id, &rfq.requester_id, &quote.buy)?,
    ];
    legs.extend(nested(tx, rfq, &legs[0]).await?);
    let job_hash = score::job_hash(&rfq.rfq_id, &quote.quote_id);
    let valid_until = i64::try_from(quote.valid_until_unix).unwrap_or(i64::MAX);
    Ok(Legs {
        id: TransferId::new(format!("fx:{job_hash}:{number}"))?,
        legs,
        reference: rfq.rfq_id.clone(),
        valid_until: Timestamp::from_unix_seconds(valid_until),
    })
}

/// The budget that the request names counts what is sold, where it was set for this owner and counts millisatoshis.
async fn nested(tx: &mut Tx, rfq: &Rfq, sold: &Leg) -> Result<Option<Leg>, Stop> {
    let counted = Asset::new("msats.budget").filter(|_| *sold.debit.asset() == Asset::msats());
    let (Some(counted), true) = (counted, sold.debit.kind() == Kind::Owner) else { return Ok(None) };
    let name = format!("{}@{}", rfq.budget_scope_id, rfq.requester_id);
    let Ok(budget) = AccountId::new(Kind::Budget, counted.clone(), name) else { return Ok(None) };
    if ledger::find(tx, &budget).await?.is_none() {
        return Ok(None);
    }
    let used = AccountId::new(Kind::BudgetUse, counted, rfq.requester_id.as_str())?;
    Ok(Some(Leg { debit: budget, credit: used, amount: sold.amount }))
}

impl Legs {
    /// Holds both sides until the quote's time is over, or says which one cannot pay.
    pub async fn hold(&self, tx: &mut Tx, lenient: bool, now: Timestamp) -> Result<(), Stop> {
        let order = Order {
            id: self.id.clone(),
            legs: self.legs.clone(),
            hold: Some(Hold { expires_at: Some(self.valid_until) }),
            reference: self.reference.clone(),
        };
        ledger::hold_still(tx, &order).await?;
        for (at, leg) in self.legs.iter().enumerate() {
            if lenient && at < 2 {
                believe(tx, &leg.debit).await?;
            }
            let budgeted = at == 0 && self.legs.len() > 2;
            let account = ledger::account(tx, &leg.debit).await?;
            let given = lenient || at >= 2 || budgeted || is_granted(tx, &account).await?;
            // What nobody has granted may still have been earned.
            let available = match given {
                true => account.available(),
                false => Some(earned(&account)),
            };
            if available.is_some_and(|available| available < i128::from(leg.amount.get())) {
                return Err(insufficient(at).into());
            }
        }
        match ledger::transfer(tx, &order, now).await {
            Ok(_) => Ok(()),
            // Whose balance it is is not told.
            Err(Stop::Refusal(refusal)) if refusal.code != Code::InvalidRequest => {
                Err(insufficient(usize::MAX).into())
            }
            Err(stop) => Err(stop),
        }
    }
}

/// An owner exchanges within a budget or a limit that an operator has set, or with what it has: the budget that every owner
/// begins with is for work, and whoever names an owner here makes no money of it.
pub(super) async fn is_granted(tx: &mut Tx, account: &Account) -> Result<bool, Stop> {
    let payer = &account.id;
    if payer.kind() != Kind::Owner || *payer.asset() != Asset::msats() {
        return Ok(true);
    }
    if account.floor != Account::fresh(payer.clone()).floor {
        return Ok(true);
    }
    let name = payer.to_string();
    let Some(owner) = name.splitn(3, '/').nth(2).and_then(Owner::parse) else { return Ok(false) };
    Ok(budgets::get(tx, &owner, &Place::default().scope()).await?.is_some())
}

/// What an account has beyond what anybody lets it owe.
pub(super) fn earned(account: &Account) -> i128 {
    account.balances.posted() - i128::from(account.balances.debits_pending.get())
}

/// A party that nobody has set a limit for gets the reference's.
async fn believe(tx: &mut Tx, payer: &AccountId) -> Result<(), Stop> {
    if ledger::account(tx, payer).await?.floor == Floor::Limit(Amount::ZERO)
        && let Some(limit) = Amount::new(LENIENT_LIMIT)
    {
        ledger::set_limit(tx, payer, limit).await?;
    }
    Ok(())
}

fn insufficient(leg: usize) -> Refusal {
    let reason_code = match leg {
        0 => "requester_cannot_pay",
        1 => "provider_cannot_pay",
        _ => "budget_exceeded",
    };
    Refusal { reason_code: Some(reason_code), ..Refusal::forbidden("insufficient treasury budget") }
}

/// Whether the hold can still be posted.
pub async fn stands(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<bool, Stop> {
    let held = ledger::get(tx, &TransferId::new(hold_id)?).await?;
    Ok(held.is_some_and(|held| held.state == State::Pending && held.expires_at.is_none_or(|at| at > now)))
}

pub async fn post(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<(), Stop> {
    ledger::post(tx, &TransferId::new(hold_id)?, &Capture::Full, now).await?;
    Ok(())
}

/// Gives back both sides, unless that has happened.
pub async fn void(tx: &mut Tx, hold_id: &str, now: Timestamp) -> Result<(), Stop> {
    ledger::void(tx, &TransferId::new(hold_id)?, now).await?;
    Ok(())
}

/// Two parties of one name are one account, and nothing would move.
pub fn apart(rfq: &Rfq, provider_id: &str) -> Result<(), Denied> {
    match rfq.requester_id == provider_id {
        true => Err(Denied::Malformed("a requester cannot be the provider of its own exchange".into())),
        false => Ok(()),
    }
}
