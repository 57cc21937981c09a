//! `POST /internal/v1/verifications/sandbox-run`: whether a provider's answer fits the job and itself (§13.1).
//! The same judgement is part of a settlement, which adds what only evidence of our own can be held to.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::VerificationsSandboxRun,
    wire::{
        jobs::{CommandRun, RunOutcome, SandboxRunRequest, SandboxRunResponse},
        verifications::SandboxVerdict,
    },
};
use sha2::{Digest as _, Sha256};

use crate::Runtime;

const LONGEST_PREVIEW: usize = 16 * 1_024;
const MOST_ARTIFACTS: usize = 128;
const LONGEST_ARTIFACT_PATH: usize = 1_024;
const LONGEST_ARTIFACT_DIGEST: usize = 128;
/// What a provider cuts previews at (§14.1): a shorter one without the mark of a cut is the whole output.
const WHOLE_PREVIEW: usize = 240;
const CUT: &str = "[truncated]";

impl Handle<VerificationsSandboxRun> for Runtime {
    async fn handle(&self, ask: Ask<VerificationsSandboxRun>) -> Result<Answer<SandboxVerdict>, Stop> {
        Ok(judge(&ask.body.request, &ask.body.response).into())
    }
}

/// Passed, or not; with which exit code; and what cannot be an honest answer.
pub fn judge(request: &SandboxRunRequest, response: &SandboxRunResponse) -> SandboxVerdict {
    let mut violations = Vec::new();
    shape(request, response, &mut violations);
    let failed_with = response.runs.iter().map(|run| run.exit_code).find(|exit_code| *exit_code != 0);
    previews(response, &mut violations);
    artifacts(response, &mut violations);
    let exit_code = status(response, failed_with.unwrap_or(0), &mut violations);
    let passed = violations.is_empty() && response.status == RunOutcome::Success && exit_code == 0;
    let exit_code = if !passed && exit_code == 0 { 1 } else { exit_code };
    SandboxVerdict { passed, exit_code, violations }
}

fn shape(request: &SandboxRunRequest, response: &SandboxRunResponse, violations: &mut Vec<String>) {
    let (asked, answered) = (&request.sandbox.image_digest, &response.env_info.image_digest);
    if !asked.trim().is_empty() && asked != answered {
        violations.push(format!("image_digest mismatch: request={asked} response={answered}"));
    }
    let (asked, answered) = (request.commands.len(), response.runs.len());
    if asked != answered && !stopped_early(request, &response.runs) {
        violations.push(format!("run count mismatch: request={asked} response={answered}"));
    }
    for (at, (command, run)) in request.commands.iter().zip(&response.runs).enumerate() {
        if command.cmd != run.cmd {
            violations
                .push(format!("cmd mismatch at index {at}: request={} response={}", command.cmd, run.cmd));
        }
    }
}

/// A job ends at its first failure unless the command says that it goes on: fewer runs than commands are
/// honest when the last of them is that failure (§17.4).
fn stopped_early(request: &SandboxRunRequest, runs: &[CommandRun]) -> bool {
    let ends = |(command, run): (&oa_contract::wire::jobs::SandboxCommand, &CommandRun)| {
        run.exit_code != 0 && !command.continue_on_fail
    };
    let first_end = request.commands.iter().zip(runs).position(ends);
    runs.len() < request.commands.len() && first_end.is_some_and(|at| at + 1 == runs.len())
}

/// Looked at until and including the first failure.
fn previews(response: &SandboxRunResponse, violations: &mut Vec<String>) {
    for run in &response.runs {
        let too_long =
            |preview: &Option<String>| preview.as_ref().is_some_and(|text| text.len() > LONGEST_PREVIEW);
        if too_long(&run.stdout_preview) {
            violations.push("stdout_preview exceeds 16KiB cap".into());
        }
        if too_long(&run.stderr_preview) {
            violations.push("stderr_preview exceeds 16KiB cap".into());
        }
        if run.exit_code != 0 {
            break;
        }
    }
}

fn artifacts(response: &SandboxRunResponse, violations: &mut Vec<String>) {
    if response.artifacts.len() > MOST_ARTIFACTS {
        violations.push("artifact count exceeds 128 cap".into());
    }
    for artifact in &response.artifacts {
        if artifact.path.len() > LONGEST_ARTIFACT_PATH {
            violations.push("artifact path exceeds 1024 byte cap".into());
        }
        if artifact.sha256.len() > LONGEST_ARTIFACT_DIGEST {
            violations.push("artifact sha256 exceeds 128 byte cap".into());
        }
    }
}

/// The exit code as the status leaves it.
fn status(response: &SandboxRunResponse, exit_code: i32, violations: &mut Vec<String>) -> i32 {
    let mut say = |what: &str| violations.push(what.to_owned());
    let never_zero = if exit_code == 0 { 1 } else { exit_code };
    let unexpected_error = "error message present but status was not error";
    match response.status {
        RunOutcome::Success => {
            if exit_code != 0 {
                say("status success but a command exit_code was non-zero");
            }
            if response.error.is_some() {
                say("status success but error field was present");
            }
            exit_code
        }
        RunOutcome::Failed => {
            if exit_code == 0 {
                say("status failed but no failing exit_code reported");
            }
            if response.error.is_some() {
                say(unexpected_error);
            }
            never_zero
        }
        stopped @ (RunOutcome::Timeout | RunOutcome::Cancelled) => {
            say(&format!("provider status {}", stopped.word()));
            if response.error.is_some() {
                say(unexpected_error);
            }
            never_zero
        }
        RunOutcome::Error => {
            say("provider status error");
            if response.error.as_deref().is_none_or(|error| error.trim().is_empty()) {
                say("status error but error message missing");
            }
            never_zero
        }
    }
}

/// What evidence must look like before anybody is paid for it: digests that are digests, and previews of whole
/// outputs that hash to them (§17.4). `bare`: names that are no digests are taken as they are.
pub fn unsound_evidence(response: &SandboxRunResponse, bare: bool) -> Vec<String> {
    let mut violations = Vec::new();
    for (at, run) in response.runs.iter().enumerate() {
        for (name, digest, preview) in [
            ("stdout", &run.stdout_sha256, &run.stdout_preview),
            ("stderr", &run.stderr_sha256, &run.stderr_preview),
        ] {
            match parsed(digest) {
                None if bare => {}
                None => violations.push(format!("invalid {name}_sha256 at index {at}: {}", shown(digest))),
                Some(digest) if contradicts(preview.as_deref(), digest) => {
                    violations.push(format!("{name}_preview does not hash to {name}_sha256 at index {at}"));
                }
                Some(_) => {}
            }
        }
    }
    let unread =
        response.artifacts.iter().enumerate().filter(|(_, one)| !bare && parsed(&one.sha256).is_none());
    violations.extend(
        unread.map(|(at, one)| format!("invalid artifact sha256 at index {at}: {}", shown(&one.sha256))),
    );
    violations
}

/// `sha256:` and 64 hex digits, or the digits alone, in either case: told apart by nothing but their value.
pub fn parsed(digest: &str) -> Option<[u8; 32]> {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    oa_contract::canonical::unhex(&digits.to_ascii_lowercase())
}

/// A preview that is the whole output and has another hash. One that was cut, or in which bytes were replaced,
/// says nothing.
fn contradicts(preview: Option<&str>, digest: [u8; 32]) -> bool {
    let whole = |text: &&str| {
        text.len() <= WHOLE_PREVIEW && !text.ends_with(CUT) && !text.contains(char::REPLACEMENT_CHARACTER)
    };
    preview.filter(whole).is_some_and(|text| <[u8; 32]>::from(Sha256::digest(text)) != digest)
}

/// As much of a wrong digest as a sentence should carry.
fn shown(digest: &str) -> String {
    digest.chars().take(80).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A job of these commands; a `!` in front says that the job goes on when the command fails.
    pub(crate) fn job(commands: &[&str]) -> SandboxRunRequest {
        let commands: Vec<Value> = commands
            .iter()
            .map(|cmd| json!({"cmd": cmd.trim_start_matches('!'), "continue_on_fail": cmd.starts_with('!')}))
            .collect();
        let job = json!({"sandbox": {"image_digest": "sha256:test"}, "commands": commands});
        serde_json::from_value(job).expect("a job")
    }

    /// An answer with these commands and exit codes.
    pub(crate) fn answer(status: &str, runs: &[(&str, i32)]) -> SandboxRunResponse {
        let empty = format!("sha256:{}", oa_contract::canonical::hex(&Sha256::digest("")));
        let runs: Vec<Value> = runs
            .iter()
            .map(|(cmd, exit_code)| {
                json!({"cmd": cmd, "exit_code": exit_code, "duration_ms": 1, "stdout_sha256": empty, "stderr_sha256": empty})
            })
            .collect();
        let answer = json!({
            "env_info": {"image_digest": "sha256:test"}, "runs": runs, "status": status,
            "provenance": {"model_id": "p"}
        });
        serde_json::from_value(answer).expect("an answer")
    }

    fn verdict(passed: bool, exit_code: i32, violations: &[&str]) -> SandboxVerdict {
        let violations = violations.iter().map(|one| (*one).to_owned()).collect();
        SandboxVerdict { passed, exit_code, violations }
    }

    #[test]
    fn the_examples_of_the_specification_are_judged_as_it_says() {
        let one = job(&["echo hi"]);
        let mut failed = answer("failed", &[("echo hi", 2)]);
        failed.runs[0].stdout_sha256 = "o".into();
        assert_eq!(judge(&one, &failed), verdict(false, 2, &[]));
        assert_eq!(judge(&one, &answer("success", &[("echo hi", 0)])), verdict(true, 0, &[]));
        assert_eq!(judge(&job(&[]), &answer("success", &[])), verdict(true, 0, &[]));
    }

    #[test]
    fn every_violation_has_its_sentence_and_its_place() {
        let two = job(&["a", "b"]);
        let said = |response: &SandboxRunResponse| judge(&two, response);
        let mut wrong = answer("success", &[("a", 0), ("c", 0), ("d", 0)]);
        wrong.env_info.image_digest = "sha256:other".into();
        wrong.runs[0].stdout_preview = Some("x".repeat(16_385));
        wrong.runs[1].stderr_preview = Some("x".repeat(16_385));
        wrong.error = Some(String::new());
        let artifact = json!({"path": "p".repeat(1_025), "sha256": "s".repeat(129), "size_bytes": 1});
        let artifact: oa_contract::wire::jobs::Artifact = serde_json::from_value(artifact).expect("one");
        wrong.artifacts = vec![artifact];
        assert_eq!(
            said(&wrong),
            verdict(
                false,
                1,
                &[
                    "image_digest mismatch: request=sha256:test response=sha256:other",
                    "run count mismatch: request=2 response=3",
                    "cmd mismatch at index 1: request=b response=c",
                    "stdout_preview exceeds 16KiB cap",
                    "stderr_preview exceeds 16KiB cap",
                    "artifact path exceeds 1024 byte cap",
                    "artifact sha256 exceeds 128 byte cap",
                    "status success but error field was present",
                ]
            )
        );
        let mut many = answer("success", &[("a", 0), ("b", 0)]);
        let small = json!({"path": "p", "sha256": "s", "size_bytes": 1});
        many.artifacts = vec![serde_json::from_value(small).expect("one"); 129];
        assert_eq!(said(&many), verdict(false, 1, &["artifact count exceeds 128 cap"]));
    }

    #[test]
    fn previews_behind_the_first_failure_are_not_looked_at() {
        let mut response = answer("failed", &[("a", 3), ("b", 0)]);
        response.runs[1].stdout_preview = Some("x".repeat(20_000));
        assert_eq!(judge(&job(&["!a", "b"]), &response), verdict(false, 3, &[]));
        response.runs[0].stderr_preview = Some("x".repeat(16_385));
        let said = judge(&job(&["!a", "b"]), &response);
        assert_eq!(said, verdict(false, 3, &["stderr_preview exceeds 16KiB cap"]));
    }

    #[test]
    fn every_status_is_held_to_its_own_rules() {
        let one = job(&["a"]);
        let unexpected = "error message present but status was not error";
        for (status, exit, error, expected) in [
            ("success", 4, None, verdict(false, 4, &["status success but a command exit_code was non-zero"])),
            ("failed", 0, None, verdict(false, 1, &["status failed but no failing exit_code reported"])),
            ("failed", 5, Some("e"), verdict(false, 5, &[unexpected])),
            ("timeout", 0, None, verdict(false, 1, &["provider status Timeout"])),
            ("cancelled", 7, Some("e"), verdict(false, 7, &["provider status Cancelled", unexpected])),
            ("error", 0, Some("e"), verdict(false, 1, &["provider status error"])),
            (
                "error",
                0,
                Some(" "),
                verdict(false, 1, &["provider status error", "status error but error message missing"]),
            ),
        ] {
            let mut response = answer(status, &[("a", exit)]);
            response.error = error.map(str::to_owned);
            assert_eq!(judge(&one, &response), expected, "{status} {exit} {error:?}");
        }
    }

    #[test]
    fn an_early_stop_at_the_first_failing_command_is_an_honest_failure() {
        let three = job(&["!a", "b", "c"]);
        let honest = answer("failed", &[("a", 1), ("b", 2)]);
        assert_eq!(judge(&three, &honest), verdict(false, 1, &[]));
        let mismatch = |response: usize| vec![format!("run count mismatch: request=3 response={response}")];
        for (runs, why) in [
            (&[("a", 1)][..], "the job goes on after a"),
            (&[("a", 0), ("b", 0)][..], "nothing failed"),
            (&[][..], "nothing was run"),
        ] {
            let said = judge(&three, &answer("failed", runs));
            assert_eq!(said.violations[..1], mismatch(runs.len()), "{why}");
        }
        // One that should have ended the job stands before the last.
        let late = judge(&job(&["a", "b", "c"]), &answer("failed", &[("a", 1), ("b", 1)]));
        assert_eq!(late.violations[..1], mismatch(2));
    }

    #[test]
    fn evidence_is_digests_and_previews_that_hash_to_them() {
        let mut response = answer("success", &[("a", 0)]);
        assert_eq!(unsound_evidence(&response, false), [""; 0]);
        let hi = oa_contract::canonical::hex(&Sha256::digest("hi\n"));
        response.runs[0].stdout_sha256 = hi.to_uppercase();
        response.runs[0].stdout_preview = Some("hi\n".into());
        assert_eq!(unsound_evidence(&response, false), [""; 0], "bare and in capitals");
        response.runs[0].stdout_preview = Some("ho\n".into());
        assert_eq!(
            unsound_evidence(&response, false),
            ["stdout_preview does not hash to stdout_sha256 at index 0"]
        );
        for whatever in ["ho... [truncated]", "h\u{fffd}", &"x".repeat(241)] {
            response.runs[0].stdout_preview = Some(whatever.into());
            assert_eq!(unsound_evidence(&response, false), [""; 0], "{whatever}");
        }
        response.runs[0].stderr_sha256 = "e".into();
        response.artifacts = vec![
            serde_json::from_value(json!({"path": "p", "sha256": "sha256:zz", "size_bytes": 1}))
                .expect("one"),
        ];
        assert_eq!(
            unsound_evidence(&response, false),
            ["invalid stderr_sha256 at index 0: e", "invalid artifact sha256 at index 0: sha256:zz"]
        );
        assert_eq!(unsound_evidence(&response, true), [""; 0]);
    }

    proptest! {
        /// Whatever is answered: passed means no violations, success and zero; not passed never says zero; and
        /// with one command for one run, what the provider says of its own outcome cannot pass a failure.
        #[test]
        fn a_verdict_never_contradicts_itself(
            status in prop::sample::select(vec!["success", "failed", "timeout", "cancelled", "error"]),
            exits in prop::collection::vec((prop::sample::select(vec!["a", "b"]), -2..3_i32), 0..5),
            commands in prop::collection::vec(prop::sample::select(vec!["a", "b", "!a", "!b"]), 0..5),
            error in prop::option::of(prop::sample::select(vec!["", "e"])),
        ) {
            let mut response = answer(status, &exits);
            response.error = error.map(str::to_owned);
            let said = judge(&job(&commands), &response);
            prop_assert_eq!(said.passed, said.exit_code == 0);
            if said.passed {
                prop_assert!(said.violations.is_empty() && status == "success" && error.is_none());
                prop_assert!(exits.iter().all(|(_, exit)| *exit == 0) && exits.len() == commands.len());
            }
            if status != "success" {
                prop_assert!(!said.passed);
            }
        }
    }
}
