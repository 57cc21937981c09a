//! Decides how a request becomes a job in a sandbox, and what is truthfully said of what it did.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use oa_contract::{
    canonical::{self, hex},
    wire::jobs::{
        Artifact, CommandRun, EnvInfo, FileDigest, IndexType, NetworkPolicy, Provenance, RepoIndexRequest,
        RepoIndexResponse, RunOutcome, Sampling, SandboxRunRequest, SandboxRunResponse, tree_hash,
    },
};
use oa_sandbox::{
    Cancel, Command, Ended, Exit, Isolation, Layers, Limit, Limits, Network, Outcome, Output, Refused, Run,
    Sandbox, Spec, Stream, Visible, Work,
};
use serde_json::json;

use super::{
    keep::{Coming, Keep},
    repo::{self, Allowed, PROGRAM},
};

const MIB: u64 = 1 << 20;
/// Of the output of a command, this much is in the answer; the rest is kept by its digest.
const PREVIEW: usize = 240;
/// What requests may hold, as the service that sends them checks too.
const MOST_COMMANDS: usize = 20;
const LONGEST_COMMAND: usize = 4_096;
const MOST_VARIABLES: usize = 32;
const MOST_ENVIRONMENT_BYTES: usize = 64 << 10;

/// What a provider can do for one job.
pub struct Workshop {
    pub sandbox: Sandbox,
    pub isolation: Isolation,
    pub minimum: Layers,
    pub allowed: Allowed,
    pub visible: Vec<Visible>,
    pub path: String,
    pub caps: Caps,
    pub keep: Arc<Keep>,
    /// Sees what commands say while they say it.
    pub tap: Option<Tap>,
}

/// Is shown pieces of output as they come.
pub type Tap = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// The most of everything that a job may ask for.
#[derive(Clone, Debug)]
pub struct Caps {
    pub timeout_secs: u64,
    pub memory_mb: u64,
    pub cpus: u64,
    pub disk_mb: u64,
    pub output_mb: u64,
    pub processes: u64,
}

/// Why there is no answer: with the status that says whose move it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub why: String,
}

impl Refusal {
    pub fn new(status: u16, why: impl Into<String>) -> Self {
        Refusal { status, why: why.into() }
    }
}

/// The job asks for what is not to be had here.
fn beyond(why: impl Into<String>) -> Refusal {
    Refusal::new(422, why)
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Spec(_) | Refused::Isolation { .. } => beyond(refused.to_string()),
            Refused::Cancelled => Refusal::new(503, "provider disabled"),
            Refused::Setup(_) | Refused::Io(_) => Refusal::new(503, refused.to_string()),
        }
    }
}

/// What an answer is, and whether the same request gets it again.
pub struct Done {
    pub body: String,
    pub keep: bool,
    /// One word for the progress line.
    pub word: &'static str,
}

impl Workshop {
    /// Whether the job may be run here, without running it.
    pub fn admit(&self, request: &SandboxRunRequest, demanded: &Layers) -> Result<Spec, Refusal> {
        let resources = &request.sandbox.resources;
        if !matches!(request.sandbox.provider.as_str(), "docker" | "oa" | "local") {
            return Err(beyond(format!("sandbox.provider {:?} is not known here", request.sandbox.provider)));
        }
        let network = match request.sandbox.network_policy {
            NetworkPolicy::None => Network::None,
            NetworkPolicy::Localhost => Network::Loopback,
            NetworkPolicy::Full => return Err(beyond("sandbox.network_policy full is not to be had here")),
        };
        for (name, asked, most) in [
            ("timeout_secs", u64::from(resources.timeout_secs), self.caps.timeout_secs),
            ("memory_mb", u64::from(resources.memory_mb), self.caps.memory_mb),
            ("disk_mb", u64::from(resources.disk_mb.unwrap_or(0)), self.caps.disk_mb),
        ] {
            if asked > most {
                return Err(beyond(format!("sandbox.resources.{name} {asked} exceeds {most}")));
            }
        }
        if f64::from(resources.cpus) > self.caps.cpus as f64 {
            return Err(beyond(format!(
                "sandbox.resources.cpus {} exceeds {}",
                resources.cpus, self.caps.cpus
            )));
        }
        if request.commands.is_empty() || request.commands.len() > MOST_COMMANDS {
            return Err(beyond(format!("a job has 1 to {MOST_COMMANDS} commands")));
        }
        if request.commands.iter().any(|one| one.cmd.trim().is_empty() || one.cmd.len() > LONGEST_COMMAND) {
            return Err(beyond(format!("a command has 1 to {LONGEST_COMMAND} bytes")));
        }
        let environment: usize = request.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if request.env.len() > MOST_VARIABLES || environment > MOST_ENVIRONMENT_BYTES {
            return Err(beyond(format!(
                "env has at most {MOST_VARIABLES} entries and {MOST_ENVIRONMENT_BYTES} bytes"
            )));
        }
        let minimum: Layers = self.minimum.iter().chain(demanded.iter()).collect();
        let absent = minimum.beyond(&self.isolation.layers);
        if !absent.is_empty() {
            return Err(beyond(format!("this host lacks isolation that the job demands: {absent}")));
        }
        let timeout = Duration::from_secs(u64::from(resources.timeout_secs).max(1));
        let commands = request.commands.iter().map(|one| {
            let workdir =
                one.workdir.as_deref().map(|dir| inside(dir, &request.repo.mount_path)).transpose()?;
            // Where it starts anyway need not be said.
            let workdir = workdir.filter(|dir| dir != Path::new("."));
            Ok(Command { workdir, continue_on_fail: one.continue_on_fail, ..Command::shell(&one.cmd) })
        });
        let mut spec = Spec::new(commands.collect::<Result<_, Refusal>>()?);
        spec = spec.system_paths();
        spec.visible.extend(self.visible.iter().cloned());
        spec.env = self.environment();
        spec.env.extend(request.env.clone());
        spec.artifacts = artifacts(&request.env);
        spec.minimum = minimum;
        spec.network = network;
        spec.work = Work { from: None, at: PathBuf::from(&request.repo.mount_path) };
        spec.limits = Limits {
            wall: timeout,
            memory_bytes: u64::from(resources.memory_mb).max(16) * MIB,
            processes: self.caps.processes,
            cpus: f64::from(resources.cpus).max(0.01),
            disk_bytes: u64::from(resources.disk_mb.unwrap_or(512)).clamp(1, self.caps.disk_mb) * MIB,
            output_bytes: self.caps.output_mb * MIB,
            artifact_bytes: self.caps.output_mb * MIB,
            // One more byte than is shown, so that it is known whether there was more.
            preview_bytes: PREVIEW + 1,
            ..Limits::default()
        };
        if !request.repo.source.is_empty() {
            self.show_repository(&mut spec, &request.repo.source)?;
            let mut words = vec![PROGRAM.to_owned(), repo::COMMAND.to_owned(), "checkout".to_owned()];
            words.extend(request.repo.git_ref.iter().map(|name| name.trim().to_owned()));
            spec.commands.insert(0, Command::argv(words));
        }
        Ok(spec)
    }

    /// Cut off before its first command: an end like any other.
    fn cancelled_early(&self) -> Outcome {
        Outcome {
            runs: Vec::new(),
            ended: Ended::Cancelled,
            artifacts: Vec::new(),
            left_out: Vec::new(),
            used: oa_sandbox::Usage::default(),
            isolation: self.isolation.clone(),
        }
    }

    fn environment(&self) -> BTreeMap<String, String> {
        [("PATH", self.path.as_str()), ("HOME", "/home/job"), ("LANG", "C.UTF-8")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn show_repository(&self, spec: &mut Spec, source: &str) -> Result<(), Refusal> {
        spec.visible.extend(self.allowed.shown(source).map_err(beyond)?);
        let program = std::env::current_exe().map_err(|error| Refusal::new(503, error.to_string()))?;
        spec.visible.push(Visible { host: program, at: PathBuf::from(PROGRAM) });
        Ok(())
    }

    /// Runs it to its end. Blocks.
    pub fn run(
        &self,
        request: &SandboxRunRequest,
        spec: &Spec,
        input: &str,
        now: u64,
        cancel: &Cancel,
    ) -> Result<Done, Refusal> {
        let begun = Instant::now();
        // The checkout is no command of the job's.
        let before = usize::from(!request.repo.source.is_empty());
        let mut kept = Kept { tap: self.tap.as_ref(), before, ..Kept::new(&self.keep) };
        let outcome = match self.sandbox.run(spec, &mut kept, cancel) {
            Err(Refused::Cancelled) => self.cancelled_early(),
            other => other?,
        };
        if let Some(why) = kept.failed.take() {
            return Err(Refusal::new(503, format!("the output cannot be kept: {why}")));
        }
        if let (1, Some(checkout)) = (before, outcome.runs.first())
            && outcome.ended != Ended::Cancelled
            && checkout.exit != Exit::Code(0)
        {
            let why = String::from_utf8_lossy(&checkout.stderr.preview).trim().to_owned();
            let why = if why.is_empty() { format!("{:?}", outcome.ended) } else { why };
            return Err(beyond(format!("the repository cannot be checked out: {why}")));
        }
        let mut runs: Vec<_> = outcome
            .runs
            .iter()
            .skip(before)
            .zip(&request.commands)
            .map(|(run, command)| told(run, &command.cmd, &outcome.ended))
            .collect();
        let too_much = matches!(outcome.ended, Ended::Limit(Limit::Memory | Limit::Output));
        if let Some(last) = runs.last_mut().filter(|last| too_much && last.exit_code == 0) {
            // It came to its end, but something that it began, or the rest of what it said, was too much: the job's
            // own doing.
            last.exit_code = Exit::Ended.code();
        }
        let (status, error) = judged(&outcome, &runs);
        let output = canonical::hash_of(&json!({"runs": runs, "status": status})).map_err(broken)?;
        let response = SandboxRunResponse {
            env_info: EnvInfo {
                image_digest: request.sandbox.image_digest.clone(),
                hostname: Some("sandbox".to_owned()),
                system_info: Some(format!(
                    "{} {}; no image is used, the host's tools are shown read-only; isolation: {}",
                    std::env::consts::OS,
                    std::env::consts::ARCH,
                    outcome.isolation.layers
                )),
            },
            runs,
            artifacts: outcome
                .artifacts
                .iter()
                .map(|one| Artifact {
                    path: one.path.clone(),
                    sha256: format!("sha256:{}", hex(&one.sha256)),
                    size_bytes: one.bytes,
                    mime_type: None,
                })
                .collect(),
            status,
            error,
            provenance: provenance(input, output, now, begun.elapsed()),
        };
        let body = serde_json::to_string(&response).map_err(broken)?;
        // What was cut off from here is no answer about the job: it may be asked for again.
        Ok(Done { body, keep: status != RunOutcome::Cancelled, word: status.word() })
    }

    /// Every file of a tree with its digest, found by a walk inside a sandbox.
    pub fn index(
        &self,
        request: &RepoIndexRequest,
        input: &str,
        now: u64,
        cancel: &Cancel,
    ) -> Result<Done, Refusal> {
        let begun = Instant::now();
        if request.index_types.iter().any(|one| *one != IndexType::Digests) {
            return Err(beyond("this provider makes indexes of type digests only"));
        }
        let name = if request.git_ref.trim().is_empty() { "HEAD" } else { request.git_ref.trim() };
        let mut spec = Spec::new(vec![Command::argv([PROGRAM, repo::COMMAND, "index", name])]).system_paths();
        self.show_repository(&mut spec, &request.repo_url)?;
        spec.minimum = self.minimum.clone();
        spec.limits.wall = Duration::from_secs(self.caps.timeout_secs);
        spec.limits.memory_bytes = self.caps.memory_mb * MIB;
        spec.limits.output_bytes = self.caps.output_mb * MIB;
        let mut listed = Listed::default();
        let outcome = self.sandbox.run(&spec, &mut listed, cancel)?;
        match outcome.ended {
            _ if outcome.succeeded() => {}
            Ended::Cancelled => return Err(Refusal::new(503, "provider disabled")),
            ended => {
                let why = outcome
                    .runs
                    .first()
                    .map(|run| String::from_utf8_lossy(&run.stderr.preview).trim().to_owned());
                return Err(beyond(format!(
                    "the tree cannot be read: {} ({ended:?})",
                    why.unwrap_or_default()
                )));
            }
        }
        let lines = listed.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let digests: Result<Vec<FileDigest>, _> = lines
            .map(|line| {
                let repo::Entry { path, sha256, bytes } = serde_json::from_slice(line)?;
                Ok(FileDigest { path, sha256, bytes })
            })
            .collect();
        let digests = digests.map_err(|error: serde_json::Error| broken(error))?;
        if let Some(one) = digests.iter().find(|one| one.path.contains("..") || one.path.contains('\\')) {
            return Err(beyond(format!("an index cannot tell of the path {:?}", one.path)));
        }
        let tree_sha256 = tree_hash(&digests).map_err(broken)?;
        let provenance = provenance(input, tree_sha256.clone(), now, begun.elapsed());
        let response = RepoIndexResponse { tree_sha256, digests, artifacts: Vec::new(), provenance };
        let body = serde_json::to_string(&response).map_err(broken)?;
        // What a name means may change: the answer holds for its key, and the key's owner chooses it.
        Ok(Done { body, keep: true, word: "Success" })
    }
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(500, error.to_string())
}

fn provenance(input: &str, output: String, now: u64, took: Duration) -> Provenance {
    Provenance {
        model_id: "sandbox-local".to_owned(),
        sampling: Sampling::default(),
        input_sha256: Some(input.to_owned()),
        output_sha256: Some(output),
        provider_pubkey: None,
        executed_at: Some(now),
        duration_ms: Some(millis(took)),
        tokens: None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A command's directory, relative to the repository: `sub`, or `/workspace/sub` where that is the repository.
fn inside(dir: &str, mounted: &str) -> Result<PathBuf, Refusal> {
    let path = Path::new(dir);
    let relative = match path.is_absolute() {
        true => path
            .strip_prefix(mounted)
            .map_err(|_| beyond(format!("workdir {dir:?} is not in the repository")))?,
        false => path,
    };
    let plain: PathBuf = relative.components().filter(|part| *part != std::path::Component::CurDir).collect();
    Ok(if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain })
}

/// A job says what its artifacts are: `OA_ARTIFACTS=report.xml:target/doc`.
fn artifacts(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let list = environment.get("OA_ARTIFACTS").map_or("", String::as_str);
    list.split(':').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

fn told(run: &Run, command: &str, ended: &Ended) -> CommandRun {
    let exit_code = match (&run.exit, ended) {
        (Exit::Ended, Ended::Limit(Limit::Wall) | Ended::Cancelled | Ended::Broken(_))
        | (Exit::NotStarted(_), _) => 1,
        (exit, _) => exit.code(),
    };
    CommandRun {
        cmd: command.to_owned(),
        exit_code,
        duration_ms: millis(run.wall),
        stdout_sha256: format!("sha256:{}", run.stdout.sha256_hex()),
        stderr_sha256: format!("sha256:{}", run.stderr.sha256_hex()),
        stdout_preview: preview(&run.stdout.preview),
        stderr_preview: preview(&run.stderr.preview),
    }
}

/// Text as far as it is text, cut where it is long, absent where there is none.
fn preview(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(PREVIEW)]).into_owned();
    Some(if bytes.len() > PREVIEW { text + "... [truncated]" } else { text })
}

/// A job that used up its memory or said too much has failed by itself; one that was cut off, or could not be
/// started, has no outcome of its own.
fn judged(outcome: &Outcome, runs: &[CommandRun]) -> (RunOutcome, Option<String>) {
    let not_started = outcome.runs.iter().find_map(|run| match &run.exit {
        Exit::NotStarted(why) => Some(format!("a command could not be started: {why}")),
        _ => None,
    });
    match (&outcome.ended, not_started) {
        (Ended::Cancelled, _) => {
            (RunOutcome::Cancelled, Some("the provider was disabled or is ending".to_owned()))
        }
        (Ended::Broken(why), _) => (RunOutcome::Error, Some(why.clone())),
        (Ended::Limit(Limit::Wall), _) => (RunOutcome::Error, Some("the time of the job was up".to_owned())),
        (_, Some(why)) => (RunOutcome::Error, Some(why)),
        _ if runs.iter().any(|run| run.exit_code != 0) => (RunOutcome::Failed, None),
        (Ended::Limit(limit), _) => (RunOutcome::Error, Some(limit.to_string())),
        _ => (RunOutcome::Success, None),
    }
}

/// What an index prints.
#[derive(Default)]
struct Listed(Vec<u8>);

impl Output for Listed {
    fn chunk(&mut self, _: usize, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout {
            self.0.extend_from_slice(bytes);
        }
    }
}

/// Keeps every stream and artifact whole, under its digest.
struct Kept<'a> {
    keep: &'a Keep,
    streams: [Option<Coming>; 2],
    artifact: Option<Coming>,
    failed: Option<std::io::Error>,
    tap: Option<&'a Tap>,
    /// Commands that are not the job's own.
    before: usize,
}

impl<'a> Kept<'a> {
    fn new(keep: &'a Keep) -> Self {
        Kept { keep, streams: [None, None], artifact: None, failed: None, tap: None, before: 0 }
    }

    fn write(keep: &Keep, place: &mut Option<Coming>, bytes: &[u8]) -> std::io::Result<()> {
        if place.is_none() {
            *place = Some(keep.coming()?);
        }
        match place {
            Some(coming) => coming.file.write_all(bytes),
            None => Ok(()),
        }
    }

    fn note(&mut self, done: std::io::Result<()>) {
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
    }

    fn keep(&mut self, coming: Option<Coming>, digest: &[u8]) {
        let done = match coming.map_or_else(|| self.keep.coming(), Ok) {
            Ok(coming) => self.keep.put_blob(coming, &hex(digest)),
            Err(error) => Err(error),
        };
        self.note(done);
    }
}

impl Output for Kept<'_> {
    fn chunk(&mut self, at: usize, stream: Stream, bytes: &[u8]) {
        if let Some(tap) = self.tap.filter(|_| at >= self.before) {
            tap(stream, bytes);
        }
        let done = Self::write(self.keep, &mut self.streams[usize::from(stream == Stream::Stderr)], bytes);
        self.note(done);
    }

    fn ended(&mut self, run: &Run) {
        let [stdout, stderr] = std::mem::take(&mut self.streams);
        self.keep(stdout, &run.stdout.sha256);
        self.keep(stderr, &run.stderr.sha256);
    }

    fn artifact_chunk(&mut self, bytes: &[u8]) {
        let done = Self::write(self.keep, &mut self.artifact, bytes);
        self.note(done);
    }

    fn artifact(&mut self, artifact: &oa_sandbox::Artifact) {
        let coming = self.artifact.take();
        self.keep(coming, &artifact.sha256);
    }

    fn no_artifact(&mut self) {
        self.artifact = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_text_of_at_most_240_bytes_and_says_when_there_was_more() {
        assert_eq!(preview(b""), None);
        assert_eq!(preview(b"a\xffb").as_deref(), Some("a\u{fffd}b"));
        assert_eq!(preview(&[b'x'; 240]), Some("x".repeat(240)));
        assert_eq!(preview(&[b'x'; 241]), Some("x".repeat(240) + "... [truncated]"));
    }

    #[test]
    fn a_directory_of_a_command_lies_in_the_repository() {
        let at = |dir| inside(dir, "/workspace").map(|path| path.to_string_lossy().into_owned());
        assert_eq!(at("sub/dir").as_deref(), Ok("sub/dir"));
        assert_eq!(at("./sub").as_deref(), Ok("sub"));
        assert_eq!(at("/workspace/sub").as_deref(), Ok("sub"));
        assert!(at("/etc").is_err());
    }
}
