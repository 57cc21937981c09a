//! Sync tokens (control §7): who gets one, how it is signed, and which keys prove it.

mod jwt;
mod keys;
mod signing;
mod token;

pub(crate) use signing::forget_keys;

use super::settings::SyncTokenConfig;

/// Whether there is a key to sign with and nothing else is amiss.
pub(crate) fn ready(config: &SyncTokenConfig) -> bool {
    signing::usable(config).is_ok()
}
