//! `/api/auth/*`, `/api/orgs/*`, `/api/policy/*`, `/api/tokens` and the sync tokens: who somebody is, over real
//! sockets.

mod orgs;
mod origins;
mod propagation;
mod register;
mod sessions;
mod sync_tokens;
mod tokens;

use oa_testkit::{Http, World};
use serde_json::{Value, json};

/// A caller with a session on a device, and what the sign-in answered.
pub async fn sign_in_on(world: &World, email: &str, device: &str) -> (Http, Value) {
    let sent = world.control_http.post("/api/auth/email", &json!({"email": email})).await.json();
    let body = json!({"code": "123456", "challenge_id": sent["challengeId"], "device_id": device});
    let verified = world.control_http.post("/api/auth/verify", &body).await;
    assert_eq!(verified.status, 200, "{}", verified.text());
    let session = verified.json();
    (world.control_http.with_bearer(text(&session["token"])), session)
}

/// A caller with a personal token that a session made.
pub async fn token_of(session: &Http, body: Value) -> Http {
    let made = session.post("/api/tokens", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    session.with_bearer(text(&made.json()["data"]["token"]))
}

pub fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
