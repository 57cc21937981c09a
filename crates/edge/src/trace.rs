//! Decides the W3C trace context of a request: the caller's, when it is well formed, with a span of our own; and who is
//! told of the span when its request has been answered.

use std::{sync::OnceLock, time::Duration};

use uuid::Uuid;

/// Where a request stands in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The `traceparent` to pass on.
    header: String,
    /// The caller's span.
    parent: Option<String>,
}

impl Context {
    /// The caller's trace with a new span, or a new trace.
    pub fn new(inbound: Option<&str>) -> Self {
        let span = Uuid::new_v4().simple().to_string();
        let span = &span[..16];
        match inbound.and_then(parse) {
            Some((trace, parent, flags)) => {
                Context { header: format!("00-{trace}-{span}-{flags}"), parent: Some(parent.to_owned()) }
            }
            None => Context { header: format!("00-{}-{span}-01", Uuid::new_v4().simple()), parent: None },
        }
    }

    pub fn header(&self) -> &str {
        &self.header
    }

    /// 32 hex digits.
    pub fn trace(&self) -> &str {
        &self.header[3..35]
    }

    /// Of our own span, 16 hex digits.
    pub fn span(&self) -> &str {
        &self.header[36..52]
    }

    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// Whether whoever began the trace wants it kept.
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.header[53..], 16).is_ok_and(|flags| flags & 1 == 1)
    }
}

/// The trace id, parent id and flags of a valid version-00 header.
fn parse(header: &str) -> Option<(&str, &str, &str)> {
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
    valid.then_some((trace, parent, flags))
}

/// A request that was answered, as a span of its trace. A streamed answer ends with its head.
#[derive(Clone, Debug)]
pub struct Span {
    pub context: Context,
    /// Its label: `runtime_service` or `control_service`.
    pub service: &'static str,
    /// The row's name, or `unmatched`.
    pub row: &'static str,
    pub method: String,
    pub status: u16,
    pub request_id: String,
    pub took: Duration,
}

type Sink = Box<dyn Fn(Span) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Has every span of this process told, from now on. It must be quick, and must not wait. The first one stays.
pub fn tell(sink: impl Fn(Span) + Send + Sync + 'static) {
    let _ = SINK.set(Box::new(sink));
}

/// Tells of a span, if anybody wants to know and the trace is kept.
pub(crate) fn ended(context: &Context, span: impl FnOnce(Context) -> Span) {
    if let Some(sink) = SINK.get().filter(|_| context.is_sampled()) {
        sink(span(context.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_is_continued_and_anything_else_begins_a_new_one() {
        let inbound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let ours = Context::new(Some(inbound));
        assert_eq!(ours.parent(), Some("00f067aa0ba902b7"));
        assert_eq!(ours.trace(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(ours.span().len(), 16);
        assert!(
            ours.header().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
                && ours.header().ends_with("-01")
        );
        assert_ne!(ours.header(), inbound);
        for broken in [
            "",
            "00-x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let ours = Context::new(Some(broken));
            assert_ne!(ours.trace(), "4bf92f3577b34da6a3ce929d0e0e4736", "{broken}");
            assert_eq!((ours.header().len(), ours.parent()), (55, None));
        }
    }

    #[test]
    fn a_trace_that_nobody_keeps_is_told_to_nobody() {
        for (flags, kept) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let inbound = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            assert_eq!(Context::new(Some(&inbound)).is_sampled(), kept, "{flags}");
        }
        assert!(Context::new(None).is_sampled());
    }
}
