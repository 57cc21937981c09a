//! Decides what the environment says about the pages and probes around the API.

use oa_contract::wire::identity::Secret;
use url::Url;

use crate::{
    config::ConfigError,
    env::{Env, wrong},
};

#[derive(Clone, Debug)]
pub struct ShellConfig {
    /// `OA_DESKTOP_DOWNLOAD_URL`; without one there is nothing to download.
    pub desktop_download_url: Option<String>,
    /// `OA_SMOKE_SECRET`; without one nobody may probe.
    pub smoke_secret: Option<Secret>,
}

pub(crate) fn read(env: &Env<'_>) -> Result<ShellConfig, ConfigError> {
    const DOWNLOAD: &str = "OA_DESKTOP_DOWNLOAD_URL";
    let desktop_download_url = env.text(&[DOWNLOAD]);
    if let Some(url) = &desktop_download_url {
        let http = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !http || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(DOWNLOAD, "an http or https address"));
        }
    }
    Ok(ShellConfig { desktop_download_url, smoke_secret: env.text(&["OA_SMOKE_SECRET"]).map(Secret::new) })
}
