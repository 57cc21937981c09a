//! Decides who owns each `/api/runtime/*` row: the control side of `docs/route-ownership.md`, read from the
//! one table.

use oa_contract::{Row, Service, matrix, wire::control::RouteOwnership};

/// The 22 rows for `data.runtimeRouteOwnership` of `GET /api/v1/control/status`, in the order of the document.
pub fn runtime_route_ownership() -> Vec<RouteOwnership> {
    matrix::CONTROL.iter().map(|row| owned(row)).collect()
}

/// The `/api/runtime/*` row that owns a method and a path template. The method is trimmed and upper-cased, the
/// template must match exactly.
pub fn owner_of(method: &str, path: &str) -> Option<RouteOwnership> {
    let row = matrix::owner_of(Service::Control, method, path)?;
    matrix::CONTROL.iter().any(|one| one.name == row.name).then(|| owned(row))
}

fn owned(row: &Row) -> RouteOwnership {
    RouteOwnership {
        method: row.method.name().to_owned(),
        path: row.path.to_owned(),
        owner: row.lane.owner().label().to_owned(),
        delivery: row.lane.delivery().to_owned(),
        migration_status: row.lane.migration_status().to_owned(),
        rationale: row.rationale.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use oa_contract::{Handle, Lane, Mount, Operation};

    use super::*;
    use crate::Control;

    /// Method, path, owner, delivery, migration status.
    type Fields = [String; 5];

    const DOCUMENT: &str = include_str!("../../../../docs/route-ownership.md");

    /// The rows of the first table of docs/route-ownership.md.
    fn documented() -> Vec<Fields> {
        DOCUMENT
            .lines()
            .skip_while(|line| !line.starts_with("## `/api/runtime/*`"))
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| {
                let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').collect();
                <Fields>::try_from(
                    cells.iter().map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>(),
                )
                .ok()
            })
            .filter(|[_, path, ..]| path.starts_with('/'))
            .collect()
    }

    fn fields(row: RouteOwnership) -> Fields {
        [row.method, row.path, row.owner, row.delivery, row.migration_status]
    }

    /// What the router of the control service is really given.
    struct Mounted(Vec<&'static Row>);

    impl Mount<Control> for Mounted {
        fn row<O: Operation>(&mut self)
        where
            Control: Handle<O>,
        {
            self.0.push(O::ROW);
        }
    }

    fn mounted() -> Vec<&'static Row> {
        let mut mounted = Mounted(Vec::new());
        matrix::mount_control::<Control>(&mut mounted);
        mounted.0
    }

    #[test]
    fn runtime_ownership_contract_is_unambiguous() {
        let rows = runtime_route_ownership();
        let pairs: HashSet<_> = rows.iter().map(|row| (row.method.as_str(), row.path.as_str())).collect();
        assert_eq!(pairs.len(), rows.len(), "a method and path pair has two owners");
        for row in &rows {
            assert!(row.path.starts_with("/api/runtime/"));
            assert!(!row.rationale.is_empty(), "{} says no reason", row.path);
            let sloppy = format!(" {} ", row.method.to_lowercase());
            assert_eq!(owner_of(&sloppy, &row.path).as_ref(), Some(row));
        }
        assert_eq!(owner_of("GET", "/api/runtime/workers/:id"), None);
        assert_eq!(owner_of("GET", "/healthz"), None);
    }

    #[test]
    fn runtime_ownership_contract_covers_known_runtime_routes() {
        let documented = documented();
        assert_eq!(documented.len(), 22);
        let table: Vec<_> = runtime_route_ownership().into_iter().map(fields).collect();
        assert_eq!(table, documented, "the table and the document differ");
        let mounted: Vec<_> = mounted().into_iter().map(|row| fields(owned(row))).collect();
        assert_eq!(mounted, documented, "the mounted rows and the document differ");
    }

    #[test]
    fn runtime_service_routes_are_runtime_proxy_delivery() {
        for (row, [method, path, owner, delivery, migration]) in mounted().into_iter().zip(documented()) {
            let by_runtime = owner == "runtime_service";
            assert_eq!(by_runtime, delivery == "runtime_proxy", "{method} {path}");
            assert_eq!(by_runtime, migration == "runtime_authority_proxy", "{method} {path}");
            assert_eq!(by_runtime, row.lane == Lane::Proxied, "{method} {path} is mounted in another lane");
            assert_eq!((row.method.name(), row.path), (method.as_str(), path.as_str()));
        }
        let proxied: Vec<_> = mounted().into_iter().filter(|row| row.lane == Lane::Proxied).collect();
        assert_eq!(proxied.len(), 5);
        assert!(proxied.iter().all(|row| row.built), "a proxied row is not built");
    }
}
