//! Decides which headers every answer on a path carries: CORS and caching on the API (control §2.3), and on the
//! compatibility lanes the date of their end (§2.5).

use oa_contract::sunset::{DEPRECATION, MIGRATION_DOC, SUNSET_DATE, SUNSET_HTTP_DATE, is_compatibility_lane};

type Headers = Vec<(&'static str, String)>;

/// Whether a path belongs to the API, so that browsers of other origins may ask for it.
pub fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Without a list every origin is reflected; with one, an origin that is not on it is told nothing, and its
/// browser keeps the answer to itself.
fn allowed_origin<'a>(origin: Option<&'a str>, allowed: Option<&[String]>) -> Option<&'a str> {
    let origin = origin.filter(|origin| !origin.is_empty());
    match allowed {
        None => Some(origin.unwrap_or("*")),
        Some(list) => origin.filter(|origin| list.iter().any(|one| one == origin || one == "*")),
    }
}

/// What an answer on this path wears. `allowed` lists the origins that browsers may ask from.
pub fn dress(path: &str, origin: Option<&str>, preflight: bool, allowed: Option<&[String]>) -> Headers {
    let mut headers = Headers::new();
    if is_api(path) {
        if let Some(origin) = allowed_origin(origin, allowed) {
            headers.push(("access-control-allow-origin", origin.to_owned()));
        }
        headers.extend(
            [
                ("access-control-allow-methods", "GET,POST,PATCH,DELETE,OPTIONS"),
                (
                    "access-control-allow-headers",
                    "authorization,content-type,x-request-id,x-xsrf-token,x-client",
                ),
                ("access-control-max-age", "600"),
                ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
                ("cache-control", "no-store"),
            ]
            .map(|(name, value)| (name, value.to_owned())),
        );
    }
    if is_compatibility_lane(path) && !preflight {
        headers.extend([
            ("sunset", SUNSET_HTTP_DATE.to_owned()),
            ("x-oa-compat-sunset-date", SUNSET_DATE.to_owned()),
            ("x-oa-compat-migration-doc", MIGRATION_DOC.to_owned()),
            ("deprecation", DEPRECATION.to_owned()),
            ("link", ["deprecation", "sunset"].map(link).join(", ")),
        ]);
    }
    headers
}

fn link(relation: &str) -> String {
    format!("</{MIGRATION_DOC}>; rel=\"{relation}\"; type=\"text/markdown\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_api_answers_every_origin_and_is_never_stored() {
        let headers = dress("/api/me", Some("https://app.test"), false, None);
        assert_eq!(value(&headers, "access-control-allow-origin"), Some("https://app.test"));
        assert_eq!(value(&headers, "cache-control"), Some("no-store"));
        assert_eq!(value(&dress("/api", None, false, None), "access-control-allow-origin"), Some("*"));
        assert!(value(&headers, "access-control-allow-credentials").is_none());
        assert!(
            dress("/healthz", None, false, None).is_empty() && dress("/apish", None, false, None).is_empty()
        );
    }

    #[test]
    fn an_origin_that_is_not_on_the_list_is_told_nothing() {
        let list = ["https://app.test".to_owned()];
        let told = |origin| dress("/api/me", origin, true, Some(&list));
        assert_eq!(
            value(&told(Some("https://app.test")), "access-control-allow-origin"),
            Some("https://app.test")
        );
        for origin in [Some("https://app.test.evil"), Some("null"), Some(""), None] {
            assert_eq!(value(&told(origin), "access-control-allow-origin"), None, "{origin:?}");
        }
        assert!(value(&told(None), "vary").is_some_and(|vary| vary.contains("Origin")));
    }

    #[test]
    fn the_end_is_announced_on_the_compatibility_lanes_only() {
        for path in [
            "/api/v1/control/status",
            "/api/v1/auth/session",
            "/api/v1/sync/token",
            "/api/chats",
            "/api/chats/7",
        ] {
            let headers = dress(path, None, false, None);
            assert_eq!(value(&headers, "sunset"), Some("Tue, 30 Jun 2026 00:00:00 GMT"), "{path}");
            assert_eq!(value(&headers, "x-oa-compat-migration-doc"), Some(MIGRATION_DOC), "{path}");
            assert!(value(&headers, "deprecation").is_some() && value(&headers, "link").is_some());
        }
        for path in
            ["/api/v1/control", "/api/auth/session", "/api/sync/token", "/api/chatsx", "/api/runtime/workers"]
        {
            assert_eq!(value(&dress(path, None, false, None), "sunset"), None, "{path}");
        }
    }

    #[test]
    fn a_preflight_announces_no_end() {
        let headers = dress("/api/v1/control/status", None, true, None);
        assert!(value(&headers, "sunset").is_none() && value(&headers, "deprecation").is_none());
        assert_eq!(value(&headers, "access-control-max-age"), Some("600"));
    }
}
