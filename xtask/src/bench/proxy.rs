//! Decides how the way through control is measured: against the runtime itself, and against nginx in front of it.
//!
//! All three paths end in the same row of the same runtime and are loaded by the same callers. They do not do the
//! same: nginx copies bytes, control finds out whose token it is, names the owner, signs the request and checks
//! the answer. The figures say what that costs.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    MANY, cargo,
    load::{self, Requests, Window},
    machine,
    process::{Ready, Scratch, Server, Usage, family, finish, free_port, settle},
    progress,
    table::{Bound, Target, median, thousands},
};

/// What control may add at one connection.
const ADDED_MS: f64 = 0.1;
/// How much of nginx's rate control must reach.
const OF_NGINX: f64 = 0.6;
const WORKER: &str = "bench:worker-1";

#[derive(Args)]
pub struct Proxy {
    /// How long each stretch is counted.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often every path has its turn; the medians are reported.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Three rounds of half a second: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Measure this program instead of building one.
    #[arg(long)]
    oa_binary: Option<PathBuf>,
    /// Where the raw figures go. By default `bench/proxy.json` among the build's output.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One way to the same worker.
struct Way {
    key: &'static str,
    name: &'static str,
    port: u16,
    request: Requests,
    /// Every process on it.
    processes: Vec<u32>,
}

/// One round on one way.
#[derive(Serialize)]
struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of all processes on the way, per request.
    cpu_us: f64,
    /// Of the load, per request.
    load_cpu_us: f64,
    /// Cores busy with anything else.
    foreign_cores: f64,
}

#[derive(Serialize)]
struct Series {
    key: &'static str,
    name: &'static str,
    connections: usize,
    rounds: Vec<Round>,
}

impl Series {
    fn of(&self, pick: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(pick))
    }
}

/// A figure made of two ways, round by round.
struct Compared {
    median: f64,
    least: f64,
    most: f64,
}

impl Compared {
    fn new(one: &Series, other: &Series, of: fn(&Round, &Round) -> f64) -> Self {
        let each: Vec<f64> =
            one.rounds.iter().zip(&other.rounds).map(|(one, other)| of(one, other)).collect();
        Compared {
            median: median(each.iter().copied()),
            least: each.iter().copied().fold(f64::INFINITY, f64::min),
            most: each.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

pub fn run(arguments: &Proxy) -> Result<()> {
    let (rounds, seconds) = match arguments.quick {
        true => (3, 0.5),
        false => (arguments.rounds, arguments.seconds),
    };
    ensure!(rounds > 0 && seconds > 0.0, "nothing to measure");
    let window = Window {
        warm: Duration::from_secs_f64((seconds / 5.0).min(0.5)),
        measured: Duration::from_secs_f64(seconds),
    };
    let built = std::env::current_exe()?.parent().context("the bench is in no directory")?.to_owned();
    let kept = built.parent().unwrap_or(&built).join("bench");
    fs::create_dir_all(&kept)?;
    let scratch = Scratch::new(&kept)?;
    let dir = scratch.path();
    let nginx = nginx_program()?;
    let program = match &arguments.oa_binary {
        Some(given) => given.canonicalize().with_context(|| given.display().to_string())?,
        None => {
            progress("building oa for release");
            finish(Command::new(cargo()).args(["build", "--release", "--package", "oa"]))?;
            built.join("oa")
        }
    };
    let stage = Stage::set(&program, &nginx, dir)?;
    let series = measure(&stage.ways()?, rounds, window, dir)?;
    let report = Report::new(arguments.quick, dir, rounds, seconds, &stage.nginx_version, series);
    let json = arguments.json.clone().unwrap_or_else(|| kept.join("proxy.json"));
    fs::write(&json, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    progress(&format!("wrote {}", json.display()));
    print!("{}", report.markdown());
    Ok(())
}

/// The three servers.
struct Stage {
    runtime: Server,
    control: Server,
    nginx: Server,
    nginx_version: String,
    service_token: String,
    personal_token: String,
    owner: u64,
}

impl Stage {
    fn set(program: &Path, nginx: &Path, dir: &Path) -> Result<Self> {
        let data = dir.join("oa");
        let personal_token = add_user(program, &data)?;
        let runtime_port = free_port()?;
        let mut command = Command::new(program);
        command.args(["runtime", "--bind", &format!("127.0.0.1:{runtime_port}"), "--data"]).arg(&data);
        let runtime =
            Server::start(command, runtime_port, &Ready::Answering("/readyz"), &dir.join("runtime.log"))?;
        let control_port = free_port()?;
        let mut command = Command::new(program);
        command.args(["control", "--bind", &format!("127.0.0.1:{control_port}"), "--data"]).arg(&data);
        command.env("OA_RUNTIME_BASE_URL", format!("http://127.0.0.1:{runtime_port}"));
        let control =
            Server::start(command, control_port, &Ready::Answering("/readyz"), &dir.join("control.log"))?;
        let (nginx, nginx_version) = start_nginx(nginx, dir, runtime_port)?;
        let service_token = fs::read_to_string(data.join("keys/service.token"))?.trim().to_owned();
        let owner = register(control_port, &personal_token)?;
        Ok(Stage { runtime, control, nginx, nginx_version, service_token, personal_token, owner })
    }

    fn ways(&self) -> Result<Vec<Way>> {
        let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
        let request = |path: &str, token: &str| -> Requests {
            Rc::new(vec![load::request("GET", path, &bearer(token), b"")])
        };
        let internal = format!("/internal/v1/workers/{WORKER}?owner_user_id={}", self.owner);
        let runtime = self.runtime.id();
        let mut behind_nginx = family(self.nginx.id())?;
        behind_nginx.push(runtime);
        Ok(vec![
            Way {
                key: "direct",
                name: "the runtime itself",
                port: self.runtime.port,
                request: request(&internal, &self.service_token),
                processes: vec![runtime],
            },
            Way {
                key: "nginx",
                name: "through nginx",
                port: self.nginx.port,
                request: request(&internal, &self.service_token),
                processes: behind_nginx,
            },
            Way {
                key: "control",
                name: "through control",
                port: self.control.port,
                request: request(&format!("/api/runtime/workers/{WORKER}"), &self.personal_token),
                processes: vec![self.control.id(), runtime],
            },
        ])
    }
}

/// A user with a token, made while no server runs.
fn add_user(program: &Path, data: &Path) -> Result<String> {
    let mut command = Command::new(program);
    command.arg("--data").arg(data).args(["--output", "json", "user", "add", "bench@example.com"]);
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    Ok(said["token"].as_str().context("a user without a token")?.to_owned())
}

/// Registers the worker that everybody asks for, and gives the number of its owner.
fn register(control: u16, token: &str) -> Result<u64> {
    let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let body =
        json!({"workerId": WORKER, "adapter": "bench", "metadata": {"roles": ["client"], "load": 0.4}});
    let request = load::request("POST", "/api/runtime/workers", &headers, body.to_string().as_bytes());
    let answers = load::counted(control, &Rc::new(vec![request]), 200, 1, |answer| {
        let answer: Value = serde_json::from_slice(answer)?;
        answer
            .pointer("/data/worker/owner/user_id")
            .and_then(Value::as_u64)
            .context("a worker without its owner")
    })?;
    answers.first().copied().context("no answer")
}

/// Debian's nginx; installed when it is not there, without starting the service that comes with it.
fn nginx_program() -> Result<PathBuf> {
    let known = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
    let find = || known.iter().map(PathBuf::from).find(|program| program.exists());
    if let Some(program) = find() {
        return Ok(program);
    }
    progress("installing nginx");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // In this runlevel no service is started.
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(arguments);
        finish(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", "--no-install-recommends", "nginx"])?;
    find().context("nginx was installed, but it is in none of the usual places")
}

/// As it is set up in front of a service of one's own: connections to it are kept, nothing is logged or cached.
fn start_nginx(program: &Path, dir: &Path, upstream: u16) -> Result<(Server, String)> {
    let port = free_port()?;
    let home = dir.join("nginx");
    fs::create_dir(&home)?;
    let place = home.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {place}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off;\npid {place}/nginx.pid;\nerror_log {place}/error.log;\nworker_processes auto;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n{temporary}  keepalive_requests 1000000000;\n\
           upstream runtime {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
           server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://runtime;\n\
             proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n\
             }}\n  }}\n}}\n"
    );
    let file = home.join("nginx.conf");
    fs::write(&file, config)?;
    let told = Command::new(program).arg("-v").output()?;
    // "nginx version: nginx/1.22.1" on stderr
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let version = told.trim().rsplit('/').next().unwrap_or("of an unknown version").to_owned();
    let mut command = Command::new(program);
    command.arg("-e").arg(home.join("start.log")).arg("-p").arg(&home).arg("-c").arg(&file);
    let server = Server::start(command, port, &Ready::Answering("/healthz"), &dir.join("nginx.log"))?;
    Ok((server, version))
}

/// Every way at both widths, in turn; each round begins with another way.
fn measure(ways: &[Way], rounds: usize, window: Window, dir: &Path) -> Result<Vec<Series>> {
    let widths = [1, MANY];
    let mut all: Vec<Series> = Vec::new();
    for connections in widths {
        let series = |way: &Way| Series { key: way.key, name: way.name, connections, rounds: Vec::new() };
        all.extend(ways.iter().map(series));
    }
    for round in 0..rounds {
        for (row, connections) in widths.into_iter().enumerate() {
            for turn in 0..ways.len() {
                let at = (round + turn) % ways.len();
                let measured = stretch(&ways[at], connections, window, dir)?;
                progress(&format!(
                    "{}/{rounds} {:20} {connections:>2} conn {:>9}/s  p50 {:7.3} ms  p99 {:7.3} ms  {:6.1} µs",
                    round + 1,
                    ways[at].name,
                    thousands(measured.per_second),
                    measured.p50_ms,
                    measured.p99_ms,
                    measured.cpu_us,
                ));
                all[row * ways.len() + at].rounds.push(measured);
            }
        }
    }
    Ok(all)
}

fn stretch(way: &Way, connections: usize, window: Window, dir: &Path) -> Result<Round> {
    settle(dir)?;
    let before = Usage::of(&way.processes)?;
    let sample = load::timed(way.port, &way.request, 200, connections, window)
        .with_context(|| format!("{} at {connections} connections", way.name))?;
    let used = before.until(Usage::of(&way.processes)?);
    let calls = sample.calls.max(1) as f64;
    Ok(Round {
        per_second: sample.rate(),
        p50_ms: sample.quantile(0.5),
        p99_ms: sample.quantile(0.99),
        cpu_us: used.server_cpu / calls * 1e6,
        load_cpu_us: used.load_cpu / calls * 1e6,
        foreign_cores: used.foreign_cores,
    })
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    machine: String,
    how: String,
    series: Vec<Series>,
    targets: Vec<Target>,
    notes: Vec<String>,
}

impl Report {
    fn new(quick: bool, dir: &Path, rounds: usize, seconds: f64, nginx: &str, series: Vec<Series>) -> Self {
        let how = format!(
            "{rounds} rounds, the ways in turn, {seconds:.1} s counted each; medians over the rounds, differences \
             and ratios taken round by round. One worker is read; the load (one thread) shares the cores with the \
             servers. nginx {nginx} with kept connections, no log and no cache."
        );
        let mut report = Report {
            quick,
            machine: machine(dir),
            how,
            series,
            targets: Vec::new(),
            notes: vec![
                "nginx passes bytes on and believes everybody; the caller itself shows the runtime's service token and \
                 names the owner. Control finds the user of a personal token, puts the owner in, signs the request \
                 for this one use, checks the answer and wraps it; the runtime verifies the signature and remembers \
                 its nonce."
                    .to_owned(),
            ],
        };
        report.judge();
        report
    }

    fn find(&self, key: &str, connections: usize) -> Option<&Series> {
        self.series.iter().find(|series| series.key == key && series.connections == connections)
    }

    fn judge(&mut self) {
        let at = |key, connections| self.find(key, connections);
        let (Some(alone), Some(direct)) = (at("control", 1), at("direct", 1)) else { return };
        let (Some(control), Some(nginx), Some(plain)) =
            (at("control", MANY), at("nginx", MANY), at("direct", MANY))
        else {
            return;
        };
        let rate = |one: &Round, other: &Round| one.per_second / other.per_second;
        let added = Compared::new(alone, direct, |one, other| one.p50_ms - other.p50_ms);
        let ratio = Compared::new(control, nginx, rate);
        let against_plain = [("control", control), ("nginx", nginx)].map(|(name, series)| {
            let Compared { median, least, most } = Compared::new(series, plain, rate);
            format!("Against the runtime itself {name} reaches {median:.2} × ({least:.2} to {most:.2}).")
        });
        let behind = at("nginx", 1).map(|nginx| {
            let Compared { median, least, most } =
                Compared::new(nginx, direct, |one, other| one.p50_ms - other.p50_ms);
            format!("nginx adds {median:.3} ms at 1 connection ({least:.3} to {most:.3}).")
        });
        let targets = vec![
            target("p50 that control adds at 1 connection", Bound::AtMost, ADDED_MS, &added, " ms"),
            target("requests/s through control against nginx", Bound::AtLeast, OF_NGINX, &ratio, " ×"),
        ];
        let spread = |of: &str, by: &Compared, unit: &str| {
            format!("{of}: from {:.3} to {:.3}{unit} over the rounds.", by.least, by.most)
        };
        let mut notes = vec![
            spread("p50 that control adds", &added, " ms"),
            spread("Rate through control against nginx", &ratio, " ×"),
        ];
        notes.extend(against_plain);
        notes.extend(behind);
        let foreign = self.series.iter().flat_map(|series| &series.rounds).map(|round| round.foreign_cores);
        let foreign = median(foreign);
        let disturbed = if foreign > 0.2 { ": the figures are disturbed" } else { "" };
        notes.push(format!(
            "Other processes and the kernel kept {foreign:.2} cores busy in the median round{disturbed}."
        ));
        self.targets = targets;
        self.notes.extend(notes);
    }

    fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let quick = if self.quick { ", quick (not the targets' own)" } else { "" };
        writeln!(out, "# The way through control{quick}\n\n{}\n\n{}\n", self.machine, self.how)?;
        writeln!(
            out,
            "| | connections | requests/s | p50 ms | p99 ms | CPU of the servers per request | of the load |\n\
             |---|---:|---:|---:|---:|---:|---:|"
        )?;
        for series in &self.series {
            writeln!(
                out,
                "| {} | {} | {} | {:.3} | {:.3} | {:.1} µs | {:.1} µs |",
                series.name,
                series.connections,
                thousands(series.of(|round| round.per_second)),
                series.of(|round| round.p50_ms),
                series.of(|round| round.p99_ms),
                series.of(|round| round.cpu_us),
                series.of(|round| round.load_cpu_us),
            )?;
        }
        writeln!(out, "\n| target | wanted | measured | |\n|---|---:|---:|---|")?;
        for target in &self.targets {
            writeln!(out, "{}", target.row())?;
        }
        writeln!(out)?;
        for note in &self.notes {
            writeln!(out, "- {note}")?;
        }
        Ok(())
    }
}

fn target(of: &str, bound: Bound, wanted: f64, compared: &Compared, unit: &'static str) -> Target {
    Target { of: of.to_owned(), bound, wanted, measured: compared.median, unit, because: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(key: &'static str, connections: usize, rounds: &[(f64, f64)]) -> Series {
        let round = |(per_second, p50_ms): &(f64, f64)| Round {
            per_second: *per_second,
            p50_ms: *p50_ms,
            p99_ms: 1.0,
            cpu_us: 10.0,
            load_cpu_us: 5.0,
            foreign_cores: 0.0,
        };
        Series { key, name: key, connections, rounds: rounds.iter().map(round).collect() }
    }

    #[test]
    fn differences_and_ratios_are_taken_round_by_round() {
        let all = vec![
            series("direct", 1, &[(1.0, 0.1), (1.0, 0.3), (1.0, 0.2)]),
            series("control", 1, &[(1.0, 0.15), (1.0, 0.38), (1.0, 0.4)]),
            series("direct", MANY, &[(100.0, 1.0), (200.0, 1.0), (100.0, 1.0)]),
            series("nginx", MANY, &[(50.0, 1.0), (100.0, 1.0), (50.0, 1.0)]),
            series("control", MANY, &[(40.0, 1.0), (50.0, 1.0), (35.0, 1.0)]),
        ];
        let report = Report::new(true, Path::new("/"), 3, 0.5, "1.22.1", all);
        let measured: Vec<f64> =
            report.targets.iter().map(|target| (target.measured * 100.0).round()).collect();
        assert_eq!(measured, [8.0, 70.0]);
        assert!(report.targets.iter().all(Target::reached));
        let text = report.markdown();
        assert!(text.contains("from 0.500 to 0.800 ×") && text.contains("signs the request"), "{text}");
    }
}
