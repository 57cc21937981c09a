//! Decides the W3C trace context of a request: the caller's, when it is well formed, with a span of our own.

use uuid::Uuid;

/// The `traceparent` to pass on: the caller's trace with a new span, or a new trace.
pub fn context(inbound: Option<&str>) -> String {
    let span = Uuid::new_v4().simple().to_string();
    let span = &span[..16];
    match inbound.and_then(trace_id) {
        Some((trace, flags)) => format!("00-{trace}-{span}-{flags}"),
        None => format!("00-{}-{span}-01", Uuid::new_v4().simple()),
    }
}

/// The trace id and flags of a valid version-00 header.
fn trace_id(header: &str) -> Option<(&str, &str)> {
    let mut parts = header.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let nonzero = |text: &str| text.bytes().any(|b| b != b'0');
    let valid = parts.next().is_none()
        && version == "00"
        && hex(trace, 32)
        && nonzero(trace)
        && hex(parent, 16)
        && nonzero(parent)
        && hex(flags, 2);
    valid.then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_is_continued_and_anything_else_begins_a_new_one() {
        let inbound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let ours = context(Some(inbound));
        assert!(ours.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && ours.ends_with("-01"));
        assert_ne!(ours, inbound);
        for broken in [
            "",
            "00-x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!context(Some(broken)).contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{broken}");
            assert_eq!(context(Some(broken)).len(), 55);
        }
    }
}
