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

struct Provider {
    child: Child,
    http: Http,
    data: PathBuf,
    log: PathBuf,
}

impl Provider {
    async fn start(home: &Path, more: &[&str]) -> Self {
        let (data, log) = (home.join("provider-data"), home.join("provider.log"));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bind = format!("127.0.0.1:{port}");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = oa()
            .arg("provider")
            .arg("--data")
            .arg(&data)
            .args(["--bind-addr", &bind, "--id", "prov-a", "--repositories", home.to_str().unwrap()])
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

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn run(&self, key: &str, request: &Value) -> Answered {
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

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn job(commands: &[&str]) -> Value {
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
        while provider.run(&format!("late-{attempt}"), &job(&["true"])).await.status != 503 {
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
