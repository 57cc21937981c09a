//! Decides what `cargo xtask bench` measures, in which order, and what it reaches for.
//!
//! Everything a ratio is made of is measured in the same run, and the subjects take turns round by round,
//! so that a machine that slows down slows them all down.

mod baselines;
mod load;
mod market;
mod process;
mod proxy;
mod scale;
mod svg;
mod table;

use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};

pub use baselines::parse_server;
use baselines::{Peer, Postgres, RawDisk};
use load::{Requests, Sample, Window};
use process::{Ready, Scratch, Server, Usage, finish, free_port, settle};
use table::{Point, Report, Series, thousands};

const EVENT_TYPE: &str = "run.step.completed";
const EVENT_BYTES: usize = 140;
/// How many connections "many" is; the other width is one.
const MANY: usize = 64;

#[derive(Subcommand)]
pub enum Bench {
    /// Durable appends per second and their latency, against the disk, PostgreSQL and others.
    Append(Append),
    /// What a request pays for going through control, against the runtime itself and against nginx (installed when
    /// absent).
    Proxy(proxy::Proxy),
    /// What a dispatch costs beyond its command, payments a second against PostgreSQL, choosing among 10,000.
    Market(market::Market),
    /// One, two and three replicas on one PostgreSQL, and how soon a follower of one sees what another has committed.
    Scale(scale::Scale),
}

#[derive(Args)]
pub struct Append {
    /// How long each stretch is counted.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often every subject has its turn; the medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure the closest peer too, the server of the crate `durable-streams` (installs it at first).
    #[arg(long)]
    peers: bool,
    /// Small sizes: one minute instead of five. The report says so.
    #[arg(long)]
    quick: bool,
    /// Measure this program instead of building one.
    #[arg(long)]
    oa_binary: Option<PathBuf>,
    /// Where the picture goes; the raw figures go next to it as JSON. By default `bench/append.svg` among the build's output.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// On which disk to measure. By default among the build's output.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// How much there is of everything.
struct Sizes {
    window: Window,
    rounds: usize,
    runs: usize,
    long_run: usize,
    stored_runs: usize,
    stored_events: usize,
    restarts: usize,
}

impl Append {
    fn sizes(&self) -> Sizes {
        if self.quick {
            Sizes {
                window: Window::of(self.seconds.min(1.0)),
                rounds: self.rounds.min(2),
                runs: 1_000,
                long_run: 1_000,
                stored_runs: 5_000,
                stored_events: 50_000,
                restarts: 2,
            }
        } else {
            Sizes {
                window: Window::of(self.seconds),
                rounds: self.rounds,
                runs: 1_000,
                long_run: 10_000,
                stored_runs: 100_000,
                stored_events: 1_000_000,
                restarts: 5,
            }
        }
    }
}

pub fn run(bench: Bench) -> Result<()> {
    // Whether it works can be seen without speed.
    let works = match &bench {
        Bench::Market(market) => market.only_works(),
        Bench::Scale(scale) => scale.only_works(),
        Bench::Append(_) | Bench::Proxy(_) => false,
    };
    if cfg!(debug_assertions) && !works {
        // The load and the parse-only server are part of the figures, so they too must be built for speed.
        progress("building the bench for release");
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let mut again = Command::new(cargo());
        again.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(arguments);
        return Err(again.exec()).context("starting the release build of the bench");
    }
    match bench {
        Bench::Append(append) => run_append(&append),
        Bench::Proxy(proxy) => proxy::run(&proxy),
        Bench::Market(market) => market::run(&market),
        Bench::Scale(scale) => scale::run(&scale),
    }
}

/// Where the build put this bench.
fn built() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("the bench is in no directory")?.to_owned())
}

/// Where raw figures and scratch go: beside what was built.
fn kept() -> Result<PathBuf> {
    let built = built()?;
    let kept = built.parent().unwrap_or(&built).join("bench");
    fs::create_dir_all(&kept)?;
    Ok(kept)
}

/// The program that is measured: the given one, or one built for speed.
fn program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return given.canonicalize().with_context(|| given.display().to_string());
    }
    progress("building oa for release");
    finish(Command::new(cargo()).args(["build", "--release", "--package", "oa"]))?;
    Ok(built()?.join("oa"))
}

fn run_append(arguments: &Append) -> Result<()> {
    ensure!(arguments.rounds > 0 && arguments.seconds > 0.0, "nothing to measure");
    let sizes = arguments.sizes();
    let kept = kept()?;
    let svg = arguments.svg.clone().unwrap_or_else(|| kept.join("append.svg"));
    let scratch = Scratch::new(arguments.dir.as_deref().unwrap_or(&kept))?;
    let dir = scratch.path();

    let program = program(arguments.oa_binary.as_deref())?;

    let mut report = Report {
        quick: arguments.quick,
        machine: machine(dir),
        how: how(&sizes),
        series: Vec::new(),
        restarts: Vec::new(),
        restarts_cpu: Vec::new(),
        targets: Vec::new(),
        notes: Vec::new(),
    };

    let oa = Oa::start(&program, dir.join("oa"))?;
    let runs = oa.create_runs(sizes.runs)?;
    let main = oa.appends(&runs);
    let appended = compare(&mut report, arguments, &sizes, dir, &kept, &oa, &main)?;
    compare_sizes(&mut report, &sizes, dir, &program)?;
    restart(&mut report, &sizes, oa, &main, appended)?;

    report.compare(format!("appends/s at {MANY} connections against (a), parsing alone"), "oa", "parse", 0.5);
    report.compare(
        format!("appends/s at {MANY} connections against (d), the closest peer"),
        "oa",
        "peer",
        1.0,
    );
    report.compare_latency();
    let long = thousands(sizes.long_run as f64);
    report.compare(format!("rate on runs of {long} events against fresh ones"), "oa-long", "oa-fresh", 0.9);
    let stored = thousands(sizes.stored_runs as f64);
    report.compare(
        format!("rate with {stored} runs in the store against none before"),
        "oa-full",
        "oa-empty",
        0.9,
    );
    report.judge_restart(thousands(sizes.stored_events as f64));

    let json = svg.with_extension("json");
    for (path, text) in [(&svg, svg::draw(&report)), (&json, serde_json::to_string_pretty(&report)?)] {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        progress(&format!("wrote {}", path.display()));
    }
    print!("{}", report.markdown());
    Ok(())
}

/// `oa` and the baselines in turn. Returns how many events `oa` took.
fn compare(
    report: &mut Report,
    arguments: &Append,
    sizes: &Sizes,
    dir: &Path,
    kept: &Path,
    oa: &Oa,
    main: &Requests,
) -> Result<u64> {
    progress("starting the baselines");
    let parse = baselines::start_parse_server(dir)?;
    let raw = RawDisk::prepare(dir)?;
    // The two that come from elsewhere may be missing here; the report then goes without them, and says so.
    let notes = &mut report.notes;
    let postgres = Postgres::start(dir, sizes.runs)
        .inspect_err(|error| notes.push(format!("(c) PostgreSQL was not measured: {error:#}.")))
        .ok();
    let peer = arguments
        .peers
        .then(|| Peer::start(&kept.join("peers"), dir, &event_body(), sizes.runs))
        .and_then(|peer| {
            peer.inspect_err(|error| notes.push(format!("(d) the closest peer was not measured: {error:#}.")))
                .ok()
        });
    let payload = event_payload();
    let postgres_name =
        postgres.as_ref().map_or(String::new(), |postgres| format!("(c) PostgreSQL {}", postgres.version));

    let widths = [1, MANY];
    let pair = |key, name: &str| widths.map(|connections| Series::new(key, name, connections));
    let mut oa_series = pair("oa", "oa");
    let mut parse_series = pair("parse", "(a) axum, parsing alone");
    let mut raw_series = Series::new("raw", "(b) raw `fdatasync`, 4 KiB", 1);
    let mut postgres_series = pair("postgres", &postgres_name);
    let mut peer_series = pair("peer", &format!("(d) {}", Peer::name()));
    let mut appended = 0;

    for round in 1..=sizes.rounds {
        for (n, connections) in widths.into_iter().enumerate() {
            let turn = |series: &mut Series, server, work: &dyn Fn() -> Result<Sample>| {
                measure(round, sizes.rounds, dir, series, server, work)
            };
            appended += turn(&mut oa_series[n], Some(oa.server.id()), &|| {
                load::timed(oa.server.port, main, Oa::APPENDED, connections, sizes.window)
            })?;
            turn(&mut parse_series[n], Some(parse.id()), &|| {
                load::timed(parse.port, main, Oa::APPENDED, connections, sizes.window)
            })?;
            if connections == 1 {
                turn(&mut raw_series, None, &|| raw.timed(sizes.window))?;
            }
            if let Some(postgres) = &postgres {
                turn(&mut postgres_series[n], None, &|| postgres.timed(&payload, connections, sizes.window))?;
                postgres.settle()?;
            }
            if let Some(peer) = &peer {
                turn(&mut peer_series[n], Some(peer.server.id()), &|| {
                    load::timed(peer.server.port, &peer.requests, Peer::APPENDED, connections, sizes.window)
                })?;
            }
        }
    }
    if let Some(postgres) = postgres {
        postgres.stop()?;
    }
    report.notes.push(
        "(b) is one thread writing in place; (c) has its default settings and prepared, self-committed inserts over \
         TCP; (d) has its default settings (an append is answered after `fdatasync`) and parses JSON too."
            .into(),
    );
    report.series.extend(oa_series);
    report.series.extend(parse_series);
    report.series.push(raw_series);
    report.series.extend(postgres_series);
    report.series.extend(peer_series);
    Ok(appended)
}

/// Does the rate depend on how long a run is, or on how many runs there are? Stretches of a second or less,
/// so that the fresh runs do not grow long while they are measured; twice the rounds in exchange.
fn compare_sizes(report: &mut Report, sizes: &Sizes, dir: &Path, program: &Path) -> Result<()> {
    const RUNS_AT_ONCE: usize = 8;
    let measured = sizes.window.measured.min(Duration::from_secs(1));
    let window = Window { warm: measured / 5, measured };
    let rounds = sizes.rounds * 2;

    let empty = Oa::start(program, dir.join("oa-empty"))?;
    let empty_runs = empty.appends(&empty.create_runs(sizes.runs)?);
    progress(&format!("filling {RUNS_AT_ONCE} runs with {} events each", thousands(sizes.long_run as f64)));
    let long = empty.appends(&empty.create_runs(RUNS_AT_ONCE)?);
    load::counted(empty.server.port, &long, Oa::APPENDED, sizes.long_run * RUNS_AT_ONCE, |_| Ok(()))?;

    let long_name = thousands(sizes.long_run as f64);
    let mut fresh_series = Series::new("oa-fresh", "oa, 8 fresh runs", MANY);
    let mut long_series = Series::new("oa-long", format!("oa, 8 runs of {long_name} events"), MANY);
    for round in 1..=rounds {
        let fresh = empty.appends(&empty.create_runs(RUNS_AT_ONCE)?);
        for (series, requests) in [(&mut fresh_series, &fresh), (&mut long_series, &long)] {
            empty.measure(round, rounds, dir, series, requests, window)?;
        }
    }

    progress(&format!("creating {} runs", thousands(sizes.stored_runs as f64)));
    let full = Oa::start(program, dir.join("oa-full"))?;
    let ids = full.create_runs(sizes.stored_runs)?;
    // As many as in the empty store, from all over the full one.
    let some: Vec<String> = ids.iter().step_by(sizes.stored_runs / sizes.runs).cloned().collect();
    let (some, all) = (full.appends(&some), full.appends(&ids));
    let stored = thousands(sizes.stored_runs as f64);
    let mut empty_series = Series::new("oa-empty", "oa, store empty before", MANY);
    let mut full_series = Series::new("oa-full", format!("oa, {stored} runs in the store"), MANY);
    let mut all_series = Series::new("oa-all", format!("oa, onto all of {stored} runs"), MANY);
    for round in 1..=rounds {
        empty.measure(round, rounds, dir, &mut empty_series, &empty_runs, window)?;
        full.measure(round, rounds, dir, &mut full_series, &some, window)?;
        full.measure(round, rounds, dir, &mut all_series, &all, window)?;
    }
    report.series.extend([fresh_series, long_series, empty_series, full_series, all_series]);
    empty.server.stop()?;
    full.server.stop()
}

/// How soon it is ready again with many events in its store, and whether it kept what it acknowledged.
fn restart(report: &mut Report, sizes: &Sizes, mut oa: Oa, main: &Requests, appended: u64) -> Result<()> {
    let missing = sizes.stored_events.saturating_sub(usize::try_from(appended)?);
    let mut events = appended + missing as u64;
    let least = events;
    progress(&format!(
        "filling up with {} events to {} for the restart",
        thousands(missing as f64),
        thousands(sizes.stored_events as f64)
    ));
    if missing > 0 {
        load::counted(oa.server.port, main, Oa::APPENDED, missing, |_| Ok(()))?;
    }
    let witness: Requests = Rc::new(vec![main[0].clone()]);
    for _ in 0..sizes.restarts {
        // Killed right after work, so that there is something to recover.
        let window = Window { warm: Duration::ZERO, measured: Duration::from_secs(1) };
        events += load::timed(oa.server.port, main, Oa::APPENDED, MANY, window)?.calls;
        let before = load::counted(oa.server.port, &witness, Oa::APPENDED, 1, seq)?;
        oa = oa.kill_and_start()?;
        report.restarts_cpu.push(process::cpu(&oa.server.id().to_string())?);
        let after = load::counted(oa.server.port, &witness, Oa::APPENDED, 1, seq)?;
        ensure!(
            before[0] + 1 == after[0],
            "the run was at {} when oa was killed, and the next append is {}",
            before[0],
            after[0]
        );
        progress(&format!("ready after {:.3} s", oa.server.took.as_secs_f64()));
        report.restarts.push(oa.server.took.as_secs_f64());
    }
    report.notes.push(format!(
        "The restarts were {} SIGKILLs right after work, with {} to {} events in the store and its files still in \
         the page cache; no acknowledged append of the witness run was lost.",
        sizes.restarts,
        thousands(least as f64),
        thousands(events as f64)
    ));
    oa.server.stop()
}

/// One stretch of one subject. Returns how many calls were answered.
fn measure(
    round: usize,
    rounds: usize,
    dir: &Path,
    series: &mut Series,
    server: Option<u32>,
    work: &dyn Fn() -> Result<Sample>,
) -> Result<u64> {
    settle(dir)?;
    let before = Usage::now(server)?;
    let sample = work().with_context(|| format!("{} at {} connections", series.name, series.connections))?;
    let used = before.until(Usage::now(server)?);
    let point = Point::new(&sample, &used, server.is_some());
    progress(&format!(
        "{round}/{rounds} {:32} {:>2} conn {:>9}/s  p50 {:7.3} ms  p99 {:7.3} ms",
        series.name,
        series.connections,
        thousands(point.appends_per_second),
        point.p50_ms,
        point.p99_ms
    ));
    series.rounds.push(point);
    Ok(sample.calls)
}

/// The server under test.
struct Oa {
    server: Server,
    program: PathBuf,
    data: PathBuf,
    token: String,
}

impl Oa {
    /// The status of an append.
    const APPENDED: u16 = 200;

    fn start(program: &Path, data: PathBuf) -> Result<Self> {
        fs::create_dir_all(&data)?;
        let server = Self::launch(program, &data)?;
        let token = data.join("keys/service.token");
        let token = fs::read_to_string(&token).with_context(|| format!("reading {}", token.display()))?;
        Ok(Oa { server, program: program.into(), data, token: token.trim().into() })
    }

    /// The one place that knows how `oa` is run.
    fn launch(program: &Path, data: &Path) -> Result<Server> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["runtime", "--bind", &format!("127.0.0.1:{port}"), "--data"]).arg(data);
        Server::start(command, port, &Ready::Answering("/readyz"), &data.with_extension("log"))
    }

    /// On another port; the requests written out already name none.
    fn kill_and_start(self) -> Result<Self> {
        self.server.kill()?;
        let server = Self::launch(&self.program, &self.data)?;
        Ok(Oa { server, ..self })
    }

    fn headers(&self) -> String {
        format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", self.token)
    }

    /// Returns their ids.
    fn create_runs(&self, count: usize) -> Result<Vec<String>> {
        let create = load::request("POST", "/internal/v1/runs", &self.headers(), br#"{"metadata":{}}"#);
        load::counted(self.server.port, &Rc::new(vec![create]), 201, count, |answer| {
            let answer: serde_json::Value = serde_json::from_slice(answer)?;
            let id = answer.pointer("/run/id").and_then(|id| id.as_str());
            Ok(id.context("a created run without its id")?.to_owned())
        })
    }

    fn appends(&self, runs: &[String]) -> Requests {
        let headers = format!("{}prefer: return=minimal\r\n", self.headers());
        let body = event_body();
        let append = |run| load::request("POST", &format!("/internal/v1/runs/{run}/events"), &headers, &body);
        Rc::new(runs.iter().map(append).collect())
    }

    fn measure(
        &self,
        round: usize,
        rounds: usize,
        dir: &Path,
        series: &mut Series,
        requests: &Requests,
        window: Window,
    ) -> Result<()> {
        let connections = series.connections;
        measure(round, rounds, dir, series, Some(self.server.id()), &|| {
            load::timed(self.server.port, requests, Self::APPENDED, connections, window)
        })?;
        Ok(())
    }
}

/// The place the answered event got in its run.
fn seq(answer: &[u8]) -> Result<u64> {
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    answer.get("seq").and_then(|seq| seq.as_u64()).context("an append answered without its seq")
}

/// The body of every append, padded to its size.
fn event_body() -> Vec<u8> {
    format!(r#"{{"event_type":"{EVENT_TYPE}","payload":{}}}"#, event_payload()).into_bytes()
}

fn event_payload() -> String {
    let around = format!(r#"{{"event_type":"{EVENT_TYPE}","payload":}}"#).len();
    let bare = r#"{"step":1,"label":"compile","note":""}"#.len();
    let note = "padding ".repeat(EVENT_BYTES);
    format!(r#"{{"step":1,"label":"compile","note":"{}"}}"#, &note[..EVENT_BYTES - around - bare])
}

fn how(sizes: &Sizes) -> String {
    format!(
        "{} rounds, the subjects in turn, {:.1} s counted each; medians over the rounds, also of the ratios. \
         Events of {EVENT_BYTES} bytes over {} runs, `Prefer: return=minimal`; the load (one thread) shares the \
         cores with the server.",
        sizes.rounds,
        sizes.window.measured.as_secs_f64(),
        thousands(sizes.runs as f64),
    )
}

fn machine(dir: &Path) -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, name)| name.trim())
        .to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let disk = Command::new("stat").args(["--file-system", "--format=%T"]).arg(dir).output();
    let disk = disk.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    format!("{} cores of {model}, Linux {}, {disk}", cores(), kernel.trim())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn progress(line: &str) {
    eprintln!("bench: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size_and_is_json() -> Result<()> {
        assert_eq!(event_body().len(), EVENT_BYTES);
        let event: serde_json::Value = serde_json::from_slice(&event_body())?;
        assert_eq!(event["payload"]["label"], "compile");
        Ok(())
    }
}
