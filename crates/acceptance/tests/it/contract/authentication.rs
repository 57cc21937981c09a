//! Every row knows who may call it.

use oa_contract::{Class, Method, Owner, Service, matrix::rows, openapi};
use oa_runtime::AuthMode;
use oa_testkit::{World, WorldOptions};
use serde_json::json;

use super::{
    examples::{example, operation},
    opener,
    owned::signed,
    send, some_path,
};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_no_protected_row_answers() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    for row in rows().filter(|row| row.class != Class::Anyone) {
        let http = opener(&world, &session, row).await;
        for caller in [http.anonymous(), http.with_bearer("oa_st_wrong"), http.with_bearer("")] {
            // Not even a malformed body is looked at before the credential.
            let answered = send(&caller, row.method, &some_path(row), None).await;
            assert_eq!(answered.status, 401, "{}: {}", row.name, answered.text());
            let code = answered.json();
            let code = code["error"].as_str().or_else(|| code["error"]["code"].as_str()).map(str::to_owned);
            assert_eq!(code.as_deref(), Some("unauthorized"), "{}", row.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_authentication_lets_older_clients_in() {
    let world = World::with(WorldOptions { auth_mode: AuthMode::Off, ..WorldOptions::default() }).await;
    let answered = world.http.anonymous().post("/internal/v1/runs", &serde_json::json!({})).await;
    assert_eq!(answered.status, 201, "{}", answered.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_the_request_id_and_the_trace() {
    let world = World::new().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for http in [&world.http, &world.control_http] {
        let answered =
            http.send("GET", "/healthz", &[("x-request-id", "mine"), ("traceparent", trace)], None).await;
        assert_eq!(answered.header("x-request-id"), Some("mine"));
        assert!(answered.header("traceparent").unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(http.get("/healthz").await.header("x-request-id").is_some_and(|id| !id.is_empty()));
        assert!(http.get("/nothing").await.header("x-request-id").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_for_operators_opens_to_nobody_who_speaks_for_one_owner_and_to_nobody_without_a_credential() {
    let world =
        World::with(WorldOptions { auth_mode: AuthMode::Permissive, ..WorldOptions::default() }).await;
    let document = openapi::document(Service::Runtime);
    let before = world.kept();
    let mut asked = Vec::new();
    for row in rows().filter(|row| row.class == Class::Operator) {
        let body = example(&document, operation(&document, row))
            .or_else(|| (row.method == Method::Post).then(|| json!({})));
        let (method, path) = (row.method.name(), some_path(row));
        let bound = signed(&world, &Owner::User(7), method, &path, body.clone()).await;
        assert_eq!((bound.status, &bound.json()["error"]), (403, &json!("forbidden")), "{}", row.name);
        let nobody = send(&world.http.anonymous(), row.method, &path, body).await;
        assert_eq!(nobody.status, 401, "{}", row.name);
        asked.push(row.name);
    }
    for row in ["comms.delivery_events", "fraud.incidents"] {
        assert!(asked.contains(&row), "{row} tells of, or is told for, everybody");
    }
    assert_eq!(world.kept(), before);
}
