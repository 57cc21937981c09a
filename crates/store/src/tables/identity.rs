//! Decides what is kept of users, challenges, sessions and personal tokens, and how they are found: secrets by
//! their hash, everything else by its id.

use std::fmt;

use oa_contract::instant::Timestamp;
use oa_contract::refusal::{Fault, Stop};

use crate::row::{FromRow, Row};
use crate::statement::Statement;
use crate::transaction::Tx;
use crate::{params, sealed_statement, statement};

static PUT_USER: Statement = sealed_statement!("identity/put_user", "users");
static USER_BY_ID: Statement = sealed_statement!("identity/user_by_id", "users");
static USER_BY_EMAIL: Statement = sealed_statement!("identity/user_by_email", "users");
static USER_BY_PROVIDER: Statement = sealed_statement!("identity/user_by_provider", "users");
static PUT_CHALLENGE: Statement = sealed_statement!("identity/put_challenge", "auth_challenges");
static CHALLENGE: Statement = sealed_statement!("identity/challenge", "auth_challenges");
static REMOVE_CHALLENGE: Statement = statement!("identity/remove_challenge");
static PURGE_CHALLENGES: Statement = statement!("identity/purge_challenges");
static PUT_SESSION: Statement = sealed_statement!("identity/put_session", "sessions");
static SESSION_BY_ID: Statement = sealed_statement!("identity/session_by_id", "sessions");
static SESSION_BY_ACCESS: Statement = sealed_statement!("identity/session_by_access", "sessions");
static SESSION_BY_REFRESH: Statement = sealed_statement!("identity/session_by_refresh", "sessions");
static ACTIVE_ON_DEVICE: Statement = sealed_statement!("identity/active_sessions_on_device", "sessions");
static SESSIONS_OF_USER: Statement = sealed_statement!("identity/sessions_of_user", "sessions");
static SESSIONS_ON_DEVICE: Statement = sealed_statement!("identity/sessions_on_device", "sessions");
static ACTIVE_SESSIONS: Statement = sealed_statement!("identity/active_sessions", "sessions");
static PURGE_SESSIONS: Statement = statement!("identity/purge_sessions");
static PUT_SPENT: Statement = sealed_statement!("identity/put_spent", "spent_refresh_tokens");
static SPENT: Statement = sealed_statement!("identity/spent", "spent_refresh_tokens");
static PURGE_SPENT: Statement = statement!("identity/purge_spent");
static PUT_TOKEN: Statement = sealed_statement!("identity/put_token", "personal_tokens");
static TOKEN_BY_ID: Statement = sealed_statement!("identity/token_by_id", "personal_tokens");
static TOKEN_BY_HASH: Statement = sealed_statement!("identity/token_by_hash", "personal_tokens");
static NTH_TOKEN: Statement = statement!("identity/nth_token");
static TOKENS_OF_USER: Statement = sealed_statement!("identity/tokens_of_user", "personal_tokens");
static TOUCH_TOKEN: Statement = statement!("identity/touch_token");
static PURGE_TOKENS: Statement = statement!("identity/purge_tokens");

/// The SHA-256 of a secret: what a secret is found by, and all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub user_id: String,
    /// Lower-case.
    pub email: String,
    pub name: String,
    /// The identity under which the provider knows the user.
    pub provider_id: String,
    pub admin: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub hash: SecretHash,
    pub email: String,
    pub provider_id: String,
    pub expires_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    Active,
    ReauthRequired,
    Expired,
    Revoked,
}

impl SessionStatus {
    const ALL: [SessionStatus; 4] = [Self::Active, Self::ReauthRequired, Self::Expired, Self::Revoked];

    pub const fn name(self) -> &'static str {
        match self {
            SessionStatus::Active => "active",
            SessionStatus::ReauthRequired => "reauth_required",
            SessionStatus::Expired => "expired",
            SessionStatus::Revoked => "revoked",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub session_id: String,
    pub user_id: String,
    pub email: String,
    pub device_id: String,
    pub token_name: String,
    pub active_org_id: String,
    pub access: SecretHash,
    pub refresh: SecretHash,
    pub refresh_token_id: String,
    pub issued_at: Timestamp,
    pub access_expires_at: Timestamp,
    pub refresh_expires_at: Timestamp,
    pub status: SessionStatus,
    pub reauth_required: bool,
    pub last_refreshed_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoked_reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentToken {
    pub hash: SecretHash,
    pub refresh_token_id: String,
    pub session_id: String,
    pub user_id: String,
    pub device_id: String,
    pub revoked_at: Timestamp,
    /// `rotated`, `session_revoked` or `replay_detected`.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalToken {
    pub token_id: String,
    pub user_id: String,
    pub name: String,
    pub hash: SecretHash,
    pub abilities: Vec<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

fn hash(row: &Row<'_>, column: usize) -> Result<SecretHash, Fault> {
    let bytes = <[u8; 32]>::try_from(row.bytes(column)?);
    bytes.map(SecretHash).map_err(|error| Fault::new("reading a kept hash", error))
}

impl FromRow for User {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(User {
            user_id: row.text(0)?.into(),
            email: row.text(1)?.into(),
            name: row.text(2)?.into(),
            provider_id: row.text(3)?.into(),
            admin: row.bool(4)?,
            created_at: row.timestamp(5)?,
            updated_at: row.timestamp(6)?,
        })
    }
}

impl FromRow for Challenge {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Challenge {
            hash: hash(row, 0)?,
            email: row.text(1)?.into(),
            provider_id: row.text(2)?.into(),
            expires_at: row.timestamp(3)?,
        })
    }
}

impl FromRow for Session {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let status = row.text(12)?;
        let known = SessionStatus::ALL.into_iter().find(|one| one.name() == status);
        Ok(Session {
            session_id: row.text(0)?.into(),
            user_id: row.text(1)?.into(),
            email: row.text(2)?.into(),
            device_id: row.text(3)?.into(),
            token_name: row.text(4)?.into(),
            active_org_id: row.text(5)?.into(),
            access: hash(row, 6)?,
            refresh: hash(row, 7)?,
            refresh_token_id: row.text(8)?.into(),
            issued_at: row.timestamp(9)?,
            access_expires_at: row.timestamp(10)?,
            refresh_expires_at: row.timestamp(11)?,
            status: known
                .ok_or_else(|| Fault::msg(format!("a session is kept with the status {status:?}")))?,
            reauth_required: row.bool(13)?,
            last_refreshed_at: row.opt_timestamp(14)?,
            revoked_at: row.opt_timestamp(15)?,
            revoked_reason: row.opt_text(16)?.map(str::to_owned),
        })
    }
}

impl FromRow for SpentToken {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SpentToken {
            hash: hash(row, 0)?,
            refresh_token_id: row.text(1)?.into(),
            session_id: row.text(2)?.into(),
            user_id: row.text(3)?.into(),
            device_id: row.text(4)?.into(),
            revoked_at: row.timestamp(5)?,
            reason: row.text(6)?.into(),
        })
    }
}

impl FromRow for PersonalToken {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let abilities = serde_json::from_str(row.text(4)?);
        Ok(PersonalToken {
            token_id: row.text(0)?.into(),
            user_id: row.text(1)?.into(),
            name: row.text(2)?.into(),
            hash: hash(row, 3)?,
            abilities: abilities.map_err(|error| Fault::new("reading the abilities of a token", error))?,
            created_at: row.timestamp(5)?,
            expires_at: row.opt_timestamp(6)?,
            revoked_at: row.opt_timestamp(7)?,
            last_used_at: row.opt_timestamp(9)?,
        })
    }
}

/// Writes a user, new or changed.
pub async fn put_user(tx: &mut Tx, user: &User) -> Result<(), Stop> {
    let User { user_id, email, name, provider_id, admin, created_at, updated_at } = user;
    let params = params![user_id, email, name, provider_id, *admin, *created_at, *updated_at];
    tx.execute(&PUT_USER, params).await?;
    Ok(())
}

pub async fn user(tx: &mut Tx, user_id: &str) -> Result<Option<User>, Stop> {
    tx.one(&USER_BY_ID, params![user_id]).await
}

pub async fn user_by_email(tx: &mut Tx, email: &str) -> Result<Option<User>, Stop> {
    tx.one(&USER_BY_EMAIL, params![email]).await
}

pub async fn user_by_provider(tx: &mut Tx, provider_id: &str) -> Result<Option<User>, Stop> {
    tx.one(&USER_BY_PROVIDER, params![provider_id]).await
}

pub async fn put_challenge(tx: &mut Tx, challenge: &Challenge) -> Result<(), Stop> {
    let Challenge { hash, email, provider_id, expires_at } = challenge;
    tx.execute(&PUT_CHALLENGE, params![&hash.0, email, provider_id, *expires_at]).await?;
    Ok(())
}

/// Gives a challenge out and forgets it, so that it can be tried once only.
pub async fn take_challenge(tx: &mut Tx, hash: &SecretHash) -> Result<Option<Challenge>, Stop> {
    let found = tx.one(&CHALLENGE, params![&hash.0]).await?;
    let removed = tx.execute(&REMOVE_CHALLENGE, params![&hash.0]).await?;
    Ok(found.filter(|_| removed == 1))
}

/// Forgets up to `limit` challenges that expired at `now` or before.
pub async fn purge_challenges(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<u64, Stop> {
    tx.execute(&PURGE_CHALLENGES, params![now, limit]).await
}

/// Writes a session, new or changed.
pub async fn put_session(tx: &mut Tx, session: &Session) -> Result<(), Stop> {
    let params = params![
        &session.session_id,
        &session.user_id,
        &session.email,
        &session.device_id,
        &session.token_name,
        &session.active_org_id,
        &session.access.0,
        &session.refresh.0,
        &session.refresh_token_id,
        session.issued_at,
        session.access_expires_at,
        session.refresh_expires_at,
        session.status.name(),
        session.reauth_required,
        session.last_refreshed_at,
        session.revoked_at,
        &session.revoked_reason,
    ];
    tx.execute(&PUT_SESSION, params).await?;
    Ok(())
}

pub async fn session(tx: &mut Tx, session_id: &str) -> Result<Option<Session>, Stop> {
    tx.one(&SESSION_BY_ID, params![session_id]).await
}

pub async fn session_by_access(tx: &mut Tx, hash: &SecretHash) -> Result<Option<Session>, Stop> {
    tx.one(&SESSION_BY_ACCESS, params![&hash.0]).await
}

pub async fn session_by_refresh(tx: &mut Tx, hash: &SecretHash) -> Result<Option<Session>, Stop> {
    tx.one(&SESSION_BY_REFRESH, params![&hash.0]).await
}

/// The sessions of a user that live on one device.
pub async fn active_on_device(tx: &mut Tx, user_id: &str, device_id: &str) -> Result<Vec<Session>, Stop> {
    tx.all(&ACTIVE_ON_DEVICE, params![user_id, device_id]).await
}

/// The newest sessions of a user, whatever became of them: all, or those of one device.
pub async fn sessions_of_user(
    tx: &mut Tx,
    user_id: &str,
    device_id: Option<&str>,
    limit: u32,
) -> Result<Vec<Session>, Stop> {
    match device_id {
        None => tx.all(&SESSIONS_OF_USER, params![user_id, limit]).await,
        Some(device_id) => tx.all(&SESSIONS_ON_DEVICE, params![user_id, device_id, limit]).await,
    }
}

/// Up to `limit` sessions of a user that live, in the order of their ids, after the given one.
pub async fn active_sessions(
    tx: &mut Tx,
    user_id: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<Session>, Stop> {
    tx.all(&ACTIVE_SESSIONS, params![user_id, after, limit]).await
}

/// Forgets up to `limit` sessions that could not be refreshed any more at `before`, then the spent refresh
/// tokens of sessions that are gone.
pub async fn purge_sessions(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, Stop> {
    let sessions = tx.execute(&PURGE_SESSIONS, params![before, limit]).await?;
    Ok(sessions + tx.execute(&PURGE_SPENT, params![limit]).await?)
}

/// Remembers a used refresh token; one that is known already stays as it is.
pub async fn put_spent(tx: &mut Tx, spent: &SpentToken) -> Result<(), Stop> {
    let SpentToken { hash, refresh_token_id, session_id, user_id, device_id, revoked_at, reason } = spent;
    let params = params![&hash.0, refresh_token_id, session_id, user_id, device_id, *revoked_at, reason];
    tx.execute(&PUT_SPENT, params).await?;
    Ok(())
}

pub async fn spent(tx: &mut Tx, hash: &SecretHash) -> Result<Option<SpentToken>, Stop> {
    tx.one(&SPENT, params![&hash.0]).await
}

/// Writes a personal token, new or revoked. When it was last used is written by [`touch_token`] alone.
pub async fn put_token(tx: &mut Tx, token: &PersonalToken) -> Result<(), Stop> {
    let abilities = serde_json::to_string(&token.abilities);
    let abilities = abilities.map_err(|error| Fault::new("writing the abilities of a token", error))?;
    let params = params![
        &token.token_id,
        &token.user_id,
        &token.name,
        &token.hash.0,
        &abilities,
        token.created_at,
        token.expires_at,
        token.revoked_at,
    ];
    tx.execute(&PUT_TOKEN, params).await?;
    Ok(())
}

pub async fn token(tx: &mut Tx, token_id: &str) -> Result<Option<PersonalToken>, Stop> {
    tx.one(&TOKEN_BY_ID, params![token_id]).await
}

pub async fn token_by_hash(tx: &mut Tx, hash: &SecretHash) -> Result<Option<PersonalToken>, Stop> {
    tx.one(&TOKEN_BY_HASH, params![&hash.0]).await
}

/// The tokens of a user that are not revoked, newest first, `limit` at most.
pub async fn tokens_of_user(tx: &mut Tx, user_id: &str, limit: u32) -> Result<Vec<PersonalToken>, Stop> {
    tx.all(&TOKENS_OF_USER, params![user_id, limit]).await
}

/// Whether a user has `count` tokens that are not revoked, or more; `count` is at least 1.
pub async fn holds_tokens(tx: &mut Tx, user_id: &str, count: u32) -> Result<bool, Stop> {
    let nth = tx.one::<(String,)>(&NTH_TOKEN, params![user_id, count.saturating_sub(1)]).await?;
    Ok(nth.is_some())
}

/// Notes that a token was used `now`, unless that was noted after `not_since`.
pub async fn touch_token(
    tx: &mut Tx,
    token_id: &str,
    now: Timestamp,
    not_since: Timestamp,
) -> Result<(), Stop> {
    tx.execute(&TOUCH_TOKEN, params![token_id, now, not_since]).await?;
    Ok(())
}

/// Forgets up to `limit` personal tokens that were revoked at `before` or earlier.
pub async fn purge_tokens(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, Stop> {
    tx.execute(&PURGE_TOKENS, params![before, limit]).await
}
