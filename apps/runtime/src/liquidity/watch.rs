//! Decides what is known of the wallet without asking it: what it said when the background last asked, and since when
//! that is too old to count.

use std::sync::{Arc, PoisonError, RwLock};

use oa_contract::Timestamp;
use oa_lightning::none::NOT_CONFIGURED;
use serde_json::Value;

use crate::Runtime;

/// How often the background asks.
pub const EVERY_MS: i64 = 5_000;
/// A wallet that was not heard of for so long is not reachable; it may take its time-out and two rounds.
const PATIENCE_MS: i64 = 30_000;

/// What a wallet said of itself, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub configured: bool,
    pub reachable: bool,
    pub status: Option<Value>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub at: Timestamp,
}

#[derive(Default)]
pub struct WalletWatch(RwLock<Option<Arc<Seen>>>);

impl WalletWatch {
    /// What was last heard; nothing before the first time.
    pub fn last(&self) -> Option<Arc<Seen>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known now, without asking: an old answer is no longer one.
    pub fn known(&self, configured: bool, now: Timestamp) -> Seen {
        let unheard = |code: &str, message: &str, at| Seen {
            configured,
            reachable: false,
            status: None,
            error_code: Some(code.into()),
            error_message: Some(message.into()),
            at,
        };
        match self.last() {
            Some(seen) if now.millis_since(seen.at) <= PATIENCE_MS => Seen::clone(&seen),
            Some(seen) => {
                unheard("wallet_executor_stale", "the wallet was not heard of for a while", seen.at)
            }
            None if configured => unheard("wallet_executor_not_asked_yet", "the wallet is being asked", now),
            None => unheard(NOT_CONFIGURED, "no wallet executor is configured", now),
        }
    }

    /// Asks the wallet, and remembers what it said.
    pub async fn look(&self, runtime: &Runtime) -> Seen {
        let wallet = runtime.payments.wallet().clone();
        let configured = wallet.about().face != "none";
        runtime.payments.learn().await;
        let said = wallet.status().await;
        let at = runtime.now();
        let seen = match said {
            Ok(status) => Seen {
                configured,
                reachable: true,
                status: Some(status),
                error_code: None,
                error_message: None,
                at,
            },
            Err(error) => Seen {
                configured,
                reachable: false,
                status: None,
                error_code: Some(error.trouble().code.clone()),
                error_message: Some(error.trouble().message.clone()),
                at,
            },
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(seen.clone()));
        seen
    }
}
