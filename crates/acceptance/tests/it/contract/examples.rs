//! The examples of the OpenAPI documents run: every built row is called with its own, the status is one that is
//! documented, and the reply has the documented shape.

use oa_contract::{Row, Service, matrix::rows, openapi};
use oa_testkit::{Http, World};
use serde_json::{Value, json};

use super::opener;

/// Rows whose example would end the session that the others need, or stream for ever.
const LAST: [&str; 1] = ["auth.logout"];

pub fn operation<'a>(document: &'a Value, row: &Row) -> &'a Value {
    let path = row.braced_path();
    let path = path.strip_prefix("/internal/v1").unwrap_or(&path);
    &document["paths"][path][row.method.name().to_lowercase()]
}

/// The first example of the schema that a body refers to.
pub fn example(document: &Value, operation: &Value) -> Option<Value> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let pointer = schema["$ref"].as_str()?.strip_prefix('#')?;
    Some(document.pointer(pointer)?["examples"][0].clone())
}

/// Fills the parameters with things that exist.
fn path(row: &Row, run_id: &str, worker_id: &str) -> String {
    let path = row
        .path
        .replace(":run_id", run_id)
        .replace(":worker_id", worker_id)
        .replace(":stream", &format!("runtime.run.{run_id}.events"));
    let path = path.replace(":skill_id", "github-coding").replace(":version", "1");
    let path = path.replace(":conversation_id", "thread-1").replace(":autopilot", "scout");
    let path = path.replace(":token_id", "pat_unknown").replace(":event_id", "1");
    let path = path.replace(":rfq_id", "fxrfq_1").replace(":agent_id", &"a".repeat(64));
    let path = path.replace(":offer_id", "cepo_1").replace(":settlement_id", "ceps_1");
    // A pool that there is would ask a wallet.
    let pool = if row.name == "pools.create" { "example" } else { "nowhere" };
    let path =
        path.replace(":pool_id", pool).replace(":deposit_id", "liqdep_1").replace(":request_id", "sigreq_1");
    match row.name {
        "pools.prove" => format!("{path}?lp_id=lp:a"),
        "projectors.drift" => format!("{path}?topic=run:{run_id}:events"),
        "workers.list" | "workers.get" => format!("{path}?owner_user_id=42"),
        "streams.subscribe" => format!("{path}?until_head=true"),
        _ => path,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_runs_and_every_reply_has_its_documented_shape() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    let run = world.http.post("/internal/v1/runs", &json!({})).await.json();
    let run_id = run["run"]["id"].as_str().unwrap().to_owned();
    session.post("/api/chat/stream", &json!({"id": "thread-1", "text": "hello"})).await;
    let documents = |service| openapi::document(service);
    let (control, runtime) = (documents(Service::Control), documents(Service::Runtime));
    let mut order: Vec<&Row> = rows().filter(|row| row.built && row.name != "control.status").collect();
    order.sort_by_key(|row| LAST.contains(&row.name));
    for row in order {
        let document = if row.served_by() == Service::Control { &control } else { &runtime };
        let operation = operation(document, row);
        assert!(operation.is_object(), "{} is not documented", row.name);
        let body = example(document, operation);
        assert_eq!(body.is_some(), row.shape.has_body, "{} has a body without an example", row.name);
        let worker = if row.served_by() == Service::Control { "desktop:w9" } else { "desktop:gpu-7" };
        let http = opener(&world, &session, row).await;
        check(&http, row, document, operation, &path(row, &run_id, worker), body).await;
    }
}

#[test]
fn every_schema_of_a_document_has_a_name_of_its_own() {
    for service in [Service::Control, Service::Runtime] {
        let document = openapi::document(service);
        let names: Vec<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
        // Two types of one name are told apart by a number, which says nothing to whoever reads a client.
        // The specification itself gives some types a name with a version.
        let versioned = |name: &&&String| name.ends_with("V1");
        let numbered = names
            .iter()
            .filter(|name| name.ends_with(|last: char| last.is_ascii_digit()))
            .filter(|name| !versioned(name));
        assert_eq!(numbered.collect::<Vec<_>>(), Vec::<&&String>::new());
        assert!(!names.iter().any(|name| *name == "Data" || name.starts_with("Array_of_")), "{names:?}");
    }
}

async fn check(http: &Http, row: &Row, document: &Value, operation: &Value, path: &str, body: Option<Value>) {
    let headers: &[(&str, &str)] = if body.is_some() { &[("content-type", "application/json")] } else { &[] };
    let answered =
        http.send(row.method.name(), path, headers, body.map(|body| body.to_string().into_bytes())).await;
    let response = &operation["responses"][answered.status.to_string()];
    assert!(
        response.is_object(),
        "{} answers {} which is not documented: {}",
        row.name,
        answered.status,
        answered.text()
    );
    assert!(answered.status < 500, "{}: {}", row.name, answered.text());
    let media = answered.header("content-type").unwrap_or_default().to_owned();
    let content = response["content"]
        .as_object()
        .unwrap_or_else(|| panic!("{} {} documents no content", row.name, answered.status));
    assert!(content.contains_key(&media), "{} answers {media}, documented is {:?}", row.name, content.keys());
    let mut schema = content[&media]["schema"].clone();
    if media.contains("json") && schema.is_object() {
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let errors: Vec<String> = validator
            .iter_errors(&answered.json())
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}\n{}", row.name, answered.text());
    }
}
