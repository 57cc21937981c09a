//! Decides what whoever sends jobs has to show here: a token that follows from a secret of the runtime's and from where
//! the provider is. Whoever sells is given that token; the secret would open every other provider too.

use std::net::SocketAddr;

use oa_contract::provider_token::Secret;
use secrecy::SecretString;
use serde_json::json;
use url::Url;

use crate::{config::Settings, failure::Failure, output::Format};

const SETTING: &str = "OA_PROVIDER_CALLER_TOKEN";
/// What a token for one address begins with where it is handed over, so that nobody takes it for the secret.
const PREFIX: &str = "oa_pct_";

/// What `OA_PROVIDER_CALLER_TOKEN` holds.
#[derive(Debug)]
pub enum Key {
    /// What the runtime and all of its providers share.
    Secret(Secret),
    /// What follows from it for one address.
    Token(String),
}

impl Key {
    /// What callers show to the provider that is enrolled at this address.
    pub fn token(&self, base: &str) -> SecretString {
        SecretString::from(match self {
            Key::Secret(secret) => secret.token(base),
            Key::Token(token) => token.clone(),
        })
    }
}

/// What callers prove themselves with. Where others could send jobs too, there is such a thing.
pub fn key(settings: &Settings, address: SocketAddr) -> Result<Option<Key>, Failure> {
    let key = read(settings.get(SETTING)).map_err(|why| Failure::usage(format!("{SETTING} {why}")))?;
    match key.is_none() && !address.ip().to_canonical().is_loopback() {
        true => Err(Failure::usage(format!(
            "others reach {address} and could run jobs here: set {SETTING} to what the runtime's operator gives out \
(`oa provider caller-token URL`), or on the operator's own machines to the same as RUNTIME_PROVIDER_TOKEN at the runtime; \
or listen on a loopback address"
        ))),
        false => Ok(key),
    }
}

fn read(said: Option<&str>) -> Result<Option<Key>, String> {
    match said.and_then(|said| said.strip_prefix(PREFIX)) {
        None => Ok(Secret::read(said)?.map(Key::Secret)),
        Some(token) if token.len() == 64 && token.bytes().all(|byte| b"0123456789abcdef".contains(&byte)) => {
            Ok(Some(Key::Token(token.to_owned())))
        }
        Some(_) => {
            Err(format!("must be {PREFIX} and 64 hex digits, as `oa provider caller-token` printed it"))
        }
    }
}

/// `oa provider caller-token`: what a seller at this address is given.
pub fn tell(settings: &Settings, base: &str, format: Format) -> Result<(), Failure> {
    let name = "RUNTIME_PROVIDER_TOKEN";
    let secret = Secret::read(settings.get(name)).map_err(|why| Failure::usage(format!("{name} {why}")))?;
    let secret = secret.ok_or_else(|| {
        Failure::usage(format!("{name} is not set here: run this where the runtime's settings are"))
    })?;
    let fits = Url::parse(base).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    });
    if !fits {
        return Err(Failure::usage(format!(
            "{base:?} is no base URL of a provider: http or https, without a query or a fragment"
        )));
    }
    let token = format!("{PREFIX}{}", secret.token(base));
    format.show(&token, &json!({"base_url": base, "token": token}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::reveal;

    const BASE: &str = "http://10.0.0.7:9400";

    #[test]
    fn a_token_that_was_handed_over_lets_in_whom_the_secret_would_let_in() {
        let secret = read(Some("a secret of many letters")).expect("read").expect("a key");
        let token = reveal(&secret.token(BASE)).to_owned();
        let handed = read(Some(&format!("{PREFIX}{token}"))).expect("read").expect("a key");
        assert_eq!(reveal(&handed.token(BASE)), token);
        assert_eq!(reveal(&handed.token("http://10.0.0.8:9400")), token, "and it makes no other");
    }

    #[test]
    fn a_token_that_was_cut_is_refused_rather_than_taken_for_a_secret() {
        assert!(read(Some("oa_pct_0123456789abcdef")).expect_err("refused").contains("64 hex digits"));
        assert!(read(Some("short")).is_err());
        assert!(read(None).expect("read").is_none());
    }
}
