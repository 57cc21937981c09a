//! The tokens as a client would see them: checked by hand, with the keys that are published.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oa_contract::{
    Nothing, Service,
    matrix::{AuthVerify, OrgsActivate, SyncKeys},
    wire::{accounts::ActivateOrg, identity::VerifyCode, sync::KeySet},
};
use ring::{hmac, signature};
use serde_json::Value;

use super::*;
use crate::{
    identity::NewToken,
    testing::{CODE, World, email},
};

const SECRET: &str = "sync-test-signing-key";

async fn world(more: &[(&str, &str)]) -> World {
    let mut env = vec![
        ("OA_AUTH_PROVIDER_MODE", "mock"),
        ("OA_SYNC_TOKEN_SIGNING_KEY", SECRET),
        ("OA_SYNC_TOKEN_ISSUER", "https://openagents.test"),
        ("OA_SYNC_TOKEN_AUDIENCE", "openagents-sync-test"),
        ("OA_SYNC_TOKEN_KEY_ID", "sync-auth-test-v1"),
    ];
    env.extend_from_slice(more);
    World::with_runtime(&env).await
}

fn body(scopes: &[&str], topics: &[&str]) -> RequestSyncToken {
    let owned = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect());
    RequestSyncToken { scopes: owned(scopes), topics: owned(topics), ..RequestSyncToken::default() }
}

async fn mint(world: &World, secret: &str, body: RequestSyncToken) -> Result<SyncToken, Refusal> {
    Ok(world.ask_as::<SyncTokenRow>(secret, body).await?.body.data)
}

async fn refused(world: &World, secret: &str, body: RequestSyncToken) -> (u16, &'static str) {
    let refusal = mint(world, secret, body).await.expect_err("refused");
    (refusal.status(Service::Control), refusal.code.name())
}

fn part(token: &str, n: usize) -> Value {
    let part = token.split('.').nth(n).expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("json")
}

fn split(token: &str) -> (&str, Vec<u8>) {
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    (signed, URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
}

async fn published(world: &World) -> KeySet {
    world.ask::<SyncKeys>(Nothing {}).await.expect("keys").body
}

/// Checks a token as a stranger would, with the published keys alone.
fn proves(keys: &KeySet, token: &str) -> bool {
    let kid = part(token, 0)["kid"].as_str().expect("a kid").to_owned();
    let Some(key) = keys.keys.iter().find(|key| key.kid == kid) else { return false };
    let public = URL_SAFE_NO_PAD.decode(&key.x).expect("base64url");
    let (signed, given) = split(token);
    signature::UnparsedPublicKey::new(&signature::ED25519, public).verify(signed.as_bytes(), &given).is_ok()
}

#[tokio::test]
async fn a_token_says_what_its_answer_says_and_the_shared_secret_proves_it() {
    let world = world(&[]).await;
    let session = world.sign_in("dev@example.com", "laptop").await;
    let token = mint(&world, session.token.reveal(), body(&["runtime.codex_worker_events"], &[]))
        .await
        .expect("a token");
    let topic = format!("org:user:{}:worker_events", session.user_id);
    assert_eq!((token.expires_in, token.refresh_after_in), (300, 270));
    assert_eq!(
        (token.granted_topics[0].topic.as_str(), token.granted_streams[0].stream.as_str()),
        (&*topic, &*topic)
    );
    assert_eq!((token.kid.as_str(), token.device_id.as_str()), ("sync-auth-test-v1", "laptop"));
    assert!(token.issued_at.ends_with("+00:00"));
    let claims = part(token.token.reveal(), 1);
    assert_eq!(claims["iss"], "https://openagents.test");
    assert_eq!(claims["sub"], format!("user:{}", session.user_id));
    assert_eq!(claims["exp"].as_i64(), claims["iat"].as_i64().map(|iat| iat + 300));
    assert_eq!(claims["jti"], token.token_id.as_str());
    assert_eq!(claims["oa_sync_topics"], claims["oa_sync_streams"]);
    let (signed, given) = split(token.token.reveal());
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    assert!(hmac::verify(&key, signed.as_bytes(), &given).is_ok());
    assert_eq!(published(&world).await.keys, []);
}

#[tokio::test]
async fn the_checks_come_in_the_specified_order() {
    let world = world(&[]).await;
    let session = world.sign_in("dev@example.com", "laptop").await;
    let ask = async |body| refused(&world, session.token.reveal(), body).await;
    let everything = RequestSyncToken {
        device_id: Some("phone".into()),
        ttl_seconds: Some(59),
        ..body(&["nothing"], &["x:y"])
    };
    assert_eq!(ask(everything.clone()).await, (403, "forbidden"));
    let everything = RequestSyncToken { device_id: Some(" Laptop ".into()), ..everything };
    assert_eq!(ask(everything.clone()).await, (422, "invalid_request"));
    let everything = RequestSyncToken { ttl_seconds: Some(60), ..everything };
    assert_eq!(ask(everything).await, (422, "invalid_scope"));
    assert_eq!(ask(body(&[], &["x:y"])).await, (422, "invalid_request"));
    assert_eq!(ask(body(&[], &["org:other:workers"])).await, (422, "invalid_scope"));
    assert_eq!(ask(body(&[], &["org:other:worker_events"])).await, (403, "forbidden"));
    let run = body(&["runtime.run_summaries"], &["run:019503c1:runs"]);
    assert_eq!(ask(run).await, (403, "forbidden"));
    let too_long = RequestSyncToken { ttl_seconds: Some(901), ..RequestSyncToken::default() };
    assert_eq!(ask(too_long).await, (422, "invalid_request"));
}

#[tokio::test]
async fn without_a_key_or_switched_off_there_are_no_tokens() {
    let off = world(&[("OA_SYNC_TOKEN_ENABLED", "false")]).await;
    let bounds = world(&[("OA_SYNC_TOKEN_MIN_TTL_SECONDS", "901")]).await;
    for world in [World::new().await, off, bounds] {
        let session = world.sign_in("dev@example.com", "laptop").await;
        let answer = refused(&world, session.token.reveal(), RequestSyncToken::default()).await;
        assert_eq!(answer, (503, "sync_token_unavailable"));
    }
}

#[tokio::test]
async fn streams_and_topics_are_taken_together_once_and_in_order() {
    let world = world(&[]).await;
    let session = world.sign_in("dev@example.com", "laptop").await;
    let (runs, workers) =
        (format!("user:{}:runs", session.user_id), format!("org:user:{}:workers", session.user_id));
    let scopes = ["runtime.run_summaries", "runtime.codex_worker_summaries", "runtime.run_summaries"];
    let body = RequestSyncToken {
        streams: Some(vec![format!(" {runs} "), workers.clone()]),
        ..body(&scopes, &[&runs])
    };
    let token = mint(&world, session.token.reveal(), body).await.expect("a token");
    assert_eq!(token.scopes, ["runtime.codex_worker_summaries", "runtime.run_summaries"]);
    let topics: Vec<_> = token.granted_topics.into_iter().map(|one| one.topic).collect();
    assert_eq!(topics, [workers, runs]);
}

#[tokio::test]
async fn a_member_gets_no_worker_events_of_the_organisation() {
    let world = world(&[]).await;
    let session = world.sign_in("ada@openagents.com", "laptop").await;
    let secret = session.token.reveal();
    let org = ActivateOrg { org_id: "org:openagents".into() };
    world.ask_as::<OrgsActivate>(secret, org).await.expect("active");
    assert_eq!(refused(&world, secret, RequestSyncToken::default()).await, (403, "forbidden"));
}

#[tokio::test]
async fn a_personal_token_names_itself_and_needs_no_device() {
    let world = world(&[]).await;
    let user = world.user("dev@example.com").await;
    let secret = world.personal_token(&user.user_id, NewToken::named("ci")).await;
    let body = RequestSyncToken { device_id: Some("whatever".into()), ..RequestSyncToken::default() };
    let token = mint(&world, secret.reveal(), body).await.expect("a token");
    assert!(token.session_id.starts_with("pat:pat_") && token.session_id == token.device_id);
}

#[tokio::test]
async fn public_keys_prove_tokens_and_stay_until_the_last_one_has_expired() {
    let world =
        world(&[("OA_SYNC_TOKEN_ALGORITHM", "EdDSA"), ("OA_SYNC_TOKEN_ROTATE_AFTER_SECONDS", "3000")]).await;
    let session = world.sign_in("dev@example.com", "laptop").await;
    let ask = async || {
        mint(&world, session.token.reveal(), RequestSyncToken::default()).await.expect("a token").token
    };
    let (first, again) = (ask().await, ask().await);
    let keys = published(&world).await;
    assert_eq!(keys.keys.len(), 1);
    assert!(proves(&keys, first.reveal()) && proves(&keys, again.reveal()));
    assert_eq!(part(first.reveal(), 0)["alg"], "EdDSA");
    let mut forged = first.reveal().to_owned();
    forged.replace_range(forged.len() - 4.., "AAAA");
    assert!(!proves(&keys, &forged));
    world.clock.advance_millis(3_000_000);
    let second = ask().await;
    let keys = published(&world).await;
    assert_eq!(keys.keys.len(), 2);
    assert!(proves(&keys, first.reveal()) && proves(&keys, second.reveal()));
    assert_ne!(part(first.reveal(), 0)["kid"], part(second.reveal(), 0)["kid"]);
    world.clock.advance_millis(960_000);
    let keys = published(&world).await;
    assert!(!proves(&keys, first.reveal()) && proves(&keys, second.reveal()));
    let purged = crate::identity::purge(&world.control.store, world.now()).await.expect("purged");
    assert_eq!(purged.keys, 1);
}

#[tokio::test]
async fn of_many_first_tokens_at_once_all_are_signed_by_one_key() {
    let world = world(&[("OA_SYNC_TOKEN_ALGORITHM", "EdDSA")]).await;
    let sent = world.ask::<oa_contract::matrix::AuthEmail>(email("dev@example.com")).await.expect("sent");
    let verify =
        VerifyCode { code: Secret::new(CODE), challenge_id: Some(sent.body.challenge_id), device_id: None };
    let session = world.ask::<AuthVerify>(verify).await.expect("signed in").body;
    let mints = (0..8).map(|_| mint(&world, session.token.reveal(), RequestSyncToken::default()));
    let tokens = futures_util::future::join_all(mints).await;
    let keys = published(&world).await;
    assert_eq!(keys.keys.len(), 1);
    assert!(tokens.into_iter().all(|token| proves(&keys, token.expect("a token").token.reveal())));
    assert!(!world.files_hold(SECRET).await, "the secret is on the disk");
}
