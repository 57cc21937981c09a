//! Three replicas of the runtime on one PostgreSQL of their own, with NATS between them: processes that are stopped,
//! killed, restarted and cut off.

use std::{
    collections::HashMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oa_store::{PostgresConfig, Store};
use oa_testkit::Http;

use crate::server::oa;

pub const TOKEN: &str = "oa_st_of_all_replicas";
pub const SIGNATURE_SECRET: &str = "the-signature-secret-of-all-replicas";
/// Of the tests; any key will do, as long as it is the same everywhere.
const RECEIPT_KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill {name} {pid}");
}

/// A PostgreSQL that may be crashed: nobody else's.
pub struct Database {
    pub url: String,
    directory: String,
}

fn script() -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/postgres-for-tests"));
    command.stdin(Stdio::null());
    command
}

impl Database {
    pub fn start() -> Self {
        let said = script().arg("start").stderr(Stdio::inherit()).output().unwrap();
        assert!(said.status.success(), "PostgreSQL did not start");
        let said = String::from_utf8(said.stdout).unwrap();
        let exports: HashMap<&str, &str> =
            said.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
        Database {
            url: exports["OA_TEST_POSTGRES_URL"].to_owned(),
            directory: exports["OA_TEST_POSTGRES_DIR"].to_owned(),
        }
    }

    /// A crash, and the recovery from it.
    pub fn restart(&self) {
        let done = script().arg("restart").env("OA_TEST_POSTGRES_DIR", &self.directory).status().unwrap();
        assert!(done.success(), "PostgreSQL did not come back");
    }

    /// The replicas' own store, opened by the test.
    pub async fn store(&self) -> Store {
        let mut config = PostgresConfig::new(&self.url);
        config.pool_size = 2;
        Store::open(config).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = script().arg("stop").env("OA_TEST_POSTGRES_DIR", &self.directory).status();
    }
}

/// A NATS server on a port that stays the same.
pub struct NatsServer {
    pub port: u16,
    child: Option<Child>,
}

impl NatsServer {
    pub fn start() -> Self {
        let mut server = NatsServer { port: free_port(), child: None };
        server.again();
        server
    }

    pub fn again(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("nats-server: apt-get install nats-server"));
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One `oa runtime`.
pub struct Replica {
    pub url: String,
    port: u16,
    data: PathBuf,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Replica {
    pub fn new(home: &Path, number: usize, database: &Database, nats: Option<&NatsServer>) -> Self {
        let port = free_port();
        let mut environment = vec![
            ("DB_URL", database.url.clone()),
            ("RUNTIME_SERVICE_TOKEN", TOKEN.into()),
            ("RUNTIME_SIGNATURE_SECRET", SIGNATURE_SECRET.into()),
            ("RUNTIME_BRIDGE_NOSTR_SECRET_KEY", RECEIPT_KEY.into()),
            ("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "1".into()),
            ("RUNTIME_TREASURY_RECONCILIATION_INTERVAL_SECONDS", "1".into()),
        ];
        environment.extend(
            nats.map(|nats| ("RUNTIME_NATS_URL", format!("nats://someone:secret@127.0.0.1:{}", nats.port))),
        );
        let url = format!("http://127.0.0.1:{port}");
        Replica { url, port, data: home.join(format!("replica{number}")), environment, child: None }
    }

    pub fn begin(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.data.with_extension("log")).unwrap();
        let mut command = oa();
        command.arg("runtime").arg("--data").arg(&self.data);
        command.args(["--bind", &format!("127.0.0.1:{}", self.port)]).envs(self.environment.iter().cloned());
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    pub async fn ready(&mut self) {
        let (begun, probe) = (Instant::now(), self.http());
        while !probe.is_ok("/readyz").await {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "a replica ended with {ended:?}:\n{}", self.log());
            assert!(begun.elapsed() < Duration::from_secs(60), "a replica is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    pub fn http(&self) -> Http {
        Http::new(&self.url, Some(TOKEN.to_owned()))
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGSTOP: it stands still with everything in its hands.
    pub fn stop(&self) {
        signal(self.pid(), "-STOP");
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub fn go_on(&self) {
        signal(self.pid(), "-CONT");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM: it finishes what it has begun.
    pub fn end(&mut self) {
        signal(self.pid(), "-TERM");
        assert!(self.child.take().unwrap().wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three replicas that are ready.
pub async fn three(home: &Path, database: &Database, nats: Option<&NatsServer>) -> Vec<Replica> {
    let mut replicas: Vec<Replica> =
        (0..3).map(|number| Replica::new(home, number, database, nats)).collect();
    // All at once, on a database without a schema.
    replicas.iter_mut().for_each(Replica::begin);
    for replica in &mut replicas {
        replica.ready().await;
    }
    replicas
}

/// What the whole store says of itself.
pub fn verify(home: &Path, database: &Database) -> String {
    let mut command = oa();
    command.arg("verify-store").arg("--data").arg(home.join("verify")).env("DB_URL", &database.url);
    let said = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{text}");
    text
}
