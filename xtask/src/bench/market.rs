//! Decides how the market is measured: what a dispatch costs beyond the command itself, how many payments are held and
//! settled in a second against PostgreSQL, and how long choosing among many providers takes.
//!
//! A dispatch goes through everything that is real: the runtime's process, its store, HTTP, the process of `oa
//! provider`, and a sandbox. What it is compared with is the same shell command, started by this program.

mod ledger;
mod report;
mod stage;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use oa_contract::{Owner, Timestamp, wire::jobs::Resources, wire::workers::WorkerStatus};
use oa_market::{Index, Need, Offer, Standing};
use serde_json::{Value, json};

use self::{
    report::{Report, Series},
    stage::{COMMAND, Stage},
};
use super::{
    MANY,
    baselines::Postgres,
    cargo,
    load::{self, Window},
    process::{Scratch, finish, settle},
    progress,
    table::thousands,
};

const PROVIDERS: u64 = 10_000;
const SANDBOX_RUN: &str = "oa.sandbox_run.v1";

#[derive(Args)]
pub struct Market {
    /// How long each stretch of payments is counted.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often every subject has its turn; the medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Dispatches in each round.
    #[arg(long, default_value_t = 100)]
    dispatches: usize,
    /// Two short rounds: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Measure this program instead of building one.
    #[arg(long)]
    oa_binary: Option<PathBuf>,
    /// Where the raw figures go. By default `bench/market.json` among the build's output.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Market {
    /// Nothing is to be built for speed.
    pub fn only_works(&self) -> bool {
        self.quick && self.oa_binary.is_some()
    }
}

pub fn run(arguments: &Market) -> Result<()> {
    let (rounds, seconds, dispatches) = match arguments.quick {
        true => (2, 0.5, 10),
        false => (arguments.rounds, arguments.seconds, arguments.dispatches),
    };
    ensure!(rounds > 0 && seconds > 0.0 && dispatches > 0, "nothing to measure");
    let window = Window {
        warm: Duration::from_secs_f64((seconds / 5.0).min(0.5)),
        measured: Duration::from_secs_f64(seconds),
    };
    let built = std::env::current_exe()?.parent().context("the bench is in no directory")?.to_owned();
    let kept = built.parent().unwrap_or(&built).join("bench");
    fs::create_dir_all(&kept)?;
    let scratch = Scratch::new(&kept)?;
    let dir = scratch.path();
    let program = match &arguments.oa_binary {
        Some(given) => given.canonicalize().with_context(|| given.display().to_string())?,
        None => {
            progress("building oa for release");
            finish(Command::new(cargo()).args(["build", "--release", "--package", "oa"]))?;
            built.join("oa")
        }
    };
    let mut report = Report::new(arguments.quick, dir, (rounds, seconds, dispatches));

    progress("starting a runtime and a provider");
    let mut stage = Stage::set(&program, dir)?;
    let mut dispatched = Series::new("dispatch", "a dispatch, to the answer", 1);
    let mut alone = Series::new("command", "the same command, fork and exec", 1);
    for round in 1..=rounds {
        settle(dir)?;
        // In turn, one by one: whatever disturbs the one disturbs the other.
        let (mut there, mut here) = (Vec::new(), Vec::new());
        for _ in 0..dispatches {
            here.push(forked()?);
            there.push(stage.dispatch()?);
        }
        alone.took(round, here);
        dispatched.took(round, there);
    }
    report.series.extend([dispatched, alone]);

    let mut settled = Series::new("settle", "settlements over HTTP, whole", MANY);
    let count = if arguments.quick { 200 } else { 5_000 };
    for round in 1..=rounds {
        settle(dir)?;
        let requests = stage.settlements(round, count)?;
        let began = Instant::now();
        load::counted(stage.runtime.port, &requests, 200, count, stage::released)?;
        settled.rate(round, count as f64 / began.elapsed().as_secs_f64());
    }
    stage.stop()?;
    report.series.push(settled);

    progress("starting a ledger of its own, and PostgreSQL");
    let ours = ledger::Ledger::open(&dir.join("ledger.db"))?;
    let postgres = Postgres::start(dir, 1)
        .and_then(|postgres| postgres.open_accounts(ledger::ACCOUNTS).map(|()| postgres))
        .inspect_err(|error| report.notes.push(format!("PostgreSQL was not measured: {error:#}.")))
        .ok();
    let mut pairs = Series::new("pairs", "held and captured, two acknowledged writes", MANY);
    let mut transfers = Series::new("postgres", "PostgreSQL, two rows locked and moved", MANY);
    for round in 1..=rounds {
        settle(dir)?;
        pairs.rate(round, ours.pairs(window, MANY)?);
        if let Some(postgres) = &postgres {
            settle(dir)?;
            transfers.rate(round, postgres.transfers(window, MANY, ledger::ACCOUNTS)?.rate());
            postgres.settle()?;
        }
    }
    ours.close();
    if let Some(postgres) = postgres {
        report.notes.push(format!(
            "PostgreSQL {} with its defaults: both accounts locked in the order of their numbers, both updated, one \
             entry inserted, committed; prepared statements over TCP. Both sides move between the same {} accounts.",
            postgres.version,
            thousands(ledger::ACCOUNTS as f64)
        ));
        postgres.stop()?;
    }
    report.series.push(pairs);
    if !transfers.is_empty() {
        report.series.push(transfers);
    }

    progress(&format!("choosing among {} providers", thousands(PROVIDERS as f64)));
    let index = market();
    for (key, name, resources) in [
        ("select", "choosing among 10,000", Resources::default()),
        (
            "select-long",
            "choosing where nine of ten cannot do it",
            Resources { timeout_secs: 300, ..Resources::default() },
        ),
    ] {
        let mut series = Series::new(key, name, 1);
        for round in 1..=rounds {
            series.took(round, choices(&index, &resources, if arguments.quick { 1_000 } else { 100_000 })?);
        }
        report.series.push(series);
    }

    report.judge();
    let json = arguments.json.clone().unwrap_or_else(|| kept.join("market.json"));
    fs::write(&json, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    progress(&format!("wrote {}", json.display()));
    print!("{}", report.markdown());
    Ok(())
}

/// The command as a shell runs it, nothing around it.
fn forked() -> Result<Duration> {
    let began = Instant::now();
    let mut shell = Command::new("/bin/sh");
    let status = shell.args(["-c", COMMAND]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{COMMAND} ended with {status}");
    Ok(began.elapsed())
}

/// Providers of many owners, all in the reserve pool, of ten prices; nine of ten take a minute at most, and a third is
/// not heard of any more.
fn market() -> Index {
    let now = Timestamp::from_unix_seconds(1_772_000_000);
    let mut index = Index::default();
    for n in 0..PROVIDERS {
        let longest = if n % 10 == 0 { 300 } else { 60 };
        let metadata: Value = json!({
            "roles": ["provider"], "provider_id": format!("prov-{n}"), "provider_base_url": "http://p.example",
            "capabilities": [SANDBOX_RUN], "min_price_msats": 1_000 + n % 10 * 100,
            "caps": {"max_timeout_secs": longest, "max_memory_mb": 4_096, "max_cpus": 2.0},
        });
        let standing = Standing {
            worker_id: format!("provider:{n}"),
            owner: Owner::User(1_000 + n % 500),
            adapter: "bench".into(),
            status: WorkerStatus::Running,
            last_heartbeat_at: Some(now.plus_millis(if n % 3 == 0 { -200_000 } else { -1_000 })),
            updated_at: now,
            latest_seq: 1,
            failure_strikes: 0,
            success_count: n % 7,
            quarantine: None,
            price_integrity_samples: 0,
            price_integrity_violations: 0,
            last_price_variance_bps: None,
            reserve_pool: true,
            qualified: true,
        };
        let offer = Offer::read(standing, &metadata);
        index.put(&format!("provider:{n}"), offer);
    }
    index.settle(now, 120_000);
    index
}

fn choices(index: &Index, resources: &Resources, count: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(count);
    for n in 0..count {
        let owner = Owner::User(n as u64 % 2_000);
        let need = Need {
            capability: SANDBOX_RUN,
            owner: &owner,
            resources: Some(resources),
            now: Timestamp::from_unix_seconds(1_772_000_000),
            stale_after_ms: 120_000,
        };
        let began = Instant::now();
        let ranked = std::hint::black_box(index.rank(need, 8));
        took.push(began.elapsed());
        ensure!(!ranked.candidates.is_empty(), "nobody was chosen");
    }
    Ok(took)
}

/// Whole requests, shared by the callers.
type Requests = Rc<Vec<Vec<u8>>>;
