//! Decides how a codex of this machine becomes a worker of the control service: what it is called, what it may see, and what is left in order when it ends.

mod app_server;
mod approvals;
mod bounds;
mod control;
mod feed;
mod find;
mod left_behind;
mod poster;
#[cfg(test)]
mod poster_tests;
mod requests;
mod say;
mod spool;
mod threads;
mod worker;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use oa_contract::{canonical::hex, wire::codex::CreateCodexWorker};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use uuid::Uuid;

pub use self::approvals::Policy;
use self::{
    app_server::Launch,
    control::Control,
    feed::Feed,
    poster::{Poster, Verdict},
    spool::Spool,
    worker::{End, Manners, Worker},
};
use crate::{
    config,
    connect::Place,
    data_dir::DataDir,
    exec::Signals,
    failure::{Failure, OK},
    output::Format,
};

/// Orders that are read ahead of the worker.
const ORDERS: usize = 64;
/// How long control may take nothing before the rest is left for the next start.
const DRAIN: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);
/// Control takes ids of so many characters, and references of so many.
const LONGEST_ID: usize = 160;
const LONGEST_REF: usize = 255;

/// What the command line says.
pub struct Wish {
    pub worker_id: Option<String>,
    pub workspace: PathBuf,
    pub codex: Option<PathBuf>,
    pub codex_home: Option<PathBuf>,
    pub model: Option<String>,
    pub approvals: Policy,
    pub patience: Duration,
    /// `key=value` each.
    pub settings: Vec<String>,
    pub spool_mib: u64,
    pub verbose: bool,
}

/// Runs the worker until it is told to stop.
pub async fn run(wish: Wish, place: Place, data: &DataDir, format: Format) -> Result<u8, Failure> {
    let workspace =
        std::fs::canonicalize(&wish.workspace).map_err(|error| Failure::file(&wish.workspace, &error))?;
    let program = find::codex(wish.codex.as_deref(), &workspace, std::env::var_os("PATH").as_deref())?;
    let worker_id = match &wish.worker_id {
        Some(id) if !id.trim().is_empty() && id.chars().count() <= LONGEST_ID => id.trim().to_owned(),
        Some(_) => return Err(Failure::usage(format!("--worker-id must have 1 to {LONGEST_ID} characters"))),
        None => usual_id(&workspace),
    };
    let home = wish.codex_home.as_deref().map(std::path::absolute).transpose();
    let home = home.map_err(|error| Failure::usage(format!("--codex-home: {error}")))?;
    let launch = Launch {
        program,
        workspace: workspace.clone(),
        settings: settings_of(&wish),
        environment: environment(std::env::vars_os(), home.as_deref()),
        verbose: wish.verbose,
    };
    let client = place.client()?;
    let spool = Arc::new(open_spool(data, &place, &worker_id, wish.spool_mib)?);
    left_behind::inherit();
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let about = CreateCodexWorker {
        worker_id: Some(worker_id.clone()),
        workspace_ref: Some(tail(&workspace.to_string_lossy())),
        codex_home_ref: home.map(|home| tail(&home.to_string_lossy())),
        adapter: Some("codex_app_server".to_owned()),
        metadata: Some(metadata()?),
    };
    let control = Control { client, worker_id, about };
    let (attach, attached) = watch::channel(None);
    let poster =
        Poster { control: control.clone(), spool: spool.clone(), format, attached: attach, away: false };
    let mut poster = tokio::spawn(poster.run());
    let (order, orders) = mpsc::channel(ORDERS);
    let feed = Feed::new(control.clone(), order, format, spool.look(|state| state.seen));
    let feed = tokio::spawn(feed.follow(attached.clone()));
    let manners = Manners { approvals: wish.approvals, patience: wish.patience, format };
    let end = Worker::new(launch, manners, spool.clone()).work(orders, &mut poster, &mut signals).await;
    feed.abort();
    let done = drain(&spool, &mut poster, &mut signals).await;
    let known = attached.borrow().is_some();
    if let (false, true, true) = (matches!(end, End::Stopped(_)), known, done) {
        // Control would find out by itself, but only after a while.
        let _ = tokio::time::timeout(GOODBYE, control.stop(reason(&end))).await;
    }
    if spool.events_waiting() > 0 {
        format.note(&format!(
            "{} events wait in {}; the next start of this worker sends them",
            spool.events_waiting(),
            spool.path().display()
        ));
    }
    match end {
        End::Told => Ok(OK),
        End::Stopped(reason) => {
            format.note(&format!("the worker was stopped at control ({})", crate::output::plain(&reason)));
            Ok(OK)
        }
        End::Broken(failure) => Err(failure),
    }
}

fn reason(end: &End) -> &'static str {
    match end {
        End::Told => "the worker was told to stop",
        End::Stopped(_) | End::Broken(_) => "the worker broke off",
    }
}

/// Lets the poster send what waits; says whether control still talks to us.
async fn drain(spool: &Spool, poster: &mut JoinHandle<Verdict>, signals: &mut Signals) -> bool {
    let mut last = (spool.events_waiting(), tokio::time::Instant::now());
    while !poster.is_finished() && last.0 > 0 && last.1.elapsed() < DRAIN {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            _ = signals.next() => break,
        }
        let waiting = spool.events_waiting();
        if waiting != last.0 {
            last = (waiting, tokio::time::Instant::now());
        }
    }
    let talks = !poster.is_finished();
    poster.abort();
    talks && last.0 == 0
}

fn open_spool(data: &DataDir, place: &Place, worker_id: &str, mib: u64) -> Result<Spool, Failure> {
    let directory = data.create_spool_of(&format!("codex-{}", file_name(worker_id)))?;
    Spool::open(&directory, &place.url, worker_id, mib.saturating_mul(1024 * 1024))
        .map_err(|error| Failure::file(&directory, &error))
}

/// A name that every file system takes, and that no two workers share.
fn file_name(worker_id: &str) -> String {
    let plain: String = worker_id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    match plain == worker_id && plain.len() <= 100 {
        true => plain,
        false => {
            let digest = hex(&Sha256::digest(worker_id.as_bytes()));
            format!("{}-{}", plain.chars().take(100).collect::<String>(), &digest[..8])
        }
    }
}

/// The machine and the directory: the same worker whenever it is started there.
fn usual_id(workspace: &Path) -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let host = host.unwrap_or_else(|_| "localhost".to_owned());
    let digest = hex(&Sha256::digest(workspace.as_os_str().as_encoded_bytes()));
    let folder = workspace.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |text: String, most: usize| -> String {
        text.chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .take(most)
            .collect()
    };
    format!("codexw:{}:{}-{}", plain(host, 60), plain(folder, 60), &digest[..8])
}

/// The end of a long text, which tells more about a path than its beginning.
fn tail(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(LONGEST_REF);
    text.chars().skip(skip).collect()
}

fn metadata() -> Result<Box<serde_json::value::RawValue>, Failure> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).ok();
    serde_json::value::to_raw_value(&json!({
        "source": "oa codex-worker",
        "sync_version": "runtime_codex_v1",
        "session_id": Uuid::now_v7(),
        "host": host,
        "oa_version": env!("CARGO_PKG_VERSION"),
    }))
    .map_err(|error| Failure::wrong(error.to_string()))
}

fn settings_of(wish: &Wish) -> Vec<String> {
    // A model is a TOML string, whatever stands in it.
    let model = wish.model.iter().map(|model| format!("model={}", json!(model)));
    model.chain(wish.settings.iter().cloned()).collect()
}

/// Codex runs commands that a model thought of: it gets the environment of its developer, but nothing of what the
/// services of `oa` are told.
fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
    home: Option<&Path>,
) -> Vec<(OsString, OsString)> {
    let ours = |name: &OsStr| {
        let name = name.to_string_lossy();
        ["OA_", "RUNTIME_"].iter().any(|prefix| name.starts_with(prefix))
            || config::all().any(|setting| name == setting.name || setting.also == Some(name.as_ref()))
    };
    let mut kept: Vec<_> = all.filter(|(name, _)| !ours(name)).collect();
    if let Some(home) = home {
        kept.retain(|(name, _)| name != "CODEX_HOME");
        kept.push(("CODEX_HOME".into(), home.into()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codex_gets_no_secret_of_the_services() {
        let all = [
            ("PATH", "/bin"),
            ("OPENAI_API_KEY", "k"),
            ("OA_CONTROL_TOKEN", "t"),
            ("RUNTIME_SERVICE_TOKEN", "t"),
            ("DATABASE_URL", "postgres://secret"),
            ("DB_URL", "postgres://secret"),
            ("OA_AUTH_MOCK_MAGIC_CODE", "c"),
            ("CODEX_HOME", "/elsewhere"),
        ];
        let all = all.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let kept = environment(all.into_iter(), Some(Path::new("/home/codex")));
        let kept: Vec<_> = kept
            .iter()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
            .collect();
        assert_eq!(kept, ["PATH=/bin", "OPENAI_API_KEY=k", "CODEX_HOME=/home/codex"]);
    }

    #[test]
    fn a_worker_is_called_the_same_whenever_it_is_started_in_the_same_place() {
        let id = usual_id(Path::new("/srv/my project"));
        assert_eq!(id, usual_id(Path::new("/srv/my project")));
        assert_ne!(id, usual_id(Path::new("/srv/other/my project")));
        assert!(id.ends_with(&id[id.len() - 8..]) && id.contains(":my_project-"), "{id}");
    }

    #[test]
    fn two_workers_never_share_a_directory() {
        assert_eq!(file_name("desktop-1"), "desktop-1");
        assert_ne!(file_name("a:b"), file_name("a/b"));
        assert!(!file_name("../../x").contains('/'));
    }
}
