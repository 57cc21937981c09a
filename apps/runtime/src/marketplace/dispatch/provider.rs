//! Decides how a provider is asked (marketplace §7.2, §14.1) and what its answer means: whether it ran the job,
//! whether that was its fault, and what the caller is told.

use std::time::Duration;

use http::StatusCode;
use oa_contract::{
    Code, Refusal,
    wire::jobs::{RunOutcome, SandboxRunResponse},
};
use oa_fetch::{FetchError, Fetched, Request};

use super::{Call, Desk, Job};

/// So much of what a provider says in its own words is passed on.
const LONGEST_WORDS: usize = 500;

/// What came of a call.
#[derive(Debug)]
pub struct Outcome {
    pub latency_ms: u64,
    /// It was not done in the time that its owner gave it. Whoever asks chooses that time, so it says nothing about
    /// the provider, and the next one would be no quicker.
    pub took_all_its_time: bool,
    pub result: Result<SandboxRunResponse, Box<Failure>>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The word of the call's record.
    pub word: &'static str,
    pub refusal: Refusal,
    /// It is the provider's fault.
    pub strikes: bool,
}

impl Outcome {
    /// The job was run to an end of its own: nobody else need be asked.
    pub fn is_final(&self) -> bool {
        self.result.as_ref().is_ok_and(|response| response.status.was_run())
    }

    pub fn word(&self) -> &'static str {
        match &self.result {
            Ok(response) => match response.status {
                RunOutcome::Success => "success",
                RunOutcome::Failed => "failed",
                RunOutcome::Timeout => "timeout",
                RunOutcome::Cancelled => "cancelled",
                RunOutcome::Error => "error",
            },
            Err(failure) => failure.word,
        }
    }

    pub fn detail(&self) -> Option<String> {
        match &self.result {
            Ok(response) => response.error.as_deref().map(words),
            Err(failure) => Some(words(&failure.refusal.message)),
        }
    }

    /// Why the provider is struck, if it is (§7.3).
    pub fn strike(&self) -> Option<String> {
        match &self.result {
            Ok(response) if response.status.was_run() || self.took_all_its_time => None,
            Ok(response) => Some(format!("dispatch_status:{}", response.status.word())),
            Err(failure) => failure.strikes.then(|| "dispatch_error".to_owned()),
        }
    }
}

/// Asks the provider, once.
pub async fn ask(desk: &Desk, job: &Job, call: &Call) -> Outcome {
    let begun = desk.clock.now();
    let timeout = Duration::from_secs(u64::try_from(job.call_seconds()).unwrap_or_default());
    let base = call.candidate.offer.base().unwrap_or_default();
    let result = match request(job, base, timeout) {
        Ok(request) => judge(desk.calls.send(base, request).await, desk, begun, timeout),
        Err(failure) => Err(failure),
    };
    let latency_ms = u64::try_from(desk.clock.now().millis_since(begun)).unwrap_or_default();
    Outcome { latency_ms, took_all_its_time: took_all(job.seconds(), latency_ms, &result), result }
}

/// Whether the job was cut off at the bound of its own request. A provider that says so at once has not waited for it,
/// and one that says nothing has had some seconds more. Two clocks may differ by a hundredth.
fn took_all(seconds: i64, latency_ms: u64, result: &Result<SandboxRunResponse, Box<Failure>>) -> bool {
    let cut_off =
        matches!(result, Ok(response) if matches!(response.status, RunOutcome::Timeout | RunOutcome::Error));
    cut_off && latency_ms >= u64::try_from(seconds.max(1) * 990).unwrap_or(u64::MAX)
}

/// What providers know a job by. They answer a key with what they answered before: another attempt has another key.
pub fn provider_key(job_hash: &str, attempt: u32) -> String {
    match attempt {
        1 => job_hash.to_owned(),
        attempt => format!("{job_hash}.{attempt}"),
    }
}

fn request(job: &Job, base: &str, timeout: Duration) -> Result<Request, Box<Failure>> {
    let body = serde_json::to_vec(&job.request).map_err(|error| {
        let refusal = Refusal::invalid(format!("the job cannot be written: {error}"));
        Box::new(Failure { word: "refused", refusal, strikes: false })
    })?;
    let key = provider_key(&job.key.job_hash, job.key.attempt);
    Ok(Request {
        method: "POST".into(),
        url: format!("{base}/v1/sandbox_run"),
        headers: vec![("content-type".into(), "application/json".into()), ("x-idempotency-key".into(), key)],
        body,
        timeout: Some(timeout),
    })
}

fn judge(
    fetched: Result<Fetched, FetchError>,
    desk: &Desk,
    begun: oa_contract::Timestamp,
    timeout: Duration,
) -> Result<SandboxRunResponse, Box<Failure>> {
    let waited = u128::try_from(desk.clock.now().millis_since(begun)).unwrap_or_default();
    match fetched {
        Ok(fetched) => read(&fetched),
        Err(error) => Err(Box::new(unanswered(&error, waited >= timeout.as_millis()))),
    }
}

/// It was not reached, or did not answer.
fn unanswered(error: &FetchError, waited_long: bool) -> Failure {
    let late = waited_long || error.to_string().contains("timed out");
    let (word, reason) = match error {
        FetchError::Forbidden(_) => ("refused", "provider_unreachable"),
        FetchError::Unsent(_) => ("unreachable", "provider_unreachable"),
        FetchError::Failed(_) if late => ("timed_out", "provider_timeout"),
        FetchError::Failed(_) => ("unreachable", "provider_unreachable"),
    };
    let mut refusal = Refusal::invalid(words(&format!("provider dispatch failed: {error}")));
    refusal.reason_code = Some(reason);
    // An address that we do not let anybody reach is not the provider's fault.
    Failure { word, refusal, strikes: !matches!(error, FetchError::Forbidden(_)) }
}

fn read(fetched: &Fetched) -> Result<SandboxRunResponse, Box<Failure>> {
    if !(200..300).contains(&fetched.status) {
        let line = StatusCode::from_u16(fetched.status)
            .map_or_else(|_| fetched.status.to_string(), |status| status.to_string());
        let said = words(&String::from_utf8_lossy(&fetched.body));
        let mut refusal = Refusal::invalid(format!("provider dispatch returned {line}: {said}"));
        refusal.reason_code = Some("provider_status");
        // 4xx: it was asked for something that it does not do; that is not its fault.
        let strikes = !(400..500).contains(&fetched.status);
        return Err(Box::new(Failure { word: "bad_status", refusal, strikes }));
    }
    serde_json::from_slice(&fetched.body).map_err(|error| {
        let mut refusal = Refusal::new(Code::Internal, words(&format!("parse sandbox response: {error}")));
        refusal.reason_code = Some("provider_bad_body");
        Box::new(Failure { word: "bad_body", refusal, strikes: true })
    })
}

/// Words of others: short, on one line, and nothing in them that cannot be seen.
fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Result<SandboxRunResponse, Box<Failure>> {
        read(&Fetched { status, headers: Vec::new(), body: body.as_bytes().to_vec() })
    }

    #[test]
    fn a_status_that_is_no_success_is_told_with_the_providers_words() {
        let failure = answered(503, "provider disabled").expect_err("a failure");
        assert_eq!(
            failure.refusal.message,
            "provider dispatch returned 503 Service Unavailable: provider disabled"
        );
        assert_eq!((failure.word, failure.strikes), ("bad_status", true));
        let long = answered(500, &"x\n\u{1b}[2J".repeat(10_000)).expect_err("a failure").refusal.message;
        assert!(long.len() < 600 && !long.chars().any(char::is_control));
        assert!(
            !answered(422, "no such image").expect_err("a failure").strikes,
            "the caller's, not the provider's"
        );
        assert!(answered(302, "").is_err(), "nobody is followed anywhere");
    }

    #[test]
    fn a_body_that_is_no_response_is_the_providers_fault() {
        for body in ["", "{}", "[]", "not json", r#"{"status":"success"}"#] {
            let failure = answered(200, body).expect_err("a failure");
            assert_eq!((failure.word, failure.strikes), ("bad_body", true));
            assert_eq!(failure.refusal.code, Code::Internal);
            assert!(failure.refusal.message.starts_with("parse sandbox response: "));
        }
    }

    #[test]
    fn what_was_not_reached_is_told_apart_from_what_was_not_answered() {
        let word = |error: &FetchError, late| {
            let failure = unanswered(error, late);
            (failure.word, failure.strikes)
        };
        assert_eq!(word(&FetchError::Forbidden("x".into()), false), ("refused", false));
        assert_eq!(word(&FetchError::Unsent("x".into()), false), ("unreachable", true));
        assert_eq!(word(&FetchError::Failed("operation timed out".into()), false), ("timed_out", true));
        assert_eq!(word(&FetchError::Failed("reset".into()), true), ("timed_out", true));
        assert_eq!(word(&FetchError::Failed("reset".into()), false), ("unreachable", true));
    }
}
