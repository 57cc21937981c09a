//! Stories of pools, on both engines, with a wallet that does what a test says.

mod deposits;
mod leaving;
mod lenient;
mod payouts;
mod random;
mod resolving;
mod signing;
mod snapshots;
mod wallet;

use std::sync::Arc;

use oa_contract::{
    Caller, Nothing, Refusal, Stop, Timestamp,
    matrix::{
        PoolsConfirmDeposit, PoolsCreate, PoolsDepositQuote, PoolsLatestSnapshot, PoolsStatus,
        PoolsWithdrawRequest,
    },
    signer::Signer,
    wire::{
        paths::{PoolDepositPath, PoolPath},
        pool_signing::DueExecuted,
        pools::{
            CreatePool, Deposit, DepositConfirmed, DepositQuote, DepositRail, LatestSnapshot, PartitionKind,
            PartitionStatus, PayoutRail, Pool, PoolStatus, PoolStatusReply, QuoteDeposit, RequestWithdrawal,
            SnapshotReply, WithdrawReply, Withdrawal,
        },
    },
};
use oa_store::EngineKind;

use self::wallet::TestWallet;
use super::settings::PoolSettings;
use crate::{
    Config, TrustMode,
    testing::{World, config, operator, refused},
};

const POOL: &str = "pool_vignette_llp";
const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

/// A world with a pool and a wallet.
struct Place {
    world: World,
    wallet: Arc<TestWallet>,
}

fn signer() -> Signer {
    let secret = oa_contract::canonical::sha256_hex("openagents:vignette:vignette-liquidity-pool-mvp0");
    Signer::from_secret(&secret).expect("a key")
}

/// Where the way of a payout costs nothing, so that sums are easily read.
fn settings() -> PoolSettings {
    PoolSettings { withdraw_delay_hours: 0, payout_fee_bps: 0, ..PoolSettings::default() }
}

/// Where it costs what it usually does.
fn usual_ways() -> PoolSettings {
    PoolSettings { payout_fee_bps: 50, ..settings() }
}

/// Tells a story on both engines, with these settings.
async fn on_each(trust_mode: TrustMode, pools: PoolSettings, story: impl AsyncFn(Place)) {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        story(Place::open(engine, trust_mode, pools.clone()).await).await;
    }
}

async fn strictly(story: impl AsyncFn(Place)) {
    on_each(TrustMode::Strict, settings(), story).await;
}

impl Place {
    async fn open(engine: EngineKind, trust_mode: TrustMode, pools: PoolSettings) -> Self {
        let wallet = Arc::new(TestWallet::default());
        let config = Config { trust_mode, pools, ..config() };
        let world = World::paying(engine, config, Some(wallet.clone())).await;
        let place = Place { world, wallet };
        place.create(POOL, PoolStatus::Active).await.expect("a pool");
        place
    }

    async fn create(&self, pool_id: &str, status: PoolStatus) -> Result<Pool, Stop> {
        let body = CreatePool {
            schema: "openagents.liquidity.pool.create_request.v1".into(),
            operator_id: "operator:vignette".into(),
            pool_kind: None,
            status: Some(status),
            config: oa_contract::wire::null(),
        };
        let path = PoolPath { pool_id: pool_id.into() };
        let told = self.world.call::<PoolsCreate>(&operator(), path, Nothing {}, body).await;
        told.map(|(_, reply)| reply.pool)
    }

    async fn quote(&self, caller: &Caller, body: QuoteDeposit) -> Result<DepositQuote, Stop> {
        let path = PoolPath { pool_id: POOL.into() };
        self.world.call::<PoolsDepositQuote>(caller, path, Nothing {}, body).await.map(|told| told.1)
    }

    async fn confirm(&self, deposit_id: &str) -> Result<DepositConfirmed, Stop> {
        let path = PoolDepositPath { pool_id: POOL.into(), deposit_id: deposit_id.into() };
        let told = self.world.call::<PoolsConfirmDeposit>(&operator(), path, Nothing {}, Nothing {}).await;
        told.map(|told| told.1)
    }

    /// A deposit that has arrived.
    async fn deposit(&self, lp_id: &str, key: &str, sats: u64) -> Deposit {
        let quoted = self.quote(&operator(), deposit_of(lp_id, key, sats)).await.expect("quoted").deposit;
        self.wallet.settle(quoted.invoice_bolt11.as_deref().expect("an invoice"));
        self.confirm(&quoted.deposit_id).await.expect("confirmed").deposit
    }

    async fn withdraw(&self, body: RequestWithdrawal) -> Result<WithdrawReply, Stop> {
        let path = PoolPath { pool_id: POOL.into() };
        let told = self.world.call::<PoolsWithdrawRequest>(&operator(), path, Nothing {}, body).await;
        told.map(|told| told.1)
    }

    async fn again(&self, body: RequestWithdrawal) -> Withdrawal {
        self.withdraw(body).await.expect("replayed").withdrawal
    }

    /// A real invoice for so many sats, that the wallet can pay.
    fn invoice(&self, name: &str, sats: u64) -> String {
        self.wallet.invoice_of_somebody(name, sats, self.world.clock_now())
    }

    async fn execute_due(&self) -> DueExecuted {
        self.world.runtime.execute_due(50).await.expect("executed")
    }

    async fn status(&self) -> PoolStatusReply {
        let path = PoolPath { pool_id: POOL.into() };
        self.world.call::<PoolsStatus>(&operator(), path, Nothing {}, Nothing {}).await.expect("a status").1
    }

    async fn llp(&self) -> PartitionStatus {
        self.status().await.partitions[0].clone()
    }

    async fn snapshot(&self, kind: PartitionKind) -> Result<SnapshotReply, Stop> {
        let path = PoolPath { pool_id: POOL.into() };
        let query = LatestSnapshot { generate: Some(true), partition_kind: Some(kind) };
        let told = self.world.call::<PoolsLatestSnapshot>(&operator(), path, query, Nothing {}).await;
        told.map(|told| told.1)
    }

    async fn latest(&self, pool_id: &str) -> Result<SnapshotReply, Stop> {
        let path = PoolPath { pool_id: pool_id.into() };
        let query = LatestSnapshot::default();
        let told = self.world.call::<PoolsLatestSnapshot>(&operator(), path, query, Nothing {}).await;
        told.map(|told| told.1)
    }

    /// The books add up: looked through by the auditor.
    async fn audit(&self) {
        use oa_store::{Tx, tables::ledger_audit};
        let look = async |tx: &mut Tx, (): &()| {
            ledger_audit::look(tx, &ledger_audit::Cursor::default(), 10_000).await
        };
        let looked = self.world.runtime.store.read("test.audit", (), look).await.expect("audited");
        assert!(looked.findings.is_empty() && looked.next.is_none(), "{:?}", looked.findings);
    }

    fn now(&self) -> Timestamp {
        self.world.clock_now()
    }

    /// The first partition has earned something that nobody deposited.
    async fn earns(&self, name: &str, msats: u64) {
        let money = oa_ledger::pool::Accounts::of(POOL, PartitionKind::Llp).expect("accounts").money;
        let leg = oa_ledger::Leg {
            debit: self.world.runtime.wallet_account().expect("an account"),
            credit: money,
            amount: oa_contract::Amount::new(msats).expect("an amount"),
        };
        let order = oa_ledger::Order {
            id: oa_ledger::TransferId::new(name).expect("an id"),
            legs: vec![leg],
            hold: None,
            reference: "earned".into(),
        };
        let write = async |tx: &mut oa_store::Tx, (order, now): &(oa_ledger::Order, Timestamp)| {
            oa_store::tables::ledger::transfer(tx, order, *now).await.map(drop)
        };
        let ask = (order, self.now());
        self.world.runtime.store.write("test.earn", super::key(POOL), ask, write).await.expect("booked");
    }
}

fn deposit_of(lp_id: &str, key: &str, sats: u64) -> QuoteDeposit {
    QuoteDeposit {
        schema: "openagents.liquidity.pool.deposit_quote_request.v1".into(),
        lp_id: lp_id.into(),
        idempotency_key: key.into(),
        amount_sats: sats,
        partition_kind: None,
        rail: DepositRail::LightningInvoice,
        description: None,
        expiry_secs: None,
    }
}

fn leaving(lp_id: &str, key: &str, shares: u64, invoice: &str) -> RequestWithdrawal {
    RequestWithdrawal {
        schema: "openagents.liquidity.pool.withdraw_request.v1".into(),
        lp_id: lp_id.into(),
        idempotency_key: key.into(),
        shares_burned: shares,
        partition_kind: None,
        rail_preference: PayoutRail::Lightning,
        payout_invoice_bolt11: Some(invoice.into()),
        payout_address: None,
    }
}

fn on_chain(lp_id: &str, key: &str, shares: u64, address: &str) -> RequestWithdrawal {
    RequestWithdrawal {
        rail_preference: PayoutRail::Onchain,
        payout_invoice_bolt11: None,
        payout_address: Some(address.into()),
        ..leaving(lp_id, key, shares, "")
    }
}

/// The status and the words of a refusal.
fn told<T>(ended: Result<T, Stop>) -> (u16, String) {
    let Refusal { message, code, status, .. } = refused(ended);
    (status.unwrap_or_else(|| code.status(oa_contract::Service::Runtime)), message)
}
