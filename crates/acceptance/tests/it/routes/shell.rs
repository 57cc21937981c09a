//! The pages and probes around the API (control §16).

use oa_testkit::{World, WorldOptions};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_wears_its_armour() {
    let world = World::new().await;
    let page = world.control_http.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        page.text().contains("Download desktop app") && page.text().contains("href=\"/download-desktop\"")
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'"))
    );
    assert_eq!(world.control_http.get("/download-desktop").await.status, 404);
    for former in [
        "/compute",
        "/stats",
        "/feed",
        "/chat/x",
        "/admin",
        "/login",
        "/aui",
        "/manifest.json",
        "/assets/a.js",
    ] {
        assert_eq!(world.control_http.get(former).await.status, 404, "{former}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_download_leads_where_the_operator_says_and_the_probe_needs_its_secret() {
    let control = vec![
        ("OA_DESKTOP_DOWNLOAD_URL", "https://example.test/desktop?os=linux".to_owned()),
        ("OA_SMOKE_SECRET", "secret".to_owned()),
    ];
    let world = World::with(WorldOptions { control, ..WorldOptions::default() }).await;
    let led = world.control_http.get("/download-desktop").await;
    assert_eq!((led.status, led.header("location")), (307, Some("https://example.test/desktop?os=linux")));
    let path = "/api/smoke/stream";
    assert_eq!(world.control_http.get(path).await.status, 401);
    let wrong = world.control_http.send("GET", path, &[("x-oa-smoke-secret", "wrong")], None).await;
    assert_eq!((wrong.status, wrong.json()["error"]["code"].as_str()), (401, Some("unauthorized")));
    let probed = world.control_http.send("GET", path, &[("x-oa-smoke-secret", "secret")], None).await;
    assert_eq!((probed.status, probed.header("x-oa-smoke")), (200, Some("1")));
    assert_eq!(probed.header("cache-control"), Some("no-store"));
    assert_eq!(probed.json()["data"]["delivery"]["sseEnabled"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_say_what_is_specified() {
    let world = World::new().await;
    let health = world.control_http.get("/healthz").await.json();
    for (name, value) in
        [("status", "ok"), ("service", "openagents-control-service"), ("auth_provider", "mock")]
    {
        assert_eq!(health[name], value);
    }
    assert!(health["uptime_seconds"].is_u64() && health["version"].is_string());
    let ready = world.control_http.get("/readyz").await.json();
    assert_eq!((&ready["status"], &ready["static_dir"]), (&"ready".into(), &"./static".into()));
}
