//! Decides what the environment says about the gates (control §1, §2.4, §2.6).

use oa_contract::wire::identity::Secret;

use crate::{config::ConfigError, env::Env, env::wrong};

#[derive(Clone, Debug)]
pub struct GatesConfig {
    /// `OA_COMPAT_CONTROL_ENFORCED`: whether clients of the guarded lanes must say a build that is served.
    pub compatibility_enforced: bool,
    /// `OA_COMPAT_SUNSET_ENFORCED`: whether the compatibility lanes are gone after their date.
    pub sunset_enforced: bool,
    pub maintenance: MaintenanceConfig,
}

#[derive(Clone, Debug)]
pub struct MaintenanceConfig {
    pub enabled: bool,
    /// Whoever knows it gets past.
    pub bypass_token: Option<Secret>,
    pub bypass_cookie_name: String,
    pub bypass_cookie_ttl_seconds: i64,
    /// Exact paths, or prefixes where one ends in `*`.
    pub allowed_paths: Vec<String>,
}

pub(crate) fn read(env: &Env<'_>) -> Result<GatesConfig, ConfigError> {
    const COOKIE: &str = "OA_MAINTENANCE_BYPASS_COOKIE_NAME";
    let name = env.text(&[COOKIE]).unwrap_or_else(|| "oa_maintenance_bypass".into());
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        return Err(wrong(COOKIE, "letters, digits, `_`, `-` and `.`"));
    }
    let allowed = env.text(&["OA_MAINTENANCE_ALLOWED_PATHS"]).unwrap_or_else(|| "/healthz,/readyz".into());
    Ok(GatesConfig {
        compatibility_enforced: env.switch("OA_COMPAT_CONTROL_ENFORCED", false)?,
        sunset_enforced: env.switch("OA_COMPAT_SUNSET_ENFORCED", false)?,
        maintenance: MaintenanceConfig {
            enabled: env.switch("OA_MAINTENANCE_MODE_ENABLED", false)?,
            bypass_token: env.text(&["OA_MAINTENANCE_BYPASS_TOKEN"]).map(Secret::new),
            bypass_cookie_name: name,
            bypass_cookie_ttl_seconds: env.seconds("OA_MAINTENANCE_BYPASS_COOKIE_TTL_SECONDS", 900)?.max(60),
            allowed_paths: allowed
                .split(',')
                .map(str::trim)
                .filter(|path| !path.is_empty())
                .map(str::to_owned)
                .collect(),
        },
    })
}
