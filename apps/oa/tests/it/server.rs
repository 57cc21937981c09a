//! An `oa` process that a test starts, kills and starts again.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oa_testkit::Http;

pub fn oa() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oa"));
    // A developer's own settings must not reach the test.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// `oa runtime`, or another service, on a data directory and a port that stay the same over restarts.
pub struct Server {
    service: &'static str,
    child: Option<Child>,
    pub data: PathBuf,
    port: u16,
    database: Option<String>,
    /// Settings, as variables.
    pub environment: Vec<(&'static str, String)>,
}

impl Server {
    pub fn new(data: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Server {
            service: "runtime",
            child: None,
            data: data.to_owned(),
            port,
            database: None,
            environment: Vec::new(),
        }
    }

    /// `oa control`.
    pub fn control(data: &Path) -> Self {
        let mut server = Server::new(data);
        server.service = "control";
        server
    }

    /// Adds a user to control's store, which may not run meanwhile; gives the user's personal token.
    pub fn add_user(&self, email: &str) -> String {
        let added =
            oa().arg("--data").arg(&self.data).args(["-o", "json", "user", "add", email]).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&added.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&added.stderr)));
        said["token"].as_str().unwrap().to_owned()
    }

    /// The same, on the PostgreSQL of the tests.
    pub fn on_postgres(data: &Path) -> Self {
        let url = std::env::var("OA_TEST_POSTGRES_URL")
            .expect("OA_TEST_POSTGRES_URL: eval \"$(scripts/postgres-for-tests start)\"");
        let mut server = Server::new(data);
        server.database = Some(url);
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the process and waits until it is ready; says how long that took.
    pub async fn start(&mut self) -> Duration {
        let begun = Instant::now();
        let log =
            std::fs::File::options().create(true).append(true).open(self.data.with_extension("log")).unwrap();
        let bind = format!("127.0.0.1:{}", self.port);
        let mut command = oa();
        command.arg(self.service).arg("--data").arg(&self.data).args(["--bind", &bind]);
        command.envs(self.environment.iter().cloned());
        if let Some(url) = &self.database {
            command.env("DB_URL", url);
        }
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let probe = Http::new(self.url(), None);
        loop {
            if probe.is_ok("/readyz").await {
                return begun.elapsed();
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            let log = || std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", log());
            assert!(begun.elapsed() < Duration::from_secs(60), "the server did not become ready:\n{}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A caller with the service token.
    pub fn http(&self) -> Http {
        let token = std::fs::read_to_string(self.data.join("keys/service.token")).unwrap();
        Http::new(self.url(), Some(token.trim().to_owned()))
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
