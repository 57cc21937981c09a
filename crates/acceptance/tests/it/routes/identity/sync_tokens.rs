//! `POST /api/sync/token`, its three other names, and `GET /.well-known/jwks.json` (control §7). Tokens are
//! checked here by hand.

use hmac::{Hmac, Mac};
use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{sign_in_on, text, token_of};

const PATHS: [&str; 4] =
    ["/api/sync/token", "/api/spacetime/token", "/api/v1/sync/token", "/api/v1/spacetime/token"];

fn decoded(part: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        other => panic!("{other} is not base64url"),
    };
    let (mut out, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for byte in part.bytes() {
        bits = bits << 6 | u32::from(value(byte));
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    out
}

fn proven(token: &str, secret: &[u8]) -> bool {
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret).expect("a key");
    mac.update(signed.as_bytes());
    mac.verify_slice(&decoded(signature)).is_ok()
}

fn fixture() -> Vec<(&'static str, String)> {
    [
        ("OA_SYNC_TOKEN_ISSUER", "https://openagents.test"),
        ("OA_SYNC_TOKEN_AUDIENCE", "openagents-sync-test"),
        ("OA_SYNC_TOKEN_KEY_ID", "sync-auth-test-v1"),
        ("OA_AUTH_REFRESH_TTL_SECONDS", "86400"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_names_give_one_kind_of_token() {
    let world = World::with(WorldOptions { control: fixture(), ..WorldOptions::default() }).await;
    let (dev, me) = sign_in_on(&world, "dev@example.com", "desktop:autopilot-desktop").await;
    for path in PATHS {
        let answered = dev.post(path, &json!({"scopes": ["runtime.codex_worker_events"]})).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.text());
        assert_eq!(answered.header("sunset").is_some(), path.starts_with("/api/v1/"), "{path}");
        let data = answered.json()["data"].clone();
        let token = text(&data["token"]).to_owned();
        assert!(proven(&token, b"sync-test-signing-key") && !proven(&token, b"another"));
        let parts: Vec<_> = token.split('.').map(decoded).collect();
        assert_eq!(parts[0], br#"{"alg":"HS256","typ":"JWT","kid":"sync-auth-test-v1"}"#);
        let claims: Value = serde_json::from_slice(&parts[1]).unwrap();
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "iss",
                "aud",
                "sub",
                "iat",
                "nbf",
                "exp",
                "jti",
                "oa_user_id",
                "oa_org_id",
                "oa_session_id",
                "oa_device_id",
                "oa_sync_scopes",
                "oa_sync_topics",
                "oa_sync_streams",
                "oa_claims_version"
            ]
        );
        let id = text(&me["userId"]);
        let topic = format!("org:user:{id}:worker_events");
        assert_eq!(claims["oa_session_id"], me["sessionId"]);
        assert_eq!(claims["oa_sync_topics"], json!([topic]));
        assert_eq!(
            data["granted_topics"],
            json!([{"topic": topic, "required_scope": "runtime.codex_worker_events"}])
        );
        assert_eq!(
            data["granted_streams"],
            json!([{"stream": topic, "required_scope": "runtime.codex_worker_events"}])
        );
        assert_eq!(data["org_id"], format!("user:{id}"));
        assert_eq!(data["device_id"], "desktop:autopilot-desktop");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
        let members: Vec<_> = data.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "token",
                "token_type",
                "transport",
                "protocol_version",
                "expires_in",
                "refresh_after_in",
                "issued_at",
                "refresh_after",
                "expires_at",
                "issuer",
                "audience",
                "subject",
                "org_id",
                "claims_version",
                "scopes",
                "granted_topics",
                "granted_streams",
                "kid",
                "token_id",
                "session_id",
                "device_id"
            ]
        );
    }
    assert_eq!(dev.post("/api/khala/token", &json!({})).await.status, 404);
    assert_eq!(world.control_http.get("/.well-known/jwks.json").await.json(), json!({"keys": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_given_out_is_refused_by_its_own_code() {
    let world = World::new().await;
    let (dev, _) = sign_in_on(&world, "dev@example.com", "laptop").await;
    for (body, status, code) in [
        (json!({"device_id": "phone"}), 403, "forbidden"),
        (json!({"ttl_seconds": 59}), 422, "invalid_request"),
        (json!({"ttl_seconds": -1}), 422, "invalid_request"),
        (json!({"scopes": ["everything"]}), 422, "invalid_scope"),
        (json!({"topics": ["org:x:nothing"]}), 422, "invalid_request"),
        (json!({"streams": ["org:x:workers"]}), 422, "invalid_scope"),
        (json!({"streams": ["org:x:worker_events"]}), 403, "forbidden"),
        (json!({"scopes": ["runtime.run_summaries"], "topics": ["run:1:runs"]}), 403, "forbidden"),
    ] {
        let refused = dev.post("/api/sync/token", &body).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.text());
        assert_eq!(refused.json()["error"]["code"], code, "{body}");
        assert!(refused.json().get("errors").is_none(), "{body}");
    }
    let writer = token_of(&dev, json!({"name": "w", "abilities": ["runtime.write"]})).await;
    assert_eq!(writer.post("/api/sync/token", &json!({})).await.status, 403);
    let reader = token_of(&dev, json!({"name": "r", "abilities": ["runtime.read"]})).await;
    let made = reader.post("/api/sync/token", &json!({})).await.json();
    assert!(text(&made["data"]["session_id"]).starts_with("pat:"));
    let keyless = vec![("OA_SYNC_TOKEN_SIGNING_KEY", String::new())];
    let keyless = World::with(WorldOptions { control: keyless, ..WorldOptions::default() }).await;
    let (dev, _) = sign_in_on(&keyless, "dev@example.com", "laptop").await;
    let refused = dev.post("/api/sync/token", &json!({})).await;
    assert_eq!((refused.status, text(&refused.json()["error"]["code"])), (503, "sync_token_unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_outlive_a_restart_on_both_engines() {
    for engine in both_engines() {
        let control = [("OA_SYNC_TOKEN_ALGORITHM", "EdDSA"), ("OA_SYNC_TOKEN_ROTATE_AFTER_SECONDS", "2000")];
        let control = control.map(|(name, value)| (name, value.to_owned())).to_vec();
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let (dev, session) = sign_in_on(&world, "dev@example.com", "laptop").await;
        let kids = async |world: &World| {
            let answered = world.control_http.get("/.well-known/jwks.json").await;
            assert_eq!(answered.header("cache-control"), Some("public, max-age=60"));
            let keys = answered.json()["keys"].as_array().unwrap().clone();
            assert!(
                keys.iter()
                    .all(|key| key["kty"] == "OKP" && key["crv"] == "Ed25519" && key.get("d").is_none())
            );
            keys.iter().map(|key| text(&key["kid"]).to_owned()).collect::<Vec<_>>()
        };
        let mints = (0..6).map(|_| async { dev.post("/api/sync/token", &json!({})).await.json() });
        let made = futures_util::future::join_all(mints).await;
        let first = kids(&world).await;
        assert_eq!(first.len(), 1, "many at once made one key");
        assert!(made.iter().all(|one| one["data"]["kid"] == first[0].as_str()));
        let world = world.restart().await;
        let dev = world.control_http.with_bearer(text(&session["token"]));
        assert_eq!(dev.post("/api/sync/token", &json!({})).await.json()["data"]["kid"], first[0].as_str());
        world.clock.advance_millis(2_000_000);
        let second = dev.post("/api/sync/token", &json!({})).await.json()["data"]["kid"].clone();
        assert_eq!(kids(&world).await, [text(&second), &first[0]]);
        world.clock.advance_millis(961_000);
        assert_eq!(kids(&world).await, [text(&second)]);
    }
}
