//! Callers cannot reach into private networks, nor to our own services, whatever they call them.

use oa_testkit::{Engine, simulated::L402Mood};
use serde_json::json;

use super::{EXECUTE, Shop, execute};

#[tokio::test(flavor = "multi_thread")]
async fn private_networks_are_refused_unless_the_operator_allows_them() {
    let shop = Shop::open().await;
    let closed = shop.world(Engine::Sqlite, &[("OA_L402_ALLOW_PRIVATE_NETWORKS", "0")]).await;
    let user = closed.sign_in("dev@example.com").await;
    let port = shop.service.url("").rsplit(':').next().unwrap().to_owned();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "metadata.google.internal",
    ] {
        let mut body = shop.fetch("t");
        body["request"]["url"] = json!(format!("http://{host}:{port}/"));
        let refused = user.post(EXECUTE, &body).await;
        assert_eq!(refused.status, 422, "{host}: {}", refused.text());
        assert!(refused.json()["errors"]["request.url"].is_array(), "{host}");
    }
    assert_eq!(shop.service.challenged(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_services_are_refused_even_then() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let runtime_port = world.http.base.rsplit(':').next().unwrap().to_owned();
    let executor_port = shop.executor.url().rsplit(':').next().unwrap().to_owned();
    for port in [&runtime_port, &executor_port] {
        for host in ["127.0.0.1", "127.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
            let mut body = shop.fetch("t");
            body["request"]["url"] = json!(format!("http://{host}:{port}/internal/v1/credit/health"));
            let refused = user.post(EXECUTE, &body).await;
            assert_eq!(refused.status, 422, "{host}:{port}: {}", refused.text());
        }
    }
    shop.service.become_(L402Mood::Free);
    assert_eq!(execute(&user, &shop.fetch("t")).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_the_urls_and_a_redirect_is_not_followed() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let mut body = shop.fetch("t");
    body["request"]["host"] = json!("sats4ai.com");
    body["policy"]["l402_allowed_hosts"] = json!(["sats4ai.com"]);
    let refused = user.post(EXECUTE, &body).await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["errors"]["request.host"].is_array(), "{}", refused.text());
    shop.service.become_(L402Mood::Status(302));
    let outcome = execute(&user, &shop.fetch("t2")).await;
    assert_eq!(
        (&outcome["reason_code"], &outcome["result"]["response"]["statusCode"]),
        (&json!("fetch_failed"), &json!(302))
    );
}
