//! A runtime for tests: on a store of its own, with a clock that stands still until it is moved and ids that
//! count. It decides nothing about the runtime itself.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use oa_contract::{Ask, Caller, Clock, Handle, Ids, Meta, Operation, Owner, Refusal, Reply, Stop, Timestamp};
use oa_store::{EngineKind, PostgresConfig, SqliteConfig, Store, StoreConfig};
use uuid::Uuid;

use crate::{Config, Parts, Runtime, hub::Hub};

/// When every test begins.
pub(crate) const BEGIN: Timestamp = Timestamp::from_unix_seconds(1_772_000_000);

/// A clock that a test moves.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::SeqCst);
    }

    pub(crate) fn advance_ms(&self, millis: i64) {
        self.0.fetch_add(millis * 1_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Ids that count from 1.
#[derive(Default)]
pub(crate) struct CountingIds(AtomicU64);

impl CountingIds {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Ids for CountingIds {
    fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let mut tail = [0; 10];
        tail[2..].copy_from_slice(&self.next().to_be_bytes());
        let millis = u64::try_from(now.millis()).expect("a moment after 1970");
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }

    fn uuid32(&self) -> String {
        format!("{:032x}", self.next())
    }

    fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[24..].copy_from_slice(&self.next().to_be_bytes());
        secret
    }
}

fn fail_statements(path: &std::path::Path, table: Option<&str>) {
    let undo = "DROP TRIGGER IF EXISTS failpoint_insert; DROP TRIGGER IF EXISTS failpoint_update;";
    let point = |verb: &str, table: &str| {
        format!(
            "CREATE TRIGGER failpoint_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'failpoint'); END;"
        )
    };
    let sql = table.map(|table| point("insert", table) + &point("update", table));
    let file = rusqlite::Connection::open(path).expect("the store's file");
    file.busy_timeout(std::time::Duration::from_secs(10)).expect("a patient connection");
    file.execute_batch(&format!("{undo}{}", sql.unwrap_or_default())).expect("meddled");
}

async fn fail_commits(config: &PostgresConfig, table: Option<&str>) {
    let connected = tokio_postgres::connect(&config.url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("a connection of its own");
    tokio::spawn(connection);
    let undo = format!("SET search_path TO {}; DROP FUNCTION IF EXISTS failpoint() CASCADE;", config.schema);
    let point = |table: &str| {
        format!(
            "CREATE FUNCTION failpoint() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'failpoint'; END $$;
             CREATE CONSTRAINT TRIGGER failpoint AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION failpoint();"
        )
    };
    client.batch_execute(&(undo + &table.map(point).unwrap_or_default())).await.expect("meddled");
}

/// A runtime, and what a test may move in it. Its SQLite file goes with it; a PostgreSQL schema stays in the
/// throw-away cluster.
pub(crate) struct World {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) clock: Arc<TestClock>,
    store: StoreConfig,
    directory: Option<PathBuf>,
    wallet: Option<Arc<dyn oa_lightning::Wallet>>,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::with(EngineKind::Sqlite, config()).await
    }

    pub(crate) async fn with(engine: EngineKind, config: Config) -> Self {
        Self::paying(engine, config, None).await
    }

    /// A world with this wallet.
    pub(crate) async fn paying(
        engine: EngineKind,
        config: Config,
        wallet: Option<Arc<dyn oa_lightning::Wallet>>,
    ) -> Self {
        let name = format!("t_{}", Uuid::new_v4().simple());
        let (store, directory) = match engine {
            EngineKind::Sqlite => {
                let directory = std::env::temp_dir().join(format!("oa-runtime-{name}"));
                (StoreConfig::from(SqliteConfig::new(directory.join("runtime.db"))), Some(directory))
            }
            EngineKind::Postgres => {
                let url = std::env::var("OA_TEST_POSTGRES_URL").expect(
                    "OA_TEST_POSTGRES_URL is not set: a skipped engine is a failed test. Run `eval \"$(scripts/postgres-for-tests start)\"` first",
                );
                let mut config = PostgresConfig::new(url);
                config.schema = name;
                config.pool_size = 8;
                (StoreConfig::from(config), None)
            }
        };
        let clock = Arc::new(TestClock(AtomicI64::new(BEGIN.micros())));
        Self::open(store, directory, config, clock, wallet).await
    }

    async fn open(
        store: StoreConfig,
        directory: Option<PathBuf>,
        config: Config,
        clock: Arc<TestClock>,
        wallet: Option<Arc<dyn oa_lightning::Wallet>>,
    ) -> Self {
        let hub = Arc::new(Hub::default());
        let woken = hub.clone();
        let opened = Store::open_with(store.clone(), Arc::new(move |wakes| woken.wake(wakes)));
        let parts = Parts {
            config,
            store: opened.await.expect("a store that opens"),
            hub,
            clock: clock.clone(),
            ids: Arc::new(CountingIds::default()),
            signer: None,
            secrets: Vec::new(),
            service_token: None,
            wallet: wallet.clone(),
            metrics: Arc::new(String::new),
            draining: Arc::new(|| false),
        };
        let runtime = Arc::new(Runtime::new(parts).expect("a runtime"));
        // As the watch over wallets does first of all.
        runtime.payments.learn().await;
        World { runtime, clock, store, directory, wallet }
    }

    /// From here on whatever writes to this table fails, in SQLite at the statement, in PostgreSQL when it is committed;
    /// none: everything is well again.
    pub(crate) async fn break_writes_to(&self, table: Option<&str>) {
        match (&self.store, &self.directory) {
            (StoreConfig::Postgres(config), _) => fail_commits(config, table).await,
            (_, Some(directory)) => fail_statements(&directory.join("runtime.db"), table),
            _ => {}
        }
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    fn file(&self) -> PathBuf {
        match &self.store {
            StoreConfig::Sqlite(config) => config.path.clone(),
            StoreConfig::Postgres(_) => panic!("only embedded stores are copied"),
        }
    }

    /// Copies the store as it is now, while it goes on.
    pub(crate) fn backup(&self) {
        let file = self.file();
        oa_store::backup::copy_store(&file, &file.with_extension("backup"), |_, _| {}).expect("a copy");
    }

    /// Ends the process and starts another one on the copy: what came after it is forgotten.
    pub(crate) async fn restored(self) -> Self {
        self.runtime.store.close().await;
        let file = self.file();
        std::fs::rename(file.with_extension("backup"), file).expect("put in place");
        self.restart().await
    }

    /// Ends the process, as it were, and starts another one on the same store.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.runtime.store.close().await;
        let directory = self.directory.take();
        let mut config = self.runtime.config.clone();
        change(&mut config);
        let wallet = self.wallet.clone();
        Self::open(self.store.clone(), directory, config, self.clock.clone(), wallet).await
    }

    /// Calls an operation as it comes from the edge.
    pub(crate) async fn call<O: Operation>(
        &self,
        caller: &Caller,
        path: O::Path,
        query: O::Query,
        body: O::Body,
    ) -> Result<(u16, O::Reply), Stop>
    where
        Runtime: Handle<O>,
        O::Reply: Reply,
    {
        let ask = Ask { path, query, body, caller: caller.clone(), meta: Meta::default() };
        let answer = Handle::<O>::handle(&*self.runtime, ask).await?;
        Ok((answer.status.unwrap_or(O::ROW.success[0]), answer.body))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// The settings of a test: loopback may be fetched, as in a laboratory.
pub(crate) fn config() -> Config {
    Config { allow_private_networks: true, ..Config::default() }
}

/// Tells one story on both engines.
pub(crate) async fn on_each_engine(story: impl AsyncFn(World)) {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        story(World::with(engine, config()).await).await;
    }
}

/// A credential bound to nobody.
pub(crate) fn operator() -> Caller {
    Caller::Service { name: "operator".into(), owner: None }
}

/// A credential bound to one user.
pub(crate) fn bound_to(user_id: u64) -> Caller {
    Caller::Service { name: "control".into(), owner: Some(Owner::User(user_id)) }
}

/// The refusal that a call ended in.
pub(crate) fn refused<T>(ended: Result<T, Stop>) -> Refusal {
    match ended {
        Err(Stop::Refusal(refusal)) => refusal,
        Err(Stop::Fault(fault)) => panic!("wanted a refusal, but something broke: {fault}"),
        Ok(_) => panic!("wanted a refusal, but it was answered"),
    }
}

/// A provider's health route on a loopback port.
pub(crate) struct HealthRoute {
    address: std::net::SocketAddr,
    asked: Arc<AtomicU64>,
    serving: tokio::task::JoinHandle<()>,
}

impl HealthRoute {
    /// Answers every request with this status.
    pub(crate) async fn answering(status: u16) -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 1024];
                let _ = peer.read(&mut request).await;
                let answer = format!("HTTP/1.1 {status} \r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = peer.write_all(answer.as_bytes()).await;
            }
        });
        HealthRoute { address, asked, serving }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for HealthRoute {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
