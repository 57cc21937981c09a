//! Decides how services are started and ended: keys and stores first, then the port, then the announcement; at the end every request that was begun is finished and the stores are closed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use oa_contract::{Clock, Ids, Stop, matrix, signer::Signer};
use oa_control::{
    Control,
    identity::{self, NewToken, NewUser},
};
use oa_edge::{Drain, Limits, Meters};
use oa_runtime::{Runtime, hub::Hub};
use oa_store::{PostgresConfig, SqliteConfig, Store, StoreConfig, Wake};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    data_dir::{DataDir, Endpoints, Keys, reveal},
    disk,
    exec::Signals,
    failure::Failure,
    output::{Format, print_line},
    system::{SystemClock, SystemIds},
};

#[cfg(feature = "otlp")]
use crate::otlp::Exporter;

/// Without the feature there is nothing to send.
#[cfg(not(feature = "otlp"))]
struct Exporter;

#[cfg(not(feature = "otlp"))]
impl Exporter {
    fn none() -> Self {
        Exporter
    }

    async fn end(self) {}
}

/// How long requests that were begun may take when the process is told to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What both services are given.
struct Common {
    settings: Settings,
    keys: Keys,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    meters: Meters,
    drain: Drain,
}

impl Common {
    fn new(data: &DataDir, settings: Settings) -> Result<Self, Failure> {
        let keys = data.prepare(&settings)?;
        Ok(Common {
            settings,
            keys,
            clock: Arc::new(SystemClock::default()),
            ids: Arc::new(SystemIds::default()),
            meters: oa_edge::install_meters(),
            drain: Drain::new(),
        })
    }

    fn metrics(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let meters = self.meters.clone();
        Arc::new(move || meters.render())
    }

    fn draining(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let drain = self.drain.clone();
        Arc::new(move || drain.has_begun())
    }
}

/// A file in the data directory, or PostgreSQL when an address of one is set.
pub fn store_config(settings: &Settings, data: &DataDir, name: &str) -> StoreConfig {
    match settings.get("DB_URL") {
        Some(url) => {
            let mut config = PostgresConfig::new(url);
            config.schema = name.to_owned();
            config.into()
        }
        None => SqliteConfig::new(data.path().join(format!("{name}.db"))).into(),
    }
}

/// Services that are ready to be served.
#[derive(Default)]
struct Opened {
    fronts: Vec<(TcpListener, Router)>,
    stores: Vec<Store>,
    /// Its background tasks run as long as it is served.
    runtime: Option<Arc<Runtime>>,
    /// Its background tasks run as long as it is served.
    control: Option<Arc<Control>>,
    /// What has expired in it is forgotten every hour.
    control_store: Option<Store>,
    here: Endpoints,
    /// Where control will listen, when that had to be known before it was opened.
    control_port: Option<(TcpListener, SocketAddr)>,
}

/// `oa runtime`: the authority alone.
pub async fn runtime(data: &DataDir, settings: Settings, format: Format) -> Result<(), Failure> {
    let common = Common::new(data, settings)?;
    let signals = signals()?;
    let mut opened = Opened::default();
    let url = open_runtime(&common, data, &mut opened).await?;
    serve(data, &common, opened, told(signals), || greet_runtime(data, &common, &url, format)).await
}

/// `oa control`: the control service alone; it finds the runtime by `OA_RUNTIME_BASE_URL`.
pub async fn control(data: &DataDir, settings: Settings, format: Format) -> Result<(), Failure> {
    let common = Common::new(data, settings)?;
    let signals = signals()?;
    let mut opened = Opened::default();
    let url = open_control(&common, data, &mut opened).await?;
    serve(data, &common, opened, told(signals), || greet_control(data, &url, format)).await
}

/// `oa up`: both services in one process, and a personal token for whoever started it.
pub async fn up(data: &DataDir, settings: Settings, format: Format) -> Result<(), Failure> {
    let common = Common::new(data, settings)?;
    let signals = signals()?;
    let (opened, personal) = open_both(&common, data).await?;
    let Endpoints { runtime, control, .. } = opened.here.clone();
    let (runtime, control) = (runtime.unwrap_or_default(), control.unwrap_or_default());
    serve(data, &common, opened, told(signals), || {
        greet_both(data, &common, (&runtime, &control), &personal, format)
    })
    .await
}

/// The same inside of another command: silent, until that one has had enough.
pub async fn beside(
    data: &DataDir,
    settings: Settings,
    enough: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let common = Common::new(data, settings)?;
    let (opened, _) = open_both(&common, data).await?;
    let until = async {
        enough.await;
        "no longer needed".to_owned()
    };
    serve(data, &common, opened, until, || {
        ready();
        Ok(())
    })
    .await
}

async fn open_both(common: &Common, data: &DataDir) -> Result<(Opened, String), Failure> {
    let mut opened = Opened::default();
    // Both ports before anything: no provider may claim to be at one of them.
    let control = common.settings.address("OA_CONTROL_BIND_ADDR");
    let control = control.ok_or_else(|| Failure::usage("OA_CONTROL_BIND_ADDR is missing"))?;
    opened.control_port = Some(listen(control).await?);
    open_runtime(common, data, &mut opened).await?;
    open_control(common, data, &mut opened).await?;
    let store = opened.control_store.clone().ok_or_else(|| Failure::wrong("control has no store"))?;
    let personal = personal_token(common, data, &store).await?;
    Ok((opened, personal))
}

/// The next signal, by its name.
async fn told(mut signals: Signals) -> String {
    signals.next().await.to_string()
}

fn signals() -> Result<Signals, Failure> {
    Signals::catch().map_err(|error| Failure::wrong(error.to_string()))
}

/// Announces, serves until a signal comes, lets what was begun end, and closes the stores.
async fn serve(
    data: &DataDir,
    common: &Common,
    opened: Opened,
    until: impl Future<Output = String>,
    greet: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let mut tasks = match &opened.runtime {
        Some(runtime) => oa_runtime::background::start(runtime, &stop),
        None => JoinSet::new(),
    };
    let mut of_control = match &opened.control {
        Some(control) => oa_control::background::start(control, &stop),
        None => JoinSet::new(),
    };
    if let Some(store) = opened.control_store.clone() {
        let (stop, clock) = (stop.clone(), common.clock.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(purge_hourly(&store, clock.as_ref())).await.unwrap_or_default()
        });
    }
    let (stop_meters, meters, watched) = (stop.clone(), common.meters.clone(), data.clone());
    tasks.spawn(async move {
        stop_meters.run_until_cancelled(keep_meters(&meters, &watched)).await.unwrap_or_default()
    });
    let exporter = exporter(common)?;
    let mut fronts = JoinSet::new();
    for (listener, router) in opened.fronts {
        fronts.spawn(oa_edge::serve(listener, router, common.drain.clone(), PATIENCE));
    }
    let here = Endpoints { pid: std::process::id(), ..opened.here };
    data.announce(&here)?;
    greet()?;
    let signal = until.await;
    tracing::info!(signal, "told to end: finishing what was begun");
    common.drain.begin();
    if let Some(runtime) = &opened.runtime {
        // Followers of streams wait for events, and end when they look.
        runtime.hub.everybody_looks_again();
    }
    let mut broken = None;
    while let Some(ended) = fronts.join_next().await {
        broken = ended.err().or(broken);
    }
    let withdrawn = data.withdraw(&here);
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    while of_control.join_next().await.is_some() {}
    for store in opened.stores {
        store.close().await;
    }
    exporter.end().await;
    match broken {
        Some(error) => Err(Failure::wrong(format!("a server broke: {error}"))),
        None => withdrawn,
    }
}

/// Sends spans away, when somebody is to have them.
fn exporter(common: &Common) -> Result<Exporter, Failure> {
    const ENDPOINT: &str = "OA_OTLP_TRACES_ENDPOINT";
    match common.settings.get(ENDPOINT) {
        None => Ok(Exporter::none()),
        #[cfg(feature = "otlp")]
        Some(endpoint) => Exporter::start(endpoint),
        #[cfg(not(feature = "otlp"))]
        Some(_) => Err(Failure::usage(format!(
            "{ENDPOINT}: this build sends no spans; `cargo build --features otlp` makes one that does"
        ))),
    }
}

/// Opens the runtime and says where it will answer.
async fn open_runtime(common: &Common, data: &DataDir, opened: &mut Opened) -> Result<String, Failure> {
    let mut config = oa_runtime::Config::read(&|name| common.settings.lookup(name))
        .map_err(|error| Failure::usage(error.to_string()))?;
    for warning in config.warning().into_iter().chain(config.trust_warning()) {
        tracing::warn!("{warning}");
    }
    let nats = crate::nats::Place::read(&common.settings)?;
    // The port first: a second server must not touch the store of the first.
    let (listener, address) = listen(config.bind_addr).await?;
    let beside = opened.control_port.as_ref().map(|(_, address)| *address);
    config.denied_places =
        [Some(address), beside].into_iter().flatten().map(|at| format!("http://{at}")).collect();
    // Nobody but this machine reaches either service, so nobody else can have ports of this machine asked.
    if let (Some(control), None) = (beside, common.settings.get("RUNTIME_ALLOW_LOOPBACK_PROVIDERS")) {
        let near = |at: SocketAddr| at.ip().to_canonical().is_loopback();
        config.allow_loopback_providers = near(address) && near(control);
    }
    let hub = Arc::new(Hub::default());
    let on_commit = {
        let hub = hub.clone();
        Arc::new(move |wakes: &[Wake]| hub.wake(wakes))
    };
    if let Some(place) = nats {
        if common.settings.get("DB_URL").is_none() {
            tracing::warn!("RUNTIME_NATS_URL is set, but a store in a file has no other replicas to wake");
        }
        crate::nats::connect(place, &hub).await?;
    }
    let store = Store::open_with(store_config(&common.settings, data, "runtime"), on_commit)
        .await
        .map_err(|error| Failure::wrong(format!("the runtime's store cannot be opened: {error}")))?;
    let signer = Signer::from_secret(reveal(&common.keys.receipt))
        .map_err(|error| Failure::usage(format!("the receipt key: {error}")))?;
    let parts = oa_runtime::Parts {
        config,
        store: store.clone(),
        hub,
        clock: common.clock.clone(),
        ids: common.ids.clone(),
        signer: Some(signer),
        secrets: vec![reveal(&common.keys.signature).as_bytes().to_vec()],
        service_token: Some(reveal(&common.keys.token).to_owned()),
        wallet: None,
        metrics: common.metrics(),
        draining: common.draining(),
    };
    let runtime = Arc::new(
        Runtime::new(parts)
            .map_err(|error| Failure::wrong(format!("the runtime cannot be made: {error}")))?,
    );
    // Before the first request: books that do not add up are not written to.
    oa_runtime::background::auditor::at_start(&runtime).await;
    let router = oa_edge::router(runtime.clone(), Limits::default(), |rows| {
        matrix::mount_authority::<Runtime>(rows);
        matrix::mount_runtime_asides::<Runtime>(rows);
    });
    let url = format!("http://{address}");
    opened.fronts.push((listener, router));
    opened.stores.push(store);
    opened.runtime = Some(runtime);
    opened.here.runtime = Some(url.clone());
    Ok(url)
}

/// Opens control and says where it will answer. A runtime opened before is the one it calls.
async fn open_control(common: &Common, data: &DataDir, opened: &mut Opened) -> Result<String, Failure> {
    let beside = opened.here.runtime.clone();
    let code = data.sign_in_code()?;
    let sync_key = match common.settings.get("OA_SYNC_TOKEN_SIGNING_KEY") {
        Some(_) => None,
        None => Some(data.sync_token_key()?),
    };
    let vault = match common.settings.get("DB_URL") {
        None => Some(data.integration_key()?),
        // Several processes may share that store, and a key of this directory would be this one's alone.
        Some(_) => None,
    };
    if let Some(warning) = secrets_in_clear(&common.settings) {
        tracing::warn!("{warning}");
    }
    let lookup = |name: &str| match name {
        "OA_RUNTIME_SIGNATURE_SECRET" => Some(reveal(&common.keys.signature).to_owned()),
        "OA_SYNC_TOKEN_SIGNING_KEY" => {
            sync_key.as_ref().map(|key| reveal(key).to_owned()).or_else(|| common.settings.lookup(name))
        }
        "OA_RUNTIME_BASE_URL" => beside.clone().or_else(|| common.settings.lookup(name)),
        "OA_AUTH_PROVIDER_MODE" => common.settings.lookup(name).or_else(|| usual_sign_in(&common.settings)),
        "OA_AUTH_MOCK_MAGIC_CODE" => common.settings.lookup(name).or_else(|| Some(reveal(&code).to_owned())),
        "OA_INTEGRATION_SECRET_ENCRYPTION_KEY" => {
            common.settings.lookup(name).or_else(|| vault.as_ref().map(|key| reveal(key).to_owned()))
        }
        _ => common.settings.lookup(name),
    };
    let config = oa_control::Config::read(&lookup).map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(warning) = config.trust_warning() {
        tracing::warn!("{warning}");
    }
    let (listener, address) = match opened.control_port.take() {
        Some(ready) => ready,
        None => listen(config.bind).await?,
    };
    let hub = Arc::new(oa_control::Hub::default());
    let on_commit = {
        let hub = hub.clone();
        Arc::new(move |wakes: &[Wake]| hub.wake(wakes))
    };
    let store = Store::open_with(store_config(&common.settings, data, "control"), on_commit)
        .await
        .map_err(|error| Failure::wrong(format!("control's store cannot be opened: {error}")))?;
    let runtime = oa_control::runtime_client(&config.runtime, common.clock.clone(), common.ids.clone())
        .map_err(Failure::usage)?;
    let parts = oa_control::Parts {
        config,
        store: store.clone(),
        hub,
        clock: common.clock.clone(),
        ids: common.ids.clone(),
        runtime,
        signer: Some(registry_signer(common)?),
        metrics: common.metrics(),
        draining: common.draining(),
    };
    let control = Arc::new(Control::new(parts));
    let router = oa_edge::router(control.clone(), Limits::default(), |rows| {
        matrix::mount_control::<Control>(rows);
        matrix::mount_control_asides::<Control>(rows);
    });
    let url = format!("http://{address}");
    opened.fronts.push((listener, router));
    opened.control = Some(control);
    opened.control_store = Some(store.clone());
    opened.stores.push(store);
    opened.here.control = Some(url.clone());
    Ok(url)
}

/// Who proves addresses when nobody is named. Whoever runs this on one machine has no other provider; beyond it, asking
/// for that one stops the start.
fn usual_sign_in(settings: &Settings) -> Option<String> {
    let bind = settings.address("OA_CONTROL_BIND_ADDR")?;
    bind.ip().to_canonical().is_loopback().then(|| "mock".to_owned())
}

/// What to say when nothing encrypts what control buys and keeps.
fn secrets_in_clear(settings: &Settings) -> Option<&'static str> {
    let clear =
        settings.get("DB_URL").is_some() && settings.get("OA_INTEGRATION_SECRET_ENCRYPTION_KEY").is_none();
    clear.then_some(
        "OA_INTEGRATION_SECRET_ENCRYPTION_KEY is not set: bought credentials, preimages and requests that wait for approval lie in the database in clear; set it to 32 bytes in base64 (`openssl rand -base64 32`), the same for every process",
    )
}

/// The key that signs releases of skills.
fn registry_signer(common: &Common) -> Result<Signer, Failure> {
    Signer::from_secret(reveal(&common.keys.registry))
        .map_err(|error| Failure::usage(format!("the key of the skill registry: {error}")))
}

/// Sums the metrics up every few seconds, so that they take no more memory the more is counted.
async fn keep_meters(meters: &Meters, data: &DataDir) {
    loop {
        disk::show(data.path());
        tokio::time::sleep(Duration::from_secs(5)).await;
        meters.upkeep();
    }
}

/// Forgets expired challenges, sessions and tokens, in small steps.
async fn purge_hourly(store: &Store, clock: &dyn Clock) {
    loop {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        loop {
            match identity::purge(store, clock.now()).await {
                Ok(purged) if purged.is_full() => {}
                Ok(_) => break,
                Err(stop) => {
                    tracing::warn!(error = %stop, "expired sessions could not be forgotten; tried again in an hour");
                    break;
                }
            }
        }
    }
}

/// The personal token of whoever runs `oa up`: made with its user on the first start, kept beside the keys.
async fn personal_token(common: &Common, data: &DataDir, store: &Store) -> Result<String, Failure> {
    if let Some(token) = data.personal_token()? {
        return Ok(reveal(&token).to_owned());
    }
    let wrong = |stop: Stop| Failure::wrong(format!("a personal token cannot be made: {stop}"));
    let (clock, ids) = (common.clock.as_ref(), common.ids.as_ref());
    let new = NewUser { email: "operator@localhost".into(), name: Some("Operator".into()), admin: true };
    let (user, _) = identity::add_user(store, clock, ids, new).await.map_err(wrong)?;
    let issued = identity::issue_token(store, clock, ids, &user.user_id, NewToken::named("oa up"))
        .await
        .map_err(wrong)?;
    data.keep_personal_token(issued.secret.reveal())?;
    Ok(issued.secret.reveal().to_owned())
}

/// `oa user add`: makes a user and a personal token in control's store, which no server may hold meanwhile.
pub async fn add_user(
    data: &DataDir,
    settings: Settings,
    new: NewUser,
    format: Format,
) -> Result<(), Failure> {
    let common = Common::new(data, settings)?;
    let store = Store::open(store_config(&common.settings, data, "control"))
        .await
        .map_err(|error| Failure::wrong(format!("control's store cannot be opened: {error}")))?;
    let wrong = |stop: Stop| Failure::wrong(stop.to_string());
    let (clock, ids) = (common.clock.as_ref(), common.ids.as_ref());
    let (user, fresh) = identity::add_user(&store, clock, ids, new).await.map_err(wrong)?;
    let issued = identity::issue_token(&store, clock, ids, &user.user_id, NewToken::named("oa user add"))
        .await
        .map_err(wrong)?;
    store.close().await;
    let token = issued.secret.reveal();
    match format {
        Format::Json => print_line(
            &serde_json::json!({"user_id": user.user_id, "email": user.email, "new": fresh, "token": token})
                .to_string(),
        ),
        Format::Text => print_line(&format!(
            "{} {} as {}\ntoken    {token}\n         (shown this once; it may do everything the user may)",
            if fresh { "added" } else { "kept" },
            user.email,
            user.user_id
        )),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let taken = |error| {
        Failure::wrong(format!("{address} cannot be listened on: {error}. `oa doctor` looks what is there"))
    };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}

/// Says where the runtime is, with something to paste.
fn greet_runtime(data: &DataDir, common: &Common, url: &str, format: Format) -> Result<(), Failure> {
    let (path, token) = (data.path().display(), reveal(&common.keys.token));
    match format {
        Format::Json => print_line(
            &serde_json::json!({"runtime": url, "data": data.path(), "pid": std::process::id(), "token_file": data.token_path()}).to_string(),
        ),
        Format::Text => print_line(&format!(
            "runtime  {url}\ndata     {path}\ntoken    {token}\n\n{}",
            try_the_runtime(data, url, token)
        )),
    }
}

fn greet_control(data: &DataDir, url: &str, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => print_line(
            &serde_json::json!({"control": url, "data": data.path(), "pid": std::process::id()}).to_string(),
        ),
        Format::Text => print_line(&format!(
            "control  {url}\ndata     {}\n\ntry      curl -s {url}/readyz\n",
            data.path().display()
        )),
    }
}

/// Says where both services are and how to get in.
fn greet_both(
    data: &DataDir,
    common: &Common,
    (runtime, control): (&str, &str),
    personal: &str,
    format: Format,
) -> Result<(), Failure> {
    let (path, token) = (data.path().display(), reveal(&common.keys.token));
    match format {
        Format::Json => print_line(
            &serde_json::json!({"runtime": runtime, "control": control, "data": data.path(), "pid": std::process::id(),
                "token_file": data.token_path(), "personal_token_file": data.personal_token_path()})
            .to_string(),
        ),
        Format::Text => print_line(&format!(
            "runtime  {runtime}   token {token}\ncontrol  {control}   token {personal}\ndata     {path}\n\n{}         curl -s {control}/api/runtime/workers -H 'Authorization: Bearer {personal}'\n",
            try_the_runtime(data, runtime, token)
        )),
    }
}

fn try_the_runtime(data: &DataDir, url: &str, token: &str) -> String {
    format!(
        "try      oa --data {} exec -- echo hello\n         curl -s {url}/internal/v1/runs -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{\"metadata\":{{\"name\":\"first\"}}}}'\n",
        data.path().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SettingFlags, data_dir::tests::scratch};

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let directory = scratch();
        let given =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::load(&SettingFlags::default(), &given, &DataDir::at(directory.path())).expect("settings")
    }

    #[test]
    fn a_database_without_a_key_for_secrets_is_told_of_and_a_store_in_a_file_has_its_own() {
        let database = ("DB_URL", "postgres://oa@127.0.0.1/oa");
        let key = ("OA_INTEGRATION_SECRET_ENCRYPTION_KEY", "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=");
        let warning = secrets_in_clear(&settings(&[database])).expect("a warning");
        assert!(warning.contains(key.0) && warning.contains("openssl rand -base64 32"), "{warning}");
        assert!(secrets_in_clear(&settings(&[database, (key.0, " ")])).is_some(), "blank is no key");
        assert_eq!(secrets_in_clear(&settings(&[database, key])), None);
        assert_eq!(secrets_in_clear(&settings(&[])), None);
    }

    #[test]
    fn the_deployment_with_a_database_hands_the_key_for_secrets_on() {
        let compose = include_str!("../../../deploy/compose.yaml");
        let control = compose.split("\n  control:").nth(1).and_then(|rest| rest.split("\n  wallet:").next());
        let line = "OA_INTEGRATION_SECRET_ENCRYPTION_KEY: ${OA_INTEGRATION_SECRET_ENCRYPTION_KEY:-}";
        assert!(control.expect("control").contains(line));
    }

    #[test]
    fn nobody_beyond_this_machine_is_believed_unless_somebody_says_so() {
        assert_eq!(usual_sign_in(&settings(&[])).as_deref(), Some("mock"));
        assert_eq!(usual_sign_in(&settings(&[("OA_CONTROL_BIND_ADDR", "[::1]:0")])).as_deref(), Some("mock"));
        assert_eq!(usual_sign_in(&settings(&[("OA_CONTROL_BIND_ADDR", "0.0.0.0:8787")])), None);
    }
}
