//! Decides what the environment says about accounts: who is seeded as an administrator, whether sign-up without a
//! sign-in is on, how sync tokens are made, who is told of revocations, and whose word about addresses counts.

use std::net::IpAddr;

use oa_contract::{Operation, matrix::SyncRevoke, wire::identity::Secret};
use url::Url;

use crate::{
    config::{ConfigError, ProviderConfig, RuntimeConfig},
    env::{Env, wrong},
};

/// What control §1 calls the `OA_AUTH_API_SIGNUP_*`, `OA_SYNC_TOKEN_*` and `OA_RUNTIME_SYNC_REVOKE_*` variables,
/// and their neighbours.
#[derive(Clone, Debug)]
pub struct AccountsConfig {
    /// Lower-case. Whoever proves one of these addresses gets the role; nobody loses it by leaving the list.
    pub admin_emails: Vec<String>,
    /// Only beside the mock provider, and so only on a loopback address.
    pub signup: Option<SignupConfig>,
    /// Without one nobody is told of revocations.
    pub revocation: Option<RevocationConfig>,
    pub sync: SyncTokenConfig,
    /// Without a list every origin is reflected.
    pub cors_allowed_origins: Option<Vec<String>>,
    /// Whose forwarded headers are believed.
    pub trusted_proxies: Vec<Network>,
}

/// `POST /api/auth/register`.
#[derive(Clone, Debug)]
pub struct SignupConfig {
    /// Lower-case; none means all.
    pub domains: Vec<String>,
    pub token_name: String,
}

/// Where revocations are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationConfig {
    pub base_url: String,
    pub path: String,
}

/// How sync tokens are made (control §7).
#[derive(Clone, Debug)]
pub struct SyncTokenConfig {
    pub enabled: bool,
    pub algorithm: SyncAlgorithm,
    /// Signs HS256 tokens; the private keys of EdDSA tokens are derived from it.
    pub signing_key: Option<Secret>,
    pub issuer: String,
    pub audience: String,
    pub key_id: String,
    pub claims_version: String,
    pub ttl_seconds: u32,
    pub min_ttl_seconds: u32,
    pub max_ttl_seconds: u32,
    pub allowed_scopes: Vec<String>,
    pub default_scopes: Vec<String>,
    /// How long one EdDSA key signs.
    pub rotate_after_seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncAlgorithm {
    /// One shared secret signs and checks.
    Hs256,
    /// Ed25519: the public keys stand at `/.well-known/jwks.json`.
    EdDsa,
}

/// A range of addresses, as `10.0.0.0/8`; a single address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    /// Of 128: an IPv4 address stands behind 96 bits.
    bits: u32,
}

impl AccountsConfig {
    pub(crate) fn read(
        env: &Env<'_>,
        provider: &ProviderConfig,
        runtime: &RuntimeConfig,
    ) -> Result<Self, ConfigError> {
        let lower = |name| list(env, name, "").into_iter().map(|one| one.to_lowercase()).collect();
        let signup = env.switch("OA_AUTH_API_SIGNUP_ENABLED", false)?;
        let signup = (signup && matches!(provider, ProviderConfig::Mock { .. })).then(|| SignupConfig {
            domains: lower("OA_AUTH_API_SIGNUP_ALLOWED_DOMAINS"),
            token_name: text(env, "OA_AUTH_API_SIGNUP_DEFAULT_TOKEN_NAME", "api-bootstrap"),
        });
        let proxies = list(env, "OA_TRUSTED_PROXIES", "").iter().map(|one| Network::parse(one)).collect();
        let proxies: Option<Vec<_>> = proxies;
        Ok(AccountsConfig {
            admin_emails: lower("OA_ADMIN_EMAILS"),
            signup,
            revocation: revocation(env, runtime)?,
            sync: sync(env)?,
            cors_allowed_origins: env
                .text(&["OA_CORS_ALLOWED_ORIGINS"])
                .map(|_| list(env, "OA_CORS_ALLOWED_ORIGINS", "")),
            trusted_proxies: proxies.ok_or_else(|| {
                wrong("OA_TRUSTED_PROXIES", "addresses or ranges such as 10.0.0.0/8, separated by commas")
            })?,
        })
    }
}

fn text(env: &Env<'_>, name: &'static str, default: &str) -> String {
    env.text(&[name]).unwrap_or_else(|| default.to_owned())
}

fn list(env: &Env<'_>, name: &'static str, default: &str) -> Vec<String> {
    let text = text(env, name, default);
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Whoever runs a runtime wants it to know who was signed out, so the configured runtime is told unless another
/// address is named, or `off`. What is told must be signed: without the secret nobody is told.
fn revocation(env: &Env<'_>, runtime: &RuntimeConfig) -> Result<Option<RevocationConfig>, ConfigError> {
    const BASE: &str = "OA_RUNTIME_SYNC_REVOKE_BASE_URL";
    const PATH: &str = "OA_RUNTIME_SYNC_REVOKE_PATH";
    let base = match env.text(&[BASE]) {
        Some(word) if word.eq_ignore_ascii_case("off") => None,
        Some(base) => Some(base),
        None => runtime.base_url.clone(),
    };
    let path = text(env, PATH, SyncRevoke::ROW.path);
    if !path.starts_with('/') {
        return Err(wrong(PATH, "a path that begins with /"));
    }
    let Some(base) = base.filter(|_| runtime.signature_secret.is_some()) else { return Ok(None) };
    let http = Url::parse(&base).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match http {
        true => Ok(Some(RevocationConfig { base_url: base.trim_end_matches('/').to_owned(), path })),
        false => Err(wrong(BASE, "an http or https address, or `off`")),
    }
}

fn sync(env: &Env<'_>) -> Result<SyncTokenConfig, ConfigError> {
    const SCOPES: &str = "runtime.codex_worker_events,runtime.codex_worker_summaries,runtime.run_summaries";
    let seconds = |name, default| {
        env.parsed::<u32>(name, "a whole number of seconds").map(|given| given.unwrap_or(default))
    };
    let algorithm = match env.text(&["OA_SYNC_TOKEN_ALGORITHM"]).map(|word| word.to_lowercase()).as_deref() {
        None | Some("hs256") => SyncAlgorithm::Hs256,
        Some("eddsa") => SyncAlgorithm::EdDsa,
        Some(_) => return Err(wrong("OA_SYNC_TOKEN_ALGORITHM", "`HS256` or `EdDSA`")),
    };
    Ok(SyncTokenConfig {
        enabled: env.switch("OA_SYNC_TOKEN_ENABLED", true)?,
        algorithm,
        signing_key: env.text(&["OA_SYNC_TOKEN_SIGNING_KEY", "SYNC_TOKEN_SIGNING_KEY"]).map(Secret::new),
        issuer: text(env, "OA_SYNC_TOKEN_ISSUER", "https://openagents.com"),
        audience: text(env, "OA_SYNC_TOKEN_AUDIENCE", "openagents-sync"),
        key_id: text(env, "OA_SYNC_TOKEN_KEY_ID", "sync-auth-v1"),
        claims_version: text(env, "OA_SYNC_TOKEN_CLAIMS_VERSION", "oa_sync_claims_v1"),
        ttl_seconds: seconds("OA_SYNC_TOKEN_TTL_SECONDS", 300)?,
        min_ttl_seconds: seconds("OA_SYNC_TOKEN_MIN_TTL_SECONDS", 60)?,
        max_ttl_seconds: seconds("OA_SYNC_TOKEN_MAX_TTL_SECONDS", 900)?,
        allowed_scopes: list(env, "OA_SYNC_TOKEN_ALLOWED_SCOPES", SCOPES),
        default_scopes: list(env, "OA_SYNC_TOKEN_DEFAULT_SCOPES", "runtime.codex_worker_events"),
        rotate_after_seconds: env.seconds("OA_SYNC_TOKEN_ROTATE_AFTER_SECONDS", 2_592_000)?,
    })
}

impl Network {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then(|| Network { address: wide(address), bits: 128 - width + bits })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.bits == 0 || (wide(address) ^ self.address) >> (128 - self.bits) == 0
    }
}

/// IPv4 addresses as the IPv6 addresses that stand for them.
fn wide(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn read(pairs: &[(&str, &str)]) -> Result<AccountsConfig, ConfigError> {
        let lookup =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::read(&lookup).map(|config| config.accounts)
    }

    #[test]
    fn sign_up_needs_the_mock_provider_which_needs_a_loopback_address() {
        let on = ("OA_AUTH_API_SIGNUP_ENABLED", "true");
        let mock = ("OA_AUTH_PROVIDER_MODE", "mock");
        assert!(read(&[on]).expect("a configuration").signup.is_none());
        assert!(read(&[mock]).expect("a configuration").signup.is_none());
        assert!(read(&[on, mock]).expect("a configuration").signup.is_some());
        let public = ("OA_CONTROL_BIND_ADDR", "0.0.0.0:0");
        assert!(read(&[on, public]).expect("a configuration").signup.is_none());
        assert!(read(&[on, mock, public]).is_err());
    }

    #[test]
    fn the_configured_runtime_is_told_of_revocations_unless_that_is_switched_off() {
        let runtime = ("OA_RUNTIME_BASE_URL", "http://127.0.0.1:4100/");
        let secret = ("OA_RUNTIME_SIGNATURE_SECRET", "s");
        let told = |pairs: &[(&str, &str)]| read(pairs).expect("a configuration").revocation;
        assert_eq!(told(&[runtime]), None);
        assert_eq!(told(&[secret]), None);
        let usual = told(&[runtime, secret]).expect("told");
        assert_eq!(usual.base_url, "http://127.0.0.1:4100");
        assert_eq!(usual.path, "/admin/v1/sync/sessions/revoke");
        assert_eq!(told(&[runtime, secret, ("OA_RUNTIME_SYNC_REVOKE_BASE_URL", "off")]), None);
        let other = ("OA_RUNTIME_SYNC_REVOKE_BASE_URL", "http://127.0.0.1:9/");
        let path = ("OA_RUNTIME_SYNC_REVOKE_PATH", "/internal/v1/sync/sessions/revoke");
        let other = told(&[runtime, secret, other, path]).expect("told");
        assert_eq!((other.base_url.as_str(), other.path.as_str()), ("http://127.0.0.1:9", path.1));
    }

    #[test]
    fn what_cannot_be_read_stops_the_start_with_its_name() {
        for (name, value) in [
            ("OA_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("OA_TRUSTED_PROXIES", "proxy"),
            ("OA_SYNC_TOKEN_ALGORITHM", "none"),
            ("OA_SYNC_TOKEN_TTL_SECONDS", "-1"),
            ("OA_RUNTIME_SYNC_REVOKE_PATH", "revoke"),
        ] {
            assert_eq!(read(&[(name, value)]).expect_err(name).variable, name);
        }
        let pairs = [("OA_RUNTIME_SYNC_REVOKE_BASE_URL", "ftp://x"), ("OA_RUNTIME_SIGNATURE_SECRET", "s")];
        assert_eq!(read(&pairs).expect_err("no http").variable, "OA_RUNTIME_SYNC_REVOKE_BASE_URL");
    }

    #[test]
    fn a_range_holds_its_addresses_in_either_form() {
        let within = |network: &str, address: &str| {
            Network::parse(network).expect(network).contains(address.parse().expect(address))
        };
        assert!(within("10.0.0.0/8", "10.255.0.1") && within("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(!within("10.0.0.0/8", "11.0.0.1") && !within("10.0.0.0/8", "::1"));
        assert!(within("127.0.0.1", "127.0.0.1") && !within("127.0.0.1", "127.0.0.2"));
        assert!(within("2001:db8::/32", "2001:db8:1::1") && within("::/0", "192.0.2.1"));
        assert!(within("0.0.0.0/0", "192.0.2.1") && !within("0.0.0.0/0", "2001:db8::1"));
    }
}
