//! A data directory that is written to while it is backed up, and what comes back out of the backup.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use oa_contract::Timestamp;
use oa_testkit::{
    Http,
    simulated::{EXECUTOR_TOKEN, ExecutorMood, SimulatedLightning, SimulatedWalletExecutor},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::{
    kill::{Acknowledged, check, write_until},
    server::{Server, oa},
};

/// `oa --data DATA -o json …`
fn on(data: &Path, arguments: &[&str]) -> Command {
    let mut command = oa();
    command.arg("--data").arg(data).args(["-o", "json"]).args(arguments);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", complaint(output)))
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command that must not work says.
fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    complaint(&output)
}

/// Every file below, with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                found.insert(text(&path).to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_store_under_load_holds_what_was_acknowledged_before_and_restores_whole() {
    let home = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| home.path().join(name));
    Server::control(&data).add_user("dev@example.com");
    let mut server = Server::new(&data);
    server.start().await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        let begun = server.http().post("/internal/v1/runs", &json!({})).await.json();
        runs.push(begun["run"]["id"].as_str().unwrap().to_owned());
    }
    let (runs, known) = (Arc::new(runs), Arc::new(Mutex::new(Acknowledged::default())));
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        writers.spawn(write_until(stop.clone(), server.http(), runs.clone(), writer, 0, known.clone()));
    }
    while known.lock().unwrap().events.len() < 500 {
        tokio::task::yield_now().await;
    }
    let before = known.lock().unwrap().clone();
    let mut command = on(&data, &["backup", text(&backup)]);
    let taken = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(taken.status.success(), "{}", complaint(&taken));
    let after = known.lock().unwrap().events.len();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    assert!(after > before.events.len(), "nothing was written while the backup was taken");

    // The manifest says what each file is and where the logs ended.
    let manifest: Value = serde_json::from_slice(&fs::read(backup.join("oa-backup.json")).unwrap()).unwrap();
    assert_eq!(said(&taken)["manifest"], manifest);
    let mut listed = 0;
    for file in manifest["files"].as_array().unwrap() {
        let bytes = fs::read(backup.join(file["path"].as_str().unwrap())).unwrap();
        assert_eq!(
            (file["bytes"].as_u64(), file["sha256"].as_str()),
            (Some(bytes.len() as u64), Some(sha256(&bytes).as_str()))
        );
        listed += 1;
    }
    assert_eq!(files(&backup).len(), listed + 1, "nothing lies there that is not listed");
    for file in ["runtime.db", "control.db", "oa.conf", "keys/service.token", "keys/receipt.key"] {
        assert!(backup.join(file).exists(), "{file}");
    }
    let stores: Vec<&str> =
        manifest["stores"].as_array().unwrap().iter().map(|store| store["name"].as_str().unwrap()).collect();
    assert_eq!(stores, ["control", "runtime"], "what control says that it did is in the runtime's copy");
    let runtime = &manifest["stores"][1];
    let events = runtime["events"].as_u64().unwrap() as usize;
    assert!(events >= before.events.len(), "{runtime}");
    assert_eq!(
        (runtime["runs"].as_u64(), runtime["rows"]["run_events"].as_u64()),
        (Some(4), Some(events as u64))
    );

    // It is checked where it lies, and stays as it is; no server starts on it.
    let lying = files(&backup);
    let checked = on(&backup, &["verify-store"]).output().unwrap();
    assert!(checked.status.success(), "{}", complaint(&checked));
    assert_eq!(said(&checked)["whole"], true);
    assert!(refused(on(&backup, &["runtime", "--bind", "127.0.0.1:0"])).contains("is a backup"));
    assert!(refused(on(&backup, &["migrate"])).contains("is a backup"));
    assert_eq!(files(&backup), lying);

    // Nothing is overwritten, whether somebody is there or not.
    let onto = refused(on(&data, &["restore", text(&backup)]));
    assert!(onto.contains("a server runs on"), "{onto}");
    server.kill();
    let onto = refused(on(&data, &["restore", text(&backup)]));
    assert!(onto.contains("holds something"), "{onto}");
    assert!(refused(on(&data, &["backup", text(&backup)])).contains("is there already"));

    let mut command = oa();
    command.args(["-o", "json", "restore", text(&backup), "--data-dir", text(&restored)]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", complaint(&done));
    assert_eq!(said(&done)["restored"], true);
    let mut second = Server::new(&restored);
    second.start().await;
    check(&second.http(), &runs, &before).await;
    assert_eq!(
        fs::read(restored.join("keys/receipt.key")).unwrap(),
        fs::read(data.join("keys/receipt.key")).unwrap()
    );
    let path = format!("/internal/v1/runs/{}/events", runs[0]);
    let appended = second.http().post(&path, &json!({"event_type": "step", "payload": {}})).await;
    assert_eq!(appended.status, 200, "it goes on from there");
    second.kill();
    let checked = on(&restored, &["verify-store"]).output().unwrap();
    assert_eq!(said(&checked)["whole"], true, "{}", complaint(&checked));
    // The first one never noticed.
    server.start().await;
    let all = known.lock().unwrap().clone();
    check(&server.http(), &runs, &all).await;
}

/// A small directory with both stores, and a backup of it.
async fn small(home: &Path, more: &[&str]) -> std::path::PathBuf {
    let (data, backup) = (home.join("data"), home.join("backup"));
    Server::control(&data).add_user("dev@example.com");
    let mut server = Server::new(&data);
    server.start().await;
    let begun = server.http().post("/internal/v1/runs", &json!({})).await.json();
    let run = begun["run"]["id"].as_str().unwrap().replace('-', "");
    fs::write(home.join("run"), run).unwrap();
    server.kill();
    let mut arguments = vec!["backup", text(&backup)];
    arguments.extend(more);
    let taken = on(&data, &arguments).output().unwrap();
    assert!(taken.status.success(), "{}", complaint(&taken));
    backup
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_with_the_name_of_its_file_and_nothing_is_left_behind() {
    let home = tempfile::tempdir().unwrap();
    let backup = small(home.path(), &[]).await;
    let whole = files(&backup);
    let place = home.path().join("places/new");
    let attempt = || refused(on(&place, &["restore", text(&backup)]));
    let manifest = fs::read_to_string(backup.join("oa-backup.json")).unwrap();
    for name in ["runtime.db", "control.db", "keys/receipt.key", "oa.conf"] {
        let path = backup.join(name);
        let good = fs::read(&path).unwrap();
        let mut bent = good.clone();
        bent[good.len() / 2] ^= 1;
        for damaged in [Some(bent), Some(good[..good.len() - 1].to_vec()), None] {
            match &damaged {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let said = attempt();
            assert!(said.contains(name), "{said}");
            let said = refused(on(&backup, &["verify-store"]));
            assert!(said.contains(name), "{said}");
        }
        fs::write(&path, good).unwrap();
    }
    for (bent, wanted) in [
        (manifest[..manifest.len() / 2].to_owned(), "is damaged"),
        (manifest.replace("oa-backup.v1", "oa-backup.v9"), "oa-backup.v9"),
        (manifest.replace("\"runtime.db\"", "\"../runtime.db\""), "no backup holds"),
        (manifest.replace("\"control.db\"", "\"runtime.db\""), "twice"),
    ] {
        fs::write(backup.join("oa-backup.json"), bent).unwrap();
        let said = attempt();
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    fs::remove_file(backup.join("oa-backup.json")).unwrap();
    assert!(attempt().contains("is no backup"));
    // A store whose pages fit their sum and whose rows do not fit their seals: the manifest was forged with it.
    fs::write(backup.join("oa-backup.json"), &manifest).unwrap();
    let path = backup.join("runtime.db");
    let good = fs::read(&path).unwrap();
    let mut bent = good.clone();
    let run = fs::read_to_string(home.path().join("run")).unwrap();
    let run: Vec<u8> =
        (0..32).step_by(2).map(|at| u8::from_str_radix(&run[at..at + 2], 16).unwrap()).collect();
    // Everywhere alike, so that one row fits the other.
    while let Some(at) = find(&bent, &run) {
        bent[at + 15] ^= 1;
    }
    assert_ne!(bent, good);
    fs::write(&path, &bent).unwrap();
    fs::write(backup.join("oa-backup.json"), manifest.replace(&sha256(&good), &sha256(&bent))).unwrap();
    let output = on(&place, &["restore", text(&backup)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    fs::write(&path, good).unwrap();
    fs::write(backup.join("oa-backup.json"), &manifest).unwrap();
    assert!(!place.exists());
    assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 0, "no draft is left");
    assert_eq!(files(&backup), whole);
    assert!(on(&place, &["restore", text(&backup)]).output().unwrap().status.success());
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_keys_holds_no_secret_and_says_so_when_it_is_restored() {
    let home = tempfile::tempdir().unwrap();
    let backup = small(home.path(), &["--without-keys"]).await;
    assert!(!backup.join("keys").exists() && !backup.join("oa.conf").exists());
    for entry in fs::read_dir(home.path().join("data/keys")).unwrap() {
        let secret = fs::read(entry.unwrap().path()).unwrap();
        for (name, bytes) in files(&backup) {
            assert!(find(&bytes, secret.trim_ascii()).is_none(), "{name} holds a key");
        }
    }
    let done = on(&home.path().join("new"), &["restore", text(&backup)]).output().unwrap();
    let notes = said(&done)["notes"].to_string();
    assert!(notes.contains("no keys were in it"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_lists_and_takes_the_steps_and_leaves_a_served_store_alone() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let nothing = on(&data, &["migrate"]).output().unwrap();
    assert_eq!((said(&nothing)["stores"].as_array().map(Vec::len), data.exists()), (Some(0), false));
    let mut server = Server::new(&data);
    server.start().await;
    for arguments in [&["migrate", "--dry-run"][..], &["migrate"][..]] {
        let told = said(&on(&data, arguments).output().unwrap());
        let store = &told["stores"][0];
        assert_eq!(
            (store["store"].as_str(), store["steps"].as_array().map(Vec::len)),
            (Some("runtime"), Some(0))
        );
        assert_eq!(store["from"], store["to"]);
    }
    let elsewhere =
        on(&data, &["backup", text(&home.path().join("b")), "--db-url", "postgres://x@127.0.0.1:1/x"]);
    let told = refused(elsewhere);
    assert!(told.contains("pg_dump") && !home.path().join("b").exists(), "{told}");
    assert!(refused(on(&home.path().join("none"), &["backup", "x"])).contains("there is no store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_brings_postgres_to_the_schema_that_servers_want() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let url = std::env::var("OA_TEST_POSTGRES_URL")
        .expect("OA_TEST_POSTGRES_URL: eval \"$(scripts/postgres-for-tests start)\"");
    let ask = |arguments: &[&str]| {
        let output = on(&data, arguments).env("DB_URL", &url).output().unwrap();
        assert!(output.status.success(), "{}", complaint(&output));
        said(&output)
    };
    // Other tests use this database too, so the schemas may be there already.
    let planned = ask(&["migrate", "--dry-run"]);
    let names: Vec<&str> =
        planned["stores"].as_array().unwrap().iter().map(|store| store["store"].as_str().unwrap()).collect();
    assert_eq!(names, ["control", "runtime"]);
    ask(&["migrate"]);
    for store in ask(&["migrate", "--dry-run"])["stores"].as_array().unwrap() {
        assert_eq!((store["steps"].as_array().map(Vec::len), &store["from"]), (Some(0), &store["to"]));
        assert!(store["from"].as_i64() > Some(0), "{store}");
    }
}

const PAY: &str = "/internal/v1/liquidity/pay";

pub async fn quoted(http: &Http, lightning: &SimulatedLightning, key: &str) -> String {
    let invoice = lightning.invoice(42_000, Timestamp::parse("2026-11-01T00:00:00Z").unwrap());
    let body = json!({"schema": "openagents.liquidity.quote_pay_request.v1", "idempotency_key": key, "invoice": invoice,
        "host": "example.com", "max_amount_msats": 100_000, "max_fee_msats": 10_000, "policy_context": {},
        "owner_user_id": 11});
    let answered = http.post("/internal/v1/liquidity/quote_pay", &body).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["quote_id"].as_str().unwrap().to_owned()
}

pub async fn pay(http: &Http, quote_id: &str) -> (u16, Value) {
    let body = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote_id});
    let answered = http.post(PAY, &body).await;
    (answered.status, answered.json())
}

/// The books are older than the payments; the wallet is not. What was paid since is asked for again, under the same
/// ids, and paid once; what was under way is looked up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_runtime_pays_nothing_twice_while_the_wallet_remembers() {
    let home = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| home.path().join(name));
    let executor = SimulatedWalletExecutor::start(SimulatedLightning::default()).await;
    let environment = [
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL", executor.url()),
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN", EXECUTOR_TOKEN.to_owned()),
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", "400".to_owned()),
        ("RUNTIME_LIQUIDITY_QUOTE_TTL_SECONDS", "3600".to_owned()),
    ];
    let mut server = Server::new(&data);
    server.environment = environment.to_vec();
    server.start().await;
    let http = server.http();
    let (later, under_way) = (
        quoted(&http, &executor.lightning, "later").await,
        quoted(&http, &executor.lightning, "silent").await,
    );
    executor.become_(ExecutorMood::PaysSilently);
    executor.tells(false);
    assert_eq!(pay(&http, &under_way).await.0, 409, "nobody knows how it ended");
    let taken = on(&data, &["backup", text(&backup)]).output().unwrap();
    assert!(taken.status.success(), "{}", complaint(&taken));
    executor.become_(ExecutorMood::Good);
    let (status, first) = pay(&http, &later).await;
    assert_eq!((status, first["status"].as_str()), (200, Some("succeeded")));
    server.kill();
    let done = on(&restored, &["restore", text(&backup)]).output().unwrap();
    assert!(done.status.success(), "{}", complaint(&done));
    executor.tells(true);
    let mut server = Server::new(&restored);
    // First it is only looked at: nothing is paid, and nothing is asked about.
    server.environment = environment.to_vec();
    server.environment.push(("RUNTIME_AUTHORITY_WRITE_MODE", "read_only".into()));
    server.start().await;
    let (asked, paid) = (executor.asked_about(), executor.asked_to_pay());
    assert_eq!(pay(&server.http(), &later).await.0, 503);
    assert_eq!((executor.asked_about(), executor.asked_to_pay()), (asked, paid));
    server.kill();
    server.environment.pop();
    server.start().await;
    let http = server.http();
    let (status, again) = pay(&http, &later).await;
    assert_eq!((status, again["status"].as_str()), (200, Some("succeeded")));
    assert_eq!(again["payment_proof"], first["payment_proof"], "it is the same payment");
    loop {
        let (status, told) = pay(&http, &under_way).await;
        if status == 200 {
            assert_eq!(told["status"], "succeeded");
            break;
        }
        assert_eq!(status, 409, "{told}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(executor.lightning.payments(), 2, "two invoices, each paid once");
}
