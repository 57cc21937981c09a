//! Decides whether a reader may go on from where it says it is (runtime-core §12, cursor continuity).

use oa_contract::{Code, Refusal};

/// What of a stream can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first event that is still kept; one more than the head when nothing is.
    pub oldest_seq: u64,
    pub head_seq: u64,
}

/// Refuses a position from which events would be missed: one below what is kept, or one beyond the head, which
/// only a store restored from an older backup explains.
pub fn resume(after: u64, window: Window) -> Result<(), Refusal> {
    let floor = window.oldest_seq.saturating_sub(1);
    if after < floor {
        let message =
            format!("events up to {floor} are no longer kept: take a fresh snapshot and follow from {floor}");
        return Err(Refusal {
            resume_after: Some(floor),
            reason_code: Some("retention_floor_breach"),
            ..Refusal::new(Code::StaleCursor, message)
        });
    }
    if after > window.head_seq {
        let head = window.head_seq;
        let message = format!(
            "position {after} lies beyond the head {head}: the store is older than the reader; take a fresh snapshot and follow from {head}"
        );
        return Err(Refusal {
            resume_after: Some(head),
            reason_code: Some("cursor_beyond_head"),
            ..Refusal::new(Code::StaleCursor, message)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_only_where_it_misses_nothing() {
        let window = Window { oldest_seq: 11, head_seq: 20 };
        assert_eq!(resume(9, window).expect_err("stale").resume_after, Some(10));
        assert!(resume(10, window).is_ok());
        assert!(resume(20, window).is_ok());
        assert_eq!(resume(21, window).expect_err("beyond").resume_after, Some(20));
        assert!(resume(0, Window { oldest_seq: 1, head_seq: 0 }).is_ok());
    }
}
