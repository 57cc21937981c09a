//! Decides how a refusal or a fault looks on the wire: the service's own body, with the members of RFC 9457
//! beside it (ARCHITECTURE.md, Errors).

use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use oa_contract::{Barred, Code, Fault, Refusal, Service, Stop};
use serde_json::{Value, json};

/// The answer for an operation that stopped. A fault is logged here, once, with its chain.
pub fn stopped(service: Service, stop: Stop, request_id: &str, row: &'static str) -> Response<Body> {
    match stop {
        Stop::Refusal(refusal) => refused(service, &refusal, request_id),
        Stop::Fault(fault) => faulted(service, &fault, request_id, row),
    }
}

/// The caller learns the request id; the log learns the rest.
fn faulted(service: Service, fault: &Fault, request_id: &str, row: &'static str) -> Response<Body> {
    tracing::error!(service = service.label(), row, request_id, error = %fault, "a request failed on our side");
    let code = match service {
        Service::Control => Code::InternalError,
        Service::Runtime => Code::Internal,
    };
    let message = format!("something broke on our side; the log names it under request id {request_id}");
    refused(service, &Refusal::new(code, message), request_id)
}

/// The answer for a request that got no further than the gates.
pub fn barred(service: Service, barred: Barred, request_id: &str) -> Response<Body> {
    let (mut response, headers) = match barred {
        Barred::Refused { refusal, headers, member } => {
            (refused_with(service, &refusal, request_id, member), headers)
        }
        Barred::Answered { status, headers, body } => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            (response, headers)
        }
    };
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// The answer for a refusal.
pub fn refused(service: Service, refusal: &Refusal, request_id: &str) -> Response<Body> {
    refused_with(service, refusal, request_id, None)
}

/// The same, with one more member in its body.
fn refused_with(
    service: Service,
    refusal: &Refusal,
    request_id: &str,
    member: Option<(&'static str, Value)>,
) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status(service)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = match service {
        Service::Runtime => flat(refusal),
        Service::Control => envelope(refusal),
    };
    if let Some((name, value)) = member {
        body[name] = value;
    }
    let mut response =
        Response::new(Body::from(with_problem_members(body, refusal, status, request_id).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(millis) = refusal.retry_after_ms {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
    }
    response
}

/// `{"error": code, "message": …}` (runtime-core §2); `not_found` has no message there.
fn flat(refusal: &Refusal) -> Value {
    let mut body = json!({"error": refusal.code.name()});
    if refusal.code != Code::NotFound {
        body["message"] = json!(refusal.message);
    }
    if let Some(reason) = refusal.reason_code {
        body["reason_code"] = json!(reason);
    }
    if let Some(shortage) = &refusal.shortage {
        body["budget"] = json!(shortage.budget);
        body["remaining_msats"] = json!(shortage.remaining_msats);
        body["needed_msats"] = json!(shortage.needed_msats);
    }
    if let Some(millis) = refusal.retry_after_ms {
        body["retry_after_ms"] = json!(millis);
    }
    body
}

/// `{"message", "error": {code, message}, "errors"?}` (control §3).
fn envelope(refusal: &Refusal) -> Value {
    let mut body = json!({
        "message": refusal.message,
        "error": {"code": refusal.code.name(), "message": refusal.message},
    });
    if let Some(field) = &refusal.field {
        body["errors"] = json!({field.as_str(): [refusal.message]});
    }
    body
}

fn with_problem_members(mut body: Value, refusal: &Refusal, status: StatusCode, request_id: &str) -> Value {
    body["type"] = json!(format!("urn:oa:refusal:{}", refusal.code.name()));
    body["title"] = json!(status.canonical_reason().unwrap_or("Refused"));
    body["status"] = json!(status.as_u16());
    body["detail"] = json!(refusal.message);
    body["request_id"] = json!(request_id);
    if let Some(after) = refusal.resume_after {
        body["resume_after"] = json!(after);
    }
    body
}
