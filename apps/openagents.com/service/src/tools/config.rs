//! Decides what the environment says about tools: who executes them, how far a payment may go whoever asks for it,
//! and who pays.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lightning_invoice::Currency;
use oa_contract::{canonical::unhex, wire::identity::Secret};
use url::Url;

use crate::{
    config::ConfigError,
    env::{Env, wrong},
};

/// How much a caller is believed (ARCHITECTURE.md, Trust).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustMode {
    /// Invoices are checked whole, a payment needs its preimage, and callers only tighten limits.
    Strict,
    /// The reference behaviour, for clients and tests written for it. Loopback addresses only.
    Lenient,
}

/// Everything about `tools.execute` that comes from the environment.
#[derive(Clone, Debug)]
pub struct ToolsConfig {
    pub trust: TrustMode,
    /// How long an answer that describes the world is given again.
    pub result_ttl_seconds: i64,
    /// How often payments whose end nobody heard are asked about.
    pub settle_seconds: i64,
    /// How long a request waits for a call before it is told to ask again.
    pub wait: Duration,
    pub coding: CodingConfig,
    pub l402: L402Config,
    /// 32 bytes; without it secrets lie in the store as they are.
    pub encryption_key: Option<Secret>,
    pub encryption_key_id: String,
}

#[derive(Clone, Debug)]
pub struct CodingConfig {
    /// Otherwise answers are made up, and say so.
    pub github: bool,
    pub github_base_url: String,
    pub github_token: Option<Secret>,
    /// `owner/name` or `owner/*`; empty means any.
    pub repositories: Vec<String>,
    /// What callers may do; lower-case, and empty means everything.
    pub operations: Vec<String>,
    /// Whether whoever writes has to say that it was approved, whatever the manifest says.
    pub approve_writes: bool,
    pub max_per_call_sats: Option<u64>,
}

impl CodingConfig {
    /// Whether the caller's own limits are the only ones.
    pub fn is_open(&self) -> bool {
        self.operations.is_empty() && !self.approve_writes && self.max_per_call_sats.is_none()
    }
}

#[derive(Clone, Debug)]
pub struct L402Config {
    pub allow_private_networks: bool,
    pub limits: ServiceLimits,
    pub credential_ttl_seconds: i64,
    pub network: Currency,
    pub payer: PayerConfig,
    /// Places of our own that no caller may have fetched.
    pub denied: Vec<String>,
}

/// What holds whoever asks.
#[derive(Clone, Debug)]
pub struct ServiceLimits {
    pub require_approval: bool,
    pub max_per_call_msats: Option<u64>,
    pub max_per_day_msats: Option<u64>,
    /// Lower-case; empty means any.
    pub allowed_hosts: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum PayerConfig {
    Spark {
        base_url: String,
        token: Option<Secret>,
        timeout: Duration,
    },
    Lnd {
        base_url: String,
        macaroon: Secret,
        certificate: Option<Vec<u8>>,
        any_certificate: bool,
    },
    /// Named, but not configured: payments answer 503.
    Missing(&'static str),
}

impl ToolsConfig {
    pub(crate) fn read(env: &Env<'_>, bind: SocketAddr) -> Result<Self, ConfigError> {
        let trust = match env.text(&["OA_TRUST_MODE"]).as_deref() {
            None | Some("strict") => TrustMode::Strict,
            Some("lenient") if bind.ip().to_canonical().is_loopback() => TrustMode::Lenient,
            Some("lenient") => {
                return Err(wrong("OA_TRUST_MODE", "`strict`, unless control listens on a loopback address"));
            }
            Some(_) => return Err(wrong("OA_TRUST_MODE", "`strict` or `lenient`")),
        };
        Ok(ToolsConfig {
            trust,
            result_ttl_seconds: env.seconds("OA_TOOLS_RESULT_TTL_SECONDS", 86_400)?,
            settle_seconds: env.seconds("OA_TOOLS_SETTLE_SECONDS", 30)?.clamp(1, 3_600),
            wait: Duration::from_millis(
                env.parsed("OA_TOOLS_WAIT_MS", "milliseconds")?.unwrap_or(45_000_u64).clamp(50, 55_000),
            ),
            coding: coding(env)?,
            l402: l402(env, bind, trust)?,
            encryption_key: encryption_key(env)?,
            encryption_key_id: env
                .text(&["OA_INTEGRATION_SECRET_KEY_ID"])
                .unwrap_or_else(|| "v1".into())
                .replace('.', "_"),
        })
    }
}

fn encryption_key(env: &Env<'_>) -> Result<Option<Secret>, ConfigError> {
    let name = "OA_INTEGRATION_SECRET_ENCRYPTION_KEY";
    let Some(text) = env.text(&[name]) else { return Ok(None) };
    match STANDARD.decode(&text) {
        Ok(bytes) if bytes.len() == 32 => Ok(Some(Secret::new(text))),
        _ => Err(wrong(name, "32 bytes in base64")),
    }
}

fn list(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default().to_lowercase();
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

fn base_url(name: &'static str, text: String) -> Result<String, ConfigError> {
    let good = Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match good {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(wrong(name, "an http or https address")),
    }
}

fn coding(env: &Env<'_>) -> Result<CodingConfig, ConfigError> {
    let github = match env.text(&["OA_CODING_EXECUTOR"]).as_deref() {
        None | Some("synthetic") => false,
        Some("github") => true,
        Some(_) => return Err(wrong("OA_CODING_EXECUTOR", "`synthetic` or `github`")),
    };
    let base = env.text(&["OA_GITHUB_API_BASE_URL"]).unwrap_or_else(|| "https://api.github.com".into());
    Ok(CodingConfig {
        github,
        github_base_url: base_url("OA_GITHUB_API_BASE_URL", base)?,
        github_token: env.text(&["OA_GITHUB_TOKEN"]).map(Secret::new),
        repositories: list(env.text(&["OA_GITHUB_ALLOWED_REPOSITORIES"])),
        operations: list(env.text(&["OA_CODING_ALLOWED_OPERATIONS"])),
        approve_writes: match env.text(&["OA_CODING_WRITE_OPERATIONS_MODE"]).as_deref() {
            None | Some("open") => false,
            Some("enforce") => true,
            Some(_) => return Err(wrong("OA_CODING_WRITE_OPERATIONS_MODE", "`open` or `enforce`")),
        },
        max_per_call_sats: env.parsed("OA_CODING_MAX_PER_CALL_SATS", "a number of sats")?,
    })
}

fn l402(env: &Env<'_>, bind: SocketAddr, trust: TrustMode) -> Result<L402Config, ConfigError> {
    let private = match env.text(&["OA_L402_ALLOW_PRIVATE_NETWORKS"]) {
        Some(_) => "OA_L402_ALLOW_PRIVATE_NETWORKS",
        None => "OA_L402_ALLOW_PRIVATE_HOSTS",
    };
    let strict = trust == TrustMode::Strict;
    let msats = |name, default: u64| {
        let given = env.parsed::<u64>(name, "an amount in millisatoshis")?;
        Ok::<_, ConfigError>(given.or(strict.then_some(default)).map(|msats| msats.min(MOST_MSATS)))
    };
    let limits = ServiceLimits {
        require_approval: env.switch("OA_L402_REQUIRE_APPROVAL", strict)?,
        max_per_call_msats: msats("OA_L402_MAX_SPEND_MSATS_PER_CALL", 100_000)?,
        max_per_day_msats: msats("OA_L402_MAX_SPEND_MSATS_PER_DAY", 1_000_000)?,
        allowed_hosts: list(env.text(&["OA_L402_ALLOWED_HOSTS"])),
    };
    let network = match env.text(&["OA_L402_NETWORK"]).as_deref() {
        None | Some("bitcoin") => Currency::Bitcoin,
        Some("testnet") => Currency::BitcoinTestnet,
        Some("signet") => Currency::Signet,
        Some("regtest") => Currency::Regtest,
        Some(_) => return Err(wrong("OA_L402_NETWORK", "`bitcoin`, `testnet`, `signet` or `regtest`")),
    };
    let payer = payer(env)?;
    let ours = [
        env.text(&["OA_RUNTIME_BASE_URL", "OA_RUNTIME_ELIXIR_BASE_URL"]),
        env.text(&["OA_RUNTIME_SYNC_REVOKE_BASE_URL"]),
        env.text(&["SPARK_EXECUTOR_BASE_URL", "OA_LIGHTNING_WALLET_EXECUTOR_BASE_URL"]),
        env.text(&["LND_REST_BASE_URL"]),
        Some(format!("http://{bind}")),
    ];
    Ok(L402Config {
        allow_private_networks: env.switch(private, false)?,
        limits,
        credential_ttl_seconds: env.seconds("L402_CREDENTIAL_TTL_SECONDS", 600)?.clamp(30, 86_400),
        network,
        payer,
        denied: ours.into_iter().flatten().collect(),
    })
}

/// As much as a column holds; more than there will ever be.
pub const MOST_MSATS: u64 = i64::MAX as u64;

fn payer(env: &Env<'_>) -> Result<PayerConfig, ConfigError> {
    match env.text(&["L402_INVOICE_PAYER", "OA_L402_INVOICE_PAYER"]).as_deref() {
        None | Some("spark_wallet") => spark(env),
        Some("lnd_rest") => lnd(env),
        Some(_) => Err(wrong("L402_INVOICE_PAYER", "`spark_wallet` or `lnd_rest`")),
    }
}

fn spark(env: &Env<'_>) -> Result<PayerConfig, ConfigError> {
    let names = ["SPARK_EXECUTOR_BASE_URL", "OA_LIGHTNING_WALLET_EXECUTOR_BASE_URL"];
    let Some(base) = env.text(&names) else { return Ok(PayerConfig::Missing("spark_wallet")) };
    let timeout = env.parsed::<u64>("SPARK_EXECUTOR_TIMEOUT_MS", "milliseconds")?.unwrap_or(20_000);
    Ok(PayerConfig::Spark {
        base_url: base_url("SPARK_EXECUTOR_BASE_URL", base)?,
        token: env
            .text(&["SPARK_EXECUTOR_AUTH_TOKEN", "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN"])
            .map(Secret::new),
        timeout: Duration::from_millis(timeout.clamp(250, 120_000)),
    })
}

fn lnd(env: &Env<'_>) -> Result<PayerConfig, ConfigError> {
    let given = (env.text(&["LND_REST_BASE_URL"]), env.text(&["LND_REST_MACAROON_HEX"]));
    let (Some(base), Some(macaroon)) = given else { return Ok(PayerConfig::Missing("lnd_rest")) };
    let base = base_url("LND_REST_BASE_URL", base)?;
    if unhex_any(&macaroon).is_none() {
        return Err(wrong("LND_REST_MACAROON_HEX", "hex digits"));
    }
    let certificate = match env.text(&["LND_REST_TLS_CERT_BASE64"]) {
        None => None,
        Some(text) => Some(STANDARD.decode(&text).map_err(|_| wrong("LND_REST_TLS_CERT_BASE64", "base64"))?),
    };
    let verify = env.switch("LND_REST_TLS_VERIFY", true)?;
    let here = Url::parse(&base)
        .is_ok_and(|url| matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost")));
    if !verify && certificate.is_none() && !here {
        return Err(wrong(
            "LND_REST_TLS_VERIFY",
            "true for a node on another machine: give its certificate instead",
        ));
    }
    Ok(PayerConfig::Lnd {
        base_url: base,
        macaroon: Secret::new(macaroon),
        any_certificate: !verify && certificate.is_none(),
        certificate,
    })
}

fn unhex_any(text: &str) -> Option<()> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(unhex::<1>));
    (!text.is_empty() && pairs.into_iter().all(|byte| byte.is_some())).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], bind: &str) -> Result<ToolsConfig, ConfigError> {
        let lookup =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        ToolsConfig::read(&Env(&lookup), bind.parse().expect("an address"))
    }

    const HERE: &str = "127.0.0.1:8787";

    #[test]
    fn by_default_nothing_is_paid_without_approval_nor_beyond_the_limits() {
        let config = read(&[], HERE).expect("a configuration");
        let limits = config.l402.limits;
        assert!(limits.require_approval && !config.l402.allow_private_networks && !config.coding.github);
        assert_eq!((limits.max_per_call_msats, limits.max_per_day_msats), (Some(100_000), Some(1_000_000)));
        assert!(matches!(config.l402.payer, PayerConfig::Missing("spark_wallet")));
    }

    #[test]
    fn trust_is_lenient_on_a_loopback_address_only() {
        let lenient = [("OA_TRUST_MODE", "lenient")];
        assert_eq!(read(&lenient, HERE).expect("here").trust, TrustMode::Lenient);
        assert_eq!(read(&lenient, "0.0.0.0:1").expect_err("open").variable, "OA_TRUST_MODE");
    }

    #[test]
    fn what_cannot_be_read_stops_the_start_with_its_name() {
        for (name, value) in [
            ("OA_TRUST_MODE", "some"),
            ("OA_CODING_EXECUTOR", "gitlab"),
            ("OA_GITHUB_API_BASE_URL", "github"),
            ("OA_CODING_WRITE_OPERATIONS_MODE", "perhaps"),
            ("OA_CODING_MAX_PER_CALL_SATS", "-1"),
            ("OA_L402_REQUIRE_APPROVAL", "perhaps"),
            ("OA_L402_MAX_SPEND_MSATS_PER_DAY", "-1"),
            ("OA_L402_NETWORK", "moon"),
            ("L402_INVOICE_PAYER", "fake"),
            ("SPARK_EXECUTOR_BASE_URL", "executor"),
            ("OA_INTEGRATION_SECRET_ENCRYPTION_KEY", "c2hvcnQ="),
        ] {
            assert_eq!(read(&[(name, value)], HERE).expect_err(name).variable, name);
        }
    }

    #[test]
    fn certificates_of_other_machines_are_always_checked() {
        let lnd = |base| {
            [
                ("L402_INVOICE_PAYER", "lnd_rest"),
                ("LND_REST_BASE_URL", base),
                ("LND_REST_MACAROON_HEX", "0a0b"),
                ("LND_REST_TLS_VERIFY", "false"),
            ]
        };
        assert!(read(&lnd("https://127.0.0.1:8080"), HERE).is_ok());
        let refused = read(&lnd("https://node.example:8080"), HERE).expect_err("elsewhere");
        assert_eq!(refused.variable, "LND_REST_TLS_VERIFY");
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = STANDARD.encode([7; 32]);
        let config = read(
            &[
                ("OA_GITHUB_TOKEN", "hush"),
                ("OA_INTEGRATION_SECRET_ENCRYPTION_KEY", &key),
                ("SPARK_EXECUTOR_BASE_URL", "http://127.0.0.1:1"),
                ("SPARK_EXECUTOR_AUTH_TOKEN", "quiet"),
            ],
            HERE,
        );
        let printed = format!("{:?}", config.expect("a configuration"));
        assert!(!printed.contains("hush") && !printed.contains("quiet") && !printed.contains(&key));
    }
}
