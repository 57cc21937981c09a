//! Decides who proves that an address belongs to whoever signs in. Today either nobody, or the mock that takes
//! one fixed code on a loopback address; another provider is another arm here.

use oa_contract::{Refusal, Timestamp, wire::identity::Secret};
use uuid::Uuid;

use super::hash_of;
use crate::config::{AuthConfig, ProviderConfig};

/// The mock's codes live so long, whatever the configured time says.
const MOCK_TTL_SECONDS: i64 = 600;

#[derive(Clone, Debug)]
pub enum Provider {
    Mock { code: Secret },
    Unavailable,
}

/// Who a provider says somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub email: String,
    pub name: String,
    pub provider_id: String,
}

/// A code that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub provider_id: String,
    pub expires_at: Timestamp,
}

impl Provider {
    pub fn new(config: &AuthConfig) -> Self {
        match &config.provider {
            ProviderConfig::Mock { code } => Provider::Mock { code: code.clone() },
            ProviderConfig::Unavailable => Provider::Unavailable,
        }
    }

    /// The name that the health and status rows report.
    pub const fn name(&self) -> &'static str {
        match self {
            Provider::Mock { .. } => "mock",
            Provider::Unavailable => "workos",
        }
    }

    /// Sends a code to an address.
    pub fn start(&self, email: &str, now: Timestamp) -> Result<Sent, Refusal> {
        match self {
            Provider::Unavailable => Err(missing()),
            Provider::Mock { .. } => {
                let id = Uuid::new_v5(&Uuid::NAMESPACE_DNS, email.as_bytes()).simple();
                Ok(Sent {
                    provider_id: format!("mock_workos_{id}"),
                    expires_at: now.plus_seconds(MOCK_TTL_SECONDS),
                })
            }
        }
    }

    /// Whether there is a provider at all.
    pub fn ready(&self) -> Result<(), Refusal> {
        match self {
            Provider::Unavailable => Err(missing()),
            Provider::Mock { .. } => Ok(()),
        }
    }

    /// Who sent this code back.
    pub fn verify(&self, email: &str, provider_id: &str, code: &str) -> Result<Identity, Refusal> {
        match self {
            Provider::Unavailable => Err(missing()),
            // Hashes are compared, so that the time taken says nothing about the code.
            Provider::Mock { code: right } if hash_of(code.trim()) == hash_of(right.reveal()) => {
                let local = email.split('@').next().unwrap_or(email);
                Ok(Identity {
                    email: email.to_owned(),
                    name: format!("{local} Mock"),
                    provider_id: provider_id.to_owned(),
                })
            }
            Provider::Mock { .. } => Err(wrong_code()),
        }
    }
}

/// One sentence for every reason that a code is not taken, so that it tells nothing.
pub fn wrong_code() -> Refusal {
    Refusal::field("code", "The code is wrong or has expired: ask for a new one.")
}

fn missing() -> Refusal {
    Refusal::unavailable(
        "WorkOS identity provider is required for sign-in by e-mail, and none is configured; `oa user add` makes users and tokens, and OA_AUTH_PROVIDER_MODE=mock serves tests on a loopback address",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mock_identity_is_the_specified_one() {
        let mock = Provider::Mock { code: Secret::new("123456") };
        let sent = mock.start("you@example.com", Timestamp::EPOCH).expect("sent");
        assert_eq!(sent.provider_id, "mock_workos_6055bd989f855c0ca37047e39a459e76");
        assert_eq!(sent.expires_at, Timestamp::from_unix_seconds(600));
        let identity = mock.verify("you@example.com", &sent.provider_id, " 123456 ").expect("verified");
        assert_eq!(identity.name, "you Mock");
        assert_eq!(mock.verify("you@example.com", "x", "123457"), Err(wrong_code()));
    }

    #[test]
    fn without_a_provider_the_refusal_says_what_is_missing() {
        let refused = Provider::Unavailable.start("you@example.com", Timestamp::EPOCH).expect_err("refused");
        assert!(refused.message.contains("WorkOS identity provider is required"));
        assert_eq!(Provider::Unavailable.name(), "workos");
    }
}
