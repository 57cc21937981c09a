//! What is counted, and for whom (control §2.1, §2.8): every try, before its body is looked at, after its credential.

use oa_testkit::{Http, World};
use serde_json::json;

use super::sign_in_on;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn status(http: &Http, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    http.send("POST", path, headers, Some(body.as_bytes().to_vec())).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_counts_too_and_a_full_bucket_beats_every_malformed_body() {
    let world = World::new().await;
    let (email, stranger) = ("/api/auth/email", &world.control_http);
    for _ in 0..10 {
        assert_eq!(status(stranger, email, &[JSON], "[").await, 400);
        assert_eq!(status(stranger, email, &[], "{}").await, 415);
        assert_eq!(status(stranger, email, &[JSON], "{}").await, 422);
    }
    let too_much = " ".repeat(2 * 1024 * 1024 + 1);
    for (headers, body) in [(&[JSON][..], "["), (&[], "{}"), (&[JSON], "{}"), (&[JSON], &too_much)] {
        assert_eq!(status(stranger, email, headers, body).await, 429);
    }
    let refused = stranger.post(email, &json!({"email": "dev@example.com"})).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
    assert_eq!(refused.json()["error"]["message"], "Too many requests. Retry in 60s.");
    world.clock.advance_millis(60_000);
    assert_eq!(status(stranger, email, &[JSON], r#"{"email":"dev@example.com"}"#).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_counted_whatever_credential_or_address_they_use_and_a_stranger_is_not() {
    let world = World::new().await;
    let (laptop, _) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let (phone, _) = sign_in_on(&world, "dev@example.com", "phone").await;
    let (other, _) = sign_in_on(&world, "other@example.com", "laptop").await;
    for path in ["/api/runtime/threads/t/messages", "/api/runtime/codex/workers/w/requests"] {
        for n in 0..60 {
            let http = if n % 2 == 0 { &laptop } else { &phone };
            let address = format!("198.51.100.{n}");
            assert_eq!(status(http, path, &[JSON, ("x-forwarded-for", &address)], "[").await, 400, "{path}");
        }
        assert_eq!(status(&laptop.anonymous(), path, &[JSON], "[").await, 401, "{path}");
        assert_eq!(status(&phone, path, &[JSON, ("x-real-ip", "192.0.2.9")], "[").await, 429, "{path}");
        assert_eq!(status(&other, path, &[JSON], "[").await, 400, "{path}");
        // Reading is not counted.
        assert_ne!(laptop.get("/api/runtime/threads").await.status, 429);
    }
}
