//! Derives the two OpenAPI 3.1 documents from the table: every row of a port, every status it can answer
//! with, the schemas of the wire types, and their examples.

use schemars::{SchemaGenerator, generate::SchemaSettings, transform::ReplaceBoolSchemas};
use serde_json::{Map, Value, json};

use crate::{
    matrix,
    operation::{Class, Row},
    refusal::{Code, Service},
    sunset,
};

/// The document of one service, as one line of JSON.
pub fn document(service: Service) -> Value {
    // Not every reader of these documents knows that `true` is a schema.
    let mut plain = ReplaceBoolSchemas::default();
    plain.skip_additional_properties = true;
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .with_transform(plain)
        .into_generator();
    let base = base_path(service);
    let mut paths = Map::new();
    for row in matrix::rows_of(service) {
        let braced = row.braced_path();
        let (path, outside) = match braced.strip_prefix(base) {
            Some(relative) if !base.is_empty() => (relative.to_owned(), false),
            _ => (braced.clone(), !base.is_empty()),
        };
        let entry = paths
            .entry(path)
            .or_insert_with(|| if outside { json!({"servers": [{"url": "/"}]}) } else { json!({}) });
        if let Value::Object(methods) = entry {
            methods.insert(row.method.name().to_lowercase(), operation(row, service, &mut generator));
        }
    }
    let mut schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    for row in matrix::rows_of(service).filter(|row| row.name != ANY_SCHEMA) {
        name_schema(row, &mut schemas);
    }
    schemas.insert("Problem".into(), problem(service));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": match service { Service::Control => "oa control service", Service::Runtime => "oa runtime service" },
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Derived from the table in crates/contract/src/matrix.rs.",
        },
        "servers": [{"url": if base.is_empty() { "/" } else { base }}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security_schemes(service)},
    })
}

/// The one row that takes a body whatever it calls itself (marketplace §8.4).
const ANY_SCHEMA: &str = "hydra.routing_score";

/// A body that says what it is says it in one way only: as its example does.
fn name_schema(row: &Row, schemas: &mut Map<String, Value>) {
    let mut apart = SchemaSettings::draft2020_12().into_generator();
    let body = (row.shape.body)(&mut apart).map(|schema| schema.to_value());
    let name = body.as_ref().and_then(|body| body["$ref"].as_str()?.rsplit('/').next().map(str::to_owned));
    let Some(schema) = name.and_then(|name| schemas.get_mut(&name)) else { return };
    let said = schema["examples"][0]["schema"].clone();
    if said.is_string() && schema["properties"]["schema"].is_object() {
        schema["properties"]["schema"]["const"] = said;
    }
}

/// Paths of the runtime's document are relative to its prefix (runtime-core §6).
const fn base_path(service: Service) -> &'static str {
    match service {
        Service::Runtime => "/internal/v1",
        Service::Control => "",
    }
}

fn operation(row: &Row, service: Service, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": row.name,
        "summary": row.rationale.trim(),
        "tags": [row.name.split('.').next().unwrap_or(row.name)],
        "parameters": parameters(row, generator),
        "responses": responses(row, service, generator),
        "x-oa-owner": row.lane.owner().label(),
        "x-oa-delivery": row.lane.delivery(),
        "x-oa-built": row.built,
    });
    if service == Service::Control && sunset::is_compatibility_lane(row.path) {
        operation["deprecated"] = json!(true);
        operation["x-oa-compat-sunset-date"] = json!(sunset::SUNSET_DATE);
        operation["x-oa-compat-migration-doc"] = json!(sunset::MIGRATION_DOC);
        operation["x-oa-compat-replacement"] = json!(sunset::replacement(row.path));
    }
    if let Some(schema) = (row.shape.body)(generator) {
        let media = json!({"application/json": {"schema": schema}});
        operation["requestBody"] = json!({"required": true, "content": media});
    }
    operation["security"] = match row.class {
        Class::Anyone => json!([]),
        Class::Service | Class::Operator => json!([{"serviceToken": []}, {"serviceSignature": []}]),
        Class::User(_) => json!([{"bearerAuth": []}]),
    };
    operation
}

fn parameters(row: &Row, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut out: Vec<Value> = row
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix(':'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": path_schema(row, name)}))
        .collect();
    if let Some(query) = (row.shape.query)(generator) {
        let query = query.to_value();
        let required = query["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in query["properties"].as_object().into_iter().flatten() {
            out.push(json!({"name": name, "in": "query", "required": required.contains(&json!(name)), "schema": schema}));
        }
    }
    out.extend(
        row.headers.iter().map(
            |name| json!({"name": name, "in": "header", "required": false, "schema": {"type": "string"}}),
        ),
    );
    out
}

/// Runs of the runtime have UUIDs, agents are keys; the turns that control's lanes call runs have names of codex's own.
fn path_schema(row: &Row, name: &str) -> Value {
    match (name, row.served_by()) {
        ("agent_id", Service::Runtime) => json!({"type": "string", "pattern": r"^\s*[0-9a-fA-F]{64}\s*$"}),
        ("version", Service::Control) => json!({"type": "integer", "minimum": 1, "maximum": i64::MAX}),
        ("run_id", Service::Runtime) => json!({"type": "string", "format": "uuid"}),
        _ => json!({"type": "string", "minLength": 1}),
    }
}

fn responses(row: &Row, service: Service, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut out = Map::new();
    for status in row.success {
        if *status == 304 {
            out.insert(status.to_string(), json!({"description": "What the caller has is still true."}));
            continue;
        }
        let mut content = match (row.shape.reply)(generator) {
            Some(schema) if schema.as_bool() == Some(true) => json!({row.shape.content_type: {"schema": {}}}),
            Some(schema) => json!({row.shape.content_type: {"schema": schema}}),
            None => json!({row.shape.content_type: {}}),
        };
        if let Some(also) = row.shape.also {
            content[also] = json!({});
        }
        out.insert(status.to_string(), json!({"description": "The answer.", "content": content}));
    }
    for (status, codes) in refusals(row, service) {
        let names: Vec<_> = codes.iter().map(|code| code.name()).collect();
        out.entry(status.to_string()).or_insert_with(|| {
            json!({
                "description": format!("Refused: {}.", names.join(", ")),
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            })
        });
    }
    out
}

/// Every status that this row can refuse with, and the codes behind it.
pub fn refusals(row: &Row, service: Service) -> Vec<(u16, Vec<Code>)> {
    let mut all: Vec<(u16, Code)> = row.refusals.iter().map(|code| (code.status(service), *code)).collect();
    let internal = match service {
        Service::Control => Code::InternalError,
        Service::Runtime => Code::Internal,
    };
    all.push((500, internal));
    all.push((503, Code::ServiceUnavailable));
    all.push((400, Code::InvalidRequest));
    if service == Service::Control && sunset::is_compatibility_lane(row.path) {
        all.push((410, Code::Gone));
        all.extend(Code::ALL.iter().filter(|code| code.status(service) == 426).map(|code| (426, *code)));
    }
    if row.class != Class::Anyone {
        all.push((401, Code::Unauthorized));
        all.push((403, Code::Forbidden));
    }
    if row.shape.has_body {
        // It did not arrive in time.
        all.push((408, Code::InvalidRequest));
        all.extend([(413, Code::PayloadTooLarge), (415, Code::InvalidRequest), (422, Code::InvalidRequest)]);
    }
    if row.path.contains(':') {
        all.push((404, Code::NotFound));
        all.push((422, Code::InvalidRequest));
    }
    if row.gated {
        all.push((503, Code::WritePathFrozen));
    }
    let mut out: Vec<(u16, Vec<Code>)> = Vec::new();
    all.sort_by_key(|(status, code)| (*status, code.name()));
    all.dedup();
    for (status, code) in all {
        match out.last_mut() {
            Some((last, codes)) if *last == status => codes.push(code),
            _ => out.push((status, vec![code])),
        }
    }
    out
}

/// The body of a refusal: the service's own shape, with the members of RFC 9457 beside it.
fn problem(service: Service) -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
    let mut properties = json!({
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "message": {"type": "string"},
    });
    properties["error"] = match service {
        Service::Runtime => json!({"type": "string", "enum": codes}),
        Service::Control => json!({
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string", "enum": codes}, "message": {"type": "string"}},
        }),
    };
    json!({"type": "object", "required": ["error", "status", "title"], "properties": properties})
}

fn security_schemes(service: Service) -> Value {
    match service {
        Service::Runtime => json!({
            "serviceToken": {"type": "http", "scheme": "bearer"},
            "serviceSignature": {"type": "apiKey", "in": "header", "name": crate::credential::SIGNATURE_HEADER},
        }),
        Service::Control => json!({"bearerAuth": {"type": "http", "scheme": "bearer"}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_in_its_document_once() {
        for service in [Service::Control, Service::Runtime] {
            let document = document(service);
            let paths = document["paths"].as_object().expect("paths");
            let described: usize = paths
                .values()
                .map(|entry| {
                    entry.as_object().expect("object").keys().filter(|key| *key != "servers").count()
                })
                .sum();
            assert_eq!(described, matrix::rows_of(service).count());
        }
    }

    #[test]
    fn paths_of_the_runtime_are_relative_to_its_prefix() {
        let document = document(Service::Runtime);
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"]["/runs/{run_id}/events"]["post"].is_object());
        assert_eq!(document["paths"]["/healthz"]["servers"][0]["url"], "/");
        assert!(document["paths"]["/comms/delivery-events"]["post"].is_object());
    }

    #[test]
    fn what_clients_of_credit_and_exchange_are_made_from_has_its_names() {
        let document = document(Service::Runtime);
        for (name, members) in [
            ("CreditSettleResponseV1", &["settlement_id"][..]),
            ("HydraFxRfqRequestV1", &[]),
            ("HydraFxSelectResponseV1", &["decision_sha256"]),
            ("HydraFxSettleResponseV1", &["settlement_id"]),
            ("HydraObservabilityResponseV1", &["routing", "fx"]),
        ] {
            let properties = &document["components"]["schemas"][name]["properties"];
            assert!(properties.is_object(), "{name}");
            assert!(members.iter().all(|member| !properties[member].is_null()), "{name}");
        }
    }

    #[test]
    fn a_compatibility_lane_is_marked_with_its_end_and_nothing_else_is() {
        let document = document(Service::Control);
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for operation in methods.as_object().expect("methods").values() {
                let marked = operation["deprecated"] == true
                    && operation["x-oa-compat-sunset-date"] == "2026-06-30"
                    && operation["x-oa-compat-migration-doc"] == sunset::MIGRATION_DOC;
                assert_eq!(marked, sunset::is_compatibility_lane(path), "{path}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for service in [Service::Control, Service::Runtime] {
            let document = document(service);
            let text = document.to_string();
            for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
            }
        }
    }
}
