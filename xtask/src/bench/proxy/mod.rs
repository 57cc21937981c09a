//! Decides how the way through control is measured: against the runtime itself, and against nginx in front of it.
//!
//! All three paths end in the same row of the same runtime and are loaded by the same callers. They do not do the
//! same: nginx copies bytes, control finds out whose token it is, names the owner, signs the request and checks
//! the answer. The figures say what that costs.

mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::report::{Report, Round, Series};
use super::{
    MANY, kept,
    load::{self, Requests, Window},
    process::{Ready, Scratch, Server, Usage, family, finish, free_port, settle},
    program, progress,
    table::thousands,
};

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

pub fn run(arguments: &Proxy) -> Result<()> {
    let (rounds, seconds) = match arguments.quick {
        true => (3, 0.5),
        false => (arguments.rounds, arguments.seconds),
    };
    ensure!(rounds > 0 && seconds > 0.0, "nothing to measure");
    let window = Window::of(seconds);
    let kept = kept()?;
    let scratch = Scratch::new(&kept)?;
    let dir = scratch.path();
    let nginx = nginx_program()?;
    let program = program(arguments.oa_binary.as_deref())?;
    let stage = Stage::set(&program, &nginx, dir)?;
    let series = measure(&stage.ways()?, rounds, window, dir)?;
    let report = Report::new(arguments.quick, dir, (rounds, seconds), &stage.nginx_version, series);
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
    nginx: Nginx,
    nginx_version: String,
    service_token: String,
    personal_token: String,
    owner: u64,
}

/// A master with workers: killed, it would leave them behind, so it is asked to end.
struct Nginx {
    server: Option<Server>,
    id: u32,
    port: u16,
}

impl Nginx {
    fn new(server: Server) -> Self {
        Nginx { id: server.id(), port: server.port, server: Some(server) }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.server.take().map(Server::stop) {
            eprintln!("bench: nginx may still run: {error:#}");
        }
    }
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
        let mut behind_nginx = family(self.nginx.id)?;
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
fn start_nginx(program: &Path, dir: &Path, upstream: u16) -> Result<(Nginx, String)> {
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
    Ok((Nginx::new(server), version))
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
