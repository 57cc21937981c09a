//! What becomes a release, once and for ever.

use oa_contract::bundle::verify_release;
use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{SKILLS, TOOLS, includes, listed, publish, release, store_skill};

const HASH: &str = "ecd3694494b260ee569495950a54dcfc8f65de2eefb484628179d6d47d3f8021";

#[tokio::test(flavor = "multi_thread")]
async fn the_skill_that_is_built_in_has_the_golden_release() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        assert_eq!(release(&user, "github-coding", 1).await.status, 404);
        for other in ["GitHub-Coding", "github-codin"] {
            let refused = publish(&user, other, 1).await;
            assert_eq!((refused.status, &refused.json()["message"]), (404, &json!("Not found.")));
        }
        assert_eq!(publish(&user, "github-coding", 2).await.status, 404);
        let published = publish(&user, "github-coding", 1).await;
        assert_eq!(published.status, 201, "{}", published.text());
        let data = published.json()["data"].clone();
        includes(
            &data,
            &json!({"release_id": "skillrel_ecd3694494b2", "skill_id": "github-coding", "version": 1,
                "bundle_hash": HASH, "published_at": world.now().zulu_seconds()}),
        );
        assert_eq!(data["bundle"]["bundle_format"], "agent_skills.v1");
        let verified =
            verify_release(&data, data["signature"]["signer_pubkey"].as_str()).expect("it is signed");
        assert_eq!(verified.bundle_hash, HASH);
        world.clock.advance_millis(60_000);
        assert_eq!(publish(&user, "github-coding", 1).await.json()["data"], data, "published once");
        assert_eq!(release(&user, "github-coding", 1).await.json()["data"], data);
        let stranger = world.sign_in("other@example.com").await;
        assert_eq!(release(&stranger, "github-coding", 1).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_validated_is_published_and_then_it_stays() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let spec = json!({"skill_id": "Triage", "version": 1, "name": "a"});
        store_skill(&user, spec.clone(), "draft").await;
        let refused = publish(&user, "triage", 1).await;
        assert_eq!(refused.status, 409);
        assert!(refused.text().contains("validated"), "{}", refused.text());
        store_skill(&user, spec.clone(), "deprecated").await;
        assert_eq!(publish(&user, "triage", 1).await.status, 409);
        store_skill(&user, spec.clone(), "validated").await;
        let published = publish(&user, "TRIAGE", 1).await.json()["data"].clone();
        assert_eq!(published["skill_id"], "TRIAGE", "the id is that of the path");
        assert!(verify_release(&published, None).is_ok());
        let other = json!({"skill_id": "Triage", "version": 1, "name": "b"});
        let refused = store_skill(&user, other, "validated").await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (409, &json!("conflict")));
        assert_eq!(store_skill(&user, spec.clone(), "draft").await.status, 409);
        world.clock.advance_millis(5_000);
        let same = store_skill(&user, spec.clone(), "validated").await;
        assert_eq!((same.status, &same.json()["data"]["state"]), (201, &json!("published")));
        assert_eq!(same.json()["data"]["updated_at"], published["published_at"]);
        let deprecated = store_skill(&user, spec.clone(), "deprecated").await.json();
        assert_eq!(deprecated["data"]["state"], "deprecated");
        assert_eq!(publish(&user, "triage", 1).await.status, 409);
        let read = release(&user, "TRIAGE", 1).await.json();
        assert_eq!(read["data"], published, "the release is what it was");
        assert_eq!(store_skill(&user, spec, "published").await.json()["data"]["state"], "published");
        assert_eq!(publish(&user, "TRIAGE", 1).await.json()["data"], published);
        assert_eq!(listed(&user, SKILLS).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_publishes_make_one_release() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let spec = json!({"skill_id": "triage", "version": 1, "description": "d", "visibility": "public"});
        store_skill(&user, spec, "validated").await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16 {
            let user = user.clone();
            world.clock.advance_millis(n * 1_000);
            tasks.spawn(async move { publish(&user, "triage", 1).await });
        }
        let answers = tasks.join_all().await;
        let first = answers[0].json();
        for answered in answers {
            assert_eq!(answered.status, 201, "{}", answered.text());
            assert_eq!(answered.json(), first);
        }
        assert_eq!(release(&user, "triage", 1).await.json(), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_of_a_release_exist() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let stranger = world.sign_in("other@example.com").await;
        let tool = json!({"tool_spec": {"tool_id": "Mine", "version": 2, "tool_pack": "coding.v1"}});
        stranger.post(TOOLS, &tool).await;
        let tools = json!([{"tool_id": "github.primary", "version": 1}, {"tool_id": "mine", "version": 2}]);
        let spec = json!({"skill_id": "triage", "version": 1, "allowed_tools": tools});
        store_skill(&user, spec, "validated").await;
        let refused = publish(&user, "triage", 1).await;
        assert_eq!(refused.status, 422, "another's tool is none: {}", refused.text());
        assert!(refused.json()["errors"]["skill_spec.allowed_tools"].is_array());
        assert_eq!(release(&user, "triage", 1).await.status, 404);
        user.post(TOOLS, &tool).await;
        assert_eq!(publish(&user, "triage", 1).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_specification_cannot_be_published_and_its_release_not_be_seen() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let stranger = world.sign_in("other@example.com").await;
    store_skill(&user, json!({"skill_id": "triage", "version": 1}), "validated").await;
    assert_eq!(publish(&stranger, "triage", 1).await.status, 404);
    assert_eq!(publish(&user, "triage", 1).await.status, 201);
    assert_eq!(publish(&stranger, "triage", 1).await.status, 404);
    assert_eq!(release(&stranger, "triage", 1).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_names_no_version_is_refused_with_its_field() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for (path, field) in [
        (format!("{SKILLS}/a/0/publish"), "version"),
        (format!("{SKILLS}/a/x/publish"), "version"),
        (format!("{SKILLS}/a/18446744073709551616/publish"), "version"),
        (format!("{SKILLS}/%20/1/publish"), "skill_id"),
    ] {
        let refused = user.send("POST", &path, &[], None).await;
        assert_eq!(refused.status, 422, "{path}: {}", refused.text());
        assert!(refused.json()["errors"][field].is_array(), "{path}: {}", refused.text());
    }
    let refused = user.get("/api/runtime/skills/releases/a/-1").await;
    assert_eq!((refused.status, refused.json()["errors"]["version"].is_array()), (422, true));
}
