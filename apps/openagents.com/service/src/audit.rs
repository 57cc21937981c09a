//! Decides what is written down about who signed in and out: one log line an event (control §17), never a secret
//! and never a whole address.

use oa_contract::{Meta, Stop, Timestamp};

/// Something that happened to somebody's credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    pub name: &'static str,
    pub user_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub org_id: Option<&'a str>,
    pub device_id: Option<&'a str>,
    pub attributes: &'a [(&'static str, &'a str)],
}

pub fn success(event: Event<'_>, meta: &Meta, now: Timestamp) {
    write(event, "success", meta, now);
}

/// Something that was asked for and not allowed.
pub fn rejected(event: Event<'_>, meta: &Meta, now: Timestamp) {
    write(event, "rejected", meta, now);
}

/// A refusal is the caller's failure and worth a line; a fault is logged at the edge.
pub fn failure(name: &'static str, stop: &Stop, meta: &Meta, now: Timestamp) {
    if let Stop::Refusal(refusal) = stop {
        let field = refusal.field.as_deref().unwrap_or("");
        let attributes = [("reason", refusal.code.name()), ("field", field)];
        write(Event { name, attributes: &attributes, ..Event::default() }, "failure", meta, now);
    }
}

fn write(event: Event<'_>, outcome: &'static str, meta: &Meta, now: Timestamp) {
    // Names are written in the code, so there are few of them.
    metrics::counter!("oa_audit_events_total", "event" => event.name, "outcome" => outcome).increment(1);
    tracing::info!(
        event_name = event.name,
        outcome,
        request_id = %meta.request_id,
        occurred_at = %now.zulu_seconds(),
        user_id = event.user_id,
        session_id = event.session_id,
        org_id = event.org_id,
        device_id = event.device_id,
        attributes = ?event.attributes,
        "audit_event"
    );
}
