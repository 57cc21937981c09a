//! Decides which paths are compatibility lanes, when they end, and what replaces them (control §2.5): read by the
//! headers of every answer, by the OpenAPI document, and by whoever enforces the end.

use crate::instant::Timestamp;

/// The day after whose beginning the lanes may be gone.
pub const SUNSET_DATE: &str = "2026-06-30";
/// The same day as an HTTP date.
pub const SUNSET_HTTP_DATE: &str = "Tue, 30 Jun 2026 00:00:00 GMT";
/// Where the way out is written down: in the repository, and at this path of the control service.
pub const MIGRATION_DOC: &str = "docs/audits/2026-02-25-oa-audit-phase5-compatibility-lane-signoff.md";
/// RFC 9745: the moment of deprecation, 2026-02-25.
pub const DEPRECATION: &str = "@1771977600";

/// 2026-06-30T00:00:00Z.
const SUNSET: Timestamp = Timestamp::from_unix_seconds(1_782_777_600);

/// A lane, exact or by its prefix, and what replaces it.
struct Lane {
    path: &'static str,
    prefix: bool,
    instead: &'static str,
}

const fn exact(path: &'static str, instead: &'static str) -> Lane {
    Lane { path, prefix: false, instead }
}

const fn below(path: &'static str, instead: &'static str) -> Lane {
    Lane { path, prefix: true, instead }
}

const LANES: [Lane; 8] = [
    below("/api/v1/control/", "GET /openapi.json, which says of every row who owns it"),
    below("/api/v1/auth/", "the same path below /api/auth/"),
    exact("/api/v1/sync/token", "POST /api/sync/token"),
    exact("/api/v1/spacetime/token", "POST /api/spacetime/token"),
    exact("/api/chat/guest-session", "a signed-in session and GET /api/runtime/threads"),
    exact("/api/chat/stream", "POST /api/runtime/codex/workers/:worker_id/requests"),
    exact("/api/chats", "/api/runtime/threads"),
    below("/api/chats/", "/api/runtime/threads/:thread_id/messages"),
];

/// The document at [`MIGRATION_DOC`]: every lane that ends, and what to ask instead.
pub fn migration_document() -> String {
    let mut out = format!(
        "<!-- Derived from crates/contract/src/sunset.rs by `cargo xtask sync`. Change the lanes there, not this file. -->\n\n\
         # Compatibility lanes and what replaces them\n\n\
         Until {SUNSET_DATE} these paths of the control service answer as before. Every answer on them says so: \
         `x-oa-compat-sunset-date: {SUNSET_DATE}`, `sunset`, `deprecation`, and in `link` and \
         `x-oa-compat-migration-doc` where this document is. From that day on a service that is started with \
         `OA_COMPAT_SUNSET_ENFORCED=1` answers them `410 gone` and says what to ask instead.\n\n\
         | Lane | Instead |\n|---|---|\n"
    );
    for lane in &LANES {
        let below = if lane.prefix { "…" } else { "" };
        out.push_str(&format!("| `{}{below}` | {} |\n", lane.path, lane.instead));
    }
    out.push_str(
        "\nNothing else ends. Drivers of threads have two labels, `control_service` and `runtime_service`; the older \
         ones are retired already: whoever says one is refused, and a stored binding that holds one prefers no \
         driver.\n",
    );
    out
}

fn lane(path: &str) -> Option<&'static Lane> {
    LANES.iter().find(|lane| match lane.prefix {
        true => path.starts_with(lane.path),
        false => path == lane.path,
    })
}

/// Whether a path, or a template of one, is a compatibility lane with a date of its end.
pub fn is_compatibility_lane(path: &str) -> bool {
    lane(path).is_some()
}

/// What replaces the lane of this path, if it is one.
pub fn replacement(path: &str) -> Option<&'static str> {
    lane(path).map(|lane| lane.instead)
}

/// Whether the lanes have reached their date.
pub fn has_passed(now: Timestamp) -> bool {
    now >= SUNSET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_are_those_of_the_specification_and_no_others() {
        for path in [
            "/api/v1/control/status",
            "/api/v1/auth/session",
            "/api/v1/sync/token",
            "/api/v1/spacetime/token",
            "/api/chat/guest-session",
            "/api/chat/stream",
            "/api/chats",
            "/api/chats/",
            "/api/chats/:conversation_id/stream",
        ] {
            assert!(is_compatibility_lane(path), "{path}");
        }
        for path in [
            "/api/v1/control",
            "/api/v1/auth",
            "/api/v1/sync/token/",
            "/api/auth/session",
            "/api/sync/token",
            "/api/chatsx",
            "/api/chat",
            "/api/runtime/workers",
        ] {
            assert!(!is_compatibility_lane(path), "{path}");
        }
    }

    #[test]
    fn the_document_names_every_lane_and_is_served_where_the_headers_say() {
        let document = migration_document();
        for lane in &LANES {
            assert!(document.contains(lane.path) && document.contains(lane.instead), "{}", lane.path);
        }
        let row = <crate::matrix::CompatMigration as crate::Operation>::ROW;
        assert_eq!(row.path.strip_prefix('/'), Some(MIGRATION_DOC));
    }

    #[test]
    fn the_three_forms_of_the_date_are_one_day() {
        let midnight = Timestamp::parse("2026-06-30T00:00:00Z").expect("a moment");
        assert_eq!(SUNSET, midnight);
        assert!(SUNSET.zulu().starts_with(SUNSET_DATE));
        assert!(has_passed(midnight) && !has_passed(midnight.plus_millis(-1)));
    }
}
