//! Both services in one process, over real sockets and a real store, on either engine.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use oa_client::{Client, Identity, Signing};
use oa_contract::{
    Caller, Clock, Ids, Owner, Timestamp,
    credential::{self, Bound},
    matrix,
    signer::Signer,
};
use oa_control::Control;
use oa_edge::{Drain, Limits};
use oa_runtime::{AuthMode, Runtime, hub::Hub};
use oa_store::{PostgresConfig, SqliteConfig, Store, StoreConfig};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{SeededIds, TestClock},
    http::Http,
    kept::{kept, meddle},
};

/// Which engine keeps the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Both, for tests that must hold on both.
pub fn both_engines() -> [Engine; 2] {
    [Engine::Sqlite, Engine::Postgres]
}

/// How the world differs from the usual one.
pub struct WorldOptions {
    pub engine: Engine,
    pub auth_mode: AuthMode,
    /// Without one, control answers 503 on the proxied rows.
    pub control_knows_runtime: bool,
    pub runtime: Box<dyn Fn(&mut oa_runtime::Config) + Send + Sync>,
    /// The key with which the runtime signs receipts; none: it has none.
    pub receipt_key: Option<String>,
    /// More variables for control, beyond the mock sign-in.
    pub control: Vec<(&'static str, String)>,
}

impl Default for WorldOptions {
    fn default() -> Self {
        WorldOptions {
            engine: Engine::Sqlite,
            auth_mode: AuthMode::Required,
            control_knows_runtime: true,
            runtime: Box::new(|_| {}),
            receipt_key: Some(RECEIPT_KEY.into()),
            control: Vec::new(),
        }
    }
}

/// The secret that signs service credentials in tests.
pub const SECRET: &[u8] = b"a secret of the tests";
/// The bearer service token in tests.
pub const TOKEN: &str = "oa_st_of_the_tests";
/// The receipt key of the golden vectors.
const RECEIPT_KEY: &str = "2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a";

/// Both services, until they are dropped.
pub struct World {
    pub runtime: Arc<Runtime>,
    pub control: Arc<Control>,
    pub clock: Arc<TestClock>,
    pub ids: Arc<SeededIds>,
    /// A caller of the runtime with the service token.
    pub http: Http,
    /// A caller of control without a credential.
    pub control_http: Http,
    options: WorldOptions,
    place: Place,
    serving: Serving,
}

/// Where the stores lie; outlives a restart.
struct Place {
    directory: TempDir,
    schema: String,
}

struct Serving {
    drain: Drain,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.drain.begin();
        self.stop.cancel();
    }
}

impl World {
    /// The usual world on SQLite.
    pub async fn new() -> Self {
        Self::with(WorldOptions::default()).await
    }

    /// The usual world on this engine.
    pub async fn on(engine: Engine) -> Self {
        Self::with(WorldOptions { engine, ..WorldOptions::default() }).await
    }

    pub async fn with(options: WorldOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let schema = format!("world_{}", uuid::Uuid::new_v4().simple());
        let clock = Arc::new(TestClock::at(Timestamp::parse("2026-02-25T10:00:00Z").expect("a moment")));
        Self::open(options, Place { directory, schema }, clock, Arc::new(SeededIds::new(7))).await
    }

    /// Stops both services in order and starts them again on the same stores.
    pub async fn restart(self) -> Self {
        let World { runtime, control, clock, ids, options, place, mut serving, .. } = self;
        serving.drain.begin();
        serving.stop.cancel();
        for server in serving.servers.drain(..) {
            let _ = server.await;
        }
        runtime.store.close().await;
        // Calls of tools run on without a request; for them this is what a crash is.
        control.close().await;
        drop((runtime, control, serving));
        Self::open(options, place, clock, ids).await
    }

    async fn open(options: WorldOptions, place: Place, clock: Arc<TestClock>, ids: Arc<SeededIds>) -> Self {
        let (drain, stop) = (Drain::new(), CancellationToken::new());
        let draining = {
            let drain = drain.clone();
            Arc::new(move || drain.has_begun()) as Arc<dyn Fn() -> bool + Send + Sync>
        };
        let metrics: Arc<dyn Fn() -> String + Send + Sync> = {
            let meters = oa_edge::install_meters();
            Arc::new(move || meters.render())
        };
        let runtime = Arc::new(open_runtime(&options, &place, &clock, &ids, &metrics, &draining).await);
        oa_runtime::background::auditor::at_start(&runtime).await;
        let (runtime_listener, runtime_url) = listen().await;
        let (control_listener, control_url) = listen().await;
        let control =
            Arc::new(open_control(&options, &place, &clock, &ids, &metrics, &draining, &runtime_url).await);
        let mut servers = vec![
            serve(runtime_listener, runtime_router(&runtime), &drain),
            serve(control_listener, control_router(&control), &drain),
        ];
        let mut control_tasks = oa_control::background::start(&control, &stop);
        servers.push(tokio::spawn(async move { while control_tasks.join_next().await.is_some() {} }));
        let mut tasks = oa_runtime::background::start(&runtime, &stop);
        servers.push(tokio::spawn(async move { while tasks.join_next().await.is_some() {} }));
        let http = Http::new(runtime_url, Some(TOKEN.into()));
        let control_http = Http::new(control_url, None);
        World {
            runtime,
            control,
            clock,
            ids,
            http,
            control_http,
            options,
            place,
            serving: Serving { drain, stop, servers },
        }
    }

    /// A typed client of the runtime with the service token.
    pub fn client(&self) -> Client {
        Client::new(&self.http.base, Identity::Bearer(TOKEN.into())).expect("a client")
    }

    /// A typed client of the runtime that signs its requests.
    pub fn signing_client(&self) -> Client {
        let signing = Signing {
            secret: SECRET.to_vec(),
            ttl_seconds: 60,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        };
        Client::new(&self.http.base, Identity::Signed(signing)).expect("a client")
    }

    /// The header with which control signs one request, bound to an owner.
    pub fn signature(&self, owner: &Owner, method: &str, path: &str, body: &[u8]) -> String {
        let nonce = format!("nonce-{}", self.ids.uuid32());
        let bound = Bound { method, path, body };
        credential::sign(SECRET, bound, Some(owner), nonce, self.clock.now(), 60)
    }

    /// Signs a user in through the mock provider and gives a caller with the session.
    pub async fn sign_in(&self, email: &str) -> Http {
        let sent = self.control_http.post("/api/auth/email", &serde_json::json!({"email": email})).await;
        let challenge = sent.json()["challengeId"].as_str().expect("a challenge").to_owned();
        let body = serde_json::json!({"code": "123456", "challenge_id": challenge});
        let verified = self.control_http.post("/api/auth/verify", &body).await;
        self.control_http.with_bearer(verified.json()["token"].as_str().expect("a session"))
    }

    /// Looks after the codex workers now, as the background does every few seconds.
    pub async fn sweep_codex(&self) {
        oa_control::background::sweep(&self.control).await.expect("swept");
    }

    /// The operator, for calls into the library.
    pub fn operator() -> Caller {
        Caller::Service { name: "test".into(), owner: None }
    }

    /// The file of the runtime's SQLite store.
    pub fn runtime_file(&self) -> std::path::PathBuf {
        self.place.directory.path().join("runtime.db")
    }

    /// Everything that both services keep, as far as a request may change it. SQLite only.
    pub fn kept(&self) -> Vec<String> {
        let stores = [self.runtime_file(), self.place.directory.path().join("control.db")];
        stores.iter().flat_map(|store| kept(store)).collect()
    }

    /// From now on every write to this table of the runtime fails, in the middle of whatever it is part of; with
    /// none, all succeed again. SQLite only.
    pub fn break_writes_to(&self, table: Option<&str>) {
        let undo = "DROP TRIGGER IF EXISTS failpoint_insert; DROP TRIGGER IF EXISTS failpoint_update;";
        let point = |verb: &str, table: &str| {
            format!(
                "CREATE TRIGGER failpoint_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'failpoint'); END;"
            )
        };
        let sql = table.map(|table| point("insert", table) + &point("update", table));
        meddle(&self.runtime_file(), &format!("{undo}{}", sql.unwrap_or_default()));
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: SocketAddr = listener.local_addr().expect("an address");
    (listener, format!("http://{address}"))
}

fn serve(listener: TcpListener, router: Router, drain: &Drain) -> JoinHandle<()> {
    tokio::spawn(oa_edge::serve(listener, router, drain.clone(), Duration::from_secs(5)))
}

fn runtime_router(runtime: &Arc<Runtime>) -> Router {
    oa_edge::router(runtime.clone(), Limits::default(), |rows| {
        matrix::mount_authority::<Runtime>(rows);
        matrix::mount_runtime_asides::<Runtime>(rows);
    })
}

fn control_router(control: &Arc<Control>) -> Router {
    oa_edge::router(control.clone(), Limits::default(), |rows| {
        matrix::mount_control::<Control>(rows);
        matrix::mount_control_asides::<Control>(rows);
    })
}

fn store_config(engine: Engine, place: &Place, name: &str) -> StoreConfig {
    match engine {
        Engine::Sqlite => SqliteConfig::new(place.directory.path().join(format!("{name}.db"))).into(),
        Engine::Postgres => {
            let url = std::env::var("OA_TEST_POSTGRES_URL")
                .expect("OA_TEST_POSTGRES_URL: eval \"$(scripts/postgres-for-tests start)\"");
            let mut config = PostgresConfig::new(url);
            config.schema = format!("{}_{name}", place.schema);
            config.pool_size = 6;
            config.into()
        }
    }
}

async fn open_runtime(
    options: &WorldOptions,
    place: &Place,
    clock: &Arc<TestClock>,
    ids: &Arc<SeededIds>,
    metrics: &Arc<dyn Fn() -> String + Send + Sync>,
    draining: &Arc<dyn Fn() -> bool + Send + Sync>,
) -> Runtime {
    let hub = Arc::new(Hub::default());
    let on_commit = {
        let hub = hub.clone();
        Arc::new(move |wakes: &[oa_store::Wake]| hub.wake(wakes))
    };
    let store = Store::open_with(store_config(options.engine, place, "runtime"), on_commit)
        .await
        .expect("the store opens");
    let mut config = oa_runtime::Config {
        auth_mode: options.auth_mode,
        allow_private_networks: true,
        ..oa_runtime::Config::default()
    };
    (options.runtime)(&mut config);
    let parts = oa_runtime::Parts {
        config,
        store,
        hub,
        clock: clock.clone(),
        ids: ids.clone(),
        signer: options.receipt_key.as_deref().map(|secret| Signer::from_secret(secret).expect("a key")),
        secrets: vec![SECRET.to_vec()],
        service_token: Some(TOKEN.into()),
        wallet: None,
        metrics: metrics.clone(),
        draining: draining.clone(),
    };
    Runtime::new(parts).expect("a runtime")
}

async fn open_control(
    options: &WorldOptions,
    place: &Place,
    clock: &Arc<TestClock>,
    ids: &Arc<SeededIds>,
    metrics: &Arc<dyn Fn() -> String + Send + Sync>,
    draining: &Arc<dyn Fn() -> bool + Send + Sync>,
    runtime_url: &str,
) -> Control {
    let mut variables = vec![
        ("OA_AUTH_PROVIDER_MODE", "mock".to_owned()),
        ("OA_SYNC_TOKEN_SIGNING_KEY", "sync-test-signing-key".to_owned()),
    ];
    if options.control_knows_runtime {
        variables.push(("OA_RUNTIME_BASE_URL", runtime_url.to_owned()));
        variables.push(("OA_RUNTIME_SIGNATURE_SECRET", String::from_utf8_lossy(SECRET).into_owned()));
    }
    variables.extend(options.control.iter().cloned());
    let lookup = move |name: &str| {
        variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let config = oa_control::Config::read(&lookup).expect("a configuration");
    let runtime = oa_control::runtime_client(&config.runtime, clock.clone(), ids.clone()).expect("a client");
    let hub = Arc::new(oa_control::Hub::default());
    let on_commit = {
        let hub = hub.clone();
        Arc::new(move |wakes: &[oa_store::Wake]| hub.wake(wakes))
    };
    let store = Store::open_with(store_config(options.engine, place, "control"), on_commit);
    let parts = oa_control::Parts {
        store: store.await.expect("the store opens"),
        hub,
        config,
        clock: clock.clone(),
        ids: ids.clone(),
        runtime,
        signer: Some(Signer::from_secret(RECEIPT_KEY).expect("a key")),
        metrics: metrics.clone(),
        draining: draining.clone(),
    };
    Control::new(parts)
}
