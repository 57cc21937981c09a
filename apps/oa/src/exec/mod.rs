//! Decides how a command becomes a run: opened before it starts, recorded while it runs, delivered when the server is there, and never silently lost.

mod process;
mod recorder;
mod sender;
mod spool;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Nothing,
    canonical::hex,
    matrix::{RunsGet, RunsReceipt},
    operation::Call,
    wire::{
        paths::RunPath,
        runs::{EventWindow, RunReply, StartRun},
    },
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncWrite, sync::watch, task::JoinHandle};
use uuid::Uuid;

pub use self::{
    process::Signals,
    recorder::output_event,
    sender::{append, start_run},
};
use self::{
    process::locked,
    recorder::{End, Recorder, Seen},
    sender::{Progress, Sender, Verdict},
    spool::{Header, Spool},
};
use crate::{
    backoff::{Backoff, may_pass},
    connect::Place,
    data_dir::DataDir,
    failure::{Failure, NO_ANSWER, NOT_STARTED, OK, REFUSED},
    output::Format,
};

/// How long the server may take to open the run before the command is refused.
const OPENING: Duration = Duration::from_secs(3);
/// A longer command is recorded by its first word and its hash.
const LONGEST_COMMAND: usize = 64 * 1024;

/// What is to be recorded, and how.
pub struct Order {
    pub argv: Vec<OsString>,
    /// An existing run; without one a new run is opened.
    pub run: Option<Uuid>,
    pub name: Option<String>,
    pub metadata: Option<String>,
    /// Ends an existing run with the command; a new run always ends with it.
    pub finish: bool,
    /// Starts the command even when no server answers.
    pub offline_ok: bool,
    pub patience: Duration,
}

/// Everything that a recording needs around it.
pub struct Around<'a> {
    pub place: &'a Place,
    pub data: &'a DataDir,
    pub format: Format,
}

/// Runs and records a command; gives its exit code.
pub async fn run(order: Order, around: Around<'_>) -> Result<u8, Failure> {
    run_into(order, around, tokio::io::stdout(), tokio::io::stderr()).await
}

async fn run_into<O, E>(order: Order, around: Around<'_>, out: O, err: E) -> Result<u8, Failure>
where
    O: AsyncWrite + Unpin + Send + 'static,
    E: AsyncWrite + Unpin + Send + 'static,
{
    let command = command_of(&order.argv)?;
    let client = around.place.client()?;
    let target = Target::open(&order, &command, &client).await?;
    let finish = order.run.is_none() || order.finish;
    let spool = Arc::new(make_spool(&around, &target, finish)?);
    let mut signals =
        Signals::catch().map_err(|error| not_started(format!("signals cannot be caught: {error}")))?;
    let delivery = Delivery::begin(client, spool.clone(), target.run_id, target.start);
    let recorder = Arc::new(Mutex::new(Recorder::new(spool.clone(), target.prefix, command)));
    let end = process::run(&order.argv, &recorder, &mut signals, out, err)
        .await
        .map_err(|error| Failure::wrong(format!("the command was lost from sight: {error}")))?;
    if let (Some(error), true) = (&end.error, end.signal.is_none()) {
        around.format.note(&format!("{}: {error}", order.argv[0].to_string_lossy()));
    }
    let seen = match locked(&recorder).ended(&end, finish) {
        Ok(seen) => seen,
        Err(error) => {
            around.format.note(&format!("the end of the command could not be recorded: {error}"));
            locked(&recorder).seen()
        }
    };
    spool.close();
    let delivered = delivery.finish(order.patience, &mut signals).await;
    report(&around, &spool, &delivered, Some((&end, seen)), finish).await;
    Ok(u8::try_from(end.exit_code).unwrap_or(1))
}

/// Sends what an earlier recording left behind.
pub async fn resume(path: &Path, patience: Duration, around: Around<'_>) -> Result<u8, Failure> {
    let (spool, header) = Spool::open(path).map_err(|error| Failure::file(path, &error))?;
    if header.runtime != around.place.url {
        around
            .format
            .note(&format!("this was recorded for {}, and is sent to {}", header.runtime, around.place.url));
    }
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let spool = Arc::new(spool);
    let delivery = Delivery::begin(around.place.client()?, spool.clone(), header.run_id, header.start);
    let delivered = delivery.finish(patience, &mut signals).await;
    report(&around, &spool, &delivered, None, true).await;
    if header.finishes && matches!(delivered.outcome, Outcome::All) && !delivered.finished {
        around.format.note("the recording broke off before its command had ended: what became of the command is not known, and its run stays open");
    }
    Ok(match delivered.outcome {
        Outcome::All | Outcome::AllButTheEnd(_) => OK,
        Outcome::Stopped(_) => REFUSED,
        Outcome::Waits(_) => NO_ANSWER,
    })
}

fn not_started(why: impl std::fmt::Display) -> Failure {
    Failure::new(NOT_STARTED, format!("the command was not started: {why}"))
}

/// Where the events go, and under which keys.
struct Target {
    run_id: Option<Uuid>,
    start: Option<StartRun>,
    prefix: String,
    file: String,
}

impl Target {
    async fn open(order: &Order, command: &Value, client: &Client) -> Result<Self, Failure> {
        let recording = Uuid::now_v7().simple().to_string();
        if let Some(run_id) = order.run {
            if order.name.is_some() || order.metadata.is_some() {
                return Err(Failure::usage(
                    "--name and --metadata belong to a new run; the run of --run has its own",
                ));
            }
            check_open(client, run_id).await?;
            // Several commands may be recorded in one run, so each has keys and a spool of its own.
            let (prefix, file) = (format!("exec:{recording}:"), format!("exec-{run_id}-{recording}.jsonl"));
            return Ok(Target { run_id: Some(run_id), start: None, prefix, file });
        }
        let start = StartRun {
            worker_id: None,
            metadata: Some(metadata_of(order, command)?),
            idempotency_key: Some(format!("exec:{recording}")),
        };
        let prefix = "exec:".to_owned();
        match open_soon(client, &start).await {
            Ok(run_id) => {
                Ok(Target { run_id: Some(run_id), start: None, prefix, file: format!("exec-{run_id}.jsonl") })
            }
            Err(error) if order.offline_ok && may_pass(&error) => Ok(Target {
                run_id: None,
                start: Some(start),
                prefix,
                file: format!("exec-{recording}.jsonl"),
            }),
            Err(error) => Err(not_started(Failure::call(client.base(), error))),
        }
    }
}

async fn open_soon(client: &Client, start: &StartRun) -> Result<Uuid, CallError> {
    let (begun, mut backoff) = (Instant::now(), Backoff::new());
    loop {
        match start_run(client, start).await {
            Err(error) if may_pass(&error) && begun.elapsed() < OPENING => backoff.wait(&error).await,
            done => return done,
        }
    }
}

/// A run that has ended takes no more commands.
async fn check_open(client: &Client, run_id: Uuid) -> Result<(), Failure> {
    let window = EventWindow { after: None, limit: Some(1) };
    let call = Call::<RunsGet> { path: RunPath { run_id }, query: window, body: Nothing {} };
    let reply: RunReply =
        client.call(call).await.map_err(|error| not_started(Failure::call(client.base(), error)))?;
    match reply.run.status.is_terminal() {
        true => Err(not_started(format!("run {run_id} has already ended as {}", reply.run.status.name()))),
        false => Ok(()),
    }
}

/// `{argv, cwd}`. An argument that is not text is given in base64 beside its nearest text.
fn command_of(argv: &[OsString]) -> Result<Value, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|error| not_started(format!("the working directory is gone: {error}")))?;
    let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = json!({"argv": words, "cwd": cwd.to_string_lossy()});
    if argv.iter().any(|word| word.to_str().is_none()) {
        command["argv_base64"] = argv.iter().map(|word| STANDARD.encode(word.as_bytes())).collect();
    }
    let bytes: usize = argv.iter().map(|word| word.len() + 1).sum();
    if bytes > LONGEST_COMMAND {
        let mut hash = Sha256::new();
        for word in argv {
            hash.update(word.as_bytes());
            hash.update([0]);
        }
        let digest = format!("sha256:{}", hex(&hash.finalize()));
        let first = words.first().map(|word| crate::output::shortened(word, 4096));
        command =
            json!({"argv": [first], "argv_bytes": bytes, "argv_hash": digest, "cwd": cwd.to_string_lossy()});
    }
    Ok(command)
}

/// What the new run is: the command, where it runs, and what the caller adds.
fn metadata_of(order: &Order, command: &Value) -> Result<Box<serde_json::value::RawValue>, Failure> {
    let mut metadata = Map::new();
    metadata.insert("kind".into(), json!("exec"));
    metadata.extend(command.as_object().cloned().unwrap_or_default());
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).ok();
    metadata.insert("host".into(), json!(host));
    metadata.insert("oa_version".into(), json!(env!("CARGO_PKG_VERSION")));
    if let Some(name) = &order.name {
        metadata.insert("name".into(), json!(name));
    }
    if let Some(text) = &order.metadata {
        let given: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("--metadata must be one JSON object: {error}")))?;
        if let Some(name) = given.keys().find(|name| metadata.contains_key(*name)) {
            return Err(Failure::usage(format!("--metadata must not say {name:?}: `oa exec` says it")));
        }
        metadata.extend(given);
    }
    serde_json::value::to_raw_value(&metadata).map_err(|error| Failure::usage(error.to_string()))
}

fn make_spool(around: &Around<'_>, target: &Target, finish: bool) -> Result<Spool, Failure> {
    let path = around.data.create_spool().map_err(not_started)?.join(&target.file);
    let header = Header::new(&around.place.url, target.run_id, target.start.clone(), finish);
    Spool::create(&path, &header).map_err(|error| not_started(Failure::file(&path, &error)))
}

/// Sending in the background.
struct Delivery {
    task: JoinHandle<Verdict>,
    progress: watch::Receiver<Progress>,
    client: Client,
}

/// What became of the recording.
struct Delivered {
    client: Client,
    run_id: Option<Uuid>,
    events: u64,
    /// Whether we ended the run.
    finished: bool,
    outcome: Outcome,
}

enum Outcome {
    All,
    /// Somebody else had ended the run, in these words.
    AllButTheEnd(String),
    /// The server refuses the rest.
    Stopped(String),
    /// The server stayed away.
    Waits(String),
}

impl Delivery {
    fn begin(client: Client, spool: Arc<Spool>, run_id: Option<Uuid>, start: Option<StartRun>) -> Self {
        let first = Progress { run_id, last: Instant::now(), events: 0, finished: false, trouble: None };
        let (tell, progress) = watch::channel(first);
        let sender = Sender { client: client.clone(), spool, run_id, start };
        Delivery { task: tokio::spawn(sender.send(tell)), progress, client }
    }

    /// Waits for the rest to be sent: as long as the server takes it, and `patience` while it does not.
    async fn finish(mut self, patience: Duration, signals: &mut Signals) -> Delivered {
        let ended = Instant::now();
        let outcome = loop {
            let last = self.progress.borrow().last.max(ended);
            tokio::select! {
                verdict = &mut self.task => break outcome_of(verdict),
                _ = signals.next() => break Outcome::Waits("told to stop by a signal".to_owned()),
                () = tokio::time::sleep_until((last + patience).into()) => {
                    // Something may have been acknowledged in the meantime.
                    if self.progress.borrow().last.max(ended) == last {
                        let trouble = self.progress.borrow().trouble.clone();
                        break Outcome::Waits(trouble.unwrap_or_else(|| "no answer yet".to_owned()));
                    }
                }
            }
        };
        if !self.task.is_finished() {
            self.task.abort();
            // Only then has the sender let go of the spool.
            let _ = (&mut self.task).await;
        }
        let progress = self.progress.borrow().clone();
        Delivered {
            client: self.client,
            run_id: progress.run_id,
            events: progress.events,
            finished: progress.finished,
            outcome,
        }
    }
}

fn outcome_of(verdict: Result<Verdict, tokio::task::JoinError>) -> Outcome {
    match verdict {
        Ok(Verdict::Delivered) => Outcome::All,
        Ok(Verdict::EndedElsewhere(how)) => Outcome::AllButTheEnd(how),
        Ok(Verdict::Stopped(why)) => Outcome::Stopped(why),
        Err(error) => Outcome::Stopped(format!("the sender broke: {error}")),
    }
}

/// Clears up, and says on stderr what was recorded.
async fn report(
    around: &Around<'_>,
    spool: &Spool,
    delivered: &Delivered,
    ran: Option<(&End, Seen)>,
    finished: bool,
) {
    let left = match &delivered.outcome {
        Outcome::All | Outcome::AllButTheEnd(_) => clear(spool),
        Outcome::Stopped(_) | Outcome::Waits(_) => keep(spool),
    };
    let receipt = match (&left, delivered.run_id) {
        (None, Some(run_id)) => receipt_digest(&delivered.client, run_id).await,
        _ => Err("it was not asked for, because not everything was delivered".to_owned()),
    };
    let text = match around.format {
        Format::Text => report_text(spool, delivered, ran, &left, &receipt, finished),
        Format::Json => report_json(delivered, ran, &left, &receipt).to_string() + "\n",
    };
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Removes the spool; gives its path when that fails.
fn clear(spool: &Spool) -> Option<PathBuf> {
    spool.delete().err().map(|_| spool.path().to_owned())
}

fn keep(spool: &Spool) -> Option<PathBuf> {
    // Even if the disk refuses, the file is still there for as long as the machine runs.
    let _ = spool.keep();
    Some(spool.path().to_owned())
}

/// The digest of a run's receipt.
pub async fn receipt_digest(client: &Client, run_id: Uuid) -> Result<String, String> {
    let call = Call::<RunsReceipt> { path: RunPath { run_id }, query: Nothing {}, body: Nothing {} };
    let manner = Manner { timeout: Some(Duration::from_secs(30)), ..Manner::default() };
    let raw =
        client.send(call, manner).await.and_then(|raw| raw.accepted()).map_err(|error| error.to_string())?;
    let receipt: Value = serde_json::from_slice(&raw.body).map_err(|error| error.to_string())?;
    receipt["canonical_json_sha256"].as_str().map(str::to_owned).ok_or_else(|| "it has no digest".to_owned())
}

fn report_text(
    spool: &Spool,
    delivered: &Delivered,
    ran: Option<(&End, Seen)>,
    left: &Option<PathBuf>,
    receipt: &Result<String, String>,
    finished: bool,
) -> String {
    let run = delivered.run_id.map_or_else(|| "not opened yet".to_owned(), |id| id.to_string());
    let status = ran.map(|(end, _)| if finished { end.status() } else { "recorded" }).unwrap_or("sent");
    let mut text = format!("oa: run {run} {status}, {} events acknowledged\n", delivered.events);
    match &delivered.outcome {
        Outcome::All => {}
        Outcome::AllButTheEnd(how) => text.push_str(&format!("oa: the end of the run is not ours: {how}\n")),
        Outcome::Stopped(why) => text.push_str(&format!("oa: the server will not take the rest: {why}\n")),
        Outcome::Waits(why) => text.push_str(&format!("oa: not everything could be sent: {why}\n")),
    }
    if let Some((_, Seen { lost_bytes: 1.., .. })) = ran {
        text.push_str("oa: part of the output could not be recorded: is the disk full?\n");
    }
    match (left, receipt) {
        (None, Ok(digest)) => text.push_str(&format!("oa: receipt sha256 {digest}\n")),
        (None, Err(why)) => text.push_str(&format!("oa: no receipt: {why}\n")),
        (Some(path), _) => text.push_str(&format!(
            "oa: {} bytes wait in {}\noa: send them with: oa exec --resume {}\n",
            spool.backlog(),
            path.display(),
            path.display()
        )),
    }
    text
}

fn report_json(
    delivered: &Delivered,
    ran: Option<(&End, Seen)>,
    left: &Option<PathBuf>,
    receipt: &Result<String, String>,
) -> Value {
    let why = match &delivered.outcome {
        Outcome::All => None,
        Outcome::AllButTheEnd(why) | Outcome::Stopped(why) | Outcome::Waits(why) => Some(why),
    };
    let mut out = json!({
        "run_id": delivered.run_id,
        "delivered": matches!(delivered.outcome, Outcome::All | Outcome::AllButTheEnd(_)),
        "events_acknowledged": delivered.events,
        "receipt_sha256": receipt.as_ref().ok(),
        "spool": left,
        "reason": why,
    });
    if let Some((end, seen)) = ran {
        out["status"] = json!(end.status());
        out["exit_code"] = json!(end.exit_code);
        out["signal"] = json!(end.signal);
        out["duration_ms"] = json!(seen.duration_ms);
        out["stdout_bytes"] = json!(seen.stdout_bytes);
        out["stderr_bytes"] = json!(seen.stderr_bytes);
        out["lost_bytes"] = json!(seen.lost_bytes);
    }
    out
}
