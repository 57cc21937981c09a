//! Decides which driver runs a thread: the first rule of control §9.2 that fits. Pure, and the same for the same thread,
//! user, autopilot and configuration.

use oa_contract::wire::routing::{RuntimeRoutingDecision, ShadowDecision};
use sha2::{Digest, Sha256};

use crate::config::RoutingConfig;

pub(crate) const CONTROL: &str = "control_service";
pub(crate) const RUNTIME: &str = "runtime_service";

/// What a decision is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subject<'a> {
    pub thread_id: &'a str,
    pub user_id: &'a str,
    pub autopilot_id: Option<&'a str>,
    /// Drivers of active overrides.
    pub user_override: Option<&'a str>,
    pub autopilot_override: Option<&'a str>,
    /// The type of the autopilot's primary runtime binding, as it is kept.
    pub binding: Option<&'a str>,
}

pub(crate) fn decide(config: &RoutingConfig, subject: Subject<'_>) -> RuntimeRoutingDecision {
    let overriding = |driver: Option<&str>| driver.filter(|_| config.overrides_enabled).map(str::to_owned);
    let user_override = overriding(subject.user_override);
    let autopilot_override = overriding(subject.autopilot_override);
    let binding = subject.binding.and_then(driver_label);
    let canary = canary_scope(config, subject);
    let (driver, reason) = if config.force_control_service {
        (CONTROL, "force_control_service")
    } else if let Some(driver) = config.forced_driver {
        (driver, "force_driver")
    } else if let Some(driver) = &user_override {
        (driver.as_str(), "user_override")
    } else if let Some(driver) = &autopilot_override {
        (driver.as_str(), "autopilot_override")
    } else if let Some(driver) = binding {
        (driver, "autopilot_binding")
    } else {
        match canary {
            Some("user") => (RUNTIME, "user_canary"),
            Some(_) => (RUNTIME, "autopilot_canary"),
            None => (config.default_driver, "default_driver"),
        }
    };
    RuntimeRoutingDecision {
        driver: driver.to_owned(),
        reason: reason.to_owned(),
        default_driver: config.default_driver.to_owned(),
        forced_driver: config.forced_driver.map(str::to_owned),
        force_control_service: config.force_control_service,
        shadow: shadow(config, subject, driver),
        canary_scope: canary.filter(|_| reason.ends_with("_canary")).map(str::to_owned),
        autopilot_binding_driver: binding.map(str::to_owned),
        autopilot_id: subject.autopilot_id.map(str::to_owned),
        user_override,
        autopilot_override,
    }
}

/// The two labels of drivers, in any case. The compatibility labels are retired (docs/route-ownership.md): they are
/// refused where somebody says one, and a stored binding that still holds one prefers no driver.
pub(crate) fn driver_label(name: &str) -> Option<&'static str> {
    match name.trim().to_lowercase().as_str() {
        CONTROL => Some(CONTROL),
        RUNTIME => Some(RUNTIME),
        _ => None,
    }
}

fn canary_scope(config: &RoutingConfig, subject: Subject<'_>) -> Option<&'static str> {
    let seed = &config.canary_seed;
    if hits(seed, "user", subject.user_id, config.canary_user_percent) {
        return Some("user");
    }
    let autopilot_id = subject.autopilot_id?;
    hits(seed, "autopilot", autopilot_id, config.canary_autopilot_percent).then_some("autopilot")
}

fn hits(seed: &str, scope: &str, id: &str, percent: u8) -> bool {
    match percent {
        0 => false,
        100.. => true,
        percent => canary_number(seed, scope, id) < u32::from(percent),
    }
}

/// Where an id falls, from 0 to 99.
fn canary_number(seed: &str, scope: &str, id: &str) -> u32 {
    leading(&format!("{seed}|{scope}|{id}")) % 100
}

/// Where a thread falls, from 0 to 9999.
fn shadow_bucket(thread_id: &str, user_id: &str) -> u32 {
    leading(&format!("{thread_id}|{user_id}")) % 10_000
}

fn leading(text: &str) -> u32 {
    let hash = Sha256::digest(text.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn shadow(config: &RoutingConfig, subject: Subject<'_>, driver: &str) -> ShadowDecision {
    let rate = config.shadow_sample_rate;
    let sampled = || match rate {
        rate if rate <= 0.0 => false,
        rate if rate >= 1.0 => true,
        rate => f64::from(shadow_bucket(subject.thread_id, subject.user_id)) < (rate * 10_000.0).round(),
    };
    let mirrored = config.shadow_enabled && driver == CONTROL && sampled();
    ShadowDecision {
        enabled: config.shadow_enabled,
        mirrored,
        sample_rate: rate,
        shadow_driver: mirrored.then(|| RUNTIME.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "user_0123456789abcdef0123456789abcdef";

    fn config() -> RoutingConfig {
        RoutingConfig {
            default_driver: CONTROL,
            forced_driver: None,
            force_control_service: false,
            canary_user_percent: 0,
            canary_autopilot_percent: 0,
            canary_seed: "runtime-canary-v1".into(),
            overrides_enabled: true,
            shadow_enabled: false,
            shadow_sample_rate: 1.0,
            shadow_max_capture_bytes: 200_000,
        }
    }

    fn subject() -> Subject<'static> {
        Subject { thread_id: "thread_7", user_id: USER, ..Subject::default() }
    }

    fn ruled(config: &RoutingConfig, subject: Subject<'_>) -> (String, String) {
        let decision = decide(config, subject);
        (decision.driver, decision.reason)
    }

    fn said(driver: &str, reason: &str) -> (String, String) {
        (driver.into(), reason.into())
    }

    #[test]
    fn the_numbers_are_the_specified_ones() {
        assert_eq!(canary_number("runtime-canary-v1", "user", USER), 2);
        assert_eq!(shadow_bucket("thread_7", USER), 2361);
    }

    #[test]
    fn each_rule_wins_over_those_after_it() {
        let all = Subject {
            autopilot_id: Some("ap"),
            user_override: Some(RUNTIME),
            autopilot_override: Some(CONTROL),
            binding: Some(RUNTIME),
            ..subject()
        };
        let every = RoutingConfig {
            force_control_service: true,
            forced_driver: Some(RUNTIME),
            canary_user_percent: 100,
            canary_autopilot_percent: 100,
            ..config()
        };
        let unforced = RoutingConfig { force_control_service: false, ..every.clone() };
        let free = RoutingConfig { forced_driver: None, ..unforced.clone() };
        let by_autopilot = Subject { user_override: None, ..all };
        let bound = Subject { autopilot_override: None, ..by_autopilot };
        let unbound = Subject { binding: Some("elixir"), ..bound };
        let autopilots_only = RoutingConfig { canary_user_percent: 0, ..free.clone() };
        assert_eq!(ruled(&every, all), said(CONTROL, "force_control_service"));
        assert_eq!(ruled(&unforced, all), said(RUNTIME, "force_driver"));
        assert_eq!(ruled(&free, all), said(RUNTIME, "user_override"));
        assert_eq!(ruled(&free, by_autopilot), said(CONTROL, "autopilot_override"));
        assert_eq!(ruled(&free, bound), said(RUNTIME, "autopilot_binding"));
        assert_eq!(ruled(&free, unbound), said(RUNTIME, "user_canary"));
        assert_eq!(ruled(&autopilots_only, unbound), said(RUNTIME, "autopilot_canary"));
        assert_eq!(ruled(&config(), unbound), said(CONTROL, "default_driver"));
        let without = RoutingConfig { overrides_enabled: false, ..free };
        let decision = decide(&without, all);
        assert_eq!((decision.reason.as_str(), decision.user_override), ("autopilot_binding", None));
    }

    #[test]
    fn a_canary_is_hit_from_three_percent_on() {
        for (percent, reason) in
            [(0, "default_driver"), (2, "default_driver"), (3, "user_canary"), (100, "user_canary")]
        {
            let config = RoutingConfig { canary_user_percent: percent, ..config() };
            let decision = decide(&config, subject());
            assert_eq!(decision.reason, reason, "{percent}");
            assert_eq!(decision.canary_scope.is_some(), reason == "user_canary");
        }
    }

    #[test]
    fn only_control_is_shadowed_and_only_as_often_as_asked() {
        let mirrored = |rate, default_driver| {
            let config =
                RoutingConfig { shadow_enabled: true, shadow_sample_rate: rate, default_driver, ..config() };
            decide(&config, subject()).shadow.shadow_driver
        };
        for rate in [0.0, -1.0, 0.2361] {
            assert_eq!(mirrored(rate, CONTROL), None, "{rate}");
        }
        for rate in [0.2362, 1.0, 7.0] {
            assert_eq!(mirrored(rate, CONTROL).as_deref(), Some(RUNTIME), "{rate}");
            assert_eq!(mirrored(rate, RUNTIME), None);
        }
        assert!(!decide(&config(), subject()).shadow.mirrored);
    }

    #[test]
    fn the_example_of_the_specification_has_no_member_more() {
        let decision = decide(&config(), Subject { user_override: Some(RUNTIME), ..subject() });
        assert_eq!(
            serde_json::to_string(&decision).expect("json"),
            r#"{"driver":"runtime_service","reason":"user_override","default_driver":"control_service","force_control_service":false,"user_override":"runtime_service","shadow":{"enabled":false,"mirrored":false,"sample_rate":1.0}}"#
        );
    }

    #[test]
    fn only_two_labels_name_a_driver_and_the_retired_ones_name_none_wherever_they_stand() {
        assert_eq!(driver_label(" Runtime_Service "), Some(RUNTIME));
        assert_eq!(driver_label("CONTROL_SERVICE"), Some(CONTROL));
        for name in
            ["control", "runtime", "elixir", "laravel", "legacy", "openagents.com", "desktop", "", "service"]
        {
            assert_eq!(driver_label(name), None, "{name}");
            let decision = decide(&config(), Subject { binding: Some(name), ..subject() });
            assert_eq!(
                (decision.reason.as_str(), decision.autopilot_binding_driver),
                ("default_driver", None),
                "{name}"
            );
        }
    }
}
