//! What holds for every row, read off the table: a new row is covered before it has a handler.

mod authentication;
mod credentials;
mod examples;
mod frozen;
mod hostile;
mod malformed;
mod owned;
mod owners;
mod reachable;
mod signatures;
mod smuggling;

use oa_contract::{Method, Row, Service};
use oa_testkit::{Http, World};
use serde_json::Value;

/// The caller of the port on which a row answers, with a credential that opens it.
async fn opener(world: &World, session: &Http, row: &Row) -> Http {
    match row.served_by() {
        Service::Runtime => world.http.clone(),
        Service::Control => session.clone(),
    }
}

/// A path of the row's shape whose parameters are well formed and name nothing.
fn some_path(row: &Row) -> String {
    row.path
        .split('/')
        .map(|segment| match segment {
            ":run_id" => "019503c1-8a6e-7f10-9c55-2b7f0c1d4e90",
            ":stream" => "runtime.topic.nothing",
            parameter if parameter.starts_with(':') => "some-id",
            other => other,
        })
        .collect::<Vec<_>>()
        .join("/")
}

async fn send(http: &Http, method: Method, path: &str, body: Option<Value>) -> oa_testkit::Answered {
    let headers: &[(&str, &str)] = if body.is_some() { &[("content-type", "application/json")] } else { &[] };
    http.send(method.name(), path, headers, body.map(|body| body.to_string().into_bytes())).await
}
