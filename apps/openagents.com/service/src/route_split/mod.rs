//! Decides how the pages of the former web shell are split between this service and the one before it: what is
//! configured, what overrides it, and how both are shown (control §9.1). Nothing of the API is served by it.

pub(crate) mod decide;
mod evaluate;
mod set_override;
mod status;

use std::collections::BTreeMap;

use oa_contract::{
    Stop,
    wire::control::{RouteGroup, RouteSplitStatus},
};
use oa_store::{Tx, tables::routing as rows};

use crate::{Control, config::RouteSplitConfig};

/// Routes that move together.
pub(crate) struct Group {
    pub domain: &'static str,
    pub prefixes: &'static [&'static str],
    /// Where the group goes when it is rolled back.
    pub rollback: &'static str,
}

pub(crate) const LEGACY: &str = "legacy";
pub(crate) const RUST: &str = "rust_shell";
/// How fragments are delivered unless it is overridden, and when it is rolled back.
pub(crate) const HTMX_DEFAULT: &str = "fragment";
pub(crate) const HTMX_ROLLBACK: &str = "full_page";

pub(crate) const GROUPS: [Group; 4] = [
    Group {
        domain: "auth_entry",
        prefixes: &["/login", "/register", "/authenticate", "/onboarding"],
        rollback: LEGACY,
    },
    Group {
        domain: "account_settings_admin",
        prefixes: &["/account", "/settings", "/admin"],
        rollback: LEGACY,
    },
    Group { domain: "billing_l402", prefixes: &["/billing", "/l402"], rollback: LEGACY },
    Group { domain: "chat_pilot", prefixes: &["/chat", "/feed", "/"], rollback: RUST },
];

pub(crate) fn group(domain: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.domain == domain)
}

/// What is overridden now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    /// `legacy` or `rust_shell` for everything.
    pub target: Option<String>,
    pub targets: BTreeMap<String, String>,
    /// `fragment` or `full_page`.
    pub htmx: BTreeMap<String, String>,
}

/// The kinds of an override, as they are kept.
pub(crate) const TARGET: &str = "target";
pub(crate) const HTMX: &str = "htmx";

pub(crate) async fn overrides(tx: &mut Tx, (): &()) -> Result<Overrides, Stop> {
    let mut found = Overrides::default();
    for one in rows::splits(tx).await? {
        match (one.kind.as_str(), one.domain.is_empty()) {
            (TARGET, true) => found.target = Some(one.value),
            (TARGET, false) => {
                found.targets.insert(one.domain, one.value);
            }
            _ => {
                found.htmx.insert(one.domain, one.value);
            }
        }
    }
    Ok(found)
}

impl Control {
    pub(crate) async fn route_split_overrides(&self) -> Result<Overrides, Stop> {
        self.store.read("route_split_overrides", (), overrides).await
    }

    pub(crate) async fn route_split_status(&self) -> Result<RouteSplitStatus, Stop> {
        Ok(show(&self.config.route_split, self.route_split_overrides().await?))
    }
}

pub(crate) fn show(config: &RouteSplitConfig, overrides: Overrides) -> RouteSplitStatus {
    let by_domain = |value: fn(&'static Group) -> &'static str| {
        GROUPS.iter().map(|group| (group.domain.to_owned(), value(group).to_owned())).collect()
    };
    RouteSplitStatus {
        enabled: config.enabled,
        mode: config.mode.clone(),
        cohort_percentage: config.cohort_percentage,
        rust_routes: config.rust_routes.clone(),
        force_legacy: config.force_legacy,
        legacy_base_url: config.legacy_base_url.clone(),
        route_groups: GROUPS.iter().map(|group| show_group(group, &overrides)).collect(),
        rollback_matrix: by_domain(|group| group.rollback),
        htmx_rollback_matrix: by_domain(|_| HTMX_ROLLBACK),
        override_target: overrides.target,
        domain_overrides: overrides.targets,
        htmx_domain_overrides: overrides.htmx,
    }
}

fn show_group(group: &Group, overrides: &Overrides) -> RouteGroup {
    RouteGroup {
        domain: group.domain.to_owned(),
        route_prefixes: group.prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        rollback_target: group.rollback.to_owned(),
        override_target: overrides.targets.get(group.domain).cloned(),
        htmx_default_mode: HTMX_DEFAULT.into(),
        htmx_rollback_mode: HTMX_ROLLBACK.into(),
        htmx_override_mode: overrides.htmx.get(group.domain).cloned(),
    }
}
