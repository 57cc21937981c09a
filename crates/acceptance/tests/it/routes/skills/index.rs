//! What everybody discovers, and nothing else.

use oa_contract::{bundle::File, canonical::hex};
use oa_testkit::{Http, World, both_engines};
use serde_json::{Value, json};

use super::{publish, release, store_skill};

const INDEX: &str = "/.well-known/agent-skills/index.json";

fn file(path: &str, bytes: &[u8]) -> Value {
    File { path: path.into(), bytes: bytes.to_vec(), executable: path.starts_with("scripts/") }.to_json()
}

fn skill(id: &str, version: u64, visibility: &str, files: Vec<Value>) -> Value {
    json!({"skill_id": id, "version": version, "description": format!("About {id}."), "metadata": {"visibility": visibility}, "files": files})
}

async fn put(user: &Http, spec: Value) {
    let (id, version) = (spec["skill_id"].as_str().unwrap().to_owned(), spec["version"].as_u64().unwrap());
    assert_eq!(store_skill(user, spec, "validated").await.status, 201);
    let published = publish(user, &id, version).await;
    assert_eq!(published.status, 201, "{}", published.text());
}

async fn names(anyone: &Http) -> Vec<String> {
    let index = anyone.get(INDEX).await.json();
    let skills = index["skills"].as_array().unwrap_or_else(|| panic!("{index}"));
    skills.iter().map(|one| format!("{}@{}", one["name"].as_str().unwrap(), one["version"])).collect()
}

/// The SHA-256 that `sha256sum` says.
fn sha256(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut sum = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    format!("sha256:{}", out.split(' ').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_artifact_has_the_digest_that_the_index_promises() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let anyone = world.control_http.clone();
        let user = world.sign_in("dev@example.com").await;
        let markdown = b"---\nname: alone\ndescription: About alone.\n---\nHi \xf0\x9f\x98\x80\n";
        put(&user, skill("alone", 1, "public", vec![file("SKILL.md", markdown)])).await;
        let files = vec![
            file("SKILL.md", b"# with files"),
            file("scripts/run.sh", b"exit"),
            file("assets/x.bin", &[0, 255]),
        ];
        put(&user, skill("with-files", 3, "public", files)).await;
        put(&user, json!({"skill_id": "written", "version": 1, "description": "d", "visibility": "public"}))
            .await;
        let index = anyone.get(INDEX).await;
        assert_eq!(index.header("content-type"), Some("application/json"));
        assert_eq!(index.header("access-control-allow-origin"), Some("*"));
        let index = index.json();
        assert_eq!(index["$schema"], "https://schemas.agentskills.io/discovery/0.2.0/schema.json");
        assert_eq!(
            names(&anyone).await,
            ["alone@1", "github-coding@1", "lightning-l402@1", "with-files@3", "written@1"]
        );
        for entry in index["skills"].as_array().unwrap() {
            let url = entry["url"].as_str().unwrap();
            let fetched = anyone.get(url).await;
            assert_eq!(fetched.status, 200, "{url}");
            assert_eq!(sha256(&fetched.bytes), entry["digest"], "{url}");
            let etag = fetched.header("etag").unwrap().to_owned();
            assert_eq!(etag, format!("\"{}\"", entry["digest"].as_str().unwrap()));
            let known = anyone.send("GET", url, &[("if-none-match", &etag)], None).await;
            assert_eq!((known.status, known.bytes.len()), (304, 0));
            let head = anyone.send("HEAD", url, &[], None).await;
            assert_eq!((head.status, head.bytes.len()), (200, 0));
            let media =
                if entry["type"] == "archive" { "application/gzip" } else { "text/markdown; charset=utf-8" };
            assert_eq!(fetched.header("content-type"), Some(media), "{url}");
        }
        let alone = anyone.get("/.well-known/agent-skills/alone/1/SKILL.md").await;
        assert_eq!(alone.bytes, markdown);
        let inside = anyone.get("/.well-known/agent-skills/with-files/3/SKILL.md").await;
        assert_eq!(inside.bytes, b"# with files");
        let none = anyone.get("/.well-known/agent-skills/alone/1/skill.tar.gz").await;
        assert_eq!(none.status, 404);
        let stranger = world.sign_in("other@example.com").await;
        assert_eq!(release(&stranger, "alone", 1).await.status, 200, "everybody may read what is public");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_ever_shown() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let anyone = world.control_http.clone();
        let user = world.sign_in("dev@example.com").await;
        put(&user, skill("secret", 1, "private", vec![file("SKILL.md", b"s")])).await;
        store_skill(&user, skill("waiting", 1, "public", Vec::new()), "validated").await;
        put(&user, skill("mixed", 1, "public", vec![file("SKILL.md", b"one")])).await;
        put(&user, skill("mixed", 2, "private", vec![file("SKILL.md", b"two")])).await;
        assert_eq!(names(&anyone).await, ["github-coding@1", "lightning-l402@1", "mixed@1"]);
        assert!(!anyone.get(INDEX).await.text().contains("secret"));
        for hidden in ["secret/1", "waiting/1", "mixed/2", "mixed/3", "github-coding/2", "unknown/1"] {
            for artifact in ["SKILL.md", "skill.tar.gz"] {
                let answered = anyone.get(&format!("/.well-known/agent-skills/{hidden}/{artifact}")).await;
                assert_eq!(
                    (answered.status, &answered.json()["message"]),
                    (404, &json!("Not found.")),
                    "{hidden}"
                );
            }
        }
        let stranger = world.sign_in("other@example.com").await;
        assert_eq!(release(&stranger, "mixed", 2).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_shows_its_newest_version_that_is_not_deprecated() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let anyone = world.control_http.clone();
        let user = world.sign_in("dev@example.com").await;
        for version in [2, 10, 9] {
            put(&user, skill("tool", version, "public", Vec::new())).await;
        }
        let etag = anyone.get(INDEX).await.header("etag").unwrap().to_owned();
        assert_eq!(anyone.send("GET", INDEX, &[("if-none-match", &etag)], None).await.status, 304);
        let shown = async || names(&anyone).await.pop().unwrap();
        assert_eq!(shown().await, "tool@10");
        store_skill(&user, skill("tool", 10, "public", Vec::new()), "deprecated").await;
        assert_eq!(shown().await, "tool@9");
        assert_ne!(anyone.get(INDEX).await.header("etag"), Some(etag.as_str()));
        for version in [2, 9] {
            store_skill(&user, skill("tool", version, "public", Vec::new()), "deprecated").await;
        }
        assert_eq!(names(&anyone).await, ["github-coding@1", "lightning-l402@1"]);
        store_skill(&user, skill("tool", 2, "public", Vec::new()), "published").await;
        assert_eq!(shown().await, "tool@2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_whoever_published_under_it_first() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let other = world.sign_in("other@example.com").await;
        put(&user, skill("taken", 1, "public", Vec::new())).await;
        store_skill(&other, skill("taken", 2, "public", Vec::new()), "validated").await;
        let refused = publish(&other, "taken", 2).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert_eq!(release(&other, "taken", 2).await.status, 404);
        store_skill(&other, skill("github-coding", 2, "public", Vec::new()), "validated").await;
        assert_eq!(publish(&other, "github-coding", 2).await.status, 409);
        put(&other, skill("taken", 3, "private", Vec::new())).await;
        store_skill(&other, skill("Not_A_Name", 1, "public", Vec::new()), "validated").await;
        let refused = publish(&other, "not_a_name", 1).await;
        assert_eq!((refused.status, refused.json()["errors"]["skill_spec.skill_id"].is_array()), (422, true));
        let bare = json!({"skill_id": "bare", "version": 1, "visibility": "public"});
        store_skill(&other, bare, "validated").await;
        let refused = publish(&other, "bare", 1).await;
        assert_eq!(
            (refused.status, refused.json()["errors"]["skill_spec.description"].is_array()),
            (422, true)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_index_is_the_one_that_signs() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    put(&user, skill("signed", 1, "private", vec![file("SKILL.md", b"s")])).await;
    let key = world.control_http.get(INDEX).await.json()["registry_pubkey"].as_str().unwrap().to_owned();
    let release = release(&user, "signed", 1).await.json()["data"].clone();
    let verified = oa_contract::bundle::verify_release(&release, Some(&key)).expect("signed by that key");
    assert_eq!(verified.files[0].bytes, b"s");
    assert!(oa_contract::bundle::verify_release(&release, Some(&hex(&[1; 32]))).is_err());
}
