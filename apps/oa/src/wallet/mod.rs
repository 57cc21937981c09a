//! Decides how one process keeps the keys: it serves the wallet-executor protocol (liquidity §9) before whoever really
//! holds the money, with limits, receipts and a memory of its own, so that custody is in one place.

mod book;
mod busy;
mod http;
#[cfg(feature = "ldk")]
mod ldk;
mod legacy;
mod onchain;
mod pay;
mod receive;
pub mod shop;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use oa_contract::{Clock, Ids, Msats, Timestamp};
use oa_edge::Drain;
use oa_lightning::{Executor, Lnd, Simulated, Wallet, bolt11::Network, lnd};
use oa_store::{SqliteConfig, Store};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use self::{book::Lane, busy::Busy, http::No, shop::Shop};
use crate::{
    config::Settings,
    data_dir::DataDir,
    exec::Signals,
    failure::{Failure, OK},
    output::Format,
    system::{SystemClock, SystemIds},
};

/// How often open requests are asked about, and how old they are by then.
const LOOK_AFTER: Duration = Duration::from_secs(2);
const SETTLING_MS: i64 = 5_000;
/// More than there will ever be.
const MOST_MSATS: u64 = 2_100_000_000_000_000_000;
/// How long answers that are being written may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How much may be spent, and for whom.
#[derive(Clone, Debug)]
pub struct Limits {
    pub usual: Caps,
    /// What pools pay to those who leave, over Lightning and on-chain.
    pub payouts: Caps,
    pub window_ms: i64,
    /// Lower-case; all when empty.
    pub allowed_hosts: Vec<String>,
}

/// What one request may cost, and all of a window together.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub request_msats: u64,
    pub window_msats: u64,
}

/// Whom payouts are for (§2).
const PAYOUTS: &str = "l402.openagents.com";

impl Limits {
    pub fn lane_of(host: &str) -> Lane {
        if host == PAYOUTS { Lane::Payout } else { Lane::Pay }
    }

    pub fn of(&self, lane: Lane) -> Caps {
        match lane {
            Lane::Pay => self.usual,
            Lane::Payout => self.payouts,
        }
    }
}

/// The wallet, and everything that stands before it.
pub struct Service {
    pub wallet: Arc<dyn Wallet>,
    /// Somebody to pay and to be paid by, where there is no money.
    pub shop: Option<Shop>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub wallet_id: String,
    /// The name of what this wallet remembers.
    pub record_id: String,
    /// What is being asked of the wallet now.
    pub busy: Busy,
    pub network: Network,
    pub limits: Limits,
    pub token: Option<SecretString>,
    pub token_version: u64,
    /// How long a payment may take.
    pub patience: Duration,
}

impl Service {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn new_id(&self) -> String {
        let digits = self.ids.uuid32();
        format!(
            "{}-{}-{}-{}-{}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..]
        )
    }

    /// `GET /status` (§9.2); the wallet's own trouble is part of the answer.
    pub async fn status(&self) -> Result<Value, No> {
        let about = self.wallet.about();
        let balances = self.wallet.balances().await;
        let since = self.now().plus_millis(-self.limits.window_ms);
        let (recent, last) = book::lately(&self.store, since).await.map_err(|stop| No::broken(&stop))?;
        let last_reply = last.as_ref().and_then(|row| book::reply(row).ok()).unwrap_or_default();
        let (balance, onchain, error) = match &balances {
            Ok(balances) => (Some(balances.spendable_msats / 1_000), balances.onchain_sats, None),
            Err(error) => (None, None, Some(error.trouble())),
        };
        Ok(json!({
            "walletId": self.wallet_id,
            // `mock` is the one that makes everything up; nodes on a chain that is simulated are nodes.
            "mode": if about.face == "simulated" { "mock" } else { about.face },
            "simulated": about.simulated,
            "authMode": if self.token.is_some() { "bearer_static" } else { "disabled" },
            "authEnforced": self.token.is_some(),
            "authTokenVersion": self.token_version,
            "lifecycle": if error.is_none() { "connected" } else { "error" },
            "network": self.network.name(),
            "identityPubkey": null,
            "balanceSats": balance,
            "onchainSats": onchain,
            "apiKeyConfigured": false,
            "ready": error.is_none(),
            "allowedHostCount": self.limits.allowed_hosts.len(),
            "requestCapMsats": self.limits.usual.request_msats,
            "windowCapMsats": self.limits.usual.window_msats,
            "payoutCapMsats": self.limits.payouts.request_msats,
            "payoutWindowCapMsats": self.limits.payouts.window_msats,
            "paymentTimeoutMs": u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX),
            "windowMs": self.limits.window_ms,
            "recentPaymentsCount": recent,
            "lastPaymentId": last_reply["payment"]["paymentId"],
            "lastPaymentAtMs": last_reply["payment"]["paidAtMs"],
            "lastErrorCode": error.map(|error| error.code.clone()),
            "lastErrorMessage": error.map(|error| error.message.clone()),
            "updatedAtMs": self.now().millis(),
            "durableIdempotency": true,
            // Nothing is begun late: it is written first, with its last moment. What is written is never called unheard of.
            "honoursDeadlines": true,
            "recordId": self.record_id,
        }))
    }

    /// `GET /channels`: the node behind the wallet, in the words of pool snapshots (§6.3).
    async fn channels(&self) -> Result<Value, No> {
        let failed = |error: oa_lightning::WalletError| pay::no(error.trouble());
        let node = self.wallet.node_balances().await.map_err(failed)?;
        let health = self.wallet.channel_health().await.map_err(failed)?;
        Ok(json!({"backend": self.wallet.about().face, "onchainSats": node.onchain_sats,
            "channelTotalSats": health.total_sats, "channelOutboundSats": health.outbound_sats,
            "channelInboundSats": health.inbound_sats, "channelCount": health.channel_count,
            "connectedChannelCount": health.connected_channel_count}))
    }

    /// Asks about everything that is open, once.
    pub async fn look_after_open(&self) {
        let until = self.now().plus_millis(-SETTLING_MS);
        let open = match book::open(&self.store, until).await {
            Ok(open) => open,
            Err(stop) => {
                tracing::warn!(error = %stop, "open requests cannot be read; tried again");
                return;
            }
        };
        for row in open {
            match row.kind.as_str() {
                "pay" => self.look_after(&row).await,
                "onchain" => self.look_after_sending(&row).await,
                // What moves no money is asked for again by whoever wants it.
                _ => {}
            }
        }
    }
}

/// The status of a word of the protocol (§9.1); 0 for a word that is none of its own.
pub fn status_of(code: &str) -> u16 {
    match code {
        "unauthorized" => 401,
        "invalid_request" => 400,
        "host_not_allowed" | "request_cap_exceeded" | "quoted_amount_exceeds_cap" | "window_cap_exceeded" => {
            403
        }
        "idempotency_conflict" | "idempotency_in_flight" | "too_late" => 409,
        "payment_pending" => 504,
        "connect_failed"
        | "prepare_failed"
        | "send_failed"
        | "send_refused"
        | "payment_failed"
        | "payment_missing_preimage"
        | "unsupported_payment_method"
        | "unsupported"
        | "onchain_fee_too_high" => 502,
        _ => 0,
    }
}

pub fn router(service: Arc<Service>) -> Router {
    http::router(service)
}

/// Serves the wallet until it is told to end.
pub async fn run(settings: &Settings, data: &DataDir, format: Format) -> Result<u8, Failure> {
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let served = Served::start(settings, data).await?;
    let (service, base) = (&served.service, &served.base);
    let about = service.wallet.about();
    let simulated = if about.simulated { " (SIMULATED: there is no money)" } else { "" };
    format.show(
        &format!("wallet {} of {} at {base}{simulated}", service.wallet_id, about.face),
        &json!({"wallet_id": service.wallet_id, "face": about.face, "simulated": about.simulated,
            "base_url": base}),
    )?;
    let signal = signals.next().await;
    format.note(&format!("{signal}: no new payments"));
    served.stop().await;
    Ok(OK)
}

/// A wallet that is served, by itself or inside of another command.
pub struct Served {
    pub base: String,
    pub service: Arc<Service>,
    drain: Drain,
    server: JoinHandle<()>,
    looking: JoinHandle<()>,
}

impl Served {
    /// Ready to be asked when this returns.
    pub async fn start(settings: &Settings, data: &DataDir) -> Result<Self, Failure> {
        let address = address(settings)?;
        let service = Arc::new(open(settings, data, address).await?);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Failure::wrong(format!("{address}: {error}")))?;
        let address = listener.local_addr().map_err(|error| Failure::wrong(error.to_string()))?;
        let drain = Drain::new();
        let router = router(service.clone());
        let server = tokio::spawn(oa_edge::serve(listener, router, drain.clone(), LAST_ANSWERS));
        let looking = tokio::spawn(look_after(service.clone()));
        Ok(Served { base: format!("http://{address}"), service, drain, server, looking })
    }

    /// Begins nothing new and finishes what was begun.
    pub async fn stop(self) {
        self.drain.begin();
        let _ = self.server.await;
        self.looking.abort();
        self.service.store.close().await;
    }
}

async fn look_after(service: Arc<Service>) {
    let mut rounds = tokio::time::interval(LOOK_AFTER);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        service.look_after_open().await;
    }
}

fn address(settings: &Settings) -> Result<SocketAddr, Failure> {
    let wrong = |name: &str| Failure::usage(format!("{name} cannot be used"));
    let host = settings.get("OA_LIGHTNING_WALLET_EXECUTOR_HOST").unwrap_or("127.0.0.1");
    let host: IpAddr = host.trim().parse().map_err(|_| wrong("OA_LIGHTNING_WALLET_EXECUTOR_HOST"))?;
    let port = settings.get("OA_LIGHTNING_WALLET_EXECUTOR_PORT").unwrap_or("8788");
    let port = port.trim().parse().map_err(|_| wrong("OA_LIGHTNING_WALLET_EXECUTOR_PORT"))?;
    Ok(SocketAddr::new(host, port))
}

/// A number within its range; another one stops the start.
fn number(settings: &Settings, name: &str, default: u64, least: u64, most: u64) -> Result<u64, Failure> {
    let Some(text) = settings.get(name) else { return Ok(default) };
    match text.trim().parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Failure::usage(format!("{name} must be a number from {least} to {most}"))),
    }
}

fn text<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.get(name).map(str::trim).filter(|text| !text.is_empty())
}

async fn open(settings: &Settings, data: &DataDir, address: SocketAddr) -> Result<Service, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let wallet_id = text(settings, "OA_LIGHTNING_WALLET_ID").unwrap_or("openagents-ep212").to_owned();
    let network = text(settings, "OA_LIGHTNING_WALLET_NETWORK").unwrap_or("regtest");
    let network: Network =
        network.parse().map_err(|why| Failure::usage(format!("OA_LIGHTNING_WALLET_NETWORK is {why}")))?;
    let seconds = number(settings, "OA_LIGHTNING_SPARK_PAYMENT_TIMEOUT_SECS", 45, 1, 300)?;
    let patience = Duration::from_secs(seconds);
    #[cfg(feature = "ldk")]
    let (wallet, shop) = match text(settings, "OA_LIGHTNING_WALLET_EXECUTOR_MODE") {
        Some("ldk") => {
            let nodes = ldk::open(settings, data, &wallet_id, network, &clock)?;
            (nodes.clone() as Arc<dyn Wallet>, Some(Shop::Nodes(nodes)))
        }
        _ => face(settings, &wallet_id, network, &clock, patience)?,
    };
    #[cfg(not(feature = "ldk"))]
    let (wallet, shop) = face(settings, &wallet_id, network, &clock, patience)?;
    let token = text(settings, "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN").map(SecretString::from);
    let harmless = wallet.about().simulated && address.ip().to_canonical().is_loopback();
    if token.is_none() && !harmless {
        return Err(Failure::usage(
            "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN is needed: without one only a simulated wallet on a loopback address starts",
        ));
    }
    data.create()?;
    let store = Store::open(SqliteConfig::new(data.path().join("wallet.db")))
        .await
        .map_err(|error| Failure::wrong(format!("the wallet's store cannot be opened: {error}")))?;
    let ids: Arc<dyn Ids> = Arc::new(SystemIds::default());
    let record_id = book::memory(&store, ids.uuid32(), clock.now())
        .await
        .map_err(|stop| Failure::wrong(format!("the wallet's store cannot be used: {stop}")))?;
    // A store that was brought back from an older copy has forgotten what was begun since, and must not answer for it.
    let record_id = match text(settings, "OA_LIGHTNING_WALLET_RECORD_SUFFIX") {
        Some(suffix) => format!("{record_id}.{suffix}"),
        None => record_id,
    };
    let usual = Caps {
        request_msats: number(
            settings,
            "OA_LIGHTNING_WALLET_REQUEST_CAP_MSATS",
            200_000,
            1_000,
            100_000_000,
        )?,
        window_msats: number(
            settings,
            "OA_LIGHTNING_WALLET_WINDOW_CAP_MSATS",
            1_000_000,
            10_000,
            5_000_000_000,
        )?,
    };
    let payout = |name, usual| number(settings, name, usual, 1_000, MOST_MSATS);
    let payouts = Caps {
        request_msats: payout("OA_LIGHTNING_WALLET_PAYOUT_CAP_MSATS", usual.request_msats)?,
        window_msats: payout("OA_LIGHTNING_WALLET_PAYOUT_WINDOW_CAP_MSATS", usual.window_msats)?,
    };
    let window_ms = number(settings, "OA_LIGHTNING_WALLET_WINDOW_MS", 300_000, 1_000, 86_400_000)?;
    let hosts = settings.get("OA_LIGHTNING_WALLET_ALLOWED_HOSTS").unwrap_or_default();
    Ok(Service {
        wallet,
        shop,
        store,
        clock,
        ids,
        wallet_id,
        record_id,
        busy: Busy::default(),
        network,
        limits: Limits {
            usual,
            payouts,
            window_ms: i64::try_from(window_ms).unwrap_or(i64::MAX),
            allowed_hosts: hosts
                .split(',')
                .map(|host| host.trim().to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect(),
        },
        token,
        token_version: number(settings, "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN_VERSION", 1, 1, 1_000_000)?,
        patience,
    })
}

type Face = (Arc<dyn Wallet>, Option<Shop>);

/// Whoever really holds the money.
fn face(
    settings: &Settings,
    wallet_id: &str,
    network: Network,
    clock: &Arc<dyn Clock>,
    patience: Duration,
) -> Result<Face, Failure> {
    let needed = |name: &str| {
        text(settings, name).map(str::to_owned).ok_or_else(|| Failure::usage(format!("{name} is needed")))
    };
    match text(settings, "OA_LIGHTNING_WALLET_EXECUTOR_MODE").unwrap_or("simulated") {
        "simulated" | "mock" => {
            if network == Network::Mainnet {
                return Err(Failure::usage("a simulated wallet pays no invoices of mainnet"));
            }
            let sats = number(
                settings,
                "OA_LIGHTNING_WALLET_SIMULATED_BALANCE_SATS",
                50_000,
                0,
                2_100_000_000_000_000,
            )?;
            let balance = sats.checked_mul(1_000).and_then(Msats::new).unwrap_or(Msats::MAX);
            let simulated = Arc::new(Simulated::new(wallet_id, network, clock.clone(), balance));
            let shop = Shop::simulated(&simulated, network, clock.clone());
            Ok((simulated, Some(shop)))
        }
        "lnd" => {
            let certificate = match text(settings, "LND_REST_TLS_CERT_BASE64").map(lnd::certificate) {
                Some(None) => return Err(Failure::usage("LND_REST_TLS_CERT_BASE64 is no base64")),
                given => given.flatten(),
            };
            let verify = !matches!(text(settings, "LND_REST_TLS_VERIFY"), Some("false" | "0" | "no" | "off"));
            let settings = lnd::Settings {
                base_url: needed("LND_REST_BASE_URL")?,
                macaroon_hex: needed("LND_REST_MACAROON_HEX")?,
                certificate,
                any_certificate: !verify,
                timeout: patience,
            };
            let lnd = Lnd::new(settings).map_err(|error| Failure::usage(format!("LND_REST: {error}")))?;
            Ok((Arc::new(lnd), None))
        }
        "executor" => {
            let base = needed("OA_LIGHTNING_WALLET_UPSTREAM_BASE_URL")?;
            let token = needed("OA_LIGHTNING_WALLET_UPSTREAM_AUTH_TOKEN")?;
            let executor = Executor::new(&base, token, patience)
                .map_err(|why| Failure::usage(format!("OA_LIGHTNING_WALLET_UPSTREAM_BASE_URL: {}", why.0)))?;
            Ok((Arc::new(executor), None))
        }
        "ldk" => Err(Failure::usage(
            "OA_LIGHTNING_WALLET_EXECUTOR_MODE=ldk: this build has no nodes; `cargo build --features ldk` makes one that has",
        )),
        other => Err(Failure::usage(format!(
            "OA_LIGHTNING_WALLET_EXECUTOR_MODE={other}: this build has no such wallet; it has simulated, lnd and executor"
        ))),
    }
}

#[cfg(test)]
mod tests;
