//! Decides what `oa` is measured against: parsing alone, the disk alone, PostgreSQL, and the closest peer.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{FileExt as _, MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use axum::{Json, Router, extract::Path as UrlPath, routing::post, serve::ListenerExt as _};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_postgres::{Client, NoTls, Statement, types::Type};

use super::{
    load::{self, Caller, Requests, Sample, Window},
    process::{Ready, Server, finish, free_port},
};

// ---- (a) parsing alone

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing it is all this server does")]
struct Append {
    event_type: String,
    payload: Box<RawValue>,
    idempotency_key: Option<String>,
}

/// As large as the minimal answer of an append.
#[derive(Serialize)]
struct Appended {
    run_id: String,
    seq: u64,
    hash: &'static str,
}

/// Parses an append as `oa` must, answers as much as `oa` does, and keeps nothing.
pub fn parse_server(bind: SocketAddr) -> Result<()> {
    async fn append(UrlPath(run_id): UrlPath<String>, Json(append): Json<Append>) -> Json<Appended> {
        std::hint::black_box(append);
        Json(Appended {
            run_id,
            seq: 1_000,
            hash: "0000000000000000000000000000000000000000000000000000000000000000",
        })
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = Router::new().route("/internal/v1/runs/{run_id}/events", post(append));
        let listener = tokio::net::TcpListener::bind(bind).await?.tap_io(|stream| {
            // Without it small answers may wait; if it fails the figures tell.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, app).await?;
        Ok(())
    })
}

/// Starts this program once more as the server above.
pub fn start_parse_server(dir: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench-parse-server").arg(format!("127.0.0.1:{port}"));
    Server::start(command, port, &Ready::Listening, &dir.join("parse.log"))
}

// ---- (b) the disk alone

const PAGE: usize = 4096;
/// Enough that the same place is not written twice in a row; 64 MiB.
const PAGES: u64 = 16 * 1024;

/// Writes that a store with one writer cannot do without: 4 KiB in place and `fdatasync`, one by one.
pub struct RawDisk(File);

impl RawDisk {
    pub fn prepare(dir: &Path) -> Result<Self> {
        let file = File::create(dir.join("raw"))?;
        let zeros = vec![0; 1024 * PAGE];
        for at in (0..PAGES).step_by(1024) {
            file.write_all_at(&zeros, at * PAGE as u64)?;
        }
        file.sync_all()?;
        Ok(RawDisk(file))
    }

    pub fn timed(&self, window: Window) -> Result<Sample> {
        let page = [1; PAGE];
        let opens = Instant::now() + window.warm;
        let closes = opens + window.measured;
        let mut micros = Vec::new();
        let mut calls = 0;
        let mut began = Instant::now();
        while began < closes {
            self.0.write_all_at(&page, (calls % PAGES) * PAGE as u64)?;
            self.0.sync_data()?;
            calls += 1;
            let ended = Instant::now();
            if ended >= opens && ended < closes {
                micros.push(u32::try_from((ended - began).as_micros()).unwrap_or(u32::MAX));
            }
            began = ended;
        }
        ensure!(!micros.is_empty(), "no fdatasync ended within {:?}", window.measured);
        Ok(Sample::new(micros, window.measured, calls))
    }
}

// ---- (c) PostgreSQL

/// A throw-away cluster with its defaults (`fsync` and `synchronous_commit` are on).
pub struct Postgres {
    server: Server,
    pub version: String,
    runs: usize,
}

const TABLE: &str = "create table event (
    run bigint not null,
    seq bigserial not null,
    event_type text not null,
    payload json not null,
    recorded_at timestamptz not null default now(),
    primary key (run, seq)
)";

impl Postgres {
    pub fn start(dir: &Path, runs: usize) -> Result<Self> {
        let programs = postgres_programs()?;
        let data = dir.join("postgres");
        fs::create_dir(&data)?;
        let run_as = fellow_user(&data)?;
        let port = free_port()?;
        let command = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command.current_dir(&data);
            if let Some((uid, gid)) = run_as {
                command.uid(uid).gid(gid);
            }
            command
        };
        let told = String::from_utf8(command("postgres").arg("--version").output()?.stdout)?;
        // "postgres (PostgreSQL) 15.18 (…)"
        let version =
            told.split_ascii_whitespace().nth(2).context("`postgres --version` says something else here")?;
        finish(
            command("initdb")
                .args(["--username=bench", "--auth=trust", "--encoding=UTF8", "--no-locale", "--pgdata"])
                .arg(&data),
        )?;
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        let server = Server::start(postgres, port, &Ready::Listening, &dir.join("postgres.log"))?;
        let postgres = Postgres { server, version: version.into(), runs };
        load::on_one_thread(async { Ok(postgres.connect().await?.batch_execute(TABLE).await?) })?;
        Ok(postgres)
    }

    /// The address of a database that is made now.
    pub fn database(&self, name: &str) -> Result<String> {
        let sql = format!("create database {name}");
        load::on_one_thread(async { Ok(self.connect().await?.batch_execute(&sql).await?) })?;
        Ok(format!("postgres://bench@127.0.0.1:{}/{name}", self.server.port))
    }

    async fn connect(&self) -> Result<Client> {
        let config = format!("host=127.0.0.1 port={} user=bench dbname=postgres", self.server.port);
        // It listens a little before it lets anybody in.
        for _ in 0..200 {
            if let Ok((client, connection)) = tokio_postgres::connect(&config, NoTls).await {
                tokio::spawn(connection);
                return Ok(client);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::bail!("PostgreSQL does not let us in");
    }

    /// Single-row inserts, each its own transaction, prepared once per connection.
    pub fn timed(&self, payload: &str, connections: usize, window: Window) -> Result<Sample> {
        load::on_one_thread(async {
            let mut callers = Vec::with_capacity(connections);
            for at in 0..connections {
                let client = self.connect().await?;
                let insert = client
                    .prepare_typed(
                        "insert into event (run, event_type, payload) values ($1, $2, $3::text::json)",
                        &[Type::INT8, Type::TEXT, Type::TEXT],
                    )
                    .await?;
                callers.push(Inserter {
                    client,
                    insert,
                    payload: payload.into(),
                    at,
                    step: connections,
                    runs: self.runs,
                });
            }
            load::timed_callers(callers, window).await
        })
    }

    /// Accounts that everybody may move between, and a place for entries.
    pub fn open_accounts(&self, accounts: usize) -> Result<()> {
        let sql = format!(
            "create table account (id bigint primary key, balance bigint not null);
             create table entry (id bigserial primary key, debit bigint not null, credit bigint not null, \
                amount bigint not null, at timestamptz not null default now());
             insert into account select n, 1000000000 from generate_series(0, {accounts} - 1) n"
        );
        load::on_one_thread(async { Ok(self.connect().await?.batch_execute(&sql).await?) })
    }

    /// One unit between two accounts: both rows locked in order, both updated, an entry inserted, committed.
    pub fn transfers(&self, window: Window, connections: usize, accounts: usize) -> Result<Sample> {
        load::on_one_thread(async {
            let mut callers = Vec::with_capacity(connections);
            for at in 0..connections {
                let client = self.connect().await?;
                let lock = client
                    .prepare("select balance from account where id in ($1, $2) order by id for update")
                    .await?;
                let update =
                    client.prepare("update account set balance = balance + $2 where id = $1").await?;
                let insert =
                    client.prepare("insert into entry (debit, credit, amount) values ($1, $2, $3)").await?;
                callers.push(Mover { client, lock, update, insert, at, step: connections, accounts });
            }
            load::timed_callers(callers, window).await
        })
    }

    /// Writes out what the inserts left dirty, so that nobody else's stretch pays for it.
    pub fn settle(&self) -> Result<()> {
        load::on_one_thread(async { Ok(self.connect().await?.batch_execute("checkpoint").await?) })
    }

    pub fn stop(self) -> Result<()> {
        self.server.stop()
    }
}

struct Inserter {
    client: Client,
    insert: Statement,
    payload: Rc<str>,
    at: usize,
    step: usize,
    runs: usize,
}

impl Caller for Inserter {
    async fn call(&mut self) -> Result<()> {
        let run = self.at as i64;
        let rows = self.client.execute(&self.insert, &[&run, &super::EVENT_TYPE, &&*self.payload]).await?;
        ensure!(rows == 1, "an insert of {rows} rows");
        self.at = (self.at + self.step) % self.runs;
        Ok(())
    }
}

struct Mover {
    client: Client,
    lock: Statement,
    update: Statement,
    insert: Statement,
    at: usize,
    step: usize,
    accounts: usize,
}

impl Caller for Mover {
    async fn call(&mut self) -> Result<()> {
        let half = self.accounts / 2;
        let debit = (self.at % half) as i64;
        let credit = (half + self.at.wrapping_mul(7) % half) as i64;
        let transaction = self.client.transaction().await?;
        let locked = transaction.query(&self.lock, &[&debit, &credit]).await?;
        ensure!(locked.len() == 2, "{} accounts were locked", locked.len());
        transaction.execute(&self.update, &[&debit, &-1_i64]).await?;
        transaction.execute(&self.update, &[&credit, &1_i64]).await?;
        transaction.execute(&self.insert, &[&debit, &credit, &1_i64]).await?;
        transaction.commit().await?;
        self.at += self.step;
        Ok(())
    }
}

/// Where `initdb` and `postgres` are: what `pg_config` says, else the newest of Debian's places.
fn postgres_programs() -> Result<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok().filter(|out| out.status.success());
    if let Some(out) = told {
        let dir = PathBuf::from(String::from_utf8(out.stdout)?.trim());
        if dir.join("initdb").exists() {
            return Ok(dir);
        }
    }
    fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .max()
        .map(|(_, bin)| bin)
        .context("no PostgreSQL found: `initdb` is not where `pg_config --bindir` or Debian put it")
}

/// PostgreSQL refuses to run as root; then the directory goes to the user `postgres`, and so does the server.
fn fellow_user(data: &Path) -> Result<Option<(u32, u32)>> {
    if fs::metadata(data)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let (uid, gid) = users
        .lines()
        .find_map(|line| {
            let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .context("PostgreSQL refuses to run as root, and there is no user `postgres`")?;
    chown(data, Some(uid), Some(gid))?;
    Ok(Some((uid, gid)))
}

// ---- (d) the closest peer

const PEER: &str = "durable-streams";
const PEER_VERSION: &str = "0.1.5";

/// The server of the crate `durable-streams` with its defaults: group commit in a sharded log, an append is
/// answered after `fdatasync`. Streams are in its JSON mode, so it parses what it is sent, as `oa` does.
pub struct Peer {
    pub server: Server,
    pub requests: Requests,
}

impl Peer {
    pub fn name() -> String {
        format!("{PEER} {PEER_VERSION}")
    }

    /// Installs into `tools` what is not there yet, and makes one stream per run.
    pub fn start(tools: &Path, dir: &Path, body: &[u8], runs: usize) -> Result<Self> {
        let root = tools.join(format!("{PEER}-{PEER_VERSION}"));
        let program = root.join("bin/durable-streams-server");
        if !program.exists() {
            super::progress(&format!("installing {PEER} {PEER_VERSION}, about 80 s"));
            let install = ["install", "--quiet", "--locked", "--root"];
            finish(
                Command::new(super::cargo()).args(install).arg(&root).arg(format!("{PEER}@{PEER_VERSION}")),
            )?;
        }
        let data = dir.join("peer");
        fs::create_dir(&data)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--host", &Ipv4Addr::LOCALHOST.to_string(), "--port", &port.to_string(), "--data-dir"]);
        command.arg(&data);
        let server = Server::start(command, port, &Ready::Listening, &dir.join("peer.log"))?;
        let json = "content-type: application/json\r\n";
        let all = |method: &str, body: &[u8]| -> Requests {
            Rc::new((0..runs).map(|n| load::request(method, &format!("/run-{n}"), json, body)).collect())
        };
        load::counted(port, &all("PUT", b""), 201, runs, |_| Ok(()))?;
        Ok(Peer { server, requests: all("POST", body) })
    }

    pub const APPENDED: u16 = 204;
}
