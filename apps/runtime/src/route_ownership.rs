//! The `/internal/v1/*` side of the route-ownership contract: the table, docs/route-ownership.md and the mounted
//! rows say the same.

use oa_contract::{
    Handle, Mount, Operation, Row, Service,
    matrix::{self, AUTHORITY},
};

use crate::Runtime;

/// The row that owns a method and a path template of the runtime (runtime-core §7).
pub fn owner_of(method: &str, path: &str) -> Option<&'static Row> {
    matrix::owner_of(Service::Runtime, method, path)
        .filter(|row| AUTHORITY.iter().any(|known| known.name == row.name))
}

/// The rows as the router gets them.
pub fn mounted() -> Vec<&'static Row> {
    struct Listed(Vec<&'static Row>);
    impl Mount<Runtime> for Listed {
        fn row<O: Operation>(&mut self)
        where
            Runtime: Handle<O>,
        {
            self.0.push(O::ROW);
        }
    }
    let mut listed = Listed(Vec::new());
    matrix::mount_authority::<Runtime>(&mut listed);
    listed.0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The rows of docs/route-ownership.md under `/internal/v1/`, as the five columns it has.
    fn documented() -> Vec<[String; 5]> {
        include_str!("../../../docs/route-ownership.md")
            .lines()
            .filter(|line| line.contains("`/internal/v1/") && line.starts_with('|'))
            .map(|line| {
                let cells: Vec<String> = line
                    .split('|')
                    .map(|cell| cell.trim().trim_matches('`').to_owned())
                    .filter(|cell| !cell.is_empty())
                    .collect();
                cells.try_into().expect("five columns")
            })
            .collect()
    }

    fn columns(row: &Row) -> [String; 5] {
        [
            row.method.name(),
            row.path,
            row.lane.owner().label(),
            row.lane.delivery(),
            row.lane.migration_status(),
        ]
        .map(str::to_owned)
    }

    #[test]
    fn internal_route_ownership_contract_is_unambiguous() {
        let mut seen = HashSet::new();
        for row in AUTHORITY {
            assert!(seen.insert((row.method, row.path)), "{} {} stands twice", row.method.name(), row.path);
            assert!(row.path.starts_with("/internal/v1/"), "{}", row.path);
            assert!(!row.rationale.trim().is_empty(), "{} says not why", row.name);
            assert_eq!(
                owner_of(&row.method.name().to_lowercase(), row.path).map(|row| row.name),
                Some(row.name)
            );
        }
    }

    #[test]
    fn internal_route_ownership_contract_covers_runtime_router_contract() {
        let table: Vec<_> = AUTHORITY.iter().map(|row| columns(row)).collect();
        let router: Vec<_> = mounted().into_iter().map(columns).collect();
        assert_eq!(table, documented(), "the table differs from docs/route-ownership.md");
        assert_eq!(table, router, "the table differs from what is mounted");
        assert_eq!(table.len(), 53);
    }
}
