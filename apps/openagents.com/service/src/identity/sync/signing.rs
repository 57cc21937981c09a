//! Decides which key signs a sync token. HS256 has one shared secret. The private keys of EdDSA are derived from
//! that secret and the key's name, so the store holds public keys only; a key signs for a time, then a new one
//! takes over, and the old one is shown until the last token it signed has expired.

use oa_contract::{Code, Refusal, Stop, Timestamp, wire::identity::Secret};
use oa_store::{
    Key as LineUp, Tx,
    tables::sync_keys::{self as rows, SyncKey},
};
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};

use super::jwt::{Key, With};
use crate::{
    Control,
    identity::settings::{SyncAlgorithm, SyncTokenConfig},
};

/// A token may be signed by a process that has just not heard yet that the key was retired.
const SLACK_SECONDS: i64 = 60;

pub fn unavailable() -> Refusal {
    Refusal::new(
        Code::SyncTokenUnavailable,
        "Sync tokens are not available: they are switched off, or OA_SYNC_TOKEN_SIGNING_KEY is not set.",
    )
}

/// The secret that everything is signed with, once nothing else is amiss.
pub fn usable(config: &SyncTokenConfig) -> Result<&Secret, Refusal> {
    let blank = [&config.issuer, &config.audience, &config.key_id, &config.claims_version]
        .iter()
        .any(|text| text.trim().is_empty());
    let bounds = (1..=config.max_ttl_seconds).contains(&config.min_ttl_seconds);
    let key = config.signing_key.as_ref().filter(|key| !key.reveal().trim().is_empty());
    key.filter(|_| config.enabled && !blank && bounds).ok_or_else(unavailable)
}

impl Control {
    /// The key that signs now.
    pub(super) async fn sync_key(&self, secret: &Secret, now: Timestamp) -> Result<Key, Stop> {
        let config = &self.config.accounts.sync;
        if config.algorithm == SyncAlgorithm::Hs256 {
            return Ok(Key::shared(&config.key_id, secret.reveal().as_bytes()));
        }
        let kept = self.store.read("sync_signing_keys", (), signing).await?;
        if let Some(key) = current(&kept, secret, config.rotate_after_seconds, now) {
            return Ok(key);
        }
        let kid = format!("{}-{}", config.key_id, self.ids.uuid32());
        let (fresh, pair) = made(kid, secret, now)?;
        let turn = Turn {
            fresh,
            secret: secret.clone(),
            rotate_after_seconds: config.rotate_after_seconds,
            longest_token_seconds: i64::from(config.max_ttl_seconds),
            now,
        };
        let line = LineUp::text("sync_keys", "signing");
        let kid = self.store.write("sync_rotate_keys", line, turn, rotate).await?;
        match pair.kid == kid {
            true => Ok(pair),
            // Another request was quicker.
            false => Ok(derived(&kid, secret)?),
        }
    }
}

struct Turn {
    fresh: SyncKey,
    secret: Secret,
    rotate_after_seconds: i64,
    longest_token_seconds: i64,
    now: Timestamp,
}

async fn signing(tx: &mut Tx, (): &()) -> Result<Vec<SyncKey>, Stop> {
    rows::signing(tx).await
}

/// Retires what has signed long enough and puts the fresh key in its place, unless that has been done.
async fn rotate(tx: &mut Tx, turn: &Turn) -> Result<String, Stop> {
    let kept = rows::signing(tx).await?;
    if let Some(key) = current(&kept, &turn.secret, turn.rotate_after_seconds, turn.now) {
        return Ok(key.kid);
    }
    for key in retired(kept, turn) {
        rows::put(tx, &key).await?;
    }
    rows::put(tx, &turn.fresh).await?;
    Ok(turn.fresh.kid.clone())
}

/// What the fresh key takes the place of: keys that have signed long enough, and keys of another secret. Those
/// get a minute, so that two processes with different secrets, which is a mistake, do not take turns at every
/// request.
fn retired(kept: Vec<SyncKey>, turn: &Turn) -> Vec<SyncKey> {
    let until = turn.now.plus_seconds(turn.longest_token_seconds + SLACK_SECONDS);
    let is_foreign = |key: &SyncKey| !is_ours(key, &turn.secret) && is_old(key, SLACK_SECONDS, turn.now);
    kept.into_iter()
        .filter(|key| is_old(key, turn.rotate_after_seconds, turn.now) || is_foreign(key))
        .map(|key| SyncKey { retired_at: Some(turn.now), served_until: Some(until), ..key })
        .collect()
}

fn is_ours(key: &SyncKey, secret: &Secret) -> bool {
    derived(&key.kid, secret).is_ok_and(|pair| public_half(&pair) == key.public_key)
}

/// The newest key that is young enough and ours.
fn current(kept: &[SyncKey], secret: &Secret, rotate_after_seconds: i64, now: Timestamp) -> Option<Key> {
    kept.iter().filter(|key| !is_old(key, rotate_after_seconds, now)).find_map(|kept| {
        let key = derived(&kept.kid, secret).ok()?;
        (public_half(&key) == kept.public_key).then_some(key)
    })
}

fn is_old(key: &SyncKey, rotate_after_seconds: i64, now: Timestamp) -> bool {
    now >= key.made_at.plus_seconds(rotate_after_seconds)
}

fn made(kid: String, secret: &Secret, now: Timestamp) -> Result<(SyncKey, Key), Refusal> {
    let key = derived(&kid, secret)?;
    let public_key = public_half(&key);
    Ok((SyncKey { kid, public_key, made_at: now, retired_at: None, served_until: None }, key))
}

/// The private key of this name. What is signed with the same secret elsewhere never holds a NUL, so no token
/// gives a private key away.
fn derived(kid: &str, secret: &Secret) -> Result<Key, Refusal> {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    let seed = hmac::sign(&root, format!("oa sync token key\0{kid}").as_bytes());
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| unavailable())?;
    Ok(Key { kid: kid.to_owned(), with: With::EdDsa(Box::new(pair)) })
}

fn public_half(key: &Key) -> Vec<u8> {
    match &key.with {
        With::EdDsa(pair) => pair.public_key().as_ref().to_vec(),
        With::Hs256(_) => Vec::new(),
    }
}

/// Forgets the keys that no token needs any more.
pub(crate) async fn forget_keys(tx: &mut Tx, now: Timestamp) -> Result<u64, Stop> {
    rows::purge(tx, now).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_770_000_000);

    fn key(kid: &str, secret: &str, age_seconds: i64) -> SyncKey {
        made(kid.into(), &Secret::new(secret), NOW.plus_seconds(-age_seconds)).expect("a key").0
    }

    #[test]
    fn a_change_of_the_secret_retires_the_keys_of_the_other() {
        let secret = Secret::new("new");
        let kept =
            vec![key("a", "old", 59), key("b", "old", 60), key("c", "new", 2_000), key("d", "new", 60)];
        let ours = current(&kept, &secret, 2_000, NOW).map(|key| key.kid);
        assert_eq!(ours.as_deref(), Some("d"));
        let turn = Turn {
            fresh: key("e", "new", 0),
            secret,
            rotate_after_seconds: 2_000,
            longest_token_seconds: 900,
            now: NOW,
        };
        let gone = retired(kept, &turn);
        assert_eq!(gone.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert!(gone.iter().all(|key| key.served_until == Some(NOW.plus_seconds(960))));
    }

    #[test]
    fn a_private_key_follows_from_its_name_and_the_secret_alone() {
        let public = |kid, secret| key(kid, secret, 0).public_key;
        assert_eq!(public("a", "s"), public("a", "s"));
        assert!(public("a", "s") != public("b", "s") && public("a", "s") != public("a", "t"));
    }
}
