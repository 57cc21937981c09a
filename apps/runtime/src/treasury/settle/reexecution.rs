//! Decides whether a job is run once more by somebody else, and what follows when that comes to something else
//! (§17.4). Which jobs is decided by their names and a secret seed, so that no provider can know beforehand;
//! whether a job is deterministic is not asked but seen: when two others agree with each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
};

use oa_contract::{
    Owner, Stop,
    wire::{
        jobs::{Artifact, SandboxRunRequest, SandboxRunResponse},
        treasury::{ReexecutionOutcome, ReexecutionReport},
    },
};
use sha2::{Digest as _, Sha256};

use crate::{Runtime, marketplace::dispatch::Document, verifications::sandbox_run::parsed};

/// Others that are asked at most; the second only when the first came to something else.
pub const MOST_OBSERVERS: usize = 2;

/// A job that is to be run once more.
#[derive(Clone, Debug)]
pub struct Rerun<'a> {
    /// The same for every repetition of the same question.
    pub key: String,
    pub owner: &'a Owner,
    pub request: &'a SandboxRunRequest,
    /// What a dispatch of the job calls it.
    pub job_key: &'a str,
    /// Whose provider's word is compared.
    pub claimant: &'a Owner,
    /// Workers that have run it already.
    pub exclude: &'a [String],
    /// Owners of those: no second word of theirs is another one's.
    pub heard: &'a [Owner],
}

/// What somebody else came to.
#[derive(Clone, Debug)]
pub struct Observation {
    pub worker_id: String,
    pub owner: Owner,
    /// It was run by ourselves: its word needs no second.
    pub trusted: bool,
    /// It gains nothing by either answer. Whoever would pay less may confirm that it was right to pay, and nothing
    /// else.
    pub impartial: bool,
    pub response: SandboxRunResponse,
}

pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Option<Observation>, Stop>> + Send + 'a>>;

/// Whoever can run a job once more. None when nobody can at the moment.
pub trait Reexecutor: Send + Sync {
    fn rerun<'a>(&'a self, runtime: &'a Runtime, rerun: Rerun<'a>) -> Running<'a>;
}

/// Whether a job is in the sample: `sha256(seed:key) mod 10000 < bps`.
pub fn sampled(seed: &str, key: &str, bps: u32) -> bool {
    let digest = Sha256::digest(format!("{seed}:{key}"));
    let rest = digest.iter().fold(0_u32, |rest, byte| (rest * 256 + u32::from(*byte)) % 10_000);
    rest < bps
}

/// What was seen, and where it differs from what the provider says.
#[derive(Clone, Debug)]
pub struct Seen {
    pub report: ReexecutionReport,
    /// What the others answered, by who answered it: kept with the settlement, so that anybody can look at it again.
    pub responses: BTreeMap<String, Document>,
}

/// Whose answer is compared, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub settlement_id: &'a str,
    pub payer: &'a Owner,
    pub request: &'a SandboxRunRequest,
    pub job_key: &'a str,
    pub response: &'a SandboxRunResponse,
    pub worker_id: &'a str,
    pub owner: &'a Owner,
}

/// Runs the job once more, and a third time where the second came to something else.
pub async fn observe(runtime: &Runtime, claim: Claim<'_>) -> Seen {
    let mut exclude = vec![claim.worker_id.to_owned()];
    let mut heard: Vec<Owner> = Vec::new();
    let mut observations: Vec<Observation> = Vec::new();
    // Somebody who cannot run it is no observer: a few more are asked before it is given up.
    for turn in 0..2 * MOST_OBSERVERS {
        let rerun = Rerun {
            key: format!("{}:rerun:{turn}", claim.settlement_id),
            owner: claim.payer,
            request: claim.request,
            job_key: claim.job_key,
            claimant: claim.owner,
            exclude: &exclude,
            heard: &heard,
        };
        let Some(observation) = asked(runtime, rerun).await else { break };
        exclude.push(observation.worker_id.clone());
        let agrees = differences(claim.response, &observation.response).is_empty();
        if !observation.response.status.was_run() || !(agrees || observation.impartial) {
            continue;
        }
        heard.push(observation.owner.clone());
        let decides = agrees || observation.trusted;
        observations.push(observation);
        if decides || observations.len() == MOST_OBSERVERS {
            break;
        }
    }
    let responses = observations
        .iter()
        .filter_map(|one| Some((one.worker_id.clone(), Document::of(&one.response).ok()?)));
    Seen { responses: responses.collect(), report: judge(claim.response, &observations) }
}

/// What cannot be asked is not held against anybody.
async fn asked(runtime: &Runtime, rerun: Rerun<'_>) -> Option<Observation> {
    match runtime.reexecutor.rerun(runtime, rerun).await {
        Ok(observation) => observation,
        Err(stop) => {
            tracing::warn!(error = %stop, "a job could not be run once more");
            None
        }
    }
}

/// Confirmed when somebody else came to the same, refuted when all others agree on something else, disputed when
/// nobody can tell.
pub fn judge(claim: &SandboxRunResponse, observations: &[Observation]) -> ReexecutionReport {
    let told: Vec<(&Observation, BTreeSet<Difference>)> =
        observations.iter().map(|one| (one, differences(claim, &one.response))).collect();
    let hard = |set: &BTreeSet<Difference>| set.iter().any(|one| one.is_hard());
    let (outcome, found) = match &told[..] {
        [] => (ReexecutionOutcome::Unavailable, BTreeSet::new()),
        [(one, told)] => match (hard(told), one.trusted) {
            (false, _) => (ReexecutionOutcome::Confirmed, told.clone()),
            (true, true) => (ReexecutionOutcome::Refuted, told.clone()),
            (true, false) => (ReexecutionOutcome::Disputed, told.clone()),
        },
        [(one, first), (two, second), ..] => {
            let between = differences(&one.response, &two.response);
            let both: BTreeSet<Difference> =
                first.intersection(second).filter(|one| !between.contains(one)).cloned().collect();
            let all: BTreeSet<Difference> = first.union(second).cloned().collect();
            match (both.is_empty(), hard(first) && hard(second)) {
                (false, _) => (ReexecutionOutcome::Refuted, both),
                (true, true) => (ReexecutionOutcome::Disputed, all),
                (true, false) => (ReexecutionOutcome::Confirmed, all),
            }
        }
    };
    ReexecutionReport {
        outcome,
        observers: observations.iter().map(|one| one.worker_id.clone()).collect(),
        differences: found.into_iter().map(|one| one.to_string()).collect(),
    }
}

/// One thing in which two answers to the same job differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    Status,
    RunCount,
    ExitCode(usize),
    Artifact(String),
    /// Outputs may differ honestly: a clock, a random name, an order.
    Stdout(usize),
    Stderr(usize),
}

impl Difference {
    /// What must be equal for whoever ran the same job.
    const fn is_hard(&self) -> bool {
        !matches!(self, Difference::Stdout(_) | Difference::Stderr(_))
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Status => f.write_str("status"),
            Difference::RunCount => f.write_str("run_count"),
            Difference::ExitCode(at) => write!(f, "exit_code[{at}]"),
            Difference::Artifact(path) => write!(f, "artifact:{path}"),
            Difference::Stdout(at) => write!(f, "stdout[{at}]"),
            Difference::Stderr(at) => write!(f, "stderr[{at}]"),
        }
    }
}

fn differences(a: &SandboxRunResponse, b: &SandboxRunResponse) -> BTreeSet<Difference> {
    let mut found = BTreeSet::new();
    if a.status != b.status {
        found.insert(Difference::Status);
    }
    if a.runs.len() != b.runs.len() {
        found.insert(Difference::RunCount);
    }
    for (at, (a, b)) in a.runs.iter().zip(&b.runs).enumerate() {
        if a.exit_code != b.exit_code {
            found.insert(Difference::ExitCode(at));
        }
        if !same_digest(&a.stdout_sha256, &b.stdout_sha256) {
            found.insert(Difference::Stdout(at));
        }
        if !same_digest(&a.stderr_sha256, &b.stderr_sha256) {
            found.insert(Difference::Stderr(at));
        }
    }
    let by_path = |artifacts: &[Artifact]| -> BTreeMap<String, String> {
        artifacts.iter().map(|one| (one.path.clone(), one.sha256.clone())).collect()
    };
    let (a, b) = (by_path(&a.artifacts), by_path(&b.artifacts));
    for path in a.keys().chain(b.keys()) {
        let same = matches!((a.get(path), b.get(path)), (Some(a), Some(b)) if same_digest(a, b));
        if !same {
            found.insert(Difference::Artifact(path.clone()));
        }
    }
    found
}

fn same_digest(a: &str, b: &str) -> bool {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::verifications::sandbox_run::tests::answer;

    fn saw(worker_id: &str, response: SandboxRunResponse) -> Observation {
        let owner = Owner::User(7);
        Observation { worker_id: worker_id.into(), owner, trusted: false, impartial: true, response }
    }

    fn ok() -> SandboxRunResponse {
        answer("success", &[("a", 0)])
    }

    fn failed() -> SandboxRunResponse {
        answer("failed", &[("a", 1)])
    }

    fn printing(text: &str) -> SandboxRunResponse {
        let mut response = ok();
        response.runs[0].stdout_sha256 = oa_contract::canonical::hex(&Sha256::digest(text));
        response
    }

    fn outcome(claim: &SandboxRunResponse, others: &[Observation]) -> (ReexecutionOutcome, Vec<String>) {
        let report = judge(claim, others);
        (report.outcome, report.differences)
    }

    #[test]
    fn a_share_of_the_jobs_is_sampled_and_always_the_same_ones() {
        let share = |bps| (0..10_000).filter(|n| sampled("seed", &format!("job{n}"), bps)).count();
        assert_eq!((share(0), share(10_000)), (0, 10_000));
        assert!((400..600).contains(&share(500)), "{}", share(500));
        // sha256("seed:job") mod 10000, computed elsewhere.
        assert!(!sampled("seed", "job", 8_688) && sampled("seed", "job", 8_689));
        let other = (0..1_000).filter(|n| {
            let key = format!("job{n}");
            sampled("seed", &key, 500) != sampled("another", &key, 500)
        });
        assert!(other.count() > 10, "who does not know the seed cannot know the jobs");
    }

    #[test]
    fn two_others_that_agree_refute_and_one_alone_disputes() {
        use ReexecutionOutcome::{Confirmed, Disputed, Refuted, Unavailable};
        assert_eq!(outcome(&ok(), &[]).0, Unavailable);
        assert_eq!(outcome(&ok(), &[saw("b", ok())]), (Confirmed, vec![]));
        let hard = vec!["status".to_owned(), "exit_code[0]".into()];
        assert_eq!(outcome(&ok(), &[saw("b", failed())]), (Disputed, hard.clone()));
        assert_eq!(outcome(&ok(), &[saw("b", failed()), saw("c", failed())]), (Refuted, hard.clone()));
        let ours = Observation { trusted: true, ..saw("sandbox", failed()) };
        assert_eq!(outcome(&ok(), &[ours]), (Refuted, hard));
        // The one who differs from both is the other.
        assert_eq!(outcome(&ok(), &[saw("b", failed()), saw("c", ok())]).0, Confirmed);
        let third = answer("failed", &[("a", 7)]);
        let all_differ = outcome(&ok(), &[saw("b", failed()), saw("c", third)]);
        assert_eq!(all_differ, (Refuted, vec!["status".into()]), "they agree that it failed");
    }

    #[test]
    fn outputs_count_where_two_others_print_the_same() {
        use ReexecutionOutcome::{Confirmed, Refuted};
        let claim = printing("made up");
        assert_eq!(outcome(&claim, &[saw("b", printing("true"))]), (Confirmed, vec!["stdout[0]".into()]));
        let both = [saw("b", printing("true")), saw("c", printing("true"))];
        assert_eq!(outcome(&claim, &both), (Refuted, vec!["stdout[0]".into()]));
        let clocks = [saw("b", printing("12:00")), saw("c", printing("12:01"))];
        assert_eq!(outcome(&printing("11:59"), &clocks).0, Confirmed);
    }

    #[test]
    fn artifacts_are_compared_by_path_and_digest() {
        let with = |artifacts: serde_json::Value| {
            let mut response = ok();
            response.artifacts = serde_json::from_value(artifacts).expect("artifacts");
            response
        };
        let digest = "a".repeat(64);
        let one = with(json!([{"path": "out", "sha256": format!("sha256:{digest}"), "size_bytes": 1}]));
        let bare = with(json!([{"path": "out", "sha256": digest.to_uppercase(), "size_bytes": 2}]));
        assert_eq!(outcome(&one, &[saw("b", bare)]).1, [""; 0]);
        let other = with(json!([{"path": "out", "sha256": "b".repeat(64), "size_bytes": 1}]));
        let both = [saw("b", other.clone()), saw("c", other)];
        assert_eq!(outcome(&one, &both), (ReexecutionOutcome::Refuted, vec!["artifact:out".into()]));
        assert_eq!(outcome(&one, &[saw("b", ok())]).1, ["artifact:out"]);
    }
}
