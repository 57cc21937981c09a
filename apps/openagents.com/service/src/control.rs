//! Decides what the control service is made of. Time, randomness, the store and the runtime's address come in
//! from outside; nothing here asks the machine for them.

use std::sync::Arc;

use oa_client::Client;
use oa_contract::{Clock, Ids, Service, Timestamp, credential::hex, openapi};
use oa_store::Store;
use sha2::{Digest, Sha256};

use crate::{
    codex::stream::Places,
    config::Config,
    hub::Hub,
    identity::{provider::Provider, throttle::Throttle},
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
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) draining: Arc<dyn Fn() -> bool + Send + Sync>,
    pub(crate) provider: Provider,
    pub(crate) throttle: Throttle,
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
    pub fn new(parts: Parts) -> Self {
        let Parts { config, store, hub, clock, ids, runtime, metrics, draining } = parts;
        let text: Arc<str> = openapi::document(Service::Control).to_string().into();
        let etag = format!("\"{}\"", hex(&Sha256::digest(text.as_bytes())));
        Control {
            provider: Provider::new(&config.auth),
            throttle: Throttle::default(),
            places: Places::default(),
            started_at: clock.now(),
            openapi: Document { text, etag },
            config,
            store,
            hub,
            clock,
            ids,
            runtime,
            metrics,
            draining,
        }
    }
}
