//! `oa provider` as a runtime and an operator meet it: a real process, a real socket, real sandboxes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oa_testkit::{Answered, Http};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::server::{Server, oa};

pub struct Provider {
    child: Child,
    http: Http,
    data: PathBuf,
    log: PathBuf,
}

impl Provider {
    async fn start(home: &Path, more: &[&str]) -> Self {
        Self::named("prov-a", home, more).await
    }

    async fn named(id: &str, home: &Path, more: &[&str]) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::at(&free.to_string(), id, home, more).await
    }

    pub async fn at(bind: &str, id: &str, home: &Path, more: &[&str]) -> Self {
        let (data, log) = (home.join(format!("{id}-data")), home.join(format!("{id}.log")));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = oa()
            .arg("provider")
            .arg("--data")
            .arg(&data)
            .args(["--bind-addr", bind, "--id", id, "--repositories", home.to_str().unwrap()])
            .args(more)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let http = Http::new(format!("http://{bind}"), None);
        let mut provider = Provider { child, http, data, log };
        let begun = Instant::now();
        while !provider.http.is_ok("/healthz").await {
            let ended = provider.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(60), "{}", provider.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        provider
    }

    async fn alone(home: &Path) -> Self {
        Self::start(home, &["--enrol", "false"]).await
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub async fn run(&self, key: &str, request: &Value) -> Answered {
        self.http.post_with("/v1/sandbox_run", request, &[("x-idempotency-key", key)]).await
    }

    async fn counts(&self) -> (u64, u64) {
        let status = self.http.get("/v1/status").await.json();
        (status["executions"].as_u64().unwrap(), status["cache_hits"].as_u64().unwrap())
    }

    async fn until_running(&self, count: u64) {
        let begun = Instant::now();
        while self.http.get("/v1/status").await.json()["running"] != count {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn job(commands: &[&str]) -> Value {
    let commands: Vec<_> = commands.iter().map(|line| json!({"cmd": line})).collect();
    json!({"sandbox": {"image_digest": "sha256:test"}, "commands": commands})
}

/// A repository with a link, a program and a file in a directory, and a second branch.
fn repository(home: &Path) -> PathBuf {
    let path = home.join("repository");
    fs::create_dir_all(path.join("src")).unwrap();
    fs::write(path.join("greeting.txt"), "hello\n").unwrap();
    fs::write(path.join("src/lib.rs"), "// nothing\n").unwrap();
    fs::write(path.join("run.sh"), "#!/bin/sh\ncat greeting.txt\n").unwrap();
    fs::set_permissions(path.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("greeting.txt", path.join("link")).unwrap();
    let git = |words: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-C", path.to_str().unwrap()])
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "git {words:?}");
    };
    git(&["init", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-m", "first"]);
    git(&["config", "remote.origin.url", "https://user:password@example.com/r.git"]);
    git(&["checkout", "-b", "other"]);
    fs::write(path.join("greeting.txt"), "other\n").unwrap();
    git(&["commit", "-am", "second"]);
    git(&["checkout", "main"]);
    path
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_a_repository_is_answered_as_specified_and_everything_it_said_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let source = repository(home.path());
    let provider = Provider::alone(home.path()).await;
    let mut request = job(&[
        "./run.sh && cat link",
        "printf '%s' \"$WORD\" >&2; mkdir out; seq 1 1000 | tee out/numbers",
        "ls -a; cat /opt/oa/repository/config",
    ]);
    request["repo"] = json!({"source": source});
    request["commands"][2]["continue_on_fail"] = json!(true);
    request["env"] = json!({"WORD": "warned", "OA_ARTIFACTS": "out:missing"});
    let answered = provider.run("job-1", &request).await;
    assert_eq!(answered.status, 200, "{}\n{}", answered.text(), provider.said());
    let response = answered.json();
    let numbers: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(response["env_info"]["image_digest"], "sha256:test");
    assert_eq!(response["runs"][0]["stdout_preview"], "hello\nhello\n");
    assert_eq!(response["runs"][0]["stdout_sha256"], sha256(b"hello\nhello\n"));
    assert_eq!(response["runs"][0].get("stderr_preview"), None);
    assert_eq!(response["runs"][1]["stderr_sha256"], sha256(b"warned"));
    assert_eq!(response["runs"][1]["stdout_preview"], format!("{}... [truncated]", &numbers[..240]));
    // Neither git's directory nor the configuration, in which a password stands, is shown.
    let listed = response["runs"][2]["stdout_preview"].as_str().unwrap();
    assert!(listed.contains("greeting.txt") && !listed.contains(".git"), "{listed}");
    assert_ne!(response["runs"][2]["exit_code"], 0);
    assert_eq!(response["status"], "failed");
    assert_eq!(response.get("error"), None);
    let artifact = &response["artifacts"][0];
    assert_eq!((&artifact["path"], &artifact["size_bytes"]), (&json!("out/numbers"), &json!(numbers.len())));
    assert_eq!(response["provenance"]["model_id"], "sandbox-local");
    for digest in [&response["runs"][1]["stdout_sha256"], &artifact["sha256"]] {
        let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = provider.http.get(&format!("/v1/blobs/{digest}")).await;
        assert_eq!((blob.status, blob.text()), (200, numbers.clone()));
    }
    let again = provider.run("job-1", &request).await;
    assert_eq!(again.text(), answered.text());
    assert_eq!(provider.counts().await, (1, 1));
    assert!(provider.said().contains("ends after"), "{}", provider.said());
    request["repo"]["git_ref"] = json!("other");
    let other = provider.run("job-2", &request).await.json();
    assert_eq!(other["runs"][0]["stdout_preview"], "other\nother\n");
    // Another work tree of the same repository, at what it has checked out.
    let tree = home.path().join("tree");
    let added = Command::new("git")
        .args(["-C", source.to_str().unwrap(), "worktree", "add", tree.to_str().unwrap(), "other"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(added.unwrap().success());
    request["repo"] = json!({"source": tree});
    let other = provider.run("job-4", &request).await;
    assert_eq!(other.json()["runs"][0]["stdout_preview"], "other\nother\n", "{}", other.text());
    request["repo"]["git_ref"] = json!("no-such-branch");
    let refused = provider.run("job-3", &request).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("no-such-branch"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_runs_once_however_often_and_at_once_it_is_asked_and_even_over_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let provider = Provider::alone(home.path()).await;
    let request = job(&["cat /proc/sys/kernel/random/uuid; sleep 0.3"]);
    let all: Vec<_> = (0..32).map(|_| provider.run("same", &request)).collect();
    let mut answers = Vec::new();
    for answered in futures(all).await {
        assert_eq!(answered.status, 200, "{}", answered.text());
        answers.push(answered.text());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(provider.counts().await, (1, 31));
    let other = provider.run("same", &job(&["echo other"])).await;
    assert_eq!(other.status, 409, "{}", other.text());
    provider.signal("-KILL");
    let Provider { data, .. } = &provider;
    assert!(data.join("provider/answers").exists());
    drop(provider);
    let provider = Provider::alone(home.path()).await;
    assert_eq!(provider.run("same", &request).await.text(), answers[0]);
    assert_eq!(provider.run("same", &job(&["echo other"])).await.status, 409);
    assert_eq!(provider.counts().await, (0, 1));
}

/// All at once.
async fn futures<F: Future<Output = Answered>>(all: Vec<F>) -> Vec<Answered> {
    let mut pinned: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(move |context| {
        let mut waits = false;
        for (future, done) in &mut pinned {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(answered) => *done = Some(answered),
                    std::task::Poll::Pending => waits = true,
                }
            }
        }
        match waits {
            true => std::task::Poll::Pending,
            false => std::task::Poll::Ready(pinned.iter_mut().filter_map(|(_, done)| done.take()).collect()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_had_here_is_refused_and_nothing_runs() {
    let home = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let elsewhere = repository(outside.path());
    std::os::unix::fs::symlink(&elsewhere, home.path().join("leads-out")).unwrap();
    let provider = Provider::start(
        home.path(),
        &["--enrol", "false", "--max-timeout-seconds", "30", "--max-memory-mb", "256"],
    )
    .await;
    let with = |pointer: &str, value: Value| {
        let mut request = job(&["true"]);
        let mut place = &mut request;
        for part in pointer.split('/') {
            place = &mut place[part];
        }
        *place = value;
        request
    };
    let leads_out = home.path().join("leads-out");
    for request in [
        with("sandbox/network_policy", json!("full")),
        with("sandbox/resources", json!({"timeout_secs": 31})),
        with("sandbox/resources", json!({"memory_mb": 257, "timeout_secs": 10})),
        with("sandbox/resources", json!({"cpus": 64, "memory_mb": 64, "timeout_secs": 10})),
        with("sandbox/provider", json!("firecracker")),
        with("repo", json!({"source": "https://example.com/r.git"})),
        with("repo", json!({"source": "git@example.com:r.git"})),
        with("repo", json!({"source": elsewhere})),
        with("repo", json!({"source": leads_out})),
        with("repo", json!({"source": "relative"})),
        with("repo", json!({"source": "", "mount_path": "/proc"})),
        with("repo", json!({"source": "", "mount_path": "/usr"})),
        with("commands", json!([])),
        with("commands", json!([{"cmd": "true", "workdir": "/etc"}])),
        with("commands", json!([{"cmd": "true", "workdir": "../.."}])),
    ] {
        let request = if request["sandbox"].get("resources").is_none() {
            let mut request = request;
            request["sandbox"]["resources"] = json!({"memory_mb": 64, "timeout_secs": 10});
            request
        } else {
            request
        };
        let refused = provider.run("k", &request).await;
        assert_eq!(refused.status, 422, "{request}: {}", refused.text());
    }
    let small = with("sandbox/resources", json!({"memory_mb": 64, "timeout_secs": 10}));
    let demanding = [("x-oa-isolation", "hypervisor")];
    assert_eq!(provider.http.post_with("/v1/sandbox_run", &small, &demanding).await.status, 422);
    assert_eq!(provider.http.post("/v1/sandbox_run", &json!({"commands": []})).await.status, 400);
    assert_eq!(provider.http.get("/v1/blobs/..%2F..%2Fkeys").await.status, 404);
    assert_eq!(provider.run("fine", &small).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlives_its_time_or_its_provider_is_told_as_such() {
    let home = tempfile::tempdir().unwrap();
    let provider = Provider::alone(home.path()).await;
    // What the job itself has got wrong is its failure, not that of whoever ran it.
    let mut lost = job(&["true"]);
    lost["commands"][0]["workdir"] = json!("no-such-directory");
    let loud = job(&["head -c 30000000 /dev/zero"]);
    for (key, request, code, why) in [("lost", lost, 127, "No such file"), ("loud", loud, 137, "")] {
        let failed = provider.run(key, &request).await.json();
        assert_eq!((&failed["status"], &failed["runs"][0]["exit_code"]), (&json!("failed"), &json!(code)));
        let said = failed["runs"][0]["stderr_preview"].as_str().unwrap_or_default();
        assert!(said.contains(why) && failed.get("error").is_none(), "{failed}");
    }
    let mut request = job(&["sleep 60"]);
    request["sandbox"]["resources"] = json!({"timeout_secs": 1});
    let late = provider.run("late", &request).await.json();
    assert_eq!((&late["status"], &late["runs"][0]["exit_code"]), (&json!("error"), &json!(1)), "{late}");
    let long = job(&["echo begun; sleep 30"]);
    let (cancelled, ()) = tokio::join!(provider.run("long", &long), async {
        provider.until_running(1).await;
        assert_eq!(
            provider.http.post("/v1/disable", &json!({})).await.json(),
            json!({"ok": true, "enabled": false})
        );
    });
    assert_eq!(cancelled.json()["status"], "cancelled", "{}", cancelled.text());
    let refused = provider.run("another", &job(&["true"])).await;
    assert_eq!((refused.status, refused.text()), (503, "provider disabled".to_owned()));
    provider.http.post("/v1/enable", &json!({})).await;
    assert_eq!(provider.run("another", &job(&["true"])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_lists_every_file_of_the_tree_with_its_digest() {
    let home = tempfile::tempdir().unwrap();
    let source = repository(home.path());
    let provider = Provider::alone(home.path()).await;
    let request = json!({"repo_url": source, "git_ref": "other", "expected_tree_sha256": ""});
    let answered = provider.http.post("/v1/repo_index", &request).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let response = answered.json();
    let expected = json!([
        {"path": "greeting.txt", "sha256": hex(b"other\n"), "bytes": 6},
        {"path": "link", "sha256": hex(b"greeting.txt"), "bytes": 12},
        {"path": "run.sh", "sha256": hex(b"#!/bin/sh\ncat greeting.txt\n"), "bytes": 27},
        {"path": "src/lib.rs", "sha256": hex(b"// nothing\n"), "bytes": 11},
    ]);
    assert_eq!(response["digests"], expected);
    let digests: Vec<oa_contract::wire::jobs::FileDigest> = serde_json::from_value(expected).unwrap();
    assert_eq!(response["tree_sha256"], oa_contract::wire::jobs::tree_hash(&digests).unwrap());
    let embeddings = json!({"repo_url": source, "git_ref": "main", "expected_tree_sha256": "", "index_types": ["embeddings"]});
    assert_eq!(provider.http.post("/v1/repo_index", &embeddings).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_enrols_lives_and_leaves_in_order() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::new(&home.path().join("runtime-data"));
    server.environment = vec![("RUNTIME_ALLOW_PRIVATE_NETWORKS", "1".to_owned())];
    server.start().await;
    let runtime = server.http();
    let token = fs::read_to_string(server.data.join("keys/service.token")).unwrap();
    let url = server.url();
    let mut provider = Provider::start(
        home.path(),
        &["--runtime-url", &url, "--token", token.trim(), "--owner-user-id", "7", "--heartbeat-seconds", "1"],
    )
    .await;
    let worker = async || runtime.get("/internal/v1/workers/provider:prov-a?owner_user_id=7").await;
    let begun = Instant::now();
    let mut seen = worker().await;
    // Registered, and then heard of at least once more.
    while seen.status != 200 || seen.json()["worker"]["worker"]["latest_seq"].as_u64() < Some(2) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}\n{}", seen.text(), provider.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = worker().await;
    }
    let known = &seen.json()["worker"]["worker"];
    assert_eq!(known["status"], "running");
    assert_eq!(known["metadata"]["capabilities"][0], "oa.sandbox_run.v1");
    assert_eq!(known["metadata"]["qualified"], true);
    let layers: Vec<_> = known["metadata"]["isolation"]["layers"].as_array().unwrap().iter().collect();
    assert!(layers.iter().any(|layer| *layer == "seccomp"), "{layers:?}");
    let long = job(&["sleep 4; echo finished"]);
    let (finished, ()) = tokio::join!(provider.run("long", &long), async {
        provider.until_running(1).await;
        provider.signal("-TERM");
        // A new key each time: what was answered before the signal was noticed is still answered.
        let mut attempt = 0;
        while provider.run(&format!("late-{attempt}"), &job(&["true"])).await.status != 429 {
            attempt += 1;
            assert!(attempt < 1000);
        }
    });
    assert_eq!(finished.json()["runs"][0]["stdout_preview"], "finished\n", "{}", finished.text());
    let begun = Instant::now();
    while provider.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", provider.said());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(worker().await.json()["worker"]["worker"]["status"], "stopped", "{}", provider.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_no_place_is_told_so_and_what_was_answered_is_answered_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let provider = Provider::start(home.path(), &["--enrol", "false", "--jobs", "1"]).await;
    let known = provider.run("known", &job(&["echo known"])).await;
    let long = job(&["sleep 3; echo finished"]);
    let (finished, ()) = tokio::join!(provider.run("long", &long), async {
        provider.until_running(1).await;
        let busy = provider.run("other", &job(&["true"])).await;
        assert_eq!((busy.status, busy.text()), (429, "provider is busy".to_owned()));
        assert_eq!(provider.run("known", &job(&["echo known"])).await.text(), known.text());
        assert_eq!(provider.run("known", &job(&["echo else"])).await.status, 409);
    });
    assert_eq!(finished.json()["runs"][0]["stdout_preview"], "finished\n", "{}", finished.text());
    assert_eq!(provider.run("other", &job(&["true"])).await.status, 200, "what was refused was not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_lets_only_its_runtime_in_and_does_not_listen_to_others_without_that() {
    let home = tempfile::tempdir().unwrap();
    let open = oa()
        .arg("provider")
        .arg("--data")
        .arg(home.path().join("open"))
        .args(["--bind-addr", "0.0.0.0:0", "--enrol", "false"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert_eq!(open.status.code(), Some(2), "{said}");
    assert!(said.contains("OA_PROVIDER_CALLER_TOKEN") && said.contains("RUNTIME_PROVIDER_TOKEN"), "{said}");
    let secret = "shared by the two of them";
    let mut server = Server::new(&home.path().join("runtime-data"));
    server.environment = vec![
        ("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "1".to_owned()),
        ("RUNTIME_PROVIDER_TOKEN", secret.to_owned()),
    ];
    server.start().await;
    let provider = enrolled("prov-a", home.path(), &server, &["--caller-token", secret]).await;
    let request = job(&["echo hi"]);
    assert_eq!(provider.run("stranger", &request).await.status, 401);
    assert_eq!(provider.http.get(&format!("/v1/blobs/{}", "0".repeat(64))).await.status, 401);
    let guess = Http::new(provider.http.base.clone(), Some(secret.to_owned()));
    assert_eq!(guess.post("/v1/sandbox_run", &request).await.status, 401, "the secret itself is no token");
    assert_eq!(provider.counts().await, (0, 0));
    let done = server.http().post(DISPATCH, &json!({"owner_user_id": 7, "request": request})).await;
    assert_eq!(
        (done.status, &done.json()["response"]["status"]),
        (200, &json!("success")),
        "{}",
        done.text()
    );
    assert_eq!(provider.counts().await, (1, 0));
}

const DISPATCH: &str = "/internal/v1/marketplace/dispatch/sandbox-run";

/// A provider of user 7, once the runtime chooses it.
async fn enrolled(id: &str, home: &Path, server: &Server, more: &[&str]) -> Provider {
    let token = fs::read_to_string(server.data.join("keys/service.token")).unwrap();
    let url = server.url();
    let mut words = vec!["--runtime-url", &url, "--token", token.trim(), "--owner-user-id", "7"];
    words.extend(["--heartbeat-seconds", "1"]);
    words.extend(more);
    let provider = Provider::named(id, home, &words).await;
    let begun = Instant::now();
    loop {
        let seen = server.http().get(&format!("/internal/v1/workers/provider:{id}?owner_user_id=7")).await;
        let known = &seen.json()["worker"]["worker"];
        let here = known["metadata"]["provider_base_url"] == provider.http.base.as_str();
        if known["status"] == "running" && known["metadata"]["qualified"] == true && here {
            return provider;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}\n{}", seen.text(), provider.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is reserved, and what was spent.
async fn account(runtime: &Http) -> (u64, u64) {
    let told = runtime.get("/internal/v1/treasury/compute/summary?owner_user_id=7").await.json();
    let account = &told["account"];
    (account["reserved_msats"].as_u64().unwrap(), account["spent_msats"].as_u64().unwrap())
}

async fn strikes(runtime: &Http, id: &str) -> u64 {
    let listed = runtime.get("/internal/v1/marketplace/catalog/providers").await.json();
    let all = listed["providers"].as_array().unwrap().clone();
    let one = all.into_iter().find(|one| one["provider_id"] == id).unwrap();
    one["failure_strikes"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_killed_in_mid_job_is_not_paid_and_whoever_does_the_job_is_paid_once() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::new(&home.path().join("runtime-data"));
    server.environment = vec![
        ("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "1".to_owned()),
        ("RUNTIME_REEXECUTION_SAMPLE_BPS", "0".to_owned()),
    ];
    server.start().await;
    let runtime = server.http();
    let begun = runtime.post("/internal/v1/runs", &json!({"owner_user_id": 7})).await.json();
    let run = begun["run"]["id"].as_str().unwrap().to_owned();
    let request = job(&["sleep 2; echo done"]);
    let order = json!({"owner_user_id": 7, "run_id": run, "request": request});
    // Sent, and killed while the job runs.
    let killed = async |provider: Provider| {
        let (answered, ()) = tokio::join!(runtime.post(DISPATCH, &order), async {
            provider.until_running(1).await;
            provider.signal("-KILL");
        });
        answered
    };
    // With nobody else, the job has failed and nothing is held.
    let alone = enrolled("prov-a", home.path(), &server, &["--min-price-msats", "900"]).await;
    let failed = killed(alone).await;
    assert_eq!((failed.status, &failed.json()["reason_code"]), (400, &json!("provider_unreachable")));
    assert_eq!((account(&runtime).await, strikes(&runtime, "prov-a").await), ((0, 0), 1));
    // The same again, with somebody who takes over.
    let again = enrolled("prov-a", home.path(), &server, &["--min-price-msats", "300"]).await;
    let other = enrolled("prov-b", home.path(), &server, &["--min-price-msats", "1200"]).await;
    let dispatched = killed(again).await;
    assert_eq!(dispatched.status, 200, "{}\n{}", dispatched.text(), other.said());
    let told = dispatched.json();
    assert_eq!(told["fallback_from_provider_id"], "prov-a", "{told}");
    assert_eq!(told["selection"]["provider"]["provider_id"], "prov-b");
    assert_eq!(told["response"]["runs"][0]["stdout_preview"], "done\n");
    assert_eq!((account(&runtime).await.0, other.counts().await), (1206, (1, 0)));
    let settle = json!({
        "owner_user_id": 7, "run_id": run, "provider_id": "prov-b", "provider_worker_id": "provider:prov-b",
        "amount_msats": 1200, "request": request, "response": told["response"], "quote": told["quote"],
    });
    let path = "/internal/v1/treasury/compute/settle/sandbox-run";
    let mut first = None;
    for _ in 0..3 {
        let settled = runtime.post(path, &settle).await;
        assert_eq!((settled.status, &settled.json()["settlement_status"]), (200, &json!("released")));
        assert_eq!(first.get_or_insert(settled.json()), &settled.json());
    }
    // Asked for once more, it is answered from what is kept.
    assert_eq!(runtime.post(DISPATCH, &order).await.json()["dispatch_id"], told["dispatch_id"]);
    assert_eq!((account(&runtime).await, other.counts().await), ((0, 1206), (1, 0)));
    let shown = runtime.get(&format!("/internal/v1/runs/{run}")).await.json();
    let events = shown["run"]["events"].as_array().unwrap();
    let paid: Vec<&Value> =
        events.iter().filter(|event| event["payload"]["receipt_type"] == "PaymentReleased").collect();
    assert_eq!(paid.len(), 1, "{shown}");
    let findings = runtime.post("/internal/v1/treasury/compute/reconcile", &json!({})).await.json();
    assert_eq!(findings["drift"]["findings"], json!([]), "{findings}");
    // What dies with the runtime is not the money.
    server.kill();
    server.start().await;
    let runtime = server.http();
    assert_eq!(account(&runtime).await, (0, 1206));
    assert_eq!(runtime.post(path, &settle).await.json(), first.unwrap());
}
