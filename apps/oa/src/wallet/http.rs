//! Decides how the wallet executor is spoken to (liquidity §9.1): who may, what a request is called, and the one
//! envelope of every answer.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::Service;
use crate::data_dir::reveal;

/// The longest request.
const LONGEST: usize = 1 << 20;
/// Request ids are kept for ever.
const LONGEST_ID: usize = 256;

/// Why something was not done, in the words of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct No {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub details: Option<Box<Value>>,
}

impl No {
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        No { status, code: code.into(), message: message.into(), details: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        No::new(400, "invalid_request", message)
    }

    pub fn with(self, details: Value) -> Self {
        No { details: Some(Box::new(details)), ..self }
    }

    /// Something of ours broke; what it was is in the log.
    pub fn broken(stop: &oa_contract::Stop) -> Self {
        tracing::error!(error = %stop, "the wallet's store could not be used");
        No::new(503, "internal_error", "the wallet cannot use its store; ask again later")
    }
}

/// A request, once it may be looked at.
pub struct Asked {
    /// The header's, or a new one.
    pub id: String,
    /// Whether the caller named it.
    pub named: bool,
    pub body: Bytes,
}

impl Asked {
    /// Any content type will do.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, No> {
        serde_json::from_slice(&self.body).map_err(|error| No::invalid(format!("invalid json body: {error}")))
    }
}

pub fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(answer).layer(DefaultBodyLimit::max(LONGEST)).with_state(service)
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let named = headers.get("x-request-id").and_then(|value| value.to_str().ok()).map(str::trim);
    let named = named.filter(|id| !id.is_empty()).map(str::to_owned);
    let asked = Asked { named: named.is_some(), id: named.unwrap_or_else(|| service.new_id()), body };
    let path: Vec<String> = uri
        .path()
        .trim_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let open = path == ["healthz"];
    if !open && !admits(&service, &headers) {
        let no = No::new(401, "unauthorized", "missing or invalid bearer token");
        let mut response = refused(&asked.id, &no);
        let challenge = HeaderValue::from_static("Bearer realm=\"wallet-executor\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return response;
    }
    if asked.id.len() > LONGEST_ID {
        return refused(&asked.id, &No::invalid(format!("a request id has at most {LONGEST_ID} bytes")));
    }
    match route(&service, &method, &path, &asked).await {
        Ok((name, value)) => said(&asked.id, name, value),
        Err(no) => refused(&asked.id, &no),
    }
}

type Told = (&'static str, Value);

async fn route(service: &Arc<Service>, method: &Method, path: &[&str], asked: &Asked) -> Result<Told, No> {
    let result = |value: Value| Ok(("result", value));
    match (method.as_str(), path) {
        ("GET", ["healthz"]) => Ok(("", Value::Null)),
        ("GET", ["status"]) => Ok(("status", service.status().await?)),
        ("POST", ["pay-bolt11"]) => result(service.pay_bolt11(asked).await?),
        ("GET", ["payments", id]) => result(service.payment(id).await?),
        ("POST", ["create-invoice"]) => result(service.create_invoice(asked).await?),
        ("GET", ["invoices", id]) => result(service.invoice(id).await?),
        ("GET", ["receive-address"]) => result(service.receive_address(asked).await?),
        ("GET", ["received", address]) => result(service.received(address).await?),
        ("POST", ["send-onchain", "quote"]) => result(service.quote_onchain(asked).await?),
        ("POST", ["send-onchain", "commit"]) => result(service.commit_onchain(asked).await?),
        ("GET", ["onchain", id]) => result(service.onchain(id).await?),
        ("GET", ["channels"]) => result(service.channels().await?),
        ("POST", ["wallets", "create" | "status"]) => result(service.legacy_wallet(asked).await?),
        ("POST", ["wallets", "create-invoice"]) => result(service.legacy_invoice(asked).await?),
        ("POST", ["wallets", "pay-bolt11"]) => result(service.legacy_pay(asked).await?),
        ("POST", ["wallets", "send-spark"]) => {
            Err(No::new(502, "spark_executor_error", "this wallet pays over Lightning and on-chain only"))
        }
        ("POST", ["simulated", "receive"]) => result(service.simulate_receipt(asked)?),
        ("POST", ["simulated", "shop", "invoices"]) => result(service.shop_invoice(asked).await?),
        ("GET", ["simulated", "shop", "invoices", id]) => result(service.shop_was_paid(id).await?),
        ("POST", ["simulated", "shop", "payments"]) => result(service.shop_pays(asked).await?),
        _ => Err(No::new(404, "not_found", "the wallet has no such route")),
    }
}

fn admits(service: &Service, headers: &HeaderMap) -> bool {
    let Some(token) = &service.token else { return true };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((scheme, shown)) = shown.split_once(' ') else { return false };
    let same: bool = shown.trim().as_bytes().ct_eq(reveal(token).as_bytes()).into();
    scheme.eq_ignore_ascii_case("bearer") && same
}

fn said(id: &str, name: &'static str, value: Value) -> Response {
    let mut body = Map::new();
    body.insert("ok".into(), true.into());
    body.insert("requestId".into(), id.into());
    if !name.is_empty() {
        body.insert(name.into(), value);
    }
    respond(200, id, &Value::Object(body))
}

fn refused(id: &str, no: &No) -> Response {
    let mut error = json!({"requestId": id, "code": no.code, "message": no.message});
    if let Some(details) = &no.details {
        error["details"] = Value::clone(details);
    }
    respond(no.status, id, &json!({"ok": false, "error": error}))
}

fn respond(status: u16, id: &str, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}
