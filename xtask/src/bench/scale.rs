//! Decides how replicas are measured: one, two and three on one PostgreSQL under the same load, and how soon a follower
//! of one replica sees what another has committed, with NATS between them and without.
//!
//! All of it runs on this one machine, so more replicas share the same cores and the same disk: the figures say what
//! a replica more costs and whether anything but the machine stands in the way, not what three machines would do.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use super::{
    MANY,
    baselines::Postgres,
    event_body, kept,
    load::{self, Connection, Requests, Sample, Window},
    machine,
    process::{Ready, Scratch, Server, Usage, finish, free_port, settle},
    program, progress,
    table::{median, thousands},
};

const RUNS: usize = 1_000;
const TOKEN: &str = "oa_st_bench";
const REPLICAS: usize = 3;

#[derive(Args)]
pub struct Scale {
    /// How long each stretch of appends is counted.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often every subject has its turn; the medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events that are followed in each round.
    #[arg(long, default_value_t = 40)]
    followed: usize,
    /// Two short rounds: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Measure this program instead of building one.
    #[arg(long)]
    oa_binary: Option<PathBuf>,
    /// Where the raw figures go. By default `bench/scale.json` among the build's output.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Scale {
    /// Nothing is to be built for speed.
    pub fn only_works(&self) -> bool {
        self.quick && self.oa_binary.is_some()
    }
}

/// Replicas on one database.
struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    fn start(program: &Path, dir: &Path, database: &str, nats: Option<u16>) -> Result<Self> {
        let mut servers = Vec::new();
        for n in 0..REPLICAS {
            let port = free_port()?;
            let name = format!("{}-{n}", if nats.is_some() { "nats" } else { "alone" });
            let mut command = Command::new(program);
            command.args(["runtime", "--bind", &format!("127.0.0.1:{port}"), "--data"]).arg(dir.join(&name));
            command.env("DB_URL", database).env("RUNTIME_SERVICE_TOKEN", TOKEN);
            // A key of nobody: what is measured signs nothing.
            command.env("RUNTIME_BRIDGE_NOSTR_SECRET_KEY", "01".repeat(32));
            command.env("RUNTIME_SIGNATURE_SECRET", "bench");
            if let Some(nats) = nats {
                command.env("RUNTIME_NATS_URL", format!("nats://127.0.0.1:{nats}"));
            }
            let log = dir.join(name).with_extension("log");
            servers.push(Server::start(command, port, &Ready::Answering("/readyz"), &log)?);
        }
        Ok(Cluster { servers })
    }

    fn ports(&self, count: usize) -> Vec<u16> {
        self.servers.iter().take(count).map(|server| server.port).collect()
    }

    fn ids(&self, count: usize) -> Vec<u32> {
        self.servers.iter().take(count).map(Server::id).collect()
    }

    fn create_runs(&self, count: usize) -> Result<Vec<String>> {
        let create = load::request("POST", "/internal/v1/runs", &headers(), br#"{"metadata":{}}"#);
        load::counted(self.servers[0].port, &Rc::new(vec![create]), 201, count, |answer| {
            let answer: serde_json::Value = serde_json::from_slice(answer)?;
            let id = answer.pointer("/run/id").and_then(|id| id.as_str());
            Ok(id.context("a created run without its id")?.to_owned())
        })
    }

    fn stop(self) -> Result<()> {
        self.servers.into_iter().try_for_each(Server::stop)
    }
}

fn headers() -> String {
    format!("authorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n")
}

fn appends(runs: &[String]) -> Requests {
    let headers = format!("{}prefer: return=minimal\r\n", headers());
    let body = event_body();
    let append = |run| load::request("POST", &format!("/internal/v1/runs/{run}/events"), &headers, &body);
    Rc::new(runs.iter().map(append).collect())
}

/// One round of one number of replicas.
#[derive(Serialize)]
struct Rate {
    appends_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of all replicas together, per append.
    replicas_cpu_us: f64,
    /// Busy with anything but replicas and load: PostgreSQL and NATS, and whoever else is there.
    other_cores: f64,
}

#[derive(Serialize)]
struct Rates {
    name: String,
    replicas: usize,
    nats: bool,
    rounds: Vec<Rate>,
}

impl Rates {
    fn new(replicas: usize, nats: bool) -> Self {
        let with = if nats { "with NATS" } else { "without NATS" };
        let plural = if replicas == 1 { "" } else { "s" };
        Rates { name: format!("{replicas} replica{plural} {with}"), replicas, nats, rounds: Vec::new() }
    }

    fn of(&self, pick: fn(&Rate) -> f64) -> f64 {
        median(self.rounds.iter().map(pick))
    }
}

/// One round of following: from the question of an append on one replica to its arrival at a follower of another.
#[derive(Serialize)]
struct Followed {
    p50_ms: f64,
    p99_ms: f64,
    /// The append itself, to its answer.
    append_p50_ms: f64,
}

#[derive(Serialize)]
struct Follows {
    name: &'static str,
    rounds: Vec<Followed>,
}

impl Follows {
    fn of(&self, pick: fn(&Followed) -> f64) -> f64 {
        median(self.rounds.iter().map(pick))
    }
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    machine: String,
    how: String,
    rates: Vec<Rates>,
    follows: Vec<Follows>,
}

pub fn run(arguments: &Scale) -> Result<()> {
    let (rounds, seconds, followed) = match arguments.quick {
        true => (2, 0.5, 8),
        false => (arguments.rounds, arguments.seconds, arguments.followed),
    };
    ensure!(rounds > 0 && seconds > 0.0 && followed > 0, "nothing to measure");
    let window = Window::of(seconds);
    let kept = kept()?;
    let scratch = Scratch::new(&kept)?;
    let dir = scratch.path();
    let nats_program = nats_program()?;
    let program = program(arguments.oa_binary.as_deref())?;

    progress("starting PostgreSQL, NATS, three replicas with it and three without");
    let postgres = Postgres::start(dir, 1)?;
    let nats_port = free_port()?;
    let mut nats = Command::new(nats_program);
    nats.args(["--addr", "127.0.0.1", "--port", &nats_port.to_string()]);
    let nats = Server::start(nats, nats_port, &Ready::Listening, &dir.join("nats.log"))?;
    let woken = Cluster::start(&program, dir, &postgres.database("woken")?, Some(nats_port))?;
    let alone = Cluster::start(&program, dir, &postgres.database("alone")?, None)?;
    let (woken_runs, alone_runs) = (woken.create_runs(RUNS)?, alone.create_runs(RUNS)?);
    let (woken_appends, alone_appends) = (appends(&woken_runs), appends(&alone_runs));

    let mut rates: Vec<Rates> = (1..=REPLICAS).map(|count| Rates::new(count, true)).collect();
    rates.push(Rates::new(REPLICAS, false));
    let mut follows = vec![
        Follows { name: "with NATS", rounds: Vec::new() },
        Follows { name: "without NATS", rounds: Vec::new() },
    ];
    for round in 1..=rounds {
        for rate in &mut rates {
            let (cluster, requests) =
                if rate.nats { (&woken, &woken_appends) } else { (&alone, &alone_appends) };
            settle(dir)?;
            let (ports, ids) = (cluster.ports(rate.replicas), cluster.ids(rate.replicas));
            let before = Usage::of(&ids)?;
            let sample =
                load::timed_over(&ports, requests, 200, MANY, window).with_context(|| rate.name.clone())?;
            let used = before.until(Usage::of(&ids)?);
            let point = Rate {
                appends_per_second: sample.rate(),
                p50_ms: sample.quantile(0.5),
                p99_ms: sample.quantile(0.99),
                replicas_cpu_us: used.server_cpu / sample.calls.max(1) as f64 * 1e6,
                other_cores: used.foreign_cores,
            };
            progress(&format!(
                "{round}/{rounds} {:24} {:>7}/s  p50 {:7.3} ms  p99 {:7.3} ms",
                rate.name,
                thousands(point.appends_per_second),
                point.p50_ms,
                point.p99_ms
            ));
            rate.rounds.push(point);
            postgres.settle()?;
        }
        for (follow, (cluster, runs)) in
            follows.iter_mut().zip([(&woken, &woken_runs), (&alone, &alone_runs)])
        {
            let point = load::on_one_thread(latency(cluster, &runs[round % RUNS], followed))?;
            progress(&format!(
                "{round}/{rounds} a follower elsewhere, {:12} p50 {:8.2} ms  p99 {:8.2} ms",
                follow.name, point.p50_ms, point.p99_ms
            ));
            follow.rounds.push(point);
        }
    }
    woken.stop()?;
    alone.stop()?;
    nats.stop()?;
    postgres.stop()?;

    let how = format!(
        "{rounds} rounds, the subjects in turn, {seconds:.1} s counted each; medians over the rounds, also of the \
         ratios. Events of {} bytes over {RUNS} runs, {MANY} connections spread over the replicas, `Prefer: \
         return=minimal`. Replicas, PostgreSQL, NATS and the load share the cores of one machine.",
        super::EVENT_BYTES
    );
    let report = Report { quick: arguments.quick, machine: machine(dir), how, rates, follows };
    let json = arguments.json.clone().unwrap_or_else(|| kept.join("scale.json"));
    fs::write(&json, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    progress(&format!("wrote {}", json.display()));
    print!("{}", report.markdown()?);
    Ok(())
}

/// Appends to a run on the first replica, and waits for each event at a follower of the second.
async fn latency(cluster: &Cluster, run: &str, count: usize) -> Result<Followed> {
    let mut arrivals = follow(cluster.servers[1].port, run).await?;
    let mut appender = Connection::open(cluster.servers[0].port).await?;
    let append = appends(&[run.to_owned()])[0].clone();
    let (mut took, mut answered) = (Vec::new(), Vec::new());
    for n in 0..count {
        let asked = Instant::now();
        let seq = super::seq(appender.exchange(&append, 200).await?)?;
        answered.push(micros(asked.elapsed()));
        loop {
            let arrival = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await;
            let (id, at) = arrival.context("an event did not arrive")?.context("the stream broke")?;
            if id == seq {
                took.push(micros(at - asked));
                break;
            }
        }
        // Spread over the interval of whoever looks at intervals.
        tokio::time::sleep(Duration::from_millis((n as u64 * 137) % 500)).await;
    }
    let (took, answered) =
        (Sample::new(took, Duration::from_secs(1), 0), Sample::new(answered, Duration::from_secs(1), 0));
    Ok(Followed {
        p50_ms: took.quantile(0.5),
        p99_ms: took.quantile(0.99),
        append_p50_ms: answered.quantile(0.5),
    })
}

fn micros(took: Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
}

/// Follows a run, and says when which event came.
async fn follow(port: u16, run: &str) -> Result<mpsc::UnboundedReceiver<(u64, Instant)>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let path = format!("/streams/runtime.run.{run}.events");
    stream.write_all(&load::request("GET", &path, &headers(), b"")).await?;
    let (tell, told) = mpsc::unbounded_channel();
    let (greet, greeted) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let (mut text, mut greet) = (Vec::new(), Some(greet));
        let mut buffer = [0; 8_192];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let now = Instant::now();
            text.extend_from_slice(&buffer[..read]);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if line.starts_with(": following") {
                    let _ = greet.take().map(|greet| greet.send(()));
                }
                if let Some(id) = line.strip_prefix("id: ").and_then(|id| id.trim().parse().ok()) {
                    let _ = tell.send((id, now));
                }
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(10), greeted).await.context("nobody lets us follow")??;
    Ok(told)
}

impl Report {
    fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        let quick = if self.quick { " (quick: whether it works, not how fast it is)" } else { "" };
        writeln!(out, "## Replicas on one machine{quick}\n\n{}\n\n{}\n", self.machine, self.how)?;
        writeln!(
            out,
            "| | appends/s | against one | p50 ms | p99 ms | CPU of the replicas per append | cores busy with PostgreSQL, NATS and others |\n|---|---:|---:|---:|---:|---:|---:|"
        )?;
        for rates in &self.rates {
            let pairs = rates.rounds.iter().zip(&self.rates[0].rounds);
            let ratio = median(pairs.map(|(this, one)| this.appends_per_second / one.appends_per_second));
            writeln!(
                out,
                "| {} | {} | {ratio:.2} × | {:.3} | {:.3} | {:.1} µs | {:.2} |",
                rates.name,
                thousands(rates.of(|rate| rate.appends_per_second)),
                rates.of(|rate| rate.p50_ms),
                rates.of(|rate| rate.p99_ms),
                rates.of(|rate| rate.replicas_cpu_us),
                rates.of(|rate| rate.other_cores),
            )?;
        }
        writeln!(
            out,
            "\n| from the question of an append on one replica to a follower of another | p50 ms | p99 ms | the append itself, p50 ms |\n|---|---:|---:|---:|"
        )?;
        for follows in &self.follows {
            writeln!(
                out,
                "| {} | {:.2} | {:.2} | {:.2} |",
                follows.name,
                follows.of(|one| one.p50_ms),
                follows.of(|one| one.p99_ms),
                follows.of(|one| one.append_p50_ms)
            )?;
        }
        Ok(out)
    }
}

/// Debian's nats-server; installed when it is not there, without starting the service that comes with it.
fn nats_program() -> Result<PathBuf> {
    let known = ["/usr/sbin/nats-server", "/usr/local/bin/nats-server", "/usr/bin/nats-server"];
    let find = || known.iter().map(PathBuf::from).find(|program| program.exists());
    if let Some(program) = find() {
        return Ok(program);
    }
    progress("installing nats-server");
    for arguments in
        [["update", "-qq"].as_slice(), &["install", "-y", "-qq", "--no-install-recommends", "nats-server"]]
    {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(arguments);
        finish(command.stdin(Stdio::null()))?;
    }
    find().context("nats-server was installed, but it is in none of the usual places")
}
