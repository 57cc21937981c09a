//! Decides how log lines look: one JSON object each, or a few lines for people, always with the id of the request that
//! they are part of.

use std::fmt;

use oa_contract::current;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{config::Settings, failure::Failure};

const FILTER: &str = "OA_CONTROL_LOG_FILTER";
const FORMAT: &str = "OA_CONTROL_LOG_FORMAT";
/// The member that names the request.
const REQUEST: &str = "request_id";

/// Lines on stderr, as much as RUST_LOG says, else the settings.
pub fn to_stderr(settings: &Settings) -> Result<(), Failure> {
    let wanted = settings.get(FILTER).unwrap_or("info");
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) => EnvFilter::try_new(wanted)
            .map_err(|error| Failure::usage(format!("{FILTER} is no filter of log lines: {error}")))?,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.get(FORMAT) {
        Some("pretty") => lines.pretty().map_event_format(|format| Named { format, json: false }).init(),
        // One object a line, its fields not nested in another.
        _ => lines.json().flatten_event(true).map_event_format(|format| Named { format, json: true }).init(),
    }
    Ok(())
}

/// Another form of lines, with the request's id put in where the event does not say it itself.
struct Named<F> {
    format: F,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let said = event.metadata().fields().field(REQUEST).is_some();
        let Some(request) = current::request().filter(|_| !said) else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&named(&line, &request, self.json))
    }
}

fn named(line: &str, request: &str, json: bool) -> String {
    match line.strip_prefix('{').filter(|_| json) {
        Some(rest) => format!("{{\"{REQUEST}\":{},{rest}", serde_json::Value::from(request)),
        // Whoever calls chooses the id, and a line of it must stay one.
        None => format!("[{}] {}", crate::output::plain(request), line.trim_start()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_request_whatever_the_id_is() {
        let odd = "a\"b\n{}";
        let line = named("{\"level\":\"INFO\",\"message\":\"x\"}\n", odd, true);
        let read: serde_json::Value = serde_json::from_str(&line).expect("still one object");
        assert_eq!((&read["request_id"], &read["message"]), (&odd.into(), &"x".into()));
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(named("  INFO x\n", odd, false), "[a\"b\\n{}] INFO x\n");
    }
}
