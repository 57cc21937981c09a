//! Decides how a withdrawal is paid, once: reserve, act, record. The shares are locked and the money is set aside
//! before the wallet hears of it; only what the wallet says ends that, and what it did not say is asked for later.

use bitcoin::{Address, address::NetworkUnchecked};
use oa_contract::{
    Asset, Msats, Refusal, Stop, Timestamp,
    signer::Signer,
    wire::pools::{PartitionKind, PayoutRail, WithdrawThrottle, WithdrawalStatus},
};
use oa_ledger::{
    AccountId, Capture, Denied, Kind, Leg, Order,
    pool::{self, Accounts, MSATS_PER_SAT},
};
use oa_lightning::bolt11::Network;
use oa_store::{
    Tx,
    tables::{
        ledger,
        pool_withdrawals::{self as table, WithdrawalRow},
        pools,
    },
};

use super::{
    HOST,
    receipts::{self, Settled, Throttled},
    settings::PoolSettings,
    standing::{books, changed},
    wallet_request_id,
};
use crate::liquidity::{
    lanes::Lane,
    payments::{self, Begun, Payer, Terms},
};

/// After so many certain failures a payout is given up and its shares are free again.
const MOST_ROUNDS: u32 = 12;
/// Nobody asks after a payout that was begun so long ago.
const PATIENCE_SECONDS: i64 = 60;
const LONGEST_PAUSE_SECONDS: i64 = 300;
const LONGEST_ERROR: usize = 500;

/// Locks the shares of a withdrawal and promises it its estimate. Whoever has too few is refused.
pub(super) async fn lock_shares(
    tx: &mut Tx,
    row: WithdrawalRow,
    now: Timestamp,
) -> Result<WithdrawalRow, Stop> {
    let accounts = Accounts::of(&row.pool_id, row.partition)?;
    let order = pool::lock(&accounts, &row.withdrawal_id, &row.lp_id, row.shares_burned)?;
    // Asked here, for the words that clients know.
    let held = ledger::account(tx, &order.legs[0].debit).await?;
    if held.available().unwrap_or_default() < i128::from(row.shares_burned) {
        return Err(Refusal::conflict("insufficient shares").into());
    }
    ledger::transfer(tx, &order, now).await?;
    let partition = pools::partition(tx, &row.pool_id, row.partition).await?;
    let owed_msats = changed(partition.owed_msats, promised_msats(&row), 0, "promises")?;
    pools::put_partition(tx, &pools::PartitionRow { owed_msats, ..partition }).await?;
    Ok(WithdrawalRow { locked: true, ..row })
}

fn promised_msats(row: &WithdrawalRow) -> u64 {
    row.amount_sats.saturating_mul(MSATS_PER_SAT)
}

/// Counts a withdrawal among those that are still to be paid, or no longer.
pub(super) async fn count_pending(
    tx: &mut Tx,
    pool_id: &str,
    partition: PartitionKind,
    more_sats: u64,
    less_sats: u64,
) -> Result<(), Stop> {
    let row = pools::partition(tx, pool_id, partition).await?;
    let pending_sats = changed(row.pending_sats, more_sats, less_sats, "pending withdrawals")?;
    pools::put_partition(tx, &pools::PartitionRow { pending_sats, ..row }).await
}

/// Keeps what the throttle has done to a withdrawal, the first time of each kind.
pub(super) async fn note_throttle(
    tx: &mut Tx,
    row: &WithdrawalRow,
    action: Throttled,
    throttle: &WithdrawThrottle,
    signer: Option<&Signer>,
    now: Timestamp,
) -> Result<(), Stop> {
    let how = (throttle.mode, throttle.extra_delay_hours, throttle.execution_cap_per_tick);
    let receipt = receipts::throttle(row, action, how, &throttle.reasons, signer);
    let kind = format!("withdraw_throttle_{}", action.name());
    receipts::keep(tx, (&kind, &row.withdrawal_id, receipts::WITHDRAW_THROTTLE), &receipt, now).await
}

/// Whether an address is one of the network that we pay on, for a sum that the network relays.
pub(super) fn check_address(address: &str, sats: u64, network: Network) -> Result<(), Refusal> {
    let wrong = |why: String| Refusal::invalid(format!("payout_address is not valid: {why}"));
    let parsed: Address<NetworkUnchecked> =
        address.parse().map_err(|error: bitcoin::address::ParseError| wrong(error.to_string()))?;
    let network = match network {
        Network::Mainnet => bitcoin::Network::Bitcoin,
        Network::Testnet => bitcoin::Network::Testnet,
        Network::Signet => bitcoin::Network::Signet,
        Network::Regtest | Network::Simnet => bitcoin::Network::Regtest,
    };
    let address = parsed.require_network(network).map_err(|error| wrong(error.to_string()))?;
    let least = address.script_pubkey().minimal_non_dust().to_sat();
    match sats >= least {
        true => Ok(()),
        false => Err(wrong(format!("{sats} sats are below the {least} that the network relays to it"))),
    }
}

/// Who pays a withdrawal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The queue, by itself.
    Queue,
    /// Signers have agreed, under this request.
    Signed(String),
}

impl Way {
    /// Under which the wallet is asked: another id for each try that has surely failed (§1.5).
    fn request_id(&self, row: &WithdrawalRow) -> String {
        let (kind, key) = match (self, row.rail) {
            (Way::Queue, _) => ("withdrawal_payout", row.withdrawal_id.as_str()),
            (Way::Signed(id), PayoutRail::Lightning) => ("withdrawal_signing", id.as_str()),
            (Way::Signed(id), PayoutRail::Onchain) => ("withdrawal_onchain", id.as_str()),
        };
        let key = match row.round {
            0 => key.to_owned(),
            round => format!("{key}:{round}"),
        };
        wallet_request_id(kind, &row.pool_id, &row.lp_id, &key)
    }
}

/// What a payout is begun with.
#[derive(Clone, Debug)]
pub struct Begin {
    pub withdrawal_id: String,
    pub way: Way,
    pub settings: PoolSettings,
    pub terms: Terms,
}

/// A payout that was begun: over Lightning, with the payment of its invoice.
#[derive(Clone, Debug)]
pub struct Under {
    pub row: WithdrawalRow,
    pub payment: Option<Begun>,
}

/// What is paid for, in the lane that pays invoices once: each try that surely failed is followed by another.
pub(super) fn payment_id(row: &WithdrawalRow) -> String {
    format!("pool:{}:{}", row.withdrawal_id, row.round)
}

/// The payment of a withdrawal's invoice. Its money is held here, with the shares.
pub(super) fn payment(row: &WithdrawalRow, request_id: &str, fee_msats: u64) -> Option<payments::Order> {
    Some(payments::Order {
        payment_id: payment_id(row),
        lane: Lane::Pool,
        request_id: request_id.to_owned(),
        invoice: row.payout_invoice.clone()?,
        payment_hash: row.payment_hash.clone(),
        host: HOST.into(),
        amount: Msats::new(promised_msats(row))?,
        max_fee: Msats::new(fee_msats)?,
        payer: Payer::Lane(pool::payout_id(&row.withdrawal_id, row.round).ok()?.to_string()),
        run_id: None,
        trajectory_hash: None,
        // The fee that is allowed may differ from one look to the next; the payment is the same.
        fingerprint: Some(payment_id(row)),
    })
}

/// Sets aside what a payout may cost, in the transaction of whoever holds the pool's key. None: it is not to be paid
/// now, because it was, or because somebody is at it.
pub(super) async fn begin(tx: &mut Tx, ask: &Begin) -> Result<Option<Under>, Stop> {
    let now = ask.terms.now;
    let Some(row) = table::get(tx, &ask.withdrawal_id).await? else { return Ok(None) };
    if row.status != WithdrawalStatus::Queued || row.earliest_settlement_at > now {
        return Ok(None);
    }
    if row.amount_sats == 0 {
        return Err(Refusal::conflict("the withdrawal is worth nothing").into());
    }
    let row = match row.locked {
        true => row,
        false => lock_late(tx, row, now).await?,
    };
    let books = books(tx, &row.pool_id, row.partition).await?;
    let payout_msats = promised_msats(&row);
    let Some(spare) = books.free_msats().checked_sub(payout_msats) else {
        return Err(Refusal::conflict("the partition does not hold what the payout takes").into());
    };
    // Whoever leaves last finds no money for the way: then only a way that costs nothing is taken.
    let fee =
        ask.settings.payout_fee_sats(row.rail, row.amount_sats).saturating_mul(MSATS_PER_SAT).min(spare);
    let wallet = payments::wallet_account(&ask.terms.wallet_id)?;
    let order = pool::payout(&books.accounts, &wallet, &row.withdrawal_id, row.round, payout_msats, fee)?;
    ledger::transfer(tx, &order, now).await?;
    let paying_msats = changed(payout_msats, fee, 0, "a payout")?;
    let held = changed(books.row.paying_msats, paying_msats, 0, "payouts")?;
    pools::put_partition(tx, &pools::PartitionRow { paying_msats: held, ..books.row }).await?;
    let not_after = now.plus_seconds(PATIENCE_SECONDS);
    let request_id = ask.way.request_id(&row);
    let payment = match row.rail {
        PayoutRail::Onchain => None,
        PayoutRail::Lightning => {
            let order = payment(&row, &request_id, fee);
            let order = order.ok_or_else(|| Refusal::conflict("the withdrawal has no invoice"))?;
            Some(payments::begin(tx, &order, &ask.terms).await?)
        }
    };
    let row = WithdrawalRow {
        status: WithdrawalStatus::Approved,
        request_id: Some(request_id),
        paying_msats,
        not_after: Some(not_after),
        due_at: Some(not_after),
        last_error: None,
        ..row
    };
    table::put(tx, &row).await?;
    Ok(Some(Under { row, payment }))
}

/// Leniently the shares are asked for only now, and what they are worth with them.
async fn lock_late(tx: &mut Tx, row: WithdrawalRow, now: Timestamp) -> Result<WithdrawalRow, Stop> {
    let standing = books(tx, &row.pool_id, row.partition).await?.standing;
    let row_amount = row.amount_sats;
    let worth = standing.worth_sats(row.shares_burned);
    let row = lock_shares(tx, row, now).await?;
    match worth.is_some_and(|worth| worth < row_amount) {
        true => Err(Refusal::conflict("the shares are worth less than the withdrawal's estimate").into()),
        false => Ok(row),
    }
}

/// What became of a payout, as far as anybody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Paid {
        settled: Settled,
        fee_msats: u64,
        paid_at_ms: Option<i64>,
    },
    /// Surely not paid, and it will not be.
    Failed(String),
    Unknown(String),
}

/// What an outcome is written down with.
#[derive(Clone, Debug)]
pub struct Record {
    pub withdrawal_id: String,
    /// Of which try.
    pub round: u32,
    pub outcome: Outcome,
    pub wallet: AccountId,
    pub signer: Option<Signer>,
    pub now: Timestamp,
}

/// Ends a payout by what the wallet said of it. What has ended stays as it is.
pub(super) async fn record(tx: &mut Tx, ask: &Record) -> Result<Option<WithdrawalRow>, Stop> {
    let Some(row) = table::get(tx, &ask.withdrawal_id).await? else { return Ok(None) };
    if row.status != WithdrawalStatus::Approved || row.round != ask.round {
        return Ok(Some(row));
    }
    let row = match &ask.outcome {
        Outcome::Paid { settled, fee_msats, paid_at_ms } => {
            paid(tx, row, ask, settled, *fee_msats, *paid_at_ms).await?
        }
        Outcome::Failed(why) => failed(tx, row, why, ask.now).await?,
        Outcome::Unknown(why) => {
            let age = ask.now.millis_since(row.not_after.unwrap_or(ask.now)) / 1_000 + PATIENCE_SECONDS;
            let due_at = Some(ask.now.plus_seconds((age / 4).clamp(2, LONGEST_PAUSE_SECONDS)));
            WithdrawalRow { due_at, last_error: Some(words(why)), ..row }
        }
    };
    table::put(tx, &row).await?;
    Ok(Some(row))
}

async fn paid(
    tx: &mut Tx,
    row: WithdrawalRow,
    ask: &Record,
    settled: &Settled,
    fee_msats: u64,
    paid_at_ms: Option<i64>,
) -> Result<WithdrawalRow, Stop> {
    let hold = pool::payout_id(&row.withdrawal_id, row.round)?;
    let (principal, most) = (promised_msats(&row), row.paying_msats - promised_msats(&row));
    let amount = |units: u64| {
        oa_contract::Amount::new(units).ok_or_else(|| Denied::Malformed("a payout does not fit".into()))
    };
    let mut parts = vec![amount(principal)?];
    parts.extend((most > 0).then(|| amount(fee_msats.min(most))).transpose()?);
    ledger::post(tx, &hold, &Capture::Part(parts), ask.now).await?;
    ledger::post(tx, &pool::lock_id(&row.withdrawal_id)?, &Capture::Full, ask.now).await?;
    if fee_msats > most {
        excess(tx, &row, fee_msats - most, ask).await?;
    }
    release(tx, &row, true).await?;
    // A wallet's clock is believed as long as it is not ahead of ours.
    let paid_at = paid_at_ms.map(|ms| Timestamp::EPOCH.plus_millis(ms));
    let paid_at = paid_at.filter(|at| (row.created_at..=ask.now).contains(at)).unwrap_or(ask.now);
    let receipt = receipts::settlement(&row, settled, paid_at, ask.signer.as_ref());
    let name = ("withdraw_settlement", row.withdrawal_id.as_str(), receipts::WITHDRAW_SETTLEMENT);
    receipts::keep(tx, name, &receipt, ask.now).await?;
    Ok(WithdrawalRow {
        status: WithdrawalStatus::Paid,
        paying_msats: 0,
        due_at: None,
        wallet_receipt_sha256: settled.wallet_receipt_sha256.clone(),
        last_error: None,
        paid_at: Some(paid_at),
        ..row
    })
}

/// What a wallet took beyond what it was allowed is not the pool's: the operator has to look.
async fn excess(tx: &mut Tx, row: &WithdrawalRow, msats: u64, ask: &Record) -> Result<(), Stop> {
    tracing::error!(withdrawal_id = row.withdrawal_id, msats, "a payout cost more than was allowed");
    let Some(amount) = oa_contract::Amount::new(msats) else { return Ok(()) };
    let order = Order {
        id: oa_ledger::TransferId::new(format!("pool:excess:{}", row.withdrawal_id))?,
        legs: vec![Leg {
            debit: AccountId::new(Kind::Suspense, Asset::msats(), "wallet_excess")?,
            credit: ask.wallet.clone(),
            amount,
        }],
        hold: None,
        reference: row.withdrawal_id.clone(),
    };
    ledger::transfer(tx, &order, ask.now).await?;
    Ok(())
}

/// The wallet has surely not paid: the money is free again. After too many tries, or when the invoice can no longer be
/// paid, the shares are as well.
async fn failed(tx: &mut Tx, row: WithdrawalRow, why: &str, now: Timestamp) -> Result<WithdrawalRow, Stop> {
    ledger::void(tx, &pool::payout_id(&row.withdrawal_id, row.round)?, now).await?;
    let round = row.round + 1;
    let over = round >= MOST_ROUNDS;
    release(tx, &row, false).await?;
    let row = WithdrawalRow { round, paying_msats: 0, request_id: None, not_after: None, ..row };
    if over {
        return give_up(tx, row, why, now).await;
    }
    // The first failure may be the wallet's mood; after that it is asked less and less often.
    let pause = if round == 1 { 0 } else { (1_i64 << round.min(16)).min(LONGEST_PAUSE_SECONDS) };
    let due_at = match row.signing_request_id {
        // Whoever signs decides when to try again.
        Some(_) => None,
        None => Some(now.plus_seconds(pause)),
    };
    Ok(WithdrawalRow { status: WithdrawalStatus::Queued, due_at, last_error: Some(words(why)), ..row })
}

/// Frees the shares of a withdrawal that will not be paid.
async fn give_up(tx: &mut Tx, row: WithdrawalRow, why: &str, now: Timestamp) -> Result<WithdrawalRow, Stop> {
    ledger::void(tx, &pool::lock_id(&row.withdrawal_id)?, now).await?;
    let partition = pools::partition(tx, &row.pool_id, row.partition).await?;
    let partition = pools::PartitionRow {
        pending_sats: changed(partition.pending_sats, 0, row.amount_sats, "pending withdrawals")?,
        owed_msats: changed(partition.owed_msats, 0, promised_msats(&row), "promises")?,
        ..partition
    };
    pools::put_partition(tx, &partition).await?;
    let last_error = Some(words(why));
    Ok(WithdrawalRow { status: WithdrawalStatus::Failed, locked: false, due_at: None, last_error, ..row })
}

/// What is no longer being paid; with `burned`, the promise is kept and the shares are gone.
async fn release(tx: &mut Tx, row: &WithdrawalRow, burned: bool) -> Result<(), Stop> {
    let partition = pools::partition(tx, &row.pool_id, row.partition).await?;
    let (sats, owed) = if burned { (row.amount_sats, promised_msats(row)) } else { (0, 0) };
    let partition = pools::PartitionRow {
        pending_sats: changed(partition.pending_sats, 0, sats, "pending withdrawals")?,
        owed_msats: changed(partition.owed_msats, 0, owed, "promises")?,
        paying_msats: changed(partition.paying_msats, 0, row.paying_msats, "payouts")?,
        shares_version: partition.shares_version + u64::from(burned),
        ..partition
    };
    pools::put_partition(tx, &partition).await
}

/// Notes why a withdrawal was not paid this time, without changing anything else of it.
pub(super) async fn note_error(tx: &mut Tx, (id, why): &(String, String)) -> Result<(), Stop> {
    let Some(row) = table::get(tx, id).await?.filter(|row| row.status == WithdrawalStatus::Queued) else {
        return Ok(());
    };
    let words = words(why);
    if row.last_error.as_ref() != Some(&words) {
        table::put(tx, &WithdrawalRow { last_error: Some(words), ..row }).await?;
    }
    Ok(())
}

fn words(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_ERROR).collect()
}

/// The most that the network may take for a payout that was begun.
pub(super) fn most_fee_msats(row: &WithdrawalRow) -> u64 {
    row.paying_msats.saturating_sub(promised_msats(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_our_network_and_no_dust() {
        let mainnet = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";
        assert_eq!(check_address(mainnet, 500, Network::Mainnet), Ok(()));
        assert!(check_address(mainnet, 100, Network::Mainnet).expect_err("dust").message.contains("relays"));
        assert!(check_address(mainnet, 500, Network::Regtest).is_err());
        assert!(check_address("bc1qvignette000000000000000000000000000000", 500, Network::Mainnet).is_err());
    }

    #[test]
    fn each_try_has_an_id_of_its_own_and_a_repetition_the_same() {
        let row = receipts::test_withdrawal();
        let queue = |round| Way::Queue.request_id(&WithdrawalRow { round, ..row.clone() });
        assert_eq!(queue(0), queue(0));
        assert_ne!(queue(0), queue(1));
        assert_eq!(
            queue(0),
            wallet_request_id("withdrawal_payout", &row.pool_id, &row.lp_id, &row.withdrawal_id)
        );
        assert_ne!(Way::Signed("sigreq_1".into()).request_id(&row), queue(0));
    }
}
