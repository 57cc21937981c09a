//! Decides who somebody is: what a secret is, which number the runtime knows a user by, and what a user is in
//! their own organisation (control §4-§6).

mod account;
pub(crate) mod authenticate;
mod device;
mod email;
mod list_sessions;
mod logout;
mod me;
pub mod orgs;
pub(crate) mod policy;
pub(crate) mod propagation;
pub(crate) mod provider;
mod purge;
mod refresh;
mod register;
mod revoke_sessions;
mod session;
mod sessions;
pub mod settings;
mod sync;
pub mod throttle;
mod tokens;
mod verify;

use oa_contract::{
    Caller, Ids, Refusal, User,
    credential::hex,
    wire::identity::{Secret, SignedInUser},
};
use oa_store::tables::identity::{self as rows, SecretHash};
use sha2::{Digest, Sha256};

pub use account::{IssuedToken, NewToken, NewUser, add_user, find_user, issue_token};
pub use oa_store::tables::identity::User as UserRecord;
pub use orgs::{Orgs, require_admin};
pub(crate) use propagation::run as tell_of_revocations;
pub use purge::{Purged, purge};
pub(crate) use sessions::is_good;
pub(crate) use sync::ready as sync_tokens_ready;

/// What the secrets begin with, so that a person and a scanner can tell what was found.
pub(crate) const ACCESS: &str = "oa_at_";
pub(crate) const REFRESH: &str = "oa_rt_";
pub(crate) const PERSONAL: &str = "oa_pat_";

/// The number under which the runtime knows a user (control §4).
pub fn principal_number(user_id: &str) -> u64 {
    let hash = Sha256::digest(user_id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first).max(1)
}

/// A new secret of 256 random bits, and what is kept of it.
pub(crate) fn new_secret(ids: &dyn Ids, prefix: &str) -> (Secret, SecretHash) {
    let text = format!("{prefix}{}", hex(&ids.secret()));
    let kept = hash_of(&text);
    (Secret::new(text), kept)
}

pub(crate) fn hash_of(secret: &str) -> SecretHash {
    SecretHash(Sha256::digest(secret.as_bytes()).into())
}

/// The person behind a request; rows for anyone have none.
pub(crate) fn signed_in(caller: &Caller) -> Result<&User, Refusal> {
    match caller {
        Caller::User(user) => Ok(user),
        Caller::Anyone | Caller::Service { .. } => Err(authenticate::unauthenticated()),
    }
}

pub(crate) fn view(user: &rows::User) -> SignedInUser {
    SignedInUser {
        id: user.user_id.clone(),
        email: user.email.clone(),
        name: user.name.clone(),
        workos_id: user.provider_id.clone(),
    }
}

/// An address as it is kept: trimmed, lower-case, with an `@`, at most 255 bytes.
pub(crate) fn normal_email(text: &str) -> Result<String, Refusal> {
    let email = text.trim().to_lowercase();
    let plain = email.contains('@') && email.len() <= 255 && !email.chars().any(char::is_control);
    match plain {
        true => Ok(email),
        false => Err(Refusal::field("email", "email must be an e-mail address of at most 255 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_principal_number_is_the_specified_one() {
        assert_eq!(principal_number("user_0123456789abcdef0123456789abcdef"), 11_626_709_635_607_040_195);
    }

    #[test]
    fn an_address_is_trimmed_and_lowered_and_needs_an_at() {
        assert_eq!(normal_email("  Dev@Example.COM ").expect("an address"), "dev@example.com");
        for bad in ["", "dev", &format!("{}@x", "a".repeat(255)), "a\n@x"] {
            assert_eq!(normal_email(bad).expect_err(bad).field.as_deref(), Some("email"));
        }
    }
}
