//! `POST /api/auth/register` (control §5.3).

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;

use super::text;

#[tokio::test(flavor = "multi_thread")]
async fn automation_signs_up_where_it_is_switched_on() {
    for engine in both_engines() {
        let control = vec![("OA_AUTH_API_SIGNUP_ENABLED", "true".to_owned())];
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let path = "/api/auth/register";
        let made = world.control_http.post(path, &json!({"email": "A.b-c@ex.com"})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let data = made.json()["data"].clone();
        let token = text(&data["token"]).to_owned();
        assert!(token.starts_with("oa_pat_"));
        let user =
            json!({"id": data["user"]["id"], "name": "A B C", "email": "a.b-c@ex.com", "handle": "a-b-c"});
        let wanted = json!({"created": true, "tokenType": "Bearer", "token": token, "tokenName": "api-bootstrap",
            "tokenAbilities": ["*"], "user": user, "autopilot": null});
        assert_eq!(data, wanted);
        let again = json!({"email": "a.b-c@ex.com", "name": "Ada", "token_name": "ci", "token_abilities": ["runtime.read", " "]});
        let again = world.control_http.post(path, &again).await;
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.json()["data"]["user"]["name"], "Ada");
        assert_eq!(again.json()["data"]["tokenAbilities"], json!(["runtime.read"]));
        let world = world.restart().await;
        let me = world.control_http.with_bearer(&token).get("/api/me").await;
        assert_eq!(me.json()["data"]["user"]["email"], "a.b-c@ex.com");
        let reader = world.control_http.with_bearer(text(&again.json()["data"]["token"]));
        assert_eq!(reader.get("/api/tokens").await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_there_is_no_such_thing() {
    let world = World::new().await;
    let refused = world.control_http.post("/api/auth/register", &json!({"email": "a@ex.com"})).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (404, Some("not_found")));
}
