//! What every operation of the authority works with: the store, the clock, the ids, and nothing global.

use std::{sync::Arc, time::Duration};

use oa_contract::{
    Caller, Class, Clock, Code, Ids, Port, Presented, Refusal, Service, Stop, Timestamp,
    receipt::VerifierPolicy, signer::Signer,
};
use oa_fetch::{FetchError, Fetcher, Policy};
use oa_lightning::Wallet;
use oa_store::Store;
use sha2::{Digest as _, Sha256};

use crate::{
    auth::Gate,
    background::{Heartbeats, auditor::Books},
    config::Config,
    config::TrustMode,
    hub::Hub,
    hydra::tally::Tally,
    liquidity::{desk::Desk, watch::WalletWatch},
    marketplace::{dispatch::Calls, market::Market, rate::Rate},
    treasury::{
        settle::reexecution::Reexecutor,
        wallet::{PaidBy, WalletReceipts},
    },
};

/// What a runtime is made of; `oa` and the tests make it.
pub struct Parts {
    pub config: Config,
    pub store: Store,
    /// The hub that was given to the store as its wake.
    pub hub: Arc<Hub>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    /// Signs receipts, if there is a key.
    pub signer: Option<Signer>,
    /// Secrets of signed service credentials: the first signs, all verify.
    pub secrets: Vec<Vec<u8>>,
    /// The bearer service token.
    pub service_token: Option<String>,
    /// Who pays over Lightning; the one that the configuration names when none.
    pub wallet: Option<Arc<dyn Wallet>>,
    /// Renders the process's metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the process is draining.
    pub draining: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The authority. Cheap to share behind an `Arc`.
pub struct Runtime {
    pub config: Config,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub signer: Option<Signer>,
    pub verifier: VerifierPolicy,
    pub fetcher: Fetcher,
    pub heartbeats: Heartbeats,
    /// Whether the ledger adds up.
    pub books: Arc<Books>,
    /// Who offers what.
    pub market: Arc<Market>,
    /// The way to providers.
    pub calls: Arc<Calls>,
    /// How often owners ask for prices and work.
    pub rate: Rate,
    pub started_at: Timestamp,
    /// Payments over Lightning.
    pub payments: Arc<Desk>,
    /// How the wallet was when it was last asked.
    pub wallet_watch: WalletWatch,
    /// The node that pools are measured by.
    pub node: Arc<dyn Wallet>,
    /// What Hydra counts.
    pub hydra: Tally,
    /// Runs jobs once more, so that providers can be compared.
    pub reexecutor: Arc<dyn Reexecutor>,
    /// What the wallet has really paid.
    pub wallet: Arc<dyn WalletReceipts>,
    /// Which jobs those are follows from this, and no provider knows it.
    pub(crate) reexecution_seed: Arc<str>,
    pub(crate) openapi: Arc<str>,
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) draining: Arc<dyn Fn() -> bool + Send + Sync>,
    gate: Gate,
}

impl Runtime {
    pub fn new(parts: Parts) -> Result<Self, FetchError> {
        let config = parts.config;
        let seed = config.reexecution_seed.clone().unwrap_or_else(|| seed_of(&parts.secrets));
        let policy = Policy {
            allow_private_networks: config.allow_private_networks,
            allow_loopback: config.allow_loopback_providers,
            timeout: Duration::from_secs(2),
            ..Policy::default()
        };
        let configured = || config.liquidity.wallet().map_err(|error| FetchError::Unsent(error.to_string()));
        let wallet = parts.wallet.map_or_else(configured, Ok)?;
        let paid_by = PaidBy::new(parts.store.clone(), wallet.clone());
        Ok(Runtime {
            node: config.liquidity.node(&wallet),
            payments: Desk::new(
                parts.store.clone(),
                parts.clock.clone(),
                wallet,
                parts.signer.clone(),
                config.trust_mode == TrustMode::Strict,
                config.liquidity.executor_timeout,
            ),
            wallet_watch: WalletWatch::default(),
            hydra: Tally::default(),
            gate: Gate::new(config.auth_mode, parts.secrets, parts.service_token.as_deref()),
            verifier: VerifierPolicy {
                strict: config.verifier_strict,
                active_signers: config.allowed_signers.clone(),
            },
            fetcher: Fetcher::new(policy)?.denying(config.denied_places.iter().map(String::as_str)),
            heartbeats: Heartbeats::default(),
            books: Arc::default(),
            market: Arc::default(),
            calls: Arc::new(Calls::new(&config)?),
            rate: Rate::default(),
            started_at: parts.clock.now(),
            wallet: Arc::new(paid_by),
            reexecutor: Arc::new(crate::treasury::settle::observer::Market),
            reexecution_seed: seed.into(),
            openapi: oa_contract::openapi::document(Service::Runtime).to_string().into(),
            config,
            store: parts.store,
            hub: parts.hub,
            clock: parts.clock,
            ids: parts.ids,
            signer: parts.signer,
            metrics: parts.metrics,
            draining: parts.draining,
        })
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Every replica has the same secret, and so the same sample.
fn seed_of(secrets: &[Vec<u8>]) -> String {
    let mut hash = Sha256::new();
    hash.update("oa re-execution sample");
    hash.update(secrets.first().map(Vec::as_slice).unwrap_or_default());
    oa_contract::canonical::hex(&hash.finalize())
}

impl Port for Runtime {
    const SERVICE: Service = Service::Runtime;
    const TAKES_SIGNATURES: bool = true;

    fn admits_head(&self, presented: Presented<'_>) -> Result<(), Refusal> {
        self.gate.admit_head(presented, self.now())
    }

    async fn authenticate(&self, class: Class, presented: Presented<'_>) -> Result<Caller, Stop> {
        Ok(self.gate.admit(class, presented, self.now())?)
    }

    fn admits_writes(&self) -> Result<(), Refusal> {
        let mode = self.config.write_mode;
        match mode.writes_enabled() {
            true => self.books.admit_writes(),
            false => {
                let message = format!("runtime authority writes are disabled in mode {}", mode.name());
                Err(Refusal::new(Code::WritePathFrozen, message))
            }
        }
    }

    fn request_id(&self) -> String {
        format!("req_{}", self.ids.uuid32())
    }
}
