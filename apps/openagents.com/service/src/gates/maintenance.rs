//! Decides who gets in while the house is being worked on: the allowed paths, and whoever carries the bypass
//! token once and its cookie from then on (control §2.6). Programs that ask for JSON get JSON.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use oa_contract::{Arriving, Barred, Refusal, Timestamp, wire::identity::Secret};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::MaintenanceConfig;
use crate::identity::authenticate::cookie_named;

const PAGE: &str = include_str!("maintenance.html");
const CACHE: &str = "no-store, no-cache, must-revalidate";
/// When a program may ask again.
const RETRY_AFTER_MS: u64 = 60_000;
const PARAMETER: &str = "maintenance_bypass";

pub(super) fn decide(config: &MaintenanceConfig, arriving: &Arriving<'_>, now: Timestamp) -> Option<Barred> {
    if !config.enabled || is_allowed(&config.allowed_paths, arriving.path) {
        return None;
    }
    let Some(token) = &config.bypass_token else { return Some(closed(arriving)) };
    if presented(arriving.query).is_some_and(|given| same(given, token.reveal())) {
        return Some(let_in(config, token, arriving, now));
    }
    let cookie = cookie_named((arriving.header)("cookie"), &config.bypass_cookie_name);
    match cookie.is_some_and(|payload| opens(token, payload, now)) {
        true => None,
        false => Some(closed(arriving)),
    }
}

fn is_allowed(allowed: &[String], path: &str) -> bool {
    allowed.iter().any(|one| match one.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == one,
    })
}

/// The token of the query, as sent.
fn presented(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(PARAMETER)?.strip_prefix('='))
}

fn same(given: &str, token: &str) -> bool {
    given.as_bytes().ct_eq(token.as_bytes()).into()
}

/// The same address without the token, and a cookie that stands for it.
fn let_in(config: &MaintenanceConfig, token: &Secret, arriving: &Arriving<'_>, now: Timestamp) -> Barred {
    let expires_at = now.unix_seconds().saturating_add(config.bypass_cookie_ttl_seconds);
    let cookie = format!(
        "{}={}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={}",
        config.bypass_cookie_name,
        payload(token, expires_at),
        config.bypass_cookie_ttl_seconds
    );
    let headers = vec![
        ("location", address_without_token(arriving.path, arriving.query)),
        ("set-cookie", cookie),
        ("cache-control", CACHE.to_owned()),
    ];
    Barred::Answered { status: 307, headers, body: String::new() }
}

fn address_without_token(path: &str, query: Option<&str>) -> String {
    // Two slashes at the beginning would name another host.
    let mut address = format!("/{}", path.trim_start_matches('/'));
    let rest: Vec<&str> = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(PARAMETER))
        .collect();
    if !rest.is_empty() {
        address.push('?');
        address.push_str(&rest.join("&"));
    }
    address
}

/// `<exp>.<sig>`: the token itself never stands in the cookie.
fn payload(token: &Secret, expires_at: i64) -> String {
    let expires_at = expires_at.to_string();
    let signature = mac(token, &expires_at).finalize().into_bytes();
    format!("{expires_at}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn opens(token: &Secret, payload: &str, now: Timestamp) -> bool {
    let Some((expires_at, signature)) = payload.split_once('.') else { return false };
    let alive = expires_at.parse::<i64>().is_ok_and(|expires_at| expires_at > now.unix_seconds());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let genuine = mac(token, expires_at).verify_slice(&signature).is_ok();
    alive && genuine
}

fn mac(token: &Secret, message: &str) -> Hmac<Sha256> {
    let mac: Hmac<Sha256> = match Mac::new_from_slice(token.reveal().as_bytes()) {
        Ok(mac) => mac,
        // HMAC takes keys of any length.
        Err(_) => Mac::new(&Default::default()),
    };
    mac.chain_update(message.as_bytes())
}

fn closed(arriving: &Arriving<'_>) -> Barred {
    match wants_json((arriving.header)("accept")) {
        true => {
            let refusal = Refusal {
                retry_after_ms: Some(RETRY_AFTER_MS),
                ..Refusal::unavailable("maintenance in progress; try again in a minute")
            };
            let headers = vec![("cache-control", CACHE.to_owned())];
            Barred::Refused { refusal: Box::new(refusal), headers, member: None }
        }
        false => Barred::Answered {
            status: 503,
            headers: vec![
                ("content-type", "text/html; charset=utf-8".to_owned()),
                ("cache-control", CACHE.to_owned()),
                ("retry-after", (RETRY_AFTER_MS / 1_000).to_string()),
            ],
            body: PAGE.to_owned(),
        },
    }
}

/// JSON is for those who name it and do not name HTML too.
fn wants_json(accept: Option<&str>) -> bool {
    let names = |media: &str| {
        accept.is_some_and(|accept| {
            accept.split(',').any(|one| one.split(';').next().is_some_and(|one| one.trim() == media))
        })
    };
    (names("application/json") || names("application/problem+json")) && !names("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MaintenanceConfig {
        MaintenanceConfig {
            enabled: true,
            bypass_token: Some(Secret::new("maint-token")),
            bypass_cookie_name: "oa_maintenance_bypass".into(),
            bypass_cookie_ttl_seconds: 900,
            allowed_paths: vec!["/healthz".into(), "/assets/*".into()],
        }
    }

    fn at(path: &str, query: Option<&str>, headers: &[(&str, &str)]) -> Option<Barred> {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let arriving = Arriving { method: "GET", path, query, header: &find, request_id: "r" };
        decide(&config(), &arriving, Timestamp::from_unix_seconds(1_899_999_100))
    }

    fn status(barred: &Option<Barred>) -> u16 {
        match barred {
            None => 200,
            Some(Barred::Answered { status, .. }) => *status,
            Some(Barred::Refused { refusal, .. }) => refusal.status(oa_contract::Service::Control),
        }
    }

    #[test]
    fn the_cookie_is_the_specified_one_and_does_not_hold_the_token() {
        let cookie = payload(&Secret::new("maint-token"), 1_900_000_000);
        assert_eq!(cookie, "1900000000.4YUPHiVBlQZ5MSDVM8UDPgOFrqaA8Wp581dr4XWB2qI");
    }

    #[test]
    fn the_token_opens_once_and_its_cookie_from_then_on() {
        let opened = at("/chat", Some("a=1&maintenance_bypass=maint-token&b=2&maintenance_bypass=x"), &[]);
        let Some(Barred::Answered { status: 307, headers, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!(headers[0], ("location", "/chat?a=1&b=2".to_owned()));
        assert_eq!(
            headers[1].1,
            "oa_maintenance_bypass=1900000000.4YUPHiVBlQZ5MSDVM8UDPgOFrqaA8Wp581dr4XWB2qI; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=900"
        );
        let cookie = "x=1; oa_maintenance_bypass=1900000000.4YUPHiVBlQZ5MSDVM8UDPgOFrqaA8Wp581dr4XWB2qI";
        assert_eq!(status(&at("/chat", None, &[("cookie", cookie)])), 200);
        for forged in [
            "oa_maintenance_bypass=1900000001.4YUPHiVBlQZ5MSDVM8UDPgOFrqaA8Wp581dr4XWB2qI",
            "oa_maintenance_bypass=1900000000.",
            "oa_maintenance_bypass=maint-token",
            "oa_maintenance_bypass=1899999100.AAAA",
        ] {
            assert_eq!(status(&at("/chat", None, &[("cookie", forged)])), 503, "{forged}");
        }
        assert!(!opens(
            &Secret::new("maint-token"),
            &payload(&Secret::new("maint-token"), 7),
            Timestamp::from_unix_seconds(7)
        ));
    }

    #[test]
    fn the_address_loses_the_token_and_nothing_else_and_never_leads_away() {
        assert_eq!(address_without_token("/", Some("maintenance_bypass=t")), "/");
        assert_eq!(address_without_token("", None), "/");
        assert_eq!(
            address_without_token("//evil.test/x", Some("maintenance_bypass=t&q=%20")),
            "/evil.test/x?q=%20"
        );
    }

    #[test]
    fn a_wrong_token_is_held_back_without_a_cookie_and_allowed_paths_are_not_held_back() {
        for query in
            ["maintenance_bypass=wrong", "maintenance_bypass=maint%2Dtoken", "maintenance_bypass", ""]
        {
            let held = at("/api/me", Some(query), &[]);
            let Some(Barred::Answered { status: 503, headers, body }) = held else { panic!("{query}") };
            assert!(body.contains("Maintenance in progress"));
            assert!(headers.iter().all(|(name, _)| *name != "set-cookie"));
        }
        for allowed in ["/healthz", "/assets/app.css"] {
            assert_eq!(status(&at(allowed, None, &[])), 200);
        }
        assert_eq!(status(&at("/healthz/", None, &[])), 503);
    }

    #[test]
    fn programs_that_ask_for_json_get_json_and_browsers_a_page() {
        let json = at("/api/me", None, &[("accept", "application/json, */*")]);
        assert!(
            matches!(json, Some(Barred::Refused { ref refusal, .. }) if refusal.retry_after_ms == Some(60_000))
        );
        for accept in ["text/html, application/json;q=0.9", "*/*"] {
            let page = at("/api/me", None, &[("accept", accept)]);
            assert!(matches!(page, Some(Barred::Answered { status: 503, .. })), "{accept}");
        }
    }
}
