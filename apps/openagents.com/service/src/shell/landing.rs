//! Decides what the first page says: what this is, and where to go. It loads nothing and may not be framed.

use oa_contract::{Answer, Ask, Handle, Stop, Streamed, matrix::Landing, wire::shell::Html};

use crate::Control;

const PAGE: &str = include_str!("landing.html");

/// Only the page's own style; no script, no frame, no form.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Handle<Landing> for Control {
    async fn handle(&self, _: Ask<Landing>) -> Result<Answer<Streamed<Html>>, Stop> {
        Ok(Answer::new(Streamed::whole(PAGE))
            .with_header("cache-control", "no-store")
            .with_header("content-security-policy", POLICY)
            .with_header("referrer-policy", "strict-origin-when-cross-origin")
            .with_header("x-content-type-options", "nosniff")
            .with_header("x-frame-options", "DENY")
            .with_header("permissions-policy", "camera=(), microphone=(), geolocation=()"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_leads_to_the_desktop_application() {
        assert!(PAGE.contains("Download desktop app") && PAGE.contains("href=\"/download-desktop\""));
        assert!(!PAGE.contains("<script"));
    }
}
