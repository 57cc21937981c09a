//! Decides what an operator can set, under the names of the specification (runtime-core §4). A value that does
//! not parse stops the start, with the variable's name.

use std::{fmt, net::SocketAddr, str::FromStr};

use oa_contract::provider_token;

use crate::{
    bridge::settings::BridgeSettings, credit::CreditPolicy, hydra::fx::FxPolicy,
    liquidity::settings::Settings as Liquidity, pools::settings::PoolSettings,
};

/// A variable that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub variable: &'static str,
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used: {}", self.variable, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Whether `/internal/v1/*` asks for credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Every call carries one.
    #[default]
    Required,
    /// A call may carry one; a wrong one is refused.
    Permissive,
    /// Nobody is asked. Loopback binds only.
    Off,
}

/// Who writes here (runtime-core §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    #[default]
    RustActive,
    ShadowOnly,
    ReadOnly,
}

impl WriteMode {
    pub const fn name(self) -> &'static str {
        match self {
            WriteMode::RustActive => "rust_active",
            WriteMode::ShadowOnly => "shadow_only",
            WriteMode::ReadOnly => "read_only",
        }
    }

    pub const fn writes_enabled(self) -> bool {
        matches!(self, WriteMode::RustActive)
    }
}

/// How much a caller is believed (ARCHITECTURE.md, Trust).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustMode {
    /// Money of others moves on evidence of our own only.
    #[default]
    Strict,
    /// As the specifications' reference has it. Loopback binds only.
    Lenient,
}

/// The runtime's settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub bind_addr: SocketAddr,
    pub service_name: String,
    pub build_sha: String,
    pub write_mode: WriteMode,
    pub auth_mode: AuthMode,
    /// Worker base URLs may lead into private networks.
    pub allow_private_networks: bool,
    /// Worker base URLs may be loopback addresses. Only while nobody but this machine reaches the service.
    pub allow_loopback_providers: bool,
    /// Places that no worker base URL may mean: those of our own services.
    pub denied_places: Vec<String>,
    pub verifier_strict: bool,
    /// x-only public keys, lower-case hex.
    pub allowed_signers: Vec<String>,
    pub heartbeat_stale_after_ms: i64,
    /// A running worker that has been silent for so long is failed by the sweeper.
    pub heartbeat_lost_after_ms: i64,
    /// Workers that one owner may have; they are never forgotten, whatever their state.
    pub workers_max: u32,
    pub db_configured: bool,
    /// How many messages of a worker or fleet stream are kept.
    pub lifecycle_retention: u64,
    /// How many messages of any other stream are kept.
    pub fallback_retention: u64,
    /// Events that a run may hold.
    pub run_event_limit: u64,
    pub trust_mode: TrustMode,
    /// Whether the background gives old reservations back and compares settlements with ledger and runs.
    pub reconciliation_enabled: bool,
    pub reconciliation_interval_seconds: u64,
    /// Reservations that one round gives back.
    pub reconciliation_max_jobs: u64,
    /// How long money stays reserved for a job that nobody settles.
    pub reservation_ttl_seconds: i64,
    /// Of 10000 settlements that would be paid, so many are run once more first.
    pub reexecution_sample_bps: u32,
    /// Which ones those are follows from this. None: from the secret of the service credentials.
    pub reexecution_seed: Option<String>,
    /// What is allowed of exchanges between assets.
    pub fx: FxPolicy,
    /// What is allowed of credit.
    pub credit: CreditPolicy,
    /// Payments over Lightning.
    pub liquidity: Liquidity,
    pub pools: PoolSettings,
    /// Which Nostr relays are told what happens here.
    pub bridge: BridgeSettings,
    /// What providers that let only this runtime in know it by.
    pub provider_token: Option<provider_token::Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bind_addr: SocketAddr::from(([127, 0, 0, 1], 4100)),
            service_name: "runtime".into(),
            build_sha: "dev".into(),
            write_mode: WriteMode::default(),
            auth_mode: AuthMode::default(),
            allow_private_networks: false,
            allow_loopback_providers: false,
            denied_places: Vec::new(),
            verifier_strict: false,
            allowed_signers: Vec::new(),
            heartbeat_stale_after_ms: 120_000,
            heartbeat_lost_after_ms: 360_000,
            workers_max: 10_000,
            db_configured: true,
            lifecycle_retention: 10_000,
            fallback_retention: 500,
            run_event_limit: 10_000_000,
            trust_mode: TrustMode::default(),
            reconciliation_enabled: true,
            reconciliation_interval_seconds: 60,
            reconciliation_max_jobs: 200,
            reservation_ttl_seconds: 3_600,
            reexecution_sample_bps: 500,
            reexecution_seed: None,
            fx: FxPolicy::default(),
            credit: CreditPolicy::default(),
            liquidity: Liquidity::default(),
            pools: PoolSettings::default(),
            bridge: BridgeSettings::default(),
            provider_token: None,
        }
    }
}

/// Where the value of a variable comes from; the environment, a file, or a test.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads every variable that the runtime knows.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let defaults = Config::default();
        let stale =
            parsed(lookup, "RUNTIME_WORKER_HEARTBEAT_STALE_AFTER_MS", defaults.heartbeat_stale_after_ms)?
                .max(1);
        let config = Config {
            bind_addr: parsed(lookup, "RUNTIME_BIND_ADDR", defaults.bind_addr)?,
            service_name: lookup("RUNTIME_SERVICE_NAME").unwrap_or(defaults.service_name),
            build_sha: lookup("RUNTIME_BUILD_SHA").unwrap_or(defaults.build_sha),
            write_mode: write_mode(lookup)?,
            auth_mode: auth_mode(lookup)?,
            allow_private_networks: boolean(lookup, "RUNTIME_ALLOW_PRIVATE_NETWORKS", false)?,
            allow_loopback_providers: boolean(lookup, "RUNTIME_ALLOW_LOOPBACK_PROVIDERS", false)?,
            denied_places: Vec::new(),
            verifier_strict: boolean(lookup, "RUNTIME_VERIFIER_STRICT", false)?,
            allowed_signers: signers(lookup)?,
            heartbeat_stale_after_ms: stale,
            heartbeat_lost_after_ms: parsed(
                lookup,
                "RUNTIME_WORKER_HEARTBEAT_LOST_AFTER_MS",
                stale.saturating_mul(3),
            )?
            .max(stale),
            workers_max: workers_max(lookup, defaults.workers_max)?,
            db_configured: true,
            lifecycle_retention: at_least_one(
                lookup,
                "RUNTIME_KHALA_WORKER_LIFECYCLE_REPLAY_BUDGET_EVENTS",
                defaults.lifecycle_retention,
            )?,
            fallback_retention: at_least_one(
                lookup,
                "RUNTIME_KHALA_FALLBACK_REPLAY_BUDGET_EVENTS",
                defaults.fallback_retention,
            )?,
            run_event_limit: at_least_one(lookup, "RUNTIME_RUN_EVENT_LIMIT", defaults.run_event_limit)?,
            trust_mode: trust_mode(lookup)?,
            reconciliation_enabled: boolean(lookup, "RUNTIME_TREASURY_RECONCILIATION_ENABLED", true)?,
            reconciliation_interval_seconds: at_least_one(
                lookup,
                "RUNTIME_TREASURY_RECONCILIATION_INTERVAL_SECONDS",
                defaults.reconciliation_interval_seconds,
            )?,
            reconciliation_max_jobs: parsed(
                lookup,
                "RUNTIME_TREASURY_RECONCILIATION_MAX_JOBS",
                defaults.reconciliation_max_jobs,
            )?
            .clamp(1, 2_000),
            reservation_ttl_seconds: parsed(
                lookup,
                "RUNTIME_TREASURY_RESERVATION_TTL_SECONDS",
                defaults.reservation_ttl_seconds,
            )?
            .clamp(1, MOST_TTL_SECONDS),
            reexecution_sample_bps: parsed(
                lookup,
                "RUNTIME_REEXECUTION_SAMPLE_BPS",
                defaults.reexecution_sample_bps,
            )?
            .min(10_000),
            reexecution_seed: lookup("RUNTIME_REEXECUTION_SEED").filter(|seed| !seed.trim().is_empty()),
            fx: FxPolicy::read(lookup)?,
            credit: CreditPolicy::read(lookup)?,
            liquidity: Liquidity::read(lookup)?,
            pools: PoolSettings::read(lookup)?,
            bridge: BridgeSettings::read(lookup)?,
            provider_token: shared_with_providers(lookup)?,
        };
        config.pools.fit(config.trust_mode == TrustMode::Strict)?;
        config.off_only_on_loopback()
    }

    fn off_only_on_loopback(self) -> Result<Self, ConfigError> {
        if self.allow_loopback_providers && !self.bind_addr.ip().to_canonical().is_loopback() {
            return Err(ConfigError {
                variable: "RUNTIME_ALLOW_LOOPBACK_PROVIDERS",
                problem: format!(
                    "callers from elsewhere must not choose ports of this machine, and RUNTIME_BIND_ADDR is {}",
                    self.bind_addr
                ),
            });
        }
        if self.trust_mode == TrustMode::Lenient && !self.bind_addr.ip().to_canonical().is_loopback() {
            return Err(ConfigError {
                variable: "RUNTIME_TRUST_MODE",
                problem: format!(
                    "only `strict` serves beyond loopback, and RUNTIME_BIND_ADDR is {}",
                    self.bind_addr
                ),
            });
        }
        match self.auth_mode != AuthMode::Required && !self.bind_addr.ip().to_canonical().is_loopback() {
            true => Err(ConfigError {
                variable: "RUNTIME_INTERNAL_AUTH_MODE",
                problem: format!(
                    "only `required` serves beyond loopback, and RUNTIME_BIND_ADDR is {}",
                    self.bind_addr
                ),
            }),
            false => Ok(self),
        }
    }

    /// What an operator should be told loudly at the start, beside [`Config::warning`].
    pub fn trust_warning(&self) -> Option<&'static str> {
        match self.trust_mode {
            TrustMode::Strict => None,
            TrustMode::Lenient => Some(
                "RUNTIME_TRUST_MODE=lenient: callers are believed about what providers answered and what they are owed",
            ),
        }
    }

    /// What an operator should be told loudly at the start.
    pub fn warning(&self) -> Option<&'static str> {
        match self.auth_mode {
            AuthMode::Required => None,
            AuthMode::Permissive => Some(
                "RUNTIME_INTERNAL_AUTH_MODE=permissive: whoever sends no credential may act for any owner",
            ),
            AuthMode::Off => Some(
                "RUNTIME_INTERNAL_AUTH_MODE=off: nobody is asked for a credential, and anybody on this machine may act for any owner",
            ),
        }
    }
}

pub(crate) fn parsed<T: FromStr>(
    lookup: Lookup<'_>,
    variable: &'static str,
    default: T,
) -> Result<T, ConfigError>
where
    T::Err: fmt::Display,
{
    match lookup(variable) {
        None => Ok(default),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|error| ConfigError { variable, problem: format!("{text:?}: {error}") }),
    }
}

fn workers_max(lookup: Lookup<'_>, default: u32) -> Result<u32, ConfigError> {
    let variable = "RUNTIME_WORKERS_MAX";
    match parsed(lookup, variable, default)? {
        most @ 1..=1_000_000 => Ok(most),
        _ => Err(ConfigError { variable, problem: "must be a number of workers, from 1 to 1000000".into() }),
    }
}

fn at_least_one(lookup: Lookup<'_>, variable: &'static str, default: u64) -> Result<u64, ConfigError> {
    match parsed(lookup, variable, default)? {
        0 => Err(ConfigError { variable, problem: "must be at least 1".into() }),
        number => Ok(number),
    }
}

fn shared_with_providers(lookup: Lookup<'_>) -> Result<Option<provider_token::Secret>, ConfigError> {
    let variable = "RUNTIME_PROVIDER_TOKEN";
    let secret = provider_token::Secret::read(lookup(variable).as_deref());
    secret.map_err(|problem| ConfigError { variable, problem })
}

pub(crate) fn boolean(
    lookup: Lookup<'_>,
    variable: &'static str,
    default: bool,
) -> Result<bool, ConfigError> {
    let Some(text) = lookup(variable) else { return Ok(default) };
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(ConfigError { variable, problem: format!("{text:?} is neither true nor false") }),
    }
}

fn write_mode(lookup: Lookup<'_>) -> Result<WriteMode, ConfigError> {
    const VARIABLE: &str = "RUNTIME_AUTHORITY_WRITE_MODE";
    let Some(text) = lookup(VARIABLE) else { return Ok(WriteMode::default()) };
    let named = text.trim().to_ascii_lowercase();
    [WriteMode::RustActive, WriteMode::ShadowOnly, WriteMode::ReadOnly]
        .into_iter()
        .find(|mode| mode.name() == named)
        .ok_or_else(|| ConfigError {
            variable: VARIABLE,
            problem: format!("{text:?} is none of rust_active, shadow_only, read_only"),
        })
}

fn auth_mode(lookup: Lookup<'_>) -> Result<AuthMode, ConfigError> {
    const VARIABLE: &str = "RUNTIME_INTERNAL_AUTH_MODE";
    let Some(text) = lookup(VARIABLE) else { return Ok(AuthMode::default()) };
    match text.trim().to_ascii_lowercase().as_str() {
        "required" => Ok(AuthMode::Required),
        "permissive" => Ok(AuthMode::Permissive),
        "off" => Ok(AuthMode::Off),
        _ => Err(ConfigError {
            variable: VARIABLE,
            problem: format!("{text:?} is none of required, permissive, off"),
        }),
    }
}

/// A year; beyond that a reservation is no reservation.
const MOST_TTL_SECONDS: i64 = 31_536_000;

fn trust_mode(lookup: Lookup<'_>) -> Result<TrustMode, ConfigError> {
    const VARIABLE: &str = "RUNTIME_TRUST_MODE";
    let Some(text) = lookup(VARIABLE) else { return Ok(TrustMode::default()) };
    match text.trim().to_ascii_lowercase().as_str() {
        "strict" => Ok(TrustMode::Strict),
        "lenient" => Ok(TrustMode::Lenient),
        _ => Err(ConfigError {
            variable: VARIABLE,
            problem: format!("{text:?} is neither strict nor lenient"),
        }),
    }
}

fn signers(lookup: Lookup<'_>) -> Result<Vec<String>, ConfigError> {
    const VARIABLE: &str = "RUNTIME_VERIFIER_ALLOWED_SIGNER_PUBKEYS";
    let text = lookup(VARIABLE).unwrap_or_default();
    let keys: Vec<String> =
        text.split(',').map(|key| key.trim().to_ascii_lowercase()).filter(|key| !key.is_empty()).collect();
    match keys.iter().find(|key| key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        Some(key) => {
            Err(ConfigError { variable: VARIABLE, problem: format!("{key:?} is not 64 hex digits") })
        }
        None => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(&|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_specified_defaults() {
        let config = read(&[]).expect("defaults");
        assert_eq!(config.bind_addr.to_string(), "127.0.0.1:4100");
        assert_eq!(config.auth_mode, AuthMode::Required);
        assert_eq!(config.heartbeat_stale_after_ms, 120_000);
    }

    #[test]
    fn a_value_that_does_not_parse_stops_the_start_with_its_name() {
        for (name, value) in [
            ("RUNTIME_BIND_ADDR", "localhost:1"),
            ("RUNTIME_AUTHORITY_WRITE_MODE", "maybe"),
            ("RUNTIME_VERIFIER_STRICT", "2"),
            ("RUNTIME_WORKER_HEARTBEAT_STALE_AFTER_MS", ""),
            ("RUNTIME_VERIFIER_ALLOWED_SIGNER_PUBKEYS", "abc"),
            ("RUNTIME_TRUST_MODE", "some"),
            ("RUNTIME_TREASURY_RECONCILIATION_ENABLED", "maybe"),
            ("RUNTIME_TREASURY_RECONCILIATION_INTERVAL_SECONDS", "0"),
            ("RUNTIME_REEXECUTION_SAMPLE_BPS", "-1"),
            ("RUNTIME_KHALA_FALLBACK_REPLAY_BUDGET_EVENTS", "0"),
        ] {
            assert_eq!(read(&[(name, value)]).expect_err(name).variable, name);
        }
    }

    #[test]
    fn authentication_cannot_be_switched_off_beyond_loopback() {
        let refused = read(&[("RUNTIME_INTERNAL_AUTH_MODE", "off"), ("RUNTIME_BIND_ADDR", "0.0.0.0:4100")])
            .expect_err("refused");
        assert_eq!(refused.variable, "RUNTIME_INTERNAL_AUTH_MODE");
        let permissive =
            [("RUNTIME_INTERNAL_AUTH_MODE", "permissive"), ("RUNTIME_BIND_ADDR", "0.0.0.0:4100")];
        assert!(read(&permissive).is_err());
        assert!(read(&[("RUNTIME_INTERNAL_AUTH_MODE", "off")]).expect("loopback").warning().is_some());
        let lenient = [("RUNTIME_TRUST_MODE", "lenient"), ("RUNTIME_BIND_ADDR", "0.0.0.0:4100")];
        assert_eq!(read(&lenient).expect_err("refused").variable, "RUNTIME_TRUST_MODE");
        assert!(read(&lenient[..1]).expect("loopback").trust_warning().is_some());
        let near = [("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "1"), ("RUNTIME_BIND_ADDR", "0.0.0.0:4100")];
        assert_eq!(read(&near).expect_err("refused").variable, "RUNTIME_ALLOW_LOOPBACK_PROVIDERS");
        assert!(read(&near[..1]).expect("loopback").allow_loopback_providers);
        assert!(!read(&[]).expect("nothing said").allow_loopback_providers);
    }
}
