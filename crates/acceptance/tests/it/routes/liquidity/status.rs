//! `GET /internal/v1/liquidity/status`: what the wallet says when it is asked (liquidity §4.3).

use oa_testkit::{Engine, World};

use super::{STATUS, executor, paying};

#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_is_asked_and_quoted_word_for_word() {
    let executor = executor().await;
    let world = paying(Engine::Sqlite, &executor).await;
    let told = world.http.get(STATUS).await;
    assert_eq!(told.status, 200);
    let told = told.json();
    assert_eq!(told["schema"], "openagents.liquidity.status_response.v1");
    assert_eq!(told["wallet_executor_reachable"], true);
    assert_eq!(told["wallet_status"]["status"]["balanceSats"], 250_000);
    assert_eq!(
        (told["quote_ttl_seconds"].as_u64(), told["receipt_signing_enabled"].as_bool()),
        (Some(60), Some(true))
    );
    assert!(told.get("error_code").is_none());
    executor.down();
    let told = world.http.get(STATUS).await.json();
    assert_eq!(
        (told["wallet_executor_configured"].as_bool(), told["wallet_executor_reachable"].as_bool()),
        (Some(true), Some(false))
    );
    assert_eq!(told["error_code"], "wallet_executor_transport_error");
    assert!(!told["error_message"].as_str().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wallet_the_status_says_what_is_missing() {
    let world = World::new().await;
    let told = world.http.get(STATUS).await.json();
    assert_eq!(told["wallet_executor_configured"], false);
    assert_eq!(told["error_code"], "wallet_executor_not_configured");
    assert_eq!(told["error_message"], "wallet executor base url missing");
}
