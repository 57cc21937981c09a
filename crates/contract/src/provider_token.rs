//! Decides what a runtime shows a provider to be let in (marketplace §17.4): a bearer token that follows from a secret
//! which both know, and from where the provider is. What one provider is shown opens no other, so that somebody who
//! enrols a provider of their own learns nothing.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::canonical::hex;

/// A shorter one could be found by trying.
const SHORTEST: usize = 16;

/// What a runtime and its providers share.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// None when nothing is said; otherwise what is wrong with it.
    pub fn read(said: Option<&str>) -> Result<Option<Self>, String> {
        match said.map(str::trim).filter(|said| !said.is_empty()) {
            None => Ok(None),
            Some(said) if said.len() < SHORTEST => Err(format!("must have at least {SHORTEST} characters")),
            Some(said) => Ok(Some(Secret(said.to_owned()))),
        }
    }

    /// The token for the provider at this base URL, as it is enrolled; blanks around it and slashes at its end do not
    /// count.
    pub fn token(&self, base_url: &str) -> String {
        let base = base_url.trim().trim_end_matches('/');
        // HMAC takes keys of any length: it does not come to this, and nobody is let in by nothing.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else { return String::new() };
        mac.update(b"oa provider token v1\n");
        mac.update(base.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(said: &str) -> Secret {
        Secret::read(Some(said)).expect("long enough").expect("said")
    }

    #[test]
    fn a_token_opens_one_place_and_follows_from_one_secret() {
        let ours = secret("a secret of many letters");
        let here = ours.token("http://10.0.0.7:9400");
        assert_eq!(here, ours.token(" http://10.0.0.7:9400// "));
        assert_eq!(here.len(), 64);
        assert_ne!(here, ours.token("http://10.0.0.8:9400"));
        assert_ne!(here, secret("another secret of letters").token("http://10.0.0.7:9400"));
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert!(Secret::read(Some("fifteen letters")).is_err());
        assert!(
            Secret::read(Some("  ")).expect("blank").is_none() && Secret::read(None).expect("none").is_none()
        );
        assert_eq!(format!("{:?}", secret("sixteen letters!")), "Secret");
    }
}
