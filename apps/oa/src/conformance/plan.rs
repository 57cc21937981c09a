//! Decides what is asked of each row: a path of its shape that names nothing, the methods that it has not, and the
//! paths that come close to one without being one. Pure; the safety of all questions is tested here.

use std::collections::BTreeSet;

use oa_contract::{Method, Row, Service, matrix};

use super::probe::Probe;

/// A path of the row's shape. Its parameters are malformed where that can be seen, and name nothing elsewhere.
pub fn some_path(row: &Row, nothing: &str) -> String {
    let segment = |segment: &str| match segment {
        ":run_id" => "not-a-uuid".to_owned(),
        ":version" => "0".to_owned(),
        ":stream" => format!("runtime.{nothing}"),
        parameter if parameter.starts_with(':') => nothing.to_owned(),
        literal => literal.to_owned(),
    };
    row.path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// The question that a row must answer, or `None` for a row that acts without reading anything: with a credential
/// it would do its work.
pub fn question(row: &Row, nothing: &str) -> Option<Probe> {
    (!acts_unasked(row)).then(|| bare_question(row, nothing))
}

/// The same for every row; to be sent without a credential where `question` gives none.
pub fn bare_question(row: &Row, nothing: &str) -> Probe {
    Probe::of(row.served_by(), row.method.name(), some_path(row, nothing))
}

/// Whether nothing that is sent could stop the row from acting: it takes no body and its path names nothing.
pub fn acts_unasked(row: &Row) -> bool {
    row.built && row.method != Method::Get && !row.shape.has_body && !row.path.contains(':')
}

/// Whether a path has the shape of a template.
pub fn matches(template: &str, path: &str) -> bool {
    let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    wanted.len() == given.len()
        && wanted.iter().zip(given).all(|(pattern, segment)| {
            *pattern == segment || (pattern.starts_with(':') && !segment.is_empty())
        })
}

/// The rows of a port at this path.
pub fn rows_at(service: Service, path: &str) -> impl Iterator<Item = &'static Row> {
    matrix::rows_of(service).filter(move |row| matches(row.path, path))
}

/// What `allow` must say at a path, sorted.
pub fn allowed(service: Service, path: &str) -> Vec<String> {
    let mut methods = BTreeSet::new();
    for row in rows_at(service, path) {
        methods.insert(row.method.name());
        if row.method == Method::Get {
            methods.insert("HEAD");
        }
    }
    methods.into_iter().map(str::to_owned).collect()
}

/// Every path of a port with each method that no row has there.
pub fn wrong_methods(service: Service, nothing: &str) -> Vec<Probe> {
    let paths: BTreeSet<String> = matrix::rows_of(service).map(|row| some_path(row, nothing)).collect();
    let mut probes = Vec::new();
    for path in paths {
        let allowed = allowed(service, &path);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if !allowed.iter().any(|one| one == method) {
                probes.push(Probe::of(service, method, path.clone()));
            }
        }
    }
    probes
}

/// Paths that no row of the port has: the two prefixes themselves, something made up below them, and every row's
/// path with a segment more or less, with a slash before or behind it, in upper case.
pub fn near_misses(service: Service, nothing: &str) -> Vec<Probe> {
    let mut asked = BTreeSet::new();
    for prefix in ["/api/runtime", "/internal/v1"] {
        for path in [prefix.to_owned(), format!("{prefix}/"), format!("{prefix}/{nothing}")] {
            asked.insert(("GET", path.clone()));
            asked.insert(("POST", path));
        }
    }
    for row in matrix::rows_of(service).filter(|row| row.path != "/") {
        let path = some_path(row, nothing);
        let fewer = path.rsplit_once('/').map_or("", |(front, _)| front);
        for near in [
            format!("{path}/{nothing}"),
            format!("{path}/"),
            fewer.to_owned(),
            format!("/{path}"),
            path.to_uppercase(),
        ] {
            asked.insert((row.method.name(), near));
        }
    }
    asked
        .into_iter()
        .filter(|(_, path)| path.starts_with('/') && path != "/" && rows_at(service, path).next().is_none())
        .map(|(method, path)| Probe::of(service, method, path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::probe::Show;

    const NOTHING: &str = "oa-conformance-0";

    #[test]
    fn no_question_with_a_credential_can_change_anything() {
        for service in [Service::Control, Service::Runtime] {
            let rows = matrix::rows_of(service).filter_map(|row| question(row, NOTHING));
            let all = rows.chain(wrong_methods(service, NOTHING)).chain(near_misses(service, NOTHING));
            for probe in all.filter(|probe| probe.show == Show::Token && probe.method != "GET") {
                assert!(probe.is_broken(), "{probe}");
                for row in rows_at(service, &probe.path).filter(|row| row.method.name() == probe.method) {
                    let stopped = row.shape.has_body || row.path.contains(':') || !row.built;
                    assert!(stopped, "{probe} would do what {} does", row.name);
                }
            }
        }
    }

    #[test]
    fn what_acts_without_being_asked_anything_is_never_asked_with_a_credential() {
        let silent: Vec<_> = matrix::rows().filter(|row| acts_unasked(row)).map(|row| row.name).collect();
        assert!(silent.contains(&"auth.logout") && silent.contains(&"tokens.revoke_all"), "{silent:?}");
        assert!(matrix::CONTROL.iter().chain(matrix::AUTHORITY).all(|row| !acts_unasked(row)));
    }

    #[test]
    fn a_near_miss_is_never_a_row_and_every_row_of_the_prefixes_has_some() {
        for service in [Service::Control, Service::Runtime] {
            let near = near_misses(service, NOTHING);
            assert!(near.iter().all(|probe| rows_at(service, &probe.path).next().is_none()));
            for row in
                matrix::CONTROL.iter().chain(matrix::AUTHORITY).filter(|row| row.served_by() == service)
            {
                let path = some_path(row, NOTHING);
                assert!(near.iter().any(|probe| probe.path == format!("{path}/")), "{}", row.path);
                assert!(near.iter().any(|probe| probe.path == path.to_uppercase()), "{}", row.path);
            }
        }
    }

    #[test]
    fn every_path_is_asked_with_every_method_that_it_has_not() {
        let probes = wrong_methods(Service::Control, NOTHING);
        let of = |path: &str| -> Vec<_> {
            probes.iter().filter(|probe| probe.path == path).map(|probe| probe.method).collect()
        };
        assert_eq!(of("/api/runtime/workers"), ["PUT", "PATCH", "DELETE"]);
        assert_eq!(of("/api/tokens/current"), ["GET", "POST", "PUT", "PATCH"]);
        assert_eq!(allowed(Service::Control, "/api/runtime/workers"), ["GET", "HEAD", "POST"]);
    }
}
