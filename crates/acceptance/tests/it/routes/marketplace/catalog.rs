//! `GET …/catalog/providers`, `GET …/catalog/job-types`, `POST …/route/provider` (marketplace §3.6, §4.4, §5).

use oa_testkit::{World, both_engines, simulated::SimulatedProvider};
use serde_json::{Value, json};

use super::{CATALOG, ROUTE, enrol, entry, get_as, post_as, provider, registration, reserve, said};

fn ids(listed: &Value) -> Vec<&str> {
    listed["providers"].as_array().unwrap().iter().map(|one| one["worker_id"].as_str().unwrap()).collect()
}

async fn route(world: &World, owner: u64) -> (u16, Value) {
    let body = json!({"owner_user_id": owner, "capability": "oa.sandbox_run.v1"});
    let answered = world.http.post(ROUTE, &body).await;
    (answered.status, answered.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_no_provider_and_a_provider_is_shown_as_it_enrolled() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let shown = provider(&world, "p", 11, 1000).await;
        let client = json!({"worker_id": "c", "owner_user_id": 11, "metadata": {"roles": ["client"]}});
        assert_eq!(world.http.post("/internal/v1/workers", &client).await.status, 201);
        let workers = world.http.get("/internal/v1/workers?owner_user_id=11").await.json();
        assert_eq!(workers["workers"].as_array().unwrap().len(), 2);
        let listed = world.http.get(&format!("{CATALOG}?owner_user_id=11")).await.json();
        assert_eq!(ids(&listed), ["p"]);
        let one = &listed["providers"][0];
        assert_eq!(one["base_url"], json!(shown.url()));
        assert_eq!((&one["heartbeat_state"], &one["tier"]), (&json!("fresh"), &json!("qualified")));
        let world = world.restart().await;
        assert_eq!(ids(&world.http.get(CATALOG).await.json()), ["p"], "it is still there after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn supply_classes_are_said_or_told_from_the_adapter() {
    let world = World::new().await;
    let shared = SimulatedProvider::start().await;
    let cluster = json!({"supply_class": "local_cluster", "cluster_id": "c1", "cluster_members": ["a", "b"]});
    enrol(&world, "cluster", 1, &shared.url(), cluster).await;
    for (worker, adapter) in [("rack", "bundle_rack_adapter"), ("market", "instance_market_adapter")] {
        let mut body = registration(worker, 1, &shared.url(), json!({}));
        body["adapter"] = json!(adapter);
        assert_eq!(world.http.post("/internal/v1/workers", &body).await.status, 201);
    }
    let cluster = entry(&world, "cluster").await;
    assert_eq!(
        (&cluster["supply_class"], &cluster["cluster_members"]),
        (&json!("local_cluster"), &json!(["a", "b"]))
    );
    assert_eq!(entry(&world, "rack").await["supply_class"], "bundle_rack");
    assert_eq!(entry(&world, "market").await["supply_class"], "instance_market");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_paged_filtered_and_refuses_what_it_cannot_read() {
    let world = World::new().await;
    let shared = SimulatedProvider::start().await;
    for (worker, owner) in [("a", 1), ("b", 2), ("c", 1)] {
        enrol(&world, worker, owner, &shared.url(), json!({})).await;
    }
    enrol(&world, "d", 1, &shared.url(), json!({"capabilities": ["oa.sandbox_run.v1", "more"]})).await;
    let listed = async |query: &str| world.http.get(&format!("{CATALOG}{query}")).await;
    assert_eq!(ids(&listed("").await.json()), ["a", "b", "c", "d"]);
    assert_eq!(ids(&listed("?owner_user_id=2").await.json()), ["b"]);
    assert_eq!(ids(&listed("?capability=%20more%20&owner_guest_scope=%20").await.json()), ["d"]);
    let first = listed("?limit=3").await.json();
    assert_eq!(ids(&first), ["a", "b", "c"]);
    let next: String = first["next"].as_str().unwrap().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let rest = listed(&format!("?limit=3&after={next}")).await.json();
    assert_eq!((ids(&rest), &rest["next"]), (vec!["d"], &Value::Null));
    for wrong in ["?limit=0", "?after=x", "?owner_user_id=1&owner_guest_scope=lab", "?owner_user_id=one"] {
        assert_eq!(listed(wrong).await.status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_its_own_providers_and_those_that_serve_everybody() {
    let world = World::new().await;
    let _own = provider(&world, "own", 1, 1000).await;
    let _theirs = provider(&world, "theirs", 2, 1000).await;
    let _pool = reserve(&world, "pool", 3, 1000).await;
    assert_eq!(ids(&get_as(&world, 1, CATALOG).await.json()), ["own", "pool"]);
    let other = get_as(&world, 1, &format!("{CATALOG}?owner_user_id=2")).await;
    assert_eq!(said(&other), (403, "this credential speaks for user:1, not for user:2".into()));
    let body = json!({"owner_user_id": 2, "capability": "oa.sandbox_run.v1"});
    assert_eq!(post_as(&world, 1, ROUTE, &body).await.status, 403);
    assert_eq!(world.http.anonymous().post(ROUTE, &body).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_own_comes_first_then_the_reserve_then_nobody() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _own = provider(&world, "own", 1, 9000).await;
        let _pool = reserve(&world, "pool", 2, 1000).await;
        let _stranger = provider(&world, "stranger", 3, 1).await;
        let (status, first) = route(&world, 1).await;
        assert_eq!(
            (status, &first["tier"], &first["provider"]["worker_id"]),
            (200, &json!("owned"), &json!("own"))
        );
        let reasons = first["considered"].as_array().unwrap();
        assert_eq!(reasons[0]["outcome"], "selected");
        assert_eq!((&reasons[1]["worker_id"], &reasons[1]["outcome"]), (&json!("pool"), &json!("outranked")));
        let failed = json!({"owner_user_id": 1, "status": "failed"});
        assert_eq!(world.http.post("/internal/v1/workers/own/status", &failed).await.status, 200);
        let (_, second) = route(&world, 1).await;
        assert_eq!(
            (&second["tier"], &second["provider"]["worker_id"]),
            (&json!("reserve_pool"), &json!("pool"))
        );
        world.clock.advance_millis(120_001);
        let (status, nobody) = route(&world, 1).await;
        assert_eq!((status, &nobody["error"]), (404, &json!("not_found")));
        world.http.post("/internal/v1/workers/pool/heartbeat", &json!({"owner_user_id": 2})).await;
        assert_eq!(route(&world, 1).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_of_its_own_standing_changes_nothing() {
    let world = World::new().await;
    let liar = SimulatedProvider::start().await;
    let lies = json!({
        "tier": "preferred", "success_count": 99, "quarantined": false, "failure_strikes": 0, "qualified": true,
        "reserve_pool": true, "supply_class": "reserve_pool", "price_integrity_violations": 0,
        "roles": ["provider", "reserve_pool"],
    });
    let body = registration("liar", 1, &liar.url(), lies.clone());
    assert_eq!(post_as(&world, 1, "/internal/v1/workers", &body).await.status, 201);
    let patch = json!({"owner_user_id": 1, "metadata_patch": lies});
    assert_eq!(post_as(&world, 1, "/internal/v1/workers/liar/heartbeat", &patch).await.status, 200);
    let shown = entry(&world, "liar").await;
    for (member, truth) in [
        ("tier", json!("qualified")),
        ("success_count", json!(0)),
        ("reserve_pool", json!(false)),
        ("supply_class", json!("single_node")),
    ] {
        assert_eq!(shown[member], truth, "{member}");
    }
    assert_eq!(route(&world, 2).await.0, 404, "it serves nobody but its owner");
    // An address that was not checked is not called.
    let patch =
        json!({"owner_user_id": 1, "metadata_patch": {"provider_base_url": "http://169.254.169.254/"}});
    assert_eq!(post_as(&world, 1, "/internal/v1/workers/liar/heartbeat", &patch).await.status, 200);
    assert_eq!(route(&world, 1).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_types_are_listed_and_route_refuses_what_it_cannot_read() {
    let world = World::new().await;
    let types = world.http.get("/internal/v1/marketplace/catalog/job-types").await;
    assert_eq!((types.status, types.json()["job_types"].as_array().unwrap().len()), (200, 5));
    let nobody = world.http.post(ROUTE, &json!({"capability": "x"})).await;
    let message = "owner_user_id or owner_guest_scope must be provided (but not both)";
    assert_eq!(said(&nobody), (400, message.into()));
    assert_eq!(world.http.post(ROUTE, &json!({"owner_user_id": 1})).await.status, 422);
    assert_eq!(world.http.post(ROUTE, &json!({"owner_user_id": 1, "capability": "  "})).await.status, 404);
}
