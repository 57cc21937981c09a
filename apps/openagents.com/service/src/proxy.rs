//! Decides how a proxied row is answered: the caller becomes the owner, the runtime decides, its answer is
//! passed on untouched and its refusals with their meaning (control §10, §21.2.11). One function for all rows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use oa_client::{CallError, Client, Identity, Manner, Prepared, Raw, Signing};
use oa_contract::{
    Answer, Ask, Clock, Code, Ids, Method, Owner, Refusal, Stop,
    operation::{Enveloped, Forward, Operation, Proxied},
};
use serde_json::value::RawValue;

use crate::{
    Control,
    config::{RuntimeConfig, UpstreamErrors},
    identity::signed_in,
};

/// How long the runtime has for one attempt.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// How much of an upstream body is repeated in a message.
const CAUSE_LENGTH: usize = 500;

/// The client for the configured runtime, signing each request; `None` when none is configured.
pub fn runtime_client(
    config: &RuntimeConfig,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
) -> Result<Option<Client>, String> {
    let Some(base) = &config.base_url else { return Ok(None) };
    let identity = match &config.signature_secret {
        None => Identity::Nobody,
        Some(secret) => Identity::Signed(Signing {
            secret: secret.reveal().as_bytes().to_vec(),
            ttl_seconds: config.signature_ttl_seconds,
            clock,
            ids,
        }),
    };
    Client::new(base, identity).map(Some)
}

impl Forward for Control {
    async fn forward<O: Proxied<Reply = Enveloped>>(&self, ask: Ask<O>) -> Result<Answer<Enveloped>, Stop> {
        let owner_user_id = signed_in(&ask.caller)?.owner_user_id;
        let runtime =
            self.runtime.as_ref().ok_or_else(|| Refusal::unavailable("Runtime is not configured."))?;
        let failed = Failed { action: action(O::ROW.name), errors: self.config.runtime.errors };
        let prepared = {
            let call = O::translate(ask.path, ask.query, ask.body, owner_user_id)?;
            runtime.prepare(&call).map_err(|error| failed.without_answer(&error))?
        };
        let headers =
            [("x-request-id", ask.meta.request_id.as_str()), ("traceparent", ask.meta.traceparent.as_str())];
        let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let manner =
            Manner { headers: &headers, owner: Some(Owner::User(owner_user_id)), timeout: Some(ATTEMPT) };
        let attempts = if <O::Target as Operation>::ROW.method == Method::Get { 2 } else { 1 };
        let raw = attempt(runtime, &prepared, &manner, attempts)
            .await
            .map_err(|error| failed.without_answer(&error))?;
        if !(200..300).contains(&raw.status) {
            return Err(failed.with_answer(&raw).into());
        }
        let reply = unwrap(&raw.body, O::MEMBER, O::ABSENT).map_err(|error| failed.unreadable(&error))?;
        Ok(reply.into())
    }
}

/// Only a question is asked twice, and only when no answer came: what a POST did is not known.
async fn attempt(
    runtime: &Client,
    prepared: &Prepared,
    manner: &Manner<'_>,
    attempts: u32,
) -> Result<Raw, CallError> {
    let mut left = attempts;
    loop {
        left -= 1;
        match runtime.send_prepared(prepared, manner.clone()).await {
            Err(CallError::NoAnswer(_)) if left > 0 => {}
            ended => return ended,
        }
    }
}

/// One member of the runtime's answer as it is written there, digit for digit, and where a list goes on.
fn unwrap(body: &[u8], member: &str, absent: &'static str) -> Result<Enveloped, serde_json::Error> {
    let mut members: HashMap<String, Box<RawValue>> = serde_json::from_slice(body)?;
    let wanted = |value: &RawValue| absent != "[]" || value.get().starts_with('[');
    let next = members.remove("next").and_then(|next| serde_json::from_str(next.get()).ok());
    let data = match members.remove(member).filter(|value| wanted(value)) {
        Some(value) => value,
        None => RawValue::from_string(absent.to_owned())?,
    };
    Ok(Enveloped { data, next })
}

/// What the sentence "Failed to …" says for a row.
fn action(name: &str) -> &'static str {
    match name {
        "api.workers.list" => "list workers",
        "api.workers.register" => "register worker",
        "api.workers.get" => "read worker",
        "api.workers.heartbeat" => "record worker heartbeat",
        "api.workers.status" => "change worker status",
        _ => "call the runtime",
    }
}

/// How a failure upstream is told.
#[derive(Clone, Copy)]
struct Failed {
    action: &'static str,
    errors: UpstreamErrors,
}

impl Failed {
    fn unavailable(self, cause: &str) -> Refusal {
        Refusal::unavailable(format!("Failed to {}: {cause}", self.action))
    }

    fn without_answer(self, error: &CallError) -> Refusal {
        match error {
            CallError::NoAnswer(why) => self.unavailable(&format!("runtime_request_failed:{why}")),
            other => self.unavailable(&format!("runtime_request_failed:{other}")),
        }
    }

    fn unreadable(self, error: &serde_json::Error) -> Refusal {
        self.unavailable(&format!("runtime_json_decode_failed:{error}"))
    }

    /// The runtime refused, or broke.
    fn with_answer(self, raw: &Raw) -> Refusal {
        let message =
            || upstream_message(&raw.body).unwrap_or_else(|| format!("the runtime answered {}", raw.status));
        match (self.errors, raw.status) {
            (UpstreamErrors::Mapped, 400 | 422) => Refusal::invalid(message()),
            (UpstreamErrors::Mapped, 401 | 403) => Refusal::forbidden(message()),
            (UpstreamErrors::Mapped, 404) => Refusal::not_found(message()),
            (UpstreamErrors::Mapped, 409) => Refusal::conflict(message()),
            (UpstreamErrors::Mapped, 429) => Refusal {
                retry_after_ms: retry_after_seconds(raw).map(|seconds| seconds.saturating_mul(1_000)),
                ..Refusal::new(Code::RateLimited, message())
            },
            _ => {
                let body = String::from_utf8_lossy(&raw.body);
                let body: String = body.chars().take(CAUSE_LENGTH).collect();
                self.unavailable(&format!("runtime_http_{} {}:{body}", raw.status, raw.reason()))
            }
        }
    }
}

/// The sentence of a refusal of the runtime; `not_found` has only its detail.
fn upstream_message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = body["message"].as_str().or_else(|| body["detail"].as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn retry_after_seconds(raw: &Raw) -> Option<u64> {
    raw.headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
