//! Decides how long to wait before asking again: twice as long each time, up to a limit, and what is worth asking again.

use std::time::Duration;

use oa_client::CallError;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// The waits between attempts.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// Waits, longer than the time before. A server that says when to come back is believed, within limits.
    pub async fn wait(&mut self, error: &CallError) {
        tokio::time::sleep(self.step(error)).await;
    }

    fn step(&mut self, error: &CallError) -> Duration {
        let asked = match error {
            CallError::Refused { retry_after_seconds: Some(seconds), .. } => {
                Duration::from_secs(*seconds).min(LONGEST * 5)
            }
            _ => Duration::ZERO,
        };
        let wait = self.next.max(asked);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

/// Whether the same request may succeed later, unchanged.
pub fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::NoAnswer(_) | CallError::Unreadable(_) => true,
        CallError::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=599),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after_seconds: Option<u64>) -> CallError {
        CallError::Refused { status, code: String::new(), message: String::new(), retry_after_seconds }
    }

    #[test]
    fn waits_grow_to_a_limit_and_believe_the_server_within_bounds() {
        let mut backoff = Backoff::new();
        let silent = CallError::NoAnswer(String::new());
        let waits: Vec<u128> = (0..8).map(|_| backoff.step(&silent).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.step(&refused(429, Some(4))).as_secs(), 4);
        assert_eq!(backoff.step(&refused(429, Some(86_400))).as_secs(), 10);
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        assert!(may_pass(&refused(503, None)) && may_pass(&refused(429, None)));
        assert!(
            !may_pass(&refused(409, None))
                && !may_pass(&refused(401, None))
                && !may_pass(&refused(501, None))
        );
    }
}
