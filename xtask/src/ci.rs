//! Decides what must hold before a change lands, and in which order it is found out: the cheapest first.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use clap::Args;

#[derive(Args)]
pub struct Ci {
    /// Leave out format, lints and derived files: only the tests.
    #[arg(long)]
    tests_only: bool,
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
}

impl Ci {
    pub fn run(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        std::env::set_current_dir(crate::root())?;
        install()?;
        if !self.tests_only {
            step("format", &mut cargo(["fmt", "--all", "--check"]))?;
            step("derived files", &mut cargo(["xtask", "sync", "--check"]))?;
            step(
                "lints",
                &mut cargo([
                    "clippy",
                    "--workspace",
                    "--features",
                    FEATURES,
                    "--all-targets",
                    "--quiet",
                    "--",
                    "-D",
                    "warnings",
                ]),
            )?;
            step(
                "what must not compile",
                &mut cargo(["test", "--doc", "--quiet", "--package", "oa-contract"]),
            )?;
            alert_rules()?;
        }
        let modules = node_modules()?;
        let database = Database::start()?;
        let counts = tests(&database, &modules, self.filter.as_deref())?;
        drop(database);
        println!("took {} s", begun.elapsed().as_secs());
        println!("{} passed, {} failed", counts.passed, counts.failed);
        let left_out = if self.filter.is_some() { 0 } else { counts.skipped };
        ensure!(left_out == 0, "{} tests were skipped, and none may be", counts.skipped);
        ensure!(counts.failed == 0 && counts.passed > 0, "not every test passed");
        Ok(())
    }
}

/// What is left out of an ordinary build, and proved all the same.
const FEATURES: &str = "oa/ldk,oa/otlp,oa-lightning-ldk/ldk";

fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let begun = Instant::now();
    println!("== {name}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{name}: cannot be run"))?;
    ensure!(status.success(), "{name}: failed");
    println!("   {} s", begun.elapsed().as_secs());
    Ok(())
}

/// What a bare Debian with Rust lacks. Nothing is installed that is there already.
fn install() -> anyhow::Result<()> {
    let mut packages = Vec::new();
    if !exists("postgres") && !Path::new("/usr/lib/postgresql/15/bin/postgres").exists() {
        packages.push("postgresql");
    }
    if !exists("nats-server") && !Path::new("/usr/sbin/nats-server").exists() {
        packages.push("nats-server");
    }
    if !exists("setpriv") {
        packages.push("util-linux");
    }
    if !exists("cc") {
        packages.push("gcc");
        packages.push("libc6-dev");
    }
    if !exists("node") {
        packages.push("nodejs");
    }
    if !exists("npm") {
        packages.push("npm");
    }
    if !packages.is_empty() {
        step("package lists", Command::new("apt-get").args(["update", "-qq"]))?;
        let mut apt = Command::new("apt-get");
        step(
            "packages",
            // In this runlevel no service is started.
            apt.env("DEBIAN_FRONTEND", "noninteractive")
                .env("RUNLEVEL", "1")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(packages),
        )?;
    }
    install_codex()?;
    if !exists("cargo-nextest") {
        step("cargo nextest", &mut cargo(["install", "--locked", "cargo-nextest"]))?;
    }
    Ok(())
}

fn exists(program: impl AsRef<OsStr>) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program.as_ref()).is_file())
}

/// Where Prometheus' own checker of rules lies, unless one is installed.
const PROMETHEUS: &str = "target/tools/prometheus";

/// The rules are what they seem to Prometheus, and call when they should. The package is unpacked and not installed:
/// installed, it would start a server.
fn alert_rules() -> anyhow::Result<()> {
    let unpacked = Path::new(PROMETHEUS).join("usr/bin/promtool");
    let promtool = if exists("promtool") { PathBuf::from("promtool") } else { unpacked.clone() };
    if promtool == unpacked && !unpacked.is_file() {
        fs::create_dir_all(PROMETHEUS)?;
        step("package lists", Command::new("apt-get").args(["update", "-qq"]))?;
        let mut download = Command::new("apt-get");
        step("promtool", download.args(["download", "-qq", "prometheus"]).current_dir(PROMETHEUS))?;
        let package = fs::read_dir(PROMETHEUS)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
            .context("apt-get downloaded no package")?;
        step("promtool unpacked", Command::new("dpkg").arg("-x").arg(&package).arg(PROMETHEUS))?;
        fs::remove_file(package)?;
    }
    step("alert rules", Command::new(&promtool).args(["check", "rules", "deploy/alerts.yaml"]))?;
    step("when alerts call", Command::new(&promtool).args(["test", "rules", "deploy/alerts.test.yaml"]))
}

/// The codex that `oa codex-worker` is tested with, unless `OA_TEST_CODEX` names another. One package with a static
/// binary in it, about 400 MB; no scripts of it run.
const CODEX_VERSION: &str = "0.169.0";
const CODEX: &str = "target/tools/codex";

fn install_codex() -> anyhow::Result<()> {
    let package = Path::new(CODEX).join("node_modules/@openai/codex/package.json");
    let there = fs::read_to_string(package)
        .is_ok_and(|text| text.contains(&format!("\"version\": \"{CODEX_VERSION}\"")));
    if there || std::env::var_os("OA_TEST_CODEX").is_some() {
        return Ok(());
    }
    let arguments =
        ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", CODEX];
    step("codex", Command::new("npm").args(arguments).arg(format!("@openai/codex@{CODEX_VERSION}")))
}

/// The readers of the UI message stream, as `crates/acceptance/js` pins them, installed once beside the other
/// things that are built. Says where they are.
fn node_modules() -> anyhow::Result<PathBuf> {
    let source = Path::new("crates/acceptance/js");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let place = target.join("acceptance-js");
    let modules = std::path::absolute(place.join("node_modules"))?;
    let lock = fs::read(source.join("package-lock.json"))?;
    // The lock is copied last, so that an installation that broke off is begun again.
    let installed = place.join("installed-package-lock.json");
    if fs::read(&installed).is_ok_and(|known| known == lock) && modules.is_dir() {
        return Ok(modules);
    }
    fs::create_dir_all(&place)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), place.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&place);
    step("node modules", &mut npm)?;
    fs::write(installed, lock)?;
    Ok(modules)
}

/// A throw-away PostgreSQL on a free loopback port, ended when it is dropped.
struct Database {
    url: String,
    directory: String,
}

impl Database {
    fn start() -> anyhow::Result<Self> {
        println!("== PostgreSQL");
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let output = Command::new("scripts/postgres-for-tests")
            .arg("start")
            .env("OA_TEST_POSTGRES_PORT", port.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "PostgreSQL could not be started");
        let text = String::from_utf8(output.stdout)?;
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned).with_context(|| format!("PostgreSQL started without saying {name}"))
        };
        Ok(Database { url: value("OA_TEST_POSTGRES_URL")?, directory: value("OA_TEST_POSTGRES_DIR")? })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let stopped = Command::new("scripts/postgres-for-tests")
            .arg("stop")
            .env("OA_TEST_POSTGRES_DIR", &self.directory)
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("PostgreSQL in {} could not be stopped", self.directory);
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs every test of the workspace on both engines, and reads the counts off the runner's last line.
fn tests(database: &Database, modules: &Path, filter: Option<&str>) -> anyhow::Result<Counts> {
    println!("== tests");
    let mut command =
        cargo(["nextest", "run", "--workspace", "--no-fail-fast", "--cargo-quiet", "--color", "never"]);
    command
        .args(["--features", FEATURES])
        .args(filter)
        .env("OA_TEST_POSTGRES_URL", &database.url)
        .env("OA_TEST_NODE_MODULES", modules)
        .env("NEXTEST_STATUS_LEVEL", "slow")
        .env("NEXTEST_FINAL_STATUS_LEVEL", "fail");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stderr.take().context("the test runner has no output")?).lines();
    let mut counts = None;
    for line in lines {
        let line = line?;
        eprintln!("{line}");
        counts = summary(&line).or(counts);
    }
    let status = child.wait()?;
    match counts {
        Some(counts) => Ok(counts),
        None => bail!("the test runner ended with {status} and without a summary"),
    }
}

/// `Summary [   1.0s] 12 tests run: 11 passed (1 slow), 1 failed, 0 skipped`.
fn summary(line: &str) -> Option<Counts> {
    let (_, tail) = line.trim_start().strip_prefix("Summary [")?.split_once("run:")?;
    let mut counts = Counts::default();
    for part in tail.split(',') {
        let mut words = part.split_whitespace();
        let number = words.next()?.parse().ok()?;
        match words.next()? {
            "passed" => counts.passed = number,
            "failed" | "timed" => counts.failed += number,
            "skipped" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_off_the_runners_last_line() {
        let line = "     Summary [   0.153s] 14/15 tests run: 11 passed (1 slow, 1 flaky), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(summary(line), Some(Counts { passed: 11, failed: 3, skipped: 3 }));
        assert_eq!(
            summary("     Summary [   0.062s] 14 tests run: 14 passed, 0 skipped"),
            Some(Counts { passed: 14, failed: 0, skipped: 0 })
        );
        assert_eq!(summary("PASS something"), None);
    }
}
