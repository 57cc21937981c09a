//! `POST /internal/v1/pools/:pool_id/deposit_quote`: where to pay, and what it will mint (§5.2).
//!
//! The key is looked up before anything else. The wallet is asked outside of any transaction, under an id that follows
//! from the key: whoever asks again after a crash gets the same invoice.

use oa_contract::{
    Answer, Ask, Caller, Handle, Msats, Refusal, Stop, Timestamp,
    canonical::canonical_hash,
    matrix::PoolsDepositQuote,
    signer::Signer,
    wire::pools::{
        Deposit, DepositQuote, DepositRail, DepositStatus, PartitionKind, Pool, PoolStatus, QuoteDeposit,
    },
};
use oa_ledger::pool::{MSATS_PER_SAT, quoted_shares};
use oa_lightning::{InvoiceOrder, WalletError, bolt11};
use oa_store::{
    Tx,
    tables::pools::{self as table, DepositRow},
};
use serde_json::json;

use super::{
    behind_us, deposit_request_key, key, may_act_for, name, no_pool, receipts, said, schema, standing,
    wallet_request_id,
};
use crate::Runtime;

const SCHEMA: &str = "openagents.liquidity.pool.deposit_quote_request.v1";
const REPLY: &str = "openagents.liquidity.pool.deposit_quote_response.v1";
const LONGEST_DESCRIPTION: usize = 1_024;
/// How long an invoice is good when nobody says.
const USUAL_EXPIRY_SECONDS: u64 = 3_600;
/// An address is watched for so long.
const ADDRESS_EXPIRY_SECONDS: u64 = 7 * 86_400;
const LONGEST_EXPIRY_SECONDS: u64 = 30 * 86_400;

/// What was asked for, checked as far as that needs no store.
#[derive(Clone, Debug)]
struct Asked {
    pool_id: String,
    lp_id: String,
    key: String,
    amount_sats: u64,
    partition: PartitionKind,
    rail: DepositRail,
    description: Option<String>,
    expiry_secs: Option<u64>,
    fingerprint: String,
    request_id: String,
    strict: bool,
}

/// What the wallet has given.
#[derive(Clone, Debug, Default)]
struct Given {
    invoice: Option<String>,
    invoice_hash: Option<String>,
    payment_hash: Option<String>,
    address: Option<String>,
    expires_at: Option<Timestamp>,
}

enum Found {
    Quoted(Box<DepositRow>),
    Fresh(Box<Asked>),
}

impl Handle<PoolsDepositQuote> for Runtime {
    async fn handle(&self, ask: Ask<PoolsDepositQuote>) -> Result<Answer<DepositQuote>, Stop> {
        schema(&ask.body.schema, SCHEMA)?;
        let strict = self.verifies_deposits();
        let look = (ask.path.pool_id, ask.body, ask.caller, strict);
        let row = match self.store.read("pools.find_deposit", look, find).await? {
            Found::Quoted(row) => *row,
            Found::Fresh(asked) => {
                let given = self.where_to_pay(&asked).await?;
                let id = format!("liqdep_{}", self.ids.uuid_v7(self.now()));
                let ask = (*asked, given, id, self.now(), self.signer.clone());
                self.store.write("pools.quote_deposit", key(&ask.0.pool_id), ask, quote).await?
            }
        };
        Ok(self.store.read("pools.deposit_receipt", row, answered).await?.into())
    }
}

impl Runtime {
    /// Whether a deposit is believed on the wallet's word only.
    pub(crate) fn verifies_deposits(&self) -> bool {
        // A variable can only ask for more than the trust mode does.
        !self.believes_callers() || self.config.pools.verified_deposits.unwrap_or(false)
    }

    async fn where_to_pay(&self, asked: &Asked) -> Result<Given, Stop> {
        match asked.rail {
            DepositRail::LightningInvoice => {
                let order = InvoiceOrder {
                    request_id: asked.request_id.clone(),
                    amount: msats(asked.amount_sats)?,
                    memo: asked.description.clone(),
                    // Always said, so that nobody's own default counts.
                    expiry_seconds: Some(asked.expiry_secs.unwrap_or(USUAL_EXPIRY_SECONDS)),
                };
                let invoice = self.wallet().create_invoice(&order).await;
                let invoice = invoice.map_err(|error| not_given("create-invoice", &error))?;
                if invoice.bolt11.trim().is_empty() || invoice.invoice_hash.trim().is_empty() {
                    return Err(behind_us("wallet executor create-invoice returned empty invoice").into());
                }
                let read = bolt11::payment_hash(&invoice.bolt11);
                Ok(Given {
                    payment_hash: invoice.payment_hash.or(read),
                    // What stands in the invoice is what its payer goes by.
                    expires_at: bolt11::expires_at_of(&invoice.bolt11)
                        .or_else(|| Some(Timestamp::EPOCH.plus_millis(invoice.expires_at_ms?))),
                    invoice: Some(invoice.bolt11),
                    invoice_hash: Some(invoice.invoice_hash),
                    address: None,
                })
            }
            DepositRail::OnchainAddress => {
                let address = self.wallet().receive_address(&asked.request_id).await;
                let address = address.map_err(|error| not_given("receive-address", &error))?.address;
                match address.trim().is_empty() {
                    true => Err(behind_us("wallet executor receive-address returned empty address").into()),
                    false => Ok(Given { address: Some(address), ..Given::default() }),
                }
            }
        }
    }
}

/// The words that clients know (§5.2). Another content under the same key is the caller's conflict.
fn not_given(what: &str, error: &WalletError) -> Refusal {
    let trouble = error.trouble();
    match trouble.code.as_str() {
        "idempotency_conflict" => reused(),
        "empty_invoice" => behind_us("wallet executor create-invoice returned empty invoice"),
        "empty_address" => behind_us("wallet executor receive-address returned empty address"),
        "wallet_executor_not_configured" => behind_us(format!("dependency unavailable: {}", trouble.message)),
        "wallet_executor_transport_error" => {
            behind_us(format!("wallet executor {what} transport error: {}", trouble.message))
        }
        code if what == "receive-address" && code.starts_with("http_") => {
            behind_us(format!("wallet executor {what} failed: {code}"))
        }
        code => behind_us(format!("wallet executor {what} failed: {code}: {}", trouble.message)),
    }
}

fn reused() -> Refusal {
    Refusal::conflict("idempotency_key reused with different deposit parameters")
}

fn msats(sats: u64) -> Result<Msats, Refusal> {
    let msats = sats.checked_mul(MSATS_PER_SAT).and_then(Msats::new);
    msats.ok_or_else(|| Refusal::invalid("amount_sats too large"))
}

/// What stands under the key, or what is to be quoted. A pool that takes no deposits still answers for those that it
/// took.
async fn find(
    tx: &mut Tx,
    (pool_id, body, caller, strict): &(String, QuoteDeposit, Caller, bool),
) -> Result<Found, Stop> {
    let pool = table::pool(tx, pool_id).await?.ok_or_else(no_pool)?;
    let asked = match (read(pool_id, body, caller, *strict), open(&pool)) {
        (Ok(asked), _) => asked,
        (Err(refusal), Ok(())) | (Err(_), Err(refusal)) => return Err(refusal.into()),
    };
    if let Some(row) = known(tx, &asked).await? {
        return Ok(Found::Quoted(Box::new(row)));
    }
    open(&pool)?;
    if strict_zero(&asked, standing::quoted_price(tx, pool_id, asked.partition).await?) {
        return Err(worthless().into());
    }
    Ok(Found::Fresh(Box::new(asked)))
}

fn open(pool: &Pool) -> Result<(), Refusal> {
    match pool.status {
        PoolStatus::Active => Ok(()),
        PoolStatus::Paused | PoolStatus::Disabled => Err(Refusal::conflict("pool is not active")),
    }
}

fn strict_zero(asked: &Asked, price: u64) -> bool {
    asked.strict && quoted_shares(asked.amount_sats, price) == 0
}

fn worthless() -> Refusal {
    Refusal::invalid("amount_sats buys no share: it must be at least the share price")
}

async fn known(tx: &mut Tx, asked: &Asked) -> Result<Option<DepositRow>, Stop> {
    let row = table::deposit_by_key(tx, &asked.pool_id, asked.partition, &asked.lp_id, &asked.key).await?;
    match row {
        Some(row) if row.fingerprint != asked.fingerprint => Err(reused().into()),
        row => Ok(row),
    }
}

fn read(pool_id: &str, body: &QuoteDeposit, caller: &Caller, strict: bool) -> Result<Asked, Refusal> {
    let lp_id = name(&body.lp_id, "lp_id")?;
    let key = name(&body.idempotency_key, "idempotency_key")?;
    if body.amount_sats == 0 {
        return Err(Refusal::invalid("amount_sats must be > 0"));
    }
    msats(body.amount_sats)?;
    if body.description.as_ref().is_some_and(|text| text.len() > LONGEST_DESCRIPTION) {
        return Err(Refusal::invalid(format!("description must be at most {LONGEST_DESCRIPTION} bytes")));
    }
    if body.expiry_secs.is_some_and(|seconds| seconds > LONGEST_EXPIRY_SECONDS) {
        return Err(Refusal::invalid(format!("expiry_secs must be at most {LONGEST_EXPIRY_SECONDS}")));
    }
    may_act_for(caller, &lp_id)?;
    let partition = body.partition_kind.unwrap_or_default();
    let request_key = deposit_request_key(partition, &key);
    Ok(Asked {
        fingerprint: fingerprint(pool_id, body, &lp_id),
        request_id: wallet_request_id("deposit", pool_id, &lp_id, &request_key),
        pool_id: pool_id.to_owned(),
        lp_id,
        key,
        amount_sats: body.amount_sats,
        partition,
        rail: body.rail,
        description: body.description.clone(),
        expiry_secs: body.expiry_secs,
        strict,
    })
}

fn fingerprint(pool_id: &str, body: &QuoteDeposit, lp_id: &str) -> String {
    let description = body.description.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let mut content = json!({
        "schema": SCHEMA, "pool_id": pool_id, "lp_id": lp_id, "rail": body.rail,
        "amount_sats": body.amount_sats, "description": description, "expiry_secs": body.expiry_secs,
    });
    if let Some(kind) = said(body.partition_kind.unwrap_or_default()) {
        content["partition_kind"] = json!(kind);
    }
    canonical_hash(&content)
}

type Quote = (Asked, Given, String, Timestamp, Option<Signer>);

async fn quote(tx: &mut Tx, (asked, given, id, now, signer): &Quote) -> Result<DepositRow, Stop> {
    if let Some(row) = known(tx, asked).await? {
        return Ok(row);
    }
    let pool = table::pool(tx, &asked.pool_id).await?.ok_or_else(no_pool)?;
    open(&pool)?;
    let price = standing::quoted_price(tx, &asked.pool_id, asked.partition).await?;
    if strict_zero(asked, price) {
        return Err(worthless().into());
    }
    if let Some(address) = given.address.as_ref().filter(|_| asked.strict)
        && table::deposit_by_address(tx, address).await?.is_some()
    {
        // What arrives there could not be told apart.
        let message = "the wallet gave an address that another deposit is paid to; it must give one for each";
        return Err(behind_us(message).into());
    }
    let row = quoted(asked, given, id, price, *now);
    table::put_deposit(tx, &row).await?;
    let receipt = receipts::deposit(&row, signer.as_ref());
    let kept = receipts::kept(&receipt.receipt_id, &receipt.canonical_json_sha256, &receipt)?;
    receipts::keep(tx, ("deposit", &row.deposit_id, receipts::DEPOSIT), &kept, signer.as_ref(), *now).await?;
    Ok(row)
}

fn quoted(asked: &Asked, given: &Given, id: &str, price: u64, now: Timestamp) -> DepositRow {
    let usual = match asked.rail {
        DepositRail::LightningInvoice => asked.expiry_secs.unwrap_or(USUAL_EXPIRY_SECONDS),
        DepositRail::OnchainAddress => asked.expiry_secs.unwrap_or_default().max(ADDRESS_EXPIRY_SECONDS),
    };
    let expires_at = now.plus_seconds(i64::try_from(usual).unwrap_or(i64::MAX / 1_000_000));
    DepositRow {
        deposit_id: id.to_owned(),
        pool_id: asked.pool_id.clone(),
        partition: asked.partition,
        lp_id: asked.lp_id.clone(),
        rail: asked.rail,
        amount_sats: asked.amount_sats,
        share_price_sats: price,
        shares_minted: quoted_shares(asked.amount_sats, price),
        status: DepositStatus::Quoted,
        fingerprint: asked.fingerprint.clone(),
        idempotency_key: asked.key.clone(),
        wallet_request_id: asked.request_id.clone(),
        invoice_bolt11: given.invoice.clone(),
        invoice_hash: given.invoice_hash.clone(),
        payment_hash: given.payment_hash.clone(),
        deposit_address: given.address.clone(),
        received_msats: None,
        evidence: None,
        // Without the wallet's word nobody has to look.
        look_at: asked.strict.then_some(now.plus_seconds(5)),
        created_at: now,
        expires_at: given.expires_at.unwrap_or(expires_at),
        confirmed_at: None,
    }
}

async fn answered(tx: &mut Tx, row: &DepositRow) -> Result<DepositQuote, Stop> {
    let receipt = receipts::given(tx, "deposit", &row.deposit_id, receipts::DEPOSIT).await?;
    Ok(DepositQuote { schema: REPLY.into(), deposit: shown(row.clone()), receipt })
}

/// A deposit as callers see it.
pub(super) fn shown(row: DepositRow) -> Deposit {
    Deposit {
        deposit_id: row.deposit_id,
        pool_id: row.pool_id,
        partition_kind: row.partition,
        lp_id: row.lp_id,
        rail: row.rail,
        amount_sats: row.amount_sats,
        share_price_sats: row.share_price_sats,
        shares_minted: row.shares_minted,
        status: row.status,
        idempotency_key: row.idempotency_key,
        invoice_bolt11: row.invoice_bolt11,
        invoice_hash: row.invoice_hash,
        deposit_address: row.deposit_address,
        created_at: row.created_at,
        confirmed_at: row.confirmed_at,
        received_msats: row.received_msats,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> QuoteDeposit {
        QuoteDeposit {
            schema: SCHEMA.into(),
            lp_id: " lp:vignette ".into(),
            idempotency_key: "idem:deposit-1".into(),
            amount_sats: 2_500,
            partition_kind: None,
            rail: DepositRail::LightningInvoice,
            description: Some(" vignette deposit ".into()),
            expiry_secs: Some(900),
        }
    }

    fn refusal(body: &QuoteDeposit) -> String {
        read("p", body, &Caller::Anyone, true).expect_err("refused").message
    }

    #[test]
    fn the_fingerprint_is_the_golden_one() {
        let asked = read("pool_vignette_llp", &body(), &Caller::Anyone, true).expect("asked");
        assert_eq!(asked.fingerprint, "0de7658c7c09ae2a88f21a904ffbe2395c5cd3bb77fa6d745d26b113f452d3f0");
        assert_eq!(asked.request_id, "liqpool:deposit:e60578254f72d5e12d7f7d99");
    }

    #[test]
    fn every_member_is_checked_in_its_order() {
        assert_eq!(refusal(&QuoteDeposit { lp_id: " ".into(), ..body() }), "lp_id is required");
        let keyless = QuoteDeposit { idempotency_key: String::new(), ..body() };
        assert_eq!(refusal(&keyless), "idempotency_key is required");
        assert_eq!(refusal(&QuoteDeposit { amount_sats: 0, ..body() }), "amount_sats must be > 0");
        for amount_sats in [u64::MAX, i64::MAX as u64, Msats::MAX.get() / 1_000 + 1] {
            assert_eq!(refusal(&QuoteDeposit { amount_sats, ..body() }), "amount_sats too large");
        }
        assert!(refusal(&QuoteDeposit { expiry_secs: Some(u64::MAX), ..body() }).starts_with("expiry_secs"));
    }

    #[test]
    fn the_wallets_trouble_is_told_in_the_specified_words() {
        let told = |what, code: &str, message: &str| {
            let refusal = not_given(what, &WalletError::not_done(code, message));
            (refusal.code.name(), refusal.message)
        };
        assert_eq!(
            told("create-invoice", "wallet_executor_not_configured", "wallet executor base url missing"),
            ("internal", "dependency unavailable: wallet executor base url missing".into())
        );
        assert_eq!(
            told("create-invoice", "connect_failed", "no route"),
            ("internal", "wallet executor create-invoice failed: connect_failed: no route".into())
        );
        assert_eq!(
            told("create-invoice", "wallet_executor_transport_error", "timed out"),
            ("internal", "wallet executor create-invoice transport error: timed out".into())
        );
        assert_eq!(
            told("receive-address", "http_500", "x"),
            ("internal", "wallet executor receive-address failed: http_500".into())
        );
        assert_eq!(
            told("create-invoice", "idempotency_conflict", "x").1,
            "idempotency_key reused with different deposit parameters"
        );
    }
}
