//! Decides whether the services describe themselves as the table does: the ownership table on the status page, and
//! the two OpenAPI documents, path by path.

use std::collections::BTreeMap;

use oa_contract::{Service, matrix};
use oa_control::runtime_ownership::runtime_route_ownership;
use serde_json::{Value, json};

use super::{
    Group, Wrong, name_of,
    probe::{Asker, Probe},
};

const STATUS: &str = "/api/v1/control/status";

/// `data.runtimeRouteOwnership` holds the rows of the contract, in its order, each with a reason.
pub async fn ownership(asker: &Asker) -> Group {
    let probe = Probe::get(Service::Control, STATUS);
    let heard = asker.ask(&probe).await;
    let shown = heard.json()["data"]["runtimeRouteOwnership"].clone();
    let wrong = match shown.as_array() {
        Some(rows) => differing(rows),
        None => vec![Wrong::heard(&probe, "data.runtimeRouteOwnership", &heard)],
    };
    let count = matrix::CONTROL.len();
    Group::new("ownership", 1, format!("the status page shows the {count} rows and their owners"), wrong)
}

fn differing(shown: &[Value]) -> Vec<Wrong> {
    let fields = |row: &Value| {
        ["method", "path", "owner", "delivery", "migration_status"]
            .map(|name| row[name].as_str().unwrap_or("").to_owned())
    };
    let wanted: Vec<Value> = runtime_route_ownership().iter().map(|row| json!(row)).collect();
    let wrong = |wanted: String, got: String| Wrong {
        service: name_of(Service::Control),
        asked: format!("GET {STATUS}"),
        wanted,
        got,
    };
    let mut out = Vec::new();
    for at in 0..wanted.len().max(shown.len()) {
        let told = |rows: &[Value]| rows.get(at).map_or("nothing".to_owned(), |row| fields(row).join(" "));
        let (wanted, got) = (told(&wanted), told(shown));
        if wanted != got {
            out.push(wrong(wanted, got));
        } else if shown
            .get(at)
            .is_some_and(|row| row["rationale"].as_str().is_none_or(|why| why.trim().is_empty()))
        {
            out.push(wrong(format!("a rationale of {wanted}"), "none".to_owned()));
        }
    }
    out
}

/// The document of a service lists exactly the rows of its port.
pub async fn openapi(asker: &Asker, service: Service) -> Group {
    let (name, path) = match service {
        Service::Control => ("control's OpenAPI", "/openapi.json"),
        Service::Runtime => ("runtime's OpenAPI", "/internal/v1/openapi.json"),
    };
    let probe = Probe::get(service, path);
    let heard = asker.ask(&probe).await;
    let listed = described(&heard.json());
    let wanted: BTreeMap<String, bool> = matrix::rows_of(service)
        .map(|row| (format!("{} {}", row.method.name(), row.braced_path()), row.built))
        .collect();
    let wrong = match listed.is_empty() {
        true => vec![Wrong::heard(&probe, "an OpenAPI document", &heard)],
        false => compare(service, path, &wanted, &listed),
    };
    Group::new(name, 1, format!("the document lists exactly the {} rows of its port", wanted.len()), wrong)
}

/// Method and whole path of every operation, and whether the document says that it is built.
fn described(document: &Value) -> BTreeMap<String, bool> {
    const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    let server =
        |at: &Value| at["servers"][0]["url"].as_str().map(|url| url.trim_end_matches('/').to_owned());
    let base = server(document).unwrap_or_default();
    let mut out = BTreeMap::new();
    for (path, entry) in document["paths"].as_object().into_iter().flatten() {
        let front = server(entry).unwrap_or_else(|| base.clone());
        for (method, operation) in entry.as_object().into_iter().flatten() {
            if METHODS.contains(&method.as_str()) {
                let built = operation["x-oa-built"].as_bool().unwrap_or(true);
                out.insert(format!("{} {front}{path}", method.to_uppercase()), built);
            }
        }
    }
    out
}

fn compare(
    service: Service,
    path: &str,
    wanted: &BTreeMap<String, bool>,
    listed: &BTreeMap<String, bool>,
) -> Vec<Wrong> {
    let told = |built: Option<&bool>| match built {
        None => "nothing",
        Some(true) => "it as built",
        Some(false) => "it as planned",
    };
    let all: BTreeMap<&String, ()> = wanted.keys().chain(listed.keys()).map(|row| (row, ())).collect();
    all.into_keys()
        .filter(|row| wanted.get(*row) != listed.get(*row))
        .map(|row| Wrong {
            service: name_of(service),
            asked: format!("GET {path}, {row}"),
            wanted: told(wanted.get(row)).to_owned(),
            got: told(listed.get(row)).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_documents_and_table_conform() {
        for service in [Service::Control, Service::Runtime] {
            let listed = described(&oa_contract::openapi::document(service));
            let wanted: BTreeMap<String, bool> = matrix::rows_of(service)
                .map(|row| (format!("{} {}", row.method.name(), row.braced_path()), row.built))
                .collect();
            assert_eq!(listed, wanted);
        }
        let table: Vec<Value> = runtime_route_ownership().iter().map(|row| json!(row)).collect();
        assert_eq!(differing(&table), []);
    }

    #[test]
    fn a_missing_an_extra_and_a_changed_row_are_each_named() {
        let mut table: Vec<Value> = runtime_route_ownership().iter().map(|row| json!(row)).collect();
        table[3]["owner"] = json!("runtime_service");
        table[5]["rationale"] = json!(" ");
        table.push(table[0].clone());
        let wrong = differing(&table);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!(wrong[2].wanted, "nothing");
        let wanted = BTreeMap::from([("GET /a".to_owned(), true), ("GET /b".to_owned(), true)]);
        let listed = BTreeMap::from([("GET /b".to_owned(), false), ("GET /c".to_owned(), true)]);
        assert_eq!(compare(Service::Control, "/openapi.json", &wanted, &listed).len(), 3);
    }
}
