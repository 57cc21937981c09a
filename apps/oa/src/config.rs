//! Decides what a setting is worth: a flag before the environment, the environment before `oa.conf`, that before the default; a value that cannot be read stops the start with its name.

use std::{collections::BTreeMap, fs, io, net::SocketAddr, path::Path};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use url::Url;

use crate::{data_dir::DataDir, failure::Failure};

/// The file of settings in the data directory.
pub const FILE: &str = "oa.conf";

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Never shown again once it is read.
    Secret,
    /// `1|true|yes|on` or `0|false|no|off`.
    Switch,
    /// An IP address and a port.
    Address,
    Url,
    /// A whole number, at least this.
    Count(u64),
    OneOf(&'static [&'static str]),
    /// Public keys of 64 hex digits, separated by commas.
    PublicKeys,
}

/// One setting: the name is that of the environment variable and of the line in the file; the flag is
/// derived from it.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    /// An older name of the same thing, read when the name itself is not set.
    pub also: Option<&'static str>,
    pub default: Option<&'static str>,
    pub kind: Kind,
    pub help: &'static str,
}

impl Setting {
    /// `RUNTIME_BIND_ADDR` is `--runtime-bind-addr`.
    fn flag(&self) -> String {
        self.name.to_lowercase().replace('_', "-")
    }

    fn check(&self, value: &str) -> Result<(), String> {
        let fits = match self.kind {
            Kind::Text | Kind::Secret => true,
            Kind::Switch => switch(value).is_some(),
            Kind::Address => value.parse::<SocketAddr>().is_ok(),
            Kind::Url => Url::parse(value).is_ok_and(|url| matches!(url.scheme(), "http" | "https")),
            Kind::Count(least) => value.parse::<u64>().is_ok_and(|count| count >= least),
            Kind::OneOf(words) => words.contains(&value.trim().to_lowercase().as_str()),
            Kind::PublicKeys => list(value).all(is_public_key),
        };
        match fits {
            true => Ok(()),
            false => Err(self.wanted()),
        }
    }

    fn wanted(&self) -> String {
        match self.kind {
            Kind::Text | Kind::Secret => "any text".to_owned(),
            Kind::Switch => "true or false".to_owned(),
            Kind::Address => "an IP address and a port, as 127.0.0.1:4100".to_owned(),
            Kind::Url => "an http or https address".to_owned(),
            Kind::Count(least) => format!("a whole number, at least {least}"),
            Kind::OneOf(words) => format!("one of {}", words.join(", ")),
            Kind::PublicKeys => "public keys of 64 hex digits, separated by commas".to_owned(),
        }
    }
}

fn switch(value: &str) -> Option<bool> {
    match value.trim().to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn is_public_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

macro_rules! settings {
    ($( $name:literal $(or $also:literal)?, $kind:expr, $default:expr, $help:literal; )+) => {
        &[$( Setting { name: $name, also: settings!(@ $($also)?), default: $default, kind: $kind, help: $help } ),+]
    };
    (@ $also:literal) => { Some($also) };
    (@) => { None };
}

/// Settings of the programs that call a server.
pub const CLIENT: &[Setting] = settings! {
    "OA_RUNTIME_BASE_URL" or "OA_RUNTIME_ELIXIR_BASE_URL", Kind::Url, None, "Where the runtime is.";
    "OA_CONTROL_BASE_URL", Kind::Url, None, "Where the control service is.";
    "OA_CONTROL_TOKEN", Kind::Secret, None, "The personal token for the control service; the data directory's own for its own service when not set.";
    "RUNTIME_SERVICE_TOKEN", Kind::Secret, None, "The bearer token of the runtime; made in the data directory when not set.";
};

/// Settings of the runtime service.
pub const RUNTIME: &[Setting] = settings! {
    "RUNTIME_BIND_ADDR", Kind::Address, Some("127.0.0.1:4100"), "Where the runtime listens.";
    "RUNTIME_SERVICE_NAME", Kind::Text, Some("runtime"), "What /healthz calls the runtime.";
    "RUNTIME_BUILD_SHA", Kind::Text, Some("dev"), "What /healthz says was built.";
    "RUNTIME_AUTHORITY_WRITE_MODE", Kind::OneOf(&["rust_active", "shadow_only", "read_only"]), Some("rust_active"), "Whether the runtime takes writes.";
    "RUNTIME_INTERNAL_AUTH_MODE", Kind::OneOf(&["required", "permissive", "off"]), Some("required"), "Whether callers of /internal/v1 must say who they are; off starts on a loopback address only.";
    "RUNTIME_ALLOW_PRIVATE_NETWORKS", Kind::Switch, Some("false"), "Whether addresses that callers give may lie in private networks.";
    "RUNTIME_ALLOW_LOOPBACK_PROVIDERS", Kind::Switch, None, "Whether providers may be at loopback addresses of this machine; true under `oa up` while both services are on loopback addresses, false otherwise, and only on a loopback address.";
    "RUNTIME_VERIFIER_STRICT", Kind::Switch, Some("false"), "Whether receipts must be signed.";
    "RUNTIME_VERIFIER_ALLOWED_SIGNER_PUBKEYS", Kind::PublicKeys, Some(""), "Which keys may sign receipts; empty means any.";
    "RUNTIME_WORKER_HEARTBEAT_STALE_AFTER_MS", Kind::Count(1), Some("120000"), "After how much silence a worker counts as stale.";
    "RUNTIME_WORKER_HEARTBEAT_LOST_AFTER_MS", Kind::Count(1), None, "After how much silence a running worker is failed; three times the other when not set.";
    "RUNTIME_KHALA_WORKER_LIFECYCLE_REPLAY_BUDGET_EVENTS", Kind::Count(1), Some("10000"), "How many messages of a worker's or fleet's stream are kept.";
    "RUNTIME_KHALA_FALLBACK_REPLAY_BUDGET_EVENTS", Kind::Count(1), Some("500"), "How many messages of any other stream are kept.";
    "RUNTIME_NATS_URL", Kind::Secret, None, "Where NATS is that carries wakes between replicas, as nats://host:4222, several separated by commas; without it replicas look twice a second.";
    "RUNTIME_NATS_SUBJECT", Kind::Text, Some("oa.runtime"), "What its subjects begin with; another one for each store.";
    "RUNTIME_WORKERS_MAX", Kind::Count(1), Some("10000"), "How many workers one owner may have, at most 1000000.";
    "RUNTIME_RUN_EVENT_LIMIT", Kind::Count(1), Some("10000000"), "How many events a run may hold.";
    "RUNTIME_TRUST_MODE", Kind::OneOf(&["strict", "lenient"]), Some("strict"), "Whether money moves on evidence of our own only; lenient believes callers, and starts on a loopback address only.";
    "RUNTIME_TREASURY_RECONCILIATION_ENABLED", Kind::Switch, Some("true"), "Whether old reservations are given back and settlements compared in the background.";
    "RUNTIME_TREASURY_RECONCILIATION_INTERVAL_SECONDS", Kind::Count(1), Some("60"), "How often that is done.";
    "RUNTIME_TREASURY_RECONCILIATION_MAX_JOBS", Kind::Count(1), Some("200"), "How many reservations one round gives back; at most 2000.";
    "RUNTIME_TREASURY_RESERVATION_TTL_SECONDS", Kind::Count(1), Some("3600"), "How long money stays reserved for a job that nobody settles.";
    "RUNTIME_REEXECUTION_SAMPLE_BPS", Kind::Count(0), Some("500"), "Of 10000 settlements that would be paid, how many are run once more by somebody else first.";
    "RUNTIME_REEXECUTION_SEED", Kind::Secret, None, "What chooses them; follows from the secret of service credentials when not set.";
    "RUNTIME_PROVIDER_TOKEN", Kind::Secret, None, "The secret that providers know this runtime by, at least 16 characters: OA_PROVIDER_CALLER_TOKEN on the operator's own machines; others get what oa provider caller-token makes of it.";
    "RUNTIME_CREDIT_MAX_SATS_PER_ENVELOPE", Kind::Count(0), Some("100000"), "The most one envelope of credit may pay, in sats.";
    "RUNTIME_CREDIT_MAX_OUTSTANDING_ENVELOPES_PER_AGENT", Kind::Count(0), Some("3"), "How many envelopes an agent may have open.";
    "RUNTIME_CREDIT_MAX_OFFER_TTL_SECONDS", Kind::Count(0), Some("3600"), "How long an offer of credit may be good, 1 to 86400.";
    "RUNTIME_CREDIT_UNDERWRITING_HISTORY_DAYS", Kind::Count(0), Some("30"), "How many days of an agent's settlements are looked at, 1 to 365.";
    "RUNTIME_CREDIT_UNDERWRITING_BASE_SATS", Kind::Count(0), Some("2000"), "What a new agent is offered, in sats.";
    "RUNTIME_CREDIT_UNDERWRITING_K", Kind::Text, Some("150.0"), "How much more a good history is worth, 0 to 10000.";
    "RUNTIME_CREDIT_UNDERWRITING_DEFAULT_PENALTY_MULTIPLIER", Kind::Text, Some("2.0"), "How much a loss takes off, 0 to 100.";
    "RUNTIME_CREDIT_MIN_FEE_BPS", Kind::Count(0), Some("50"), "The lowest fee of credit, at most 100000.";
    "RUNTIME_CREDIT_MAX_FEE_BPS", Kind::Count(0), Some("2000"), "The highest fee of credit, never below the lowest.";
    "RUNTIME_CREDIT_FEE_RISK_SCALER", Kind::Text, Some("400.0"), "How much risk adds to the fee, 0 to 100000.";
    "RUNTIME_CREDIT_HEALTH_WINDOW_SECONDS", Kind::Count(0), Some("21600"), "How far back the breakers of credit look, 60 to 604800.";
    "RUNTIME_CREDIT_HEALTH_SETTLEMENT_SAMPLE_LIMIT", Kind::Count(0), Some("200"), "How many settlements they look at.";
    "RUNTIME_CREDIT_HEALTH_LN_PAY_SAMPLE_LIMIT", Kind::Count(0), Some("200"), "How many payments they look at.";
    "RUNTIME_CREDIT_CIRCUIT_BREAKER_MIN_SAMPLE", Kind::Count(0), Some("5"), "Fewer than these trip no breaker.";
    "RUNTIME_CREDIT_LOSS_RATE_HALT_THRESHOLD", Kind::Text, Some("0.5"), "Above this share of losses no envelope is issued, 0 to 1.";
    "RUNTIME_CREDIT_LN_FAILURE_RATE_HALT_THRESHOLD", Kind::Text, Some("0.5"), "Above this share of failed payments only small envelopes are settled, 0 to 1.";
    "RUNTIME_CREDIT_LN_FAILURE_LARGE_SETTLEMENT_CAP_SATS", Kind::Count(0), Some("5000"), "What small is then, in sats.";
    "RUNTIME_CREDIT_REPAYMENT_SECONDS", Kind::Count(0), Some("86400"), "How long after its envelope's time what was drawn is due.";
    "RUNTIME_HYDRA_FX_ALLOWED_PAIRS", Kind::Text, Some("USD->BTC_LN,USDT->BTC_LN,BTC_LN->USD"), "Which assets are exchanged for which, separated by commas.";
    "RUNTIME_HYDRA_FX_MAX_SPREAD_BPS", Kind::Count(0), Some("300"), "The widest spread of a quote, 1 to 10000.";
    "RUNTIME_HYDRA_FX_MAX_FEE_BPS", Kind::Count(0), Some("150"), "The highest fee of a quote, at most 10000.";
    "RUNTIME_HYDRA_FX_MIN_QUOTE_TTL_SECONDS", Kind::Count(0), Some("5"), "The shortest time that a request for quotes may be open, 1 to 3600.";
    "RUNTIME_HYDRA_FX_MAX_QUOTE_TTL_SECONDS", Kind::Count(0), Some("300"), "The longest time that a request for quotes may be open, 1 to 86400.";
    "RUNTIME_HYDRA_FX_MIN_QUOTE_VALIDITY_SECONDS", Kind::Count(0), Some("10"), "How much longer a quote must be good when it is given or chosen, at most 3600.";
    "RUNTIME_HYDRA_FX_SELECTION_WEIGHT_COST_BPS", Kind::Count(0), Some("4000"), "How much the cost of a quote counts in reputation_first_v0, at most 10000.";
    "RUNTIME_HYDRA_FX_SELECTION_WEIGHT_LATENCY_BPS", Kind::Count(0), Some("2000"), "How much its latency counts.";
    "RUNTIME_HYDRA_FX_SELECTION_WEIGHT_RELIABILITY_BPS", Kind::Count(0), Some("4000"), "How much what its provider says of its reliability counts.";
    "RUNTIME_HYDRA_FX_REFERENCE_MAX_AGE_SECONDS", Kind::Count(0), Some("300"), "How old a reference rate may be, 1 to 86400.";
    "RUNTIME_HYDRA_FX_REFERENCE_QUORUM", Kind::Count(0), Some("1"), "How many sources make a reference rate, 1 to 16.";
    "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL", Kind::Text, None, "Where the wallet executor is that pays over Lightning (`oa wallet`); nothing can be paid without one.";
    "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN", Kind::Secret, None, "The bearer token for it.";
    "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", Kind::Text, Some("12000"), "How long one call of it may take; 250 to 120000.";
    "RUNTIME_LIQUIDITY_QUOTE_TTL_SECONDS", Kind::Text, Some("60"), "How long a quote of a payment is good; 5 to 3600.";
    "RUNTIME_LIQUIDITY_PAYMENT_RECOVERY_ENABLED", Kind::Switch, Some("true"), "Whether the wallet is asked how payments ended that it did not tell of.";
    "RUNTIME_LIGHTNING_NETWORK", Kind::OneOf(&["mainnet", "bitcoin", "testnet", "signet", "regtest", "simnet"]), Some("mainnet"), "Whose invoices are paid.";
    "RUNTIME_LLP_LIGHTNING_BACKEND", Kind::Text, Some("noop"), "The node that pools are measured by: noop, lnd, or executor for the one behind the wallet executor.";
    "RUNTIME_LLP_LND_REST_BASE_URL", Kind::Text, None, "Where the REST interface of that node is.";
    "RUNTIME_LLP_LND_REST_MACAROON_HEX", Kind::Secret, None, "The macaroon for that node; one that can only read is enough.";
    "RUNTIME_LLP_LND_REST_TLS_CERT_BASE64", Kind::Text, None, "The certificate of that node, PEM or DER, in base64.";
    "RUNTIME_LLP_LND_REST_TLS_VERIFY", Kind::Switch, Some("true"), "Whether its certificate is checked.";
    "RUNTIME_LLP_LND_REST_TIMEOUT_MS", Kind::Text, Some("10000"), "How long one call of it may take; 250 to 120000.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_DELAY_HOURS", Kind::Count(0), Some("24"), "How long a withdrawal from a pool waits, at most 168 hours.";
    "RUNTIME_LIQUIDITY_POOL_LP_MODE_ENABLED", Kind::Switch, Some("false"), "Whether leaving a pool is made harder when it owes much or its channels are down.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_LIABILITY_RATIO_BPS", Kind::Count(0), Some("2500"), "From which part of 10000 of what it holds a pool that owes it is stressed.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_LIABILITY_RATIO_BPS", Kind::Count(0), Some("5000"), "From which part withdrawals are halted.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_CONNECTED_RATIO_BPS", Kind::Count(0), Some("7500"), "At how few connected channels of 10000 a pool is stressed.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_CONNECTED_RATIO_BPS", Kind::Count(0), Some("4000"), "At how few withdrawals are halted.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_OUTBOUND_COVERAGE_BPS", Kind::Count(0), Some("10000"), "At how little outbound liquidity, in parts of 10000 of what is owed, a pool is stressed.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_OUTBOUND_COVERAGE_BPS", Kind::Count(0), Some("5000"), "At how little withdrawals are halted.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_EXTRA_DELAY_HOURS", Kind::Count(0), Some("24"), "How much longer a withdrawal waits under stress.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_EXTRA_DELAY_HOURS", Kind::Count(0), Some("72"), "How much longer a withdrawal would wait while they are halted.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_EXECUTION_CAP_PER_TICK", Kind::Count(0), Some("5"), "How many withdrawals of a stressed pool one round pays.";
    "RUNTIME_LIQUIDITY_POOL_REQUIRE_SHARES", Kind::Switch, None, "Whether a withdrawal needs and locks its shares when it is requested; strictly it always does, leniently when this is set.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_EXECUTOR_ENABLED", Kind::Switch, Some("true"), "Whether due withdrawals are paid in the background.";
    "RUNTIME_LIQUIDITY_POOL_WITHDRAW_EXECUTOR_INTERVAL_SECONDS", Kind::Count(0), Some("15"), "How often that is done.";
    "RUNTIME_LIQUIDITY_POOL_PAYOUT_FEE_BPS", Kind::Count(0), Some("50"), "What the way of a payout may cost, in parts of 10000 of it, at least 5 sats or 1000 on-chain; strictly whoever leaves pays it. 0: nothing.";
    "RUNTIME_POOL_DEPOSIT_CONFIRM_MODE", Kind::OneOf(&["manual", "verified"]), None, "Whether a deposit is confirmed by the wallet only; strictly it always is, leniently with verified.";
    "RUNTIME_POOL_DEPOSIT_CONFIRMATIONS", Kind::Count(1), Some("3"), "How deep in the chain a deposit has to lie before it buys shares, at most 100.";
    "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_WORKER_ENABLED", Kind::Switch, Some("true"), "Whether signed snapshots of pools are taken in the background.";
    "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_POOL_IDS", Kind::Text, Some("llp-main"), "Of which pools, separated by commas; the first is the primary one.";
    "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_INTERVAL_SECONDS", Kind::Count(0), Some("60"), "How often a snapshot is taken.";
    "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_JITTER_SECONDS", Kind::Count(0), Some("5"), "How much later than that, at most.";
    "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_RETENTION_COUNT", Kind::Count(0), Some("120"), "How many snapshots of a pool are kept.";
    "RUNTIME_SIGNATURE_SECRET" or "OA_RUNTIME_SIGNATURE_SECRET", Kind::Secret, None, "The secret of signed service credentials; made in the data directory when not set.";
    "RUNTIME_BRIDGE_NOSTR_SECRET_KEY", Kind::Secret, None, "The key that signs receipts, nsec1… or 64 hex digits; made in the data directory when not set.";
    "RUNTIME_BRIDGE_NOSTR_RELAYS", Kind::Text, Some(""), "Which Nostr relays are told of providers, receipts and labels, as wss://relay.example, separated by commas; empty means none.";
    "RUNTIME_BRIDGE_NOSTR_QUEUE_LIMIT", Kind::Count(1), Some("100000"), "How many events wait for one relay at most; the oldest go first.";
    "DB_URL" or "DATABASE_URL", Kind::Secret, None, "A PostgreSQL address; without one the store is a file in the data directory.";
};

/// The labels of drivers; the older ones are retired.
const DRIVERS: &[&str] = &["control_service", "runtime_service"];

/// Settings of the control service.
pub const CONTROL: &[Setting] = settings! {
    "OA_CONTROL_BIND_ADDR", Kind::Address, Some("127.0.0.1:8787"), "Where control listens.";
    "OA_CONTROL_LOG_FILTER", Kind::Text, Some("info"), "How much the servers log, as `info` or `oa_control=debug,warn`; RUST_LOG wins.";
    "OA_CONTROL_LOG_FORMAT", Kind::OneOf(&["json", "pretty"]), Some("json"), "How log lines look.";
    "OA_OTLP_TRACES_ENDPOINT" or "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Kind::Url, None, "Where spans of requests are sent, as http://127.0.0.1:4318/v1/traces; builds with the feature otlp only.";
    "OA_CONTROL_STATIC_DIR", Kind::Text, None, "A directory that readiness asks for.";
    "OA_AUTH_PROVIDER_MODE", Kind::OneOf(&["mock", "workos"]), None, "Who proves e-mail addresses: mock, for a loopback address only and the usual there; or workos, which this build does not have, so nobody signs in by e-mail.";
    "OA_AUTH_MOCK_MAGIC_CODE", Kind::Secret, None, "The code that the mock provider accepts; made in the data directory when not set.";
    "OA_AUTH_CHALLENGE_TTL_SECONDS", Kind::Count(0), Some("600"), "How long a sign-in code is good.";
    "OA_AUTH_ACCESS_TTL_SECONDS", Kind::Count(0), Some("3600"), "How long an access token is good.";
    "OA_AUTH_REFRESH_TTL_SECONDS", Kind::Count(0), Some("2592000"), "How long a refresh token is good.";
    "OA_SKILLS_SIGNING_KEY", Kind::Secret, None, "The key that signs releases of skills, nsec1… or 64 hex digits; made in the data directory when not set.";
    "OA_AUTH_API_SIGNUP_ENABLED", Kind::Switch, Some("false"), "Whether automation may sign up without a sign-in; beside the mock provider only.";
    "OA_AUTH_API_SIGNUP_ALLOWED_DOMAINS", Kind::Text, Some(""), "Whose addresses may sign up, separated by commas; empty means all.";
    "OA_AUTH_API_SIGNUP_DEFAULT_TOKEN_NAME", Kind::Text, Some("api-bootstrap"), "What the token of a sign-up is called.";
    "OA_ADMIN_EMAILS", Kind::Text, Some(""), "Who becomes an administrator on proving one of these addresses, separated by commas.";
    "OA_CORS_ALLOWED_ORIGINS", Kind::Text, None, "Which origins browsers may ask from, separated by commas; every one when not set.";
    "OA_TRUSTED_PROXIES", Kind::Text, Some(""), "Whose forwarded headers are believed: addresses and ranges such as 10.0.0.0/8, separated by commas.";
    "OA_SYNC_TOKEN_ENABLED", Kind::Switch, Some("true"), "Whether sync tokens are given out.";
    "OA_SYNC_TOKEN_ALGORITHM", Kind::OneOf(&["hs256", "eddsa"]), Some("HS256"), "How sync tokens are signed: with a shared secret, or with keys whose public halves stand at /.well-known/jwks.json.";
    "OA_SYNC_TOKEN_SIGNING_KEY" or "SYNC_TOKEN_SIGNING_KEY", Kind::Secret, None, "The secret of sync tokens; made in the data directory when not set.";
    "OA_SYNC_TOKEN_ISSUER", Kind::Text, Some("https://openagents.com"), "Who sync tokens say they are from.";
    "OA_SYNC_TOKEN_AUDIENCE", Kind::Text, Some("openagents-sync"), "Who sync tokens are for.";
    "OA_SYNC_TOKEN_KEY_ID", Kind::Text, Some("sync-auth-v1"), "The name of the shared secret in tokens; names of keys begin with it.";
    "OA_SYNC_TOKEN_CLAIMS_VERSION", Kind::Text, Some("oa_sync_claims_v1"), "The version of the claims.";
    "OA_SYNC_TOKEN_TTL_SECONDS", Kind::Count(0), Some("300"), "How long a sync token is good.";
    "OA_SYNC_TOKEN_MIN_TTL_SECONDS", Kind::Count(0), Some("60"), "The shortest time that may be asked for.";
    "OA_SYNC_TOKEN_MAX_TTL_SECONDS", Kind::Count(0), Some("900"), "The longest time that may be asked for.";
    "OA_SYNC_TOKEN_ALLOWED_SCOPES", Kind::Text, Some("runtime.codex_worker_events,runtime.codex_worker_summaries,runtime.run_summaries"), "Which scopes are given out.";
    "OA_SYNC_TOKEN_DEFAULT_SCOPES", Kind::Text, Some("runtime.codex_worker_events"), "Which scopes are given when none is asked for.";
    "OA_SYNC_TOKEN_ROTATE_AFTER_SECONDS", Kind::Count(1), Some("2592000"), "How long one key signs sync tokens before the next takes over (eddsa).";
    "OA_RUNTIME_SYNC_REVOKE_BASE_URL", Kind::Text, None, "Who is told of revoked sessions; the runtime when not set, nobody when off.";
    "OA_RUNTIME_SYNC_REVOKE_PATH", Kind::Text, Some("/admin/v1/sync/sessions/revoke"), "Where revoked sessions are told.";
    "OA_RUNTIME_SIGNATURE_TTL_SECONDS", Kind::Count(0), Some("60"), "How long a signed service credential is good, at least 30.";
    "OA_RUNTIME_PROXY_ERRORS", Kind::OneOf(&["mapped", "legacy"]), Some("mapped"), "Whether refusals of the runtime keep their meaning, or all are 503.";
    "OA_COMPAT_CONTROL_PROTOCOL_VERSION", Kind::Text, Some("openagents.control.v1"), "The protocol that clients must speak.";
    "OA_COMPAT_CONTROL_MIN_CLIENT_BUILD_ID", Kind::Text, Some("00000000T000000Z"), "The oldest client build.";
    "OA_COMPAT_CONTROL_MAX_CLIENT_BUILD_ID", Kind::Text, None, "The newest client build.";
    "OA_COMPAT_CONTROL_MIN_SCHEMA_VERSION", Kind::Count(0), Some("1"), "The oldest schema of clients.";
    "OA_COMPAT_CONTROL_MAX_SCHEMA_VERSION", Kind::Count(0), Some("1"), "The newest schema of clients.";
    "OA_DESKTOP_DOWNLOAD_URL", Kind::Url, None, "Where /download-desktop leads; nowhere when not set.";
    "OA_SMOKE_SECRET", Kind::Secret, None, "Who knows it may ask /api/smoke/stream.";
    "OA_COMPAT_CONTROL_ENFORCED", Kind::Switch, Some("false"), "Whether clients of the guarded lanes must be builds that are served.";
    "OA_COMPAT_SUNSET_ENFORCED", Kind::Switch, Some("false"), "Whether the compatibility lanes are gone after 2026-06-30.";
    "OA_MAINTENANCE_MODE_ENABLED", Kind::Switch, Some("false"), "Whether everything but the allowed paths answers 503.";
    "OA_MAINTENANCE_BYPASS_TOKEN", Kind::Secret, None, "Who knows it gets past the maintenance page.";
    "OA_MAINTENANCE_BYPASS_COOKIE_NAME", Kind::Text, Some("oa_maintenance_bypass"), "The cookie that stands for the bypass token.";
    "OA_MAINTENANCE_BYPASS_COOKIE_TTL_SECONDS", Kind::Count(0), Some("900"), "How long that cookie is good, at least 60.";
    "OA_MAINTENANCE_ALLOWED_PATHS", Kind::Text, Some("/healthz,/readyz"), "Paths that stay open, exact or ending in *, separated by commas.";
    "OA_ROUTE_SPLIT_ENABLED", Kind::Switch, Some("true"), "Whether route-split/evaluate splits pages between this service and the one before it; these settings say what is calculated and shown, and no page is served elsewhere.";
    "OA_ROUTE_SPLIT_MODE", Kind::OneOf(&["rust", "cohort", "legacy"]), Some("rust"), "How route-split/evaluate splits them: rust, cohort, or legacy.";
    "OA_ROUTE_SPLIT_RUST_ROUTES", Kind::Text, Some("/"), "Path prefixes that it says are ours, separated by commas.";
    "OA_ROUTE_SPLIT_COHORT_PERCENTAGE", Kind::Count(0), Some("100"), "How much of the cohort it says is ours, 0 to 100.";
    "OA_ROUTE_SPLIT_SALT", Kind::Text, Some("openagents-route-split-v1"), "What it makes the buckets of the cohort with.";
    "OA_ROUTE_SPLIT_FORCE_LEGACY", Kind::Switch, Some("false"), "Whether it says of every page that the service before this one has it; nothing is sent there.";
    "OA_ROUTE_SPLIT_LEGACY_BASE_URL", Kind::Url, None, "Where the service before this one is, as it is shown; nobody asks it.";
    "OA_RUNTIME_ROUTING_DRIVER" or "OA_RUNTIME_DRIVER", Kind::OneOf(DRIVERS), Some("control_service"), "The driver that runtime-routing/evaluate names where nothing else is said; these settings say what is calculated and shown, and control answers threads itself whatever it is.";
    "OA_RUNTIME_ROUTING_FORCE_DRIVER" or "OA_RUNTIME_FORCE_DRIVER", Kind::OneOf(DRIVERS), None, "The driver that it names, whatever else is said.";
    "OA_RUNTIME_FORCE_CONTROL_SERVICE" or "OA_RUNTIME_FORCE_LEGACY", Kind::Switch, None, "Whether it always names the control service.";
    "OA_RUNTIME_CANARY_USER_PERCENT", Kind::Count(0), Some("0"), "How many users it counts as canaries, 0 to 100.";
    "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT", Kind::Count(0), Some("0"), "How many autopilots it counts as canaries, 0 to 100.";
    "OA_RUNTIME_CANARY_SEED", Kind::Text, Some("runtime-canary-v1"), "What it makes the numbers of canaries with.";
    "OA_RUNTIME_OVERRIDES_ENABLED", Kind::Switch, Some("true"), "Whether overrides count in what it calculates.";
    "OA_RUNTIME_SHADOW_ENABLED", Kind::Switch, Some("false"), "Whether it says which threads a second driver would be asked for in the shadow; none is asked.";
    "OA_RUNTIME_SHADOW_SAMPLE_RATE", Kind::Text, Some("1.0"), "Of which share of threads it says so, 0.0 to 1.0.";
    "OA_CODEX_REQUEST_WAIT_MS", Kind::Count(0), Some("10000"), "How long a request waits for an attached codex worker, at most 30000.";
    "OA_CODEX_REQUEST_DEADLINE_SECONDS", Kind::Count(1), Some("300"), "When a request that no codex worker answered is ended.";
    "OA_CODEX_EVENT_RETENTION", Kind::Count(1), Some("10000"), "How many events of a codex worker are kept.";
    "OA_CODEX_EVENT_RETENTION_SECONDS", Kind::Count(1), Some("604800"), "How long events of a codex worker are kept.";
    "OA_CODEX_WORKERS_MAX", Kind::Count(1), Some("1000"), "How many codex workers one user may have, at most 1000000.";
    "OA_AUTOPILOTS_MAX", Kind::Count(1), Some("1000"), "How many autopilots one user may have, at most 1000000.";
    "OA_PERSONAL_TOKENS_MAX", Kind::Count(1), Some("1000"), "How many personal tokens one user may have that are not revoked, at most 1000000.";
    "OA_SKILLS_MAX_RECORDS", Kind::Count(1), Some("2000"), "How many tools one organisation may store, and how many skills; each version counts. At most 1000000.";
    "OA_RUNTIME_SHADOW_MAX_CAPTURE_BYTES", Kind::Count(0), Some("200000"), "How much of a shadow's answer would be kept, as it is shown; nothing is kept.";
    "OA_TRUST_MODE", Kind::OneOf(&["strict", "lenient"]), Some("strict"), "How much callers, invoices and payers are believed; lenient works on a loopback address only.";
    "OA_TOOLS_RESULT_TTL_SECONDS", Kind::Count(1), Some("86400"), "How long the answer of a fetch is given again.";
    "OA_TOOLS_SETTLE_SECONDS", Kind::Count(1), Some("30"), "How often payments whose end nobody heard are asked about, at most every hour.";
    "OA_TOOLS_WAIT_MS", Kind::Count(50), Some("45000"), "How long a request waits for a tool call before it is told to ask again.";
    "OA_CODING_EXECUTOR", Kind::OneOf(&["synthetic", "github"]), Some("synthetic"), "Who executes coding tools; synthetic makes answers up and says so.";
    "OA_CODING_ALLOWED_OPERATIONS", Kind::Text, None, "The coding operations that callers may use, separated by commas; empty means all.";
    "OA_CODING_WRITE_OPERATIONS_MODE", Kind::OneOf(&["open", "enforce"]), Some("open"), "Whether whoever writes has to say that it was approved, whatever the manifest says.";
    "OA_CODING_MAX_PER_CALL_SATS", Kind::Count(0), None, "What one coding call may cost at most, in sats.";
    "OA_GITHUB_API_BASE_URL", Kind::Url, Some("https://api.github.com"), "Where GitHub, or what speaks its REST API, is.";
    "OA_GITHUB_TOKEN", Kind::Secret, None, "The token that coding tools use on GitHub.";
    "OA_GITHUB_ALLOWED_REPOSITORIES", Kind::Text, None, "owner/name or owner/*, separated by commas; empty means any.";
    "OA_L402_ALLOW_PRIVATE_NETWORKS" or "OA_L402_ALLOW_PRIVATE_HOSTS", Kind::Switch, None, "Whether callers may have addresses in private networks fetched.";
    "OA_L402_REQUIRE_APPROVAL", Kind::Switch, None, "Whether every payment needs approval, whatever the caller says; true unless OA_TRUST_MODE is lenient.";
    "OA_L402_MAX_SPEND_MSATS_PER_CALL", Kind::Count(0), None, "What one call may cost at most; 100000 unless OA_TRUST_MODE is lenient.";
    "OA_L402_MAX_SPEND_MSATS_PER_DAY", Kind::Count(0), None, "What a caller may spend in a day (UTC); 1000000 unless OA_TRUST_MODE is lenient.";
    "OA_L402_ALLOWED_HOSTS", Kind::Text, None, "The hosts that may be fetched, with what lies under them, separated by commas; empty means any.";
    "OA_L402_NETWORK", Kind::OneOf(&["bitcoin", "testnet", "signet", "regtest"]), Some("bitcoin"), "The network whose invoices are paid.";
    "L402_INVOICE_PAYER" or "OA_L402_INVOICE_PAYER", Kind::OneOf(&["spark_wallet", "lnd_rest"]), Some("spark_wallet"), "Who pays invoices.";
    "L402_CREDENTIAL_TTL_SECONDS", Kind::Count(1), Some("600"), "How long a bought credential is used again, 30 to 86400.";
    "SPARK_EXECUTOR_BASE_URL" or "OA_LIGHTNING_WALLET_EXECUTOR_BASE_URL", Kind::Url, None, "Where the wallet executor is.";
    "SPARK_EXECUTOR_AUTH_TOKEN" or "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN", Kind::Secret, None, "The bearer token of the wallet executor.";
    "SPARK_EXECUTOR_TIMEOUT_MS", Kind::Count(250), Some("20000"), "How long the wallet executor may take.";
    "LND_REST_BASE_URL", Kind::Url, None, "Where the REST interface of the Lightning node is.";
    "LND_REST_MACAROON_HEX", Kind::Secret, None, "The macaroon for the Lightning node.";
    "LND_REST_TLS_CERT_BASE64", Kind::Text, None, "The certificate of the Lightning node, PEM or DER, in base64.";
    "LND_REST_TLS_VERIFY", Kind::Switch, Some("true"), "Whether the node's certificate is checked; false works for a node on this machine only.";
    "OA_INTEGRATION_SECRET_ENCRYPTION_KEY", Kind::Secret, None, "32 bytes in base64 that secrets in control's store are encrypted with; made in the data directory when the store is a file there.";
    "OA_INTEGRATION_SECRET_KEY_ID", Kind::Text, Some("v1"), "The name of that key.";
};

/// Settings of `oa provider`.
pub const PROVIDER: &[Setting] = settings! {
    "OA_PROVIDER_BIND_ADDR", Kind::Address, Some("127.0.0.1:9400"), "Where the provider listens.";
    "OA_PROVIDER_BASE_URL", Kind::Url, None, "Where the runtime finds the provider; where it listens when not set.";
    "OA_PROVIDER_ID", Kind::Text, None, "What the provider is called; the machine's name and the port when not set. 64 hex digits, a key of its own, where pools are to pay it out of credit.";
    "OA_PROVIDER_LIGHTNING_NODE_ID", Kind::Text, None, "The Lightning node whose invoices are the provider's, 66 hex digits; pools pay a stranger's provider out of credit on invoices of that node alone.";
    "OA_PROVIDER_OWNER_USER_ID", Kind::Count(0), None, "Whose provider it is; the first user when neither this nor a guest scope is set. Through control it is the user of the personal token.";
    "OA_PROVIDER_OWNER_GUEST_SCOPE", Kind::Text, None, "Whose provider it is, where that is no user.";
    "OA_PROVIDER_ENROL", Kind::Switch, Some("true"), "Whether the provider enrols itself, through control or at the runtime.";
    "OA_PROVIDER_HEARTBEAT_SECONDS", Kind::Count(1), Some("30"), "How often the provider says that it lives.";
    "OA_PROVIDER_DRAIN_SECONDS", Kind::Count(0), Some("60"), "How long jobs that run may take when the provider is told to end.";
    "OA_PROVIDER_MIN_PRICE_MSATS", Kind::Count(0), Some("1000"), "What a job costs at least.";
    "OA_PROVIDER_JOBS", Kind::Count(1), Some("2"), "How many jobs run at once.";
    "OA_PROVIDER_REPOSITORIES", Kind::Text, Some(""), "Directories under which the repositories of jobs may lie, separated by commas; none when empty.";
    "OA_PROVIDER_VISIBLE", Kind::Text, Some(""), "Paths that jobs see read-only beside /usr, such as toolchains, separated by commas.";
    "OA_PROVIDER_JOB_PATH", Kind::Text, Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), "The PATH of jobs.";
    "OA_PROVIDER_MINIMUM_ISOLATION", Kind::Text, Some(""), "Layers of isolation without which the provider does not start, beside those that it always demands: cgroup_memory, cgroup_pids, cgroup_cpu, separated by commas.";
    "OA_PROVIDER_MAX_TIMEOUT_SECONDS", Kind::Count(1), Some("300"), "How long a job may take.";
    "OA_PROVIDER_MAX_MEMORY_MB", Kind::Count(16), Some("4096"), "How much memory a job may ask for.";
    "OA_PROVIDER_MAX_CPUS", Kind::Count(1), Some("2"), "How many processors a job may ask for.";
    "OA_PROVIDER_MAX_DISK_MB", Kind::Count(1), Some("2048"), "How much a job may write; it lies in memory.";
    "OA_PROVIDER_MAX_OUTPUT_MB", Kind::Count(1), Some("16"), "How long each stream of a command, and all artifacts together, may be.";
    "OA_PROVIDER_MAX_PROCESSES", Kind::Count(8), Some("512"), "How many processes and threads a job may have at once.";
    "OA_PROVIDER_KEEP_MB", Kind::Count(1), Some("1024"), "How much output, artifacts and answers are kept.";
    "OA_PROVIDER_KEEP_HOURS", Kind::Count(1), Some("168"), "How long they are kept.";
    "OA_PROVIDER_OPERATOR_TOKEN", Kind::Secret, None, "The bearer token that disables and enables the provider; this machine may without one when not set.";
    "OA_PROVIDER_CALLER_TOKEN", Kind::Secret, None, "What the runtime that sends jobs is known by: the token that its operator gives out for this provider's base URL (oa provider caller-token), or on the operator's own machines the secret itself, RUNTIME_PROVIDER_TOKEN there. A provider that listens beyond this machine has one.";
};

/// Settings of `oa wallet`.
pub const WALLET: &[Setting] = settings! {
    "OA_LIGHTNING_WALLET_EXECUTOR_HOST", Kind::Text, Some("127.0.0.1"), "The IP address where the wallet listens.";
    "OA_LIGHTNING_WALLET_EXECUTOR_PORT", Kind::Count(0), Some("8788"), "The port where the wallet listens.";
    "OA_LIGHTNING_WALLET_EXECUTOR_MODE", Kind::OneOf(&["simulated", "mock", "lnd", "executor", "ldk", "spark"]), Some("simulated"), "Who keeps the keys: simulated (no money), an LND node, another executor, or a node of this build.";
    "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN", Kind::Secret, None, "The bearer token that callers show; without one only a simulated wallet on a loopback address starts.";
    "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN_VERSION", Kind::Count(1), Some("1"), "Which token that is, as its status says; at most 1000000.";
    "OA_LIGHTNING_WALLET_ID", Kind::Text, Some("openagents-ep212"), "What the wallet is called.";
    "OA_LIGHTNING_WALLET_REQUEST_CAP_MSATS", Kind::Count(1000), Some("200000"), "What one payment may cost; at most 100000000.";
    "OA_LIGHTNING_WALLET_WINDOW_CAP_MSATS", Kind::Count(10000), Some("1000000"), "What all payments of a while may cost together; at most 5000000000.";
    "OA_LIGHTNING_WALLET_PAYOUT_CAP_MSATS", Kind::Count(1000), None, "What one payout of a pool may cost, over Lightning (to l402.openagents.com) and on-chain; as OA_LIGHTNING_WALLET_REQUEST_CAP_MSATS when not set.";
    "OA_LIGHTNING_WALLET_PAYOUT_WINDOW_CAP_MSATS", Kind::Count(1000), None, "What all payouts of a while may cost together, beside the other payments; as OA_LIGHTNING_WALLET_WINDOW_CAP_MSATS when not set.";
    "OA_LIGHTNING_WALLET_RECORD_SUFFIX", Kind::Text, None, "Set it to something new after wallet.db was brought back from an older copy: the wallet then does not answer for payments that were begun before.";
    "OA_LIGHTNING_WALLET_WINDOW_MS", Kind::Count(1000), Some("300000"), "How long that while is; at most 86400000.";
    "OA_LIGHTNING_WALLET_ALLOWED_HOSTS", Kind::Text, Some(""), "Hosts that may be paid, separated by commas; all when empty.";
    "OA_LIGHTNING_SPARK_PAYMENT_TIMEOUT_SECS", Kind::Count(1), Some("45"), "How long a payment may take; at most 300.";
    "OA_LIGHTNING_WALLET_NETWORK", Kind::OneOf(&["mainnet", "bitcoin", "testnet", "signet", "regtest", "simnet"]), Some("regtest"), "Whose invoices the wallet pays.";
    "OA_LIGHTNING_WALLET_SIMULATED_BALANCE_SATS", Kind::Count(0), Some("50000"), "What a simulated wallet holds when it starts.";
    "OA_LIGHTNING_WALLET_UPSTREAM_BASE_URL", Kind::Text, None, "Where the executor is that this wallet stands before.";
    "OA_LIGHTNING_WALLET_UPSTREAM_AUTH_TOKEN", Kind::Secret, None, "The bearer token for it.";
};

/// Every setting, once.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [CLIENT, RUNTIME, CONTROL, PROVIDER, WALLET].into_iter().flatten()
}

/// A flag for each setting, derived from the list.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(BTreeMap<&'static str, String>);

impl SettingFlags {
    /// A value that another flag gives to this setting, unless its own flag gives one.
    pub fn or_give(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.0.entry(name).or_insert(value);
        }
    }

    fn read(&mut self, matches: &ArgMatches) {
        for setting in flagged() {
            if let Ok(Some(value)) = matches.try_get_one::<String>(setting.name) {
                self.0.insert(setting.name, value.clone());
            }
        }
    }
}

/// The settings with a derived flag; those of clients have short global flags of their own.
fn flagged() -> impl Iterator<Item = &'static Setting> {
    [RUNTIME, CONTROL].into_iter().flatten()
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = SettingFlags::default();
        flags.read(matches);
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.read(matches);
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        flagged().fold(command, |command, setting| {
            command.arg(flag_of(setting, setting.flag()).help_heading("Settings").hide_short_help(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag_of(setting: &Setting, flag: String) -> Arg {
    let default = setting.default.filter(|text| !text.is_empty()).map(|text| format!(" [default: {text}]"));
    let help = format!("{} [env: {}]{}", setting.help, setting.name, default.unwrap_or_default());
    Arg::new(setting.name).long(flag).value_name("VALUE").help(help)
}

/// The settings of `oa provider`, each a short flag of that command: `OA_PROVIDER_JOBS` is `--jobs`.
#[derive(Clone, Debug, Default)]
pub struct ProviderFlags(pub SettingFlags);

impl FromArgMatches for ProviderFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = ProviderFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in PROVIDER {
            if let Ok(Some(value)) = matches.try_get_one::<String>(setting.name) {
                self.0.0.insert(setting.name, value.clone());
            }
        }
        Ok(())
    }
}

impl Args for ProviderFlags {
    fn augment_args(command: Command) -> Command {
        PROVIDER.iter().fold(command, |command, setting| {
            let flag = setting.flag();
            let flag = flag.strip_prefix("oa-provider-").unwrap_or(&flag).to_owned();
            command.arg(flag_of(setting, flag).help_heading("The provider"))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Where variables come from: the process's environment, or a test's.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Every setting that has a value, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
}

impl Settings {
    pub fn load(flags: &SettingFlags, environment: Environment<'_>, data: &DataDir) -> Result<Self, Failure> {
        let path = data.path().join(FILE);
        let file = match fs::read_to_string(&path) {
            Ok(text) => read_file(&text, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Failure::file(&path, &error)),
        };
        let mut values = BTreeMap::new();
        for setting in all() {
            if let Some((value, from)) = chosen(setting, flags, environment, &file) {
                setting.check(&value).map_err(|wanted| unfit(setting, &value, from, &wanted))?;
                values.insert(setting.name, value);
            }
        }
        Ok(Settings { values })
    }

    /// The value of a setting, if it has one that is not blank.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// An address to listen on. Every setting of that kind has a default.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.get(name)?.parse().ok()
    }

    /// What a service reads when it asks for a variable, under its name or its older one.
    pub fn lookup(&self, name: &str) -> Option<String> {
        let setting = all().find(|setting| setting.name == name || setting.also == Some(name))?;
        self.values.get(setting.name).cloned()
    }
}

fn chosen(
    setting: &Setting,
    flags: &SettingFlags,
    environment: Environment<'_>,
    file: &BTreeMap<String, String>,
) -> Option<(String, &'static str)> {
    let names = || [Some(setting.name), setting.also].into_iter().flatten();
    flags
        .0
        .get(setting.name)
        .map(|value| (value.clone(), "the command line"))
        .or_else(|| names().find_map(environment).map(|value| (value, "the environment")))
        .or_else(|| names().find_map(|name| file.get(name)).map(|value| (value.clone(), "oa.conf")))
        .or_else(|| setting.default.map(|value| (value.to_owned(), "its default")))
}

fn unfit(setting: &Setting, value: &str, from: &str, wanted: &str) -> Failure {
    let shown = match setting.kind {
        Kind::Secret => "…".to_owned(),
        _ => format!("{value:?}"),
    };
    Failure::usage(format!("{} is {shown} by {from}, but it must be {wanted}", setting.name))
}

/// Lines of `NAME=VALUE`; `#` begins a comment line. An unknown name is refused: it is usually a misspelt one.
fn read_file(text: &str, path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let misfit = |why: &str| Failure::usage(format!("{}, line {number}: {why}", path.display()));
        let (name, value) = line.split_once('=').ok_or_else(|| misfit("it is not NAME=VALUE"))?;
        let name = name.trim();
        if !all().any(|setting| setting.name == name || setting.also == Some(name)) {
            return Err(misfit(&format!("there is no setting {name}")));
        }
        if values.insert(name.to_owned(), value.trim().to_owned()).is_some() {
            return Err(misfit(&format!("{name} stands there twice")));
        }
    }
    Ok(values)
}

/// The file as it is made on the first start: every setting, explained, commented out.
pub fn sample_file() -> String {
    let mut out = String::from(
        "# Settings of oa, one NAME=VALUE a line. A flag or an environment variable of the same name wins.\n",
    );
    for setting in all() {
        out.push_str(&format!(
            "\n# {} ({})\n# {}={}\n",
            setting.help,
            setting.wanted(),
            setting.name,
            setting.default.unwrap_or("")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::tests::scratch;

    fn load(flag: Option<&str>, environment: Option<&str>, file: Option<&str>) -> Result<Settings, Failure> {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        if let Some(text) = file {
            fs::write(directory.path().join(FILE), text).expect("written");
        }
        let mut flags = SettingFlags::default();
        flags.or_give("RUNTIME_BIND_ADDR", flag.map(str::to_owned));
        let value = environment.map(str::to_owned);
        Settings::load(&flags, &move |name| value.clone().filter(|_| name == "RUNTIME_BIND_ADDR"), &data)
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let file = "# comment\nRUNTIME_BIND_ADDR = 127.0.0.1:3\n";
        let port = |flag, environment, file| {
            load(flag, environment, file)
                .expect("settings")
                .address("RUNTIME_BIND_ADDR")
                .expect("an address")
                .port()
        };
        assert_eq!(port(Some("127.0.0.1:1"), Some("127.0.0.1:2"), Some(file)), 1);
        assert_eq!(port(None, Some("127.0.0.1:2"), Some(file)), 2);
        assert_eq!(port(None, None, Some(file)), 3);
        assert_eq!(port(None, None, None), 4100);
    }

    #[test]
    fn an_unreadable_value_stops_the_start_with_its_name() {
        let failure = load(None, Some("localhost"), None).expect_err("not an address");
        assert_eq!(failure.code, crate::failure::USAGE);
        assert!(
            failure.sentence.starts_with("RUNTIME_BIND_ADDR is \"localhost\" by the environment"),
            "{failure}"
        );
        let failure = load(None, None, Some("RUNTIME_VERIFIER_STRICT=perhaps")).expect_err("not a switch");
        assert!(failure.sentence.contains("RUNTIME_VERIFIER_STRICT"), "{failure}");
        for line in [
            "OA_RUNTIME_ROUTING_DRIVER=laravel",
            "OA_RUNTIME_FORCE_DRIVER=runtime",
            "OA_ROUTE_SPLIT_MODE=php",
            "OA_AUTH_PROVIDER_MODE=mok",
        ] {
            let failure = load(None, None, Some(line)).expect_err(line);
            assert!(failure.sentence.contains("but it must be one of"), "{failure}");
        }
    }

    #[test]
    fn a_misspelt_or_repeated_name_in_the_file_is_refused() {
        assert!(load(None, None, Some("RUNTIME_BIND_ADR=127.0.0.1:1")).is_err());
        assert!(load(None, None, Some("DB_URL=a\nDB_URL=b")).is_err());
        assert!(load(None, None, Some("DB_URL")).is_err());
    }

    #[test]
    fn the_file_of_the_first_start_names_every_setting_and_changes_nothing() {
        let sample = sample_file();
        assert!(all().all(|setting| sample.contains(setting.name)));
        assert!(load(None, None, Some(&sample)).is_ok());
        assert!(all().all(|setting| setting.default.is_none_or(|value| setting.check(value).is_ok())));
    }

    #[test]
    fn a_service_finds_a_value_under_the_older_name_too() {
        let directory = scratch();
        let environment = |name: &str| (name == "OA_RUNTIME_SIGNATURE_SECRET").then(|| "s".to_owned());
        let settings = Settings::load(&SettingFlags::default(), &environment, &DataDir::at(directory.path()))
            .expect("settings");
        for name in ["RUNTIME_SIGNATURE_SECRET", "OA_RUNTIME_SIGNATURE_SECRET"] {
            assert_eq!(settings.lookup(name).as_deref(), Some("s"));
        }
    }

    #[test]
    fn every_setting_has_a_flag() {
        let command = SettingFlags::augment_args(Command::new("oa"));
        let matches = command
            .try_get_matches_from(["oa", "--runtime-internal-auth-mode", "permissive"])
            .expect("a flag");
        let flags = SettingFlags::from_arg_matches(&matches).expect("flags");
        let directory = scratch();
        let settings = Settings::load(&flags, &|_| None, &DataDir::at(directory.path())).expect("settings");
        assert_eq!(settings.get("RUNTIME_INTERNAL_AUTH_MODE"), Some("permissive"));
    }

    /// The words of a text, but for its comments, that look like variables of ours.
    fn variables(text: &str) -> impl Iterator<Item = &str> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| {
            line.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
        });
        let ours = ["OA_", "RUNTIME_", "DB_", "DATABASE_", "LND_", "SPARK_", "L402_", "SYNC_"];
        words.filter(move |word| ours.iter().any(|prefix| word.starts_with(prefix)))
    }

    #[test]
    fn every_variable_of_the_deployment_files_is_a_setting() {
        let files = [
            ("compose.yaml", include_str!("../../../deploy/compose.yaml")),
            ("Dockerfile", include_str!("../../../deploy/Dockerfile")),
            ("oa.service", include_str!("../../../deploy/oa.service")),
            ("oa-provider.service", include_str!("../../../deploy/oa-provider.service")),
        ];
        for (file, text) in files {
            let mut seen = 0;
            for name in variables(text) {
                seen += 1;
                // The directory is a flag of every command, and stands in no file of itself.
                let known = all().any(|setting| setting.name == name || setting.also == Some(name));
                assert!(known || name == "OA_DATA_DIR", "{file} names {name}, which is no setting");
            }
            assert!(seen > 0, "{file} names no variable: is this test looking at the right file?");
        }
    }
}
