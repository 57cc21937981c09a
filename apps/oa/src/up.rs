//! Decides how services are started and ended: keys and stores first, then the port, then the announcement; at the end every request that was begun is finished and the stores are closed.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use oa_contract::{Clock, Ids, matrix, signer::Signer};
use oa_edge::{Drain, Limits};
use oa_runtime::{Runtime, hub::Hub};
use oa_store::{PostgresConfig, SqliteConfig, Store, StoreConfig, Wake};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    data_dir::{DataDir, Endpoints, Keys, reveal},
    exec::Signals,
    failure::Failure,
    output::{Format, print_line},
    system::{SystemClock, SystemIds},
};

/// How long requests that were begun may take when the process is told to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What both services are given.
struct Common {
    settings: Settings,
    keys: Keys,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    drain: Drain,
}

impl Common {
    fn new(data: &DataDir, settings: Settings) -> Result<Self, Failure> {
        let keys = data.prepare(&settings)?;
        let meters = oa_edge::install_meters();
        Ok(Common {
            settings,
            keys,
            clock: Arc::new(SystemClock::default()),
            ids: Arc::new(SystemIds::default()),
            metrics: Arc::new(move || meters.render()),
            drain: Drain::new(),
        })
    }

    fn draining(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let drain = self.drain.clone();
        Arc::new(move || drain.has_begun())
    }

    /// A file in the data directory, or PostgreSQL when an address of one is set.
    fn store(&self, data: &DataDir, name: &str) -> StoreConfig {
        match self.settings.get("DB_URL") {
            Some(url) => {
                let mut config = PostgresConfig::new(url);
                config.schema = name.to_owned();
                config.into()
            }
            None => SqliteConfig::new(data.path().join(format!("{name}.db"))).into(),
        }
    }
}

/// `oa runtime`: serves until it is told to end.
pub async fn runtime(data: &DataDir, settings: Settings, format: Format) -> Result<(), Failure> {
    let common = Common::new(data, settings)?;
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let (service, listener, address) = open_runtime(&common, data).await?;
    let url = format!("http://{address}");
    let here = Endpoints { runtime: Some(url.clone()), control: None, pid: std::process::id() };
    data.announce(&here)?;
    greet(data, &common, &url, format)?;
    let stop = CancellationToken::new();
    let mut tasks = oa_runtime::background::start(&service, &stop);
    let router = oa_edge::router(service.clone(), Limits::default(), |rows| {
        matrix::mount_authority::<Runtime>(rows);
        matrix::mount_runtime_asides::<Runtime>(rows);
    });
    let serving = tokio::spawn(oa_edge::serve(listener, router, common.drain.clone(), PATIENCE));
    let signal = signals.next().await;
    tracing::info!(%signal, "told to end: finishing what was begun");
    common.drain.begin();
    let served = serving.await;
    let withdrawn = data.withdraw(&here);
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    service.store.close().await;
    served.map_err(|error| Failure::wrong(format!("the server broke: {error}")))?;
    withdrawn
}

async fn open_runtime(common: &Common, data: &DataDir) -> Result<(Arc<Runtime>, TcpListener, SocketAddr), Failure> {
    let config = oa_runtime::Config::read(&|name| common.settings.lookup(name)).map_err(|error| Failure::usage(error.to_string()))?;
    // The port first: a second server must not touch the store of the first.
    let (listener, address) = listen(config.bind_addr).await?;
    let hub = Arc::new(Hub::default());
    let on_commit = {
        let hub = hub.clone();
        Arc::new(move |wakes: &[Wake]| hub.wake(wakes))
    };
    let store = Store::open_with(common.store(data, "runtime"), on_commit)
        .await
        .map_err(|error| Failure::wrong(format!("the runtime's store cannot be opened: {error}")))?;
    let signer = Signer::from_secret(reveal(&common.keys.receipt)).map_err(|error| Failure::usage(format!("the receipt key: {error}")))?;
    let parts = oa_runtime::Parts {
        config,
        store,
        hub,
        clock: common.clock.clone(),
        ids: common.ids.clone(),
        signer: Some(signer),
        secrets: vec![reveal(&common.keys.signature).as_bytes().to_vec()],
        service_token: Some(reveal(&common.keys.token).to_owned()),
        metrics: common.metrics.clone(),
        draining: common.draining(),
    };
    let runtime = Runtime::new(parts).map_err(|error| Failure::wrong(format!("the runtime cannot be made: {error:?}")))?;
    Ok((Arc::new(runtime), listener, address))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let taken = |error| Failure::wrong(format!("{address} cannot be listened on: {error}. `oa doctor` looks what is there"));
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}

/// Says where everything is, with something to paste.
fn greet(data: &DataDir, common: &Common, url: &str, format: Format) -> Result<(), Failure> {
    let (path, token) = (data.path().display(), reveal(&common.keys.token));
    match format {
        Format::Json => print_line(
            &serde_json::json!({"runtime": url, "data": data.path(), "pid": std::process::id(), "token_file": data.token_path()}).to_string(),
        ),
        Format::Text => print_line(&format!(
            "runtime  {url}\ndata     {path}\ntoken    {token}\n\ntry      curl -s {url}/internal/v1/runs -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{\"metadata\":{{\"name\":\"first\"}}}}'\n         oa --data {path} exec -- echo hello\n"
        )),
    }
}
