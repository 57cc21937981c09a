//! Who may be enrolled, and what becomes of somebody who moves afterwards (marketplace §4, §17.5): however a place
//! that nobody may reach is spelled, nothing is sent there.

use futures_util::future::join_all;
use oa_fetch::spellings::{PRIVATE, url_of};
use oa_testkit::{World, WorldOptions, simulated::SimulatedProvider};
use serde_json::json;

use super::{DISPATCH, enrol, entry, order, registration, said};

/// A world whose providers are on the internet, or at loopback addresses if that is allowed.
async fn closed(allow_loopback: bool) -> World {
    let runtime = move |config: &mut oa_runtime::Config| {
        config.allow_private_networks = false;
        config.allow_loopback_providers = allow_loopback;
    };
    World::with(WorldOptions { runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

fn port(provider: &SimulatedProvider) -> u16 {
    provider.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_private_address_is_enrolled() {
    let world = closed(false).await;
    let victim = SimulatedProvider::start().await;
    let all = PRIVATE.iter().enumerate().map(async |(n, spelling)| {
        let url = url_of(spelling, port(&victim));
        let body = registration(&format!("w{n}"), 11, &url, json!({}));
        let refused = world.http.post("/internal/v1/workers", &body).await;
        let (status, message) = said(&refused);
        assert_eq!(status, 400, "{url}: {message}");
        assert!(message.starts_with("provider"), "{url}: {message}");
        let known = world.http.get(&format!("/internal/v1/workers/w{n}?owner_user_id=11")).await;
        assert_eq!(known.status, 404, "{url}");
    });
    join_all(all).await;
    assert_eq!((victim.probed(), victim.asked().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_moves_to_a_private_address_is_sent_nothing() {
    let world = closed(true).await;
    let (good, victim) = (SimulatedProvider::start().await, SimulatedProvider::start().await);
    let all = PRIVATE.iter().enumerate().map(async |(n, spelling)| {
        let worker = format!("w{n}");
        enrol(&world, &worker, 11, &good.url(), json!({})).await;
        let moved = json!({"owner_user_id": 11,
            "metadata_patch": {"provider_base_url": url_of(spelling, port(&victim))}});
        let told = world.http.post(&format!("/internal/v1/workers/{worker}/heartbeat"), &moved).await;
        assert!(told.status < 500, "{spelling}: {}", told.text());
    });
    join_all(all).await;
    let refused = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert_eq!((good.asked().len(), victim.probed(), victim.asked().len()), (0, 0, 0));
    assert_eq!(entry(&world, "w0").await["failure_strikes"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_would_hide_the_route_behind_it_is_refused() {
    let world = World::new().await;
    let provider = SimulatedProvider::start().await;
    for tail in ["/any/path?x=", "?", "#", "/x#y", "/?a#b"] {
        let body = registration("w", 11, &format!("{}{tail}", provider.url()), json!({}));
        let refused = world.http.post("/internal/v1/workers", &body).await;
        assert_eq!(
            said(&refused),
            (400, "provider_base_url must have neither a query nor a fragment".to_owned())
        );
    }
    assert_eq!(provider.probed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_provider_is_shown_a_token_of_its_own_that_follows_from_the_shared_secret() {
    let secret = "a secret of the providers";
    let shared = oa_contract::provider_token::Secret::read(Some(secret)).unwrap().unwrap();
    let runtime = move |config: &mut oa_runtime::Config| {
        config.provider_token = oa_contract::provider_token::Secret::read(Some(secret)).unwrap();
    };
    let world = World::with(WorldOptions { runtime: Box::new(runtime), ..WorldOptions::default() }).await;
    let (one, other) =
        (super::provider(&world, "one", 11, 900).await, super::provider(&world, "other", 12, 900).await);
    for owner in [11, 12] {
        assert_eq!(world.http.post(DISPATCH, &order(owner, json!({}))).await.status, 200);
    }
    assert_eq!(one.shown(), format!("Bearer {}", shared.token(&one.url())));
    assert_eq!(other.shown(), format!("Bearer {}", shared.token(&other.url())));
    assert_ne!(one.shown(), other.shown());
}
