//! Decides the life of a request: found by its row, authenticated, bounded, parsed, handled, answered, counted.
//! Every row is served by the one function below.

use std::{
    any::Any,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{MethodFilter, on},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode, header, request::Parts};
use hyper::body::Body as _;
use oa_contract::{
    Answer, Arriving, Ask, Caller, Class, Code, Content, Fault, Handle, Meta, Method, Mount, Operation, Port,
    Presented, Refusal, Reply, Row, Service, Stop, credential::SIGNATURE_HEADER, current,
    operation::Body as _,
};

use crate::{
    extract,
    meters::{InFlight, RowMeters},
    problem,
    serve::Peer,
    trace,
};

/// What a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// How long a handler may take before the caller is told to look the outcome up.
    pub handler_time: Duration,
    pub requests_in_flight: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: 2 * 1024 * 1024,
            body_time: Duration::from_secs(30),
            handler_time: Duration::from_secs(60),
            requests_in_flight: 4_096,
        }
    }
}

/// What every request of a service shares.
struct Edge<S> {
    service: Arc<S>,
    limits: Limits,
    in_flight: InFlight,
    unmatched: RowMeters,
}

/// Builds the router of a service from its rows: `rows` is called with the mount, e.g. `matrix::mount_authority`.
pub fn router<S: Port>(service: Arc<S>, limits: Limits, rows: impl FnOnce(&mut Rows<S>)) -> Router {
    let label = S::SERVICE.label();
    let edge = Edge {
        service,
        limits,
        in_flight: InFlight::new(label, limits.requests_in_flight),
        unmatched: RowMeters::new(label, "unmatched"),
    };
    let mut mount = Rows(Router::new());
    rows(&mut mount);
    mount
        .0
        .method_not_allowed_fallback(wrong_method::<S>)
        .fallback(unknown_path::<S>)
        .with_state(Arc::new(edge))
}

/// Takes the rows of a service and becomes its router.
pub struct Rows<S>(Router<Arc<Edge<S>>>);

impl<S: Port> Mount<S> for Rows<S> {
    fn row<O: Operation>(&mut self)
    where
        S: Handle<O>,
    {
        let filter = match O::ROW.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Delete => MethodFilter::DELETE,
        };
        let meters = Arc::new(RowMeters::new(S::SERVICE.label(), O::ROW.name));
        let handler = move |State(edge): State<Arc<Edge<S>>>, request: Request| {
            let meters = meters.clone();
            async move { life::<S, O>(&edge, &meters, request).await }
        };
        self.0 = std::mem::take(&mut self.0).route(&O::ROW.braced_path(), on(filter, handler));
    }
}

/// What is known of a request before anything of it is believed.
struct Arrival {
    parts: Parts,
    request_id: String,
    trace: trace::Context,
    /// The address on whose behalf is asked.
    peer: String,
    begun: Instant,
}

impl Arrival {
    fn new<S: Port>(edge: &Edge<S>, parts: Parts) -> Self {
        let begun = Instant::now();
        let request_id = match text(&parts.headers, "x-request-id") {
            Some(id) if !id.is_empty() && id.len() <= 200 => id.to_owned(),
            _ => edge.service.request_id(),
        };
        let trace = trace::Context::new(text(&parts.headers, "traceparent"));
        let peer = client(edge, &parts).map(|address| address.to_string()).unwrap_or_default();
        Arrival { parts, request_id, trace, peer, begun }
    }
}

/// The service decides whether forwarded headers are believed.
fn client<S: Port>(edge: &Edge<S>, parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Peer>()?.0.ip();
    if !parts.headers.contains_key("x-forwarded-for") && !parts.headers.contains_key("x-real-ip") {
        return Some(edge.service.client(peer, "", ""));
    }
    // A proxy may add a header of its own beside the one that it was sent; together they are one list.
    let said = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let said = said.collect::<Vec<_>>().join(",");
    Some(edge.service.client(peer, &said, text(&parts.headers, "x-real-ip").unwrap_or_default()))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// One request of one row, from its head to its answer.
async fn life<S: Port + Handle<O>, O: Operation>(
    edge: &Edge<S>,
    meters: &RowMeters,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let arrival = Arrival::new(edge, parts);
    let id: Arc<str> = arrival.request_id.as_str().into();
    current::within(Some(id), live::<S, O>(edge, meters, arrival, body)).await
}

async fn live<S: Port + Handle<O>, O: Operation>(
    edge: &Edge<S>,
    meters: &RowMeters,
    arrival: Arrival,
    body: Body,
) -> Response {
    if let Some(response) = barred(edge, &arrival) {
        return leave(edge, meters, &arrival, response);
    }
    let Some(_place) = edge.in_flight.enter() else {
        let refusal = Refusal {
            retry_after_ms: Some(1_000),
            ..Refusal::unavailable("too many requests are being answered; try again in a second")
        };
        return leave(edge, meters, &arrival, problem::refused(S::SERVICE, &refusal, &arrival.request_id));
    };
    // A panic anywhere in a request, its parsing included, is a fault of that request only.
    let attempt = AssertUnwindSafe(attempt::<S, O>(edge, &arrival, body)).catch_unwind().await;
    let response = match attempt {
        Ok(Ok(answer)) => answered::<O>(answer),
        Ok(Err(stop)) => Err(stop),
        Err(panic) => Err(Fault::msg(format!("a request panicked: {}", panic_text(&*panic))).into()),
    };
    let mut response =
        response.unwrap_or_else(|stop| problem::stopped(S::SERVICE, stop, &arrival.request_id, O::ROW.name));
    if matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // The rest of the body is never read, so nothing can follow it: without this word a client would send its
        // next request into a connection that is about to end.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    leave(edge, meters, &arrival, response)
}

/// Authenticate, count the try, then path, query and body, then the write gate, then the handler (runtime-core §1,
/// control §2.1).
async fn attempt<S: Port + Handle<O>, O: Operation>(
    edge: &Edge<S>,
    arrival: &Arrival,
    body: Body,
) -> Result<Answer<O::Reply>, Stop> {
    let parts = &arrival.parts;
    let signed =
        S::TAKES_SIGNATURES && O::ROW.class != Class::Anyone && parts.headers.contains_key(SIGNATURE_HEADER);
    if signed && !body.is_end_stream() {
        // Nobody makes us read a body with a signature that is not ours. Where there is none, one look is enough.
        edge.service.admits_head(presented(arrival, &[]))?;
    }
    let mut unread = Some(body);
    let early = match signed {
        true => read(edge.limits, unread.take()).await?,
        false => Bytes::new(),
    };
    let caller = authenticate(edge, arrival, O::ROW.class, &early).await?;
    edge.service.counts(O::ROW, &caller, &arrival.peer)?;
    let path = extract::path::<O::Path>(O::ROW.path, parts.uri.path())?;
    let query = extract::query::<O::Query>(&parts.uri)?;
    let body = match O::Body::NONE {
        true => extract::json::<O::Body>(b"{}")?,
        false => {
            extract::json_content_type(&parts.headers)?;
            let bytes = if signed { early } else { read(edge.limits, unread.take()).await? };
            extract::json::<O::Body>(&bytes)?
        }
    };
    if O::ROW.gated {
        edge.service.admits_writes()?;
    }
    let ask = Ask { path, query, body, caller, meta: meta::<O>(arrival) };
    handled(edge, ask).await
}

/// Runs the handler within its time.
async fn handled<S: Port + Handle<O>, O: Operation>(
    edge: &Edge<S>,
    ask: Ask<O>,
) -> Result<Answer<O::Reply>, Stop> {
    let work = Handle::<O>::handle(&*edge.service, ask);
    match tokio::time::timeout(edge.limits.handler_time, work).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::unavailable(
            "the answer took too long, which does not say that the work failed: look its outcome up, or repeat the request with the same idempotency key",
        )
        .into()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

async fn read(limits: Limits, body: Option<Body>) -> Result<Bytes, Stop> {
    match body {
        Some(body) => Ok(extract::bytes(body, limits.body_bytes, limits.body_time).await?),
        None => Ok(Bytes::new()),
    }
}

async fn authenticate<S: Port>(
    edge: &Edge<S>,
    arrival: &Arrival,
    class: Class,
    body: &[u8],
) -> Result<Caller, Stop> {
    if class == Class::Anyone {
        return Ok(Caller::Anyone);
    }
    edge.service.authenticate(class, presented(arrival, body)).await
}

/// The credentials of a request as it was sent.
fn presented<'a>(arrival: &'a Arrival, body: &'a [u8]) -> Presented<'a> {
    let (headers, uri) = (&arrival.parts.headers, &arrival.parts.uri);
    Presented {
        method: arrival.parts.method.as_str(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()),
        authorization: text(headers, "authorization"),
        signature: text(headers, SIGNATURE_HEADER),
        cookie: text(headers, "cookie"),
        body,
        peer: &arrival.peer,
    }
}

fn meta<O: Operation>(arrival: &Arrival) -> Meta {
    let headers = O::ROW
        .headers
        .iter()
        .filter_map(|name| Some((*name, text(&arrival.parts.headers, name)?.to_owned())))
        .collect();
    Meta {
        request_id: arrival.request_id.clone(),
        traceparent: arrival.trace.header().to_owned(),
        headers,
        peer: arrival.peer.clone(),
    }
}

/// Puts an answer on the wire.
fn answered<O: Operation>(answer: Answer<O::Reply>) -> Result<Response, Stop> {
    let status = answer.status.or(O::ROW.success.first().copied()).unwrap_or(200);
    let content_type = answer.body.content_type();
    let body = match answer.body.content()? {
        Content::Whole(bytes) => Body::from(bytes),
        Content::Stream(mut chunks) => {
            let request = current::request();
            Body::from_stream(stream::poll_fn(move |context| {
                let _entered = current::enter(request.clone());
                let polled = chunks.poll_next_unpin(context);
                if let Poll::Ready(Some(Err(fault))) = &polled {
                    tracing::error!(row = O::ROW.name, error = %fault, "a streamed answer broke off");
                }
                polled
            }))
        }
    };
    let mut response = Response::new(if status == 304 { Body::empty() } else { body });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

/// Dresses the answer and counts it.
fn leave<S: Port>(edge: &Edge<S>, meters: &RowMeters, arrival: &Arrival, mut response: Response) -> Response {
    let preflight = arrival.parts.method == HttpMethod::OPTIONS;
    let dress =
        edge.service.dress(arrival.parts.uri.path(), text(&arrival.parts.headers, "origin"), preflight);
    let headers = response.headers_mut();
    for (name, value) in dress {
        let name = HeaderName::from_static(name);
        // A handler's own word on caching or variation is closer than the general one.
        if let (false, Ok(value)) =
            (name == header::CACHE_CONTROL && headers.contains_key(&name), HeaderValue::from_str(&value))
        {
            headers.insert(name, value);
        }
    }
    for (name, value) in
        [("x-request-id", arrival.request_id.as_str()), ("traceparent", arrival.trace.header())]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let took = arrival.begun.elapsed();
    meters.record(response.status().as_u16(), took);
    trace::ended(&arrival.trace, |context| trace::Span {
        context,
        service: S::SERVICE.label(),
        row: meters.row(),
        method: arrival.parts.method.to_string(),
        status: response.status().as_u16(),
        request_id: arrival.request_id.clone(),
        took,
    });
    tracing::debug!(
        service = S::SERVICE.label(),
        method = %arrival.parts.method,
        path = arrival.parts.uri.path(),
        status = response.status().as_u16(),
        micros = took.as_micros() as u64,
        request_id = %arrival.request_id,
        "answered"
    );
    response
}

async fn unknown_path<S: Port>(State(edge): State<Arc<Edge<S>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let arrival = Arrival::new(&edge, parts);
    let response = match preflight(&edge, &arrival).or_else(|| barred(&edge, &arrival)) {
        Some(response) => response,
        None => {
            let message = format!("nothing is served at {}", arrival.parts.uri.path());
            problem::refused(S::SERVICE, &Refusal::not_found(message), &arrival.request_id)
        }
    };
    leave(&edge, &edge.unmatched, &arrival, response)
}

/// 405 with `Allow`; on a protected path only for callers with a credential (control §2.1).
async fn wrong_method<S: Port>(State(edge): State<Arc<Edge<S>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let arrival = Arrival::new(&edge, parts);
    let response = match preflight(&edge, &arrival).or_else(|| barred(&edge, &arrival)) {
        Some(response) => response,
        None => refuse_method(&edge, &arrival).await,
    };
    leave(&edge, &edge.unmatched, &arrival, response)
}

async fn refuse_method<S: Port>(edge: &Edge<S>, arrival: &Arrival) -> Response {
    let path = arrival.parts.uri.path();
    let rows: Vec<&Row> =
        oa_contract::matrix::rows_of(S::SERVICE).filter(|row| matches_path(row.path, path)).collect();
    if S::SERVICE == Service::Control
        && let Some(row) = rows.first()
        && let Err(stop) = authenticate(edge, arrival, row.class, &[]).await
    {
        return problem::stopped(S::SERVICE, stop, &arrival.request_id, "unmatched");
    }
    let allow: Vec<&str> = rows
        .iter()
        .flat_map(|row| if row.method == Method::Get { vec!["GET", "HEAD"] } else { vec![row.method.name()] })
        .collect();
    let allow = allow.join(",");
    let message = format!("{} is not served here; {allow} is", arrival.parts.method);
    let mut response =
        problem::refused(S::SERVICE, &Refusal::new(Code::MethodNotAllowed, message), &arrival.request_id);
    if let Ok(value) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn preflight<S: Port>(edge: &Edge<S>, arrival: &Arrival) -> Option<Response> {
    if arrival.parts.method != HttpMethod::OPTIONS
        || !edge.service.answers_preflight(arrival.parts.uri.path())
    {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Some(response)
}

/// The answer of the service's gates, for whom they are closed.
fn barred<S: Port>(edge: &Edge<S>, arrival: &Arrival) -> Option<Response> {
    let (headers, uri) = (&arrival.parts.headers, &arrival.parts.uri);
    let arriving = Arriving {
        method: arrival.parts.method.as_str(),
        path: uri.path(),
        query: uri.query(),
        header: &|name| text(headers, name),
        request_id: &arrival.request_id,
    };
    let barred = edge.service.bars(&arriving)?;
    Some(problem::barred(S::SERVICE, barred, &arrival.request_id))
}

/// Whether a path has the shape of a template.
fn matches_path(template: &str, path: &str) -> bool {
    // As in the router, a parameter may be blank, but for one at the end.
    let (mut wanted, mut given) = (template.split('/'), path.split('/').peekable());
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment))
                if pattern.starts_with(':') && (!segment.is_empty() || given.peek().is_some()) => {}
            (Some(pattern), Some(segment)) if pattern == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_segment_and_blank_only_in_the_middle() {
        let template = "/api/runtime/workers/:worker_id/status";
        assert!(matches_path(template, "/api/runtime/workers/w/status"));
        assert!(matches_path(template, "/api/runtime/workers//status"));
        assert!(!matches_path(template, "/api/runtime/workers/a/b/status"));
        assert!(!matches_path("/api/runtime/workers/:worker_id", "/api/runtime/workers/"));
    }
}
