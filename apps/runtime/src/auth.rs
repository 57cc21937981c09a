//! Decides who may call the authority: a bearer service token, or a signed header that binds the request and
//! is good once (docs/security.md, Who may call).

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

use oa_contract::{
    Caller, Class, Code, Presented, Refusal, Timestamp,
    credential::{self, Bound, Verified},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::AuthMode;

/// Nonces remembered at one time: 20,000 signed requests a second, each for as long as its credential could be
/// good, in some 70 MB. Each is forgotten when its credential has expired; beyond the limit new credentials are
/// refused rather than old ones forgotten early.
const NONCE_LIMIT: usize = 2_000_000;
/// Nonces are forgotten by so many seconds at once.
const NONCE_SPAN_SECONDS: i64 = 8;

/// Who was let in, and on what that depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub caller: Caller,
    /// The credential that was used up, when it was a signed one. This process will not take it again; others that
    /// share its store have to be told.
    pub used: Option<Used>,
}

/// A signed credential, by 128 bits of the hash of its nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub nonce: [u8; 16],
    pub expires_at: Timestamp,
}

impl Used {
    fn of(verified: &Verified) -> Self {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&Sha256::digest(&verified.nonce)[..16]);
        Used { nonce, expires_at: verified.expires_at }
    }
}

impl From<Caller> for Admitted {
    fn from(caller: Caller) -> Self {
        Admitted { caller, used: None }
    }
}

/// The keys that are believed, and the nonces already seen.
pub struct Gate {
    mode: AuthMode,
    secrets: Vec<Vec<u8>>,
    token_hash: Option<[u8; 32]>,
    nonces: Mutex<Nonces>,
}

/// Which nonces were seen, by the span of time in which their credentials end: those of a span are forgotten
/// together, without looking at any of them. Of a nonce 128 bits of its hash are kept.
#[derive(Default)]
struct Nonces {
    spans: BTreeMap<i64, HashSet<u128>>,
    count: usize,
}

impl Nonces {
    /// Forgets whatever ended before now.
    fn sweep(&mut self, now: Timestamp) {
        while let Some(span) = self.spans.first_entry() {
            if (span.key() + 1) * NONCE_SPAN_SECONDS > now.unix_seconds() {
                return;
            }
            self.count -= span.remove().len();
        }
    }

    /// Whether the nonce was not there before. The same credential always ends in the same span.
    fn insert(&mut self, used: &Used) -> bool {
        let span = used.expires_at.unix_seconds().div_euclid(NONCE_SPAN_SECONDS);
        let fresh = self.spans.entry(span).or_default().insert(u128::from_ne_bytes(used.nonce));
        self.count += usize::from(fresh);
        fresh
    }
}

impl Gate {
    /// `secrets`: the first signs, all of them verify. `token`: the bearer service token.
    pub fn new(mode: AuthMode, secrets: Vec<Vec<u8>>, token: Option<&str>) -> Self {
        let token_hash = token.map(|token| Sha256::digest(token).into());
        Gate { mode, secrets, token_hash, nonces: Mutex::default() }
    }

    /// Who is calling a row of this class.
    pub fn admit(&self, class: Class, presented: Presented<'_>, now: Timestamp) -> Result<Admitted, Refusal> {
        if class == Class::Anyone || self.mode == AuthMode::Off {
            return Ok(Caller::Anyone.into());
        }
        let admitted = match (presented.signature, presented.authorization) {
            (Some(header), _) => self.signed(header, presented, now)?,
            (None, Some(header)) => self.bearer(header)?.into(),
            (None, None) if self.mode == AuthMode::Permissive && class != Class::Operator => {
                Caller::Anyone.into()
            }
            (None, None) => {
                return Err(unauthorized(
                    "this route asks for a service credential: send `Authorization: Bearer <service token>`, or a signed header",
                ));
            }
        };
        match (class, admitted.caller.owner()) {
            (Class::Operator, Some(_)) => Err(Refusal::forbidden(
                "this route is for operators: a credential bound to one owner does not open it",
            )),
            _ => Ok(admitted),
        }
    }

    /// Whether a signature could be good; what it says of the body is checked when the body is here.
    pub fn admit_head(&self, presented: Presented<'_>, now: Timestamp) -> Result<(), Refusal> {
        match presented.signature {
            Some(header) if self.mode != AuthMode::Off => {
                credential::verify_head(&self.secrets, header, presented.method, presented.path, now)
                    .map_err(unauthorized)
            }
            _ => Ok(()),
        }
    }

    fn bearer(&self, header: &str) -> Result<Caller, Refusal> {
        let token = header.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty());
        let token = token
            .ok_or_else(|| unauthorized("the authorization header is not of the form `Bearer <token>`"))?;
        let given: [u8; 32] = Sha256::digest(token).into();
        match self.token_hash.is_some_and(|known| bool::from(known.ct_eq(&given))) {
            true => Ok(Caller::Service { name: "token".into(), owner: None }),
            false => Err(unauthorized("the service token is not the one that this runtime knows")),
        }
    }

    fn signed(&self, header: &str, presented: Presented<'_>, now: Timestamp) -> Result<Admitted, Refusal> {
        let bound = Bound { method: presented.method, path: presented.path, body: presented.body };
        let verified = credential::verify(&self.secrets, header, bound, now).map_err(unauthorized)?;
        if !verified.bound && self.mode == AuthMode::Required {
            return Err(unauthorized("the credential does not bind method, path and body"));
        }
        let used = Used::of(&verified);
        self.once(&used, now)?;
        let caller = Caller::Service { name: "signature".into(), owner: verified.owner };
        Ok(Admitted { caller, used: Some(used) })
    }

    /// A nonce is good once, as long as its credential could be.
    fn once(&self, used: &Used, now: Timestamp) -> Result<(), Refusal> {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.sweep(now);
        if nonces.count >= NONCE_LIMIT {
            let mut refusal = Refusal::unavailable(
                "too many signed requests in a short time; use a bearer service token, or wait",
            );
            refusal.retry_after_ms = Some(10_000);
            return Err(refusal);
        }
        match nonces.insert(used) {
            true => Ok(()),
            false => Err(used_before()),
        }
    }
}

/// What somebody is told whose credential was used already, here or elsewhere.
pub(crate) fn used_before() -> Refusal {
    unauthorized("the credential was used before: make a new one for each request")
}

fn unauthorized(why: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, why)
}

#[cfg(test)]
mod tests {
    use oa_contract::Owner;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);

    fn gate(mode: AuthMode) -> Gate {
        Gate::new(mode, vec![b"secret".to_vec()], Some("oa_st_1"))
    }

    fn presented<'a>(authorization: Option<&'a str>, signature: Option<&'a str>) -> Presented<'a> {
        Presented {
            method: "POST",
            path: "/internal/v1/runs",
            authorization,
            signature,
            cookie: None,
            body: b"{}",
            peer: "127.0.0.1",
        }
    }

    fn signature(nonce: &str, owner: Option<&Owner>) -> String {
        let bound = Bound { method: "POST", path: "/internal/v1/runs", body: b"{}" };
        credential::sign(b"secret", bound, owner, nonce.into(), NOW, 60)
    }

    #[test]
    fn without_a_credential_required_refuses_and_permissive_and_off_admit() {
        assert_eq!(
            gate(AuthMode::Required)
                .admit(Class::Service, presented(None, None), NOW)
                .expect_err("refused")
                .code,
            Code::Unauthorized
        );
        assert_eq!(
            gate(AuthMode::Permissive).admit(Class::Service, presented(None, None), NOW),
            Ok(Caller::Anyone.into())
        );
        assert_eq!(
            gate(AuthMode::Off).admit(Class::Service, presented(None, None), NOW),
            Ok(Caller::Anyone.into())
        );
    }

    #[test]
    fn a_wrong_credential_is_refused_even_where_none_is_needed() {
        let refused =
            gate(AuthMode::Permissive).admit(Class::Service, presented(Some("Bearer nope"), None), NOW);
        assert_eq!(refused.expect_err("refused").code, Code::Unauthorized);
    }

    #[test]
    fn the_service_token_opens_every_row() {
        let caller = gate(AuthMode::Required)
            .admit(Class::Operator, presented(Some("Bearer oa_st_1"), None), NOW)
            .expect("admitted");
        assert_eq!((caller.caller.owner(), caller.used), (None, None));
    }

    #[test]
    fn a_signed_header_is_good_once_and_carries_its_owner() {
        let gate = gate(AuthMode::Required);
        let header = signature("n1", Some(&Owner::User(7)));
        let caller = gate.admit(Class::Service, presented(None, Some(&header)), NOW).expect("admitted");
        assert_eq!(caller.caller.owner(), Some(Owner::User(7)));
        assert!(caller.used.is_some(), "others have to be told");
        assert!(gate.admit(Class::Service, presented(None, Some(&header)), NOW).is_err());
        let header = signature("n2", Some(&Owner::User(7)));
        assert_eq!(
            gate.admit(Class::Operator, presented(None, Some(&header)), NOW).expect_err("refused").code,
            Code::Forbidden
        );
    }

    #[test]
    fn nonces_are_forgotten_when_their_credentials_have_expired_and_not_a_second_earlier() {
        let gate = gate(AuthMode::Required);
        let bound = Bound { method: "POST", path: "/internal/v1/runs", body: b"{}" };
        let admit =
            |header: &str, at: Timestamp| gate.admit(Class::Service, presented(None, Some(header)), at);
        let headers: Vec<String> = (0..40)
            .map(|n| {
                let at = NOW.plus_seconds(n);
                let header = credential::sign(b"secret", bound, None, format!("n{n}"), at, 60);
                admit(&header, at).expect("admitted");
                header
            })
            .collect();
        assert_eq!(gate.nonces.lock().expect("lock").count, 40);
        // Until its last second (60 of its own and 30 of skew), none is good again.
        for (n, header) in headers.iter().enumerate() {
            assert!(
                admit(header, NOW.plus_seconds(n as i64 + 90)).is_err(),
                "the nonce of second {n} was forgotten"
            );
        }
        let later = NOW.plus_seconds(400);
        admit(&credential::sign(b"secret", bound, None, "n".into(), later, 60), later).expect("admitted");
        let nonces = gate.nonces.lock().expect("lock");
        assert_eq!((nonces.count, nonces.spans.len()), (1, 1));
    }
}
