//! Decides how a payment is begun and ended, whoever wants it: reserve, act, record. What is reserved is pinned, and
//! only what the wallet says ends it.
//!
//! A lane calls [`begin`] in the transaction of its own ruling, [`super::desk::Desk::drive`] after that has been
//! kept, and [`outcome`] whenever it likes. The payment's id is the lane's own and says what is paid for, so that
//! beginning twice is paying once.

use oa_contract::{Amount, Asset, Fault, Msats, Owner, Refusal, Stop, Timestamp, canonical::canonical_hash};
use oa_ledger::{
    AccountId, Denied, Hold, Kind, Leg, Order as Transfer, State, TransferId,
    budget::{Place, Reservation},
};
use oa_lightning::{Paid, PayOrder, PaymentRef, Trouble, WalletError};
use oa_store::{
    Key, Tx,
    tables::{
        budgets, ledger,
        liquidity::{self as table, PaymentRow, PaymentStatus},
    },
};
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use super::lanes::Lane;

/// A payment that was not heard of so long after its last moment never happens: clocks differ by less.
pub const GRACE_SECONDS: i64 = 60;
/// Nobody asks a wallet less often than this.
const LONGEST_PAUSE_SECONDS: i64 = 300;
/// An error's words, so far.
const LONGEST_MESSAGE: usize = 1_000;

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Order {
    /// Says what is paid for. The same for the same thing, for ever.
    pub payment_id: String,
    pub lane: Lane,
    /// Under which the wallet is asked (§1.5).
    pub request_id: String,
    pub invoice: String,
    /// None where the invoice was believed without being read whole.
    pub payment_hash: Option<String>,
    pub host: String,
    pub amount: Msats,
    pub max_fee: Msats,
    pub payer: Payer,
    pub run_id: Option<String>,
    pub trajectory_hash: Option<String>,
    /// What else makes it the same payment; [`Order::fingerprint`] where the lane has none of its own.
    pub fingerprint: Option<String>,
}

/// Whose money it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payer {
    /// An owner's, within the owner's budget and those around the run.
    Owner(Owner),
    /// Of this account.
    Account(AccountId),
    /// The lane has set it aside under this hold, and ends that itself.
    Lane(String),
}

impl Payer {
    /// The operator pays where a credential is bound to nobody and names nobody.
    pub fn operator() -> Result<Self, Denied> {
        Ok(Payer::Account(AccountId::new(Kind::Suspense, Asset::msats(), "operator")?))
    }

    pub fn account(&self) -> Result<Option<AccountId>, Denied> {
        match self {
            Payer::Owner(owner) => AccountId::new(Kind::Owner, Asset::msats(), owner.to_string()).map(Some),
            Payer::Account(account) => Ok(Some(account.clone())),
            Payer::Lane(_) => Ok(None),
        }
    }

    /// Reads the form that is stored.
    pub fn of_account(text: &str) -> Option<Self> {
        let account = AccountId::parse(text)?;
        let owner = text.strip_prefix("owner/msats/").and_then(Owner::parse);
        Some(owner.map_or(Payer::Account(account), Payer::Owner))
    }
}

impl Order {
    pub fn fingerprint(&self) -> Result<String, Denied> {
        if let Some(fingerprint) = &self.fingerprint {
            return Ok(fingerprint.clone());
        }
        let payer = self.payer.account()?.map(|account| account.to_string());
        Ok(canonical_hash(&json!({
            "lane": self.lane.name(), "request_id": self.request_id, "invoice": self.invoice, "host": self.host,
            "amount_msats": self.amount, "max_fee_msats": self.max_fee, "payer": payer,
            "run_id": self.run_id, "trajectory_hash": self.trajectory_hash,
        })))
    }

    /// What the transaction that begins it must hold.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = vec![key(&self.payment_id)];
        keys.extend(self.payment_hash.as_ref().map(|hash| Key::text("payment_hash", hash)));
        keys
    }
}

/// What the transaction that ends a payment holds.
pub fn key(payment_id: &str) -> Key {
    Key::text("payment", payment_id)
}

/// What the moment adds to an order.
#[derive(Clone, Debug)]
pub struct Terms {
    pub now: Timestamp,
    /// Whose books the wallet's money is in.
    pub wallet_id: String,
    /// How long the wallet may take to begin, and nobody else asks it.
    pub patience_ms: i64,
}

/// A payment that was begun, now or before.
#[derive(Clone, Debug)]
pub struct Begun {
    pub payment: PaymentRow,
    /// It was this very call: whoever has this asks the wallet.
    pub fresh: bool,
}

/// Begins a payment: what it may cost is held, and its row is there. The same order again is answered with what
/// stands; another order of the same id is a conflict, and so is an invoice that is paid or being paid already.
pub async fn begin(tx: &mut Tx, order: &Order, terms: &Terms) -> Result<Begun, Stop> {
    let fingerprint = order.fingerprint()?;
    if let Some(payment) = table::payment(tx, &order.payment_id).await? {
        return match payment.fingerprint == fingerprint {
            true => Ok(Begun { payment, fresh: false }),
            false => Err(Refusal::conflict("this payment was begun with other content").into()),
        };
    }
    if let Some(hash) = &order.payment_hash
        && let Some(other) = table::payment_of_hash(tx, hash).await?
    {
        let how = if other.status.is_final() { "was paid already" } else { "is being paid already" };
        return Err(Refusal::conflict(format!("the invoice {how}, as {}", other.payment_id)).into());
    }
    let hold_id = hold(tx, order, terms).await?;
    let not_after = terms.now.plus_millis(terms.patience_ms);
    let payment = PaymentRow {
        payment_id: order.payment_id.clone(),
        lane: order.lane.name().into(),
        fingerprint,
        request_id: order.request_id.clone(),
        wallet_id: terms.wallet_id.clone(),
        invoice: order.invoice.clone(),
        payment_hash: order.payment_hash.clone(),
        host: order.host.clone(),
        amount: order.amount,
        max_fee: order.max_fee,
        payer: order.payer.account()?.map(|account| account.to_string()),
        hold_id: match &order.payer {
            Payer::Lane(hold_id) => Some(hold_id.clone()),
            _ => hold_id.map(|id| id.to_string()),
        },
        run_id: order.run_id.clone(),
        trajectory_hash: order.trajectory_hash.clone(),
        status: PaymentStatus::InFlight,
        asks: 1,
        next_ask_at: Some(not_after),
        not_after,
        started_at: terms.now,
        completed_at: None,
        latency_ms: None,
        wallet_response: None,
        wallet_receipt_sha256: None,
        preimage_sha256: None,
        paid_at_ms: None,
        settled: None,
        fee: None,
        error_code: None,
        error_message: None,
        updated_at: terms.now,
    };
    table::put_payment(tx, &payment).await?;
    Ok(Begun { payment, fresh: true })
}

/// Where a payment stands; none when it was never begun.
pub async fn outcome(tx: &mut Tx, payment_id: &str) -> Result<Option<PaymentRow>, Stop> {
    table::payment(tx, payment_id).await
}

/// Holds what a payment may cost, without a time: only the wallet's word ends it.
async fn hold(tx: &mut Tx, order: &Order, terms: &Terms) -> Result<Option<TransferId>, Stop> {
    let parts = parts(order.amount, order.max_fee);
    let Some(account) = order.payer.account()?.filter(|_| !parts.is_empty()) else { return Ok(None) };
    let id = TransferId::new(format!("payment:{}", order.payment_id))?;
    let wallet = wallet_account(&terms.wallet_id)?;
    let reference = format!("{} for {}", order.request_id, order.lane.name());
    match &order.payer {
        Payer::Owner(owner) => {
            let run = order.run_id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
            let reservation = Reservation {
                id: id.clone(),
                owner: owner.clone(),
                place: Place { run, ..Place::default() },
                payees: parts.iter().map(|amount| (wallet.clone(), *amount)).collect(),
                hold: Hold { expires_at: None },
                reference,
            };
            budgets::reserve(tx, &reservation, terms.now).await?;
        }
        _ => {
            let leg =
                |amount: &Amount| Leg { debit: account.clone(), credit: wallet.clone(), amount: *amount };
            let hold = Some(Hold { expires_at: None });
            let transfer =
                Transfer { id: id.clone(), legs: parts.iter().map(leg).collect(), hold, reference };
            ledger::transfer(tx, &transfer, terms.now).await?;
        }
    }
    Ok(Some(id))
}

/// What is asked for and what routing may cost; a part of nothing has no leg.
fn parts(amount: Msats, fee: Msats) -> Vec<Amount> {
    [amount, fee].into_iter().map(Amount::from).filter(|part| !part.is_zero()).collect()
}

/// The world, as this wallet sees it.
pub fn wallet_account(wallet_id: &str) -> Result<AccountId, Denied> {
    AccountId::new(Kind::Wallet, Asset::msats(), wallet_id)
}

/// What the wallet is asked to do.
pub fn pay_order(row: &PaymentRow) -> PayOrder {
    PayOrder {
        request_id: row.request_id.clone(),
        invoice: row.invoice.clone(),
        payment_hash: row.payment_hash.clone(),
        amount: row.amount,
        max_fee: row.max_fee,
        host: row.host.clone(),
        not_after: Some(row.not_after),
    }
}

/// What the wallet is asked about.
pub fn payment_ref(row: &PaymentRow) -> PaymentRef {
    PaymentRef { request_id: row.request_id.clone(), payment_hash: row.payment_hash.clone() }
}

/// What an answer of the wallet comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Succeeded(Paid),
    Failed(Trouble),
    /// Nothing that could be relied on.
    Open(Trouble),
}

/// Judges what the wallet said when it was asked to pay. `first`: it had not been asked before, so that a refusal is
/// about the only request there is.
pub fn judge(row: &PaymentRow, said: Result<Paid, WalletError>, strict: bool, first: bool) -> Ending {
    match said {
        Ok(paid) => proved(row, paid, strict),
        Err(WalletError::NotDone(trouble)) if first => Ending::Failed(trouble),
        // A refusal of this request says nothing about the earlier one, which may still be on its way.
        Err(WalletError::NotDone(trouble) | WalletError::Unknown(trouble)) => Ending::Open(trouble),
    }
}

/// A payment is proved by the preimage of its hash; leniently the wallet's word is enough.
pub fn proved(row: &PaymentRow, paid: Paid, strict: bool) -> Ending {
    let opened = paid.preimage.map(|preimage| preimage.payment_hash());
    match (strict, &row.payment_hash, opened) {
        (true, Some(asked), Some(opened)) if *asked == opened => Ending::Succeeded(paid),
        (true, ..) => {
            let message = "the wallet says that it paid, but its preimage does not open the invoice's hash";
            Ending::Open(Trouble::new("payment_unproved", message).with_evidence(paid.evidence))
        }
        (false, ..) => Ending::Succeeded(paid),
    }
}

/// Ends a payment, or says when the wallet is asked again. What is ended stays as it is.
pub async fn end(
    tx: &mut Tx,
    payment_id: &str,
    ending: &Ending,
    now: Timestamp,
) -> Result<(PaymentRow, bool), Stop> {
    let row = table::payment(tx, payment_id).await?;
    let row = row.ok_or_else(|| Fault::msg(format!("the payment {payment_id} is not there")))?;
    if row.status.is_final() {
        contradiction(&row, ending);
        return Ok((row, false));
    }
    let row = ended(row, ending, now)?;
    if let (Some(hold_id), Some(_)) = (&row.hold_id, &row.payer) {
        let hold_id = TransferId::new(hold_id.as_str())?;
        match row.status {
            PaymentStatus::Succeeded => capture(tx, &row, &hold_id, now).await?,
            PaymentStatus::Failed => drop(ledger::void(tx, &hold_id, now).await?),
            PaymentStatus::InFlight | PaymentStatus::Unknown => {}
        }
    }
    table::put_payment(tx, &row).await?;
    let final_now = row.status.is_final();
    Ok((row, final_now))
}

/// Somebody has to look at this: the books say one thing and the wallet another.
fn contradiction(row: &PaymentRow, ending: &Ending) {
    let differs = matches!(
        (row.status, ending),
        (PaymentStatus::Failed, Ending::Succeeded(_)) | (PaymentStatus::Succeeded, Ending::Failed(_))
    );
    if differs {
        tracing::error!(
            payment_id = row.payment_id,
            status = row.status.name(),
            "the wallet contradicts what a payment ended with; the books keep what they have"
        );
    }
}

fn ended(row: PaymentRow, ending: &Ending, now: Timestamp) -> Result<PaymentRow, Fault> {
    let over = PaymentRow {
        next_ask_at: None,
        completed_at: Some(now),
        latency_ms: Some(now.millis_since(row.started_at).max(0).unsigned_abs()),
        updated_at: now,
        ..row
    };
    Ok(match ending {
        Ending::Succeeded(paid) => PaymentRow {
            status: PaymentStatus::Succeeded,
            wallet_response: evidence(paid.evidence.as_ref())?,
            wallet_receipt_sha256: paid.receipt_sha256.as_deref().map(words),
            preimage_sha256: paid
                .preimage_sha256
                .as_deref()
                .map(words)
                .or_else(|| paid.preimage.map(|preimage| preimage.text_sha256())),
            paid_at_ms: paid.paid_at_ms,
            settled: paid.amount,
            fee: paid.fee,
            error_code: None,
            error_message: None,
            ..over
        },
        Ending::Failed(trouble) => PaymentRow {
            status: PaymentStatus::Failed,
            wallet_response: evidence(trouble.evidence.as_deref())?,
            error_code: Some(words(&trouble.code)),
            error_message: Some(words(&trouble.message)),
            ..over
        },
        Ending::Open(trouble) => {
            let pause = (1_i64 << over.asks.min(8)).min(LONGEST_PAUSE_SECONDS);
            PaymentRow {
                status: PaymentStatus::Unknown,
                next_ask_at: Some(now.plus_seconds(pause)),
                completed_at: None,
                latency_ms: None,
                error_code: Some(words(&trouble.code)),
                error_message: Some(words(&trouble.message)),
                ..over
            }
        }
    })
}

/// What a wallet says must not keep us from writing down how it ended.
fn words(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_MESSAGE).collect()
}

fn evidence(said: Option<&serde_json::Value>) -> Result<Option<Box<RawValue>>, Fault> {
    let Some(said) = said else { return Ok(None) };
    let text = oa_contract::canonical::compact(said);
    RawValue::from_string(text).map(Some).map_err(|error| Fault::new("keeping a wallet's answer", error))
}

/// What a payment that was made took from its wallet.
pub fn gone(row: &PaymentRow) -> Amount {
    let gone =
        u128::from(row.settled.unwrap_or(row.amount).get()) + u128::from(row.fee.unwrap_or_default().get());
    u64::try_from(gone).ok().and_then(Amount::new).unwrap_or(Amount::MAX)
}

/// Takes what left the wallet: what arrived and the fee. Beyond what was held, the operator bears it.
async fn capture(tx: &mut Tx, row: &PaymentRow, hold_id: &TransferId, now: Timestamp) -> Result<(), Stop> {
    let held = ledger::get(tx, hold_id).await?;
    let held = held.ok_or_else(|| Denied::Unknown { id: hold_id.clone() })?;
    if held.state != State::Pending {
        return Err(Fault::msg(format!("the hold {hold_id} ended before its payment did")).into());
    }
    let mut rest = gone(row);
    let mut taken = Vec::new();
    for part in parts(row.amount, row.max_fee) {
        let take = part.min(rest);
        rest = rest.minus(take).unwrap_or_default();
        taken.push(take);
    }
    budgets::capture(tx, hold_id, &taken, now).await?;
    if rest.is_zero() {
        return Ok(());
    }
    tracing::error!(
        payment_id = row.payment_id,
        excess = rest.get(),
        "a wallet took more than it was allowed"
    );
    let excess = Transfer {
        id: TransferId::new(format!("payment:{}:excess", row.payment_id))?,
        legs: vec![Leg {
            debit: AccountId::new(Kind::Suspense, Asset::msats(), "wallet_excess")?,
            credit: wallet_account(&row.wallet_id)?,
            amount: rest,
        }],
        hold: None,
        reference: "more left the wallet than was allowed".into(),
    };
    ledger::transfer(tx, &excess, now).await?;
    Ok(())
}
