//! The five `/api/runtime/workers` rows: the runtime's answer in the public shape (control §10).

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_lives_through_the_public_rows() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let body = json!({"workerId": "desktop:w9", "workspaceRef": "ws", "adapter": "desktop", "metadata": {"roles": ["client"]}});
        let made = user.post("/api/runtime/workers", &body).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let data = &made.json()["data"];
        assert_eq!(
            (&data["worker"]["worker_id"], &data["worker"]["status"], &data["liveness"]["heartbeat_state"]),
            (&json!("desktop:w9"), &json!("running"), &json!("fresh"))
        );
        let beat = user
            .post("/api/runtime/workers/desktop:w9/heartbeat", &json!({"metadataPatch": {"load": 0.4}}))
            .await
            .json();
        assert_eq!(
            (&beat["data"]["worker"]["latest_seq"], &beat["data"]["worker"]["metadata"]["load"]),
            (&json!(2), &json!(0.4))
        );
        let stopped = user
            .post(
                "/api/runtime/workers/desktop:w9/status",
                &json!({"status": " Stopped ", "reason": "shutdown"}),
            )
            .await;
        assert_eq!(stopped.json()["data"]["worker"]["status"], "stopped", "{}", stopped.text());
        let got = user.get("/api/runtime/workers/desktop:w9").await.json();
        assert_eq!(got["data"]["worker"]["owner"]["user_id"], data["worker"]["owner"]["user_id"]);
        let listed = user.get("/api/runtime/workers").await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
        let other = world.sign_in("other@example.com").await;
        assert_eq!(other.get("/api/runtime/workers").await.json()["data"], json!([]));
        assert_eq!(other.get("/api/runtime/workers/desktop:w9").await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_page_by_page_and_a_user_has_so_many_workers() {
    for engine in both_engines() {
        let runtime = Box::new(|config: &mut oa_runtime::Config| config.workers_max = 3);
        let world = World::with(WorldOptions { engine, runtime, ..WorldOptions::default() }).await;
        let user = world.sign_in("dev@example.com").await;
        let register = async |id: &str| user.post("/api/runtime/workers", &json!({"workerId": id})).await;
        for id in ["a", "b", "c", "a"] {
            assert_eq!(register(id).await.status, 200, "{engine:?} {id}");
        }
        let refused = register("d").await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (409, &json!("conflict")),
            "{engine:?}"
        );
        assert!(refused.text().contains("register one of them again"), "{}", refused.text());

        let page = async |query: &str| user.get(&format!("/api/runtime/workers{query}")).await.json();
        let first = page("?limit=2").await;
        assert_eq!(
            (first["data"].as_array().map(Vec::len), &first["next"]),
            (Some(2), &json!("b")),
            "{engine:?}"
        );
        let rest = page("?limit=2&after=b").await;
        assert_eq!(rest["data"][0]["worker"]["worker_id"], "c");
        for last in [rest, page("").await] {
            assert_eq!(
                last.as_object().unwrap().len(),
                1,
                "a list that ends says no more than before: {last}"
            );
        }
        assert_eq!(user.get("/api/runtime/workers?limit=0").await.status, 422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_runtime_every_proxied_row_is_503() {
    let world = World::with(WorldOptions { control_knows_runtime: false, ..WorldOptions::default() }).await;
    let user = world.sign_in("dev@example.com").await;
    for row in oa_contract::matrix::CONTROL.iter().filter(|row| row.lane == oa_contract::Lane::Proxied) {
        let path = row.path.replace(":worker_id", "w");
        let answered = match row.method {
            oa_contract::Method::Get => user.get(&path).await,
            // The 503 comes before the validation of fields.
            _ => user.post(&path, &json!({"status": "nonsense"})).await,
        };
        assert_eq!(answered.status, 503, "{}: {}", row.name, answered.text());
        assert_eq!(
            answered.json()["error"],
            json!({"code": "service_unavailable", "message": "Runtime is not configured."})
        );
        assert_eq!(answered.json()["message"], "Runtime is not configured.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_runtime_refuses_is_refused_with_the_mapped_status() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    assert_eq!(user.get("/api/runtime/workers/nobody").await.status, 404);
    user.post("/api/runtime/workers", &json!({"workerId": "w"})).await;
    user.post("/api/runtime/workers/w/status", &json!({"status": "stopping"})).await;
    let refused = user.post("/api/runtime/workers/w/status", &json!({"status": "running"})).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(
        refused.text().contains("invalid worker transition from Stopping to Running"),
        "{}",
        refused.text()
    );
    for id in ["..%2Fcredit%2Fhealth%3Fz=", "a%2Fb", "a%3Fb"] {
        let refused = user.get(&format!("/api/runtime/workers/{id}")).await;
        assert_eq!(refused.status, 422, "{id}: {}", refused.text());
        assert!(refused.json()["errors"]["worker_id"].is_array());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_personal_token_may_do_what_its_abilities_say() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let made = user.post("/api/tokens", &json!({"name": "ci", "abilities": ["runtime.read"]})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let reader = user.with_bearer(made.json()["data"]["token"].as_str().unwrap());
    assert_eq!(reader.get("/api/runtime/workers").await.status, 200);
    assert_eq!(reader.post("/api/runtime/workers", &json!({})).await.status, 403);
}
