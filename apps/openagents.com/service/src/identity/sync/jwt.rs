//! Decides how a sync token is written: header and claims in one fixed order, base64url without padding, and a
//! signature over exactly those characters (RFC 7515).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oa_contract::Fault;
use ring::{hmac, signature::Ed25519KeyPair};
use serde::Serialize;

/// What a token says. The order of the members is part of the contract.
#[derive(Clone, Debug, Serialize)]
pub struct Claims<'a> {
    pub iss: &'a str,
    pub aud: &'a str,
    pub sub: &'a str,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    pub jti: &'a str,
    pub oa_user_id: &'a str,
    pub oa_org_id: &'a str,
    pub oa_session_id: &'a str,
    pub oa_device_id: &'a str,
    pub oa_sync_scopes: &'a [String],
    pub oa_sync_topics: &'a [String],
    pub oa_sync_streams: &'a [String],
    pub oa_claims_version: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

/// A key that signs, under the name that tokens give it.
pub struct Key {
    pub kid: String,
    pub with: With,
}

pub enum With {
    Hs256(hmac::Key),
    EdDsa(Box<Ed25519KeyPair>),
}

impl Key {
    /// A shared secret.
    pub fn shared(kid: &str, secret: &[u8]) -> Self {
        Key { kid: kid.to_owned(), with: With::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret)) }
    }

    /// The token for these claims.
    pub fn sign(&self, claims: &Claims<'_>) -> Result<String, Fault> {
        let alg = match self.with {
            With::Hs256(_) => "HS256",
            With::EdDsa(_) => "EdDSA",
        };
        let header = Header { alg, typ: "JWT", kid: &self.kid };
        let mut token = encoded(&header)?;
        token.push('.');
        token.push_str(&encoded(claims)?);
        let signature = match &self.with {
            With::Hs256(key) => URL_SAFE_NO_PAD.encode(hmac::sign(key, token.as_bytes())),
            With::EdDsa(pair) => URL_SAFE_NO_PAD.encode(pair.sign(token.as_bytes())),
        };
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }
}

fn encoded(part: &impl Serialize) -> Result<String, Fault> {
    let text = serde_json::to_vec(part).map_err(|error| Fault::new("writing a token", error))?;
    Ok(URL_SAFE_NO_PAD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_claims_stand_in_the_specified_order() {
        let (scopes, topics) = (vec!["s".to_owned()], vec!["t".to_owned()]);
        let claims = Claims {
            iss: "https://openagents.test",
            aud: "openagents-sync-test",
            sub: "user:u",
            iat: 1,
            nbf: 1,
            exp: 301,
            jti: "sync_0",
            oa_user_id: "u",
            oa_org_id: "user:u",
            oa_session_id: "sess_0",
            oa_device_id: "d",
            oa_sync_scopes: &scopes,
            oa_sync_topics: &topics,
            oa_sync_streams: &topics,
            oa_claims_version: "oa_sync_claims_v1",
        };
        let key = Key::shared("sync-auth-test-v1", b"sync-test-signing-key");
        let token = key.sign(&claims).expect("a token");
        let parts: Vec<_> = token.split('.').collect();
        let text =
            |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("text");
        assert_eq!(text(parts[0]), r#"{"alg":"HS256","typ":"JWT","kid":"sync-auth-test-v1"}"#);
        assert_eq!(
            text(parts[1]),
            r#"{"iss":"https://openagents.test","aud":"openagents-sync-test","sub":"user:u","iat":1,"nbf":1,"exp":301,"jti":"sync_0","oa_user_id":"u","oa_org_id":"user:u","oa_session_id":"sess_0","oa_device_id":"d","oa_sync_scopes":["s"],"oa_sync_topics":["t"],"oa_sync_streams":["t"],"oa_claims_version":"oa_sync_claims_v1"}"#
        );
        // The signature of these characters under this key, as another implementation of HMAC computes it.
        assert_eq!(parts[2], "aanheqdxHPFssYRLfN1uk0HDVo14h-JqIOZGgw1eo6A");
    }
}
