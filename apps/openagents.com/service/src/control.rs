//! Decides what the control service is made of. Time, randomness, the store and the runtime's address come in
//! from outside; nothing here asks the machine for them.

use std::sync::Arc;

use oa_client::Client;
use oa_contract::{Clock, Ids, Refusal, Service, Timestamp, User, credential::hex, openapi, signer::Signer};
use oa_store::Store;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::{
    codex::stream::Places,
    config::{Config, RuntimeConfig},
    hub::Hub,
    identity::{
        propagation::Herald,
        provider::Provider,
        throttle::{Limit, Throttle},
    },
    proxy::runtime_client,
    tools::Tools,
};

/// The name of the service on the wire.
pub const SERVICE_NAME: &str = "openagents-control-service";

/// What the control service is made from.
pub struct Parts {
    pub config: Config,
    pub store: Store,
    /// Woken by the store after each commit.
    pub hub: Arc<Hub>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    /// Without one the proxied rows answer 503; [`crate::runtime_client`] makes it from the configuration.
    pub runtime: Option<Client>,
    /// Signs the releases of the skill registry; without one they are not signed.
    pub signer: Option<Signer>,
    /// The text of `GET /metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the process is about to end; readiness says so first.
    pub draining: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The control service. It implements [`oa_contract::Port`] and every row of `matrix::CONTROL` and
/// `matrix::CONTROL_ASIDES`.
pub struct Control {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) runtime: Option<Client>,
    pub(crate) signer: Option<Signer>,
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) draining: Arc<dyn Fn() -> bool + Send + Sync>,
    pub(crate) known_tokens: crate::identity::authenticate::KnownTokens,
    pub(crate) provider: Provider,
    pub(crate) throttle: Throttle,
    /// Tells the runtime of revocations; without one nobody is told.
    pub(crate) herald: Option<Herald>,
    /// Wakes whoever tells in the background.
    pub(crate) revocations: Notify,
    pub(crate) tools: Tools,
    /// Who follows how many feeds of codex workers.
    pub(crate) places: Places,
    pub(crate) started_at: Timestamp,
    pub(crate) openapi: Document,
}

/// A document that was derived once, and its entity tag.
pub(crate) struct Document {
    pub text: Arc<str>,
    pub etag: String,
}

impl Control {
    /// Counts one try of a user, or refuses it and says when to come back.
    pub fn admit(&self, limit: Limit, user: &User) -> Result<(), Refusal> {
        self.throttle.admit(limit, &user.user_id, self.clock.now())
    }

    pub fn new(parts: Parts) -> Self {
        let Parts { config, store, hub, clock, ids, runtime, signer, metrics, draining } = parts;
        let text: Arc<str> = openapi::document(Service::Control).to_string().into();
        let etag = format!("\"{}\"", hex(&Sha256::digest(text.as_bytes())));
        Control {
            known_tokens: crate::identity::authenticate::KnownTokens::default(),
            provider: Provider::new(&config.auth),
            throttle: Throttle::default(),
            herald: herald(&config, &clock, &ids),
            revocations: Notify::new(),
            tools: Tools::new(&config.tools, store.clone(), clock.clone(), ids.clone()),
            places: Places::default(),
            started_at: clock.now(),
            openapi: Document { text, etag },
            config,
            store,
            hub,
            clock,
            ids,
            runtime,
            signer,
            metrics,
            draining,
        }
    }

    /// Ends the store: whatever is still under way ends as if the process had died.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// What executes tools, for those who keep it in order in the background.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }
}

/// Whoever is told of revocations has an address of their own, which is the runtime's unless another is named.
fn herald(config: &Config, clock: &Arc<dyn Clock>, ids: &Arc<dyn Ids>) -> Option<Herald> {
    let revocation = config.accounts.revocation.as_ref()?;
    let place = RuntimeConfig { base_url: Some(revocation.base_url.clone()), ..config.runtime.clone() };
    match runtime_client(&place, clock.clone(), ids.clone()) {
        Ok(client) => client.map(|client| Herald::new(client, revocation.path.clone())),
        Err(error) => {
            tracing::error!(%error, "nobody can be told of revocations");
            None
        }
    }
}
