//! What may be stored, by whom, and who sees it.

use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{SKILLS, TOOLS, includes, listed, store_skill};

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_specification_are_answered_as_written() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let now = world.now().zulu_seconds();
        let tool = json!({"tool_id": "github.custom", "version": 1, "tool_pack": "coding.v1", "name": "GitHub Custom"});
        let stored = user.post(TOOLS, &json!({"state": "validated", "tool_spec": tool})).await;
        assert_eq!(stored.status, 201, "{}", stored.text());
        includes(
            &stored.json()["data"],
            &json!({"tool_id": "github.custom", "version": 1, "tool_pack": "coding.v1", "state": "validated",
                "tool_spec": tool, "created_at": now, "updated_at": now}),
        );
        let skill = json!({"skill_id": "triage", "version": 2, "name": "Triage", "allowed_tools": [{"tool_id": "github.custom", "version": 1}]});
        let stored = user.post(SKILLS, &json!({"skill_spec": skill})).await;
        assert_eq!(stored.status, 201, "{}", stored.text());
        includes(
            &stored.json()["data"],
            &json!({"skill_id": "triage", "version": 2, "state": "validated", "skill_spec": skill,
                "created_at": now, "updated_at": now}),
        );
        world.clock.advance_millis(5_000);
        let again = user.post(SKILLS, &json!({"skill_spec": skill, "state": " Draft "})).await.json();
        includes(
            &again["data"],
            &json!({"state": "draft", "created_at": now, "updated_at": world.now().zulu_seconds()}),
        );
        assert_eq!(
            listed(&user, TOOLS).await,
            [
                ("github.custom".to_owned(), 1),
                ("github.primary".to_owned(), 1),
                ("lightning_l402_approve".to_owned(), 1),
                ("lightning_l402_fetch".to_owned(), 1)
            ]
        );
        let world = world.restart().await;
        let user = world.sign_in("dev@example.com").await;
        assert_eq!(listed(&user, SKILLS).await.len(), 3, "the registry survives a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_comes_back_letter_by_letter() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let spec = "{ \"version\" : \"3\",\n  \"skill_id\":\" Z-Triage \", \"n\": 1.50, \"u\": \"\\u00e9\\ud83d\\ude00\" }";
        let body = format!("{{\"skill_spec\":{spec}}}");
        let headers: &[(&str, &str)] = &[("content-type", "application/json")];
        let stored = user.send("POST", SKILLS, headers, Some(body.into_bytes())).await;
        assert_eq!(stored.status, 201, "{}", stored.text());
        includes(&stored.json()["data"], &json!({"skill_id": "Z-Triage", "version": 3}));
        assert!(stored.text().contains(spec) && user.get(SKILLS).await.text().contains(spec));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_sees_nothing_and_changes_nothing() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let stranger = world.sign_in("other@example.com").await;
        let spec = json!({"skill_id": "triage", "version": 1, "name": "mine"});
        assert_eq!(store_skill(&user, spec, "validated").await.status, 201);
        assert_eq!(listed(&stranger, SKILLS).await.len(), 2, "only what is built in");
        let theirs = json!({"skill_id": "TRIAGE", "version": 1, "name": "theirs"});
        assert_eq!(store_skill(&stranger, theirs, "validated").await.status, 201);
        for (who, name) in [(&user, "mine"), (&stranger, "theirs")] {
            let records = who.get(SKILLS).await.json();
            let records: Vec<_> = records["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["skill_spec"]["name"].clone())
                .collect();
            assert_eq!(records, [json!("GitHub Coding"), json!("Lightning L402"), json!(name)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_in_is_read_only() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let tool = json!({"tool_id": "GitHub.Primary", "version": 1, "tool_pack": "coding.v1"});
    let refused = user.post(TOOLS, &json!({"tool_spec": tool})).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("forbidden")));
    let skill = json!({"skill_id": "github-coding", "version": 1});
    assert_eq!(store_skill(&user, skill, "draft").await.status, 403);
    let next = json!({"skill_id": "github-coding", "version": 2});
    assert_eq!(store_skill(&user, next, "draft").await.status, 201, "another version is not built in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_in_pages() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        for (id, version) in [("b", 10), ("B", 9), ("zz", 1), ("aé", 1), ("a", 2)] {
            let spec = json!({"skill_id": id, "version": version});
            assert_eq!(store_skill(&user, spec, "draft").await.status, 201);
        }
        let whole = listed(&user, SKILLS).await;
        let names: Vec<String> = whole.iter().map(|(id, version)| format!("{id}{version}")).collect();
        assert_eq!(names, ["a2", "aé1", "B9", "b10", "github-coding1", "lightning-l4021", "zz1"]);
        let (mut paged, mut after) = (Vec::new(), None::<String>);
        loop {
            let query = after.map(|after| format!("&after={}", encoded(&after))).unwrap_or_default();
            let path = format!("{SKILLS}?limit=2{query}");
            paged.extend(listed(&user, &path).await);
            match user.get(&path).await.json()["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(paged, whole);
        assert!(user.get(SKILLS).await.json().get("next").is_none());
        assert_eq!(user.get(&format!("{SKILLS}?limit=abc")).await.status, 400);
        let refused = user.get(&format!("{SKILLS}?after=x")).await;
        assert_eq!((refused.status, refused.json()["errors"]["after"].is_array()), (422, true));
    }
}

/// For a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_no_more_bytes_than_a_client_can_take() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let bytes = vec![b'x'; 1024 * 1024];
    let file = oa_contract::bundle::File { path: "SKILL.md".into(), bytes, executable: false }.to_json();
    for version in 1..=9 {
        let spec = json!({"skill_id": "large", "version": version, "files": [file]});
        assert_eq!(store_skill(&user, spec, "draft").await.status, 201);
    }
    let first = user.get(SKILLS).await;
    assert!(first.bytes.len() < 9 * 1024 * 1024, "{}", first.bytes.len());
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let rest = listed(&user, &format!("{SKILLS}?after={}", encoded(&next))).await;
    assert_eq!(rest.len() + first.json()["data"].as_array().unwrap().len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let tool = |part: serde_json::Value| {
        let mut spec = json!({"tool_id": "t", "version": 1, "tool_pack": "coding.v1"});
        spec.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        json!({"tool_spec": spec})
    };
    for (body, field) in [
        (json!({}), "tool_spec"),
        (json!({"tool_spec": [], "state": "x"}), "state"),
        (json!({"tool_spec": "x"}), "tool_spec"),
        (tool(json!({"tool_id": ""})), "tool_spec.tool_id"),
        (tool(json!({"tool_id": "a\u{0}"})), "tool_spec.tool_id"),
        (tool(json!({"version": "x"})), "tool_spec.version"),
        (tool(json!({"tool_pack": "x"})), "tool_spec.tool_pack"),
        (tool(json!({"integration_manifest": []})), "tool_spec.integration_manifest"),
        (tool(json!({"integration_manifest": {}})), "tool_spec.integration_manifest.manifest_version"),
        (tool(json!({"input_schema": {"type": "strin"}})), "tool_spec.input_schema"),
        (tool(json!({"output_schema": 7})), "tool_spec.output_schema"),
        (tool(json!({"name": "x".repeat(70_000)})), "tool_spec"),
    ] {
        let refused = user.post(TOOLS, &body).await;
        assert_eq!(refused.status, 422, "{field}: {}", refused.text());
        assert!(refused.json()["errors"][field].is_array(), "{field}: {}", refused.text());
    }
    let deep = format!("{{\"tool_spec\":{{\"a\":{}{}}}}}", "[".repeat(5_000), "]".repeat(5_000));
    let headers: &[(&str, &str)] = &[("content-type", "application/json")];
    let refused = user.send("POST", TOOLS, headers, Some(deep.into_bytes())).await;
    assert!(matches!(refused.status, 400 | 422), "{}", refused.text());
    assert_eq!(listed(&user, TOOLS).await.len(), 3);
    let reader = user.post("/api/tokens", &json!({"name": "ci", "abilities": ["runtime.read"]})).await.json();
    let reader = user.with_bearer(reader["data"]["token"].as_str().unwrap());
    assert_eq!(reader.get(TOOLS).await.status, 200);
    assert_eq!(reader.post(TOOLS, &tool(json!({}))).await.status, 403);
}
