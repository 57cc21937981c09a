//! `/internal/v1/verifications/*`: stateless, and 200 for whatever can be read (§13).

use oa_testkit::World;
use serde_json::{Value, json};

const SANDBOX: &str = "/internal/v1/verifications/sandbox-run";
const INDEX: &str = "/internal/v1/verifications/repo-index";

fn sandbox() -> Value {
    json!({"request":{"sandbox":{"image_digest":"sha256:test"},"commands":[{"cmd":"echo hi"}]},"response":{"env_info":{"image_digest":"sha256:test"},"runs":[{"cmd":"echo hi","exit_code":2,"duration_ms":1,"stdout_sha256":"o","stderr_sha256":"e"}],"status":"failed","provenance":{"model_id":"p"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_specification_are_answered_exactly() {
    let world = World::new().await;
    let before = world.kept();
    let honest = world.http.post(SANDBOX, &sandbox()).await;
    assert_eq!(
        (honest.status, honest.text().as_str()),
        (200, r#"{"passed":false,"exit_code":2,"violations":[]}"#)
    );
    let mut passed = sandbox();
    passed["response"]["runs"][0]["exit_code"] = json!(0);
    passed["response"]["status"] = json!("success");
    assert_eq!(
        world.http.post(SANDBOX, &passed).await.text(),
        r#"{"passed":true,"exit_code":0,"violations":[]}"#
    );
    passed["request"]["commands"] = json!([]);
    passed["response"]["runs"] = json!([]);
    assert_eq!(world.http.post(SANDBOX, &passed).await.status, 200, "no limits of admission here");
    let index = json!({"request":{"repo_url":"https://example.com/r.git","git_ref":"main","expected_tree_sha256":"fe1e97395b701fbbaabfd5e04c4785cdd72ae06d65e1dd37fe79b602dae1ae4e"},"response":{"tree_sha256":"fe1e97395b701fbbaabfd5e04c4785cdd72ae06d65e1dd37fe79b602dae1ae4e","digests":[{"path":"README.md","sha256":"0".repeat(64),"bytes":1},{"path":"src/lib.rs","sha256":"1".repeat(64),"bytes":2}],"provenance":{"model_id":"p"}}});
    let told = world.http.post(INDEX, &index).await;
    assert_eq!(
        (told.status, told.text().as_str()),
        (
            200,
            r#"{"passed":true,"tree_sha256":"fe1e97395b701fbbaabfd5e04c4785cdd72ae06d65e1dd37fe79b602dae1ae4e","violations":[]}"#
        )
    );
    assert_eq!(world.kept(), before, "nothing is kept of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_422() {
    let world = World::new().await;
    for (member, value) in [
        ("/response/status", json!("done")),
        ("/response/runs/0/exit_code", json!(2_147_483_648_u64)),
        ("/request/sandbox", json!({"image_digest": "x", "network_policy": "some"})),
        ("/response/provenance", json!(null)),
        ("/request/commands/0/cmd", json!(null)),
    ] {
        let mut body = sandbox();
        *body.pointer_mut(member).unwrap() = value;
        let refused = world.http.post(SANDBOX, &body).await;
        assert_eq!(refused.status, 422, "{member}: {}", refused.text());
    }
}
