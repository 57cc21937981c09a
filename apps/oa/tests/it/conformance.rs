//! `oa conformance` against real processes: together, apart, without a runtime, and against an impostor.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oa_testkit::{Http, kept};
use serde_json::{Value, json};

use crate::server::oa;

/// One process of `oa`, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A data directory of a test.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Starts a server on a free port and waits until it says where `service` is.
    async fn start(&self, service: &str, arguments: &[&str]) -> (Process, String) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = oa();
        command.arg("--data").arg(self.data()).args(arguments);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let (mut process, begun) = (Process(child), Instant::now());
        loop {
            let said = std::fs::read_to_string(self.data().join("endpoints.json")).unwrap_or_default();
            let said: Value = serde_json::from_str(&said).unwrap_or_default();
            if let Some(url) = said[service].as_str().filter(|_| said["pid"] == process.0.id()) {
                assert!(Http::new(url, None).is_ok("/healthz").await);
                return (process, url.to_owned());
            }
            let ended = process.0.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", log());
            assert!(begun.elapsed() < Duration::from_secs(60), "the server did not start:\n{}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A user with a token that may do everything, made while no server runs.
    fn add_user(&self) -> String {
        let mut command = oa();
        let added = command
            .arg("--data")
            .arg(self.data())
            .args(["-o", "json", "user", "add", "dev@example.com", "--admin"])
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let said: Value = serde_json::from_slice(&added.stdout).unwrap();
        said["token"].as_str().unwrap().to_owned()
    }
}

/// Runs `oa conformance`; gives its exit code and what it printed as JSON.
fn conformance(data: &Path, arguments: &[&str]) -> (i32, Value) {
    let mut command = oa();
    command.arg("--data").arg(data).args(["--output", "json", "conformance"]).args(arguments);
    let ended = command.stdin(Stdio::null()).output().unwrap();
    let said = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|_| json!({"stderr": String::from_utf8_lossy(&ended.stderr)}));
    (ended.status.code().unwrap(), said)
}

fn conforms(data: &Path, arguments: &[&str]) -> Value {
    let (code, said) = conformance(data, arguments);
    assert_eq!(code, 0, "{said:#}");
    assert_eq!(said["conforms"], true, "{said:#}");
    said
}

fn group<'a>(said: &'a Value, name: &str) -> &'a Value {
    let groups = said["groups"].as_array().unwrap_or_else(|| panic!("{said:#}"));
    groups.iter().find(|group| group["group"] == name).unwrap_or_else(|| panic!("no group {name}: {said:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_together_conform_without_a_flag_and_are_not_changed_by_the_question() {
    let home = Home::new();
    let arguments = ["up", "--runtime-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0"];
    let (_up, control) = home.start("control", &arguments).await;
    let token = std::fs::read_to_string(home.data().join("keys/personal.token")).unwrap();
    let user = Http::new(&control, Some(token.trim().to_owned()));
    assert_eq!(user.post("/api/runtime/workers", &json!({"workerId": "w"})).await.status, 200);
    let stores = [home.data().join("control.db"), home.data().join("runtime.db")];
    let before: Vec<_> = stores.iter().map(|store| kept(store)).collect();
    let begun = Instant::now();
    let said = conforms(&home.data(), &[]);
    assert!(begun.elapsed() < Duration::from_secs(60), "it should take seconds");
    assert!(
        group(&said, "proxied rows")["claim"].as_str().unwrap().contains("the same 1 workers"),
        "{said:#}"
    );
    assert!(group(&said, "control's rows")["claim"].as_str().unwrap().starts_with("22 of /api/runtime"));
    assert!(group(&said, "the runtime's rows")["claim"].as_str().unwrap().starts_with("53 of /internal/v1"));
    for (store, before) in stores.iter().zip(before) {
        assert_eq!(kept(store), before, "{} changed", store.display());
    }
    // The same run again says the same, word for word.
    assert_eq!(conforms(&home.data(), &[]), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_conform_and_swapped_addresses_do_not() {
    let home = Home::new();
    let token = home.add_user();
    let (_runtime, runtime) = home.start("runtime", &["runtime", "--bind", "127.0.0.1:0"]).await;
    let arguments = ["control", "--oa-control-bind-addr", "127.0.0.1:0"];
    // What clients read as the address of the runtime is what control reads.
    let log = File::options().create(true).append(true).open(home.log()).unwrap();
    let mut command = oa();
    command.arg("--data").arg(home.data()).args(arguments).env("OA_RUNTIME_BASE_URL", &runtime);
    let _control = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let control = loop {
        let said = std::fs::read_to_string(home.data().join("endpoints.json")).unwrap_or_default();
        let said: Value = serde_json::from_str(&said).unwrap_or_default();
        match said["control"].as_str() {
            Some(url) => break url.to_owned(),
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    conforms(&home.data(), &["--token", &token]);
    let secret = std::fs::read_to_string(home.data().join("keys/service.token")).unwrap();
    let elsewhere = home.directory.path().join("elsewhere");
    let apart = [&*control, "--runtime-url", &runtime, "--token", &token, "--service-token", secret.trim()];
    conforms(&elsewhere, &apart);
    let swapped = [&*runtime, "--runtime-url", &control, "--token", &token, "--service-token", secret.trim()];
    let (code, said) = conformance(&elsewhere, &swapped);
    assert_eq!((code, &said["conforms"]), (1, &json!(false)), "{said:#}");
    for wrong in ["ownership", "control's rows", "the runtime's rows", "only on control", "runtime's OpenAPI"]
    {
        assert_eq!(group(&said, wrong)["conforms"], false, "{wrong}");
    }
    let (code, _) = conformance(&elsewhere, &[&control, "--runtime-url", &runtime]);
    assert_eq!(code, 2, "without a token there is nothing to show");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_runtime_the_proxied_rows_say_so_and_so_they_do_when_it_is_down() {
    let home = Home::new();
    let token = home.add_user();
    let arguments = ["control", "--oa-control-bind-addr", "127.0.0.1:0"];
    let (alone, control) = home.start("control", &arguments).await;
    let said = conforms(&home.data(), &["--expect-no-runtime", "--token", &token]);
    assert!(group(&said, "proxied rows")["claim"].as_str().unwrap().contains("has no runtime"), "{said:#}");
    let user = Http::new(&control, Some(token.clone()));
    assert_eq!(user.post("/api/runtime/workers", &json!({"workerId": "w"})).await.status, 503);
    // It does have to be expected.
    let nowhere = Home::new();
    let (_runtime, runtime) = nowhere.start("runtime", &["runtime", "--bind", "127.0.0.1:0"]).await;
    let secret = std::fs::read_to_string(nowhere.data().join("keys/service.token")).unwrap();
    let arguments = ["--runtime-url", &runtime, "--token", &token, "--service-token", secret.trim()];
    let (code, said) = conformance(&home.data(), &arguments);
    assert_eq!((code, &group(&said, "proxied rows")["conforms"]), (1, &json!(false)), "{said:#}");
    drop(alone);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(home.data().join("oa.conf"), format!("OA_RUNTIME_BASE_URL=http://{closed}\n")).unwrap();
    let (_control, control) =
        home.start("control", &["control", "--oa-control-bind-addr", "127.0.0.1:0"]).await;
    let said = conforms(&home.data(), &["--expect-no-runtime", "--token", &token]);
    assert!(group(&said, "proxied rows")["claim"].as_str().unwrap().contains("does not answer"), "{said:#}");
    // Acts that pass every check are 503 too; a conformance run does not send such.
    let user = Http::new(&control, Some(token));
    for (path, body) in [
        ("/api/runtime/workers", json!({"workerId": "w"})),
        ("/api/runtime/workers/w/heartbeat", json!({})),
        ("/api/runtime/workers/w/status", json!({"status": "stopped"})),
    ] {
        let answered = user.post(path, &body).await;
        assert_eq!(answered.status, 503, "{path}: {}", answered.text());
        assert_eq!(answered.json()["error"]["code"], "service_unavailable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_that_answers_everything_with_200_is_found_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let yes = axum::Router::new().fallback(async || axum::Json(json!({"data": {}, "paths": {}})));
    tokio::spawn(async move { axum::serve(listener, yes).await });
    let nowhere = tempfile::tempdir().unwrap();
    let arguments = [&*url, "--runtime-url", &url, "--token", "oa_pat_x", "--service-token", "oa_st_x"];
    let (code, said) = conformance(nowhere.path(), &arguments);
    assert_eq!((code, &said["conforms"]), (1, &json!(false)), "{said:#}");
    for group in said["groups"].as_array().unwrap() {
        assert_eq!(group["conforms"], false, "{} was taken in", group["group"]);
        let first = &group["wrong"][0];
        assert!(first["asked"].as_str().is_some_and(|asked| !asked.is_empty()), "{group:#}");
        assert!(first["wanted"].is_string() && first["got"].is_string());
    }
    let people = Command::new(env!("CARGO_BIN_EXE_oa"))
        .args(["conformance"])
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&people.stdout).into_owned();
    assert!(text.contains("WRONG") && text.contains("POST /api/runtime/tools/execute"), "{text}");
    assert!(text.lines().count() < 150, "people are shown {} lines", text.lines().count());
}

#[test]
fn nobody_there_is_told_as_no_answer() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    let url = format!("http://{closed}");
    let arguments = [&*url, "--runtime-url", &url, "--token", "oa_pat_x", "--service-token", "oa_st_x"];
    assert_eq!(conformance(nowhere.path(), &arguments).0, 3);
}
