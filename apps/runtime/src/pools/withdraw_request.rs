//! `POST /internal/v1/pools/:pool_id/withdraw_request`: queues a payout for shares (§6.1). Strictly the shares are
//! locked from now on; leniently a request is accepted from anybody, and the shares are asked for when it is paid.

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop, Timestamp,
    canonical::{canonical_hash, sha256_hex},
    matrix::PoolsWithdrawRequest,
    signer::Signer,
    wire::pools::{
        PartitionKind, PayoutRail, PoolStatus, RequestWithdrawal, ThrottleMode, WithdrawReply,
        WithdrawThrottle, Withdrawal, WithdrawalStatus,
    },
};
use oa_ledger::pool::{MSATS_PER_SAT, Standing};
use oa_lightning::bolt11::{self, Network};
use oa_store::{
    Tx,
    tables::{
        pool_withdrawals::{self as table, WithdrawalRow},
        pools,
    },
};
use serde_json::json;

use super::{
    behind_us, key, may_act_for, name, no_pool, payout, queue, receipts, said, schema,
    settings::PoolSettings, standing, throttle,
};
use crate::{Runtime, hydra::tally::Throttled};

const SCHEMA: &str = "openagents.liquidity.pool.withdraw_request.v1";
const REPLY: &str = "openagents.liquidity.pool.withdraw_response.v1";
const LONGEST_ADDRESS: usize = 200;

/// What decides a request.
#[derive(Clone, Debug)]
struct Terms {
    settings: PoolSettings,
    /// Whether invoices and addresses are read whole.
    checks_payouts: bool,
    requires_shares: bool,
    network: Network,
    signer: Option<Signer>,
    now: Timestamp,
}

/// What was asked for, as far as that needs no store.
#[derive(Clone, Debug)]
struct Asked {
    lp_id: String,
    key: String,
    shares: u64,
    partition: PartitionKind,
    rail: PayoutRail,
    invoice: Option<String>,
    invoice_hash: Option<String>,
    address: Option<String>,
    fingerprint: String,
}

/// What shares are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    /// Set aside for them.
    owed_sats: u64,
    /// Of that, what is paid; the rest is for the way.
    payout_sats: u64,
}

/// What is known of an invoice that can be paid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Payable {
    payment_hash: Option<String>,
    /// Strictly: until when.
    expires_at: Option<Timestamp>,
}

/// What a request came to.
enum Told {
    Replied(Box<WithdrawReply>),
    /// Refused by the throttle, which counts that.
    Halted(Refusal),
}

impl Handle<PoolsWithdrawRequest> for Runtime {
    async fn handle(&self, ask: Ask<PoolsWithdrawRequest>) -> Result<Answer<WithdrawReply>, Stop> {
        schema(&ask.body.schema, SCHEMA)?;
        let terms = Terms {
            settings: self.config.pools.clone(),
            checks_payouts: !self.believes_callers(),
            requires_shares: self.requires_shares(),
            network: self.config.liquidity.network,
            signer: self.signer.clone(),
            now: self.now(),
        };
        let id = format!("liqwd_{}", self.ids.uuid_v7(terms.now));
        let pool_id = ask.path.pool_id;
        let ask = (pool_id.clone(), ask.body, ask.caller, terms, id);
        match self.store.write("pools.request_withdrawal", key(&pool_id), ask, request).await? {
            (Told::Halted(refusal), _) => {
                self.hydra.withdrawal(Throttled::Rejected);
                Err(refusal.into())
            }
            (Told::Replied(reply), fresh) => {
                let mode = reply.withdraw_throttle.as_ref().map(|throttle| throttle.mode);
                if fresh && mode == Some(ThrottleMode::Stressed) {
                    self.hydra.withdrawal(Throttled::Stressed);
                }
                Ok((*reply).into())
            }
        }
    }
}

impl Runtime {
    /// Whether a withdrawal needs its shares when it is requested.
    pub(crate) fn requires_shares(&self) -> bool {
        // A variable can only ask for more than the trust mode does.
        !self.believes_callers() || self.config.pools.require_shares.unwrap_or(false)
    }
}

type Request = (String, RequestWithdrawal, Caller, Terms, String);

/// The key first: what stands under it is answered, whatever prices and throttles say by now.
async fn request(tx: &mut Tx, (pool_id, body, caller, terms, id): &Request) -> Result<(Told, bool), Stop> {
    let pool = pools::pool(tx, pool_id).await?.ok_or_else(no_pool)?;
    let open = match pool.status {
        PoolStatus::Active => Ok(()),
        PoolStatus::Paused | PoolStatus::Disabled => Err(Refusal::conflict("pool is not active")),
    };
    let asked = match (read(pool_id, body), &open) {
        (Ok(asked), _) => asked,
        (Err(_), Err(refusal)) => return Err(refusal.clone().into()),
        (Err(refusal), Ok(())) => return Err(refusal.into()),
    };
    let known = table::by_key(tx, pool_id, asked.partition, &asked.lp_id, &asked.key).await?;
    if let Some(row) = known {
        may_act_for(caller, &row.lp_id)?;
        if row.fingerprint != asked.fingerprint {
            let message = "idempotency_key reused with different withdrawal parameters";
            return Err(Refusal::conflict(message).into());
        }
        let throttle = throttled(tx, pool_id, terms).await?;
        return Ok((Told::Replied(Box::new(reply(tx, row, throttle).await?)), false));
    }
    open?;
    may_act_for(caller, &asked.lp_id)?;
    let books = standing::books(tx, pool_id, asked.partition).await?;
    let price = standing::quoted_price(tx, pool_id, asked.partition).await?;
    let by_price = estimate(asked.shares, price)?;
    let promise = promise(&asked, &books.standing, by_price, terms);
    let payable = payable(&asked, promise.payout_sats, terms)?;
    let throttle = throttled(tx, pool_id, terms).await?;
    if let Some(throttle) = throttle.as_ref().filter(|throttle| throttle.mode == ThrottleMode::Halted) {
        return Ok((Told::Halted(throttle::halted(throttle)), false));
    }
    if i64::try_from(asked.shares).is_err() {
        return Err(Refusal::invalid("shares_burned too large").into());
    }
    let row = queued(pool_id, &asked, id, promise, &payable, throttle.as_ref(), terms);
    outlives(&payable, row.earliest_settlement_at, terms)?;
    let row = admit(tx, row, terms).await?;
    if let Some(throttle) =
        throttle.as_ref().filter(|one| one.mode != ThrottleMode::Normal || one.extra_delay_hours > 0)
    {
        delayed(tx, &row, throttle, terms).await?;
    }
    Ok((Told::Replied(Box::new(reply(tx, row, throttle).await?)), true))
}

/// Locks what has to be locked, counts it, and keeps it with its receipt.
async fn admit(tx: &mut Tx, row: WithdrawalRow, terms: &Terms) -> Result<WithdrawalRow, Stop> {
    if let Some(hash) = &row.payment_hash
        && let Some(other) = table::by_payment_hash(tx, hash).await?
    {
        let message = format!("payout_invoice_bolt11 is the payout of {} already", other.withdrawal_id);
        return Err(Refusal::conflict(message).into());
    }
    let row = match terms.requires_shares {
        true if row.amount_sats == 0 => {
            let message = "shares_burned are worth less than one sat and what its way may cost";
            return Err(Refusal::invalid(message).into());
        }
        true => payout::lock_shares(tx, row, terms.now).await?,
        false => row,
    };
    payout::count_pending(tx, &row.pool_id, row.partition, row.amount_sats, 0).await?;
    table::put(tx, &row).await?;
    let receipt = receipts::withdraw_request(&row, terms.signer.as_ref());
    let kept = receipts::kept(&receipt.receipt_id, &receipt.canonical_json_sha256, &receipt)?;
    let name = ("withdraw_request", row.withdrawal_id.as_str(), receipts::WITHDRAW_REQUEST);
    receipts::keep(tx, name, &kept, terms.signer.as_ref(), terms.now).await?;
    Ok(row)
}

async fn delayed(
    tx: &mut Tx,
    row: &WithdrawalRow,
    throttle: &WithdrawThrottle,
    terms: &Terms,
) -> Result<(), Stop> {
    let action = receipts::Throttled::RequestDelayApplied;
    payout::note_throttle(tx, row, action, throttle, terms.signer.as_ref(), terms.now).await
}

async fn throttled(tx: &mut Tx, pool_id: &str, terms: &Terms) -> Result<Option<WithdrawThrottle>, Stop> {
    match terms.settings.lp_mode_enabled {
        true => Ok(Some(throttle::of_pool(tx, pool_id, &terms.settings, terms.now).await?)),
        false => Ok(None),
    }
}

async fn reply(
    tx: &mut Tx,
    row: WithdrawalRow,
    withdraw_throttle: Option<WithdrawThrottle>,
) -> Result<WithdrawReply, Stop> {
    let receipt =
        receipts::given(tx, "withdraw_request", &row.withdrawal_id, receipts::WITHDRAW_REQUEST).await?;
    Ok(WithdrawReply { schema: REPLY.into(), withdrawal: shown(row), receipt, withdraw_throttle })
}

fn read(pool_id: &str, body: &RequestWithdrawal) -> Result<Asked, Refusal> {
    let lp_id = name(&body.lp_id, "lp_id")?;
    let key = name(&body.idempotency_key, "idempotency_key")?;
    if body.shares_burned == 0 {
        return Err(Refusal::invalid("shares_burned must be > 0"));
    }
    let text = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let (invoice, address) = match body.rail_preference {
        PayoutRail::Lightning => (text(&body.payout_invoice_bolt11), None),
        PayoutRail::Onchain => (None, text(&body.payout_address)),
    };
    if invoice.as_ref().is_some_and(|invoice| invoice.len() > bolt11::LONGEST) {
        let message = format!("payout_invoice_bolt11 must be at most {} bytes", bolt11::LONGEST);
        return Err(Refusal::invalid(message));
    }
    if address.as_ref().is_some_and(|address| address.len() > LONGEST_ADDRESS) {
        return Err(Refusal::invalid(format!("payout_address must be at most {LONGEST_ADDRESS} bytes")));
    }
    let partition = body.partition_kind.unwrap_or_default();
    let invoice_hash = invoice.as_deref().map(sha256_hex);
    let mut content = json!({
        "schema": SCHEMA, "pool_id": pool_id, "lp_id": lp_id, "shares_burned": body.shares_burned,
        "rail_preference": body.rail_preference, "payout_invoice_hash": invoice_hash,
        "payout_address": address,
    });
    if let Some(kind) = said(partition) {
        content["partition_kind"] = json!(kind);
    }
    Ok(Asked {
        fingerprint: canonical_hash(&content),
        lp_id,
        key,
        shares: body.shares_burned,
        partition,
        rail: body.rail_preference,
        invoice,
        invoice_hash,
        address,
    })
}

/// By the price on the wire.
fn estimate(shares: u64, price: u64) -> Result<u64, Refusal> {
    let estimate = shares.checked_mul(price).ok_or_else(|| behind_us("withdraw estimate overflow"))?;
    // In millisatoshis it has to fit as well.
    match estimate.checked_mul(MSATS_PER_SAT).and_then(oa_contract::Msats::new) {
        Some(_) => Ok(estimate),
        None => Err(Refusal::invalid("withdraw estimate too large")),
    }
}

/// Strictly all that the shares are worth, rounded down to sats once, less what the way of the payout may cost: whoever
/// leaves pays their own way. Leniently by the price of the last snapshot, and the way is the pool's.
fn promise(asked: &Asked, standing: &Standing, by_price: u64, terms: &Terms) -> Promise {
    if terms.checks_payouts {
        // More than there are is refused by the lock, in words that clients know.
        let owed_sats = standing.worth_sats(asked.shares).unwrap_or(by_price);
        let way_sats = terms.settings.payout_fee_sats(asked.rail, owed_sats);
        return Promise { owed_sats, payout_sats: owed_sats.saturating_sub(way_sats) };
    }
    let owed_sats = match terms.requires_shares {
        true => standing.promised_sats(asked.shares, by_price),
        // What the shares are worth is asked when they are paid for.
        false => by_price,
    };
    Promise { owed_sats, payout_sats: owed_sats }
}

/// An invoice has to be payable when its day comes, and for one round of the queue after that.
fn outlives(payable: &Payable, earliest: Timestamp, terms: &Terms) -> Result<(), Refusal> {
    let round = i64::try_from(terms.settings.executor_interval_seconds).unwrap_or(3_600);
    let least = earliest.plus_seconds(round.saturating_mul(2));
    match payable.expires_at {
        Some(end) if end < least => Err(Refusal::invalid(format!(
            "payout_invoice_bolt11 expires at {end}, and the payout is made at {earliest} at the earliest: it must be valid until {least}"
        ))),
        _ => Ok(()),
    }
}

/// Whether what was named can be paid, and what is known of an invoice that was read whole.
fn payable(asked: &Asked, promised: u64, terms: &Terms) -> Result<Payable, Refusal> {
    let required =
        |field: &str, rail: &str| Refusal::invalid(format!("{field} is required for {rail} withdrawals"));
    match asked.rail {
        PayoutRail::Lightning => {
            let invoice = asked.invoice.as_deref();
            let invoice = invoice.ok_or_else(|| required("payout_invoice_bolt11", "lightning"))?;
            invoice_pays(invoice, promised, terms)
        }
        PayoutRail::Onchain => {
            let address = asked.address.as_deref();
            let address = address.ok_or_else(|| required("payout_address", "onchain"))?;
            if terms.checks_payouts {
                payout::check_address(address, promised, terms.network)?;
            }
            Ok(Payable::default())
        }
    }
}

fn invoice_pays(invoice: &str, promised: u64, terms: &Terms) -> Result<Payable, Refusal> {
    let amount = queue::amount_msats(invoice);
    let amount = amount.ok_or_else(|| Refusal::invalid("payout_invoice_bolt11 must include an amount"))?;
    if amount % MSATS_PER_SAT != 0 {
        return Err(Refusal::invalid("payout_invoice_bolt11 amount must be a whole number of sats"));
    }
    let sats = amount / MSATS_PER_SAT;
    if sats == 0 {
        return Err(Refusal::invalid("payout_invoice_bolt11 amount must be > 0"));
    }
    if sats != promised {
        return Err(Refusal::invalid(format!(
            "payout invoice amount {sats} sats does not match withdrawal estimate {promised} sats"
        )));
    }
    if !terms.checks_payouts {
        return Ok(Payable { payment_hash: bolt11::payment_hash(invoice), expires_at: None });
    }
    let checked = bolt11::check(invoice, terms.network, terms.now);
    let checked = checked.map_err(|bad| Refusal::invalid(format!("payout_invoice_bolt11: {bad}")))?;
    if checked.amount.get() != amount {
        // The prefix is made up of what the checksum covers, so this is no invoice of any wallet.
        return Err(Refusal::invalid("payout_invoice_bolt11 is for another amount than its prefix says"));
    }
    Ok(Payable { payment_hash: Some(checked.payment_hash), expires_at: Some(checked.expires_at) })
}

fn queued(
    pool_id: &str,
    asked: &Asked,
    id: &str,
    promise: Promise,
    payable: &Payable,
    throttle: Option<&WithdrawThrottle>,
    terms: &Terms,
) -> WithdrawalRow {
    let extra = throttle.map_or(0, |throttle| throttle.extra_delay_hours);
    let delay = i64::from(terms.settings.withdraw_delay_hours) + i64::from(extra);
    let earliest = terms.now.plus_seconds(delay * 3_600);
    WithdrawalRow {
        withdrawal_id: id.to_owned(),
        pool_id: pool_id.to_owned(),
        partition: asked.partition,
        lp_id: asked.lp_id.clone(),
        shares_burned: asked.shares,
        amount_sats: promise.payout_sats,
        rail: asked.rail,
        status: WithdrawalStatus::Queued,
        fingerprint: asked.fingerprint.clone(),
        idempotency_key: asked.key.clone(),
        earliest_settlement_at: earliest,
        payout_invoice: asked.invoice.clone(),
        payout_invoice_hash: asked.invoice_hash.clone(),
        payment_hash: payable.payment_hash.clone(),
        payout_address: asked.address.clone(),
        locked: false,
        round: 0,
        request_id: None,
        paying_msats: 0,
        not_after: None,
        signing_request_id: None,
        due_at: Some(earliest),
        wallet_receipt_sha256: None,
        last_error: None,
        created_at: terms.now,
        paid_at: None,
        owed_msats: promise.owed_sats.saturating_mul(MSATS_PER_SAT),
        shares_returned: 0,
        tries: 0,
        asks: 0,
    }
}

/// A withdrawal as callers see it.
pub(super) fn shown(row: WithdrawalRow) -> Withdrawal {
    Withdrawal {
        withdrawal_id: row.withdrawal_id,
        pool_id: row.pool_id,
        partition_kind: row.partition,
        lp_id: row.lp_id,
        shares_burned: row.shares_burned,
        amount_sats_estimate: row.amount_sats,
        rail_preference: row.rail,
        status: row.status,
        idempotency_key: row.idempotency_key,
        earliest_settlement_at: row.earliest_settlement_at,
        payout_invoice_bolt11: row.payout_invoice,
        payout_invoice_hash: row.payout_invoice_hash,
        payout_address: row.payout_address,
        wallet_receipt_sha256: row.wallet_receipt_sha256,
        created_at: row.created_at,
        paid_at: row.paid_at,
        last_error: row.last_error,
        shares_returned: (row.shares_returned > 0).then_some(row.shares_returned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> RequestWithdrawal {
        RequestWithdrawal {
            schema: SCHEMA.into(),
            lp_id: "lp:vignette".into(),
            idempotency_key: "idem:withdraw-ln-1".into(),
            shares_burned: 1_000,
            partition_kind: None,
            rail_preference: PayoutRail::Lightning,
            payout_invoice_bolt11: Some(" lnbc10000n1vignette ".into()),
            payout_address: None,
        }
    }

    fn terms(checks_payouts: bool) -> Terms {
        Terms {
            settings: PoolSettings::default(),
            checks_payouts,
            requires_shares: checks_payouts,
            network: Network::Mainnet,
            signer: None,
            now: Timestamp::from_unix_seconds(1_772_000_000),
        }
    }

    fn refusal(body: &RequestWithdrawal, promised: u64) -> String {
        let asked = match read("p", body) {
            Ok(asked) => asked,
            Err(refusal) => return refusal.message,
        };
        payable(&asked, promised, &terms(false)).expect_err("refused").message
    }

    #[test]
    fn the_fingerprint_is_the_golden_one() {
        let asked = read("pool_vignette_llp", &body()).expect("asked");
        assert_eq!(asked.fingerprint, "704ebeba958c24926fb72466a2df6954e56f19b47bc6fc093969cf9c2b2cc0dd");
        assert_eq!(payable(&asked, 1_000, &terms(false)), Ok(Payable::default()));
    }

    #[test]
    fn every_member_is_checked_in_its_order() {
        let with =
            |invoice: &str| RequestWithdrawal { payout_invoice_bolt11: Some(invoice.into()), ..body() };
        for (body, message) in [
            (RequestWithdrawal { lp_id: " ".into(), ..body() }, "lp_id is required"),
            (RequestWithdrawal { idempotency_key: "\t".into(), ..body() }, "idempotency_key is required"),
            (RequestWithdrawal { shares_burned: 0, ..body() }, "shares_burned must be > 0"),
            (
                RequestWithdrawal { payout_invoice_bolt11: None, ..body() },
                "payout_invoice_bolt11 is required for lightning withdrawals",
            ),
            (with("lnbc1amountless"), "payout_invoice_bolt11 must include an amount"),
            (with("lnbc10p1test"), "payout_invoice_bolt11 amount must be a whole number of sats"),
            (with("lnbc0n1test"), "payout_invoice_bolt11 amount must be > 0"),
            (
                with("lnbc20000n1vignette"),
                "payout invoice amount 2000 sats does not match withdrawal estimate 1000 sats",
            ),
            (
                RequestWithdrawal { rail_preference: PayoutRail::Onchain, ..body() },
                "payout_address is required for onchain withdrawals",
            ),
        ] {
            assert_eq!(refusal(&body, 1_000), message);
        }
    }

    #[test]
    fn estimates_that_do_not_fit_are_refused() {
        assert_eq!(estimate(u64::MAX, 2).expect_err("refused").message, "withdraw estimate overflow");
        assert_eq!(estimate(u64::MAX, 1).expect_err("refused").message, "withdraw estimate too large");
        assert_eq!(estimate(7, 3), Ok(21));
    }

    #[test]
    fn strictly_shares_are_promised_what_they_are_worth_less_their_way() {
        let asked = read("p", &body()).expect("asked");
        // 1.9 sats a share.
        let standing = Standing { assets_msats: 19_000_000, owed_msats: 0, shares: 10_000, locked: 0 };
        let strict = promise(&asked, &standing, 1_000, &terms(true));
        assert_eq!(strict, Promise { owed_sats: 1_900, payout_sats: 1_891 });
        let lenient = promise(&asked, &standing, 1_000, &terms(false));
        assert_eq!(lenient, Promise { owed_sats: 1_000, payout_sats: 1_000 });
    }

    #[test]
    fn strictly_an_invoice_must_be_valid_when_it_is_due() {
        let terms = terms(true);
        let until =
            |seconds| Payable { payment_hash: None, expires_at: Some(terms.now.plus_seconds(seconds)) };
        let refused = outlives(&until(3_600), terms.now.plus_seconds(86_400), &terms).expect_err("too short");
        assert!(refused.message.contains(&terms.now.plus_seconds(86_430).to_string()), "{}", refused.message);
        assert_eq!(outlives(&until(86_430), terms.now.plus_seconds(86_400), &terms), Ok(()));
        assert_eq!(outlives(&Payable::default(), terms.now.plus_seconds(86_400), &terms), Ok(()));
    }

    #[test]
    fn strictly_an_invoice_is_read_whole() {
        let asked = read("p", &body()).expect("asked");
        let refused = payable(&asked, 1_000, &terms(true)).expect_err("made up");
        assert!(refused.message.starts_with("payout_invoice_bolt11: invoice is not valid BOLT11"));
    }
}
