//! Decides when a deposit has arrived and mints for it, once. By evidence: what the wallet says of the invoice or the
//! address that was made for this deposit alone. Leniently: because somebody says so.

use oa_contract::{
    Stop, Timestamp,
    wire::pools::{DepositRail, DepositStatus},
};
use oa_ledger::{
    AccountId,
    pool::{self, MSATS_PER_SAT},
};
use oa_lightning::{InvoiceRef, InvoiceState, ReceiveAddress, WalletError};
use oa_store::{
    Tx,
    tables::{
        ledger,
        pools::{self as table, DepositRow},
    },
};

use super::{key, standing::books};
use crate::Runtime;

/// What evidence begins with that is a caller's word.
pub(super) const BELIEVED: &str = "caller:";
/// Deposits that are asked about in one round.
const AT_ONE_TIME: u32 = 50;
const ASKED_TOGETHER: usize = 25;
/// What was paid at the last moment is found so long after it.
const GRACE_SECONDS: i64 = 3_600;
/// A deposit that has expired is still asked about so often, and for so long: an address takes money for ever.
const RARELY_SECONDS: i64 = 6 * 3_600;
const INVOICE_LAST_LOOK_SECONDS: i64 = 7 * 86_400;
const ADDRESS_LAST_LOOK_SECONDS: i64 = 90 * 86_400;

/// What is known of a deposit's payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// So much has arrived for good, and what proves it.
    Settled {
        received_msats: u64,
        evidence: String,
    },
    /// Seen, but not for good.
    Arriving,
    Nothing,
    /// It will not come any more.
    Never,
}

impl Runtime {
    /// What the wallet says of a deposit's payment.
    pub(super) async fn look_for(&self, row: &DepositRow) -> Result<Seen, WalletError> {
        match (row.rail, &row.deposit_address) {
            (DepositRail::OnchainAddress, Some(address)) => {
                let address = ReceiveAddress {
                    request_id: row.wallet_request_id.clone(),
                    address: address.clone(),
                    network: None,
                };
                let received = self.wallet().received(&address).await?;
                let sats = (received.confirmed_sats, received.unconfirmed_sats);
                // What came in time is waited for until it is whole; after that, what is there buys shares.
                let late = self.now() > row.expires_at && sats.0 >= row.share_price_sats;
                let deep = received.confirmations >= self.config.pools.deposit_confirmations;
                let whole = deep && sats.0 > 0 && (sats.0 >= row.amount_sats || late);
                Ok(match (whole, sats.0.saturating_add(sats.1)) {
                    (true, _) => Seen::Settled {
                        received_msats: received.confirmed_sats.saturating_mul(MSATS_PER_SAT),
                        evidence: format!("onchain:{}", address.address),
                    },
                    (false, 1..) => Seen::Arriving,
                    (false, 0) => Seen::Nothing,
                })
            }
            _ => {
                let invoice = InvoiceRef {
                    request_id: row.wallet_request_id.clone(),
                    payment_hash: row.payment_hash.clone(),
                };
                let hash = row.payment_hash.as_ref().or(row.invoice_hash.as_ref());
                Ok(match self.wallet().invoice(&invoice).await? {
                    InvoiceState::Settled { received, .. }
                        if received.get() >= row.amount_sats.saturating_mul(MSATS_PER_SAT) =>
                    {
                        Seen::Settled {
                            received_msats: received.get(),
                            evidence: format!("lightning:{}", hash.unwrap_or(&row.wallet_request_id)),
                        }
                    }
                    // Less than was asked for buys nothing yet.
                    InvoiceState::Settled { .. } | InvoiceState::Accepted => Seen::Arriving,
                    InvoiceState::Open => Seen::Nothing,
                    InvoiceState::Canceled | InvoiceState::NeverHeardOf => Seen::Never,
                })
            }
        }
    }

    /// Asks about open deposits, the longest unasked first; says how many have minted.
    pub(crate) async fn watch_deposits(&self) -> Result<usize, Stop> {
        let now = self.now();
        let look = async |tx: &mut Tx, now: &Timestamp| table::deposits_open(tx, *now, AT_ONE_TIME).await;
        let open = self.store.read("pools.open_deposits", now, look).await?;
        let mut minted = 0;
        // A silent wallet is waited for by many at one time, so that a round ends before the lease does.
        for some in open.chunks(ASKED_TOGETHER) {
            let looked = futures_util::future::join_all(some.iter().map(|row| self.look_for(row))).await;
            for (row, seen) in some.iter().zip(looked) {
                let id = row.deposit_id.clone();
                let seen = seen.inspect_err(|error| {
                    tracing::debug!(deposit_id = id, %error, "a deposit could not be asked about");
                });
                let ask = (id, seen.ok(), self.now(), self.wallet_account()?);
                let note = self.store.write("pools.note_deposit", key(&row.pool_id), ask, note).await?;
                minted += usize::from(note);
            }
        }
        Ok(minted)
    }
}

/// Writes down what was seen of a deposit; true when it has minted.
async fn note(
    tx: &mut Tx,
    (deposit_id, seen, now, wallet): &(String, Option<Seen>, Timestamp, AccountId),
) -> Result<bool, Stop> {
    let Some(row) = table::deposit(tx, deposit_id).await?.filter(|row| row.look_at.is_some()) else {
        return Ok(false);
    };
    if let Some(Seen::Settled { received_msats, evidence }) = seen {
        let look_at = Some(now.plus_seconds(RARELY_SECONDS));
        return match mint(tx, row.clone(), *received_msats, evidence, wallet, *now).await? {
            Minted::Now(_) => Ok(true),
            // An operator has to look; it stands in nobody's way until then.
            Minted::Spent => table::put_deposit(tx, &DepositRow { look_at, ..row }).await.map(|()| false),
            // What it buys is less than a share by now: it waits for an operator, or for a better price.
            Minted::Nothing => {
                let row = DepositRow { status: DepositStatus::Pending, look_at, ..row };
                table::put_deposit(tx, &row).await.map(|()| false)
            }
        };
    }
    let over = *now > row.expires_at.plus_seconds(GRACE_SECONDS);
    let last_look = match row.rail {
        DepositRail::LightningInvoice => INVOICE_LAST_LOOK_SECONDS,
        DepositRail::OnchainAddress => ADDRESS_LAST_LOOK_SECONDS,
    };
    let rarely = (*now <= row.expires_at.plus_seconds(last_look)).then(|| now.plus_seconds(RARELY_SECONDS));
    let (status, look_at) = match seen {
        Some(Seen::Never) if over => (DepositStatus::Failed, None),
        Some(Seen::Nothing) if over => (DepositStatus::Expired, rarely),
        Some(Seen::Arriving) => (DepositStatus::Pending, Some(pause(&row, *now))),
        _ => (row.status, Some(pause(&row, *now))),
    };
    table::put_deposit(tx, &DepositRow { status, look_at, ..row }).await?;
    Ok(false)
}

/// The older a deposit, the less often it is asked about: a tenth of its age, from five seconds to ten minutes.
fn pause(row: &DepositRow, now: Timestamp) -> Timestamp {
    let tenth = now.millis_since(row.created_at) / 10_000;
    now.plus_seconds(tenth.clamp(5, 600))
}

pub(super) enum Minted {
    Now(Box<DepositRow>),
    /// What proves it has minted for another deposit already.
    Spent,
    /// It has arrived, and does not buy one share: nobody's money is given to the others for nothing.
    Nothing,
}

/// Credits what was received and the shares that it buys. The caller holds the pool's key and has looked that the
/// deposit is still open.
pub(super) async fn mint(
    tx: &mut Tx,
    row: DepositRow,
    received_msats: u64,
    evidence: &str,
    wallet: &AccountId,
    now: Timestamp,
) -> Result<Minted, Stop> {
    if table::deposit_by_evidence(tx, evidence).await?.is_some() {
        tracing::error!(deposit_id = row.deposit_id, evidence, "a payment was to mint for a second deposit");
        return Ok(Minted::Spent);
    }
    let books = books(tx, &row.pool_id, row.partition).await?;
    // For what arrived, not for what was announced.
    let quoted = pool::quoted_shares(received_msats / MSATS_PER_SAT, row.share_price_sats);
    let shares = books.standing.minted(quoted, received_msats);
    if shares == 0 && !evidence.starts_with(BELIEVED) {
        tracing::error!(deposit_id = row.deposit_id, "a deposit has arrived that does not buy one share");
        return Ok(Minted::Nothing);
    }
    let order = pool::deposit(&books.accounts, wallet, &row.deposit_id, &row.lp_id, received_msats, shares)?;
    ledger::transfer(tx, &order, now).await?;
    table::put_provider(tx, &row.pool_id, row.partition, &row.lp_id).await?;
    let version = books.row.shares_version + 1;
    table::put_partition(tx, &table::PartitionRow { shares_version: version, ..books.row }).await?;
    let row = DepositRow {
        status: DepositStatus::Confirmed,
        shares_minted: shares,
        received_msats: Some(received_msats),
        evidence: Some(evidence.to_owned()),
        look_at: None,
        confirmed_at: Some(now),
        ..row
    };
    table::put_deposit(tx, &row).await?;
    Ok(Minted::Now(Box::new(row)))
}
