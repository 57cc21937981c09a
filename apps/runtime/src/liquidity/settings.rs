//! Decides what an operator can set about payments, under the names of the specification (liquidity §2). A value
//! that cannot be read stops the start; one that is out of range is moved into it.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use oa_lightning::{Executor, Lnd, NoNode, NoWallet, Wallet, bolt11::Network, lnd};

use crate::config::{ConfigError, Lookup, boolean};

/// A secret that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub executor_base_url: Option<String>,
    pub executor_token: Option<Hidden>,
    /// One call of the executor.
    pub executor_timeout: Duration,
    pub quote_ttl_seconds: i64,
    /// Whose invoices are paid. Read only where invoices are read whole.
    pub network: Network,
    /// Whether the background asks about payments whose end nobody knows.
    pub recovery_enabled: bool,
    pub node: Node,
}

/// The Lightning node that pools are measured by (§10).
#[derive(Clone, Debug, Default)]
pub enum Node {
    #[default]
    Noop,
    /// The one behind the wallet executor.
    Executor,
    Lnd {
        base_url: String,
        macaroon_hex: Hidden,
        certificate: Option<Vec<u8>>,
        verify: bool,
        timeout: Duration,
    },
    /// Configured wrongly: every call says why.
    Unusable(&'static str),
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            executor_base_url: None,
            executor_token: None,
            executor_timeout: Duration::from_millis(12_000),
            quote_ttl_seconds: 60,
            network: Network::default(),
            recovery_enabled: true,
            node: Node::default(),
        }
    }
}

impl Settings {
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let defaults = Settings::default();
        let base = said(lookup, "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL");
        let timeout = within(lookup, "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", 12_000, 250, 120_000)?;
        let ttl = within(lookup, "RUNTIME_LIQUIDITY_QUOTE_TTL_SECONDS", 60, 5, 3_600)?;
        const NETWORK: &str = "RUNTIME_LIGHTNING_NETWORK";
        let network = match said(lookup, NETWORK) {
            None => defaults.network,
            Some(text) => {
                text.parse().map_err(|problem: String| ConfigError { variable: NETWORK, problem })?
            }
        };
        Ok(Settings {
            executor_base_url: base
                .map(|base| base.trim_end_matches('/').to_owned())
                .filter(|base| !base.is_empty()),
            executor_token: said(lookup, "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN").map(Hidden),
            executor_timeout: Duration::from_millis(timeout),
            quote_ttl_seconds: ttl,
            network,
            recovery_enabled: boolean(lookup, "RUNTIME_LIQUIDITY_PAYMENT_RECOVERY_ENABLED", true)?,
            node: node(lookup)?,
        })
    }

    /// The wallet that these settings name.
    pub fn wallet(&self) -> Result<Arc<dyn Wallet>, ConfigError> {
        Ok(match (&self.executor_base_url, &self.executor_token) {
            (None, _) => Arc::new(NoWallet("wallet executor base url missing")),
            (_, None) => Arc::new(NoWallet("wallet executor auth token missing")),
            (Some(base), Some(token)) => {
                let executor = Executor::new(base, token.0.as_str(), self.executor_timeout);
                Arc::new(executor.map_err(|error| ConfigError {
                    variable: "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL",
                    problem: error.0,
                })?)
            }
        })
    }

    /// The node that these settings name.
    pub fn node(&self, wallet: &Arc<dyn Wallet>) -> Arc<dyn Wallet> {
        match &self.node {
            Node::Noop => Arc::new(NoNode),
            Node::Executor => wallet.clone(),
            Node::Unusable(why) => Arc::new(NoWallet(why)),
            Node::Lnd { base_url, macaroon_hex, certificate, verify, timeout } => {
                let settings = lnd::Settings {
                    base_url: base_url.clone(),
                    macaroon_hex: macaroon_hex.0.clone(),
                    certificate: certificate.clone(),
                    any_certificate: !verify,
                    timeout: *timeout,
                };
                match Lnd::new(settings) {
                    Ok(lnd) => Arc::new(lnd),
                    Err(_) => Arc::new(NoWallet("the LND node's certificate cannot be used")),
                }
            }
        }
    }
}

fn node(lookup: Lookup<'_>) -> Result<Node, ConfigError> {
    let either = |first: &str, second: &str| said(lookup, first).or_else(|| said(lookup, second));
    let backend = said(lookup, "RUNTIME_LLP_LIGHTNING_BACKEND").unwrap_or_else(|| "noop".into());
    match backend.to_ascii_lowercase().as_str() {
        "noop" => return Ok(Node::Noop),
        "executor" => return Ok(Node::Executor),
        "lnd" => {}
        _ => return Ok(Node::Unusable("RUNTIME_LLP_LIGHTNING_BACKEND names no backend that is known")),
    }
    let timeout = within(lookup, "RUNTIME_LLP_LND_REST_TIMEOUT_MS", 10_000, 250, 120_000)?;
    let verify = match boolean(lookup, "RUNTIME_LLP_LND_REST_TLS_VERIFY", true)? {
        false => false,
        true => boolean(lookup, "LND_REST_TLS_VERIFY", true)?,
    };
    let base_url = either("RUNTIME_LLP_LND_REST_BASE_URL", "LND_REST_BASE_URL");
    let macaroon = either("RUNTIME_LLP_LND_REST_MACAROON_HEX", "LND_REST_MACAROON_HEX");
    let certificate = either("RUNTIME_LLP_LND_REST_TLS_CERT_BASE64", "LND_REST_TLS_CERT_BASE64");
    Ok(match (base_url, macaroon, certificate.map(|text| lnd::certificate(&text))) {
        (None, ..) => Node::Unusable("RUNTIME_LLP_LND_REST_BASE_URL is missing"),
        (_, None, _) => Node::Unusable("RUNTIME_LLP_LND_REST_MACAROON_HEX is missing"),
        (.., Some(None)) => Node::Unusable("RUNTIME_LLP_LND_REST_TLS_CERT_BASE64 is no base64"),
        (Some(base_url), Some(macaroon), certificate) => Node::Lnd {
            base_url,
            macaroon_hex: Hidden(macaroon),
            certificate: certificate.flatten(),
            verify,
            timeout: Duration::from_millis(timeout),
        },
    })
}

/// Trimmed; empty is unset.
fn said(lookup: Lookup<'_>, variable: &str) -> Option<String> {
    lookup(variable).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A number, moved into its range.
pub(crate) fn within<T>(
    lookup: Lookup<'_>,
    variable: &'static str,
    default: T,
    least: T,
    most: T,
) -> Result<T, ConfigError>
where
    T: FromStr + Ord,
    T::Err: fmt::Display,
{
    let Some(text) = lookup(variable) else { return Ok(default) };
    let number: T =
        text.parse().map_err(|error| ConfigError { variable, problem: format!("{text:?}: {error}") })?;
    Ok(number.clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        Settings::read(&|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_out_of_range_is_moved_into_it() {
        let settings = read(&[
            ("RUNTIME_LIQUIDITY_QUOTE_TTL_SECONDS", "1"),
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", "999999"),
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL", " http://wallet/ "),
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN", "  "),
        ])
        .expect("settings");
        assert_eq!(settings.quote_ttl_seconds, 5);
        assert_eq!(settings.executor_timeout, Duration::from_secs(120));
        assert_eq!(settings.executor_base_url.as_deref(), Some("http://wallet"));
        assert!(settings.executor_token.is_none(), "blank is not set");
    }

    #[test]
    fn what_cannot_be_read_stops_the_start() {
        for (name, value) in [
            ("RUNTIME_LIQUIDITY_QUOTE_TTL_SECONDS", " 60"),
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", "soon"),
            ("RUNTIME_LIGHTNING_NETWORK", "moon"),
            ("RUNTIME_LIQUIDITY_PAYMENT_RECOVERY_ENABLED", "maybe"),
        ] {
            assert_eq!(read(&[(name, value)]).expect_err(name).variable, name);
        }
    }

    #[test]
    fn a_node_that_is_configured_wrongly_says_why() {
        let of = |pairs: &[(&str, &str)]| read(pairs).expect("settings").node;
        assert!(matches!(of(&[]), Node::Noop));
        assert!(matches!(of(&[("RUNTIME_LLP_LIGHTNING_BACKEND", "cln")]), Node::Unusable(_)));
        assert!(matches!(of(&[("RUNTIME_LLP_LIGHTNING_BACKEND", "lnd")]), Node::Unusable(_)));
        let lnd = [
            ("RUNTIME_LLP_LIGHTNING_BACKEND", "LND"),
            ("LND_REST_BASE_URL", "https://node:8080"),
            ("LND_REST_MACAROON_HEX", "0201"),
        ];
        assert!(matches!(of(&lnd), Node::Lnd { verify: true, .. }));
        assert!(!format!("{:?}", of(&lnd)).contains("0201"));
    }
}
