//! Decides what a call of a tool is made of: one ledger for all packs, an executor for code, a guarded client and a
//! payer for paid fetches (control §11).

mod autopilot;
mod call;
mod coding;
pub mod config;
mod execute;
mod fields;
mod flights;
mod ledger;
mod lightning;
mod locks;
mod payer;
mod purge;
mod vault;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use oa_contract::{Clock, Ids, Refusal, Stop, Timestamp};
use oa_fetch::{FetchError, Fetcher, Policy};
use oa_store::Store;

use self::{
    coding::CodingExecutor, config::ToolsConfig, flights::Flights, lightning::policy::OrganisationPolicy,
    locks::Locks, payer::Payer, vault::Vault,
};

pub use purge::PurgedTools;

/// What a port of this module answers with, some time.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything that calls are executed with. Clones are one.
#[derive(Clone)]
pub struct Tools(Arc<Inner>);

/// What [`Tools`] share.
pub struct Inner {
    config: ToolsConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Tells this process from others, and from itself before a restart.
    instance: String,
    vault: Vault,
    flights: Flights,
    paying: Locks,
    fetcher: Result<Fetcher, String>,
    coding: Arc<dyn CodingExecutor>,
    payer: Arc<dyn Payer>,
    organisations: Arc<dyn OrganisationPolicy>,
}

impl std::ops::Deref for Tools {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Tools {
    pub(crate) fn new(config: &ToolsConfig, store: Store, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let config = config.clone();
        let guarded = Policy {
            allow_private_networks: config.l402.allow_private_networks,
            allow_loopback: false,
            timeout: Duration::from_secs(20),
            max_bytes: 1024 * 1024,
            concurrency: 128,
        };
        let fetcher = Fetcher::new(guarded)
            .map(|fetcher| fetcher.denying(config.l402.denied.iter().map(String::as_str)))
            .map_err(|error| error.to_string());
        Tools(Arc::new(Inner {
            instance: ids.uuid32(),
            vault: Vault::new(&config),
            flights: Flights::default(),
            paying: Locks::default(),
            fetcher,
            coding: coding::executor(&config.coding),
            payer: payer::payer(&config.l402.payer),
            organisations: Arc::new(lightning::policy::NoOrganisations),
            config,
            store,
            clock,
            ids,
        }))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn fetcher(&self) -> Result<&Fetcher, Stop> {
        self.fetcher
            .as_ref()
            .map_err(|why| Refusal::unavailable(format!("nothing can be fetched here: {why}")).into())
    }
}

/// A client for addresses that the operator configured.
fn trusted(timeout: Duration, trust: oa_fetch::Trust) -> Result<Fetcher, FetchError> {
    let policy = Policy {
        allow_private_networks: true,
        allow_loopback: false,
        timeout,
        max_bytes: 4 * 1024 * 1024,
        concurrency: 256,
    };
    Fetcher::trusting(policy, trust)
}
