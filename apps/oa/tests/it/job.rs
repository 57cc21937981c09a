//! `oa job run` as a person uses it: a repository, a command, real sandboxes, and money that moves once.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use oa_testkit::Http;
use serde_json::Value;

use crate::server::oa;

/// `oa up` on ports of its own.
struct Up {
    child: Child,
    data: PathBuf,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Up {
    async fn start(home: &Path) -> Self {
        let data = home.join("data");
        let log = fs::File::create(home.join("up.log")).unwrap();
        let child = oa()
            .arg("--data")
            .arg(&data)
            .args(["up", "--runtime-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut up = Up { child, data };
        let begun = Instant::now();
        while !up.data.join("endpoints.json").exists() {
            let said = || fs::read_to_string(home.join("up.log")).unwrap_or_default();
            assert!(up.child.try_wait().unwrap().is_none(), "it ended early: {}", said());
            assert!(begun.elapsed() < Duration::from_secs(60), "it did not start: {}", said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        up
    }

    fn http(&self) -> Http {
        let endpoints: Value =
            serde_json::from_slice(&fs::read(self.data.join("endpoints.json")).unwrap()).unwrap();
        let token = fs::read_to_string(self.data.join("keys/service.token")).unwrap();
        Http::new(endpoints["runtime"].as_str().unwrap().to_owned(), Some(token.trim().to_owned()))
    }

    fn oa(&self, words: &[&str]) -> Command {
        let mut command = oa();
        command.arg("--data").arg(&self.data).args(words);
        command
    }

    fn job(&self, repository: &Path, words: &[&str]) -> Command {
        let mut command = self.oa(&["job", "run", "--timeout", "60", "--repo"]);
        command.arg(repository).args(words);
        command
    }

    /// What is reserved and what was spent.
    async fn account(&self) -> (u64, u64) {
        let told = self.http().get("/internal/v1/treasury/compute/summary?owner_user_id=1").await.json();
        let account = &told["account"];
        (account["reserved_msats"].as_u64().unwrap(), account["spent_msats"].as_u64().unwrap())
    }

    async fn strikes(&self) -> u64 {
        let told = self.http().get("/internal/v1/marketplace/catalog/providers").await.json();
        told["providers"].as_array().unwrap().iter().map(|one| one["failure_strikes"].as_u64().unwrap()).sum()
    }

    async fn status(&self, run: &str) -> String {
        let told = self.http().get(&format!("/internal/v1/runs/{run}")).await.json();
        told["run"]["status"].as_str().unwrap().to_owned()
    }
}

fn repository(home: &Path) -> PathBuf {
    let path = home.join("repository");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), "content\n").unwrap();
    for words in [&["init", "-b", "main"][..], &["add", "."], &["commit", "-m", "first"]] {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-C", path.to_str().unwrap()])
            .args(words)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    // What is not committed is not the job's.
    fs::write(path.join("file"), "changed\n").unwrap();
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The run that a command said it opened.
fn run_of(said: &str) -> String {
    let line =
        said.lines().find_map(|line| line.strip_prefix("oa: run ")).unwrap_or_else(|| panic!("{said}"));
    line[..36].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_in_a_sandbox_is_run_once_more_and_paid_and_its_proof_holds_offline() {
    let home = tempfile::tempdir().unwrap();
    let up = Up::start(home.path()).await;
    let source = repository(home.path());
    let done = up.job(&source, &["--providers", "--", "sh", "-c", "echo hi; cat file"]).output().unwrap();
    let said = text(&done.stderr);
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(0), "hi\ncontent\n"), "{said}");
    assert!(said.contains("ran it once more and came to the same"), "{said}");
    assert!(said.contains("paid: 1000 msats to "), "{said}");
    assert!(said.contains("it was asked for by name"), "{said}");
    assert_eq!((up.account().await, up.strikes().await), ((0, 1005), 0));
    let run = run_of(&said);
    assert_eq!(up.status(&run).await, "succeeded");
    let proof = home.path().join("proof.jsonl");
    let exported = up.oa(&["runs", "export", &run]).arg(&proof).output().unwrap();
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let events = fs::read_to_string(&proof).unwrap();
    for name in ["JobDispatched", "JobCompleted", "QuoteCommitted", "VerificationPassed", "PaymentReleased"] {
        assert!(events.contains(name), "{name}");
    }
    drop(up);
    let verified: Output = oa().args(["runs", "verify"]).arg(&proof).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_gives_its_code_and_is_neither_paid_nor_held_against_anybody() {
    let home = tempfile::tempdir().unwrap();
    let up = Up::start(home.path()).await;
    let source = repository(home.path());
    let failing = ["--", "sh", "-c", "echo oh >&2; exit 7"];
    let done = up.job(&source, &failing).output().unwrap();
    let said = text(&done.stderr);
    assert_eq!((done.status.code(), done.stdout.len()), (Some(7), 0), "{said}");
    assert!(said.contains("oh\n") && said.contains("paid: nothing"), "{said}");
    assert_eq!((up.account().await, up.strikes().await), ((0, 0), 0));
    assert_eq!(up.status(&run_of(&said)).await, "failed");
    // The same for a program, in one document; and a job that was done before is done again.
    let done = up.oa(&["-o", "json", "job", "run", "--repo"]).arg(&source).args(failing).output().unwrap();
    let told: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done.stderr)));
    assert_eq!((done.status.code(), &told["exit_code"]), (Some(7), &Value::from(7)));
    assert_eq!(
        (&told["settlement_status"], &told["paid"]["provider_msats"]),
        (&"withheld".into(), &0.into())
    );
    assert_eq!(told["violations"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_while_the_job_runs_and_a_job_that_is_taken_back_costs_nothing() {
    let home = tempfile::tempdir().unwrap();
    let up = Up::start(home.path()).await;
    let source = repository(home.path());
    let mut job = up
        .job(&source, &["--", "sh", "-c", "echo begun; sleep 50"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let mut line = String::new();
    BufReader::new(job.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    assert!(Command::new("kill").args(["-TERM", &job.id().to_string()]).status().unwrap().success());
    let mut said = String::new();
    job.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(job.wait().unwrap().code(), Some(128 + 15), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(45), "it did not wait for the job: {said}");
    assert_eq!((up.account().await, up.strikes().await), ((0, 0), 0));
    assert_eq!(up.status(&run_of(&said)).await, "canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_what_to_do_about_it() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let source = repository(home.path());
    let job = |words: &[&str]| {
        let done = oa().arg("--data").arg(&data).args(["job", "run"]).args(words).output().unwrap();
        (done.status.code(), text(&done.stderr))
    };
    let source = source.to_str().unwrap();
    let nowhere = ["--runtime-url", "http://127.0.0.1:1", "--repo", source, "--", "true"];
    let (code, said) = job(&nowhere);
    assert!(code == Some(125) && said.contains("`oa up`"), "{code:?} {said}");
    let (code, said) = job(&["--repo", home.path().to_str().unwrap(), "--", "true"]);
    assert!(
        code == Some(2) && said.contains("no git repository") && said.contains("--repo"),
        "{code:?} {said}"
    );
    let (code, said) = job(&["--repo", source, "--git-ref", "no-such", "--", "true"]);
    assert!(code == Some(2) && said.contains("no-such"), "{code:?} {said}");
    let (code, said) = job(&["--repo", "https://example.com/r.git", "--", "true"]);
    assert!(code == Some(2) && said.contains("--provider any"), "{code:?} {said}");
}
