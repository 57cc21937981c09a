//! `oa exec` against a simulated runtime over real sockets: what is recorded, in which order, and what survives.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use oa_contract::{export::verify_export, wire::runs::RunStatus};

use super::*;
use crate::{
    data_dir::tests::{Scratch, scratch},
    simulated::{Simulated, TOKEN},
};

/// Where a test sees the output that was passed through.
#[derive(Clone, Default)]
struct Caught(Arc<Mutex<Vec<u8>>>);

impl Caught {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl AsyncWrite for Caught {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn shell(script: &str) -> Order {
    Order {
        argv: ["sh", "-c", script].map(OsString::from).to_vec(),
        run: None,
        name: None,
        metadata: None,
        finish: false,
        offline_ok: false,
        patience: Duration::from_secs(20),
    }
}

struct Done {
    code: u8,
    out: Vec<u8>,
    err: Vec<u8>,
    directory: Scratch,
}

impl Done {
    fn spools(&self) -> Vec<PathBuf> {
        let spool = self.directory.path().join("spool");
        std::fs::read_dir(spool)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    }
}

async fn try_exec(order: Order, place: &Place) -> Result<Done, Failure> {
    let directory = scratch();
    let data = DataDir::at(directory.path());
    let (out, err) = (Caught::default(), Caught::default());
    let around = Around { place, data: &data, format: Format::Json };
    let code = run_into(order, around, out.clone(), err.clone()).await?;
    Ok(Done { code, out: out.bytes(), err: err.bytes(), directory })
}

async fn exec(order: Order, place: &Place) -> Done {
    try_exec(order, place).await.expect("recorded")
}

fn payloads(run: &oa_contract::wire::runs::Run) -> Vec<Value> {
    run.events.iter().map(|event| serde_json::from_str(event.payload.get()).expect("JSON")).collect()
}

/// The recorded output of one stream, joined.
fn recorded(run: &oa_contract::wire::runs::Run, stream: &str) -> Vec<u8> {
    let pieces = payloads(run).into_iter().filter(|payload| payload["params"]["stream"] == stream);
    let mut out = Vec::new();
    for piece in pieces {
        assert_eq!(
            piece["params"]["offset"].as_u64(),
            Some(out.len() as u64),
            "no piece is missing or moved"
        );
        out.extend(crate::runs::output_of("tool", &piece).expect("bytes"));
    }
    out
}

fn no_duplicates(run: &oa_contract::wire::runs::Run) {
    let keys: Vec<&String> = run.events.iter().filter_map(|event| event.idempotency_key.as_ref()).collect();
    let wanted: Vec<String> = (0..keys.len()).map(|n| format!("exec:{n}")).collect();
    assert_eq!(keys, wanted.iter().collect::<Vec<_>>(), "every key once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_becomes_a_run_with_its_output_and_its_end() {
    let simulated = Simulated::start().await;
    let mut order = shell("echo out; echo err >&2; exit 3");
    order.name = Some("three".into());
    order.metadata = Some(r#"{"repo":"acme/api"}"#.into());
    let done = exec(order, &simulated.place()).await;
    assert_eq!((done.code, done.out.as_slice(), done.err.as_slice()), (3, &b"out\n"[..], &b"err\n"[..]));
    let run = simulated.run();
    assert_eq!(run.status, RunStatus::Failed);
    let metadata: Value = serde_json::from_str(run.metadata.get()).expect("JSON");
    assert_eq!(
        (&metadata["kind"], &metadata["repo"], &metadata["argv"][0]),
        (&json!("exec"), &json!("acme/api"), &json!("sh"))
    );
    let payloads = payloads(&run);
    assert_eq!(payloads[1]["tool"], "exec.start");
    let end = &payloads[payloads.len() - 2];
    assert_eq!(
        (&end["tool"], &end["exit_code"], &end["stdout_bytes"]),
        (&json!("exec"), &json!(3), &json!(4))
    );
    no_duplicates(&run);
    assert!(done.spools().is_empty(), "everything was acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_those_of_a_shell() {
    let simulated = Simulated::start().await;
    assert_eq!(exec(shell("exit 0"), &simulated.place()).await.code, 0);
    assert_eq!(exec(shell("kill -TERM $$"), &simulated.place()).await.code, 128 + 15);
    let missing = Order { argv: vec!["/does/not/exist".into()], ..shell("") };
    assert_eq!(exec(missing, &simulated.place()).await.code, 127);
    let directory = Order { argv: vec!["/".into()], ..shell("") };
    assert_eq!(exec(directory, &simulated.place()).await.code, 126);
    let statuses: Vec<RunStatus> = simulated.held().runs.iter().map(|run| run.status).collect();
    assert_eq!(statuses, [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Failed, RunStatus::Failed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_get_lost_lead_to_no_duplicate_and_no_gap() {
    let simulated = Simulated::start().await;
    simulated.held().cut_every = 2;
    let done = exec(shell("for i in 1 2 3 4 5; do echo $i; sleep 0.12; done"), &simulated.place()).await;
    assert_eq!(done.code, 0);
    let run = simulated.run();
    no_duplicates(&run);
    assert_eq!(recorded(&run, "stdout"), b"1\n2\n3\n4\n5\n");
    assert!(simulated.held().appends > run.events.len() as u64, "some were sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_comes_back_misses_nothing() {
    let mut simulated = Simulated::start().await;
    let place = simulated.place();
    let command = tokio::spawn(async move {
        exec(shell("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"), &place).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    simulated.kill().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    simulated.revive().await;
    let done = command.await.expect("ended");
    assert_eq!((done.code, done.out.as_slice()), (0, &b"1\n2\n3\n4\n5\n6\n7\n8\n"[..]));
    let run = simulated.run();
    no_duplicates(&run);
    assert_eq!(recorded(&run, "stdout"), done.out);
    assert_eq!(run.status, RunStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_is_kept_and_sent_later() {
    let mut simulated = Simulated::start().await;
    let place = simulated.place();
    let order = Order { patience: Duration::from_millis(200), ..shell("sleep 0.3; echo late; exit 5") };
    let command = tokio::spawn(async move { exec(order, &place).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    simulated.kill().await;
    let done = command.await.expect("ended");
    assert_eq!(done.code, 5, "the command's own code");
    let spools = done.spools();
    assert_eq!(spools.len(), 1);
    simulated.revive().await;
    let data = DataDir::at(done.directory.path());
    let around = Around { place: &simulated.place(), data: &data, format: Format::Json };
    assert_eq!(resume(&spools[0], Duration::from_secs(10), around).await, Ok(OK));
    let run = simulated.run();
    no_duplicates(&run);
    assert_eq!((recorded(&run, "stdout").as_slice(), run.status), (&b"late\n"[..], RunStatus::Failed));
    assert!(done.spools().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_nothing_is_started_unless_that_is_allowed() {
    let mut simulated = Simulated::start().await;
    simulated.kill().await;
    let directory = scratch();
    let marker = directory.path().join("ran");
    let script = format!("touch {}; echo hello", marker.display());
    let failure = try_exec(shell(&script), &simulated.place()).await.map(drop).expect_err("not started");
    assert_eq!(failure.code, NOT_STARTED);
    assert!(!marker.exists());
    let order = Order { offline_ok: true, patience: Duration::from_millis(50), ..shell(&script) };
    let done = exec(order, &simulated.place()).await;
    assert!(marker.exists());
    simulated.revive().await;
    let data = DataDir::at(done.directory.path());
    let around = Around { place: &simulated.place(), data: &data, format: Format::Json };
    assert_eq!(resume(&done.spools()[0], Duration::from_secs(10), around).await, Ok(OK));
    assert_eq!(recorded(&simulated.run(), "stdout"), b"hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_value_passes_and_is_recorded() {
    let simulated = Simulated::start().await;
    let script = r"i=0; while [ $i -lt 256 ]; do printf \\$(printf %03o $i); i=$((i+1)); done";
    let done = exec(shell(script), &simulated.place()).await;
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(done.out, all);
    assert_eq!(recorded(&simulated.run(), "stdout"), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_pass_with_bounded_memory() {
    let simulated = Simulated::start().await;
    let place = simulated.place();
    let (recorder_sees, spool_file) = (Caught::default(), scratch());
    let data = DataDir::at(spool_file.path());
    let around = Around { place: &place, data: &data, format: Format::Json };
    let script = "head -c 10485760 /dev/urandom";
    let code = run_into(shell(script), around, recorder_sees.clone(), tokio::io::sink()).await;
    assert_eq!(code, Ok(0));
    let out = recorder_sees.bytes();
    assert_eq!(out.len(), 10_485_760);
    let run = simulated.run();
    no_duplicates(&run);
    assert!(recorded(&run, "stdout") == out, "the record is the output");
    // What waits is in the file, and in memory there is one piece a stream: the largest event tells.
    let largest = run.events.iter().map(|event| event.payload.get().len()).max();
    assert!(largest.is_some_and(|bytes| bytes < 2 * recorder::PIECE), "{largest:?}");
    let end = payloads(&run).into_iter().rfind(|payload| payload["tool"] == "exec").expect("an end");
    assert_eq!(end["output_hash"], format!("sha256:{}", hex(&Sha256::digest(&out))));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_commands_may_be_recorded_in_one_run_that_stays_open() {
    let simulated = Simulated::start().await;
    let client = simulated.place().client().expect("a client");
    let run_id = start_run(&client, &StartRun::default()).await.expect("opened");
    for word in ["one", "two"] {
        let order = Order { run: Some(run_id), ..shell(&format!("echo {word}")) };
        assert_eq!(exec(order, &simulated.place()).await.code, 0);
    }
    assert_eq!(simulated.run().status, RunStatus::Running);
    let order = Order { run: Some(run_id), finish: true, ..shell("true") };
    assert_eq!(exec(order, &simulated.place()).await.code, 0);
    assert_eq!(simulated.run().status, RunStatus::Succeeded);
    let order = Order { run: Some(run_id), ..shell("true") };
    assert_eq!(
        try_exec(order, &simulated.place()).await.map(drop).expect_err("it has ended").code,
        NOT_STARTED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_canceled_meanwhile_is_not_overwritten() {
    let simulated = Simulated::start().await;
    let place = simulated.place();
    let command = tokio::spawn(async move { exec(shell("sleep 0.4"), &place).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    simulated.held().runs[0].status = RunStatus::Canceling;
    let done = command.await.expect("ended");
    assert_eq!((done.code, simulated.run().status), (0, RunStatus::Canceled));
    assert!(done.spools().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_stops_the_record_but_not_the_command() {
    let simulated = Simulated::start().await;
    simulated.held().refuse_appends = Some((403, "not yours".into()));
    let done = exec(shell("echo on"), &simulated.place()).await;
    assert_eq!((done.code, done.out.as_slice(), done.spools().len()), (0, &b"on\n"[..], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_a_descendant_keeps_open_does_not_hold_the_command_for_ever() {
    let simulated = Simulated::start().await;
    let begun = Instant::now();
    let done = exec(shell("sleep 30 & echo done"), &simulated.place()).await;
    assert_eq!((done.code, done.out.as_slice()), (0, &b"done\n"[..]));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_contradicts_the_record_is_refused() {
    let simulated = Simulated::start().await;
    for text in ["[]", "{", r#"{"argv":["innocent"]}"#] {
        let order = Order { metadata: Some(text.into()), ..shell("true") };
        let failure = try_exec(order, &simulated.place()).await.map(drop).expect_err("refused");
        assert_eq!(failure.code, crate::failure::USAGE, "{text}");
    }
    assert!(simulated.held().runs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_command_can_be_exported_and_proved() {
    let simulated = Simulated::start().await;
    exec(shell("echo proof"), &simulated.place()).await;
    let directory = scratch();
    let file = directory.path().join("proof.jsonl");
    let client = simulated.place().client().expect("a client");
    crate::runs::export::export(&client, simulated.run().id, Some(&file), Format::Json)
        .await
        .expect("exported");
    let proof = std::fs::read(&file).expect("there");
    assert_eq!(verify_export(&proof, None).expect("proved").status, RunStatus::Succeeded);
    assert!(!String::from_utf8_lossy(&proof).contains(TOKEN));
}
