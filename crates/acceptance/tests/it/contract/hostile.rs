//! Whatever stands in any member of any body, or in any parameter of any path, is answered with an answer: taken or
//! refused, never a fault, and the same on both engines.

use futures_util::future::join_all;
use oa_contract::{Row, Service, matrix::rows, openapi};
use oa_testkit::{Http, World, both_engines};
use serde_json::{Value, json};

use super::{
    examples::{example, operation},
    some_path,
};

fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!([]),
        json!({}),
        json!([null, {"a": "\0"}]),
        json!(""),
        json!("\0"),
        json!("a\0b"),
        json!("\u{202e}\u{feff}\u{1f600}"),
        json!("x".repeat(70_000)),
        json!("99999-12-31T23:59:59Z"),
        json!("-0001-01-01T00:00:00Z"),
        json!("184467440737095516160"),
        json!("http://[::1"),
        json!("'; DROP TABLE users; --"),
    ]
}

/// Where a JSON value has members and elements, as pointers; itself too.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                places(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                places(element, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

struct Stage {
    world: World,
    user: Http,
}

impl Stage {
    async fn ask(&self, row: &Row, path: &str, body: Option<&Value>) -> (u16, String) {
        // Nobody is to be told to wait.
        self.world.clock.advance_millis(61_000);
        let http = match row.served_by() {
            Service::Runtime => &self.world.http,
            Service::Control => &self.user,
        };
        let headers: &[(&str, &str)] =
            if body.is_some() { &[("content-type", "application/json")] } else { &[] };
        let body = body.map(|body| body.to_string().into_bytes());
        let answered = http.send(row.method.name(), path, headers, body).await;
        (answered.status, answered.text())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_in_any_place_is_a_fault() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let session = world.sign_in("dev@example.com").await;
        let made = session.post("/api/tokens", &json!({"name": "all"})).await.json();
        let user = session.with_bearer(made["data"]["token"].as_str().expect("a token"));
        let stage = Stage { world, user };
        let (mut asked, mut faults) = (0, Vec::new());
        for row in rows().filter(|row| row.built) {
            for segment in ["%00", "a%00b", "%ff", "%F0%9F%98%80", "%E2%80%AE", &"x".repeat(3_000)] {
                let Some((front, _)) = row.path.split_once("/:") else { continue };
                let rest = row.path[front.len() + 2..].split_once('/').map_or("", |(_, rest)| rest);
                let slash = if rest.is_empty() { "" } else { "/" };
                let path = format!("{front}/{segment}{slash}{}", rest.replace(':', ""));
                let body = example(
                    &openapi::document(row.served_by()),
                    operation(&openapi::document(row.served_by()), row),
                );
                let (status, text) = stage.ask(row, &path, body.as_ref()).await;
                asked += 1;
                if status == 500 && !is_promised(&text) {
                    faults.push(format!("{} {path}: {text}", row.name));
                }
            }
            let document = openapi::document(row.served_by());
            let Some(body) = example(&document, operation(&document, row)) else { continue };
            let mut all = Vec::new();
            places(&body, "", &mut all);
            for place in all {
                let bodies = values().into_iter().map(|value| {
                    let mut body = body.clone();
                    if let Some(there) = body.pointer_mut(&place) {
                        *there = value.clone();
                    }
                    (value, body)
                });
                let answers = join_all(bodies.map(async |(value, body)| {
                    let (status, text) = stage.ask(row, &some_path(row), Some(&body)).await;
                    (value, status, text)
                }));
                for (value, status, text) in answers.await {
                    asked += 1;
                    if status == 500 && !is_promised(&text) {
                        let value: String = value.to_string().chars().take(40).collect();
                        faults.push(format!("{} with {value} at {place:?}: {text}", row.name));
                    }
                }
            }
        }
        assert!(asked > 1_000, "only {asked} requests were made");
        assert!(faults.is_empty(), "{engine:?}: {} faults of {asked}:\n{}", faults.len(), faults.join("\n"));
    }
}

/// Where no wallet is configured, the lane of pools answers 500 in these words, because clients know them so
/// (liquidity §1.1, §5.2).
fn is_promised(text: &str) -> bool {
    text.contains("dependency unavailable: wallet executor")
}
