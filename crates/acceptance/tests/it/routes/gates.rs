//! The gates before the rows (control §2.1, §2.4, §2.6): whose answer wins, and what it carries.

use oa_testkit::{Http, World, WorldOptions};

const STATUS: &str = "/api/v1/control/status";
const DAY_MS: i64 = 86_400_000;

async fn world(control: &[(&'static str, &str)]) -> World {
    let control = control.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    World::with(WorldOptions { control, ..WorldOptions::default() }).await
}

async fn get(http: &Http, path: &str, headers: &[(&str, &str)]) -> oa_testkit::Answered {
    http.send("GET", path, headers, None).await
}

const COMPAT: (&str, &str) = ("OA_COMPAT_CONTROL_ENFORCED", "1");
const CLOSED: (&str, &str) = ("OA_MAINTENANCE_MODE_ENABLED", "true");
const TOKEN: (&str, &str) = ("OA_MAINTENANCE_BYPASS_TOKEN", "maint-token");
const CLIENT: [(&str, &str); 3] = [
    ("x-oa-client-build-id", "20260221T130000Z"),
    ("x-oa-protocol-version", "openagents.control.v1"),
    ("x-oa-schema-version", "1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_is_told_before_maintenance_and_maintenance_before_a_missing_credential() {
    let world = world(&[COMPAT, CLOSED, ("OA_COMPAT_CONTROL_MIN_CLIENT_BUILD_ID", "20260221T120000Z")]).await;
    let http = &world.control_http;
    let old = get(http, STATUS, &[("x-oa-client-build-id", "20260101T000000Z"), CLIENT[1], CLIENT[2]]).await;
    assert_eq!(old.status, 426, "{}", old.text());
    let body = old.json();
    assert_eq!(body["error"]["code"], "upgrade_required");
    assert_eq!(body["compatibility"]["code"], "upgrade_required");
    assert_eq!(body["compatibility"]["min_client_build_id"], "20260221T120000Z");
    assert!(body["compatibility"]["max_client_build_id"].is_null());
    assert_eq!(body["compatibility"]["upgrade_required"], true);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-oa-compatibility-code", "upgrade_required"),
        ("x-oa-compatibility-upgrade-required", "true"),
        ("x-oa-compatibility-protocol-version", "openagents.control.v1"),
        ("x-oa-compatibility-min-client-build-id", "20260221T120000Z"),
        ("x-oa-compatibility-min-schema-version", "1"),
        ("x-oa-compatibility-max-schema-version", "1"),
        ("x-oa-compat-sunset-date", "2026-06-30"),
        ("x-oa-compat-migration-doc", "docs/audits/2026-02-25-oa-audit-phase5-compatibility-lane-signoff.md"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(old.header(name), Some(value), "{name}");
    }
    assert!(old.header("x-oa-compatibility-max-client-build-id").is_none());
    assert!(old.header("x-request-id").is_some());
    assert_eq!(get(http, STATUS, &CLIENT).await.status, 503, "a good client waits like everybody");
    assert_eq!(get(http, "/api/me", &[]).await.status, 503, "lanes without a guard do not ask for builds");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(http, path, &[]).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_maintenance_a_good_client_still_needs_a_credential_and_a_path() {
    let world = world(&[COMPAT]).await;
    let http = &world.control_http;
    assert_eq!(get(http, STATUS, &CLIENT).await.status, 401);
    assert_eq!(get(http, "/api/v1/control/nothing", &[]).await.status, 426);
    let nothing = get(http, "/api/v1/control/nothing", &CLIENT).await;
    assert_eq!((nothing.status, nothing.header("x-oa-compat-sunset-date")), (404, Some("2026-06-30")));
    let session = world.sign_in("dev@example.com").await;
    assert_eq!(get(&session, STATUS, &CLIENT).await.status, 200);
    assert_eq!(get(&session, "/api/runtime/threads", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_passes_every_gate_and_announces_no_end() {
    let world = world(&[COMPAT, CLOSED, ("OA_COMPAT_SUNSET_ENFORCED", "1")]).await;
    world.clock.advance_millis(400 * DAY_MS);
    for path in [STATUS, "/api/chats/x/stream", "/api/v1/control/nothing", "/api/nothing"] {
        let answered =
            world.control_http.send("OPTIONS", path, &[("origin", "https://app.test")], None).await;
        assert_eq!((answered.status, answered.bytes.len()), (204, 0), "{path}");
        assert_eq!(answered.header("access-control-allow-origin"), Some("https://app.test"));
        for name in ["sunset", "x-oa-compat-sunset-date", "deprecation", "link"] {
            assert!(answered.header(name).is_none(), "{path} carries {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_shows_people_a_page_and_programs_json() {
    let world = world(&[CLOSED, TOKEN]).await;
    let page = get(&world.control_http, "/api/chats?limit=1", &[]).await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-store, no-cache, must-revalidate"));
    assert!(page.text().contains("Maintenance in progress"));
    assert_eq!(page.header("x-oa-compat-sunset-date"), Some("2026-06-30"));
    assert_eq!(page.header("access-control-allow-origin"), Some("*"));
    let json = get(&world.control_http, "/nothing", &[("accept", "application/json")]).await;
    assert_eq!((json.status, json.json()["error"]["code"].as_str()), (503, Some("service_unavailable")));
    assert!(json.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_the_token_gets_past_maintenance_until_the_cookie_ends() {
    let world = world(&[CLOSED, TOKEN, ("OA_MAINTENANCE_BYPASS_COOKIE_TTL_SECONDS", "5")]).await;
    let http = &world.control_http;
    let opened = get(http, "/api/nothing?a=1&maintenance_bypass=maint-token&b=2", &[]).await;
    assert_eq!((opened.status, opened.header("location")), (307, Some("/api/nothing?a=1&b=2")));
    let cookie = opened.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=60"), "{cookie}");
    assert!(!cookie.contains("maint-token"));
    let pair = cookie.split(';').next().expect("a pair");
    assert_eq!(get(http, "/api/nothing", &[("cookie", pair)]).await.status, 404);
    let wrong = get(http, "/api/nothing?maintenance_bypass=wrong", &[]).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (503, None));
    world.clock.advance_millis(61_000);
    assert_eq!(get(http, "/api/nothing", &[("cookie", pair)]).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_their_date_the_lanes_are_gone_only_where_that_is_enforced() {
    let enforced = world(&[COMPAT, ("OA_COMPAT_SUNSET_ENFORCED", "1")]).await;
    let patient = world(&[]).await;
    assert_eq!(get(&enforced.control_http, "/api/chats", &[]).await.status, 401);
    for world in [&enforced, &patient] {
        world.clock.advance_millis(125 * DAY_MS);
    }
    for (path, instead) in [
        ("/api/chats", "/api/runtime/threads"),
        (STATUS, "/openapi.json"),
        ("/api/v1/auth/session", "/api/auth/"),
        ("/api/chat/guest-session", "/api/runtime/threads"),
    ] {
        let gone = get(&enforced.control_http, path, &[]).await;
        assert_eq!((gone.status, gone.json()["error"]["code"].as_str()), (410, Some("gone")), "{path}");
        let message = gone.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(instead) && message.contains("2026-06-30"), "{message}");
        assert_eq!(gone.header("sunset"), Some("Tue, 30 Jun 2026 00:00:00 GMT"));
        assert_eq!(get(&patient.control_http, path, &[]).await.status, 401, "{path}");
    }
    assert_eq!(get(&enforced.control_http, "/api/runtime/threads", &[]).await.status, 401);
}
