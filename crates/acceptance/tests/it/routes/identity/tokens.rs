//! What a personal token may hand on, and which addresses count (control §5.6, §21.1).

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;

use super::{sign_in_on, token_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_personal_token_hands_on_neither_more_nor_longer_than_it_has() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let (dev, _) = sign_in_on(&world, "dev@example.com", "laptop").await;
        let end = world.now().plus_seconds(600);
        let abilities = ["tokens.manage", "runtime.read"];
        let parent =
            token_of(&dev, json!({"name": "parent", "abilities": abilities, "expiresAt": end.zulu()})).await;
        for (body, status) in [
            (json!({"name": "x", "abilities": ["runtime.read"]}), 403),
            (
                json!({"name": "x", "abilities": ["runtime.read"], "expiresAt": end.plus_millis(1).zulu()}),
                403,
            ),
            (json!({"name": "x", "abilities": ["runtime.write"], "expiresAt": end.zulu()}), 403),
            (json!({"name": "x", "expiresAt": end.zulu()}), 403),
            (json!({"name": "x", "abilities": ["runtime.read"], "expiresAt": "later"}), 422),
            (json!({"name": "x", "abilities": ["runtime.read"], "expiresAt": end.zulu()}), 201),
        ] {
            let answered = parent.post("/api/tokens", &body).await;
            assert_eq!(answered.status, status, "{body}: {}", answered.text());
        }
        world.clock.advance_millis(600_000);
        assert_eq!(parent.get("/api/tokens").await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_tokens_and_a_revoked_one_makes_room() {
    for engine in both_engines() {
        let control = vec![("OA_PERSONAL_TOKENS_MAX", "2".to_owned())];
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("two@example.com").await);
        let make = async |http: &oa_testkit::Http| http.post("/api/tokens", &json!({"name": "ci"})).await;
        assert_eq!((make(&user).await.status, make(&user).await.status), (201, 201), "{engine:?}");
        let refused = make(&user).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (409, &json!("conflict")),
            "{engine:?}"
        );
        assert!(refused.text().contains("revoke one"), "{}", refused.text());
        assert_eq!(make(&other).await.status, 201);
        let listed = user.get("/api/tokens").await.json();
        let id = listed["data"][0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(user.send("DELETE", &format!("/api/tokens/{id}"), &[], None).await.status, 200);
        assert_eq!(make(&user).await.status, 201, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    for (trusted, last) in [("", 429), ("127.0.0.0/8", 200)] {
        let control = vec![("OA_TRUSTED_PROXIES", trusted.to_owned())];
        let world = World::with(WorldOptions { control, ..WorldOptions::default() }).await;
        let ask = async |n: usize, address: &str| {
            let body = json!({"email": format!("dev{n}@example.com")});
            let headers = [("x-forwarded-for", address), ("authorization", "Bearer anything")];
            world.control_http.post_with("/api/auth/email", &body, &headers).await
        };
        for n in 0..30 {
            assert_eq!(ask(n, &format!("198.51.100.{n}")).await.status, 200);
        }
        let answered = ask(30, "198.51.100.30").await;
        assert_eq!(answered.status, last, "trusting {trusted:?}: {}", answered.text());
        assert_eq!(answered.header("retry-after").is_some(), last == 429);
        for _ in 0..30 {
            ask(31, "203.0.113.9, 198.51.100.99").await;
        }
        let spoofed = ask(32, "203.0.113.10, 198.51.100.99").await;
        assert_eq!(spoofed.status, 429, "what a client wrote before its proxy does not count");
    }
}
