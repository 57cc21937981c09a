//! Decides which side serves a path: the first rule of control §9.1 that fits. Pure, and the same for the same path, key
//! and configuration.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oa_contract::wire::routing::RouteSplitDecision;
use sha2::{Digest, Sha256};

use super::{GROUPS, Group, LEGACY, Overrides, RUST};
use crate::config::RouteSplitConfig;

/// The lane that was moved first; it never goes back.
const CODEX: &str = "/api/runtime/codex/workers";

pub(crate) fn decide(
    config: &RouteSplitConfig,
    overrides: &Overrides,
    path: &str,
    cohort_key: &str,
) -> RouteSplitDecision {
    let path = normal(path);
    let group = classify(&path);
    let ruling = if below(&path, CODEX) {
        Ruling::api("codex_worker_control_rust_authority", "runtime_codex_worker_control")
    } else if below(&path, "/api") {
        Ruling::api("api_rust_authority", "api_rust_authority")
    } else {
        page(config, overrides, &path, group, cohort_key)
    };
    RouteSplitDecision {
        path,
        target: ruling.target.to_owned(),
        reason: ruling.reason.to_owned(),
        route_domain: ruling.domain.to_owned(),
        rollback_target: Some(ruling.rollback.to_owned()),
        cohort_bucket: ruling.bucket,
        cohort_key: cohort_key.to_owned(),
    }
}

struct Ruling<'a> {
    target: &'a str,
    reason: &'static str,
    domain: &'static str,
    rollback: &'static str,
    bucket: Option<u32>,
}

impl Ruling<'_> {
    /// The API is ours, whatever is said about pages.
    fn api(reason: &'static str, domain: &'static str) -> Self {
        Ruling { target: RUST, reason, domain, rollback: RUST, bucket: None }
    }
}

fn page<'a>(
    config: &RouteSplitConfig,
    overrides: &'a Overrides,
    path: &str,
    group: Option<&Group>,
    cohort_key: &str,
) -> Ruling<'a> {
    let domain = group.map_or("unclassified", |group| group.domain);
    let rollback = group.map_or(LEGACY, |group| group.rollback);
    let ruled = |target, reason| Ruling { target, reason, domain, rollback, bucket: None };
    if let Some(target) = overrides.targets.get(domain) {
        ruled(target, "domain_override")
    } else if config.force_legacy {
        ruled(LEGACY, "force_legacy")
    } else if let Some(target) = &overrides.target {
        ruled(target, "runtime_override")
    } else if !config.enabled {
        ruled(LEGACY, "route_split_disabled")
    } else if !config.rust_routes.iter().any(|prefix| covers(prefix, path)) {
        ruled(LEGACY, "legacy_route_default")
    } else {
        match config.mode.as_str() {
            "rust" => ruled(RUST, "mode_rust"),
            "cohort" => {
                let bucket = bucket(&config.salt, cohort_key);
                let ours = bucket < u32::from(config.cohort_percentage);
                let target = if ours { RUST } else { LEGACY };
                Ruling { bucket: Some(bucket), ..ruled(target, "mode_cohort") }
            }
            _ => ruled(LEGACY, "mode_legacy"),
        }
    }
}

/// Trimmed, one slash in front, none doubled, none behind.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.trim().split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

/// Whether a path is this one, or lies below it.
fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// In a group `/` is the first page only.
fn classify(path: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| {
        group.prefixes.iter().any(|prefix| match *prefix {
            "/" => path == "/",
            prefix => below(path, prefix),
        })
    })
}

/// In the configured list `/` is everything.
fn covers(prefix: &str, path: &str) -> bool {
    match normal(prefix).as_str() {
        "/" => true,
        prefix => below(path, prefix),
    }
}

/// Where a key falls, from 0 to 99.
pub(crate) fn bucket(salt: &str, key: &str) -> u32 {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{salt}:{key}")));
    let folded = digest
        .bytes()
        .take(4)
        .fold(0_u32, |value, byte| value.wrapping_mul(131).wrapping_add(u32::from(byte)));
    folded % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mode: &str) -> RouteSplitConfig {
        RouteSplitConfig {
            enabled: true,
            mode: mode.into(),
            rust_routes: vec!["/chat".into(), "billing/".into(), "/login".into()],
            cohort_percentage: 100,
            salt: "openagents-route-split-v1".into(),
            force_legacy: false,
            legacy_base_url: None,
        }
    }

    fn ruled(config: &RouteSplitConfig, overrides: &Overrides, path: &str) -> (String, String, String) {
        let decision = decide(config, overrides, path, "user:route");
        (decision.target, decision.reason, decision.route_domain)
    }

    fn said(target: &str, reason: &str, domain: &str) -> (String, String, String) {
        (target.into(), reason.into(), domain.into())
    }

    #[test]
    fn the_bucket_is_the_specified_one() {
        assert_eq!(bucket("openagents-route-split-v1", "user:route"), 85);
    }

    #[test]
    fn the_example_of_the_specification_is_decided_as_it_says() {
        let everything = RouteSplitConfig { rust_routes: vec!["/".into()], ..config("rust") };
        let decision = decide(&everything, &Overrides::default(), "/chat/x/", "k");
        assert_eq!(
            serde_json::to_string(&decision).expect("json"),
            r#"{"path":"/chat/x","target":"rust_shell","reason":"mode_rust","route_domain":"chat_pilot","rollback_target":"rust_shell","cohort_key":"k"}"#
        );
    }

    #[test]
    fn each_rule_wins_over_those_after_it() {
        let global = Overrides { target: Some(RUST.into()), ..Overrides::default() };
        let both =
            Overrides { targets: [("chat_pilot".to_owned(), LEGACY.to_owned())].into(), ..global.clone() };
        let none = Overrides::default();
        let off = RouteSplitConfig { enabled: false, ..config("rust") };
        let forced = RouteSplitConfig { force_legacy: true, ..config("rust") };
        let cases = [
            (
                &forced,
                &both,
                "/api/runtime/codex/workers/w",
                said(RUST, "codex_worker_control_rust_authority", "runtime_codex_worker_control"),
            ),
            (
                &forced,
                &both,
                "/api/runtime/codex/workersx",
                said(RUST, "api_rust_authority", "api_rust_authority"),
            ),
            (&forced, &both, "//api//", said(RUST, "api_rust_authority", "api_rust_authority")),
            (&forced, &both, "/chat", said(LEGACY, "domain_override", "chat_pilot")),
            (&forced, &global, "/chat", said(LEGACY, "force_legacy", "chat_pilot")),
            (&off, &global, "/chat", said(RUST, "runtime_override", "chat_pilot")),
            (&off, &none, "/chat", said(LEGACY, "route_split_disabled", "chat_pilot")),
            (
                &config("rust"),
                &none,
                "/settings",
                said(LEGACY, "legacy_route_default", "account_settings_admin"),
            ),
            (&config("rust"), &none, "/chatter", said(LEGACY, "legacy_route_default", "unclassified")),
            (&config("legacy"), &none, "/billing/x", said(LEGACY, "mode_legacy", "billing_l402")),
            (&config("rust"), &none, " login ", said(RUST, "mode_rust", "auth_entry")),
            (&config("cohort"), &none, "/chat", said(RUST, "mode_cohort", "chat_pilot")),
        ];
        for (config, overrides, path, wanted) in cases {
            assert_eq!(ruled(config, overrides, path), wanted, "{path}");
        }
    }

    #[test]
    fn a_cohort_is_cut_at_its_percentage_and_shows_its_bucket() {
        for (percentage, target) in [(0, LEGACY), (85, LEGACY), (86, RUST), (100, RUST)] {
            let config = RouteSplitConfig { cohort_percentage: percentage, ..config("cohort") };
            let decision = decide(&config, &Overrides::default(), "/chat", "user:route");
            assert_eq!((decision.target.as_str(), decision.cohort_bucket), (target, Some(85)));
        }
    }

    #[test]
    fn the_first_page_is_a_group_of_its_own_and_everything_else_is_unclassified() {
        let none = Overrides::default();
        let everything = RouteSplitConfig { rust_routes: vec!["/".into()], ..config("rust") };
        assert_eq!(ruled(&everything, &none, "/").2, "chat_pilot");
        let decision = decide(&everything, &none, "/elsewhere", "k");
        assert_eq!(
            (decision.route_domain.as_str(), decision.rollback_target.as_deref()),
            ("unclassified", Some(LEGACY))
        );
        assert_eq!(decision.target, RUST);
    }
}
