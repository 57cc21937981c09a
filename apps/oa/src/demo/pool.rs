//! Chapter: where the money comes from. Two lenders pay into a pool's credit partition over Lightning, and the pool
//! believes the wallet and nobody else.

use oa_client::CallError;
use oa_contract::{
    Nothing,
    canonical::hex,
    matrix::{PoolsConfirmDeposit, PoolsCreate, PoolsDepositQuote, PoolsLendingSet, PoolsStatus},
    operation::Call,
    wire::{
        credit::{Borrower, SetLending},
        paths::{PoolDepositPath, PoolPath},
        pools::{
            CreatePool, Deposit, DepositRail, DepositStatus, PartitionKind, PoolStatusReply, QuoteDeposit,
        },
    },
};
use serde_json::{json, value::to_raw_value};

use super::{
    BUYER, Stage,
    book::{Book, short},
    strangers::fresh_key,
};
use crate::{failure::Failure, output::table};

/// Who lends, and how much.
const LENDERS: [(&str, u64); 2] = [("ada", 3_000), ("ben", 2_000)];
/// What the buyer and all its agents may have open and owe at one time.
const LENT_SATS: u64 = 4_000;
/// Whose balance is proved later.
pub const PROVED: &str = LENDERS[0].0;

/// A pool that has something to lend.
pub struct Pool {
    pub id: String,
}

impl Pool {
    pub fn path(&self) -> PoolPath {
        PoolPath { pool_id: self.id.clone() }
    }
}

pub async fn fund(stage: &Stage<'_>, book: &mut Book) -> Result<Pool, Failure> {
    book.chapter("Two lenders fund a pool over Lightning")?;
    book.indented(stage.purse.told())?;
    let sats = stage.purse.sats().await?;
    book.indented(&format!(
        "(It could pay {sats} sats of the operator's own before anybody pays anything in.)"
    ))?;
    let pool = open(stage, book).await?;
    let mut rows = Vec::new();
    let mut deposits = Vec::new();
    for (lp_id, amount_sats) in LENDERS {
        let (deposit, paid) = lend(stage, book, &pool, (lp_id, amount_sats)).await?;
        rows.push(vec![
            lp_id.to_owned(),
            format!(
                "paid {amount_sats} sats on {}",
                short(deposit.invoice_bolt11.as_deref().unwrap_or_default())
            ),
            format!("preimage {}", short(&paid)),
            format!("{} shares", deposit.shares_minted),
        ]);
        deposits.push(json!({"deposit": deposit, "preimage": paid}));
    }
    book.indented(&table(&rows))?;
    let call = Call::<PoolsStatus> { path: pool.path(), query: Nothing {}, body: Nothing {} };
    let status: PoolStatusReply = stage.talk.asked(&call).await?;
    let credit = status.partitions.iter().find(|one| one.partition_kind == PartitionKind::Cep);
    let credit = credit.ok_or_else(|| Failure::wrong("the pool has no partition for credit"))?;
    book.indented(&format!(
        "The pool's credit partition holds {} sats behind {} shares.",
        credit.assets_sats_estimate, credit.total_shares
    ))?;
    book.keep("deposits", json!(deposits));
    book.keep("wallet", json!({"simulated": true, "real_lightning": stage.purse.real}));
    Ok(pool)
}

async fn open(stage: &Stage<'_>, book: &mut Book) -> Result<Pool, Failure> {
    let pool = Pool { id: fresh_key()? };
    book.name(&pool.id, "the-pool");
    let body = CreatePool {
        schema: "openagents.liquidity.pool.create_request.v1".into(),
        operator_id: "operator:demo".into(),
        pool_kind: None,
        status: None,
        config: to_raw_value(&json!({"note": "the demonstration"}))
            .map_err(|error| Failure::wrong(error.to_string()))?,
    };
    stage.talk.asked(&Call::<PoolsCreate> { path: pool.path(), query: Nothing {}, body }).await?;
    let body = SetLending {
        borrowers: vec![Borrower { owner_user_id: Some(BUYER), max_sats: LENT_SATS, ..Borrower::default() }],
        together_sats: LENT_SATS,
    };
    let call = Call::<PoolsLendingSet> { path: pool.path(), query: Nothing {}, body };
    let lending = stage.talk.asked(&call).await?.lending;
    book.indented(&format!(
        "the-pool lends to user:{BUYER} and all its agents, {LENT_SATS} sats at one time, and to nobody else."
    ))?;
    book.keep("lending", json!(lending));
    Ok(pool)
}

/// Quote, payment, confirmation. Gives the deposit and the preimage that paid for it.
async fn lend(
    stage: &Stage<'_>,
    book: &Book,
    pool: &Pool,
    (lp_id, amount_sats): (&str, u64),
) -> Result<(Deposit, String), Failure> {
    let body = QuoteDeposit {
        schema: "openagents.liquidity.pool.deposit_quote_request.v1".into(),
        lp_id: lp_id.to_owned(),
        idempotency_key: format!("deposit-{lp_id}"),
        amount_sats,
        partition_kind: Some(PartitionKind::Cep),
        rail: DepositRail::LightningInvoice,
        description: Some(format!("{lp_id} lends")),
        expiry_secs: Some(600),
    };
    let quoted =
        stage.talk.asked(&Call::<PoolsDepositQuote> { path: pool.path(), query: Nothing {}, body }).await?;
    let confirm = || {
        let deposit_id = quoted.deposit.deposit_id.clone();
        let path = PoolDepositPath { pool_id: pool.id.clone(), deposit_id };
        Call::<PoolsConfirmDeposit> { path, query: Nothing {}, body: Nothing {} }
    };
    if lp_id == PROVED {
        too_early(stage, book, lp_id, confirm()).await?;
    }
    let invoice = quoted.deposit.invoice_bolt11.clone().unwrap_or_default();
    let paid = stage.purse.pay_in(&format!("lend:{lp_id}"), &invoice).await?;
    let preimage = paid.preimage.ok_or_else(|| Failure::wrong("a lender's wallet shows no preimage"))?;
    if Some(preimage.payment_hash()) != oa_lightning::bolt11::payment_hash(&invoice) {
        return Err(Failure::wrong("a lender's preimage does not open the invoice's payment hash"));
    }
    let confirmed = stage.talk.asked(&confirm()).await?.deposit;
    match confirmed.status {
        DepositStatus::Confirmed => Ok((confirmed, hex(&preimage.0))),
        other => Err(Failure::wrong(format!("the deposit of {lp_id} was paid and is {other}"))),
    }
}

/// Shares are minted for money, not for words.
async fn too_early(
    stage: &Stage<'_>,
    book: &Book,
    lp_id: &str,
    confirm: Call<PoolsConfirmDeposit>,
) -> Result<(), Failure> {
    match stage.talk.client.call(confirm).await {
        Err(CallError::Refused { status: 409, message, .. }) => {
            book.indented(&format!("{lp_id} says that it has paid, and has not. The pool: 409 {message}"))
        }
        Err(error) => Err(Failure::call(stage.talk.client.base(), error)),
        Ok(_) => Err(Failure::wrong("the pool has minted shares for nothing: please report this")),
    }
}
