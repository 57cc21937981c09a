//! `oa codex-worker` with the real codex, a SIMULATED model and a real control service that is killed.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use oa_testkit::{
    Http,
    simulated::{SimulatedAnswer, SimulatedResponses},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::server::{Server, oa};

const WORKER: &str = "codexw:test";
/// Nothing here takes that long unless it never happens.
const LONG: Duration = Duration::from_secs(120);

/// The real codex. `cargo xtask ci` installs it.
fn codex() -> PathBuf {
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/codex/node_modules/.bin/codex");
    let path = std::env::var_os("OA_TEST_CODEX").map_or(installed, PathBuf::from);
    assert!(
        path.exists(),
        "codex is not at {}: run `npm install --ignore-scripts --prefix target/tools/codex @openai/codex@0.169.0`, \
         or name one with OA_TEST_CODEX",
        path.display()
    );
    path
}

/// A worker of a control service, with a codex that asks a simulated model.
struct Bench {
    home: TempDir,
    control: Server,
    token: String,
    model: SimulatedResponses,
    worker: Option<Child>,
}

impl Bench {
    /// Everything but the worker; control is not started either.
    async fn new(answers: Vec<SimulatedAnswer>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let model = SimulatedResponses::start(answers).await.unwrap();
        // Commands that codex asks permission for run outside its sandbox, which need not work where tests run.
        model.configure_codex(&home.path().join("codex"), "workspace-write").unwrap();
        std::fs::create_dir_all(home.path().join("work")).unwrap();
        let control = Server::control(&home.path().join("control"));
        let token = control.add_user("dev@example.com");
        Bench { home, control, token, model, worker: None }
    }

    async fn running(answers: Vec<SimulatedAnswer>, approvals: &str) -> Self {
        let mut bench = Bench::new(answers).await;
        bench.control.start().await;
        bench.start_worker(approvals);
        bench.wait_until_ready().await;
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn start_worker(&mut self, approvals: &str) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("worker.log")).unwrap();
        let mut command = oa();
        command
            .arg("--data")
            .arg(self.path("data"))
            .args(["codex-worker", "--control-url", &self.control.url(), "--worker-id", WORKER])
            .args(["--approvals", approvals, "--verbose", "--workspace"])
            .arg(self.path("work"))
            .arg("--codex-home")
            .arg(self.path("codex"))
            .arg("--codex")
            .arg(codex())
            .env("OA_CONTROL_TOKEN", &self.token)
            .env("HOME", self.home.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // A signal to the tests is not one to the worker.
            .process_group(0);
        self.worker = Some(command.spawn().unwrap());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("worker.log")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.worker.as_ref().unwrap().id()
    }

    fn signal(&self, signal: &str) {
        send_signal(signal, self.pid());
    }

    /// Waits for the worker to end, and says how.
    async fn worker_ended(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.worker.as_mut().unwrap().try_wait().unwrap() {
                self.worker = None;
                return status.code();
            }
            assert!(begun.elapsed() < LONG, "the worker does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn http(&self) -> Http {
        Http::new(self.control.url(), Some(self.token.clone()))
    }

    fn url(&self, tail: &str) -> String {
        format!("/api/runtime/codex/workers/{WORKER}{tail}")
    }

    async fn snapshot(&self) -> Value {
        self.http().get(&self.url("")).await.json()["data"].clone()
    }

    /// Until control knows the worker and the worker has its codex.
    async fn wait_until_ready(&self) {
        self.until("codex to be ready", async || self.spool().contains("codex/started")).await;
        self.until("the worker to be attached", async || self.snapshot().await["attached"] == true).await;
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            assert!(begun.elapsed() < LONG, "waited in vain for {what}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn request(&self, request: Value) -> (u16, Value) {
        let answered = self.http().post(&self.url("/requests"), &json!({"request": request})).await;
        (answered.status, answered.json())
    }

    /// Starts a turn and expects it to begin.
    async fn turn(&self, request_id: &str, thread_id: &str, text: &str) -> String {
        let params = json!({"thread_id": thread_id, "text": text});
        let request =
            json!({"request_id": request_id, "method": "turn/start", "params": params, "wait_ms": 30_000});
        let (status, answered) = self.request(request).await;
        let data = &answered["data"];
        assert_eq!((status, &data["ok"]), (200, &json!(true)), "{answered}\n{}", self.log());
        data["response"]["turn"]["id"].as_str().unwrap().to_owned()
    }

    fn watch(&self, after: u64) -> Watch {
        Watch::begin(self.http(), self.url("/stream"), after)
    }

    /// What the spool of the worker holds, as text.
    fn spool(&self) -> String {
        let path = self.path("data/spool");
        let folders = std::fs::read_dir(path).into_iter().flatten().flatten();
        folders.filter_map(|folder| std::fs::read_to_string(folder.path().join("log.jsonl")).ok()).collect()
    }

    async fn messages(&self, thread_id: &str) -> Vec<(String, String)> {
        let read = self.http().get(&format!("/api/runtime/threads/{thread_id}/messages")).await.json();
        let texts = read["data"]["messages"].as_array().unwrap_or_else(|| panic!("{read}")).iter();
        texts
            .map(|message| {
                (message["role"].as_str().unwrap().to_owned(), message["text"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// The process of codex.
    fn codex(&self) -> Option<u32> {
        children(self.pid()).first().copied()
    }

    /// The process of the command that writes its number down.
    fn command(&self) -> Option<u32> {
        std::fs::read_to_string(self.path("work/pid.txt")).ok()?.trim().parse().ok()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(worker) = &mut self.worker {
            // In order first, so that codex goes too.
            send_signal("TERM", worker.id());
            let begun = Instant::now();
            while worker.try_wait().is_ok_and(|ended| ended.is_none()) {
                if begun.elapsed() > Duration::from_secs(5) {
                    let _ = worker.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if std::thread::panicking() {
            eprintln!("the worker said:\n{}\nits spool:\n{}", self.log(), self.spool());
        }
    }
}

fn send_signal(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

fn lives(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// A client that watches the feed by server-sent events.
struct Watch {
    seen: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Follows the feed behind an event, until the connection breaks.
    fn begin(http: Http, path: String, after: u64) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let held = seen.clone();
        let task = tokio::spawn(async move {
            let last = after.to_string();
            let headers = [("accept", "text/event-stream"), ("last-event-id", last.as_str())];
            let mut response = http.open(&path, &headers).await;
            assert_eq!(response.status(), 200);
            let mut text = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                text.extend_from_slice(&chunk);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = text.drain(..end + 2).collect();
                    let event = String::from_utf8(event).unwrap();
                    let line = |name: &str| {
                        event
                            .lines()
                            .find_map(|line| line.strip_prefix(name))
                            .map(str::trim)
                            .map(str::to_owned)
                    };
                    let (Some(id), Some(data)) = (line("id:"), line("data:")) else { continue };
                    let data: Value = serde_json::from_str(&data).unwrap();
                    assert_eq!(id, data["seq"].to_string(), "the id of an event is its number");
                    held.lock().unwrap().push(data);
                }
            }
        });
        Watch { seen, task }
    }

    fn events(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    fn has(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.seen.lock().unwrap().iter().any(wanted)
    }

    /// Hangs up; gives what came until then.
    async fn hang_up(self) -> Vec<Value> {
        self.task.abort();
        let _ = self.task.await;
        let seen = self.seen.lock().unwrap();
        seen.clone()
    }
}

fn is(event: &Value, method: &str) -> bool {
    event["event_type"] == "worker.event" && event["payload"]["method"] == method
}

fn is_end_of(event: &Value, turn: &str) -> bool {
    is(event, "turn/completed") && event["payload"]["turn_id"] == turn
}

fn says(event: &Value, piece: &str) -> bool {
    is(event, "item/agentMessage/delta") && event["payload"]["params"]["delta"] == piece
}

/// The numbers have no gap and no repetition, and neither have the ids.
fn assert_whole(events: &[Value]) {
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let mut ids: Vec<&str> = events.iter().filter_map(|event| event["event_id"].as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an event was taken twice");
}

/// The only answer to a request.
fn answer_to(events: &[Value], request_id: &str) -> Value {
    let answers: Vec<&Value> = events
        .iter()
        .filter(|event| ["worker.response", "worker.error"].contains(&event["event_type"].as_str().unwrap()))
        .filter(|event| event["payload"]["request_id"] == request_id)
        .collect();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    answers[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_runs_a_command_after_permission_and_what_was_said_is_in_the_thread() {
    let answers = vec![
        SimulatedAnswer::run_escalated("echo hello > out.txt; cat out.txt"),
        SimulatedAnswer::say(&["All ", "done."]),
        SimulatedAnswer::run_escalated("echo no > refused.txt"),
        SimulatedAnswer::say(&["Then not."]),
    ];
    let bench = Bench::running(answers, "ask").await;
    let watch = bench.watch(0);
    let asks = |turn: &str| {
        let question = |event: &&Value| {
            is(event, "item/commandExecution/requestApproval") && event["payload"]["turn_id"] == turn
        };
        let id = |event: &Value| event["payload"]["approval_id"].as_str().unwrap().to_owned();
        watch.events().iter().find(question).map(id)
    };
    for (request_id, decision) in [("r1", "accept"), ("r2", "decline")] {
        let turn = bench.turn(request_id, "thread-1", "please do it").await;
        bench.until("codex to ask", async || asks(&turn).is_some()).await;
        let approval = json!({"approval_id": asks(&turn).unwrap(), "decision": decision});
        let event = json!({"event": {"event_type": "worker.approval", "payload": approval}});
        assert_eq!(bench.http().post(&bench.url("/events"), &event).await.status, 202);
        bench.until("the turn to end", async || watch.has(|event| is_end_of(event, &turn))).await;
    }
    assert_eq!(std::fs::read_to_string(bench.path("work/out.txt")).unwrap(), "hello\n");
    assert!(!bench.path("work/refused.txt").exists(), "what was declined was done");
    let events = watch.hang_up().await;
    assert_whole(&events);
    for request_id in ["r1", "r2"] {
        assert_eq!(answer_to(&events, request_id)["event_type"], "worker.response");
    }
    // What codex says of a turn comes in codex's order and says which request it is about.
    let of_turn = |method: &str| {
        events.iter().position(|event| is(event, method) && event["payload"]["request_id"] == "r1")
    };
    let order = [
        "turn/started",
        "item/commandExecution/requestApproval",
        "item/agentMessage/delta",
        "turn/completed",
    ];
    let places: Vec<usize> = order.iter().map(|method| of_turn(method).expect(method)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let messages = bench.messages("thread-1").await;
    let of = |role: &str| -> Vec<&str> {
        messages.iter().filter(|(who, _)| who == role).map(|(_, text)| text.as_str()).collect()
    };
    assert_eq!(of("user"), ["please do it", "please do it"]);
    assert_eq!(of("assistant"), ["All done.", "Then not."]);
    let (status, read) =
        bench.request(json!({"request_id": "r3", "method": "thread/read", "thread_id": "thread-1"})).await;
    let said = read["data"]["response"]["messages"].as_array().unwrap_or_else(|| panic!("{status} {read}"));
    assert_eq!(said.len(), 4);
    let (_, listed) = bench.request(json!({"request_id": "r4", "method": "thread/list"})).await;
    assert_eq!(listed["data"]["response"]["threads"][0]["thread_id"], "thread-1", "{listed}");
}

/// The proof of the whole: a turn, a watcher who goes away and comes back, and a control service that is killed
/// while codex speaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_survives_a_killed_control_and_a_watcher_resumes_without_gap_or_repetition() {
    let pieces = ["one ", "two ", "three ", "four ", "five ", "six."];
    let answers =
        vec![SimulatedAnswer::run_escalated("echo hello > out.txt"), SimulatedAnswer::say_stepped(&pieces)];
    let mut bench = Bench::running(answers, "accept").await;
    let first = bench.watch(0);
    let turn = bench.turn("r1", "thread-1", "tell me").await;
    bench.model.step(2);
    bench.until("the second piece", async || first.has(|event| says(event, "two "))).await;
    // The watcher goes away in the middle, and so does control, while codex goes on speaking.
    let mut events = first.hang_up().await;
    bench.control.kill();
    bench.model.step(2);
    bench.until("the fourth piece to be kept", async || bench.spool().contains(r#""delta":"four ""#)).await;
    bench.control.start().await;
    let second = bench.watch(events.last().unwrap()["seq"].as_u64().unwrap());
    bench.until("the fourth piece to arrive", async || second.has(|event| says(event, "four "))).await;
    // Once more, with the watcher connected and nothing said beforehand.
    bench.control.kill();
    bench.model.step(3);
    bench
        .until("the turn to end at the worker", async || {
            bench.spool().contains(r#""method":"turn/completed""#)
        })
        .await;
    events.extend(second.hang_up().await);
    bench.control.start().await;
    let third = bench.watch(events.last().unwrap()["seq"].as_u64().unwrap());
    bench.until("the turn to end", async || third.has(|event| is_end_of(event, &turn))).await;
    events.extend(third.hang_up().await);
    assert_whole(&events);
    let said: Vec<&str> = events
        .iter()
        .filter(|event| is(event, "item/agentMessage/delta"))
        .map(|event| event["payload"]["params"]["delta"].as_str().unwrap())
        .collect();
    assert_eq!(said, pieces);
    let ends: Vec<&Value> = events.iter().filter(|event| is(event, "turn/completed")).collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["payload"]["params"]["turn"]["status"], "completed");
    assert_eq!(answer_to(&events, "r1")["event_type"], "worker.response");
    // Asked again, the request is answered and not done again.
    let again = json!({"request_id": "r1", "method": "turn/start", "params": {"thread_id": "thread-1", "text": "tell me"}, "wait_ms": 30_000});
    let (status, answered) = bench.request(again).await;
    let data = &answered["data"];
    assert_eq!(
        (status, &data["ok"], &data["idempotent_replay"]),
        (200, &json!(true), &json!(true)),
        "{answered}"
    );
    assert_eq!(data["response"]["turn"]["id"], turn.as_str());
    assert_eq!(bench.model.asked().len(), 2, "the model was asked for one turn only");
    let messages = bench.messages("thread-1").await;
    assert_eq!(messages.first(), Some(&("user".to_owned(), "tell me".to_owned())));
    assert_eq!(messages.last(), Some(&("assistant".to_owned(), pieces.concat())));
    assert_eq!(messages.iter().filter(|(role, _)| role == "assistant").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_pending_when_control_was_killed_is_done_and_answered_once() {
    let mut bench = Bench::running(vec![SimulatedAnswer::say(&["Late."])], "decline").await;
    let request = json!({"request_id": "r1", "method": "turn/start", "params": {"thread_id": "thread-1", "text": "hi"}, "wait_ms": 1});
    // The worker hears nothing for a while.
    bench.signal("STOP");
    let (status, answered) = bench.request(request.clone()).await;
    assert_eq!((status, &answered["data"]["ok"]), (202, &Value::Null), "{answered}");
    bench.control.kill();
    bench.control.start().await;
    bench.signal("CONT");
    let watch = bench.watch(0);
    bench.until("the turn to end", async || watch.has(|event| is(event, "turn/completed"))).await;
    let (status, answered) = bench.request(request).await;
    assert_eq!((status, &answered["data"]["ok"]), (200, &json!(true)), "{answered}");
    let events = watch.hang_up().await;
    assert_whole(&events);
    assert_eq!(answer_to(&events, "r1")["payload"]["response"], answered["data"]["response"]);
    assert_eq!(bench.model.asked().len(), 1);
    assert_eq!(
        bench.messages("thread-1").await,
        [("user".into(), "hi".into()), ("assistant".into(), "Late.".into())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_that_is_away_from_the_start_gets_everything_when_it_comes() {
    let mut bench = Bench::new(vec![SimulatedAnswer::say(&["Hello."])]).await;
    bench.start_worker("decline");
    bench.until("codex to be ready", async || bench.spool().contains("codex/started")).await;
    assert!(bench.log().contains("control is away"), "{}", bench.log());
    bench.control.start().await;
    bench.wait_until_ready().await;
    let watch = bench.watch(0);
    bench.until("what waited", async || watch.has(|event| is(event, "codex/started"))).await;
    let turn = bench.turn("r1", "thread-1", "hi").await;
    bench.until("the turn to end", async || watch.has(|event| is_end_of(event, &turn))).await;
    assert_whole(&watch.hang_up().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_interrupts_its_turn_and_leaves_nothing_behind() {
    let answers = vec![SimulatedAnswer::run_escalated("echo $$ > pid.txt; sleep 1000")];
    let mut bench = Bench::running(answers, "accept").await;
    let watch = bench.watch(0);
    let turn = bench.turn("r1", "thread-1", "wait").await;
    bench.until("the command to run", async || bench.command().is_some()).await;
    let command = bench.command().unwrap();
    let codex = bench.codex().unwrap();
    assert!(lives(command) && lives(codex));
    bench.signal("TERM");
    assert_eq!(bench.worker_ended().await, Some(0), "{}", bench.log());
    assert!(!lives(command) && !lives(codex), "something of it still runs");
    bench.until("the stop", async || watch.has(|event| event["event_type"] == "worker.stopped")).await;
    let events = watch.hang_up().await;
    assert_whole(&events);
    let end = events.iter().find(|event| is_end_of(event, &turn)).expect("an end of the turn");
    assert_eq!(end["payload"]["params"]["turn"]["status"], "interrupted");
    assert_eq!(bench.snapshot().await["status"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_codex_is_started_again_goes_on_with_its_thread_and_its_commands_are_gone() {
    let answers = vec![
        SimulatedAnswer::say(&["First."]),
        SimulatedAnswer::run_escalated("echo $$ > pid.txt; sleep 1000"),
        SimulatedAnswer::say(&["Third."]),
    ];
    let bench = Bench::running(answers, "accept").await;
    let watch = bench.watch(0);
    let first = bench.turn("r1", "thread-1", "first").await;
    bench.until("the first turn", async || watch.has(|event| is_end_of(event, &first))).await;
    let second = bench.turn("r2", "thread-1", "second").await;
    bench.until("the command to run", async || bench.command().is_some()).await;
    let command = bench.command().unwrap();
    send_signal("KILL", bench.codex().unwrap());
    bench.until("the end of the turn", async || watch.has(|event| is_end_of(event, &second))).await;
    bench.until("the command to be gone", async || !lives(command)).await;
    let ended = watch.events().into_iter().find(|event| is_end_of(event, &second)).unwrap();
    assert_eq!(ended["payload"]["said_by"], "oa_codex_worker", "codex did not say so itself");
    assert_eq!(ended["payload"]["params"]["turn"]["status"], "failed");
    let starts = || watch.events().iter().filter(|event| is(event, "codex/started")).count();
    bench.until("codex to be back", async || starts() == 2).await;
    let third = bench.turn("r3", "thread-1", "third").await;
    bench.until("the third turn", async || watch.has(|event| is_end_of(event, &third))).await;
    let asked = bench.model.asked().last().unwrap()["input"].to_string();
    assert!(asked.contains("first") && asked.contains("First."), "the thread was not resumed: {asked}");
    assert_whole(&watch.hang_up().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_killed_in_a_turn_says_so_when_it_is_back_and_does_nothing_twice() {
    let answers = vec![SimulatedAnswer::say_stepped(&["never"]), SimulatedAnswer::say(&["Back."])];
    let mut bench = Bench::running(answers, "decline").await;
    let watch = bench.watch(0);
    let lost = bench.turn("r1", "thread-1", "first").await;
    bench.until("the model to be asked", async || bench.model.asked().len() == 1).await;
    bench.signal("KILL");
    bench.worker_ended().await;
    bench.start_worker("decline");
    bench.until("the lost turn to be ended", async || watch.has(|event| is_end_of(event, &lost))).await;
    let turn = bench.turn("r2", "thread-1", "second").await;
    bench.until("the turn to end", async || watch.has(|event| is_end_of(event, &turn))).await;
    let events = watch.hang_up().await;
    assert_whole(&events);
    let ended = events.iter().find(|event| is_end_of(event, &lost)).unwrap();
    assert_eq!(ended["payload"]["params"]["turn"]["status"], "failed");
    answer_to(&events, "r1");
    answer_to(&events, "r2");
    assert_eq!(bench.model.asked().len(), 2, "something was done twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_can_be_interrupted_and_a_request_cannot_widen_what_codex_may_do() {
    let answers = vec![SimulatedAnswer::say_stepped(&["a", "b"]), SimulatedAnswer::say(&["Again."])];
    let bench = Bench::running(answers, "decline").await;
    let watch = bench.watch(0);
    let turn = bench.turn("r1", "thread-1", "first").await;
    bench.model.step(1);
    bench.until("the first piece", async || watch.has(|event| says(event, "a"))).await;
    let interrupt = json!({"request_id": "r2", "method": "turn/interrupt", "thread_id": "thread-1", "params": {"turn_id": turn}});
    let (_, answered) = bench.request(interrupt).await;
    assert_eq!(answered["data"]["response"]["status"], "interrupted", "{answered}");
    bench.until("the turn to end", async || watch.has(|event| is_end_of(event, &turn))).await;
    let wider = json!({"request_id": "r3", "method": "turn/start", "params": {"thread_id": "thread-1", "text": "x", "sandboxPolicy": {"type": "dangerFullAccess"}}});
    let (_, answered) = bench.request(wider).await;
    assert_eq!(answered["data"]["ok"], false, "{answered}");
    assert_eq!(answered["data"]["error"]["code"], "forbidden", "{answered}");
    assert_eq!(bench.model.asked().len(), 1);
    assert_whole(&watch.hang_up().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_at_control_ends() {
    let mut bench = Bench::running(Vec::new(), "decline").await;
    let stop = json!({"reason": "enough"});
    assert_eq!(bench.http().post(&bench.url("/stop"), &stop).await.status, 202);
    assert_eq!(bench.worker_ended().await, Some(0), "{}", bench.log());
    assert!(bench.log().contains("stopped at control"), "{}", bench.log());
    // And comes back when it is started again.
    bench.start_worker("decline");
    bench.until("the worker to run", async || bench.snapshot().await["status"] == "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_control_does_not_take_ends_the_worker_with_a_sentence() {
    let mut bench = Bench::new(Vec::new()).await;
    bench.control.start().await;
    bench.token = "oa_pat_00000000000000000000000000000000".to_owned();
    bench.start_worker("decline");
    assert_eq!(bench.worker_ended().await, Some(4), "{}", bench.log());
    assert!(bench.log().contains("does not accept the credential"), "{}", bench.log());
}

#[test]
fn a_missing_codex_says_how_to_install_it() {
    let home = tempfile::tempdir().unwrap();
    let ended = oa()
        .arg("--data")
        .arg(home.path().join("data"))
        .args(["codex-worker", "--workspace"])
        .arg(home.path())
        .env("PATH", home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("npm install -g @openai/codex"), "{said}");
}

/// The binary describes its own protocol; what the worker relies on must stand there.
#[test]
fn the_protocol_of_this_codex_still_has_what_the_worker_relies_on() {
    let home = tempfile::tempdir().unwrap();
    let made = Command::new(codex())
        .args(["app-server", "generate-json-schema", "--out"])
        .arg(home.path())
        .env("CODEX_HOME", home.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(home.path().join(name)).unwrap_or_else(|_| panic!("no {name}"));
        serde_json::from_str(&text).unwrap()
    };
    let methods = |name: &str| -> Vec<String> {
        let kinds = read(name)["oneOf"].as_array().unwrap().clone();
        kinds
            .iter()
            .map(|kind| kind["properties"]["method"]["enum"][0].as_str().unwrap().to_owned())
            .collect()
    };
    let holds = |file: &str, wanted: &[&str]| {
        let there = methods(file);
        for method in wanted {
            assert!(there.iter().any(|known| known == method), "{file} has no {method}");
        }
    };
    holds(
        "ClientRequest.json",
        &[
            "initialize",
            "thread/start",
            "thread/resume",
            "thread/list",
            "thread/read",
            "turn/start",
            "turn/interrupt",
        ],
    );
    holds("ClientNotification.json", &["initialized"]);
    holds(
        "ServerNotification.json",
        &["turn/started", "turn/completed", "item/started", "item/completed", "item/agentMessage/delta"],
    );
    holds(
        "ServerRequest.json",
        &[
            "item/commandExecution/requestApproval",
            "item/fileChange/requestApproval",
            "item/permissions/requestApproval",
            "mcpServer/elicitation/request",
            "execCommandApproval",
            "applyPatchApproval",
        ],
    );
    let members = [
        ("v1/InitializeParams.json", &["clientInfo"][..]),
        ("v1/InitializeResponse.json", &["userAgent"]),
        (
            "v2/ThreadStartParams.json",
            &["cwd", "model", "baseInstructions", "developerInstructions", "ephemeral"],
        ),
        ("v2/ThreadStartResponse.json", &["thread"]),
        ("v2/ThreadResumeParams.json", &["threadId", "excludeTurns"]),
        ("v2/ThreadListParams.json", &["cwd", "cursor", "limit"]),
        ("v2/ThreadListResponse.json", &["data", "nextCursor"]),
        ("v2/ThreadReadParams.json", &["threadId", "includeTurns"]),
        ("v2/TurnStartParams.json", &["threadId", "input", "model", "effort", "summary", "outputSchema"]),
        ("v2/TurnStartResponse.json", &["turn"]),
        ("v2/TurnInterruptParams.json", &["threadId", "turnId"]),
        ("v2/TurnCompletedNotification.json", &["threadId", "turn"]),
        ("v2/AgentMessageDeltaNotification.json", &["threadId", "turnId", "itemId", "delta"]),
        ("v2/ItemCompletedNotification.json", &["threadId", "turnId", "item"]),
        ("CommandExecutionRequestApprovalResponse.json", &["decision"]),
        ("PermissionsRequestApprovalResponse.json", &["permissions", "scope"]),
        ("McpServerElicitationRequestResponse.json", &["action"]),
    ];
    for (file, wanted) in members {
        let there = read(file)["properties"].clone();
        for member in wanted {
            assert!(!there[*member].is_null(), "{file} has no {member}");
        }
    }
    let decisions = read("CommandExecutionRequestApprovalResponse.json")["definitions"].to_string();
    for word in ["accept", "acceptForSession", "decline", "cancel"] {
        assert!(decisions.contains(&format!("\"{word}\"")), "no decision {word}");
    }
}
