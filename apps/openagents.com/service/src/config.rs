//! Decides what the environment says: every variable of control §1 that concerns what is built, read once into
//! one typed value. A value that cannot be read stops the start with its name.

use std::{fmt, net::SocketAddr};

use oa_contract::wire::{control::ClientCompatibility, identity::Secret};
use url::Url;

use crate::{
    env::{Env, wrong},
    gates::{self, GatesConfig},
    identity::settings::AccountsConfig,
    runtime_routing::decide::driver_label,
    shell::{self, ShellConfig},
    tools::config::{ToolsConfig, TrustMode},
};

/// Everything that the control service takes from the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// `OA_CONTROL_BIND_ADDR`.
    pub bind: SocketAddr,
    /// `OA_CONTROL_STATIC_DIR`; readiness asks for the directory only when it was named.
    pub static_dir: Option<String>,
    pub auth: AuthConfig,
    pub accounts: AccountsConfig,
    pub runtime: RuntimeConfig,
    pub compatibility: ClientCompatibility,
    pub gates: GatesConfig,
    pub shell: ShellConfig,
    pub route_split: RouteSplitConfig,
    pub routing: RoutingConfig,
    pub codex: CodexConfig,
    /// Autopilots that one user may have; they are never forgotten.
    pub autopilots_max: u32,
    /// Personal tokens that one user may have beside those that were revoked.
    pub tokens_max: u32,
    /// Tools that one organisation may store, and as many skills; each version counts. `OA_SKILLS_MAX_RECORDS`.
    pub skills_max_records: u32,
    pub tools: ToolsConfig,
}

/// How people sign in.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    pub provider: ProviderConfig,
    pub challenge_ttl_seconds: i64,
    pub access_ttl_seconds: i64,
    pub refresh_ttl_seconds: i64,
}

/// Who proves an e-mail address.
#[derive(Clone, Debug)]
pub enum ProviderConfig {
    /// Accepts one fixed code. Only on a loopback address: whoever knows the code is everybody.
    Mock { code: Secret },
    /// None: sign-in by e-mail answers 503, users and tokens are made with `oa user add`.
    Unavailable,
}

/// How the runtime is reached.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Without it the proxied rows answer 503.
    pub base_url: Option<String>,
    pub signature_secret: Option<Secret>,
    pub signature_ttl_seconds: i64,
    pub errors: UpstreamErrors,
}

/// `OA_RUNTIME_PROXY_ERRORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamErrors {
    /// What the runtime refuses is refused with the same meaning.
    Mapped,
    /// Everything that goes wrong upstream is 503.
    Legacy,
}

/// Control §9.1, as far as it comes from the environment.
#[derive(Clone, Debug)]
pub struct RouteSplitConfig {
    pub enabled: bool,
    pub mode: String,
    pub rust_routes: Vec<String>,
    pub cohort_percentage: u8,
    /// What the buckets of the cohort are made with.
    pub salt: String,
    pub force_legacy: bool,
    pub legacy_base_url: Option<String>,
}

/// Control §9.2, as far as it comes from the environment.
#[derive(Clone, Debug)]
pub struct RoutingConfig {
    pub default_driver: &'static str,
    pub forced_driver: Option<&'static str>,
    pub force_control_service: bool,
    pub canary_user_percent: u8,
    pub canary_autopilot_percent: u8,
    /// What the numbers of canaries are made with.
    pub canary_seed: String,
    pub overrides_enabled: bool,
    pub shadow_enabled: bool,
    pub shadow_sample_rate: f64,
    pub shadow_max_capture_bytes: u64,
}

/// How codex workers are served.
#[derive(Clone, Debug)]
pub struct CodexConfig {
    /// How long a request waits for an attached worker before it is answered as pending.
    pub request_wait_ms: u64,
    /// When a request that no worker answered is ended.
    pub request_deadline_seconds: i64,
    /// Events kept of each worker, and for how long.
    pub event_retention: u64,
    pub event_retention_seconds: i64,
    /// Workers that one user may have; they are never forgotten, whatever their state.
    pub workers_max: u32,
}

/// Which variable stops the start, and what it should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub variable: &'static str,
    pub wanted: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.variable, self.wanted)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// What an operator should be told loudly at the start.
    pub fn trust_warning(&self) -> Option<&'static str> {
        match self.tools.trust {
            TrustMode::Strict => None,
            TrustMode::Lenient => Some(
                "OA_TRUST_MODE=lenient: callers, invoices and payers of tools are believed, and a request's word goes before the policy's",
            ),
        }
    }

    /// Reads the configuration; `lookup` gives the value of a variable.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = Env(lookup);
        let bind = env.parsed("OA_CONTROL_BIND_ADDR", "an address with a port, e.g. 127.0.0.1:8787")?;
        let bind = bind.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8787)));
        let (auth, runtime) = (auth(&env, bind)?, runtime(&env)?);
        Ok(Config {
            accounts: AccountsConfig::read(&env, &auth.provider, &runtime)?,
            bind,
            static_dir: env.text(&["OA_CONTROL_STATIC_DIR"]),
            auth,
            runtime,
            compatibility: compatibility(&env)?,
            gates: gates::read(&env)?,
            shell: shell::config::read(&env)?,
            route_split: route_split(&env)?,
            routing: routing(&env)?,
            codex: codex(&env)?,
            autopilots_max: most(
                &env,
                "OA_AUTOPILOTS_MAX",
                "a number of autopilots, from 1 to 1000000",
                1_000,
            )?,
            tokens_max: most(&env, "OA_PERSONAL_TOKENS_MAX", "a number of tokens, from 1 to 1000000", 1_000)?,
            skills_max_records: most(
                &env,
                "OA_SKILLS_MAX_RECORDS",
                "a number of records, from 1 to 1000000",
                2_000,
            )?,
            tools: ToolsConfig::read(&env, bind)?,
        })
    }
}

fn auth(env: &Env<'_>, bind: SocketAddr) -> Result<AuthConfig, ConfigError> {
    const MODE: &str = "OA_AUTH_PROVIDER_MODE";
    let provider = match env.text(&[MODE]).map(|mode| mode.to_lowercase()).as_deref() {
        // No provider but the mock is built, so nobody signs in by e-mail; the refusal there says what to do.
        None | Some("workos") => ProviderConfig::Unavailable,
        // Whoever knows its one code is whoever they say: never where strangers can ask.
        Some("mock") if !bind.ip().to_canonical().is_loopback() => {
            let wanted = format!(
                "left out where OA_CONTROL_BIND_ADDR is {bind}: `mock` believes everybody and serves a loopback address only; `oa user add` makes users and tokens"
            );
            return Err(wrong(MODE, &wanted));
        }
        Some("mock") => ProviderConfig::Mock {
            code: Secret::new(env.text(&["OA_AUTH_MOCK_MAGIC_CODE"]).unwrap_or_else(|| "123456".into())),
        },
        Some(_) => return Err(wrong(MODE, "`mock` or `workos`")),
    };
    Ok(AuthConfig {
        provider,
        challenge_ttl_seconds: env.seconds("OA_AUTH_CHALLENGE_TTL_SECONDS", 600)?,
        access_ttl_seconds: env.seconds("OA_AUTH_ACCESS_TTL_SECONDS", 3_600)?,
        refresh_ttl_seconds: env.seconds("OA_AUTH_REFRESH_TTL_SECONDS", 2_592_000)?,
    })
}

fn runtime(env: &Env<'_>) -> Result<RuntimeConfig, ConfigError> {
    let base_url = env.text(&["OA_RUNTIME_BASE_URL", "OA_RUNTIME_ELIXIR_BASE_URL"]);
    if let Some(base) = &base_url {
        let http =
            Url::parse(base).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !http {
            return Err(wrong("OA_RUNTIME_BASE_URL", "an http or https address, e.g. http://127.0.0.1:4100"));
        }
    }
    let errors = match env.text(&["OA_RUNTIME_PROXY_ERRORS"]).as_deref() {
        None | Some("mapped") => UpstreamErrors::Mapped,
        Some("legacy") => UpstreamErrors::Legacy,
        Some(_) => return Err(wrong("OA_RUNTIME_PROXY_ERRORS", "`mapped` or `legacy`")),
    };
    Ok(RuntimeConfig {
        base_url: base_url.map(|base| base.trim_end_matches('/').to_owned()),
        signature_secret: env
            .text(&["OA_RUNTIME_SIGNATURE_SECRET", "RUNTIME_SIGNATURE_SECRET"])
            .map(Secret::new),
        signature_ttl_seconds: env.seconds("OA_RUNTIME_SIGNATURE_TTL_SECONDS", 60)?.max(30),
        errors,
    })
}

fn compatibility(env: &Env<'_>) -> Result<ClientCompatibility, ConfigError> {
    let text = |name, default: &str| env.text(&[name]).unwrap_or_else(|| default.to_owned());
    let version = |name| env.parsed::<u32>(name, "a whole number").map(|given| given.unwrap_or(1));
    let min_schema_version = version("OA_COMPAT_CONTROL_MIN_SCHEMA_VERSION")?;
    Ok(ClientCompatibility {
        protocol_version: text("OA_COMPAT_CONTROL_PROTOCOL_VERSION", "openagents.control.v1"),
        min_client_build_id: text("OA_COMPAT_CONTROL_MIN_CLIENT_BUILD_ID", "00000000T000000Z"),
        max_client_build_id: env.text(&["OA_COMPAT_CONTROL_MAX_CLIENT_BUILD_ID"]),
        min_schema_version,
        max_schema_version: version("OA_COMPAT_CONTROL_MAX_SCHEMA_VERSION")?.max(min_schema_version),
    })
}

fn route_split(env: &Env<'_>) -> Result<RouteSplitConfig, ConfigError> {
    let mode = match env.text(&["OA_ROUTE_SPLIT_MODE"]).map(|mode| mode.to_lowercase()).as_deref() {
        None | Some("rust") => "rust",
        Some("cohort") => "cohort",
        Some("legacy") => "legacy",
        Some(_) => return Err(wrong("OA_ROUTE_SPLIT_MODE", "`rust`, `cohort` or `legacy`")),
    };
    let routes = env.text(&["OA_ROUTE_SPLIT_RUST_ROUTES"]).unwrap_or_else(|| "/".into());
    let legacy = env.text(&["OA_ROUTE_SPLIT_LEGACY_BASE_URL"]);
    Ok(RouteSplitConfig {
        enabled: env.switch("OA_ROUTE_SPLIT_ENABLED", true)?,
        mode: mode.to_owned(),
        rust_routes: routes
            .split(',')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect(),
        cohort_percentage: env.percent("OA_ROUTE_SPLIT_COHORT_PERCENTAGE", 100)?,
        salt: env.text(&["OA_ROUTE_SPLIT_SALT"]).unwrap_or_else(|| "openagents-route-split-v1".into()),
        force_legacy: env.switch("OA_ROUTE_SPLIT_FORCE_LEGACY", false)?,
        legacy_base_url: legacy.map(|url| url.trim_end_matches('/').to_owned()),
    })
}

fn routing(env: &Env<'_>) -> Result<RoutingConfig, ConfigError> {
    let force = match env.text(&["OA_RUNTIME_FORCE_CONTROL_SERVICE"]) {
        Some(_) => "OA_RUNTIME_FORCE_CONTROL_SERVICE",
        None => "OA_RUNTIME_FORCE_LEGACY",
    };
    let rate = env.parsed::<f64>("OA_RUNTIME_SHADOW_SAMPLE_RATE", "a number")?.unwrap_or(1.0);
    if !rate.is_finite() {
        return Err(wrong("OA_RUNTIME_SHADOW_SAMPLE_RATE", "a number"));
    }
    Ok(RoutingConfig {
        default_driver: driver(env, ["OA_RUNTIME_ROUTING_DRIVER", "OA_RUNTIME_DRIVER"])?
            .unwrap_or("control_service"),
        forced_driver: driver(env, ["OA_RUNTIME_ROUTING_FORCE_DRIVER", "OA_RUNTIME_FORCE_DRIVER"])?,
        force_control_service: env.switch(force, false)?,
        canary_user_percent: env.percent("OA_RUNTIME_CANARY_USER_PERCENT", 0)?,
        canary_autopilot_percent: env.percent("OA_RUNTIME_CANARY_AUTOPILOT_PERCENT", 0)?,
        canary_seed: env.text(&["OA_RUNTIME_CANARY_SEED"]).unwrap_or_else(|| "runtime-canary-v1".into()),
        overrides_enabled: env.switch("OA_RUNTIME_OVERRIDES_ENABLED", true)?,
        shadow_enabled: env.switch("OA_RUNTIME_SHADOW_ENABLED", false)?,
        shadow_sample_rate: rate,
        shadow_max_capture_bytes: env
            .parsed("OA_RUNTIME_SHADOW_MAX_CAPTURE_BYTES", "a whole number")?
            .unwrap_or(200_000),
    })
}

/// The driver that the first of these variables names which is set.
fn driver(env: &Env<'_>, names: [&'static str; 2]) -> Result<Option<&'static str>, ConfigError> {
    for name in names {
        if let Some(given) = env.text(&[name]) {
            let label = driver_label(&given);
            return label.map(Some).ok_or_else(|| wrong(name, "`control_service` or `runtime_service`"));
        }
    }
    Ok(None)
}

fn codex(env: &Env<'_>) -> Result<CodexConfig, ConfigError> {
    const WAIT: &str = "OA_CODEX_REQUEST_WAIT_MS";
    let request_wait_ms = env.parsed::<u64>(WAIT, "from 0 to 30000 milliseconds")?.unwrap_or(10_000);
    if request_wait_ms > 30_000 {
        return Err(wrong(WAIT, "from 0 to 30000 milliseconds"));
    }
    const RETENTION: &str = "OA_CODEX_EVENT_RETENTION";
    let event_retention = env.parsed::<u64>(RETENTION, "a number of events, at least 1")?.unwrap_or(10_000);
    if !(1..=1_000_000_000).contains(&event_retention) {
        return Err(wrong(RETENTION, "a number of events, at least 1"));
    }
    let workers_max = most(env, "OA_CODEX_WORKERS_MAX", "a number of workers, from 1 to 1000000", 1_000)?;
    Ok(CodexConfig {
        request_wait_ms,
        request_deadline_seconds: env.seconds("OA_CODEX_REQUEST_DEADLINE_SECONDS", 300)?,
        event_retention,
        event_retention_seconds: env.seconds("OA_CODEX_EVENT_RETENTION_SECONDS", 604_800)?,
        workers_max,
    })
}

/// How many of something one may have.
fn most(env: &Env<'_>, name: &'static str, wanted: &str, usual: u32) -> Result<u32, ConfigError> {
    let most = env.parsed::<u32>(name, wanted)?.unwrap_or(usual);
    match (1..=1_000_000).contains(&most) {
        true => Ok(most),
        false => Err(wrong(name, wanted)),
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
    fn an_empty_environment_gives_the_defaults() {
        let config = read(&[]).expect("a configuration");
        assert_eq!(config.bind.to_string(), "127.0.0.1:8787");
        assert_eq!(config.auth.access_ttl_seconds, 3_600);
        assert!(matches!(config.auth.provider, ProviderConfig::Unavailable));
        assert_eq!(config.runtime.base_url, None);
        assert_eq!(config.route_split.mode, "rust");
    }

    #[test]
    fn a_value_that_cannot_be_read_stops_the_start_with_its_name() {
        for (name, value) in [
            ("OA_CONTROL_BIND_ADDR", "here"),
            ("OA_AUTH_ACCESS_TTL_SECONDS", "an hour"),
            ("OA_AUTH_REFRESH_TTL_SECONDS", "0"),
            ("OA_RUNTIME_BASE_URL", "runtime:4100"),
            ("OA_RUNTIME_PROXY_ERRORS", "raw"),
            ("OA_ROUTE_SPLIT_ENABLED", "perhaps"),
            ("OA_ROUTE_SPLIT_MODE", "php"),
            ("OA_AUTOPILOTS_MAX", "0"),
            ("OA_PERSONAL_TOKENS_MAX", "1000001"),
            ("OA_AUTH_PROVIDER_MODE", "mok"),
            ("OA_RUNTIME_ROUTING_DRIVER", "laravel"),
            ("OA_RUNTIME_DRIVER", "runtime"),
            ("OA_RUNTIME_ROUTING_FORCE_DRIVER", "typo"),
            ("OA_RUNTIME_FORCE_DRIVER", "control"),
            ("OA_ROUTE_SPLIT_COHORT_PERCENTAGE", "101"),
            ("OA_RUNTIME_SHADOW_SAMPLE_RATE", "NaN"),
            ("OA_CODEX_REQUEST_WAIT_MS", "30001"),
            ("OA_CODEX_EVENT_RETENTION", "0"),
            ("OA_CODEX_REQUEST_DEADLINE_SECONDS", "0"),
            ("OA_CODEX_WORKERS_MAX", "0"),
            ("OA_SKILLS_MAX_RECORDS", "0"),
            ("OA_SKILLS_MAX_RECORDS", "1000001"),
        ] {
            assert_eq!(read(&[(name, value)]).expect_err(name).variable, name);
        }
    }

    #[test]
    fn the_mock_provider_beyond_a_loopback_address_stops_the_start() {
        let on = |mode, bind| read(&[("OA_AUTH_PROVIDER_MODE", mode), ("OA_CONTROL_BIND_ADDR", bind)]);
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let provider = on("Mock", bind).expect("a configuration").auth.provider;
            assert!(matches!(provider, ProviderConfig::Mock { .. }), "{bind}");
        }
        for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8787"] {
            let stopped = on("Mock", bind).expect_err(bind);
            assert_eq!(stopped.variable, "OA_AUTH_PROVIDER_MODE");
            assert!(stopped.wanted.contains("oa user add"), "{stopped}");
            let provider = on("workos", bind).expect("a configuration").auth.provider;
            assert!(matches!(provider, ProviderConfig::Unavailable), "{bind}");
        }
    }

    #[test]
    fn who_believes_callers_is_told_so_and_does_it_on_this_machine_only() {
        assert_eq!(read(&[]).expect("a configuration").trust_warning(), None);
        let lenient = [("OA_TRUST_MODE", "lenient"), ("OA_CONTROL_BIND_ADDR", "0.0.0.0:8787")];
        assert!(read(&lenient[..1]).expect("loopback").trust_warning().is_some());
        assert_eq!(read(&lenient).err().map(|error| error.variable), Some("OA_TRUST_MODE"));
    }

    #[test]
    fn aliases_and_trailing_slashes_are_understood_and_secrets_are_not_printed() {
        let config = read(&[
            ("OA_RUNTIME_ELIXIR_BASE_URL", "http://127.0.0.1:4100/"),
            ("RUNTIME_SIGNATURE_SECRET", "hush"),
            ("OA_RUNTIME_SIGNATURE_TTL_SECONDS", "5"),
            ("OA_RUNTIME_DRIVER", "Runtime_Service"),
        ])
        .expect("a configuration");
        assert_eq!(config.runtime.base_url.as_deref(), Some("http://127.0.0.1:4100"));
        assert_eq!(config.runtime.signature_ttl_seconds, 30);
        assert_eq!(config.routing.default_driver, "runtime_service");
        assert!(!format!("{config:?}").contains("hush"));
    }
}
