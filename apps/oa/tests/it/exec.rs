//! `oa exec` and `oa runs`, from the first command to the offline proof.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::server::{Server, oa};

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An `oa` command against this server.
fn at(server: &Server, arguments: &[&str]) -> Command {
    let mut command = oa();
    command.arg("--data").arg(&server.data).args(["--runtime-url", &server.url()]).args(arguments);
    command
}

/// The id of the newest run.
fn newest(server: &Server) -> String {
    let listed = run(&mut at(server, &["-o", "json", "runs", "ls"]));
    let listed: Value =
        serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{}", text(&listed.stderr)));
    listed["runs"][0]["id"].as_str().unwrap().to_owned()
}

fn export(server: &Server, id: &str, file: &Path) {
    let exported = run(at(server, &["runs", "export", id]).arg(file));
    assert!(exported.status.success(), "{}", text(&exported.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_command_can_be_tailed_exported_and_verified_offline() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::new(&home.path().join("data"));
    server.start().await;
    let done = run(&mut at(&server, &["exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!(done.status.code(), Some(7), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "out\n");
    assert!(text(&done.stderr).contains("err\n"));
    let id = newest(&server);
    assert!(text(&done.stderr).contains(&id), "{}", text(&done.stderr));
    let tailed = run(&mut at(&server, &["runs", "tail", &id, "--until-head"]));
    assert!(text(&tailed.stdout).contains("out"), "{}{}", text(&tailed.stdout), text(&tailed.stderr));
    let file = home.path().join("run.jsonl");
    export(&server, &id, &file);
    server.kill();
    let whole = run(oa().arg("--data").arg(&server.data).arg("verify-store"));
    assert!(
        whole.status.success() && text(&whole.stdout).contains("everything fits"),
        "{}{}",
        text(&whole.stdout),
        text(&whole.stderr)
    );
    let verified = run(oa().args(["runs", "verify"]).arg(&file));
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let mut bytes = std::fs::read(&file).unwrap();
    let at = text(&bytes).rfind("exec.output").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let refused = run(oa().args(["runs", "verify"]).arg(&file));
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr) + &text(&refused.stdout);
    assert!(said.contains("event 4 (line 5)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_a_recording_loses_nothing_and_the_run_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::new(&home.path().join("data"));
    server.start().await;
    let script = "for i in $(seq 60); do echo line $i; sleep 0.05; done";
    let recording = at(&server, &["exec", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.start().await;
    }
    let done = tokio::task::spawn_blocking(move || recording.wait_with_output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let wanted: String = (1..=60).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text(&done.stdout), wanted);
    let id = newest(&server);
    let shown = server.http().get(&format!("/internal/v1/runs/{id}")).await.json();
    assert_eq!(shown["run"]["status"], "succeeded");
    let recorded: String = shown["run"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["payload"]["tool"] == "exec.output")
        .map(|event| event["payload"]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(recorded, wanted);
    let file = home.path().join("run.jsonl");
    export(&server, &id, &file);
    assert!(run(oa().args(["runs", "verify"]).arg(&file)).status.success());
}
