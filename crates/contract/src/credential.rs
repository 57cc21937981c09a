//! Decides what a service credential proves: a signed header that binds method, path, body and moment
//! (runtime-core §3, and docs/security.md, Who may call). Pure: the clock and the nonce memory are the caller's.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::canonical::hex;
use crate::{caller::Owner, instant::Timestamp};

/// The header that carries the credential.
pub const SIGNATURE_HEADER: &str = "x-oa-runtime-signature";

/// How far the two clocks may differ.
const SKEW_SECONDS: i64 = 30;
/// No credential lives longer, whatever it says of itself.
const MAX_TTL_SECONDS: i64 = 300;

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    nonce: String,
    /// Absent in credentials of older callers, which bind nothing but the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_sha256: Option<String>,
    /// Binds the credential to one owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

/// The request that a credential is made for or checked against.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    pub method: &'a str,
    /// Path and query, exactly as sent.
    pub path: &'a str,
    pub body: &'a [u8],
}

/// What a good credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub owner: Option<Owner>,
    /// To be seen once only, until `expires_at`.
    pub nonce: String,
    pub expires_at: Timestamp,
    /// Whether method, path and body were bound.
    pub bound: bool,
}

/// Makes the header's value: `v1.<claims>.<signature>`.
pub fn sign(
    secret: &[u8],
    request: Bound<'_>,
    owner: Option<&Owner>,
    nonce: String,
    now: Timestamp,
    ttl_seconds: i64,
) -> String {
    let iat = now.unix_seconds();
    let claims = Claims {
        iat,
        exp: iat + ttl_seconds.clamp(1, MAX_TTL_SECONDS),
        nonce,
        method: Some(request.method.to_owned()),
        path: Some(request.path.to_owned()),
        body_sha256: Some(hex(&Sha256::digest(request.body))),
        owner: owner.map(Owner::to_string),
    };
    let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
    let signature = URL_SAFE_NO_PAD.encode(mac(secret, &claims).finalize().into_bytes());
    format!("v1.{claims}.{signature}")
}

/// The claims of a header, once its key and its moment are good.
fn believed(secrets: &[impl AsRef<[u8]>], header: &str, now: Timestamp) -> Result<Claims, &'static str> {
    let mut parts = header.splitn(3, '.');
    let (Some("v1"), Some(payload), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("the signature is not of the form v1.<claims>.<signature>");
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the signature is not base64url")?;
    if !secrets.iter().any(|secret| mac(secret.as_ref(), payload).verify_slice(&signature).is_ok()) {
        return Err("the signature was made with another key");
    }
    let claims = URL_SAFE_NO_PAD.decode(payload).map_err(|_| "the claims are not base64url")?;
    let claims: Claims =
        serde_json::from_slice(&claims).map_err(|_| "the claims are not the expected JSON")?;
    check_moment(&claims, now.unix_seconds())?;
    Ok(claims)
}

/// Checks everything about a header but the body, which need not have been read yet.
pub fn verify_head(
    secrets: &[impl AsRef<[u8]>],
    header: &str,
    method: &str,
    path: &str,
    now: Timestamp,
) -> Result<(), &'static str> {
    let claims = believed(secrets, header, now)?;
    let other =
        claims.method.is_some_and(|bound| bound != method) || claims.path.is_some_and(|bound| bound != path);
    if other { Err("the credential was made for another method or path") } else { Ok(()) }
}

/// Checks a header against the request it came with. Any of the secrets may have made it, so that keys can be
/// rotated with an overlap. The error says what is wrong, without saying what would be right.
pub fn verify(
    secrets: &[impl AsRef<[u8]>],
    header: &str,
    request: Bound<'_>,
    now: Timestamp,
) -> Result<Verified, &'static str> {
    let claims = believed(secrets, header, now)?;
    Ok(Verified {
        bound: check_binding(&claims, request)?,
        owner: match claims.owner.as_deref() {
            None => None,
            Some(key) => Some(Owner::parse(key).ok_or("the owner of the credential is malformed")?),
        },
        expires_at: Timestamp::from_unix_seconds(claims.exp + SKEW_SECONDS),
        nonce: claims.nonce,
    })
}

fn check_moment(claims: &Claims, now: i64) -> Result<(), &'static str> {
    if claims.nonce.is_empty() || claims.nonce.len() > 128 {
        return Err("the nonce is missing or too long");
    }
    if claims.exp < now.saturating_sub(SKEW_SECONDS) {
        return Err("the credential has expired: make a new one, and check both clocks");
    }
    if claims.iat > now.saturating_add(SKEW_SECONDS) {
        return Err("the credential is from the future: check both clocks");
    }
    match claims.exp.saturating_sub(claims.iat) > MAX_TTL_SECONDS {
        true => Err("the credential lives too long"),
        false => Ok(()),
    }
}

/// Whether the claims bind the request; claims that bind anything must bind all of it.
fn check_binding(claims: &Claims, request: Bound<'_>) -> Result<bool, &'static str> {
    match (&claims.method, &claims.path, &claims.body_sha256) {
        (None, None, None) => Ok(false),
        (Some(method), Some(path), Some(body)) => {
            if method != request.method || path != request.path {
                return Err("the credential was made for another method or path");
            }
            match *body == hex(&Sha256::digest(request.body)) {
                true => Ok(true),
                false => Err("the credential was made for another body"),
            }
        }
        _ => Err("the credential binds a part of the request only"),
    }
}

fn mac(secret: &[u8], payload: &str) -> Hmac<Sha256> {
    // An HMAC key may have any length, so this cannot fail; an empty fallback would verify nothing anyway.
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(payload.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);

    fn request(body: &'static [u8]) -> Bound<'static> {
        Bound { method: "POST", path: "/internal/v1/runs?x=1", body }
    }

    #[test]
    fn a_credential_verifies_for_its_own_request_and_names_its_owner() {
        let header = sign(b"secret", request(b"{}"), Some(&Owner::User(7)), "n1".into(), NOW, 60);
        let verified =
            verify(&[b"other".as_slice(), b"secret"], &header, request(b"{}"), NOW.plus_seconds(59))
                .expect("verified");
        assert_eq!(verified.owner, Some(Owner::User(7)));
        assert!(verified.bound);
        assert_eq!(verified.nonce, "n1");
    }

    #[test]
    fn a_credential_for_another_body_path_method_key_or_moment_is_refused() {
        let header = sign(b"secret", request(b"{}"), None, "n1".into(), NOW, 60);
        let keys = [b"secret".as_slice()];
        assert!(verify(&keys, &header, request(b"{ }"), NOW).is_err());
        assert!(verify(&keys, &header, Bound { path: "/internal/v1/runs", ..request(b"{}") }, NOW).is_err());
        assert!(verify(&keys, &header, Bound { method: "GET", ..request(b"{}") }, NOW).is_err());
        assert!(verify(&[b"wrong".as_slice()], &header, request(b"{}"), NOW).is_err());
        assert!(verify(&keys, &header, request(b"{}"), NOW.plus_seconds(91)).is_err());
        assert!(verify(&keys, &header, request(b"{}"), NOW.plus_seconds(-31)).is_err());
    }

    #[test]
    fn every_changed_character_of_a_credential_is_noticed() {
        let header = sign(b"secret", request(b"{}"), Some(&Owner::User(7)), "n1".into(), NOW, 60);
        for at in 0..header.len() {
            let mut bytes = header.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ascii");
            let verified = verify(&[b"secret".as_slice()], &changed, request(b"{}"), NOW);
            assert!(verified.is_err(), "a change at {at} went unnoticed");
        }
    }

    #[test]
    fn an_older_credential_that_binds_nothing_says_so() {
        let claims = URL_SAFE_NO_PAD
            .encode(format!(r#"{{"iat":{0},"exp":{0},"nonce":"nonce-1"}}"#, NOW.unix_seconds()));
        let signature = URL_SAFE_NO_PAD.encode(mac(b"secret", &claims).finalize().into_bytes());
        let verified =
            verify(&[b"secret".as_slice()], &format!("v1.{claims}.{signature}"), request(b"{}"), NOW)
                .expect("verified");
        assert!(!verified.bound);
    }
}
