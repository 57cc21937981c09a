//! Decides how spans of requests reach a collector: in batches, in the JSON form of OTLP over HTTP, beside the requests
//! and never in their way. What is not taken is dropped and counted.

use std::{
    mem,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::counter;
use oa_edge::trace::{self, Span};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use crate::failure::Failure;

/// Spans that may wait; more are dropped.
const WAITING: usize = 4_096;
/// Spans in one request to the collector.
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(2);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Complaints about one collector come no more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Rows that watchers ask every few seconds; nobody looks for them in a trace.
const PROBES: [&str; 3] = [".health", ".ready", ".metrics"];

/// A span, and when it ended.
type Ended = (Span, SystemTime);

/// Sends what is told, until it is ended.
pub struct Exporter(Option<(mpsc::Sender<Option<Ended>>, JoinHandle<()>)>);

impl Exporter {
    /// Sends nothing.
    pub fn none() -> Self {
        Exporter(None)
    }

    /// From now on every span of this process goes to `endpoint`.
    pub fn start(endpoint: &str) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::wrong(format!("spans cannot be sent: {error}")))?;
        let (told, inbox) = mpsc::channel(WAITING);
        let sender = told.clone();
        trace::tell(move |span| {
            if PROBES.iter().any(|probe| span.row.ends_with(probe)) {
                return;
            }
            if sender.try_send(Some((span, SystemTime::now()))).is_err() {
                counted("dropped", 1);
            }
        });
        let sending = tokio::spawn(run(client, endpoint.to_owned(), inbox));
        Ok(Exporter(Some((told, sending))))
    }

    /// Sends what waits, for as long as one request may take.
    pub async fn end(self) {
        let Some((told, sending)) = self.0 else { return };
        let ended = async {
            let _ = told.send(None).await;
            let _ = sending.await;
        };
        let _ = tokio::time::timeout(PATIENCE, ended).await;
    }
}

fn counted(outcome: &'static str, spans: u64) {
    counter!("oa_otlp_spans_total", "outcome" => outcome).increment(spans);
}

async fn run(client: reqwest::Client, endpoint: String, mut inbox: mpsc::Receiver<Option<Ended>>) {
    let mut complained: Option<Instant> = None;
    let mut over = false;
    while !over {
        let mut batch = Vec::new();
        let full = Instant::now() + EVERY;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(full, inbox.recv()).await {
                Ok(Some(Some(ended))) => batch.push(ended),
                Ok(Some(None) | None) => {
                    over = true;
                    break;
                }
                Err(_) => break,
            }
        }
        if batch.is_empty() {
            continue;
        }
        let spans = batch.len() as u64;
        match send(&client, &endpoint, batch).await {
            Ok(()) => counted("sent", spans),
            Err(why) => {
                counted("dropped", spans);
                if complained.is_none_or(|at| at.elapsed() > COMPLAIN_EVERY) {
                    complained = Some(Instant::now());
                    tracing::warn!(why, spans, "the collector of spans took nothing; they are dropped");
                }
            }
        }
    }
}

async fn send(client: &reqwest::Client, endpoint: &str, batch: Vec<Ended>) -> Result<(), String> {
    let answered = client.post(endpoint).json(&document(batch)).send().await;
    let answered = answered.map_err(|error| error.without_url().to_string())?;
    match answered.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answered {}", answered.status())),
    }
}

/// The spans as an `ExportTraceServiceRequest`: one resource for each service.
fn document(mut batch: Vec<Ended>) -> Value {
    let mut resources = Vec::new();
    while let Some(service) = batch.first().map(|(span, _)| span.service) {
        let (mine, others): (Vec<Ended>, Vec<Ended>) =
            mem::take(&mut batch).into_iter().partition(|(span, _)| span.service == service);
        batch = others;
        let spans: Vec<Value> = mine.iter().map(|(span, ended)| one(span, *ended)).collect();
        let name = format!("oa-{}", service.trim_end_matches("_service"));
        resources.push(json!({
            "resource": {"attributes": [text("service.name", &name),
                text("service.version", env!("CARGO_PKG_VERSION"))]},
            "scopeSpans": [{"scope": {"name": "oa"}, "spans": spans}],
        }));
    }
    json!({"resourceSpans": resources})
}

/// `SPAN_KIND_SERVER`, `STATUS_CODE_ERROR`.
const SERVER: u32 = 2;
const ERROR: u32 = 2;

fn one(span: &Span, ended: SystemTime) -> Value {
    let nanos = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let begun = ended.checked_sub(span.took).unwrap_or(UNIX_EPOCH);
    let mut told = json!({
        "traceId": span.context.trace(),
        "spanId": span.context.span(),
        "name": span.row,
        "kind": SERVER,
        "startTimeUnixNano": nanos(begun),
        "endTimeUnixNano": nanos(ended),
        "attributes": [
            text("http.request.method", &span.method),
            text("oa.request_id", &span.request_id),
            json!({"key": "http.response.status_code", "value": {"intValue": span.status.to_string()}}),
        ],
        "status": {},
    });
    if let Some(parent) = span.context.parent() {
        told["parentSpanId"] = json!(parent);
    }
    // A refusal is the caller's failure.
    if span.status >= 500 {
        told["status"] = json!({"code": ERROR});
    }
    told
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

#[cfg(test)]
mod tests {
    use oa_contract::Service;

    use super::*;

    fn span(service: Service, status: u16, inbound: Option<&str>) -> Span {
        Span {
            context: trace::Context::new(inbound),
            service: service.label(),
            row: "runs.append",
            method: "POST".into(),
            status,
            request_id: "r".into(),
            took: Duration::from_millis(5),
        }
    }

    #[test]
    fn spans_are_told_in_the_words_of_the_protocol() {
        let at = UNIX_EPOCH + Duration::from_secs(1);
        let inbound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let batch =
            vec![(span(Service::Runtime, 200, Some(inbound)), at), (span(Service::Control, 503, None), at)];
        let told = document(batch);
        let resources = told["resourceSpans"].as_array().expect("resources");
        let of = |at: usize| resources[at]["scopeSpans"][0]["spans"][0].clone();
        assert_eq!(resources.len(), 2);
        assert_eq!(resources[0]["resource"]["attributes"][0]["value"]["stringValue"], "oa-runtime");
        let (runtime, control) = (of(0), of(1));
        assert_eq!(runtime["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(runtime["parentSpanId"], "00f067aa0ba902b7");
        assert_eq!(runtime["startTimeUnixNano"], "995000000");
        assert_eq!(runtime["endTimeUnixNano"], "1000000000");
        assert_eq!((&runtime["kind"], &runtime["status"]), (&json!(2), &json!({})));
        assert_eq!((control.get("parentSpanId"), &control["status"]["code"]), (None, &json!(2)));
    }
}
