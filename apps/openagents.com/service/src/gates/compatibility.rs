//! Decides which clients the guarded lanes serve: those that say a build, a protocol and a schema within what is
//! configured (control §2.4). Builds are moments (`20260221T120000Z`) and compare as such; a limit that is no
//! moment compares as text.

use oa_contract::{Arriving, Barred, Code, Meta, Refusal, Timestamp, wire::control::ClientCompatibility};
use serde_json::json;

use crate::{
    Control,
    audit::{self, Event},
};

/// What a client says of itself, trimmed.
#[derive(Clone, Copy, Debug, Default)]
struct Said<'a> {
    build: &'a str,
    protocol: &'a str,
    schema: u32,
}

impl Control {
    pub(super) fn incompatible(&self, arriving: &Arriving<'_>) -> Option<Barred> {
        if !self.config.gates.compatibility_enforced || !is_guarded(arriving.path) {
            return None;
        }
        let header = |name| (arriving.header)(name).map(str::trim).unwrap_or_default();
        let said = Said {
            build: header("x-oa-client-build-id"),
            protocol: header("x-oa-protocol-version"),
            schema: header("x-oa-schema-version").parse().unwrap_or_default(),
        };
        let served = &self.config.compatibility;
        let code = decide(served, said)?;
        self.note_rejection(code, said, arriving);
        Some(barred(served, code))
    }

    fn note_rejection(&self, code: Code, said: Said<'_>, arriving: &Arriving<'_>) {
        let client = (arriving.header)("x-client").map(str::trim).filter(|client| !client.is_empty());
        let attributes = [
            ("surface", "control_api"),
            ("path", arriving.path),
            ("client", client.unwrap_or("unknown")),
            ("client_build_id", if said.build.is_empty() { "missing" } else { said.build }),
            ("code", code.name()),
            ("protocol_version", said.protocol),
        ];
        let event = Event { name: "compatibility.rejected", attributes: &attributes, ..Event::default() };
        let meta = Meta { request_id: arriving.request_id.to_owned(), ..Meta::default() };
        audit::rejected(event, &meta, self.clock.now());
    }
}

/// The lanes whose clients must be of this time; sign-in is not among them, so that anybody can get in.
fn is_guarded(path: &str) -> bool {
    const EXACT: [&str; 3] = ["/api/v1/sync/token", "/api/v1/spacetime/token", "/api/chat/stream"];
    let one_chat = path.strip_prefix("/api/chats/").and_then(|rest| rest.strip_suffix("/stream"));
    path.starts_with("/api/v1/control/")
        || EXACT.contains(&path)
        || one_chat.is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

/// What is wrong with a client, the first thing first.
fn decide(served: &ClientCompatibility, said: Said<'_>) -> Option<Code> {
    let protocol = served.protocol_version.trim();
    let newest = served.max_client_build_id.as_deref();
    if !is_build(said.build) {
        Some(Code::InvalidClientBuild)
    } else if said.protocol.is_empty() || said.protocol != protocol {
        Some(Code::UnsupportedProtocolVersion)
    } else if !(served.min_schema_version..=served.max_schema_version).contains(&said.schema) {
        Some(Code::UnsupportedSchemaVersion)
    } else if is_older(said.build, &served.min_client_build_id) {
        Some(Code::UpgradeRequired)
    } else if newest.is_some_and(|newest| is_older(newest, said.build)) {
        Some(Code::UnsupportedClientBuild)
    } else {
        None
    }
}

/// `20260221T120000Z`: eight digits, `T`, six digits, `Z`.
fn is_build(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 16
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

fn is_older(one: &str, other: &str) -> bool {
    match (moment(one), moment(other)) {
        (Some(one), Some(other)) => one < other,
        _ => one < other,
    }
}

/// The moment that a build names, in its short form or as RFC 3339.
fn moment(text: &str) -> Option<Timestamp> {
    if !is_build(text) {
        return Timestamp::parse(text);
    }
    let (date, time) = (&text[..8], &text[9..15]);
    Timestamp::parse(&format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    ))
}

fn sentence(served: &ClientCompatibility, code: Code) -> String {
    let builds = match &served.max_client_build_id {
        Some(newest) => format!("from {} to {newest}", served.min_client_build_id),
        None => format!("from {} on", served.min_client_build_id),
    };
    match code {
        Code::InvalidClientBuild => {
            "x-oa-client-build-id must name the client's build, as 20260221T120000Z".to_owned()
        }
        Code::UnsupportedProtocolVersion => {
            format!("x-oa-protocol-version must be {}", served.protocol_version)
        }
        Code::UnsupportedSchemaVersion => format!(
            "x-oa-schema-version must lie between {} and {}",
            served.min_schema_version, served.max_schema_version
        ),
        _ => format!("this lane serves builds {builds}: install one of these"),
    }
}

fn barred(served: &ClientCompatibility, code: Code) -> Barred {
    let message = sentence(served, code);
    let ClientCompatibility {
        protocol_version,
        min_client_build_id,
        max_client_build_id,
        min_schema_version,
        max_schema_version,
    } = served;
    let detail = json!({
        "code": code.name(),
        "message": message,
        "retryable": false,
        "upgrade_required": true,
        "surface": "control_api",
        "min_client_build_id": min_client_build_id,
        "max_client_build_id": max_client_build_id,
        "min_schema_version": min_schema_version,
        "max_schema_version": max_schema_version,
        "protocol_version": protocol_version,
    });
    let mut headers = vec![
        ("cache-control", "no-store".to_owned()),
        ("x-oa-compatibility-code", code.name().to_owned()),
        ("x-oa-compatibility-upgrade-required", "true".to_owned()),
        ("x-oa-compatibility-protocol-version", protocol_version.clone()),
    ];
    headers.extend(window(served));
    let refusal = Refusal::new(code, message);
    Barred::Refused { refusal: Box::new(refusal), headers, member: Some(("compatibility", detail)) }
}

/// The headers that say which clients are served; streams carry them too.
pub(crate) fn window(served: &ClientCompatibility) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-oa-compatibility-min-client-build-id", served.min_client_build_id.clone())];
    headers.extend(
        served.max_client_build_id.clone().map(|build| ("x-oa-compatibility-max-client-build-id", build)),
    );
    headers.push(("x-oa-compatibility-min-schema-version", served.min_schema_version.to_string()));
    headers.push(("x-oa-compatibility-max-schema-version", served.max_schema_version.to_string()));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> ClientCompatibility {
        ClientCompatibility {
            protocol_version: "openagents.control.v1".into(),
            min_client_build_id: "20260221T120000Z".into(),
            max_client_build_id: Some("20260221T180000Z".into()),
            min_schema_version: 1,
            max_schema_version: 2,
        }
    }

    fn said(build: &str) -> Said<'_> {
        Said { build, protocol: "openagents.control.v1", schema: 1 }
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_said() {
        let served = served();
        let code = |said| decide(&served, said);
        assert_eq!(code(Said::default()), Some(Code::InvalidClientBuild));
        let unspoken = Said { protocol: "", schema: 9, ..said("20260101T000000Z") };
        assert_eq!(code(unspoken), Some(Code::UnsupportedProtocolVersion));
        let old = Said { schema: 3, ..said("20260101T000000Z") };
        assert_eq!(code(old), Some(Code::UnsupportedSchemaVersion));
        assert_eq!(
            code(Said { schema: 0, ..said("20260221T130000Z") }),
            Some(Code::UnsupportedSchemaVersion)
        );
        assert_eq!(code(said("20260221T115959Z")), Some(Code::UpgradeRequired));
        assert_eq!(code(said("20260221T180001Z")), Some(Code::UnsupportedClientBuild));
        assert_eq!(code(said("20260221T120000Z")), None);
        assert_eq!(code(said("20260221T180000Z")), None);
        let blank = ClientCompatibility { protocol_version: " ".into(), ..served.clone() };
        assert_eq!(
            decide(&blank, Said { protocol: "", ..said("20260221T130000Z") }),
            Some(Code::UnsupportedProtocolVersion)
        );
    }

    #[test]
    fn builds_are_moments_and_what_is_none_is_compared_as_text() {
        for malformed in ["", "dev", "20260221T1200000", "2026-02-21T12:00Z", "20260221t120000z"] {
            assert_eq!(decide(&served(), said(malformed)), Some(Code::InvalidClientBuild), "{malformed}");
        }
        assert!(is_older("20260221T120000Z", "2026-02-21T12:00:01Z"));
        assert!(!is_older("20260221T120000Z", "2026-02-21T11:00:00-01:00"));
        // The default lower limit names no day of any calendar.
        assert!(!is_older("20260221T120000Z", "00000000T000000Z"));
        assert!(is_older("20260221T120000Z", "99999999T999999Z"));
    }

    #[test]
    fn only_the_named_lanes_are_guarded() {
        for path in [
            "/api/v1/control/status",
            "/api/v1/control/",
            "/api/v1/sync/token",
            "/api/v1/spacetime/token",
            "/api/chat/stream",
            "/api/chats/thread-1/stream",
        ] {
            assert!(is_guarded(path), "{path}");
        }
        for path in [
            "/api/v1/control",
            "/api/v1/auth/session",
            "/api/sync/token",
            "/api/chats//stream",
            "/api/chats/a/b/stream",
            "/api/chats/a",
            "/api/chats",
            "/api/runtime/workers",
            "/api/auth/email",
        ] {
            assert!(!is_guarded(path), "{path}");
        }
    }
}
