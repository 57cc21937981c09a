//! `GET /api/me` (control §5.5).

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;

use super::{sign_in_on, token_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_shown_their_threads_of_all_organisations_and_nobody_elses() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let (ada, _) = sign_in_on(&world, "ada@openagents.com", "laptop").await;
        let (other, _) = sign_in_on(&world, "other@openagents.com", "laptop").await;
        let begin = async |id: &str| {
            let sent = ada.post(&format!("/api/runtime/threads/{id}/messages"), &json!({"text": "hi"})).await;
            assert_eq!(sent.status, 200, "{}", sent.text());
            world.clock.advance_millis(1_000);
        };
        begin("private").await;
        let chosen = ada.post("/api/orgs/active", &json!({"org_id": "org:openagents"})).await;
        assert_eq!(chosen.status, 200, "{}", chosen.text());
        begin("of-the-house").await;
        let empty = ada.post("/api/chats", &json!({})).await.json()["data"]["id"].clone();
        let chats = async |query: &str| {
            let me = ada.get(&format!("/api/me{query}")).await.json();
            me["data"]["chatThreads"].as_array().unwrap_or_else(|| panic!("{me}")).clone()
        };
        let all = chats("").await;
        let ids: Vec<_> = all.iter().map(|chat| chat["id"].clone()).collect();
        assert_eq!(ids, [empty, json!("of-the-house"), json!("private")], "{engine:?}");
        assert_eq!((&all[0]["title"], &all[1]["title"]), (&json!("New Chat"), &json!("Thread of-the-house")));
        let at = all[2]["updatedAt"].as_str().expect("a moment");
        assert_eq!((at.len(), &at[19..]), (20, "Z"), "{at}");
        assert_eq!(chats("?chat_limit=0").await, all[..1]);
        assert_eq!(chats("?chat_limit=2").await, all[..2]);
        assert_eq!(chats("?chat_limit=100000").await, all);
        assert_eq!(ada.get("/api/me?chat_limit=some").await.status, 400);
        assert_eq!(other.get("/api/me").await.json()["data"]["chatThreads"], json!([]));
        let token = token_of(&ada, json!({"name": "ci", "abilities": ["runtime.read"]})).await;
        assert_eq!(token.get("/api/me").await.json()["data"]["chatThreads"], json!(all));
    }
}
